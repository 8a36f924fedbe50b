defmodule SafePort.Flow.PaceTest do
  # A port that sends much waits until its owner has come along with it, but for no owner that does not.
  use SafePort.Test.Conformance, async: true

  @lines 400_000

  # Has a port send many short lines to another process.
  defp flood(actor) do
    script = ~s(yes "some line" | head -n "$1"; exec cat)
    port = open_sh(SafePort, script, [:binary, line: 80, active: false, argv: ["#{@lines}"]])
    true = SafePort.connect(port, actor.pid)
    Process.unlink(port)
    :ok = SafePort.setopts(port, active: true)
    port
  end

  defp spin, do: spin()

  defp assert_answers_others(port) do
    for _ <- 1..20, do: assert({:connected, _} = SafePort.info(port, :connected))
    assert SafePort.close(port)
  end

  test "an owner who never receives does not keep the port from answering others" do
    actor = Actor.start()
    Actor.ask(actor, &spin/0)
    port = flood(actor)
    assert_answers_others(port)
    finish(SafePort)
  end

  test "an owner who waits for the file system does not keep the port from answering others" do
    {gate, actor} = {gate(), Actor.start()}
    # Raw, so that it is the owner who waits until somebody opens it to write.
    opening = Actor.ask(actor, fn -> File.open(gate, [:read, :raw]) end)
    port = flood(actor)
    assert_answers_others(port)
    open_gate(gate)
    assert {:ok, {:ok, _file}} = await_answer(opening)
    finish(SafePort)
  end

  test "an owner who is suspended does not keep the port from answering others" do
    actor = Actor.start()
    :erlang.suspend_process(actor.pid)
    port = flood(actor)
    assert_answers_others(port)
    :erlang.resume_process(actor.pid)
    finish(SafePort)
  end

  test "an owner who asks the port for something with each message gets all of them" do
    actor = Actor.start()
    port = flood(actor)

    count = fn count, found ->
      receive do
        {^port, {:data, {:eol, "some line"}}} ->
          if rem(found, 1_000) == 0 do
            {:connected, _} = SafePort.info(port, :connected)
            true = SafePort.command(port, "x")
          end

          if found + 1 < @lines, do: count.(count, found + 1), else: found + 1
      end
    end

    {:ok, found} = actor |> Actor.ask(fn -> count.(count, 0) end) |> await_answer()
    assert found == @lines
    assert SafePort.close(port)
    finish(SafePort)
  end

  test "an owner who receives is never far behind" do
    actor = Actor.start()
    port = flood(actor)

    take = fn take, taken, most ->
      receive do
        {^port, {:data, _line}} ->
          {:message_queue_len, waiting} = Process.info(self(), :message_queue_len)
          if taken + 1 < @lines, do: take.(take, taken + 1, max(most, waiting)), else: most
      end
    end

    {:ok, most} = actor |> Actor.ask(fn -> take.(take, 0, 0) end) |> await_answer()
    # A few hundred; with nobody to wait for it the queue grows by thousands for each turn of the scheduler.
    assert most < 10_000
    assert SafePort.close(port)
    finish(SafePort)
  end
end
