defmodule SafePort.Test.Differential do
  @moduledoc """
  Runs random sequences of operations with `Port` and `SafePort` and compares what can be seen.

  `bin/differential COUNT [SEED]` runs many of them; a sequence that makes a difference is made as small as possible and
  printed with its seed.
  """

  alias SafePort.Test.Differential.{Sequence, World}

  @doc "For `bin/differential`: runs as many sequences as the arguments say, and exits with 1 if one makes a difference."
  @spec main([String.t()]) :: no_return()
  def main(arguments) do
    {count, seed} =
      case Enum.map(arguments, &Integer.parse/1) do
        [{count, ""}] when count > 0 -> {count, :erlang.phash2(make_ref(), 1_000_000)}
        [{count, ""}, {seed, ""}] when count > 0 -> {count, seed}
        _other -> usage(arguments)
      end

    # Port logs wrong data.
    Logger.configure(level: :none)
    IO.puts("#{count} sequences with seed #{seed}")

    case run(Port, SafePort, count, seed) do
      :ok ->
        IO.puts("No difference.")
        System.halt(0)

      {:different, difference} ->
        IO.puts(report(difference))
        System.halt(1)
    end
  end

  @spec usage([String.t()]) :: no_return()
  defp usage(arguments) do
    IO.puts(
      :stderr,
      "usage: bin/differential COUNT [SEED], both integers, COUNT at least 1; got: #{Enum.join(arguments, " ")}"
    )

    System.halt(2)
  end

  @typedoc "A sequence, made small, and what was seen of it."
  @type difference :: %{
          seed: integer(),
          number: pos_integer(),
          sequence: Sequence.t(),
          expected: {module(), map()},
          seen: {module(), map()}
        }

  @doc """
  Compares two modules over `count` sequences; returns the first difference, if there is one.
  """
  @spec run(module(), module(), pos_integer(), integer()) :: :ok | {:different, difference()}
  def run(reference, subject, count, seed) do
    1..count
    |> Task.async_stream(
      fn number -> {number, compare(reference, subject, Sequence.generate(seed, number))} end,
      timeout: :infinity,
      max_concurrency: 2 * System.schedulers_online()
    )
    |> Enum.find_value(:ok, fn
      {:ok, {_number, :same}} ->
        nil

      {:ok, {number, difference}} ->
        {sequence, expected, seen} = shrink(reference, subject, difference)
        seen = {subject, seen}

        {:different,
         %{seed: seed, number: number, sequence: sequence, expected: {reference, expected}, seen: seen}}
    end)
  end

  @again 3

  # What the reference does may be a matter of chance: anything that it does is right.
  defp compare(reference, subject, sequence) do
    expected = World.run(reference, sequence)
    seen = World.run(subject, sequence, expected)

    cond do
      failed?(seen) -> {sequence, expected, seen}
      seen == expected -> :same
      Enum.any?(1..@again, fn _turn -> World.run(reference, sequence) == seen end) -> :same
      true -> {sequence, expected, seen}
    end
  end

  defp failed?(seen), do: match?(%{results: [{:failed, _reason}]}, seen)

  # Goes on with the first smaller sequence that makes a difference, until none does.
  defp shrink(reference, subject, {sequence, _expected, _seen} = difference) do
    sequence
    |> Sequence.smaller()
    |> Enum.find_value(difference, fn smaller ->
      case compare(reference, subject, smaller) do
        :same -> nil
        smaller_difference -> shrink(reference, subject, smaller_difference)
      end
    end)
  end

  @doc "A difference, for people to read."
  @spec report(difference()) :: String.t()
  def report(%{seed: seed, number: number, sequence: sequence, expected: expected, seen: seen}) do
    """
    Sequence #{number} of seed #{seed} makes a difference. The smallest form of it:

    #{show(sequence)}

    #{show(expected)}

    #{show(seen)}
    """
  end

  defp show(term), do: inspect(term, pretty: true, limit: :infinity, printable_limit: 200)
end
