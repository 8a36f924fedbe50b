defmodule SafePort.System.GuardianKilledTest do
  use SafePort.Test.Tree, async: true

  test "the whole tree ends when the guardian is killed, and the VM goes on", %{tag: tag} do
    %{result: result, output: output} =
      in_vm_with_tree tag do
        Proc.signal(SafePort.Core.Native.guardian_pid(), "KILL")

        reason =
          receive do
            {:EXIT, port, reason} when port == tree.port -> reason
          end

        await_ended(tree)
        next = grow(tag)
        SafePort.close(next.port)
        await_ended(next)
        reason
      end

    assert result == :guardian_down, output
  end
end
