defmodule SafePort.System.ProgramEndsTest do
  use SafePort.Test.Tree, async: true

  test "the descendants of a program that ended by itself end too", %{tag: tag} do
    tree = grow(tag, [:exit_status], leader: :obeys)
    SafePort.command(tree.port, "go\n")
    assert trace(tree.port) == [{:exit_status, 7}, {:EXIT, :normal}]
    await_ended(tree)
  end

  test "the descendants of a program that was killed end too", %{tag: tag} do
    tree = grow(tag, [:exit_status])
    assert SafePort.signal(tree.port, :sigkill, to: :leader) == :ok
    assert trace(tree.port) == [{:exit_status, 137}, {:EXIT, :normal}]
    await_ended(tree)
  end

  test "with orphans: :leave the descendants of a program that ended by itself run on", %{tag: tag} do
    tree = grow(tag, [:exit_status, orphans: :leave], leader: :obeys)
    SafePort.command(tree.port, "go\n")
    assert trace(tree.port) == [{:exit_status, 7}, {:EXIT, :normal}]
    # Another tree has its whole ending, so that there was time for this one's.
    await_ended(tap(grow(tag), &SafePort.close(&1.port)))
    assert length(living(tree)) == 4
    Enum.each(living(tree), &Proc.signal(&1, "KILL"))
    await_ended(tree)
  end

  test "with orphans: :leave the whole tree of a program that has to be ended ends", %{tag: tag} do
    tree = grow(tag, orphans: :leave)
    SafePort.close(tree.port)
    await_ended(tree)
  end
end
