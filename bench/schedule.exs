defmodule Bench.Schedule do
  @moduledoc """
  How long schedulers are held while data moves: what the VM reports as long schedules and, if the native half was built
  with `SAFE_PORT_FEATURES=timing`, how long its calls take.
  """

  alias SafePort.Core.Native

  def all do
    [
      {"processes that held a scheduler for 1 ms, per GB", "times", :less, nil,
       [
         {"Port", fn -> long_schedules(fn -> Bench.Data.drain(Port, 0) end) end},
         {"SafePort active", fn -> long_schedules(fn -> Bench.Data.drain(SafePort, 0) end) end},
         {"SafePort recv_batch", fn -> long_schedules(fn -> Bench.Data.drain_batches(0) end) end}
       ]}
      | if(Native.timings() == [], do: [], else: Enum.map([0.5, 0.999, 1.0], &native/1))
    ]
  end

  defp native(share) do
    {"time that #{share * 100} % of the native calls keep below", "us", :less, nil,
     [
       {"stream, active", fn -> below(share, fn -> Bench.Data.drain(SafePort, 0) end) end},
       {"stream, recv_batch", fn -> below(share, fn -> Bench.Data.drain_batches(0) end) end},
       {"packets of 64 B, active",
        fn -> below(share, fn -> Bench.Data.receive_all(SafePort, 64, packet: 4) end) end},
       {"packets of 64 B, recv_batch",
        fn -> below(share, fn -> Bench.Data.receive_batches(64, packet: 4) end) end},
       {"write 64 KiB commands", fn -> below(share, fn -> Bench.Data.write(SafePort, 65_536, 6_000) end) end}
     ]}
  end

  defp long_schedules(fun) do
    before = :erlang.system_monitor(self(), [{:long_schedule, 1}])
    fun.()
    :erlang.system_monitor(before)
    count(0) / Bench.Data.gigabytes()
  end

  defp count(events) do
    receive do
      {:monitor, _pid_or_port, :long_schedule, _info} -> count(events + 1)
    after
      0 -> events
    end
  end

  # The upper end of the power of two that the call of that rank is in.
  defp below(share, fun) do
    Native.timings()
    fun.()
    counts = Native.timings()
    rank = Float.ceil(share * Enum.sum(counts))

    counts
    |> Enum.with_index(1)
    |> Enum.reduce_while(0, fn {count, log2}, sum ->
      if sum + count >= rank, do: {:halt, Bitwise.bsl(1, log2) / 1_000}, else: {:cont, sum + count}
    end)
  end
end
