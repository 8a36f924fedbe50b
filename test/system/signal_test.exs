defmodule SafePort.System.SignalTest do
  use SafePort.Test.Tree, async: true

  # Those that end a program that does nothing about them.
  @deadly [
            sighup: 1,
            sigint: 2,
            sigquit: 3,
            sigill: 4,
            sigtrap: 5,
            sigabrt: 6,
            sigbus: 7,
            sigfpe: 8,
            sigkill: 9
          ] ++
            [sigusr1: 10, sigsegv: 11, sigusr2: 12, sigpipe: 13, sigalrm: 14, sigterm: 15, sigstkflt: 16] ++
            [sigxcpu: 24, sigxfsz: 25, sigvtalrm: 26, sigprof: 27, sigio: 29, sigpwr: 30, sigsys: 31]

  defp sleeper(options \\ []) do
    # No core files.
    open_sh(
      SafePort,
      "ulimit -c 0; exec sleep 900",
      [:exit_status, eof_timeout: 0, kill_timeout: 0] ++ options
    )
  end

  test "a signal is sent by its name or its number" do
    for {name, number} <- @deadly, signal <- [name, number] do
      port = sleeper()
      assert SafePort.signal(port, signal) == :ok
      assert trace(port) == [{:exit_status, 128 + number}, {:EXIT, :normal}]
    end
  end

  test "a signal goes to the leader, to its group, or to the whole tree", %{tag: tag} do
    tree = grow(tag)
    {:os_pid, leader} = SafePort.info(tree.port, :os_pid)
    group = Enum.filter(tree.os_pids, &(Proc.stat(&1).pgid == leader))
    assert length(group) == 3

    for {options, expected} <- [
          {[to: :leader], [leader]},
          {[], group},
          {[to: :group], group},
          {[to: :tree], tree.os_pids}
        ] do
      assert SafePort.signal(tree.port, :sigstop, options) == :ok
      stopped = fn -> Enum.filter(tree.os_pids, &(Proc.stat(&1).state == "T")) end
      Proc.wait_until("#{inspect(options)} has stopped those it is to stop", fn -> stopped.() == expected end)
      assert SafePort.signal(tree.port, :sigcont, to: :tree) == :ok
      Proc.wait_until("all go on", fn -> stopped.() == [] end)
    end

    SafePort.close(tree.port)
    await_ended(tree)
  end

  test "the members of a stopped tree get their SIGTERM", %{tag: tag} do
    tree = grow(tag, kill_timeout: 3_600_000)
    assert SafePort.signal(tree.port, :sigstop, to: :tree) == :ok
    SafePort.close(tree.port)
    # All but the one that ignores it.
    Proc.wait_until("one is left", fn -> length(living(tree)) == 1 end)
    Enum.each(living(tree), &Proc.signal(&1, "KILL"))
    await_ended(tree)
  end

  test "what is no signal, or no target, is refused with a message that says what is" do
    port = sleeper()

    for signal <- [0, -1, 65, 1.0, :term, :sigfoo, "TERM", nil] do
      assert_raise ArgumentError,
                   ~r/name such as :sigterm or a number from 1 to 64, got: #{inspect(signal)}/,
                   fn ->
                     SafePort.signal(port, signal)
                   end
    end

    for options <- [[to: :all], [to: nil], [:tree], [group: true]] do
      assert_raise ArgumentError, ~r/to: :group \| :leader \| :tree/, fn ->
        SafePort.signal(port, :sigterm, options)
      end
    end

    assert SafePort.signal(port, 9) == :ok
    assert trace(port) == [{:exit_status, 137}, {:EXIT, :normal}]
  end

  test "a closed port is told to be one" do
    port = sleeper()
    SafePort.close(port)

    for target <- [:leader, :group, :tree],
        do: assert(SafePort.signal(port, :sigterm, to: target) == {:error, :closed})

    assert SafePort.signal(unique_name(), :sigterm) == {:error, :closed}
  end

  test "a program that has ended cannot be signalled, though its port is open" do
    port = open_sh(SafePort, "exit 0", [:exit_status, :eof])
    assert trace(port, :eof) == [{:exit_status, 0}, :eof]

    for target <- [:leader, :group, :tree],
        do: assert(SafePort.signal(port, :sigterm, to: target) == {:error, :closed})

    SafePort.close(port)
  end

  test "a port that ends while it is being signalled crashes nobody" do
    for round <- 1..100, target <- [:leader, :group, :tree] do
      port = open_sh(SafePort, "exit 0", [:exit_status])
      # Not always at the same point of its end.
      for _step <- 1..rem(round * 37, 3000)//1, do: :ok
      assert SafePort.signal(port, :sigterm, to: target) in [:ok, {:error, :closed}]
      assert [{:exit_status, status}, {:EXIT, :normal}] = trace(port)
      assert status in [0, 143]
    end
  end

  test "negative timeouts are refused with their unit" do
    for name <- [:eof_timeout, :kill_timeout] do
      assert_raise ArgumentError, ~r/#{inspect(name)} must be .*0 to \d+ \(ms\), got: -1/, fn ->
        sleeper([{name, -1}])
      end
    end

    port = sleeper()

    for function <- [
          &SafePort.await_exit/2,
          &SafePort.recv/2,
          &SafePort.recv_batch/2,
          &SafePort.request(&1, "", &2)
        ] do
      assert_raise ArgumentError, ~r/0 to \d+ \(ms\), got: -1/, fn -> function.(port, -1) end
    end

    SafePort.close(port)
  end
end
