defmodule SafePort.System.GuardianAndVmKilledTest do
  use SafePort.Test.Tree, async: true

  for {first, second} <- [{"the guardian", "the VM"}, {"the VM", "the guardian"}] do
    test "the whole tree ends when #{first} and #{second} are killed together", %{tag: tag} do
      outcome =
        in_vm_with_tree tag, bind: [first: unquote(first)] do
          os_pids = [SafePort.Core.Native.guardian_pid(), Proc.vm()]
          os_pids = if first == "the VM", do: Enum.reverse(os_pids), else: os_pids
          System.cmd("/bin/sh", ["-c", "kill -KILL #{Enum.join(os_pids, " ")}"])
          receive do: (:never -> :ok)
        end

      assert outcome.status == 137
    end
  end
end
