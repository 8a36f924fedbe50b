defmodule SafePort.Conformance.InfoTest do
  use SafePort.Test.Conformance, async: true

  import SafePort.Test.Busy

  # Section 9: introspection and names

  same "Q1", "info/1 has these items in this order; the name only if there is one", subject do
    port = open(subject, {:spawn, "cat"})
    items = [:name, :links, :id, :connected, :input, :output, :os_pid]
    assert Keyword.keys(subject.info(port)) == items

    Process.register(port, unique_name())
    assert Keyword.keys(subject.info(port)) == [:registered_name | items]

    subject.close(port)
    assert_exit(port, :normal)
    assert subject.info(port) == nil
  end

  same "Q2", "the name is the command, the file, or the descriptors, byte by byte", subject do
    for {name, expected} <- [
          {{:spawn, "cat  # ä"}, :erlang.binary_to_list("cat  # ä")},
          {{:spawn, ~c"cat # ä"}, :erlang.binary_to_list("cat # ä")},
          {{:spawn_executable, "/bin/cat"}, ~c"/bin/cat"},
          {{:spawn_executable, :"/bin/cat"}, ~c"/bin/cat"}
        ] do
      port = open(subject, name)
      assert subject.info(port, :name) == {:name, expected}
      assert subject.info(port)[:name] == expected
    end
  end

  same "Q2", "the id is an integer of its own", subject do
    ids = for _port <- 1..5, {:id, id} = subject.info(open(subject, {:spawn, "cat"}), :id), do: id
    assert Enum.all?(ids, &is_integer/1)
    assert Enum.uniq(ids) == ids
  end

  same "Q2", "owner and links", subject do
    port = open(subject, {:spawn, "cat"})
    actor = Actor.start(trap_exit: true)
    assert subject.info(port, :connected) == {:connected, self()}
    assert subject.info(port, :links) == {:links, [self()]}

    Actor.run(actor, fn -> Process.link(port) end)
    {:links, links} = subject.info(port, :links)
    assert Enum.sort(links) == Enum.sort([self(), actor.pid])

    for pid <- [self(), actor.pid],
        do:
          if(pid == self(), do: Process.unlink(port), else: Actor.run(actor, fn -> Process.unlink(port) end))

    assert subject.info(port, :links) == {:links, []}
  end

  same "Q2", "input and output count payload, also what is only queued", subject do
    port = open(subject, {:spawn, "cat"}, [:binary, packet: 4])
    assert {subject.info(port, :input), subject.info(port, :output)} == {{:input, 0}, {:output, 0}}
    subject.command(port, "hello")
    send(port, {self(), {:command, [?y, "ou"]}})
    assert_receive {^port, {:data, "hello"}}, 5_000
    assert_receive {^port, {:data, "you"}}, 5_000
    assert {subject.info(port, :input), subject.info(port, :output)} == {{:input, 8}, {:output, 8}}

    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    assert subject.command(port, :binary.copy("x", 2_000_000))
    assert subject.info(port, :output) == {:output, 2_000_000}
    open_gate(gate)
  end

  same "Q2", "the os_pid is the program's own, also after its end", subject do
    port = open(subject, {:spawn, "cat"})
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    Proc.wait_until("the shell became the program", fn -> Proc.arguments(os_pid) == ["cat"] end)

    port = open_sh(subject, "echo $$", [:binary, :eof])
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    assert trace(port, :eof) == [{:data, "#{os_pid}\n"}, :eof]
    Proc.await_gone(os_pid)
    assert subject.info(port, :os_pid) == {:os_pid, os_pid}
  end

  same "Q2", "monitors, parallelism, locking, memory and queue size", subject do
    port = open(subject, {:spawn, "cat"})
    assert subject.info(port, :monitors) == {:monitors, []}
    assert subject.info(port, :parallelism) == {:parallelism, false}
    assert subject.info(port, :locking) == {:locking, :port_level}
    assert subject.info(port, :queue_size) == {:queue_size, 0}
    assert {:memory, memory} = subject.info(port, :memory)
    assert is_integer(memory) and memory >= 0
  end

  same "Q2", "who monitors, once per monitor", subject do
    port = open(subject, {:spawn, "cat"})
    actor = Actor.start()
    assert subject.info(port, :monitored_by) == {:monitored_by, []}
    monitors = for _number <- 1..2, do: subject.monitor(port)
    Actor.run(actor, fn -> subject.monitor(port) end)
    {:monitored_by, pids} = subject.info(port, :monitored_by)
    assert Enum.sort(pids) == Enum.sort([self(), self(), actor.pid])
    for monitor <- monitors, do: subject.demonitor(monitor)
  end

  same "Q2", "the registered name, or an empty list", subject do
    port = open(subject, {:spawn, "cat"})
    assert subject.info(port, :registered_name) == {:registered_name, []}
    name = unique_name()
    Process.register(port, name)
    assert subject.info(port, :registered_name) == {:registered_name, name}
    Process.unregister(name)
    assert subject.info(port, :registered_name) == {:registered_name, []}
  end

  same "Q3", "unknown items are refused of an open port, and nil of a closed one", subject do
    port = open(subject, {:spawn, "cat"})

    for item <- [:nonsense, "name", 1, [:name], nil],
        do: assert(raised(fn -> subject.info(port, item) end) == ArgumentError)

    subject.close(port)
    assert_exit(port, :normal)
    for item <- [:name, :registered_name, :nonsense], do: assert(subject.info(port, item) == nil)
  end

  same "Q3", "an unknown name is no port, what is neither port nor name is refused", subject do
    assert subject.info(unique_name()) == nil
    assert subject.info(unique_name(), :name) == nil

    for no_port <- [self(), Actor.start().pid, 1, "port", make_ref(), remote_pid()] do
      assert {no_port, raised(fn -> subject.info(no_port) end)} == {no_port, ArgumentError}
      assert {no_port, raised(fn -> subject.info(no_port, :name) end)} == {no_port, ArgumentError}
      assert {no_port, raised(fn -> subject.command(no_port, "x") end)} == {no_port, ArgumentError}
      assert {no_port, raised(fn -> subject.close(no_port) end)} == {no_port, ArgumentError}
      assert {no_port, raised(fn -> subject.connect(no_port, self()) end)} == {no_port, ArgumentError}
    end
  end

  cannot "Q3", "a dead process and a closed port are the same to SafePort", subject do
    {dead, monitor} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^monitor, :process, ^dead, :normal}, 5_000
    expected = if subject == Port, do: ArgumentError, else: {:returned, nil}
    assert raised(fn -> subject.info(dead) end) == expected
  end

  same "Q4", "list/0 holds the open ports in ascending order", subject do
    ports = for _number <- 1..5, do: open(subject, {:spawn, "cat"})
    list = subject.list()
    assert ports -- list == []
    assert list == Enum.sort(list)
    assert list == Enum.uniq(list)
    for port <- ports, do: subject.close(port)
    for port <- ports, do: assert_exit(port, :normal)
    assert ports -- subject.list() == ports
  end

  better "Q4", "list/0 of SafePort holds no ports of the VM", subject do
    port = open(subject, {:spawn, "cat"})
    built_in = Port.open({:spawn, "cat"}, [])
    assert port in subject.list()
    assert built_in in subject.list() == (subject == Port)
    assert Enum.any?(subject.list(), &is_port/1) == (subject == Port)
    Process.unlink(built_in)
    Port.close(built_in)
  end

  same "Q5", "a port can have one name, which is good for all functions and messages", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])
    [name, other] = [unique_name(), unique_name()]
    assert Actor.run(Actor.start(), fn -> Process.register(port, name) end)
    assert Process.whereis(name) == port
    assert raised(fn -> Process.register(port, other) end) == ArgumentError
    assert raised(fn -> Process.register(open(subject, {:spawn, "cat"}), name) end) == ArgumentError

    assert subject.command(name, "a")
    assert read(port, 1) == "a"
    send(name, {self(), {:command, "b"}})
    assert read(port, 1) == "b"
    assert subject.info(name, :connected) == {:connected, self()}
    assert subject.info(name) == subject.info(port)
    assert subject.connect(name, self())
    monitor = subject.monitor(name)
    assert subject.close(name)
    assert_exit(port, :normal)
    assert await_down(monitor) == :normal

    assert Process.whereis(name) == nil
    assert raised(fn -> Process.register(port, name) end) == ArgumentError
    assert subject.info(name) == nil
  end

  same "Q5", "a name can be taken back", subject do
    port = open(subject, {:spawn, "cat"})
    [name, other] = [unique_name(), unique_name()]
    Process.register(port, name)
    assert Process.unregister(name)
    assert Process.whereis(name) == nil
    assert Process.register(port, other)
    assert subject.info(other, :registered_name) == {:registered_name, other}
  end

  cannot "Q6", "a SafePort is a pid", subject do
    port = open(subject, {:spawn, "cat"})
    assert is_port(port) == (subject == Port)
    assert is_pid(port) == (subject == SafePort)
    assert :erlang.binary_to_term(:erlang.term_to_binary(port)) == port

    case subject do
      Port ->
        assert inspect(port) =~ "#Port<0."
        assert raised(fn -> Process.alive?(port) end) == ArgumentError
        assert raised(fn -> Process.info(port) end) == ArgumentError
        assert :erlang.list_to_port(:erlang.port_to_list(port)) == port
        assert make_ref() < port and port < self()

      SafePort ->
        assert inspect(port) =~ "#PID<0."
        assert Process.alive?(port)
        assert :erlang.list_to_pid(:erlang.pid_to_list(port)) == port
        assert make_ref() < port
    end

    subject.monitor(port)
    {:monitors, monitors} = Process.info(self(), :monitors)
    assert monitors == [{if(subject == Port, do: :port, else: :process), port}]
    subject.close(port)
    assert_exit(port, :normal)
    assert_receive {:DOWN, _monitor, _kind, ^port, :normal}, 5_000
  end

  same "Q7", "control and call are for drivers", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])

    for operation <- [0, 1, 0xFFFF_FFFF] do
      assert raised(fn -> control(subject, port, operation, "x") end) == ArgumentError
      assert raised(fn -> call(subject, port, operation, :x) end) == ArgumentError
    end

    assert subject.command(port, "x")
    assert read(port, 1) == "x"
  end

  cannot "Q7", "port data is for ports of the VM", subject do
    port = open(subject, {:spawn, "cat"})
    set = fn -> :erlang.port_set_data(port, :data) && :erlang.port_get_data(port) end
    assert raised(set) == if(subject == Port, do: {:returned, :data}, else: ArgumentError)
  end

  same "Q8", "no two ports have the same id", subject do
    ports =
      for _number <- 1..100 do
        port = open(subject, {:spawn, "true"})
        assert_exit(port, :normal)
        port
      end

    assert Enum.uniq(ports) == ports
    for port <- ports, do: assert(subject.info(port) == nil)
  end

  defp control(Port, port, operation, data), do: :erlang.port_control(port, operation, data)
  defp control(SafePort, port, operation, data), do: SafePort.control(port, operation, data)

  defp call(Port, port, operation, term), do: :erlang.port_call(port, operation, term)
  defp call(SafePort, port, operation, term), do: SafePort.call(port, operation, term)
end
