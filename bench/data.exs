defmodule Bench.Data do
  @moduledoc "How fast bytes, packets and lines move, in each mode and each direction."

  import Bench, only: [program: 1, time: 1, cpu: 1]

  @stream_bytes 2_000_000_000
  @frames 2_000_000
  @kilobyte_frames 400_000
  @trips 3_000

  def all do
    [
      {"stream drain 2 GB", "MB/s", :more, %{"SafePort active" => 1.2, "SafePort recv_batch" => 2.0},
       [
         {"Port", fn -> megabytes(fn -> drain(Port, 0) end) end},
         {"SafePort active", fn -> megabytes(fn -> drain(SafePort, 0) end) end},
         {"SafePort recv_batch", fn -> megabytes(fn -> drain_batches(0) end) end},
         {"C, the same pipe", fn -> @stream_bytes / c_drain() end}
       ]},
      frames(64, %{"SafePort active" => 0.8, "SafePort recv_batch" => 2.5}),
      frames(1024, %{"SafePort active" => 1.0, "SafePort recv_batch" => 1.8}),
      {"lines of 60 bytes", "lines/s", :more, %{"SafePort active" => 1.0},
       [
         {"Port", fn -> per_second(@frames, fn -> receive_all(Port, -60, line: 200) end) end},
         {"SafePort active", fn -> per_second(@frames, fn -> receive_all(SafePort, -60, line: 200) end) end},
         {"SafePort recv_batch", fn -> per_second(@frames, fn -> receive_batches(-60, line: 200) end) end}
       ]},
      {"write 64 KiB commands", "MB/s", :more, %{"SafePort" => 1.0},
       [
         {"Port", fn -> write(Port, 65_536, 6_000) end},
         {"SafePort", fn -> write(SafePort, 65_536, 6_000) end}
       ]},
      {"write 64 B commands", "MB/s", :more, nil,
       [{"Port", fn -> write(Port, 64, 200_000) end}, {"SafePort", fn -> write(SafePort, 64, 200_000) end}]},
      round_trip(64, %{"SafePort active" => 1.1, "SafePort request" => 0.8}),
      round_trip(4096, %{"SafePort request" => 0.8}),
      {"CPU of the VM per GB drained", "ms", :less, nil,
       [
         {"Port", fn -> cpu(fn -> drain(Port, 0) end) / 2_000 end},
         {"SafePort active", fn -> cpu(fn -> drain(SafePort, 0) end) / 2_000 end},
         {"SafePort recv_batch", fn -> cpu(fn -> drain_batches(0) end) / 2_000 end}
       ]},
      {"CPU of the VM per million packets of 64 bytes", "ms", :less, nil,
       [
         {"Port", fn -> cpu(fn -> receive_all(Port, 64, packet: 4) end) * 1_000 / @frames end},
         {"SafePort active", fn -> cpu(fn -> receive_all(SafePort, 64, packet: 4) end) * 1_000 / @frames end},
         {"SafePort recv_batch", fn -> cpu(fn -> receive_batches(64, packet: 4) end) * 1_000 / @frames end}
       ]}
    ]
  end

  defp frames(size, target) do
    {"packet-4 frames of #{size} bytes", "frames/s", :more, target,
     [
       {"Port", fn -> per_second(count(size), fn -> receive_all(Port, size, packet: 4) end) end},
       {"SafePort active",
        fn -> per_second(count(size), fn -> receive_all(SafePort, size, packet: 4) end) end},
       {"SafePort recv_batch", fn -> per_second(count(size), fn -> receive_batches(size, packet: 4) end) end},
       {"SafePort recv", fn -> per_second(count(size), fn -> receive_singly(size, packet: 4) end) end}
     ]}
  end

  # Enough for a quarter of a second: opening the program must not count.
  defp count(1024), do: @kilobyte_frames
  defp count(_small), do: @frames

  defp round_trip(size, target) do
    {"round trip of #{size} bytes", "us", :less, target,
     [
       {"Port", fn -> trips(Port, size, &by_message/3) end},
       {"SafePort active", fn -> trips(SafePort, size, &by_message/3) end},
       {"SafePort request", fn -> trips(SafePort, size, &by_request/3) end}
     ]}
  end

  def gigabytes, do: @stream_bytes / 1_000_000_000

  ## Reading

  defp source(module, bytes, size, options) do
    args = [Integer.to_string(bytes), Integer.to_string(size)]
    module.open({:spawn_executable, program("source")}, [:binary, :exit_status, {:args, args} | options])
  end

  defp megabytes(fun), do: @stream_bytes / time(fun)
  defp per_second(count, fun), do: count * 1_000_000 / time(fun)

  def drain(module, size), do: module |> source(@stream_bytes, size, []) |> until_exit()
  def drain_batches(size), do: SafePort |> source(@stream_bytes, size, active: false) |> batches()

  def receive_all(module, size, options), do: module |> source(bytes(size), size, options) |> until_exit()

  def receive_batches(size, options),
    do: SafePort |> source(bytes(size), size, [active: false] ++ options) |> batches()

  defp receive_singly(size, options),
    do: SafePort |> source(bytes(size), size, [active: false] ++ options) |> singly()

  defp bytes(size) when size > 0, do: count(size) * (size + 4)
  defp bytes(size), do: @frames * (1 - size)

  defp until_exit(port) do
    receive do
      {^port, {:data, _data}} -> until_exit(port)
      {^port, {:exit_status, 0}} -> :ok
    end
  end

  defp batches(port) do
    case SafePort.recv_batch(port) do
      {:ok, _packets} -> batches(port)
      {:error, :closed} -> until_exit(port)
    end
  end

  defp singly(port) do
    case SafePort.recv(port) do
      {:ok, _packet} -> singly(port)
      {:error, :closed} -> until_exit(port)
    end
  end

  defp c_drain do
    args = ["1048576", "262144", program("source"), Integer.to_string(@stream_bytes)]
    {us, 0} = System.cmd(program("drain"), args)
    us |> String.trim() |> String.to_integer()
  end

  ## Writing

  def write(module, size, count) do
    data = :binary.copy("x", size)
    args = [Integer.to_string(size * count)]
    port = module.open({:spawn_executable, program("sink")}, [:binary, {:args, args}])

    us =
      time(fn ->
        for _ <- 1..count, do: module.command(port, data)

        receive do
          {^port, {:data, "."}} -> :ok
        end
      end)

    module.close(port)
    size * count / us
  end

  ## Round trips

  defp trips(module, size, trip) do
    options = if trip == (&by_request/3), do: [active: false], else: []
    port = module.open({:spawn_executable, program("echo")}, [:binary, {:packet, 4} | options])
    data = :binary.copy("x", size)
    for _ <- 1..100, do: trip.(module, port, data)
    times = for _ <- 1..@trips, do: time(fn -> trip.(module, port, data) end)
    module.close(port)
    Bench.median(times)
  end

  def by_message(module, port, data) do
    module.command(port, data)

    receive do
      {^port, {:data, _data}} -> :ok
    end
  end

  def by_request(module, port, data), do: {:ok, _data} = module.request(port, data)
end
