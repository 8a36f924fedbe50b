defmodule SafePort.System.VmKilledTest do
  use SafePort.Test.Tree, async: true

  test "the whole tree ends when the VM is killed with SIGKILL", %{tag: tag} do
    outcome =
      in_vm_with_tree tag do
        Proc.signal(Proc.vm(), "KILL")
        receive do: (:never -> :ok)
      end

    assert outcome.status == 128 + 9
  end
end
