defmodule SafePort.House.ArchitectureTest do
  # Who may call whom: the arrows of docs/architecture.md, held against what the compiled modules import.
  use ExUnit.Case, async: true

  alias SafePort.Core.{Client, DriverHost, DriverServer, DriverThread}
  alias SafePort.Core.{Environment, Flow, Guardian, Info, Limbo, Native, Options, Server, Signal, Text}

  # Only downwards. What is not here may call none of ours.
  @arrows %{
    SafePort => [Client, DriverServer, Native, Options, Server],
    SafePort.Driver => [Native],
    Client => [Native, Options, Signal],
    DriverHost => [Native, Options, Server, Signal],
    DriverServer => [Info, Native],
    DriverThread => [Native],
    Environment => [Text],
    Guardian => [Native],
    Info => [Native],
    Limbo => [Flow, Native],
    Options => [Environment, Native, Text],
    Server => [Environment, Flow, Info, Limbo, Native, Signal]
  }

  test "the compiled modules call each other along the arrows only" do
    assert for({module, callee} <- calls(), not allowed?(module, callee), do: {module, callee}) == []
  end

  test "every arrow is there because somebody needs it" do
    calls = calls()

    unused =
      for {module, callees} <- @arrows, callee <- callees, {module, callee} not in calls, do: {module, callee}

    assert unused == []
  end

  # What stands above SafePort uses what everybody can use.
  defp allowed?(module, callee) do
    callee in Map.get(@arrows, module, []) or
      (front_end?(module) and (callee == SafePort or front_end?(callee)))
  end

  defp front_end?(module), do: match?([_, _ | _], Module.split(module)) and not core?(module)
  defp core?(module), do: match?(["SafePort", "Core" | _], Module.split(module))

  defp calls do
    modules = for module <- Application.spec(:safe_port, :modules), not test?(module), do: module

    for module <- modules,
        callee <- imports(module),
        callee in modules,
        callee != module,
        do: {module, callee}
  end

  defp test?(module), do: match?(["SafePort", "Test" | _], Module.split(module))

  defp imports(module) do
    {:ok, {_module, [imports: imports]}} = :beam_lib.chunks(:code.which(module), [:imports])
    imports |> Enum.map(fn {callee, _function, _arity} -> callee end) |> Enum.uniq()
  end
end
