defmodule SafePort.System.ExitTest do
  use SafePort.Test.Tree, async: true

  test "await_exit/2 tells any number of callers, also after the end" do
    gate = gate()
    port = open_sh(SafePort, "read go < \"$1\"; exit 5", [:eof, argv: [gate]])
    actors = for _caller <- 1..3, do: Actor.start()
    answers = for actor <- actors, do: Actor.ask(actor, fn -> SafePort.await_exit(port) end)
    assert SafePort.await_exit(port, 0) == {:error, :timeout}
    open_gate(gate)
    for answer <- answers, do: assert(await_answer(answer) == {:ok, {:ok, 5}})
    assert SafePort.await_exit(port, 0) == {:ok, 5}
    SafePort.close(port)
    assert SafePort.await_exit(port) == {:error, :closed}
  end

  test "await_exit/2 tells of a port that closes before its program has ended" do
    port = open_sh(SafePort, "exec sleep 900", eof_timeout: 0)
    actor = Actor.start()
    answer = Actor.ask(actor, fn -> SafePort.await_exit(port) end)
    Proc.wait_until("it waits", fn -> Process.info(actor.pid, :status) == {:status, :waiting} end)
    SafePort.close(port)
    assert await_answer(answer) == {:ok, {:error, :closed}}
  end

  test ":exit_info comes before the status and tells the code and what was used" do
    port = open_sh(SafePort, "exit 5", [:exit_status, :exit_info])
    assert [{:exit_info, info}, {:exit_status, 5}, {:EXIT, :normal}] = trace(port)
    assert %{code: 5, signal: nil, core_dumped: false} = info
    assert info.max_rss_kib > 0 and info.user_us >= 0 and info.system_us >= 0
    assert map_size(info) == 6
  end

  test ":exit_info tells the signal" do
    port = open_sh(SafePort, "kill -TERM $$", [:exit_status, :exit_info])
    assert [{:exit_info, info}, {:exit_status, 143}, {:EXIT, :normal}] = trace(port)
    assert %{code: nil, signal: :sigterm, core_dumped: false} = info
  end

  test "close_stdin/1 ends the input behind what is queued, and the output is still read" do
    port = open_sh(SafePort, "wc -c; echo over", [:binary, :exit_status])
    assert SafePort.command(port, :binary.copy("x", 1_000_000))
    assert SafePort.close_stdin(port) == :ok
    assert SafePort.close_stdin(port) == :ok
    assert {output, 0} = result(port)
    assert String.split(output) == ["1000000", "over"]
    assert SafePort.close_stdin(port) == {:error, :closed}
  end
end
