defmodule SafePort.System.GrowthTest do
  use SafePort.Test.Tree, async: true

  test "the guardian grows neither with programs nor with trees, and keeps no zombie", %{tag: tag} do
    %{result: result, output: output} =
      in_vm_with_tree tag do
        SafePort.close(tree.port)
        await_ended(tree)
        guardian = SafePort.Core.Native.guardian_pid()

        round = fn ->
          for _tree <- 1..2, do: tag |> grow() |> tap(&SafePort.close(&1.port)) |> await_ended()

          for _program <- 1..300 do
            port = SafePort.open({:spawn_executable, "/bin/true"}, [:exit_status, env: [Proc.tag_entry(tag)]])
            receive do: ({:EXIT, ^port, :normal} -> :ok)
          end
        end

        measure = fn ->
          Proc.wait_until("it has no child", fn -> Proc.filter(&(&1.ppid == guardian)) == [] end)
          [kib, "kB"] = guardian |> Proc.status("RssAnon") |> String.split()
          {guardian |> Proc.descriptors() |> Enum.sort(), String.to_integer(kib)}
        end

        round.()
        before = measure.()
        for _round <- 1..3, do: round.()
        {before, measure.()}
      end

    assert {{descriptors, before}, {descriptors, later}} = result, output

    # Another thread takes 80. The requests of 900 programs, or their environments, would take more than 1,000.
    assert later - before < 256
  end
end
