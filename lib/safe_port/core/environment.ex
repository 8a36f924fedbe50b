defmodule SafePort.Core.Environment do
  @moduledoc false
  # The environment of a program: the VM's own at the moment of the open, changed by the `:env` option.

  alias SafePort.Core.Text

  @type change :: {name :: binary(), value :: binary() | false}

  @doc """
  Checks the value of `:env` (contract P12 to P14; binaries are our extension).
  """
  @spec changes!(term()) :: [change()]
  def changes!(env), do: changes!(env, env)

  defp changes!([{name, value} | rest], all), do: [{name!(name), value!(value)} | changes!(rest, all)]
  defp changes!([], _all), do: []

  defp changes!(_other, all) do
    raise ArgumentError, "option :env must be a proper list of {name, value} tuples, got: #{inspect(all)}"
  end

  defp name!(name) when is_binary(name) or is_list(name) do
    text = Text.bytes!(name, "a name in option :env", "")

    if :binary.match(text, "=") != :nomatch do
      raise ArgumentError, "a name in option :env must not contain =, got: #{inspect(name)}"
    end

    text
  end

  defp name!(other) do
    raise ArgumentError, "a name in option :env must be a binary or a charlist, got: #{inspect(other)}"
  end

  defp value!(value) when value in [false, []], do: false

  defp value!(value) when is_binary(value) or is_list(value),
    do: Text.bytes!(value, "a value in option :env")

  defp value!(other) do
    raise ArgumentError,
          "a value in option :env must be a binary, a charlist or false, got: #{inspect(other)}"
  end

  @doc """
  The whole environment as one block: each `NAME=value` followed by a NUL.
  """
  @spec block([change()]) :: binary()
  def block(changes) do
    encoding = :file.native_name_encoding()
    encode = &:unicode.characters_to_binary(&1, :unicode, encoding)

    case changes do
      [] ->
        encode.(for {name, value} <- :os.env(), do: [name, ?=, value, 0])

      changes ->
        current = for {name, value} <- :os.env(), into: %{}, do: {encode.(name), encode.(value)}
        changed = Enum.reduce(changes, current, &apply_change/2)
        for {name, value} <- changed, into: "", do: <<name::binary, ?=, value::binary, 0>>
    end
  end

  defp apply_change({name, false}, env), do: Map.delete(env, name)
  defp apply_change({name, value}, env), do: Map.put(env, name, value)
end
