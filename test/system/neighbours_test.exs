defmodule SafePort.System.NeighboursTest do
  use SafePort.Test.Tree, async: true

  test "the ending of a tree touches neither other trees nor the VM's own group", %{tag: tag} do
    neighbours = for _port <- 1..3, do: grow(tag)
    own = fn -> Proc.filter(&(&1.pgid == Proc.stat(Proc.vm()).pgid and &1.state != "Z")) end
    group = own.()
    assert Proc.vm() in group

    for _round <- 1..5 do
      tree = grow(tag)
      SafePort.close(tree.port)
      await_ended(tree)
    end

    assert Enum.map(neighbours, &living/1) == Enum.map(neighbours, & &1.os_pids)
    assert group -- own.() == []
    Enum.each(neighbours, &SafePort.close(&1.port))
    Enum.each(neighbours, &await_ended/1)
  end

  test "a stopped program that ignores SIGTERM does not delay the ending of another port", %{tag: tag} do
    script = "trap '' TERM; echo ready; while :; do kill -STOP $$; done"
    stubborn = open_sh(SafePort, script, [:binary, eof_timeout: 0, kill_timeout: 3_600_000])
    await_line(stubborn, "ready")
    {:os_pid, os_pid} = SafePort.info(stubborn, :os_pid)
    Proc.wait_until("it has stopped", fn -> Proc.stat(os_pid).state == "T" end)
    tree = grow(tag)
    SafePort.close(stubborn)
    SafePort.close(tree.port)
    await_ended(tree)
    assert Proc.alive?(os_pid)
    Proc.signal(os_pid, "KILL")
    Proc.await_gone(os_pid)
  end

  test "the first write to a program that has closed its input fails, whatever else is being started", %{
    tag: tag
  } do
    {command, options} =
      {"sh -c 'exec <&-; echo ready; exec sleep 900'", [:binary, env: [Proc.tag_entry(tag)]]}

    write_once = fn _number ->
      Process.flag(:trap_exit, true)
      port = SafePort.open({:spawn, command}, options)
      assert_receive {^port, {:data, "ready\n"}}, 5_000
      SafePort.command(port, "x")
      assert_receive {:EXIT, ^port, reason}, 5_000
      reason
    end

    reasons = 1..200 |> Task.async_stream(write_once, max_concurrency: 8) |> Enum.map(&elem(&1, 1))
    assert Enum.uniq(reasons) == [:epipe]
  end
end
