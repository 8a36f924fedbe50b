defmodule SafePort.System.OwnerExitsTest do
  use SafePort.Test.Tree, async: true

  for {how, reason} <- [{"ends normally", :normal}, {"crashes", :crash}, {"is killed", :kill}] do
    test "the whole tree ends when the owner #{how}", %{tag: tag} do
      owner = Actor.start()
      tree = Actor.run(owner, fn -> grow(tag) end)
      monitor = SafePort.monitor(tree.port)
      Actor.stop(owner, unquote(reason))
      assert await_down(monitor) == unquote(if reason == :kill, do: :killed, else: reason)
      await_ended(tree)
    end
  end
end
