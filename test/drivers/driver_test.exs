defmodule SafePort.DriverTest do
  # Ports of drivers as their owners see them, with the driver in the VM and in a process of its own.
  use ExUnit.Case, async: true

  import SafePort.Test.Drivers

  @moduletag :capture_log

  setup_all :load_trouble

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  describe "open/2" do
    test "knows no driver of an unknown or empty name" do
      for name <- ["nobody", "", " trouble", ~c"nobody at all"] do
        assert_raise ArgumentError, ~r/name of a driver/, fn -> SafePort.open({:spawn_driver, name}, []) end
      end
    end

    test "refuses the options that only programs have" do
      for option <- [:exit_status, :exit_info, {:args, []}, {:arg0, "x"}, {:active, false}, {:active, :once}] do
        assert_raise ArgumentError, fn -> SafePort.open({:spawn_driver, "echo"}, [option]) end
      end
    end

    test "takes a loaded driver before a program, but not one that comes with SafePort" do
      port = SafePort.open({:spawn, "trouble and more"}, [:binary])
      assert SafePort.info(port, :os_pid) == {:os_pid, :undefined}
      SafePort.command(port, "x")
      assert next(port) == {:data, "x"}
      SafePort.close(port)

      port = SafePort.open({:spawn, "echo program"}, [:binary])
      assert next(port) == {:data, "program\n"}
    end
  end

  for isolation <- [:thread, :process] do
    describe "a driver with isolation: #{inspect(isolation)}" do
      @describetag isolation: isolation

      test "that does not start raises what it says", %{isolation: isolation} do
        open = fn command -> SafePort.open({:spawn_driver, command}, isolation: isolation) end
        assert_raise ArgumentError, ~r/refuses its arguments/, fn -> open.("trouble badarg") end
        assert catch_error(open.("trouble general")) == :einval
        assert catch_error(open.("trouble enospc")) == :enospc

        assert catch_error(open.("trouble panic")) == {:driver_panic, "trouble was asked for"}

        # No exit signal comes with it.
        refute_received {:EXIT, _port, _reason}
      end

      test "gets data as a list of bytes unless the port is binary", %{isolation: isolation} do
        for {options, data} <- [{[:binary], "ab"}, {[], ~c"ab"}] do
          port = open_driver("trouble", [{:isolation, isolation} | options])
          assert SafePort.command(port, ["a", ?b])
          assert next(port) == {:data, data}
          send(port, {self(), {:command, [["a"] | "b"]}})
          assert next(port) == {:data, data}
        end
      end

      test "sends a header as list cells in front (D1)", %{isolation: isolation} do
        for {options, data} <- [{[:binary], [?h, ?d | "data"]}, {[], ~c"hddata"}] do
          port = open_driver("trouble", [{:isolation, isolation} | options])
          SafePort.control(port, 1, "header")
          assert next(port) == {:data, data}
        end
      end

      test "sends lines (D1)", %{isolation: isolation} do
        port = open_driver("trouble", [:binary, line: 4, isolation: isolation])
        SafePort.command(port, "ab\ncdefg\n")
        assert next(port) == {:data, {:eol, "ab"}}
        assert next(port) == {:data, {:noeol, "cdef"}}
        assert next(port) == {:data, {:eol, "g"}}
        # The header stands in front of each piece.
        SafePort.control(port, 1, "header")
        assert next(port) == {:data, {:eol, [?h, ?d | "ab"]}}
        assert next(port) == {:data, {:noeol, [?h, ?d | "cdef"]}}
        assert next(port) == {:data, {:eol, [?h, ?d | "g"]}}
        # A line that was not ended comes before the end.
        SafePort.command(port, "x")
        SafePort.command(port, "eof")
        assert next(port) == {:data, {:noeol, "x"}}
        assert_receive {:EXIT, ^port, :normal}, 5_000
      end

      test "replies to control with a list, or a binary if it says so (D11)", %{isolation: isolation} do
        port = open_driver("trouble", isolation: isolation)
        assert SafePort.control(port, 0, ["by", ~c"t"] ++ "es") == ~c"bytes"
        SafePort.control(port, 1, "binary")
        assert SafePort.control(port, 0, "") == ""
      end

      test "refuses control and call", %{isolation: isolation} do
        port = open_driver("trouble", isolation: isolation)

        for operation <- [-1, 0x1_0000_0000, :a, 1.0],
            do: assert_raise(ArgumentError, fn -> SafePort.control(port, operation, "") end)

        for data <- [:a, [256], 5], do: assert_raise(ArgumentError, fn -> SafePort.control(port, 0, data) end)
        assert_raise ArgumentError, ~r/refuses/, fn -> SafePort.control(port, 0xFFFF_FFFF, "") end
        assert_raise ArgumentError, ~r/refuses/, fn -> SafePort.call(port, 0xFFFF_FFFF, nil) end
        # A term that the driver cannot be given, and one that is none.
        assert_raise ArgumentError, ~r/refuses/, fn -> SafePort.call(port, 0, fn -> :ok end) end
        deep = Enum.reduce(1..10_000, [], fn _, term -> [term] end)
        assert_raise ArgumentError, ~r/refuses/, fn -> SafePort.call(port, 0, deep) end
        assert_raise ArgumentError, ~r/refuses/, fn -> SafePort.call(port, 7, nil) end

        assert_raise ArgumentError, ~r/too large: 68157440 bytes/, fn ->
          SafePort.control(port, 2, String.duplicate("x", 65))
        end

        assert Process.alive?(port)
      end

      test "gets any term and sends any back", %{isolation: isolation} do
        port = open_driver("trouble", isolation: isolation)

        terms = [
          nil,
          -1,
          [-1, 2],
          :erlang.bsl(1, 100),
          1.5,
          ~c"list",
          "binary",
          <<1::3>>,
          %{a: {1, %{}}},
          [1 | 2],
          self(),
          make_ref(),
          &Enum.map/2,
          String.to_atom("ä"),
          Enum.to_list(1..70_000)
        ]

        for term <- terms, do: assert(SafePort.call(port, 0, term) == term)
      end

      test "knows its caller and its owner (D11)", %{isolation: isolation} do
        port = open_driver("trouble", isolation: isolation)
        assert SafePort.call(port, 1, nil) == self()
        owner = self()
        other = Task.async(fn -> {self(), SafePort.call(port, 1, nil), SafePort.call(port, 2, nil)} end)
        assert {pid, pid, ^owner} = Task.await(other)
        SafePort.connect(port, spawn(fn -> Process.sleep(:infinity) end))
        assert SafePort.call(port, 2, nil) != owner
      end

      test "sends terms to its owner and to others (D10)", %{isolation: isolation} do
        port = open_driver("trouble", isolation: isolation)
        assert SafePort.call(port, 4, {:hello, 1}) == :ok
        assert_received {:hello, 1}
        task = Task.async(fn -> receive(do: (message -> message)) end)
        assert SafePort.call(port, 3, {task.pid, %{from: "driver"}})
        assert Task.await(task) == %{from: "driver"}
      end

      test "hears of the death of a process (D7)", %{isolation: isolation} do
        port = open_driver("trouble", isolation: isolation)
        {pid, monitor} = spawn_monitor(fn -> receive(do: (:end -> :ok)) end)
        assert SafePort.call(port, 5, pid)
        assert SafePort.info(port, :monitors) == {:monitors, [{:process, pid}]}
        send(pid, :end)
        assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}, 5_000
        assert_receive {:died, ^pid}, 5_000
        # The monitor is there until the callback has returned.
        SafePort.control(port, 0, "")
        assert SafePort.info(port, :monitors) == {:monitors, []}
      end

      test "answers the owner after all that it has sent before", %{isolation: isolation} do
        port = open_driver("trouble", [:binary, isolation: isolation])

        for number <- 1..200 do
          SafePort.control(port, 1, "header")
          assert_received {^port, {:data, [?h | _]}}, "of call #{number}"
        end
      end

      test "gets what one process sends and calls in that order", %{isolation: isolation} do
        port = open_driver("trouble", [:binary, isolation: isolation])

        for number <- 1..100 do
          send(port, {self(), {:command, "a#{number}"}})
          assert SafePort.control(port, 3, "") |> to_string() == "a#{number}"
          SafePort.command(port, "b#{number}")
          assert SafePort.control(port, 3, "") |> to_string() == "b#{number}"
        end
      end

      test "times out (D4)", %{isolation: isolation} do
        port = open_driver("trouble", [:binary, isolation: isolation])
        SafePort.control(port, 1, "timer")
        assert next(port) == {:data, "timeout"}
      end

      test "ends its port with the reason that it gives (D2)", %{isolation: isolation} do
        reasons = [
          {"eof", :normal},
          {"fail", :trouble},
          {"fail 42", 42},
          {"fail posix", :epipe},
          {"panic", {:driver_panic, "trouble was asked for"}},
          {"panic in a job", {:driver_panic, "trouble was asked for"}}
        ]

        for {word, reason} <- reasons do
          port = open_driver("trouble", isolation: isolation)
          monitor = SafePort.monitor(port)
          SafePort.command(port, word)
          assert_receive {:EXIT, ^port, ^reason}, 10_000
          assert_receive {:DOWN, ^monitor, :process, ^port, ^reason}, 10_000
          assert SafePort.info(port) == nil
          refute port in SafePort.list()
        end
      end

      test "that exits tells the monitors, and the owner nothing (D3)", %{isolation: isolation} do
        for {word, reason} <- [{"quit", :normal}, {"quit 32", :epipe}] do
          port = open_driver("trouble", isolation: isolation)
          monitor = SafePort.monitor(port)
          SafePort.command(port, word)
          assert_receive {:DOWN, ^monitor, :process, ^port, ^reason}, 10_000
          refute_received {:EXIT, ^port, _reason}
        end
      end

      test "that comes to its end stays open with :eof (D2)", %{isolation: isolation} do
        port = open_driver("trouble", [:eof, isolation: isolation])
        SafePort.command(port, "eof")
        assert next(port) == :eof
        assert SafePort.control(port, 0, "x") == ~c"x"
      end

      test "makes commands wait while it is busy (D9)", %{isolation: isolation} do
        port = open_driver("trouble", [:binary, isolation: isolation])
        SafePort.control(port, 1, "busy")
        refute SafePort.command(port, "dropped", [:nosuspend])
        # These wait: a call in its caller, a message in the port.
        task = Task.async(fn -> SafePort.command(port, "called") end)
        send(port, {self(), {:command, "sent"}})
        # Calls are not held up.
        assert SafePort.control(port, 0, "x") == ~c"x"
        assert Task.yield(task, 50) == nil
        refute_received {^port, {:data, _}}
        SafePort.control(port, 1, "free")
        assert Task.await(task)
        assert Enum.sort([next(port), next(port)]) == [data: "called", data: "sent"]
      end

      test "lets callers that wait go when it is closed (D9)", %{isolation: isolation} do
        port = open_driver("trouble", isolation: isolation)
        SafePort.control(port, 1, "busy")
        task = Task.async(fn -> catch_error(SafePort.command(port, "never")) end)
        assert Task.yield(task, 50) == nil
        SafePort.close(port)
        assert %ArgumentError{} = Task.await(task)
      end

      test "takes a forced command if it allows that (D9)", %{isolation: isolation} do
        port = open_driver("trouble", [:binary, isolation: isolation])
        SafePort.control(port, 1, "busy")
        assert SafePort.command(port, "forced", [:force])
        assert next(port) == {:data, "forced"}
        echo = open_driver("echo", isolation: isolation)
        assert catch_error(SafePort.command(echo, "x", [:force])) == :notsup
      end

      test "is busy when too much waits for it (D9)", %{isolation: isolation} do
        port = open_driver("trouble", [:binary, busy_limits_msgq: {10, 20}, isolation: isolation])
        for _ <- 1..3, do: SafePort.command(port, "sleep")
        # A host says so a little later.
        assert Enum.any?(1..1_000_000, fn _ -> not SafePort.command(port, "y", [:nosuspend]) end)
        assert SafePort.command(port, "waits")
        assert data_until(port, "waits") >= 1
      end

      test "empties its queue before it is closed (D8, D12)", %{isolation: isolation} do
        port = open_driver("trouble", [:binary, isolation: isolation])
        SafePort.control(port, 1, "queue")
        assert SafePort.info(port, :queue_size) == {:queue_size, 4}
        monitor = SafePort.monitor(port)
        send(port, {self(), :close})
        assert_receive {:EXIT, ^port, :normal}, 10_000
        assert_receive {:DOWN, ^monitor, :process, ^port, :normal}, 10_000
        assert_receive {^port, :closed}, 10_000
      end

      test "is a port like others", %{isolation: isolation} do
        port = open_driver("trouble as a port", [:binary, isolation: isolation])
        assert port in SafePort.list()

        assert [name: ~c"trouble as a port", links: links, id: id, connected: owner] =
                 Enum.take(SafePort.info(port), 4)

        assert {links, owner} == {[self()], self()}
        assert is_integer(id)
        SafePort.command(port, "12345")
        assert next(port) == {:data, "12345"}
        assert SafePort.info(port, :input) == {:input, 5}
        assert SafePort.info(port, :output) == {:output, 5}
        assert SafePort.info(port, :os_pid) == {:os_pid, :undefined}
        SafePort.control(port, 1, "os_pid")
        assert SafePort.info(port, :os_pid) == {:os_pid, 4711}
        assert SafePort.info(port, :locking) == {:locking, :port_level}
        name = :"driver_#{System.unique_integer([:positive])}"
        Process.register(port, name)
        assert SafePort.control(name, 0, "x") == ~c"x"
        assert SafePort.info(name, :registered_name) == {:registered_name, name}
        assert SafePort.close(name)
        assert_receive {:EXIT, ^port, :normal}, 5_000
        assert_raise ArgumentError, fn -> SafePort.command(port, "x") end
        assert_raise ArgumentError, fn -> SafePort.control(port, 0, "x") end
        assert_raise ArgumentError, fn -> SafePort.call(port, 0, nil) end
        assert_raise ArgumentError, fn -> SafePort.close(port) end
      end

      test "changes hands", %{isolation: isolation} do
        port = open_driver("trouble", [:binary, isolation: isolation])
        test = self()

        new =
          spawn_link(fn ->
            for message <- Stream.repeatedly(fn -> receive(do: (m -> m)) end), do: send(test, {:new, message})
          end)

        send(port, {self(), {:connect, new}})
        assert next(port) == :connected
        SafePort.command(port, "x")
        assert_receive {:new, {^port, {:data, "x"}}}, 5_000
        # The old owner's messages are a mistake of the new one now.
        send(port, {self(), {:command, "y"}})
        assert_receive {:EXIT, ^new, :badsig}, 5_000
      end

      test "closes with its owner, and with whoever is linked to it and fails", %{isolation: isolation} do
        test = self()

        for {reason, seen} <- [{:normal, :normal}, {:oops, :oops}, {:kill, :killed}] do
          owner =
            spawn(fn ->
              send(test, {:port, SafePort.open({:spawn_driver, "trouble"}, isolation: isolation)})

              receive do
                :end -> exit(reason)
              end
            end)

          assert_receive {:port, port}, 10_000
          monitor = SafePort.monitor(port)
          if reason == :kill, do: Process.exit(owner, :kill), else: send(owner, :end)
          assert_receive {:DOWN, ^monitor, :process, ^port, ^seen}, 10_000
        end

        port = open_driver("trouble", isolation: isolation)
        Process.exit(port, :reason)
        assert_receive {:EXIT, ^port, :reason}, 5_000
        port = open_driver("trouble", isolation: isolation)
        Process.exit(port, :kill)
        assert_receive {:EXIT, ^port, :killed}, 5_000
      end

      test "has nothing that only programs have", %{isolation: isolation} do
        port = open_driver("trouble", isolation: isolation)
        assert SafePort.setopts(port, active: false) == {:error, :einval}
        assert SafePort.close_stdin(port) == {:error, :einval}
        assert SafePort.signal(port, :sigterm) == {:error, :einval}
        assert SafePort.await_exit(port) == {:error, :einval}
        assert SafePort.recv(port, 0) == {:error, :closed}
        assert Process.alive?(port)
      end
    end
  end

  test "control/3 and call/3 are for ports of drivers" do
    port = SafePort.open({:spawn, "cat"}, [])
    assert_raise ArgumentError, ~r/driver's port/, fn -> SafePort.control(port, 0, "") end
    assert_raise ArgumentError, ~r/driver's port/, fn -> SafePort.call(port, 0, nil) end
    assert_raise ArgumentError, fn -> SafePort.control(self(), 0, "") end
    assert_raise ArgumentError, fn -> SafePort.control(:nobody, 0, "") end
  end

  test "a driver in the VM can make another port, owned by whom it wants (D11)" do
    port = open_driver("trouble", [:binary])
    assert SafePort.call(port, 6, self())
    # It shows itself by what it sends.
    [made] = for pid <- SafePort.list(), SafePort.info(pid, :name) == {:name, ~c"made by trouble"}, do: pid
    assert SafePort.info(made, :connected) == {:connected, self()}
    assert self() in elem(SafePort.info(made, :links), 1)
    SafePort.command(made, "x")
    assert next(made) == {:data, "x"}
    SafePort.close(port)
    assert SafePort.control(made, 0, "still here") == ~c"still here"
    SafePort.close(made)
    assert_receive {:EXIT, ^made, :normal}, 5_000
    {dead, monitor} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^monitor, :process, ^dead, _reason}
    port = open_driver("trouble")
    refute SafePort.call(port, 6, dead)
    # In a host there is one port only.
    host = open_driver("trouble", isolation: :process)
    refute SafePort.call(host, 6, self())
  end

  # The number of messages until the one with `data`.
  defp data_until(port, data, count \\ 1) do
    if next(port) == {:data, data}, do: count, else: data_until(port, data, count + 1)
  end
end
