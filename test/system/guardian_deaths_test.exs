defmodule SafePort.System.GuardianDeathsTest do
  use SafePort.Test.Tree, async: true

  @deaths 20

  test "#{@deaths} deaths of the guardian under load end its ports, and nothing else", %{tag: tag} do
    %{result: result, output: output} =
      in_vm_with_tree tag, bind: [deaths: @deaths] do
        options = [:binary, env: [Proc.tag_entry(tag)]]

        take = fn port ->
          receive do
            {^port, {kind, value}} -> {kind, value}
            {:EXIT, ^port, reason} -> {:EXIT, reason}
          end
        end

        # What only the built-in looks after: one that is to live on, and one that kills and says so.
        bystander = Port.open({:spawn, "cat"}, [:binary])
        script = "while read os_pid; do kill -KILL $os_pid; echo; done"
        killer = Port.open({:spawn_executable, "/bin/sh"}, [:binary, args: ["-c", script]])

        # Ports that come and go. What became of each is a whole life, or the guardian's death.
        live = fn live, lives ->
          try do
            port = SafePort.open({:spawn, "sh -c 'exit 5'"}, [:exit_status | options])

            case take.(port) do
              {:exit_status, 5} -> {:EXIT, :normal} = take.(port)
              {:EXIT, reason} -> :guardian_down = reason
            end
          rescue
            error in ErlangError -> :guardian_down = error.original
          end

          receive do
            {:stop, from} -> send(from, {:lives, lives})
          after
            0 -> live.(live, lives + 1)
          end
        end

        start = fn ->
          Process.flag(:trap_exit, true)
          live.(live, 1)
        end

        workers = for _worker <- 1..4, do: spawn_monitor(start)

        reasons =
          for _death <- 1..deaths do
            # They write nothing and tell nothing: their end is seen by their output's end.
            quiet = for _port <- 1..3, do: SafePort.open({:spawn, "cat"}, options)
            writing = SafePort.open({:spawn, "sleep 900"}, options)
            spawn(fn -> for _write <- 1..10, do: SafePort.command(writing, :binary.copy("x", 100_000)) end)
            Port.command(killer, "#{SafePort.Core.Native.guardian_pid()}\n")
            {:data, "\n"} = take.(killer)
            # Not a moment later.
            next = SafePort.open({:spawn, "echo on"}, options)
            {:data, "on\n"} = take.(next)
            {:EXIT, :normal} = take.(next)
            for port <- [writing | quiet], do: take.(port)
          end

        lives =
          for {worker, monitor} <- workers do
            send(worker, {:stop, self()})

            receive do
              {:lives, lives} -> lives
              {:DOWN, ^monitor, :process, ^worker, reason} -> exit(reason)
            end
          end

        Port.command(bystander, "still here")
        {:data, "still here"} = take.(bystander)
        {reasons |> List.flatten() |> Enum.frequencies(), Enum.min(lives) > 0, SafePort.list()}
      end

    assert result == {%{{:EXIT, :guardian_down} => 4 * @deaths}, true, []}, output
  end
end
