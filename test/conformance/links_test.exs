defmodule SafePort.Conformance.LinksTest do
  use SafePort.Test.Conformance, async: true

  import SafePort.Test.Busy

  # Section 5: links, change of owner, monitors, exit signals

  same "L1", "the reason goes to all links; :normal harms nobody", subject do
    port = open(subject, {:spawn, "cat"})
    [trapping, plain] = for trap <- [true, false], do: Actor.start(trap_exit: trap)
    for actor <- [trapping, plain], do: Actor.run(actor, fn -> Process.link(port) end)
    subject.close(port)
    assert_exit(port, :normal)
    Proc.wait_until("the signal is there", fn -> Actor.messages(trapping) == [{:EXIT, port, :normal}] end)
    assert Actor.messages(plain) == []
  end

  same "L1", "another reason ends linked processes", subject do
    port = open(subject, {:spawn, "cat"})
    actor = Actor.start()
    Actor.run(actor, fn -> Process.link(port) end)
    monitor = Process.monitor(actor.pid)
    Process.exit(port, :gone)
    assert_exit(port, :gone)
    assert await_down(monitor) == :gone
  end

  same "L2", "the reason tells how the port ended", subject do
    for script <- ["exit 0", "exit 3", "kill -KILL $$"], do: assert_exit(open_sh(subject, script), :normal)

    port = open(subject, {:spawn, "cat"})
    subject.close(port)
    assert_exit(port, :normal)

    port = open(subject, {:spawn, "cat"})
    send(port, {self(), :close})
    assert_exit(port, :normal)
    assert_receive {^port, :closed}, 5_000

    port = open(subject, {:spawn, "cat"}, packet: 1)
    subject.command(port, :binary.copy("x", 300))
    assert_exit(port, :einval)

    gate = gate()
    port = open_sh(subject, "read go < \"$1\"", [:in, argv: [gate]])
    subject.command(port, "x")
    assert_exit(port, :ebadf)
    open_gate(gate)

    gate = gate()
    port = open_sh(subject, "exec <&-; echo ready; read go < \"$1\"", [:binary, argv: [gate]])
    await_line(port, "ready")
    assert write_until_end(subject, port) == [{:EXIT, :epipe}]
    open_gate(gate)
  end

  same "L3", "a port closes when its owner dies, with the same reason", subject do
    for {reason, seen} <- [
          {:normal, :normal},
          {:oops, :oops},
          {:shutdown, :shutdown},
          {{:a, 1}, {:a, 1}},
          {:kill, :killed}
        ] do
      {owner, port} = owned_by_actor(subject)
      Process.link(port)
      monitor = subject.monitor(port)
      Actor.stop(owner, reason)
      assert_exit(port, seen)
      assert await_down(monitor) == seen
      assert gone?(subject, port)
    end
  end

  same "L3", "what is queued is flushed when the owner dies, also when it is killed", subject do
    for reason <- [:normal, :oops, :kill] do
      gate = gate()
      file = Path.join(tmp_dir(), "count")
      owner = Actor.start()
      options = [env: [tag()], args: ["-c", "read go < \"$1\"; wc -c > \"$2\"", "sh", gate, file]]

      Actor.run(owner, fn ->
        port = subject.open({:spawn_executable, "/bin/sh"}, options)
        subject.command(port, :binary.copy("x", 1_000_000))
      end)

      Actor.stop(owner, reason)
      open_gate(gate)
      Proc.wait_until("all is counted", fn -> File.read(file) == {:ok, "1000000\n"} end)
    end
  end

  same "L4", "a port outlives an owner that unlinked, and stays its own", subject do
    {owner, port} = owned_by_actor(subject)
    Actor.run(owner, fn -> Process.unlink(port) end)
    Actor.stop(owner, :oops)
    assert subject.info(port, :connected) == {:connected, owner.pid}
    assert subject.info(port, :links) == {:links, []}
    assert subject.command(port, "x")

    monitor = subject.monitor(port)
    send(port, {owner.pid, :close})
    assert await_down(monitor) == :normal
  end

  same "L5", "a linked process that is not the owner may end normally, but in no other way", subject do
    port = open(subject, {:spawn, "cat"})

    for reason <- [:normal, :oops] do
      actor = Actor.start()
      Actor.run(actor, fn -> Process.link(port) end)
      Actor.stop(actor, reason)
      if reason == :normal, do: assert(subject.info(port, :links) == {:links, [self()]})
    end

    assert_exit(port, :oops)
  end

  same "L6", "an exit signal closes the port, from whomever it comes", subject do
    for reason <- [:normal, :shutdown, :oops, {:a, "b"}], sender <- [:owner, :linked, :stranger] do
      port = open(subject, {:spawn, "cat"})
      monitor = subject.monitor(port)
      actor = Actor.start(trap_exit: true)
      if sender == :linked, do: Actor.run(actor, fn -> Process.link(port) end)

      if sender == :owner,
        do: Process.exit(port, reason),
        else: Actor.run(actor, fn -> Process.exit(port, reason) end)

      assert_exit(port, reason)
      assert await_down(monitor) == reason
    end
  end

  cannot "L6",
         "a :normal exit signal from a process that ends at once may be taken for its end by SafePort",
         subject do
    port = open(subject, {:spawn, "cat"})
    {pid, monitor} = spawn_monitor(fn -> Process.exit(port, :normal) end)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}, 5_000

    case {subject, subject.info(port)} do
      {SafePort, info} when info != nil -> assert subject.close(port)
      {_subject, nil} -> :ok
    end

    assert_exit(port, :normal)
  end

  same "L6", ":kill is seen as :killed, and discards what is queued", subject do
    gate = gate()
    file = Path.join(tmp_dir(), "count")
    port = open_waiting(subject, gate, "wc -c > \"$2\"", argv: [file])
    assert subject.command(port, :binary.copy("x", 4_000_000))
    Process.exit(port, :kill)
    assert_exit(port, :killed)
    open_gate(gate)
    count = Proc.wait_until("the rest is counted", fn -> File.exists?(file) && counted(File.read!(file)) end)
    assert count < 4_000_000
  end

  same "L6", "while the port flushes, exit signals are ignored", subject do
    for reason <- [:normal, :oops, :kill] do
      gate = gate()
      file = Path.join(tmp_dir(), "count")
      port = open_waiting(subject, gate, "wc -c > \"$2\"", argv: [file])
      assert subject.command(port, :binary.copy("x", 1_000_000))
      subject.close(port)
      assert_exit(port, :normal)
      Process.exit(port, reason)
      open_gate(gate)
      Proc.wait_until("all is counted", fn -> File.read(file) == {:ok, "1000000\n"} end)
    end
  end

  same "L7",
       "connect/2 by anyone makes a new owner and links it; the old one stays linked and is not told",
       subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    [new, anyone] = for _number <- 1..2, do: Actor.start(trap_exit: true)
    assert Actor.run(anyone, fn -> subject.connect(port, new.pid) end)
    assert subject.info(port, :connected) == {:connected, new.pid}
    {:links, links} = subject.info(port, :links)
    assert Enum.sort(links) == Enum.sort([self(), new.pid])

    subject.command(port, "x")
    Proc.wait_until("the new owner has the data", fn -> Actor.messages(new) == [{port, {:data, "x"}}] end)
  end

  same "L7", "connect/2 refuses what is no living local process", subject do
    port = open(subject, {:spawn, "cat"})
    {dead, monitor} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^monitor, :process, ^dead, :normal}, 5_000

    for pid <- [dead, remote_pid(), :name, 1, make_ref(), nil] do
      assert {pid, raised(fn -> subject.connect(port, pid) end)} == {pid, ArgumentError}
    end

    assert subject.info(port, :connected) == {:connected, self()}
  end

  same "L7", "connecting to the owner changes nothing", subject do
    port = open(subject, {:spawn, "cat"})
    assert subject.connect(port, self())
    assert subject.info(port, :links) == {:links, [self()]}
    subject.close(port)
    assert_exit(port, :normal)
  end

  same "L8", "a connect message does not link the new owner, which may be dead", subject do
    port = open(subject, {:spawn, "cat"})
    new = Actor.start()
    send(port, {self(), {:connect, new.pid}})
    assert_receive {^port, :connected}, 5_000
    assert subject.info(port, :links) == {:links, [self()]}
    Actor.stop(new, :oops)
    assert subject.info(port, :connected) == {:connected, new.pid}

    send(port, {new.pid, {:connect, self()}})
    assert subject.info(port, :connected) == {:connected, self()}
    send(port, {self(), {:connect, new.pid}})
    assert_receive {^port, :connected}, 5_000
    assert subject.info(port, :connected) == {:connected, new.pid}
    assert subject.info(port, :links) == {:links, [self()]}
  end

  same "L9", "messages of the old owner are bad signals to the new one", subject do
    port = open(subject, {:spawn, "cat"})
    new = Actor.start(trap_exit: true)
    subject.connect(port, new.pid)
    for message <- [{self(), {:command, "x"}}, {self(), :close}], do: send(port, message)
    settle(subject, port)
    Proc.wait_until("the signals are there", fn -> length(Actor.messages(new)) == 2 end)
    assert Actor.messages(new) == [{:EXIT, port, :badsig}, {:EXIT, port, :badsig}]
  end

  same "L9", "the link of the old owner is a link like any other", subject do
    for {reason, closes} <- [{:normal, false}, {:oops, true}] do
      {owner, port} = owned_by_actor(subject)
      subject.connect(port, self())
      Actor.stop(owner, reason)
      if closes, do: assert_exit(port, :oops), else: assert(subject.info(port, :links) == {:links, [self()]})
    end
  end

  same "L10", "linking to a closed port is like linking to a dead process", subject do
    port = open(subject, {:spawn, "cat"})
    subject.close(port)
    assert_exit(port, :normal)
    Process.link(port)
    assert_exit(port, :noproc)

    # By error or by signal.
    {pid, monitor} = spawn_monitor(fn -> Process.link(port) && receive(do: (:never -> :ok)) end)
    assert_receive {:DOWN, ^monitor, :process, ^pid, reason}, 5_000
    assert reason == :noproc or match?({:noproc, _stack}, reason)
    assert Process.unlink(port)
  end

  same "L10", "linking to a port that still flushes fails as well", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    make_busy(subject, port)
    subject.close(port)
    assert_exit(port, :normal)
    Process.link(port)
    assert_exit(port, :noproc)
    open_gate(gate)
  end

  better "L11", "a monitor tells the end; the kind is :process for SafePort", subject do
    kind = if subject == Port, do: :port, else: :process
    name = unique_name()
    port = open(subject, {:spawn, "cat"})
    Process.register(port, name)

    monitors = for object <- [port, name, {name, node()}], do: {subject.monitor(object), object}
    subject.close(port)
    assert_exit(port, :normal)

    for {monitor, object} <- monitors do
      seen = if object == port, do: port, else: {name, node()}
      assert_receive {:DOWN, ^monitor, ^kind, ^seen, :normal}, 5_000
    end
  end

  better "L11", "what is closed or unknown is down at once; the kind is :process for SafePort", subject do
    kind = if subject == Port, do: :port, else: :process
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    make_busy(subject, port)
    subject.close(port)
    assert_exit(port, :normal)
    # It still flushes.
    monitor = subject.monitor(port)
    assert_receive {:DOWN, ^monitor, ^kind, ^port, :noproc}, 5_000
    open_gate(gate)
    Proc.wait_until("the port is gone", fn -> gone?(subject, port) end)

    unknown = unique_name()
    process = unique_name()
    Process.register(Actor.start().pid, process)

    for {object, seen} <- [{port, port}, {unknown, {unknown, node()}}, {process, {process, node()}}] do
      monitor = subject.monitor(object)
      assert_receive {:DOWN, ^monitor, ^kind, ^seen, :noproc}, 5_000
    end
  end

  same "L11", "a process that is no port cannot be monitored", subject do
    for no_port <- [self(), Actor.start().pid, 1, "port", make_ref(), {1, node()}, {:name, 1}] do
      assert {no_port, raised(fn -> subject.monitor(no_port) end)} == {no_port, ArgumentError}
    end
  end

  better "L12", "the kind does not depend on the reason", subject do
    port = open(subject, {:spawn, "cat"})
    monitor = subject.monitor(port)
    Process.exit(port, {:compound, [1]})
    assert_exit(port, {:compound, [1]})
    assert_receive {:DOWN, ^monitor, kind, ^port, {:compound, [1]}}, 5_000

    # OTP 25 says :process here, later ones :port.
    assert kind in if(subject == Port, do: [:port, :process], else: [:process])
  end

  same "L13", "each monitor is one of its own, until it is taken back", subject do
    port = open(subject, {:spawn, "cat"})
    [first, second, third] = for _number <- 1..3, do: subject.monitor(port)
    assert subject.info(port, :monitored_by) == {:monitored_by, [self(), self(), self()]}

    assert subject.demonitor(second)
    assert subject.demonitor(second)
    assert subject.demonitor(third, [:info]) == true
    assert subject.demonitor(third, [:info]) == false
    assert subject.info(port, :monitored_by) == {:monitored_by, [self()]}

    subject.close(port)
    assert_exit(port, :normal)
    assert await_down(first) == :normal
    refute_received {:DOWN, _monitor, _kind, _port, _reason}
  end

  same "L13", ":flush removes the message of a monitor that fired", subject do
    port = open(subject, {:spawn, "cat"})
    monitor = subject.monitor(port)
    subject.close(port)
    assert_exit(port, :normal)

    Proc.wait_until("it fired", fn ->
      match?({:messages, [{:DOWN, ^monitor, _, _, _}]}, Process.info(self(), :messages))
    end)

    assert subject.demonitor(monitor, [:flush, :info]) == false
    refute_received {:DOWN, _monitor, _kind, _port, _reason}
    assert raised(fn -> subject.demonitor(monitor, [:other]) end) == ArgumentError
    assert raised(fn -> subject.demonitor(:no_monitor) end) == ArgumentError
  end

  same "L14", "at the end come the exit signal, then DOWN, then :closed", subject do
    for _round <- 1..20 do
      port = open(subject, {:spawn, "cat"})
      monitor = subject.monitor(port)
      send(port, {self(), :close})
      assert_receive {^port, :closed}, 5_000
      {:messages, messages} = Process.info(self(), :messages)
      assert [{:EXIT, ^port, :normal}, {:DOWN, ^monitor, _kind, ^port, :normal}] = messages
      assert_exit(port, :normal)
      assert await_down(monitor) == :normal
    end
  end

  same "L14", "the signals come when the flushing begins, :closed when it ends", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    make_busy(subject, port)
    monitor = subject.monitor(port)
    send(port, {self(), :close})
    assert_exit(port, :normal)
    assert await_down(monitor) == :normal
    refute_received {^port, :closed}
    open_gate(gate)
    assert_receive {^port, :closed}, 5_000
  end

  same "L15", "links and name go when the port begins to flush", subject do
    gate = gate()
    name = unique_name()
    port = open_waiting(subject, gate, "cat >/dev/null")
    Process.register(port, name)
    make_busy(subject, port)
    subject.close(port)
    assert_exit(port, :normal)
    assert Process.whereis(name) == nil
    {:links, links} = Process.info(self(), :links)
    refute port in links
    other = open(subject, {:spawn, "cat"})
    assert Process.register(other, name)
    open_gate(gate)
  end

  same "L15", "linking twice is linking once", subject do
    port = open(subject, {:spawn, "cat"})
    for _number <- 1..2, do: assert(Process.link(port))
    subject.close(port)
    assert_exit(port, :normal)
    refute_received {:EXIT, ^port, _reason}
  end

  defp owned_by_actor(subject) do
    owner = Actor.start()
    options = [env: [tag()]]
    {owner, Actor.run(owner, fn -> subject.open({:spawn, "cat 2>/dev/null"}, options) end)}
  end

  # What wc(1) has written, if it is written.
  defp counted(""), do: nil
  defp counted(line), do: line |> String.trim() |> String.to_integer()
end
