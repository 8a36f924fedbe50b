defmodule SafePort.Test.Clauses do
  @moduledoc """
  All clauses of what the built-in ports do, and what the conformance tests say about them.

  `MIX_ENV=test mix run -e SafePort.Test.Clauses.print` prints how many clauses of each section are the same in
  SafePort, better on purpose, or cannot be copied.
  """

  @sections [
    {"O", 26, "open and its names"},
    {"P", 27, "options of open"},
    {"C", 17, "command"},
    {"M", 13, "messages"},
    {"L", 15, "links, owners, monitors, exit signals"},
    {"E", 12, "the end of the program"},
    {"I", 8, "framing of input"},
    {"K", 9, "closing"},
    {"Q", 8, "info and names"},
    {"S", 9, "the program's surroundings"}
  ]

  # From harmless to grave: a clause is in the last state that a test of it is in.
  @states [:same, :better, :cannot]

  @type state :: :same | :better | :cannot

  @doc "The ids of all clauses."
  @spec all() :: [String.t()]
  def all, do: for({letter, count, _title} <- @sections, number <- 1..count, do: "#{letter}#{number}")

  @doc "The tests in the folder of the conformance tests: clause, state and sentence of each."
  @spec tests() :: [{String.t(), state(), String.t()}]
  def tests do
    [File.cwd!(), "test", "conformance", "*_test.exs"]
    |> Path.join()
    |> Path.wildcard()
    |> Enum.flat_map(&tests/1)
  end

  defp tests(file) do
    {_ast, tests} =
      file
      |> File.read!()
      |> Code.string_to_quoted!(file: file)
      |> Macro.prewalk([], fn
        {state, _meta, [clause, sentence, _subject, [do: _body]]} = node, tests when state in @states ->
          {node, [{clause, state, sentence} | tests]}

        node, tests ->
          {node, tests}
      end)

    Enum.reverse(tests)
  end

  @doc "The state of each clause that has a test."
  @spec states() :: %{String.t() => state()}
  def states do
    Enum.reduce(tests(), %{}, fn {clause, state, _sentence}, states ->
      Map.update(states, clause, state, &Enum.max_by([&1, state], fn state -> rank(state) end))
    end)
  end

  defp rank(state), do: Enum.find_index(@states, &(&1 == state))

  @doc "Prints the number of clauses and tests per section."
  @spec print() :: :ok
  def print do
    states = states()
    tests = tests()
    IO.puts(row(["section", "same", "better", "cannot", "tests of each module"]))

    for {letter, count, title} <- @sections do
      ids = for number <- 1..count, do: "#{letter}#{number}"
      IO.puts(row(["#{letter} #{title}" | counts(ids, states, tests)]))
    end

    IO.puts(row(["all" | counts(all(), states, tests)]))
  end

  defp counts(ids, states, tests) do
    for(state <- @states, do: Enum.count(ids, &(states[&1] == state))) ++
      [Enum.count(tests, fn {clause, _state, _sentence} -> clause in ids end)]
  end

  defp row([title | columns]) do
    String.pad_trailing(title, 42) <> Enum.map_join(columns, "  ", &String.pad_leading(to_string(&1), 6))
  end
end
