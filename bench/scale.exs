defmodule Bench.Scale do
  @moduledoc "What many ports cost, idle and busy."

  import Bench, only: [program: 1, time: 1, cpu: 1]

  def all do
    [
      {"1,000 ports, one packet each, round robin", "us per packet", :less, nil,
       for({label, module} <- contestants(), do: {label, fn -> round_robin(module, 1_000) end})},
      {"open with 2,000 ports open, beside with none", "times", :less, nil,
       for({label, module} <- contestants(), do: {label, fn -> growth(module, 2_000) end})},
      {"VM memory per idle port", "bytes", :less, nil,
       for({label, module} <- contestants(), do: {label, fn -> memory(module, 500) end})},
      {"CPU of the VM in 1 s with 1,000 idle ports", "ms", :less, nil,
       for({label, module} <- contestants(), do: {label, fn -> idle(module, 1_000) end})},
      {"growth of the VM in 1 s of an unread yes", "KiB", :less, nil,
       [{"Port", fn -> unread(Port, []) end}, {"SafePort passive", fn -> unread(SafePort, active: false) end}]}
    ]
  end

  defp contestants, do: [{"Port", Port}, {"SafePort", SafePort}]

  defp echo(module), do: module.open({:spawn_executable, program("echo")}, [:binary, packet: 4])

  defp open_many(module, count), do: for(_ <- 1..count, do: echo(module))

  defp close_all(module, ports), do: Enum.each(ports, &module.close/1)

  defp round_robin(module, count) do
    ports = open_many(module, count)

    us =
      time(fn ->
        for port <- ports do
          module.command(port, "hello")

          receive do
            {^port, {:data, "hello"}} -> :ok
          end
        end
      end)

    close_all(module, ports)
    us / count
  end

  defp growth(module, count) do
    alone = open_time(module)
    ports = open_many(module, count)
    crowded = open_time(module)
    close_all(module, ports)
    crowded / alone
  end

  defp open_time(module) do
    times =
      for _ <- 1..50 do
        {us, port} = :timer.tc(fn -> echo(module) end)
        module.close(port)
        us
      end

    Bench.median(times)
  end

  defp memory(module, count) do
    before = settled_memory()
    ports = open_many(module, count)
    used = settled_memory() - before
    close_all(module, ports)
    used / count
  end

  defp settled_memory do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    :erlang.memory(:total)
  end

  defp idle(module, count) do
    ports = open_many(module, count)
    pause(500)
    us = cpu(fn -> pause(1_000) end)
    close_all(module, ports)
    us / 1_000
  end

  defp unread(module, options) do
    before = resident()

    {pid, monitor} =
      spawn_monitor(fn ->
        module.open({:spawn, "yes"}, [:binary | options])
        pause(1_000)
        exit({:grown, resident() - before})
      end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:grown, kib}} -> max(kib, 1)
    end
  end

  defp resident do
    [_, kib] = Regex.run(~r/VmRSS:\s+(\d+)/, File.read!("/proc/self/status"))
    String.to_integer(kib)
  end

  # Time that is to go by because it is what is measured.
  defp pause(ms) do
    receive do
    after
      ms -> :ok
    end
  end
end
