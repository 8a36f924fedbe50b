defmodule Bench.Drivers do
  @moduledoc "How long a call of a linked-in driver takes, beside a round trip with a program."

  import Bench, only: [program: 1]

  @trips 3_000
  @data :binary.copy("x", 64)

  # Nanoseconds: some of these take less than a microsecond or two.
  def all do
    [
      {"driver round trip of 64 bytes", "us", :less, %{"driver" => 1.0},
       [
         {"Port, program", fn -> trips(&program(Port, &1), &by_message(Port, &1)) end},
         {"SafePort, program", fn -> trips(&program(SafePort, &1), &by_message(SafePort, &1)) end},
         {"driver", fn -> trips(&driver/1, &by_message(SafePort, &1)) end},
         {"driver in a host", fn -> trips(&host/1, &by_message(SafePort, &1)) end}
       ]},
      {"driver control, empty", "us", :less, %{"driver" => 1.0},
       [
         {"Port, program round trip", fn -> trips(&program(Port, &1), &by_message(Port, &1)) end},
         {"driver", fn -> trips(&driver/1, &SafePort.control(&1, 1, "")) end},
         {"driver in a host", fn -> trips(&host/1, &SafePort.control(&1, 1, "")) end}
       ]},
      {"driver call with a small term", "us", :less, %{"driver" => 1.0},
       [
         {"Port, program round trip", fn -> trips(&program(Port, &1), &by_message(Port, &1)) end},
         {"driver", fn -> trips(&driver/1, &SafePort.call(&1, 1, {:a, 1})) end},
         {"driver in a host", fn -> trips(&host/1, &SafePort.call(&1, 1, {:a, 1})) end}
       ]}
    ]
  end

  defp program(module, options),
    do: module.open({:spawn_executable, program("echo")}, [{:packet, 4} | options])

  defp driver(options), do: SafePort.open({:spawn_driver, "echo"}, options)
  defp host(options), do: SafePort.open({:spawn_driver, "echo"}, [{:isolation, :process} | options])

  defp by_message(module, port) do
    module.command(port, @data)

    receive do
      {^port, {:data, _data}} -> :ok
    end
  end

  defp trips(open, trip) do
    port = open.([:binary])
    for _ <- 1..300, do: trip.(port)
    times = for _ <- 1..@trips, do: nanoseconds(fn -> trip.(port) end)
    if is_port(port), do: Port.close(port), else: SafePort.close(port)
    Bench.median(times) / 1_000
  end

  defp nanoseconds(fun) do
    start = :erlang.monotonic_time(:nanosecond)
    fun.()
    :erlang.monotonic_time(:nanosecond) - start
  end
end
