defmodule SafePort.DriverFaultTest do
  # Drivers that panic, hang or crash: their ports end, and nothing else does.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import SafePort.Test.Drivers

  setup_all :load_trouble

  setup do
    Process.flag(:trap_exit, true)
    # A neighbour that has to survive.
    %{neighbour: open_driver("trouble", [:binary])}
  end

  defp well?(port) do
    SafePort.command(port, "well")
    assert next(port) == {:data, "well"}
  end

  test "a panic in a call raises in the caller and ends the port", %{neighbour: neighbour} do
    for isolation <- [:thread, :process] do
      port = open_driver("trouble", isolation: isolation)

      assert_raise ArgumentError, ~r/panicked: trouble was asked for/, fn ->
        SafePort.control(port, 1, "panic")
      end

      assert_receive {:EXIT, ^port, {:driver_panic, "trouble was asked for"}}, 10_000
    end

    well?(neighbour)
  end

  test "a slow callback holds up its own port only", %{neighbour: neighbour} do
    port = open_driver("trouble", [:binary])
    SafePort.command(port, "wait at the gate")
    SafePort.command(port, "later")
    for _ <- 1..100, do: well?(neighbour)
    refute_received {^port, _}
    SafePort.control(neighbour, 1, "open the gate")
    assert next(port) == {:data, "later"}
  end

  test "a port whose driver never returns can be closed, and its thread is written off", %{
    neighbour: neighbour
  } do
    port = open_driver("trouble")
    SafePort.command(port, "block")
    caller = Task.async(fn -> catch_error(SafePort.control(port, 0, "")) end)
    assert Task.yield(caller, 50) == nil
    send(port, {self(), :close})
    assert_receive {:EXIT, ^port, :normal}, 5_000
    assert %ArgumentError{} = Task.await(caller)
    well?(neighbour)
    # Given up after five seconds.
    assert_receive {^port, :closed}, 20_000
    assert SafePort.Driver.threads().workers.lost >= 1
    well?(neighbour)
  end

  test "a host whose driver never returns is ended with its port" do
    port = open_driver("trouble", isolation: :process)
    SafePort.command(port, "block")
    send(port, {self(), :close})
    assert_receive {:EXIT, ^port, :normal}, 5_000
    assert_receive {^port, :closed}, 20_000
  end

  test "a crash in a host ends the port with the signal", %{neighbour: neighbour} do
    for {word, reason} <- [{"segfault", :sigsegv}, {"abort", :sigabrt}, {"exit", {:exit_status, 3}}] do
      port = open_driver("trouble", isolation: :process)
      caller = Task.async(fn -> catch_error(SafePort.control(port, 1, word)) end)
      assert_receive {:EXIT, ^port, ^reason}, 10_000
      assert %ArgumentError{} = Task.await(caller)
    end

    well?(neighbour)
  end

  test "a crash while a driver starts in a host is raised" do
    assert catch_error(SafePort.open({:spawn_driver, "trouble abort"}, isolation: :process)) == :sigabrt
  end

  test "a host dies with a port that is killed" do
    port = open_driver("trouble", isolation: :process)
    [host] = hosts_of(port)
    Process.exit(port, :kill)
    assert_receive {:EXIT, ^port, :killed}, 5_000
    monitor = Process.monitor(host)
    assert_receive {:DOWN, ^monitor, :process, ^host, _reason}, 5_000
  end

  test "what a driver in a host prints does not disturb its port" do
    port = open_driver("trouble", [:binary, isolation: :process])
    SafePort.command(port, "print")
    well?(port)
  end

  test "a job that panics after its port was closed is nobody's concern", %{neighbour: neighbour} do
    port = open_driver("trouble")
    SafePort.command(port, "panic in a job")
    SafePort.close(port)
    well?(neighbour)
  end

  test "a panic when it is stopped is logged, and the port closed" do
    log =
      capture_log(fn ->
        port = open_driver("trouble")
        SafePort.control(port, 1, "panic when stopped")
        send(port, {self(), :close})
        assert_receive {^port, :closed}, 5_000
      end)

    assert log =~ "driver trouble panicked when it was stopped: trouble was asked for"
  end

  # The port of the host is linked to the driver's port process.
  defp hosts_of(port) do
    {:links, links} = Process.info(port, :links)
    Enum.filter(links, &(is_pid(&1) and &1 != self()))
  end
end
