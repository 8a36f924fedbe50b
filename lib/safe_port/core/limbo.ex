defmodule SafePort.Core.Limbo do
  @moduledoc false
  # What is left of a port between the moment it closes, when links and monitors fire and its pid is gone, and the
  # moment its queue is flushed: a process that writes on, throws away what the program says, and then lets go.

  alias SafePort.Core.{Flow, Native}

  @enforce_keys [:handle, :flow, :patience]
  defstruct [:handle, :flow, :patience, :deadline, :tag]

  @unlimited 0x3FFF_FFFF

  @doc """
  Takes the port over from the calling port process, which then exits. `closed_to` gets `{port, :closed}` at the end.

  A program that takes nothing for `patience` ms is given up, as its tree has to end; `:infinity` waits for ever.
  """
  @spec start(Native.handle(), Flow.t(), timeout(), pid() | nil) :: :ok
  def start(handle, flow, patience, closed_to) do
    # The callers that wait learn from the death of the port process that it is closed.
    state = %__MODULE__{handle: handle, flow: %{flow | waiting: []}, patience: patience}
    {limbo, monitor} = :erlang.spawn_opt(__MODULE__, :init, [state, self(), closed_to], [:monitor])
    Native.hand_over(handle, limbo)

    # A process that is exiting counts as dead before its links and monitors learn of it: it has to be watched by then.
    receive do
      {^limbo, :watching} -> Process.demonitor(monitor, [:flush])
      {:DOWN, ^monitor, :process, ^limbo, _reason} -> :ok
    end

    :ok
  end

  @doc false
  def init(state, port, closed_to) do
    # Asked for last, so that it comes after all other signs of the port's death (contract L14).
    monitor = Process.monitor(port)
    send(port, {self(), :watching})

    receive do
      {:DOWN, ^monitor, :process, ^port, _reason} -> :ok
    end

    unless Flow.empty?(state.flow), do: flush(%{state | tag: make_ref()})
    Native.close(state.handle)
    if closed_to, do: send(closed_to, {port, :closed})
  end

  defp flush(state) do
    Native.arm_output(state.handle, state.tag)
    discard(state)
    state |> restart_patience() |> wait()
  end

  defp restart_patience(%{patience: :infinity} = state), do: state
  defp restart_patience(state), do: %{state | deadline: now() + state.patience}

  defp remaining(%{patience: :infinity}), do: :infinity
  defp remaining(state), do: max(state.deadline - now(), 0)

  defp now, do: :erlang.monotonic_time(:millisecond)

  defp wait(%{tag: tag} = state) do
    receive do
      {:select, _pipe, ^tag, :ready_output} ->
        write(state)

      {:select, _pipe, ^tag, :ready_input} ->
        discard(state)
        wait(state)

      # The program ended, or was refused: its pipe tells what that means for the queue.
      _event ->
        wait(state)
    after
      remaining(state) -> :ok
    end
  end

  defp write(state) do
    {iovec, flow} = Flow.take(state.flow)

    case Native.drain(state.handle, iovec) do
      {:ok, rest, written} ->
        flow = Flow.wrote(flow, rest, written)

        unless Flow.empty?(flow) do
          Native.arm_output(state.handle, state.tag)
          state = if written > 0, do: restart_patience(state), else: state
          wait(%{state | flow: flow})
        end

      {:error, _reason} ->
        :ok
    end
  end

  # A program whose output nobody takes might never come to read its input.
  defp discard(state) do
    case Native.read(state.handle, @unlimited, state.tag) do
      {:more, _messages} -> discard(state)
      _wait_eof_or_error -> :ok
    end
  end
end
