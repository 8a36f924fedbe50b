defmodule SafePort.System.CloseTest do
  use SafePort.Test.Tree, async: true

  test "close/1 ends the whole tree", %{tag: tag} do
    tree = grow(tag)
    assert SafePort.close(tree.port)
    assert_exit(tree.port, :normal)
    await_ended(tree)
  end

  test "a queue that the program does not read delays the ending of its tree, and does not prevent it", %{
    tag: tag
  } do
    tree = grow(tag)
    assert SafePort.command(tree.port, :binary.copy("x", 1_000_000))
    assert SafePort.close(tree.port)
    await_ended(tree)
  end
end
