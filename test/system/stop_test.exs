defmodule SafePort.System.StopTest do
  use SafePort.Test.Tree, async: true

  test "the whole tree ends with :init.stop/1", %{tag: tag} do
    outcome =
      in_vm_with_tree tag do
        :init.stop(5)
        receive do: (:never -> :ok)
      end

    assert outcome.status == 5
  end
end
