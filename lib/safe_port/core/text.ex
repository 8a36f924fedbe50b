defmodule SafePort.Core.Text do
  @moduledoc false
  # The bytes of names as the system gets them: binaries as they are, atoms by their name, charlists in the encoding of
  # file names (contract O7 to O9).

  @doc """
  The bytes of `value`, or `empty` for the empty list; raises `ArgumentError` saying what `what` must be.
  """
  @spec bytes!(term(), String.t(), binary() | nil) :: binary()
  def bytes!(value, what, empty \\ nil)
  def bytes!([], _what, empty) when is_binary(empty), do: empty

  def bytes!(value, what, _empty)
      when is_binary(value) or is_atom(value) or (is_list(value) and value != []) do
    text = bytes(value)

    cond do
      text == nil ->
        malformed!(what, value)

      :binary.match(text, <<0>>) != :nomatch ->
        raise ArgumentError, "#{what} must not contain NUL, got: #{inspect(value)}"

      true ->
        text
    end
  end

  def bytes!(value, what, _empty), do: malformed!(what, value)

  defp bytes(value) when is_binary(value), do: value
  defp bytes(value) when is_atom(value), do: Atom.to_string(value)

  defp bytes(value) do
    with true <- characters?(value),
         text when is_binary(text) <-
           :unicode.characters_to_binary(value, :unicode, :file.native_name_encoding()) do
      text
    else
      _malformed -> nil
    end
  end

  # A list that holds a binary is refused, though iodata and chardata would allow it.
  defp characters?([head | tail]), do: characters?(head) and characters?(tail)
  defp characters?([]), do: true
  defp characters?(other), do: is_integer(other)

  @spec malformed!(String.t(), term()) :: no_return()
  defp malformed!(what, value) do
    raise ArgumentError, "#{what} must be a binary, an atom or a list of characters, got: #{inspect(value)}"
  end
end
