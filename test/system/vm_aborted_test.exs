defmodule SafePort.System.VmAbortedTest do
  use SafePort.Test.Tree, async: true

  test "the whole tree ends when the VM is killed with SIGABRT", %{tag: tag} do
    outcome =
      in_vm_with_tree tag do
        Proc.signal(Proc.vm(), "ABRT")
        receive do: (:never -> :ok)
      end

    assert outcome.status == 128 + 6
  end

  test "the whole tree ends when the VM aborts", %{tag: tag} do
    assert %{status: 134} = in_vm_with_tree(tag, do: :erlang.halt(:abort))
  end
end
