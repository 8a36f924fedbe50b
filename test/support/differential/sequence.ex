defmodule SafePort.Test.Differential.Sequence do
  @moduledoc """
  Random sequences of what can be done with a port, the same for the same seed.

  A sequence has a program with its options, and operations, each by one of three actors: `:a`, which opens the port,
  `:b` and `:c`. The programs are

    * `:echo` - sends back what it gets
    * `{:talk, text, status}` - waits for a line, which only the operation `:trigger` sends, says `text` and ends
    * `:deaf` - has closed its standard input
  """

  @enforce_keys [:program, :options, :trapping, :operations]
  defstruct [:program, :options, :trapping, :operations]

  @type actor :: :a | :b | :c
  @type t :: %__MODULE__{
          program: :echo | :deaf | {:talk, binary(), 0..255},
          options: list(),
          trapping: [actor()],
          operations: [tuple()]
        }

  @bytes [?a, ?b, ?c, ?\n, ?\n, ?\r, 0, 255]
  @info [
    :all,
    :name,
    :connected,
    :links,
    :input,
    :output,
    :registered_name,
    :monitored_by,
    :queue_size,
    :nonsense
  ]

  @doc "All actors."
  @spec actors() :: [actor()]
  def actors, do: [:a, :b, :c]

  @doc "The sequence with this number, of those that belong to `seed`."
  @spec generate(integer(), non_neg_integer()) :: t()
  def generate(seed, number) do
    :rand.seed(:exsss, seed * 1_000_003 + number)
    kind = pick([:echo, :echo, :echo, :talk, :talk, :deaf])
    options = options(kind)

    %__MODULE__{
      program: if(kind == :talk, do: {:talk, talk(options), pick([0, 0, 1, 3, 255])}, else: kind),
      options: options,
      trapping: Enum.filter([:a, :a, :b, :c], fn _actor -> chance(1, 2) end),
      operations: named(for(_number <- 1..uniform(12), do: operation(kind, options)))
    }
  end

  # A name is of little use unless it is given soon.
  defp named(operations), do: if(chance(1, 2), do: [{:register, actor()} | operations], else: operations)

  @doc "Smaller sequences, those that leave out most first."
  @spec smaller(t()) :: [t()]
  def smaller(%{operations: operations, options: options} = sequence) do
    for(fewer <- halves(operations) ++ without_one(operations), do: %{sequence | operations: fewer}) ++
      for(fewer <- without_one(options), do: %{sequence | options: fewer})
  end

  defp halves(list) when length(list) < 4, do: []
  defp halves(list), do: list |> Enum.split(div(length(list), 2)) |> Tuple.to_list()

  defp without_one([]), do: []
  defp without_one(list), do: for(index <- 0..(length(list) - 1), do: List.delete_at(list, index))

  ## The program

  defp options(kind) do
    framings = [[], [], [line: pick([1, 5, 80])], [:line]]
    # The deaf one says in a line that it does not listen.
    framings = if kind == :deaf, do: framings, else: framings ++ [[packet: 1], [packet: 2], [packet: 4]]
    flags = Enum.filter([:binary, :exit_status, :eof, :stderr_to_stdout], fn _flag -> chance(1, 2) end)
    Enum.shuffle(flags ++ pick(framings))
  end

  # Packets, the last one perhaps cut off, or any bytes.
  defp talk(options) do
    case packet(options) do
      nil ->
        bytes(uniform(30) - 1)

      size ->
        bodies = for _packet <- 1..uniform(4), do: bytes(uniform(9) - 1)
        text = for body <- bodies, into: "", do: <<byte_size(body)::size(size)-unit(8), body::binary>>
        if chance(1, 4), do: binary_part(text, 0, byte_size(text) - 1), else: text
    end
  end

  ## Operations

  defp operation(:talk, options) do
    if chance(1, 5),
      do: {:trigger, actor(), at()},
      else: without_lines(operation(uniform(27), :talk, options))
  end

  defp operation(kind, options), do: operation(uniform(27), kind, options)

  defp operation(number, kind, options) when number <= 4,
    do: {:command, actor(), at(), data(kind, options), pick([[], [], [:nosuspend], [:force], [:other]])}

  defp operation(number, kind, options) when number <= 8,
    do: {:send, actor(), at(), {actor(), {:command, data(kind, options)}}}

  defp operation(9, _kind, _options), do: {:burst, actor(), at(), for(_part <- 1..uniform(6), do: part())}
  defp operation(10, _kind, _options), do: {:connect, actor(), at(), actor()}
  defp operation(11, _kind, _options), do: {:send, actor(), at(), {actor(), {:connect, actor()}}}
  defp operation(12, _kind, _options), do: {:close, actor(), at()}
  defp operation(13, _kind, _options), do: {:send, actor(), at(), {actor(), :close}}
  defp operation(14, _kind, _options), do: {:link, actor()}
  defp operation(15, _kind, _options), do: {:unlink, actor()}
  defp operation(16, _kind, _options), do: {:monitor, actor(), at()}

  defp operation(17, _kind, _options),
    do: {:demonitor, actor(), pick([[], [:flush], [:info], [:flush, :info]])}

  defp operation(18, _kind, _options), do: {:exit, actor(), pick([:normal, :oops, :shutdown, :kill, {:a, 1}])}
  defp operation(19, _kind, _options), do: {:stop, actor(), pick([:normal, :oops, :shutdown, :kill])}
  defp operation(20, _kind, _options), do: {:register, actor()}
  defp operation(21, _kind, _options), do: {:unregister, actor()}
  defp operation(22, _kind, _options), do: {:send, actor(), at(), garbage()}

  defp operation(23, _kind, _options),
    do: {:command, actor(), at(), pick([:atom, [256], [-1], ["a" | :b], 7, {}]), []}

  defp operation(_number, _kind, _options), do: {:info, actor(), at(), pick(@info)}

  defp part, do: {pick([:call, :message]), bytes(uniform(5))}

  defp garbage do
    pick([
      :garbage,
      {:close},
      {1, :close},
      {actor(), :other},
      # A forged exit signal is left out: SafePort cannot tell it from a true one (clause M2).
      {actor(), {:command, [:a]}}
    ])
  end

  defp data(kind, options) do
    case uniform(14) do
      14 -> :binary.copy(bytes(1), pick([255, 256]))
      # Only what is read leaves the queue empty.
      13 when kind == :echo -> :binary.copy(bytes(1), 70_000)
      # That an empty packet has come back cannot be told from the counters.
      12 -> if(packet(options), do: bytes(1), else: "")
      11 -> [bytes(2), [?x, [bytes(1)]], []]
      _number -> bytes(uniform(8))
    end
  end

  # So that nothing but the trigger makes the program go on. No length of a packet holds a newline either.
  defp without_lines(term) when is_binary(term), do: String.replace(term, "\n", "n")
  defp without_lines([head | tail]), do: [without_lines(head) | without_lines(tail)]

  defp without_lines(tuple) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> without_lines() |> List.to_tuple()

  defp without_lines(term), do: term

  defp bytes(0), do: ""
  defp bytes(count), do: for(_byte <- 1..count, into: "", do: <<pick(@bytes)>>)

  defp actor, do: pick([:a, :a, :b, :c])
  defp at, do: pick([:port, :port, :port, :port, :name])

  ## Chance

  defp chance(part, whole), do: uniform(whole) <= part
  defp pick(list), do: Enum.at(list, uniform(length(list)) - 1)
  defp uniform(most), do: :rand.uniform(most)

  defp packet(options), do: Enum.find_value(options, &if(match?({:packet, _}, &1), do: elem(&1, 1)))
end
