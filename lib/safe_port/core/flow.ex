defmodule SafePort.Core.Flow do
  @moduledoc false
  # Flow control as a value: how many packets the owner still wants, and what waits to be written. The port process
  # asks, then acts.

  @type active :: boolean() | :once | pos_integer()
  @type limits :: {low :: pos_integer(), high :: pos_integer()} | :disabled
  @type waiting :: {from :: {pid(), reference()}, monitor :: reference(), iovec :: [binary()]}

  @type t :: %__MODULE__{
          active: active(),
          front: [binary()],
          back: [[binary()]],
          queued: non_neg_integer(),
          limits: limits(),
          busy: boolean(),
          waiting: [waiting()]
        }

  defstruct active: true,
            # The queue: `front` is written next, the commands of `back` follow, last first.
            front: [],
            back: [],
            queued: 0,
            limits: {4096, 8192},
            busy: false,
            # Callers of command/3 that wait until the port is no longer busy.
            waiting: []

  # Binaries handed to one write: what writev(2) takes.
  @iovec_length 1024
  # "All there is": more than one read can yield.
  @unlimited 0x3FFF_FFFF

  @spec new(active(), limits()) :: t()
  def new(active, limits), do: %__MODULE__{active: active, limits: limits}

  ## Credit: packets that the owner still wants

  @spec credit(t()) :: non_neg_integer()
  def credit(%{active: true}), do: @unlimited
  def credit(%{active: :once}), do: 1
  def credit(%{active: false}), do: 0
  def credit(%{active: count}), do: count

  @doc """
  `packets` were delivered. `:passive` means that a count ran out and the owner is to be told.
  """
  @spec spend(t(), non_neg_integer()) :: {:active | :passive, t()}
  def spend(%{active: active} = flow, packets) when active in [true, false] or packets == 0,
    do: {:active, flow}

  def spend(%{active: :once} = flow, _packets), do: {:active, %{flow | active: false}}
  def spend(%{active: count} = flow, count), do: {:passive, %{flow | active: false}}
  def spend(%{active: count} = flow, packets), do: {:active, %{flow | active: count - packets}}

  @doc """
  A piece of data as a port without `:binary` delivers it.
  """
  @spec as_list(binary() | {:eol | :noeol, binary()}) :: [byte()] | {:eol | :noeol, [byte()]}
  def as_list({kind, line}), do: {kind, :erlang.binary_to_list(line)}
  def as_list(data), do: :erlang.binary_to_list(data)

  # Those of `:inet.setopts/2`.
  @counts -32_768..32_767
  @max_count 32_767

  @doc """
  Changes the mode; a count is added to one that is still running, as `:inet.setopts/2` does.
  """
  @spec activate(t(), active() | integer()) :: {:ok, :active | :passive, t()} | {:error, :einval}
  def activate(_flow, count) when is_integer(count) and count not in @counts, do: {:error, :einval}

  def activate(%{active: active} = flow, count) when is_integer(count) do
    running = if is_integer(active), do: active, else: 0

    case running + count do
      sum when sum > @max_count -> {:error, :einval}
      sum when sum <= 0 -> {:ok, :passive, %{flow | active: false}}
      sum -> {:ok, :active, %{flow | active: sum}}
    end
  end

  def activate(flow, active), do: {:ok, :active, %{flow | active: active}}

  ## The write queue, in bytes with prefixes

  @spec empty?(t()) :: boolean()
  def empty?(%{queued: queued}), do: queued == 0

  @doc """
  Queues the data of an accepted command. From the high watermark on the port is busy (contract C14).
  """
  @spec enqueue(t(), [binary()], pos_integer()) :: t()
  def enqueue(flow, iovec, bytes) do
    flow = %{flow | back: [iovec | flow.back], queued: flow.queued + bytes}
    %{flow | busy: flow.busy or full?(flow)}
  end

  @doc """
  Takes what is to be written next.
  """
  @spec take(t()) :: {[binary()], t()}
  def take(%{front: []} = flow) do
    take_front(%{flow | front: flow.back |> Enum.reverse() |> Enum.concat(), back: []})
  end

  def take(flow), do: take_front(flow)

  defp take_front(flow) do
    {iovec, front} = Enum.split(flow.front, @iovec_length)
    {iovec, %{flow | front: front}}
  end

  @doc """
  `written` bytes of what `take/1` gave were written and `rest` is left. Below the low watermark the port is free.
  """
  @spec wrote(t(), [binary()], non_neg_integer()) :: t()
  def wrote(flow, rest, written) do
    flow = %{flow | front: rest ++ flow.front, queued: flow.queued - written}
    %{flow | busy: flow.busy and not low?(flow)}
  end

  defp full?(%{limits: :disabled}), do: false
  defp full?(%{limits: {_low, high}, queued: queued}), do: queued >= high

  defp low?(%{limits: :disabled}), do: true
  defp low?(%{limits: {low, _high}, queued: queued}), do: queued < low

  ## Callers that wait

  @spec park(t(), waiting()) :: t()
  def park(flow, waiting), do: %{flow | waiting: flow.waiting ++ [waiting]}

  @doc """
  The caller to resume next, if the port is free and one waits.
  """
  @spec resume(t()) :: {waiting(), t()} | nil
  def resume(%{busy: false, waiting: [next | rest]} = flow), do: {next, %{flow | waiting: rest}}
  def resume(_flow), do: nil

  @doc """
  Forgets a caller that died while it waited.
  """
  @spec abandon(t(), monitor :: reference()) :: {:ok, t()} | :error
  def abandon(flow, monitor) do
    case Enum.split_with(flow.waiting, &(elem(&1, 1) == monitor)) do
      {[_dead], waiting} -> {:ok, %{flow | waiting: waiting}}
      {[], _waiting} -> :error
    end
  end
end
