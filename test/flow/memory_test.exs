defmodule SafePort.Flow.MemoryTest do
  # What packets hold on to, and what a program that is not read, or slowly, costs. Not async: it measures the VM.
  use SafePort.Test.Conformance, async: false

  @mib 1024 * 1024

  describe "what a packet holds on to:" do
    for read <- [:recv, :recv_batch, :message] do
      test "up to 64 bytes it is the reader's own, by #{read}" do
        for size <- [10, 64], packet <- packets(size, unquote(read), []) do
          assert :binary.referenced_byte_size(packet) == size
        end

        finish(SafePort)
      end

      test "with share: false it is the reader's own whatever its size, by #{read}" do
        for size <- [65, 1_000, 40_000], packet <- packets(size, unquote(read), share: false) do
          assert :binary.referenced_byte_size(packet) == size
        end

        finish(SafePort)
      end
    end

    test "a larger one may share its chunk, of which :binary.copy/1 frees it" do
      packets = packets(1_000, :recv_batch, [])
      shared = Enum.max_by(packets, &:binary.referenced_byte_size/1)
      referenced = :binary.referenced_byte_size(shared)
      assert referenced > 1_000 and referenced <= 2 * 256 * 1024
      assert :binary.referenced_byte_size(:binary.copy(shared)) == 1_000
      finish(SafePort)
    end
  end

  # Enough of them that the port reads in bulk.
  defp packets(size, read, options) do
    count = div(2 * @mib, size + 4)
    file = Path.join(tmp_dir(), "packets")
    File.write!(file, :binary.copy(<<size::32, :binary.copy("x", size)::binary>>, count))
    options = [:binary, packet: 4, active: read == :message, args: [file]] ++ options
    port = open(SafePort, {:spawn_executable, "/bin/cat"}, options)
    packets = read |> collect(port, []) |> Enum.concat()
    assert length(packets) == count
    packets
  end

  defp collect(:message, port, _packets) do
    {data, [{:EXIT, :normal}]} = port |> items() |> Enum.split(-1)
    [for({:data, packet} <- data, do: packet)]
  end

  defp collect(read, port, packets) do
    case apply(SafePort, read, [port]) do
      {:ok, list} when is_list(list) ->
        collect(read, port, [list | packets])

      {:ok, packet} ->
        collect(read, port, [[packet] | packets])

      {:error, :closed} ->
        assert_exit(port, :normal)
        packets
    end
  end

  test "a program that is not read blocks in write(2), and the VM does not grow" do
    port = open(SafePort, {:spawn, "yes"}, [:binary, active: false])
    {:os_pid, os_pid} = SafePort.info(port, :os_pid)
    before = memory()
    await_blocked(os_pid)
    assert memory() - before < 2 * @mib

    # The same when it has proved to move bulk data, and its pipe is larger.
    for _read <- 1..200, do: assert({:ok, _chunks} = SafePort.recv_batch(port))
    await_blocked(os_pid)
    assert memory() - before < 2 * @mib

    assert SafePort.setopts(port, active: 3) == :ok
    await_blocked(os_pid)
    assert memory() - before < 2 * @mib
    for _message <- 1..3, do: assert_receive({^port, {:data, _chunk}}, 5_000)
    assert_receive {^port, :passive}, 5_000
    finish(SafePort)
  end

  test "a packet that is too long ends the port before it is read in" do
    for {prefix, endian} <- [{4, :big}, {4, :little}, {2, :big}] do
      length = if endian == :big, do: <<60_000::big-size(prefix)-unit(8)>>, else: <<60_000::little-32>>
      octal = for <<byte <- length>>, do: "\\" <> String.pad_leading(Integer.to_string(byte, 8), 3, "0")
      script = "printf '#{octal}'; cat /dev/zero"
      options = [:binary, packet: prefix, endian: endian, packet_size: 59_999, active: false]
      before = memory()
      port = open_sh(SafePort, script, options)
      assert SafePort.recv(port) == {:error, :emsgsize}
      assert_exit(port, :emsgsize)
      assert memory() - before < @mib
    end

    finish(SafePort)
  end

  test "the longest packet that is allowed goes through, before the one that is too long" do
    script = "printf '\\003abc\\004abcd'"
    port = open_sh(SafePort, script, [:binary, packet: 1, packet_size: 3])
    assert trace(port) == [{:data, "abc"}, {:EXIT, :emsgsize}]
    finish(SafePort)
  end

  @tag timeout: 120_000
  test "4 GiB go through a slow consumer, and the VM does not grow" do
    args = ["-c", "#{4 * 1024 * @mib}", "/dev/zero"]
    before = memory()

    port =
      open(SafePort, {:spawn_executable, System.find_executable("head")}, [:binary, args: args, active: false])

    {bytes, peak} = consume(port, 0, 0, 1)
    assert bytes == 4 * 1024 * @mib
    assert peak - before < 4 * @mib
    assert_exit(port, :normal)
    finish(SafePort)
  end

  # Slower than the program: it works on each chunk, and lets others run.
  defp consume(port, bytes, peak, reads) do
    case SafePort.recv(port) do
      {:ok, chunk} ->
        :erlang.crc32(binary_part(chunk, 0, div(byte_size(chunk), 8)))
        :erlang.yield()
        peak = if rem(reads, 256) == 0, do: max(peak, usage()), else: peak
        consume(port, bytes + byte_size(chunk), peak, reads + 1)

      {:error, :closed} ->
        {bytes, peak}
    end
  end

  # Binaries and processes, without garbage.
  defp memory do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    usage()
  end

  defp usage, do: :erlang.memory(:binary) + :erlang.memory(:processes)

  # The program sleeps, and writes no more: twice seen with the same count of bytes.
  defp await_blocked(os_pid) do
    Proc.wait_until("the program is blocked in write(2)", fn ->
      seen = {written(os_pid), Proc.stat(os_pid).state, waits_in_write?(os_pid)}
      match?({bytes, "S", true} when bytes > 0, seen) and seen == {written(os_pid), "S", true}
    end)
  end

  # The number of the system call it is in: write(2) is 1 on x86-64 and 64 on aarch64.
  defp waits_in_write?(os_pid) do
    case File.read("/proc/#{os_pid}/syscall") do
      {:ok, line} -> line =~ ~r/^(1|64) 0x1 /
      {:error, _not_permitted} -> true
    end
  end

  defp written(os_pid) do
    [_all, bytes] = Regex.run(~r/^wchar: (\d+)$/m, File.read!("/proc/#{os_pid}/io"))
    String.to_integer(bytes)
  end
end
