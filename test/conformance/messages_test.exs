defmodule SafePort.Conformance.MessagesTest do
  use SafePort.Test.Conformance, async: true

  import SafePort.Test.Busy

  alias SafePort.Test.Log

  # Section 4: the message protocol

  same "M1", "the owner sends data, closes, and gives the port away", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    assert send(port, {self(), {:command, ["da", ~c"t", ?a]}}) == {self(), {:command, ["da", ~c"t", ?a]}}
    assert read(port, 4) == "data"

    send(port, {self(), {:connect, self()}})
    assert_receive {^port, :connected}, 5_000

    send(port, {self(), :close})
    assert_exit(port, :normal)
    assert_receive {^port, :closed}, 5_000
  end

  same "M1", "the pid in the message counts, not who sends it", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    owner = self()
    actor = Actor.start()
    Actor.run(actor, fn -> send(port, {owner, {:command, "x"}}) end)
    assert read(port, 1) == "x"
    Actor.run(actor, fn -> send(port, {owner, :close}) end)
    assert_exit(port, :normal)
    assert_receive {^port, :closed}, 5_000
  end

  same "M1", "a name will do", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    name = unique_name()
    Process.register(port, name)
    send(name, {self(), {:command, "x"}})
    assert read(port, 1) == "x"
  end

  same "M2", "any other message is a bad signal to the owner, and does no harm to the port", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    other = Actor.start().pid
    remote = remote_pid()

    messages = [
      :foo,
      5,
      [],
      {},
      "binary",
      make_ref(),
      {1, :close},
      {self(), :foo},
      {self()},
      {self(), :close, 1},
      {self(), {:command}},
      {self(), {:command, "x", []}},
      {self(), {:connect, :no_pid}},
      {self(), {:connect, remote}},
      {self(), {:command, :no_iodata}},
      {self(), {:command, ["x", 256]}},
      {other, {:command, "x"}},
      {other, :close},
      {other, {:connect, other}},
      {remote, {:command, "x"}},
      {remote, :close},
      {:data, "x"},
      {port, {:data, "x"}}
    ]

    for message <- messages, sender <- [:owner, :other] do
      if sender == :owner,
        do: send(port, message),
        else: Actor.run(Actor.start(), fn -> send(port, message) end)

      assert_receive {:EXIT, ^port, :badsig}, 5_000, "no signal for #{inspect(message)} by the #{sender}"
    end

    assert subject.info(port, :connected) == {:connected, self()}
    assert subject.info(port, :links) == {:links, [self()]}
    assert subject.command(port, "still here")
    assert read(port, 10) == "still here"
  end

  cannot "M2",
         "a message that looks like the exit signal of a process is taken for one by SafePort",
         subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    other = Actor.start()
    Actor.run(other, fn -> send(port, {:EXIT, other.pid, :forged}) end)
    assert_receive {:EXIT, ^port, reason}, 5_000
    assert reason == if(subject == Port, do: :badsig, else: :forged)
    assert Actor.messages(other) == []
  end

  same "M2", "what looks like a message of OTP is like any other", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    other = Actor.start()

    messages = [
      {:EXIT, port, :forged},
      {:EXIT, :no_pid, :forged},
      {:DOWN, make_ref(), :process, other.pid, :forged},
      {:system, {self(), make_ref()}, :get_state},
      {:system, {self(), make_ref()}, {:terminate, :forged}},
      {:"$gen_call", {self(), make_ref()}, :question},
      {:"$gen_cast", :anything},
      {:io_request, self(), make_ref(), {:put_chars, :unicode, "x"}},
      {:select, make_ref(), :undefined, :ready_input},
      {:select, make_ref(), :undefined, :ready_output},
      {make_ref(), {:exited, 0}},
      {make_ref(), :eof},
      :timeout
    ]

    for message <- messages do
      Actor.run(other, fn -> send(port, message) end)
      assert_receive {:EXIT, ^port, :badsig}, 5_000, "no signal for #{inspect(message)}"
    end

    # Nobody got an answer.
    assert Actor.messages(other) == []
    assert subject.command(port, "still here")
    assert read(port, 10) == "still here"
  end

  cannot "M2", "a forged exit message of reason :normal may be taken for the signal by SafePort", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    monitor = subject.monitor(port)
    send(port, {:EXIT, self(), :normal})

    assert_receive {:EXIT, ^port, reason}, 5_000
    assert reason in if(subject == Port, do: [:badsig], else: [:badsig, :normal])

    if reason == :badsig do
      assert subject.close(port)
      assert_exit(port, :normal)
    end

    assert await_down(monitor) == :normal
  end

  same "M2", "a flood of anything leaves nothing in the port", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])

    terms = [
      nil,
      0,
      -1.5,
      "bytes",
      ~c"list",
      %{},
      {},
      {nil},
      make_ref(),
      self(),
      fn -> :ok end,
      {self(), self()}
    ]

    for _sender <- 1..3, do: spawn(fn -> for _round <- 1..100, term <- terms, do: send(port, term) end)

    for _signal <- 1..(3 * 100 * length(terms)), do: assert_receive({:EXIT, ^port, :badsig}, 5_000)
    assert subject.command(port, "still here")
    assert read(port, 10) == "still here"
    if is_pid(port), do: assert(Process.info(port, :message_queue_len) == {:message_queue_len, 0})
  end

  cannot "M2", "a made-up request of SafePort's own protocol harms nothing but the port", subject do
    for request <- [{:connect, :no_pid}, {:info, :everything}, {:signal, :no_number, :nobody}, {:nonsense, 1}] do
      port = open(subject, {:spawn, "cat"}, [:binary])
      send(port, {:"$safe_port", {self(), make_ref()}, request})
      assert_receive {:EXIT, ^port, reason}, 5_000
      if subject == Port or request == {:nonsense, 1}, do: assert(reason == :badsig)
    end
  end

  same "M2", "a GenServer call times out, and the owner gets the signal", subject do
    port = open(subject, {:spawn, "cat"})
    actor = Actor.start()

    # GenServer.call/3 takes no port, so this is what it does.
    Actor.run(actor, fn -> send(port, {:"$gen_call", {self(), make_ref()}, :question}) end)
    assert_receive {:EXIT, ^port, :badsig}, 5_000
    settle(subject, port)
    assert Actor.messages(actor) == []
  end

  same "M2", "the signal reaches an owner that is not linked", subject do
    port = open(subject, {:spawn, "cat"})
    Process.unlink(port)
    send(port, :foo)
    assert_receive {:EXIT, ^port, :badsig}, 5_000
    assert {:links, []} = subject.info(port, :links)
  end

  same "M2", "an owner that does not trap exits dies of it, and the port with it", subject do
    owner = Actor.start()
    options = [env: [tag()]]
    port = Actor.run(owner, fn -> subject.open({:spawn, "cat"}, options) end)
    Process.link(port)
    monitor = Process.monitor(owner.pid)
    send(port, :foo)
    assert await_down(monitor) == :badsig
    assert_exit(port, :badsig)
  end

  cannot "M3", "data that is no iodata is a bad signal; Port also logs it", subject do
    Log.listen()
    port = open(subject, {:spawn, "cat # M3"})
    send(port, {self(), {:command, [:wrong]}})
    assert_receive {:EXIT, ^port, :badsig}, 5_000
    if subject == Port, do: Log.await("Bad value on output port 'cat # M3'")
    Log.ignore()
  end

  same "M4", "a packet that its length cannot tell ends the port", subject do
    port = open(subject, {:spawn, "cat"}, packet: 1)
    send(port, {self(), {:command, :binary.copy("x", 256)}})
    assert_exit(port, :einval)
  end

  same "M5", "messages to a closed port go nowhere", subject do
    port = open(subject, {:spawn, "cat"})
    subject.close(port)
    assert_exit(port, :normal)

    for message <- [{self(), {:command, "x"}}, {self(), :close}, {self(), {:connect, self()}}, :foo] do
      assert send(port, message) == message
    end

    # A new port answers after anything the closed one might have said.
    other = open(subject, {:spawn, "cat"})
    send(other, {self(), :close})
    assert_exit(other, :normal)
    assert_receive {^other, :closed}, 5_000
  end

  same "M5", "a name that nobody has is refused by send", subject do
    port = open(subject, {:spawn, "cat"})
    name = unique_name()
    Process.register(port, name)
    subject.close(port)
    assert_exit(port, :normal)
    assert raised(fn -> send(name, {self(), :close}) end) == ArgumentError
  end

  same "M5", "messages to a port that still flushes go nowhere, also a second close", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    make_busy(subject, port)
    subject.close(port)
    assert_exit(port, :normal)

    for message <- [{self(), {:command, "x"}}, {self(), :close}, {self(), {:connect, self()}}, :foo],
        do: send(port, message)

    open_gate(gate)
    Proc.wait_until("the port is gone", fn -> gone?(subject, port) end)
  end

  same "M6", "a close message is answered when all is flushed, a call is not", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    make_busy(subject, port)
    send(port, {self(), :close})
    assert_exit(port, :normal)
    refute_received {^port, :closed}
    open_gate(gate)
    assert_receive {^port, :closed}, 5_000
    assert gone?(subject, port)

    port = open(subject, {:spawn, "cat"})
    subject.close(port)
    assert_exit(port, :normal)
  end

  same "M7", "a connect message is answered to the old owner, a call is not", subject do
    port = open(subject, {:spawn, "cat"})
    new = Actor.start(trap_exit: true)
    send(port, {self(), {:connect, new.pid}})
    assert_receive {^port, :connected}, 5_000
    assert subject.info(port, :connected) == {:connected, new.pid}

    assert subject.connect(port, self())
    settle(subject, port)
    assert Actor.messages(new) == []
  end

  better "M8", "a sender to a busy port is suspended by Port, and goes on with SafePort", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat")
    accepted = make_busy(subject, port)
    owner = self()
    actor = Actor.start()
    send_command = fn data, options -> Process.send(port, {owner, {:command, data}}, options) end

    case subject do
      Port ->
        assert Actor.run(actor, fn -> send_command.("dropped", [:nosuspend]) end) == :nosuspend
        answer = ask_and_wait(actor, subject, fn -> send_command.("late", []) end)
        open_gate(gate)
        assert port |> read(accepted + 4) |> binary_part(accepted, 4) == "late"
        assert await_answer(answer) == {:ok, :ok}

      SafePort ->
        assert Actor.run(actor, fn -> send_command.("early", [:nosuspend]) end) == :ok
        assert Actor.run(actor, fn -> send_command.("late", []) end) == :ok
        open_gate(gate)
        assert port |> read(accepted + 9) |> binary_part(accepted, 9) == "earlylate"
    end
  end

  same "M8", "closing and connecting is never held up", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    make_busy(subject, port)
    send(port, {self(), {:connect, self()}})
    assert_receive {^port, :connected}, 5_000
    send(port, {self(), :close})
    assert_exit(port, :normal)
    open_gate(gate)
    assert_receive {^port, :closed}, 5_000
  end

  same "M9", "messages and calls of a process take effect in their order", subject do
    for options <- [[], [parallelism: true]] do
      port = open(subject, {:spawn, "cat"}, [:binary | options])

      for _round <- 1..100 do
        send(port, {self(), {:command, "1"}})
        subject.command(port, "2")
        send(port, {self(), {:command, "3"}})
        subject.command(port, "4")
      end

      assert read(port, 400) == String.duplicate("1234", 100)
    end
  end

  same "M9", "messages and calls keep their order while others use the port", subject do
    port = open(subject, {:spawn, "cat"}, [:binary, packet: 2])
    owner = self()

    others =
      for letter <- ?a..?c do
        Actor.ask(Actor.start(), fn ->
          for number <- 1..100 do
            subject.info(port)
            send(port, {owner, {:command, [letter, <<2 * number::16>>]}})
            subject.command(port, [letter, <<2 * number + 1::16>>])
          end
        end)
      end

    for number <- 1..100 do
      subject.command(port, <<?o, 2 * number::16>>)
      send(port, {self(), {:command, <<?o, 2 * number + 1::16>>}})
    end

    packets = for(_packet <- 1..800, do: next_packet(port))

    for letter <- ~c"abco",
        do: assert(for(<<^letter, number::16>> <- packets, do: number) == Enum.to_list(2..201))

    for answer <- others, do: await_answer(answer)
  end

  same "M9", "a call sees what the messages before it did", subject do
    for _round <- 1..50 do
      port = open(subject, {:spawn, "cat 2>/dev/null"}, [:binary])
      send(port, {self(), {:command, "abc"}})
      assert subject.info(port, :output) == {:output, 3}
      send(port, {self(), :close})
      assert raised(fn -> subject.command(port, "x") end) == ArgumentError
      assert_receive {:EXIT, ^port, :normal}, 5_000
      assert_receive {^port, :closed}, 5_000
      receive do: ({^port, {:data, "abc"}} -> :ok), after: (0 -> :ok)

      port = open(subject, {:spawn, "cat 2>/dev/null"})
      Process.exit(port, :foo)
      assert raised(fn -> subject.command(port, "x") end) == ArgumentError
      assert_exit(port, :foo)

      port = open(subject, {:spawn, "cat 2>/dev/null"})
      send(port, {self(), :close})
      monitor = subject.monitor(port)
      assert await_down(monitor) == :noproc
      assert_exit(port, :normal)
      assert_receive {^port, :closed}, 5_000
    end
  end

  same "M10", "what different processes send all arrives, in any order", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    owner = self()
    for letter <- ?a..?z, do: spawn(fn -> send(port, {owner, {:command, <<letter>>}}) end)
    assert port |> read(26) |> to_charlist() |> Enum.sort() == Enum.to_list(?a..?z)
  end

  same "M11", "data comes in order, then the status, then the end", subject do
    script = "i=0; while [ $i -lt 1000 ]; do echo $i; i=$((i + 1)); done; exit 3"
    port = open_sh(subject, script, [:binary, :line, :exit_status])
    lines = for number <- 0..999, do: {:data, {:eol, Integer.to_string(number)}}
    assert trace(port) == lines ++ [{:exit_status, 3}, {:EXIT, :normal}]
  end

  same "M11", "an answer comes after the data that was there before", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])

    for round <- 1..50 do
      subject.command(port, "hello")
      Proc.wait_until("it came back", fn -> subject.info(port, :input) == {:input, 5 * round} end)
      send(port, {self(), {:connect, self()}})
      assert trace(port, :connected) == [{:data, "hello"}, :connected]
    end
  end

  same "M12", "an owner that unlinked still gets everything", subject do
    gate = gate()
    port = open_waiting(subject, gate, "echo on; exit 3", [:exit_status])
    Process.unlink(port)
    monitor = subject.monitor(port)
    open_gate(gate)
    assert await_down(monitor) == :normal
    assert_received {^port, {:data, "on\n"}}
    assert_received {^port, {:exit_status, 3}}
  end

  same "M12", "a line that was begun under another owner goes whole to the new one", subject do
    gate = gate()
    script = "echo ready; printf begun; read go < \"$1\"; echo ended"
    port = open_sh(subject, script, [:binary, :line, argv: [gate]])
    assert_receive {^port, {:data, {:eol, "ready"}}}, 5_000
    Proc.wait_until("a part of the line is in", fn -> subject.info(port, :input) == {:input, 11} end)

    new = Actor.start(trap_exit: true)
    subject.connect(port, new.pid)
    open_gate(gate)
    assert_exit(port, :normal)
    Proc.wait_until("the new owner has all", fn -> length(Actor.messages(new)) == 2 end)
    assert Actor.messages(new) == [{port, {:data, {:eol, "begunended"}}}, {:EXIT, port, :normal}]
  end

  same "M12", "what a dead owner would get is dropped", subject do
    owner = Actor.start()
    options = [:binary, env: [tag()]]

    port =
      Actor.run(owner, fn ->
        port = subject.open({:spawn, "cat"}, options)
        Process.unlink(port)
        port
      end)

    Actor.stop(owner)
    assert subject.command(port, "nobody gets this")
    Proc.wait_until("it was read", fn -> subject.info(port, :input) == {:input, 16} end)
    assert subject.connect(port, self())
    assert subject.command(port, "x")
    assert read(port, 1) == "x"
    subject.close(port)
    assert_exit(port, :normal)
  end

  same "M13", "data is delivered however full the owner's mailbox is", subject do
    port = open_sh(subject, "head -c 300000 /dev/zero | tr '\\0' '\\n'; echo", [:binary, :line, :exit_status])

    monitor = subject.monitor(port)
    # Nothing is taken from the mailbox until the port has ended.
    assert await_down(monitor) == :normal
    {:message_queue_len, length} = Process.info(self(), :message_queue_len)
    assert length == 300_001 + 2
    drop_messages(port)
  end

  defp drop_messages(port) do
    receive do
      {^port, _item} -> drop_messages(port)
      {:EXIT, ^port, _reason} -> drop_messages(port)
    after
      0 -> :ok
    end
  end

  defp next_packet(port) do
    receive do
      {^port, {:data, data}} -> data
    after
      10_000 -> flunk("no packet came")
    end
  end
end
