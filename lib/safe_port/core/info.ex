defmodule SafePort.Core.Info do
  @moduledoc false
  # What `SafePort.info/2` tells about a port (contract Q1 and Q2), gathered in the port process.

  alias SafePort.Core.Native

  @doc """
  The values of `items`, in their order. `asker` monitors the port only to ask.
  """
  @spec items([atom()], map(), pid()) :: keyword()
  def items(items, state, asker), do: Enum.map(items, &{&1, item(&1, Map.put(state, :asker, asker))})

  # What the driver of a port tells.
  defp item(item, %{figures: figures}) when is_map_key(figures, item), do: Map.fetch!(figures, item)
  defp item(:name, state), do: :erlang.binary_to_list(state.name)
  defp item(:id, _state), do: id()
  defp item(:connected, state), do: state.owner
  defp item(:input, state), do: state.handle |> Native.counters() |> elem(0)
  defp item(:output, state), do: state.handle |> Native.counters() |> elem(1)
  defp item(:os_pid, state), do: state.os_pid
  defp item(:monitors, _state), do: []
  defp item(:queue_size, state), do: state.flow.queued
  defp item(:parallelism, state), do: state.parallelism
  defp item(:locking, _state), do: :port_level
  defp item(:memory, _state), do: own(:memory)
  # Process.info/2 answers [] for a process without a name.
  defp item(:registered_name, _state),
    do: with({:registered_name, name} <- Process.info(self(), :registered_name), do: name)

  defp item(:links, _state), do: :links |> own() |> Enum.filter(&is_pid/1)

  defp item(:monitored_by, state),
    do: :monitored_by |> own() |> Enum.filter(&is_pid/1) |> List.delete(state.asker)

  defp own(item), do: self() |> Process.info(item) |> elem(1)

  # The numbers in the pid, unique among the processes of this VM.
  defp id do
    [_node, number, serial] =
      self() |> :erlang.pid_to_list() |> List.to_string() |> String.split([".", ">"], trim: true)

    String.to_integer(serial) * 0x1000_0000 + String.to_integer(number)
  end
end
