defmodule SafePort.Flow.WriterTest do
  # What the clauses about writing leave open: what is left of a writer that gave up.
  use SafePort.Test.Conformance, async: true

  import SafePort.Test.Busy

  test "writers that die while they wait leave nothing" do
    gate = gate()
    port = open_waiting(SafePort, gate, "cat")
    accepted = make_busy(SafePort, port)
    {:queue_size, queued} = SafePort.info(port, :queue_size)

    for _writer <- 1..50 do
      actor = Actor.start()
      ask_and_wait(actor, SafePort, fn -> SafePort.command(port, :binary.copy("x", 100_000)) end)
      Actor.stop(actor, :kill)
    end

    Proc.wait_until("nobody is waited for", fn -> Process.info(port, :monitors) == {:monitors, []} end)
    assert SafePort.info(port, :queue_size) == {:queue_size, queued}
    :erlang.garbage_collect(port)
    {:binary, binaries} = Process.info(port, :binary)
    assert Enum.all?(binaries, fn {_address, bytes, _references} -> bytes < 100_000 end)

    open_gate(gate)
    read(port, accepted)
    assert SafePort.command(port, "next")
    assert read(port, 4) == "next"
    finish(SafePort)
  end

  test "a port that is not busy keeps no caller of :nosuspend waiting, and one that is drops the data" do
    gate = gate()
    port = open_waiting(SafePort, gate, "cat", busy_limits_port: {1, 1})
    accepted = fill(SafePort, port)
    assert SafePort.command(port, "dropped", [:nosuspend]) == false
    open_gate(gate)
    read(port, accepted)
    await_queue(SafePort, port, 0)
    assert SafePort.command(port, "taken", [:nosuspend])
    assert read(port, 5) == "taken"
    finish(SafePort)
  end
end
