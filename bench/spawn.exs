defmodule Bench.Spawn do
  @moduledoc "What it costs to run a program to its end."

  import Bench, only: [program: 1, time: 1]

  @runs 300

  def all do
    [
      {"open, run true, exit status, one at a time", "us", :less,
       %{"SafePort" => 1.0, "C vfork, exec, wait" => nil},
       [
         {"Port", fn -> one_at_a_time(Port) end},
         {"SafePort", fn -> one_at_a_time(SafePort) end},
         {"C vfork, exec, wait", fn -> c_loop(1) end}
       ]},
      {"open, run true, exit status, 32 at once", "us", :less, %{"SafePort" => 1.0},
       [
         {"Port", fn -> at_once(Port, 32) end},
         {"SafePort", fn -> at_once(SafePort, 32) end},
         {"C vfork, exec, wait", fn -> c_loop(32) end}
       ]}
    ]
    |> Enum.map(fn {name, unit, better, target, contestants} ->
      {name, unit, better, Map.reject(target, fn {_, value} -> value == nil end), contestants}
    end)
  end

  defp run(module) do
    port = module.open({:spawn_executable, "/bin/true"}, [:exit_status])

    receive do
      {^port, {:exit_status, 0}} -> :ok
    end
  end

  defp one_at_a_time(module), do: time(fn -> for(_ <- 1..@runs, do: run(module)) end) / @runs

  defp at_once(module, count) do
    time(fn ->
      1..count
      |> Enum.map(fn _ -> Task.async(fn -> for(_ <- 1..div(@runs, count), do: run(module)) end) end)
      |> Task.await_many(60_000)
    end) / (div(@runs, count) * count)
  end

  defp c_loop(at_once) do
    {us, 0} = System.cmd(program("spawn"), ["#{@runs}", "#{at_once}", "/bin/true"])
    (us |> String.trim() |> String.to_integer()) / @runs
  end
end
