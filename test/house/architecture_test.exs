defmodule SafePort.House.ArchitectureTest do
  # Who may know whom: the arrows of docs/architecture.md, held against the code of the compiled modules. Any mention
  # counts: a call, a struct, a type, a behaviour, a module that is passed on.
  use ExUnit.Case, async: true

  alias SafePort.Core.{
    Client,
    Delivery,
    DriverBackend,
    DriverHost,
    DriverServer,
    DriverThread,
    Environment,
    Flow
  }

  alias SafePort.Core.{Guardian, Info, Limbo, Native, Opening, Options, Server, Signal, Text}

  # Only downwards. What is not here may know none of ours, or is a front end.
  @arrows %{
    SafePort => [Client, DriverServer, Native, Opening, Options],
    SafePort.Application => [Guardian],
    SafePort.Driver => [Native],
    Client => [DriverServer, Flow, Native, Opening, Options, Signal],
    DriverServer => [DriverHost, DriverThread, Info, Native, Opening, Options],
    DriverHost => [DriverBackend, Native, Opening, Options, Signal],
    DriverThread => [DriverBackend, Native],
    DriverBackend => [Native, Options],
    Opening => [Environment, Native, Options, Server],
    Server => [Delivery, Flow, Info, Limbo, Native, Options, Signal],
    Delivery => [Flow],
    Limbo => [Flow, Native],
    Info => [Native],
    Options => [Environment, Native, Text],
    Environment => [Text],
    Guardian => [Native]
  }

  test "modules know each other along the arrows only" do
    assert Enum.reject(mentions(), &allowed?/1) == []
  end

  test "every arrow is there because somebody needs it" do
    assert for({module, others} <- @arrows, other <- others, do: {module, other}) -- mentions() == []
  end

  defp allowed?({module, other}) do
    case @arrows do
      %{^module => others} -> other in others
      # A front end uses what everybody can use.
      _front_end -> not core?(module) and not core?(other)
    end
  end

  defp core?(module), do: match?(["SafePort", "Core" | _], Module.split(module))

  defp mentions do
    modules = for module <- Application.spec(:safe_port, :modules), not test?(module), do: module
    for module <- modules, other <- atoms(module), other in modules, other != module, do: {module, other}
  end

  defp test?(module), do: match?(["SafePort", "Test" | _], Module.split(module))

  defp atoms(module) do
    {:ok, {^module, [abstract_code: {_version, forms}]}} =
      :beam_lib.chunks(:code.which(module), [:abstract_code])

    forms |> collect([]) |> Enum.uniq()
  end

  defp collect(atom, acc) when is_atom(atom), do: [atom | acc]
  defp collect([head | tail], acc), do: collect(tail, collect(head, acc))
  defp collect(tuple, acc) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> collect(acc)
  defp collect(map, acc) when is_map(map), do: map |> Map.to_list() |> collect(acc)
  defp collect(_other, acc), do: acc
end
