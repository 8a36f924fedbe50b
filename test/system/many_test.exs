defmodule SafePort.System.ManyTest do
  use SafePort.Test.Tree, async: false

  @ports 2_000

  @moduletag timeout: 120_000

  test "nothing of #{@ports} ports is left when the VM is killed", %{tag: tag} do
    # Each port takes two descriptors.
    shell = "ulimit -c 0; ulimit -n $(ulimit -H -n)"

    outcome =
      in_vm_with_tree tag, shell: shell, bind: [ports: @ports] do
        options = [args: ["900"], env: [Proc.tag_entry(tag)]]
        for _port <- 1..ports, do: SafePort.open({:spawn_executable, "/bin/sleep"}, options)
        # And the tree.
        true = length(SafePort.list()) == ports + 1
        Proc.signal(Proc.vm(), "KILL")
        receive do: (:never -> :ok)
      end

    assert outcome.status == 137
    Proc.assert_none_tagged(tag)
  end
end
