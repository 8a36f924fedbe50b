defmodule SafePort.Core.Delivery do
  @moduledoc false
  # What the program wrote, on its way from the port process to the owner.

  alias SafePort.Core.Flow

  # From so many bytes on a message is a chunk of memory of its own.
  @large_chunk 65_536

  # From so many messages at once on the owner is to come along.
  @many 64

  @spec send_all([binary() | {:eol | :noeol, binary()}], pos_integer(), pid(), binary :: boolean()) :: :ok
  def send_all(packets, count, owner, true) do
    send_each(packets, owner, self())
    let_go(packets)
    pace(count, owner)
  end

  def send_all(packets, count, owner, false) do
    port = self()
    for data <- packets, do: send(owner, {port, {:data, Flow.as_list(data)}})
    pace(count, owner)
  end

  defp send_each([data | rest], owner, port) do
    send(owner, {port, {:data, data}})
    send_each(rest, owner, port)
  end

  defp send_each([], _owner, _port), do: :ok

  # The memory of a large chunk is to be read into again while it is in the processor's cache, so this process does not
  # hold its share of it until it collects its garbage one day.
  defp let_go([chunk]) when byte_size(chunk) >= @large_chunk,
    do: :erlang.garbage_collect(self(), type: :minor)

  defp let_go(_packets), do: true

  # An owner that runs answers when it has come to the end of what it had received before, at the latest when its turn
  # on the scheduler is over. Without that, two schedulers write and read the same queue at the same time, and it grows:
  # half the speed, with twice the work.
  defp pace(count, owner) when count >= @many do
    Process.info(owner, :priority)
    :ok
  end

  defp pace(_count, _owner), do: :ok
end
