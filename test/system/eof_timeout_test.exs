defmodule SafePort.System.EofTimeoutTest do
  use SafePort.Test.Tree, async: true

  test "with eof_timeout: :infinity a close signals nobody", %{tag: tag} do
    tree = grow(tag, eof_timeout: :infinity)
    SafePort.close(tree.port)
    # Another tree has its whole ending, so that there was time for this one's.
    await_ended(tap(grow(tag), &SafePort.close(&1.port)))
    assert living(tree) == tree.os_pids
    Enum.each(tree.os_pids, &Proc.signal(&1, "KILL"))
    await_ended(tree)
  end

  test "with eof_timeout: :infinity a closed port's tree ends with the VM", %{tag: tag} do
    outcome =
      in_vm_with_tree tag, options: [eof_timeout: :infinity] do
        SafePort.close(tree.port)
        System.halt(6)
      end

    assert outcome.status == 6
  end
end
