defmodule SafePort.Flow.PropertyTest do
  # Whatever the framing, the sizes, the cuts of the program's writes, the modes and the ways to read: what arrives is
  # what was sent, in order, exactly once, and a count runs out when it should.
  use SafePort.Test.Conformance, async: true

  @runs 60

  test "what arrives is what was sent, in order, exactly once" do
    folder = tmp_dir()
    for number <- 1..@runs, do: attempt(number, fn -> send_and_read(Path.join(folder, "data")) end)
    finish(SafePort)
  end

  test "each request is answered by what was sent" do
    for number <- 1..10 do
      attempt(number, fn ->
        prefix = pick([1, 2, 4])
        port = open(SafePort, {:spawn, "cat"}, [:binary, :out, :in, packet: prefix, active: false])

        for _request <- 1..20 do
          data = :rand.bytes(size(prefix))
          assert SafePort.request(port, data) == {:ok, data}
        end
      end)
    end

    finish(SafePort)
  end

  defp attempt(number, function) do
    seed = ExUnit.configuration()[:seed]
    :rand.seed(:exsss, {seed, number, 0})

    try do
      function.()
    rescue
      error -> reraise "run #{number} of seed #{seed}: #{Exception.message(error)}", __STACKTRACE__
    end
  end

  defp send_and_read(file) do
    {options, bytes, expected} = pick([&stream/0, &lines/0, &packets/0]).()
    File.write!(file, bytes)
    cut = uniform(max(1, div(byte_size(bytes), pick([1, 10, 100]))))
    flags = [:binary | options] |> Enum.filter(&(&1 != :binary or uniform(2) == 1))

    # One write for each piece.
    args = ["if=" <> file, "bs=#{cut}", "status=none"]
    options = [args: args, active: false, share: uniform(2) == 1] ++ flags
    port = open(SafePort, {:spawn_executable, System.find_executable("dd")}, options)
    got = read(%{port: port, mode: false, counts: [], seen: 0, got: []})

    got = if is_binary(expected), do: IO.iodata_to_binary(got), else: got

    assert got == expected,
           "with #{inspect(options)} it is not what was sent from #{difference(got, expected)}"
  end

  defp difference(got, expected) when is_binary(got),
    do: "byte #{:binary.longest_common_prefix([got, expected])}"

  defp difference(got, expected) do
    same = got |> Enum.zip(expected) |> Enum.take_while(fn {one, other} -> one == other end) |> length()

    [got, expected] =
      for list <- [got, expected], do: list |> Enum.drop(same) |> Enum.take(3) |> inspect(printable_limit: 50)

    "item #{same}: #{got} for #{expected}"
  end

  ## What is sent, and what is to arrive

  defp stream do
    bytes = :rand.bytes(uniform(pick([1_000, 100_000, 3_000_000])))
    {[], bytes, bytes}
  end

  defp packets do
    {prefix, endian} = {pick([1, 2, 4]), pick([:big, :little, :native])}
    packets = for _packet <- 1..uniform(60), do: :rand.bytes(size(prefix))
    bytes = for packet <- packets, into: "", do: length_of(packet, prefix * 8, endian) <> packet
    {[packet: prefix, endian: endian], bytes, packets}
  end

  defp length_of(packet, bits, :big), do: <<byte_size(packet)::big-size(bits)>>
  defp length_of(packet, bits, :little), do: <<byte_size(packet)::little-size(bits)>>
  defp length_of(packet, bits, :native), do: <<byte_size(packet)::native-size(bits)>>

  defp size(1), do: uniform(256) - 1
  defp size(2), do: uniform(pick([10, 130, 3_000, 65_536])) - 1
  defp size(4), do: uniform(pick([10, 130, 3_000, 65_536, 600_000])) - 1

  defp lines do
    max = pick([1, 7, 80, 70_000])
    longest = pick([3, 3 * min(max, 5_000), 3 * min(max, 50_000)])
    lines = for _line <- 1..uniform(60), do: :binary.copy(<<pick(~c"abc")>>, uniform(longest) - 1)
    last = pick(["", "end"])

    expected =
      Enum.flat_map(lines, &cut(&1, max, :eol)) ++ if(last == "", do: [], else: cut(last, max, :noeol))

    {[line: max], Enum.map_join(lines, &(&1 <> "\n")) <> last, expected}
  end

  defp cut(line, max, kind) when byte_size(line) > max do
    <<part::binary-size(max), rest::binary>> = line
    [{:noeol, part} | cut(rest, max, kind)]
  end

  defp cut(line, _max, kind), do: [{kind, line}]

  ## The reader: an action at random, to the end

  defp read(%{mode: false} = state) do
    case uniform(4) do
      1 -> state |> activate() |> go_on()
      2 -> batch(state, SafePort.recv_batch(state.port, pick([0, 1, :infinity])))
      _more -> single(state, SafePort.recv(state.port, pick([0, 1, :infinity])))
    end
  end

  defp read(state) do
    case uniform(8) do
      1 -> passivate(state)
      2 -> state |> change() |> go_on()
      _more -> state |> wait() |> go_on()
    end
  end

  # Whether something must come can only be told where the mode is known.
  defp wait(state) do
    case take(state, if(state.mode == :mixed, do: 1, else: 10_000)) do
      :nothing when state.mode == :mixed -> state
      :nothing -> flunk("nothing came in mode #{inspect(state.mode)}")
      other -> other
    end
  end

  defp go_on({:over, got}), do: Enum.reverse(got)
  defp go_on(state), do: read(state)

  defp batch(state, {:ok, [_ | _] = items}), do: items |> Enum.reduce(state, &got/2) |> read()
  defp batch(state, other), do: single(state, other)

  defp single(state, {:ok, item}), do: item |> got(state) |> read()
  defp single(state, {:error, :timeout}), do: read(state)

  defp single(%{port: port} = state, {:error, :closed}) do
    assert_receive {:EXIT, ^port, :normal}, 10_000
    assert SafePort.recv(port) == {:error, :closed}
    Enum.reverse(state.got)
  end

  defp got(item, state), do: %{state | got: [plain(item) | state.got]}

  defp plain({kind, data}), do: {kind, IO.iodata_to_binary(data)}
  defp plain(data), do: IO.iodata_to_binary(data)

  defp activate(state) do
    mode = pick([true, :once, uniform(30)])
    mode(SafePort.setopts(state.port, active: mode), mode, state)
  end

  defp mode({:error, :closed}, _mode, state), do: %{state | mode: :mixed}
  defp mode(:ok, count, state) when is_integer(count), do: %{state | mode: :count, counts: [count], seen: 0}
  defp mode(:ok, mode, state), do: %{state | mode: mode}

  # A count is added to; from any other mode into another one, nobody can tell where one ends and the other begins.
  defp change(%{mode: :count} = state) do
    more = uniform(30)

    case SafePort.setopts(state.port, active: more) do
      :ok -> %{state | counts: state.counts ++ [more]}
      {:error, :closed} -> state
    end
  end

  defp change(state) do
    SafePort.setopts(state.port, active: pick([true, :once, uniform(30)]))
    %{state | mode: :mixed}
  end

  # All that was sent to us before is here when this returns.
  defp passivate(state) do
    SafePort.setopts(state.port, active: false)
    state |> drain() |> passive() |> go_on()
  end

  defp passive({:over, got}), do: {:over, got}
  defp passive(state), do: %{state | mode: false}

  defp drain(state) do
    case take(state, 0) do
      {:over, got} -> {:over, got}
      :nothing -> state
      state -> drain(state)
    end
  end

  # One message.
  defp take(%{port: port} = state, timeout) do
    receive do
      {^port, {:data, item}} -> item |> got(state) |> spend()
      {^port, :passive} -> ran_out(state)
      {:EXIT, ^port, :normal} -> {:over, state.got}
    after
      timeout -> :nothing
    end
  end

  defp spend(%{mode: :once} = state), do: %{state | mode: false}

  defp spend(%{mode: :count, port: port} = state) do
    state = %{state | seen: state.seen + 1}
    assert state.seen <= Enum.sum(state.counts)

    if state.seen == Enum.sum(state.counts) do
      assert_receive {^port, :passive}, 10_000
      ran_out(state)
    else
      state
    end
  end

  defp spend(state), do: state

  # As many have come as one count, or the first of those that were added, asked for.
  defp ran_out(%{mode: :count, counts: counts, seen: seen} = state) do
    used = Enum.find(1..length(counts), &(counts |> Enum.take(&1) |> Enum.sum() == seen))
    assert used, "passive after #{seen} of #{inspect(counts)}"
    rest = Enum.drop(counts, used)
    %{state | mode: if(rest == [], do: false, else: :count), counts: rest, seen: 0}
  end

  defp ran_out(%{mode: mode} = state) when mode in [:mixed, false], do: state

  defp pick(list), do: Enum.random(list)
  defp uniform(most), do: :rand.uniform(most)
end
