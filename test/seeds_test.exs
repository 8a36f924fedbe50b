defmodule SafePort.SeedsTest do
  # The examples and tables of the documents about the built-in ports, with SafePort in place of Port.
  use ExUnit.Case, async: true

  alias SafePort.Test.Proc

  describe "the examples of Elixir's Port" do
    test "cat gets two commands as messages and is closed by one" do
      port = SafePort.open({:spawn, "cat"}, [:binary])
      send(port, {self(), {:command, "hello"}})
      assert_receive {^port, {:data, "hello"}}, 5_000
      send(port, {self(), {:command, "world"}})
      assert_receive {^port, {:data, "world"}}, 5_000
      send(port, {self(), :close})
      assert_receive {^port, :closed}, 5_000
    end

    test "both commands may come in one message when they were sent at once" do
      port = SafePort.open({:spawn, "cat"}, [:binary])
      send(port, {self(), {:command, "hello"}})
      send(port, {self(), {:command, "world"}})
      assert receive_bytes(port, 10) == "helloworld"
      SafePort.close(port)
    end

    test "without :binary, data comes as a list of bytes" do
      port = SafePort.open({:spawn, "cat"}, [])
      SafePort.command(port, "hello")
      assert_receive {^port, {:data, ~c"hello"}}, 5_000
      SafePort.close(port)
    end

    test "echo is run directly" do
      port = SafePort.open({:spawn, "echo oops"}, [:binary])
      assert_receive {^port, {:data, "oops\n"}}, 5_000
    end

    test ":spawn finds the program in PATH" do
      port = SafePort.open({:spawn, "true"}, [:exit_status])
      assert_receive {^port, {:exit_status, 0}}, 5_000
    end

    test ":spawn_executable takes a full path and arguments" do
      path = System.find_executable("echo")
      port = SafePort.open({:spawn_executable, path}, [:binary, args: ["hello world"]])
      assert_receive {^port, {:data, "hello world\n"}}, 5_000
    end

    test "no wrapper is needed for a program that does not look at its standard input" do
      args = ["-c", "trap '' TERM; echo $$; while true; do sleep 1000; done"]
      options = [:binary, args: args, eof_timeout: 10, kill_timeout: 10]
      port = SafePort.open({:spawn_executable, "/bin/sh"}, options)
      assert_receive {^port, {:data, line}}, 5_000
      SafePort.close(port)
      line |> String.trim() |> String.to_integer() |> Proc.await_gone()
    end

    test "the functions return what is documented" do
      port = SafePort.open({:spawn, "cat"}, [:binary])
      assert SafePort.command(port, "data") == true
      assert SafePort.command(port, ["io", ?d, [?a, "ta"]], [:nosuspend]) == true
      assert SafePort.connect(port, self()) == true
      assert SafePort.info(port, :connected) == {:connected, self()}
      assert SafePort.info(port)[:name] == ~c"cat"
      assert port in SafePort.list()
      assert receive_bytes(port, 10) == "dataiodata"
      assert SafePort.close(port) == true
      assert SafePort.info(port) == nil
      assert SafePort.info(port, :connected) == nil
      assert_raise ArgumentError, fn -> SafePort.close(port) end
    end
  end

  describe "the tables of Erlang's reference manual" do
    test "what is sent to a port" do
      port = SafePort.open({:spawn, "cat"}, packet: 2)
      owner = self()

      # Any process may send, but the message must name the owner.
      spawn(fn -> send(port, {owner, {:command, ["li", ~c"s", ?t]}}) end)
      assert_receive {^port, {:data, ~c"list"}}, 5_000

      new = spawn(fn -> receive do: (:end -> :ok) end)
      send(port, {owner, {:connect, new}})
      assert_receive {^port, :connected}, 5_000

      # The old owner is still linked, the new one is not.
      assert SafePort.info(port, :links) == {:links, [owner]}
      send(port, {new, {:connect, owner}})
      send(port, {owner, :close})
      assert_receive {^port, :closed}, 5_000
      send(new, :end)
    end

    test "what is received from a port" do
      Process.flag(:trap_exit, true)
      port = SafePort.open({:spawn, "cat"}, [:binary, packet: 1])
      SafePort.command(port, "data")
      assert_receive {^port, {:data, "data"}}, 5_000
      send(port, {self(), {:connect, self()}})
      assert_receive {^port, :connected}, 5_000
      send(port, {self(), :close})
      assert_receive {:EXIT, ^port, :normal}, 5_000
      assert_receive {^port, :closed}, 5_000
    end

    test "if the owner terminates, so do the port and the program" do
      test = self()

      {owner, monitor} =
        spawn_monitor(fn ->
          port = SafePort.open({:spawn, "cat"}, [])
          send(test, {port, SafePort.info(port, :os_pid)})
        end)

      assert_receive {port, {:os_pid, os_pid}}, 5_000
      assert_receive {:DOWN, ^monitor, :process, ^owner, :normal}, 5_000
      Proc.await_gone(os_pid)
      assert SafePort.info(port) == nil
    end

    test "valid packet lengths are 1, 2 and 4" do
      for bytes <- [1, 2, 4] do
        port = SafePort.open({:spawn, "cat"}, [:binary, packet: bytes])
        SafePort.command(port, "x")
        assert_receive {^port, {:data, "x"}}, 5_000
        SafePort.close(port)
      end

      assert_raise ArgumentError, fn -> SafePort.open({:spawn, "cat"}, packet: 3) end
    end

    test "an erroneous driver is refused by name" do
      assert_raise ArgumentError, fn -> SafePort.open({:spawn_driver, "no_such_driver"}, []) end
    end
  end

  defp receive_bytes(port, count, received \\ "")
  defp receive_bytes(_port, count, received) when byte_size(received) == count, do: received

  defp receive_bytes(port, count, received) do
    assert_receive {^port, {:data, data}}, 5_000
    receive_bytes(port, count, received <> data)
  end
end
