defmodule SafePort.Flow.ModeTest do
  # The modes and counts of gen_tcp, whose answers stand beside each.
  use SafePort.Test.Conformance, async: true

  defp passive, do: open(SafePort, {:spawn, "cat"}, [:binary, packet: 1, active: false])

  # Has so many packets sent back.
  defp send_packets(port, count), do: for(number <- 1..count, do: SafePort.command(port, <<number>>))

  defp assert_packets(port, numbers) do
    for number <- numbers do
      # The next message, whatever it is.
      assert_receive message, 5_000
      assert message == {port, {:data, <<number>>}}
    end
  end

  test "counts add up and stop at zero" do
    port = passive()
    assert SafePort.setopts(port, active: 2) == :ok
    assert SafePort.setopts(port, active: 3) == :ok
    send_packets(port, 7)
    assert_packets(port, 1..5)
    assert_receive {^port, :passive}, 5_000
    assert SafePort.recv(port) == {:ok, <<6>>}
    assert SafePort.recv(port) == {:ok, <<7>>}
    finish(SafePort)
  end

  test "a negative count takes away, to nothing if need be" do
    port = passive()
    assert SafePort.setopts(port, active: 5) == :ok
    assert SafePort.setopts(port, active: -3) == :ok
    send_packets(port, 3)
    assert_packets(port, 1..2)
    assert_receive {^port, :passive}, 5_000

    assert SafePort.setopts(port, active: 2) == :ok
    assert_packets(port, [3])
    assert SafePort.setopts(port, active: -32_768) == :ok
    assert_received {^port, :passive}
    assert SafePort.recv(port, 0) == {:error, :timeout}
    finish(SafePort)
  end

  test "zero tells a passive port's owner so, and leaves a running count alone" do
    port = passive()
    assert SafePort.setopts(port, active: 0) == :ok
    assert_received {^port, :passive}

    assert SafePort.setopts(port, active: 1) == :ok
    assert SafePort.setopts(port, active: 0) == :ok
    refute_received {^port, :passive}
    send_packets(port, 1)
    assert_packets(port, [1])
    assert_receive {^port, :passive}, 5_000
    finish(SafePort)
  end

  test "a count beyond 32,767, or one that adds up to that, is refused and changes nothing" do
    port = passive()
    for count <- [32_768, -32_769], do: assert(SafePort.setopts(port, active: count) == {:error, :einval})
    assert SafePort.recv(port, 0) == {:error, :timeout}
    assert SafePort.setopts(port, active: 32_767) == :ok
    assert SafePort.setopts(port, active: 1) == {:error, :einval}
    assert SafePort.setopts(port, active: -32_766) == :ok
    send_packets(port, 1)
    assert_packets(port, [1])
    assert_receive {^port, :passive}, 5_000
    finish(SafePort)
  end

  for wrong <- [0, -1, 32_768, 1.5, :sometimes, nil] do
    test "a port cannot be opened with #{inspect(wrong)}" do
      message =
        "option :active must be true, false, :once or 1 to 32767 (packets), got: #{inspect(unquote(wrong))}"

      assert_raise ArgumentError, message, fn ->
        SafePort.open({:spawn, "cat"}, active: unquote(wrong))
      end
    end
  end

  test "what is no mode, and what is no option, raises" do
    port = passive()

    for wrong <- [1.5, :sometimes, nil] do
      message = "option :active must be true, false, :once or a count (packets), got: #{inspect(wrong)}"
      assert_raise ArgumentError, message, fn -> SafePort.setopts(port, active: wrong) end
    end

    assert_raise ArgumentError, "expected [active: value], got: [packet: 1]", fn ->
      SafePort.setopts(port, packet: 1)
    end

    finish(SafePort)
  end

  test "a closed port has no mode" do
    port = passive()
    SafePort.close(port)
    assert SafePort.setopts(port, active: true) == {:error, :closed}
    assert_exit(port, :normal)
    finish(SafePort)
  end
end
