defmodule SafePort.System.CloseMessageTest do
  use SafePort.Test.Tree, async: true

  test "the close message ends the whole tree", %{tag: tag} do
    tree = grow(tag)
    port = tree.port
    send(port, {self(), :close})
    assert_receive {^port, :closed}, 10_000
    await_ended(tree)
  end
end
