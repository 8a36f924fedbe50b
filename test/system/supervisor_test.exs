defmodule SafePort.System.SupervisorTest do
  use SafePort.Test.Tree, async: true

  defp start_owner(shutdown, tag) do
    test = self()

    owner = fn ->
      send(test, grow(tag))
      receive do: (:never -> :ok)
    end

    child = %{id: :owner, start: {Task, :start_link, [owner]}, shutdown: shutdown}
    {:ok, supervisor} = Supervisor.start_link([child], strategy: :one_for_one)
    assert_receive %SafePort.Test.Tree{} = tree, 10_000
    {supervisor, tree}
  end

  for shutdown <- [5_000, :brutal_kill] do
    test "the whole tree ends when a supervisor shuts the owner down, shutdown: #{inspect(shutdown)}", %{
      tag: tag
    } do
      {supervisor, tree} = start_owner(unquote(shutdown), tag)
      :ok = Supervisor.stop(supervisor)
      await_ended(tree)
    end
  end

  test "the whole tree ends when the application stops", %{tag: tag} do
    %{result: result} =
      in_vm_with_tree tag do
        :ok = Application.stop(:safe_port)

        receive do
          {:EXIT, port, reason} when port == tree.port -> reason
        end
      end

    assert result == :shutdown
  end
end
