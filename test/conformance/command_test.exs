defmodule SafePort.Conformance.CommandTest do
  use SafePort.Test.Conformance, async: true

  import SafePort.Test.Busy

  alias SafePort.Test.Log

  # Section 3: command/2 and command/3

  same "C1", "data is iodata of any depth", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    deep = Enum.reduce(1..10_000, [], fn _level, list -> [list] end)

    for {data, expected} <- [
          {"binary", "binary"},
          {~c"list", "list"},
          {[?a, "b", [[?c], [[]], "d" | "e"], [], "" | "f"], "abcdef"},
          {[0, 127, 128, 255], <<0, 127, 128, 255>>},
          {[deep, ?x], "x"},
          {"größe", "größe"}
        ] do
      assert subject.command(port, data)
      assert read(port, byte_size(expected)) == expected
    end
  end

  same "C1", "anything else is refused, and none of it sent", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])

    for data <- [
          1,
          :atom,
          {},
          %{},
          self(),
          1.5,
          [256],
          [-1],
          ~c"größe→",
          ["sent", :not],
          ["sent" | ?x],
          ["sent", [1.0]]
        ] do
      assert {data, raised(fn -> subject.command(port, data) end)} == {data, ArgumentError}
      assert {data, raised(fn -> subject.command(port, data, []) end)} == {data, ArgumentError}
    end

    assert subject.command(port, "alone")
    assert read(port, 5) == "alone"
  end

  cannot "C2", "wrong data does no harm to the port; Port also logs it", subject do
    Log.listen()
    port = open(subject, {:spawn, "cat # C2"})
    assert raised(fn -> subject.command(port, :wrong) end) == ArgumentError
    assert subject.info(port, :connected) == {:connected, self()}
    if subject == Port, do: Log.await("Bad value on output port 'cat # C2'")
    Log.ignore()
  end

  same "C3", "data that does not end with a whole byte is refused", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])

    for data <- [<<?a, 1::3>>, [?a, <<?b, 1::1>>], [<<?a, 1::7>>, "b"]] do
      assert {data, raised(fn -> subject.command(port, data) end)} == {data, ArgumentError}
    end
  end

  better "C3", "less than a byte in a list may be overlooked by Port, and is refused by SafePort", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])

    case {subject, System.otp_release()} do
      {Port, "25"} -> assert subject.command(port, [?a, <<1::7>>]) && read(port, 1) == "a"
      {Port, _later} -> :ok
      {SafePort, _any} -> assert raised(fn -> subject.command(port, [?a, <<1::7>>]) end) == ArgumentError
    end
  end

  same "C4", "no data is no byte of a stream", subject do
    gate = gate()
    port = open_sh(subject, "exec <&-; echo ready; read go < \"$1\"", [:binary, argv: [gate]])
    await_line(port, "ready")
    # A byte would find nobody to read it.
    for data <- ["", [], [[], ""]], do: assert(subject.command(port, data))
    assert subject.info(port, :output) == {:output, 0}
    open_gate(gate)
    assert_exit(port, :normal)
  end

  same "C4", "no data is an empty packet", subject do
    port = open(subject, {:spawn, "cat"}, [:binary, packet: 4])
    assert subject.command(port, "")
    assert_receive {^port, {:data, ""}}, 5_000
    assert subject.info(port, :output) == {:output, 0}
  end

  same "C4", "the length of an empty packet needs a reader", subject do
    gate = gate()
    file = Path.join(tmp_dir(), "ready")
    port = open_sh(subject, "exec <&-; echo > \"$2\"; read go < \"$1\"", packet: 4, argv: [gate, file])
    Proc.wait_until("input is closed", fn -> File.exists?(file) end)
    assert write_until_end(subject, port, "") == [{:EXIT, :epipe}]
    open_gate(gate)
  end

  same "C5", "true means accepted, not read", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat")
    assert subject.command(port, "hello")
    refute_received {^port, _data}
    open_gate(gate)
    assert read(port, 5) == "hello"
  end

  same "C6", "options are a proper list of :force and :nosuspend", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])

    for options <- [
          [:other],
          [:nosuspend | :other],
          [:nosuspend, :other],
          :nosuspend,
          nil,
          %{},
          [{:nosuspend, true}],
          "x"
        ] do
      assert {options, raised(fn -> subject.command(port, "x", options) end)} == {options, ArgumentError}
    end

    for options <- [[], [:nosuspend], [:nosuspend, :nosuspend]] do
      assert subject.command(port, "y", options)
      assert read(port, 1) == "y"
    end
  end

  same "C7", ":force is not supported, busy or not", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")

    for _turn <- [:free, :busy] do
      for options <- [[:force], [:force, :nosuspend], [:nosuspend, :force]] do
        assert raised(fn -> subject.command(port, "x", options) end) == :notsup
      end

      if subject.info(port, :queue_size) == {:queue_size, 0}, do: make_busy(subject, port)
    end

    open_gate(gate)
    assert subject.command(port, "waits until the queue is read")
    assert subject.close(port)
    assert_exit(port, :normal)
    assert raised(fn -> subject.command(port, "x", [:force]) end) == ArgumentError
  end

  same "C8", "with :nosuspend, data for a busy port is dropped and false returned", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat")
    accepted = make_busy(subject, port)
    assert subject.command(port, "dropped", [:nosuspend]) == false
    assert subject.command(port, ["drop", "ped"], [:nosuspend]) == false
    open_gate(gate)
    read(port, accepted)
    assert subject.command(port, "taken", [:nosuspend])
    assert read(port, 5) == "taken"
    assert subject.info(port, :output) == {:output, accepted + 5}
  end

  same "C9", "what is no open port is refused", subject do
    closed = open(subject, {:spawn, "cat"})
    assert subject.close(closed)
    assert_exit(closed, :normal)

    for no_port <- [closed, self(), :no_such_name, 1, "port", make_ref(), nil, []] do
      assert {no_port, raised(fn -> subject.command(no_port, "x") end)} == {no_port, ArgumentError}
    end
  end

  same "C9", "a port that still flushes is closed", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    make_busy(subject, port)
    assert subject.close(port)
    assert_exit(port, :normal)
    assert raised(fn -> subject.command(port, "x") end) == ArgumentError
    assert raised(fn -> subject.command(port, "x", [:nosuspend]) end) == ArgumentError
    open_gate(gate)
  end

  same "C9", "a name will do", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    name = unique_name()
    Process.register(port, name)
    assert subject.command(name, "x")
    assert read(port, 1) == "x"
  end

  same "C10", "any process may call any function; messages go to the owner", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    actor = Actor.start()
    assert Actor.run(actor, fn -> subject.command(port, "x") end)
    assert read(port, 1) == "x"
    assert Actor.run(actor, fn -> subject.info(port, :connected) end) == {:connected, self()}
    monitor = Actor.run(actor, fn -> subject.monitor(port) end)
    assert Actor.run(actor, fn -> subject.connect(port, self()) end)
    assert Actor.run(actor, fn -> subject.close(port) end)
    assert_exit(port, :normal)

    Proc.wait_until("the monitor fires", fn ->
      match?([{:DOWN, ^monitor, _, ^port, :normal}], Actor.messages(actor))
    end)
  end

  same "C11", "a packet that its length cannot tell is accepted, and ends the port", subject do
    for {packet, bytes} <- [{1, 256}, {2, 65_536}] do
      port = open(subject, {:spawn, "cat"}, [:binary, packet: packet])
      assert subject.command(port, :binary.copy("x", bytes - 1))
      assert_receive {^port, {:data, data}}, 5_000
      assert byte_size(data) == bytes - 1
      assert subject.command(port, :binary.copy("x", bytes))
      assert_exit(port, :einval)
    end
  end

  same "C12", "a program that no longer reads ends the port; what was not delivered is lost", subject do
    gate = gate()
    file = Path.join(tmp_dir(), "ready")
    script = "echo whole; printf part; exec <&-; echo > \"$2\"; read go < \"$1\"; exit 3"
    port = open_sh(subject, script, [:binary, :line, :exit_status, argv: [gate, file]])
    assert_receive {^port, {:data, {:eol, "whole"}}}, 5_000
    Proc.wait_until("input is closed", fn -> File.exists?(file) end)
    assert write_until_end(subject, port) == [{:EXIT, :epipe}]
    assert gone?(subject, port)
    open_gate(gate)
  end

  same "C13", "commands keep their order and are not mixed, however large", subject do
    port = open(subject, {:spawn, "cat"}, [:binary, packet: 4])
    senders = for letter <- ?a..?d, do: {letter, Actor.start()}

    answers =
      for {letter, actor} <- senders do
        Actor.ask(actor, fn ->
          for number <- 1..50,
              do: subject.command(port, [letter, <<number::32>>, :binary.copy(<<letter>>, number * 100)])
        end)
      end

    packets =
      for _packet <- 1..200 do
        assert_receive {^port, {:data, <<letter, number::32, body::binary>>}}, 10_000
        assert body == :binary.copy(<<letter>>, number * 100)
        {letter, number}
      end

    for {letter, _actor} <- senders,
        do: assert(for({^letter, number} <- packets, do: number) == Enum.to_list(1..50))

    for answer <- answers, do: assert({:ok, _all_true} = await_answer(answer))
  end

  same "C14", "with an empty queue a command is taken whole, whatever its size", subject do
    gate = gate()
    port = open_waiting(subject, gate, "wc -c & cat >/dev/null")
    assert subject.command(port, :binary.copy("x", 2_000_000), [:nosuspend])
    assert {:queue_size, queued} = subject.info(port, :queue_size)
    assert queued > 8192
    assert subject.command(port, "x", [:nosuspend]) == false
    Proc.signal(elem(subject.info(port, :os_pid), 1), "KILL")
    assert [{:EXIT, reason}] = trace(port)
    assert reason in [:normal, :epipe]
  end

  same "C14", "a port is busy from 8192 queued bytes on", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    fill(subject, port)
    assert subject.command(port, :binary.copy("x", 4095), [:nosuspend])
    assert subject.info(port, :queue_size) == {:queue_size, 8191}
    assert subject.command(port, "x", [:nosuspend])
    assert subject.info(port, :queue_size) == {:queue_size, 8192}
    assert subject.command(port, "x", [:nosuspend]) == false
    open_gate(gate)
    assert subject.command(port, "waits until the port is free")
  end

  same "C14", "a port is free again strictly below the low mark", subject do
    gate = gate()

    page_by_page =
      "while dd bs=4096 count=1 of=/dev/null 2>/dev/null; do until read go < \"$1\"; do :; done; done"

    port = open_waiting(subject, gate, page_by_page, busy_limits_port: {4904, 8192})
    fill(subject, port)
    assert subject.command(port, :binary.copy("x", 4904), [:nosuspend])
    assert subject.info(port, :queue_size) == {:queue_size, 9000}
    assert subject.command(port, "x", [:nosuspend]) == false

    open_gate(gate)
    await_queue(subject, port, 4904)
    assert subject.command(port, "x", [:nosuspend]) == false

    open_gate(gate)
    await_queue(subject, port, 808)
    assert subject.command(port, "x", [:nosuspend])

    Proc.signal(elem(subject.info(port, :os_pid), 1), "KILL")
    assert [{:EXIT, reason}] = trace(port)
    assert reason in [:normal, :epipe]
  end

  same "C14", "the limits can be set, and count the lengths of packets", subject do
    gate = gate()
    port = open_waiting_packets(subject, gate, packet: 2, busy_limits_port: {10, 20})
    fill_packets(subject, port)
    assert {:queue_size, queued} = subject.info(port, :queue_size)
    assert queued == 4096 and subject.command(port, "x", [:nosuspend]) == false
    open_gate(gate)
    assert subject.command(port, "x")
  end

  same "C14", "with :disabled a port is never busy", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null", busy_limits_port: :disabled)
    for _megabyte <- 1..4, do: assert(subject.command(port, :binary.copy("x", 1_000_000), [:nosuspend]))
    open_gate(gate)
  end

  cannot "C15",
         "a caller waits while the port is busy; suspended by Port, in a receive with SafePort",
         subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat")
    accepted = make_busy(subject, port)
    actor = Actor.start()
    answer = ask_and_wait(actor, subject, fn -> subject.command(port, "late") end)
    status = if subject == Port, do: :suspended, else: :waiting
    assert Process.info(actor.pid, :status) == {:status, status}

    open_gate(gate)
    assert read_after(port, accepted, 4) == "late"
    assert await_answer(answer) == {:ok, true}
  end

  same "C15", "a waiting caller learns that the port was closed", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    make_busy(subject, port)
    answer = ask_and_wait(Actor.start(), subject, fn -> subject.command(port, "late") end)
    assert subject.close(port)
    assert {:raised, %ArgumentError{}} = await_answer(answer)
    assert_exit(port, :normal)
    open_gate(gate)
  end

  same "C15", "a waiting caller learns that the program ended", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    make_busy(subject, port)
    answer = ask_and_wait(Actor.start(), subject, fn -> subject.command(port, "late") end)
    Proc.signal(elem(subject.info(port, :os_pid), 1), "KILL")
    assert {:raised, %ArgumentError{}} = await_answer(answer)
    assert [{:EXIT, reason}] = trace(port)
    assert reason in [:normal, :epipe]
  end

  same "C15", "the command of a waiting caller that is killed is not sent", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat")
    accepted = make_busy(subject, port)
    actor = Actor.start()
    ask_and_wait(actor, subject, fn -> subject.command(port, "never") end)
    Actor.stop(actor, :kill)
    open_gate(gate)
    read(port, accepted)
    assert subject.command(port, "next")
    assert read(port, 4) == "next"
    assert subject.info(port, :output) == {:output, accepted + 4}
  end

  same "C15", "all waiting callers go on, in any order", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat")
    accepted = make_busy(subject, port)

    answers =
      for letter <- ?a..?h,
          do: ask_and_wait(Actor.start(), subject, fn -> subject.command(port, [letter]) end)

    open_gate(gate)
    assert port |> read_after(accepted, 8) |> to_charlist() |> Enum.sort() == ~c"abcdefgh"
    for answer <- answers, do: assert(await_answer(answer) == {:ok, true})
  end

  same "C16", "a pipe takes 64 KiB that the program has not read", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat")
    assert subject.command(port, :binary.copy("x", 65_536))
    assert subject.info(port, :queue_size) == {:queue_size, 0}
    open_gate(gate)
    read(port, 65_536)
  end

  same "C17", "50 MB can be sent at once", subject do
    port = open(subject, {:spawn, "sh -c 'head -c 50000000 | wc -c'"}, [:binary])
    assert subject.command(port, :binary.copy("0123456789", 5_000_000))
    assert trace(port) == [{:data, "50000000\n"}, {:EXIT, :normal}]
  end

  # The `bytes` bytes that come after `skipped` others, in the same chunk or not.
  defp read_after(port, skipped, bytes), do: port |> read(skipped + bytes) |> binary_part(skipped, bytes)

  defp open_waiting_packets(subject, gate, options) do
    script = "printf '\\0\\5ready'; read go < \"$1\"; cat >/dev/null"
    port = open_sh(subject, script, [:binary, {:argv, [gate]} | options])
    assert_receive {^port, {:data, "ready"}}, 5_000
    port
  end

  # Packets of a page each, their length included.
  defp fill_packets(subject, port) do
    assert subject.command(port, :binary.copy("f", 4094))
    if subject.info(port, :queue_size) == {:queue_size, 0}, do: fill_packets(subject, port)
  end
end
