defmodule SafePort.House.ArchitectureTest do
  use ExUnit.Case, async: true

  # Which rooms each room may call; docs/architecture.md draws the same. What is not listed calls no room of ours.
  @arrows %{
    SafePort => [
      SafePort.Core.Client,
      SafePort.Core.DriverServer,
      SafePort.Core.Native,
      SafePort.Core.Options,
      SafePort.Core.Server
    ],
    SafePort.Application => [],
    SafePort.Core.Client => [
      SafePort.Core.Flow,
      SafePort.Core.Native,
      SafePort.Core.Options,
      SafePort.Core.Server,
      SafePort.Core.Signal
    ],
    SafePort.Core.DriverHost => [
      SafePort.Core.Native,
      SafePort.Core.Options,
      SafePort.Core.Server,
      SafePort.Core.Signal
    ],
    SafePort.Core.DriverServer => [SafePort.Core.Info, SafePort.Core.Native],
    SafePort.Core.DriverThread => [SafePort.Core.Native],
    SafePort.Core.Environment => [SafePort.Core.Text],
    SafePort.Core.Guardian => [SafePort.Core.Native],
    SafePort.Core.Info => [SafePort.Core.Native],
    SafePort.Core.Limbo => [SafePort.Core.Flow, SafePort.Core.Native],
    SafePort.Core.Options => [SafePort.Core.Environment, SafePort.Core.Native, SafePort.Core.Text],
    SafePort.Core.Server => [
      SafePort.Core.Environment,
      SafePort.Core.Flow,
      SafePort.Core.Info,
      SafePort.Core.Limbo,
      SafePort.Core.Native,
      SafePort.Core.Signal
    ],
    SafePort.Driver => [SafePort.Core.Native]
  }

  test "every room calls only the rooms it may" do
    {:ok, modules} = :application.get_key(:safe_port, :modules)
    rooms = Enum.reject(modules, &(inspect(&1) =~ "SafePort.Test"))

    wrong =
      for room <- rooms,
          called <- called(room),
          called in rooms,
          called != room,
          called not in allowed(room) do
        "#{inspect(room)} -> #{inspect(called)}"
      end

    assert wrong == []
  end

  defp allowed(room), do: Map.get(@arrows, room, [])

  defp called(room) do
    {:ok, {^room, imports: imports}} = room |> :code.which() |> :beam_lib.chunks([:imports])
    imports |> Enum.map(&elem(&1, 0)) |> Enum.uniq()
  end
end
