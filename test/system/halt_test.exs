defmodule SafePort.System.HaltTest do
  use SafePort.Test.Tree, async: true

  test "the whole tree ends with System.halt/1", %{tag: tag} do
    assert %{status: 3} = in_vm_with_tree(tag, do: System.halt(3))
  end

  test "the whole tree ends with a halt that flushes nothing", %{tag: tag} do
    assert %{status: 4} = in_vm_with_tree(tag, do: :erlang.halt(4, flush: false))
  end
end
