defmodule SafePort.Core.Delivery do
  @moduledoc false
  # What the program wrote, on its way to the owner. The native half makes the messages; here they are sent, one by one
  # and without looking at them.

  alias SafePort.Core.Flow

  # From so many bytes on a message is a chunk of memory of its own.
  @large_chunk 65_536

  @spec send_all([{pid(), {:data, term()}}], pid(), binary :: boolean()) :: true
  def send_all(messages, owner, true) do
    send_each(messages, owner)
    let_go(messages)
  end

  def send_all(messages, owner, false) do
    for {port, {:data, data}} <- messages, do: send(owner, {port, {:data, Flow.as_list(data)}})
    true
  end

  defp send_each([message | rest], owner) do
    send(owner, message)
    send_each(rest, owner)
  end

  defp send_each([], _owner), do: :ok

  # The memory of a large chunk is to be read into again while it is in the processor's cache, so this process does not
  # hold its share of it until it collects its garbage one day.
  defp let_go([{_port, {:data, chunk}}]) when byte_size(chunk) >= @large_chunk,
    do: :erlang.garbage_collect(self(), type: :minor)

  defp let_go(_messages), do: true
end
