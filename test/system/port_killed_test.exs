defmodule SafePort.System.PortKilledTest do
  use SafePort.Test.Tree, async: true

  test "the whole tree ends when the port process is killed", %{tag: tag} do
    tree = grow(tag)
    Process.exit(tree.port, :kill)
    assert_exit(tree.port, :killed)
    await_ended(tree)
  end
end
