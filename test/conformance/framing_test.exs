defmodule SafePort.Conformance.FramingTest do
  use SafePort.Test.Conformance, async: true

  # Section 7: how input is cut into messages

  better "I1",
         "a stream comes in pieces as they were read, never empty; of 64 KiB at most with Port",
         subject do
    port = open_sh(subject, "head -c 3000000 /dev/zero; exit 3", [:binary, :exit_status])
    pieces = pieces(port, [])
    assert_receive {:EXIT, ^port, :normal}, 5_000
    assert Enum.sum(pieces) == 3_000_000
    assert Enum.min(pieces) >= 1
    assert Enum.max(pieces) <= if(subject == Port, do: 65_536, else: 0x10_0000)
  end

  same "I1", "what comes after a pause is not merged with what came before", subject do
    port = open(subject, {:spawn, "cat"}, [:binary])

    for data <- ["a", "bc", "def"] do
      subject.command(port, data)
      assert_receive {^port, {:data, ^data}}, 5_000
    end
  end

  same "I2", "packets come one by one, however they were cut on the way", subject do
    for packet <- [1, 2, 4] do
      bodies = for number <- 1..100, do: String.duplicate("x", rem(number * 37, 200))
      stream = for body <- bodies, into: "", do: <<byte_size(body)::size(packet)-unit(8), body::binary>>
      # cat sends on what it gets, in whatever pieces it gets it.
      for size <- [1, 7, 1000, byte_size(stream)] do
        {relay, feeder} = relay(subject, packet: packet)
        for piece <- cut(stream, size), do: subject.command(feeder, piece)
        subject.close(feeder)
        assert_exit(feeder, :normal)
        assert packets(relay) == bodies
      end
    end
  end

  same "I2", "a packet without content is empty", subject do
    assert packets(open_sh(subject, "printf '\\0\\0\\0\\1a\\0\\0'", [:binary, packet: 2])) == ["", "a", ""]
    assert packets(open_sh(subject, "printf '\\0\\0\\0\\1a\\0\\0'", packet: 2)) == [[], ~c"a", []]
  end

  same "I2", "a packet may be longer than a read", subject do
    port = open(subject, {:spawn, "cat"}, [:binary, packet: 4])
    data = :binary.copy("0123456789", 100_000)
    subject.command(port, data)
    assert_receive {^port, {:data, ^data}}, 10_000
  end

  same "I3", "a packet that the end cuts off is dropped", subject do
    for bytes <- ["\\0", "\\0\\5", "\\0\\5abc"], {options, last} <- [{[], []}, {[:eof], [:eof]}] do
      port =
        open_sh(subject, "printf '\\0\\1a#{bytes}'; exit 3", [:binary, :exit_status, {:packet, 2} | options])

      expected = [{:data, "a"}, {:exit_status, 3}] ++ last ++ if(last == [], do: [{:EXIT, :normal}], else: [])
      assert trace(port, if(last == [], do: :exit, else: :eof)) == expected
    end
  end

  same "I4", "lines up to the limit are whole, longer ones come in parts", subject do
    assert lines(subject, 5, "abc\\nabcde\\nabcdef\\nabcdefghijk\\n\\n") == [
             eol: "abc",
             eol: "abcde",
             noeol: "abcde",
             eol: "f",
             noeol: "abcde",
             noeol: "fghij",
             eol: "k",
             eol: ""
           ]

    assert lines(subject, 1, "\\na\\nab\\n") == [eol: "", eol: "a", noeol: "a", eol: "b"]

    assert lines(subject, 5, "abcde\\n\\nabcdefghij\\n") == [
             eol: "abcde",
             eol: "",
             noeol: "abcde",
             eol: "fghij"
           ]
  end

  same "I5", "a carriage return before a newline belongs to it, any other is data", subject do
    for {text, expected} <- [
          {"ab\\r\\n", [eol: "ab"]},
          {"abcde\\r\\n", [eol: "abcde"]},
          {"ab\\rcd\\n", [eol: "ab\rcd"]},
          {"\\r\\r\\n", [eol: "\r"]},
          {"\\r\\n", [eol: ""]},
          {"abcde\\rx\\n", [noeol: "abcde", eol: "\rx"]},
          {"abcd\\r\\r\\n", [eol: "abcd\r"]},
          {"abcde\\r\\r\\n", [noeol: "abcde", eol: "\r"]},
          {"\\r\\n\\r\\n", [eol: "", eol: ""]},
          {"a\\n\\rb\\n", [eol: "a", eol: "\rb"]},
          {"abcdef\\r\\n", [noeol: "abcde", eol: "f"]}
        ] do
      assert {text, lines(subject, 5, text)} == {text, expected}
    end
  end

  same "I5", "that holds across reads, too", subject do
    for {text, expected} <- [
          {"ab\r\ncde\n", [eol: "ab", eol: "cde"]},
          {"abcde\r\nf\n", [eol: "abcde", eol: "f"]},
          {"abcde\rx\n", [noeol: "abcde", eol: "\rx"]},
          {"abcd\r\r\n", [eol: "abcd\r"]},
          {"abcde\r\r\n", [noeol: "abcde", eol: "\r"]},
          {"\r\r\r\n", [eol: "\r\r"]}
        ] do
      {relay, feeder} = relay(subject, line: 5)
      port = relay

      # The next byte leaves when the last one is in.
      for {piece, count} <- Enum.with_index(cut(text, 1), 1) do
        subject.command(feeder, piece)

        Proc.wait_until("#{count} bytes are in", fn ->
          subject.info(port, :input) in [{:input, count}, nil]
        end)
      end

      subject.close(feeder)
      assert_exit(feeder, :normal)
      assert {text, packets(relay)} == {text, expected}
    end
  end

  same "I6", "the end flushes what is left of a line, unless that is nothing", subject do
    for {text, expected} <- [
          {"ab", [noeol: "ab"]},
          {"ab\\n", [eol: "ab"]},
          {"ab\\r", [noeol: "ab\r"]},
          {"abcde", [noeol: "abcde"]},
          {"abcde\\r", [noeol: "abcde", noeol: "\r"]},
          {"abcdef", [noeol: "abcde", noeol: "f"]},
          {"\\r", [noeol: "\r"]},
          {"", []}
        ] do
      assert {text, lines(subject, 5, text)} == {text, expected}
    end
  end

  same "I6", "closing drops what is left of a line", subject do
    for {close, last} <- [
          {&subject.close/1, :exit},
          {&Process.exit(&1, :normal), :exit},
          {&send(&1, {self(), :close}), :closed}
        ] do
      port = open_sh(subject, "printf 'a\\nb'; cat >/dev/null", [:binary, :line])
      Proc.wait_until("all is in", fn -> subject.info(port, :input) == {:input, 3} end)
      close.(port)
      assert trace(port) == [{:data, {:eol, "a"}}, {:EXIT, :normal}]
      if last == :closed, do: assert_receive({^port, :closed}, 5_000)
    end
  end

  same "I7", "a line may be longer than a read", subject do
    port = open_sh(subject, "head -c 200000 /dev/zero | tr '\\0' x; echo; echo y", [:binary, line: 300_000])
    assert packets(port) == [eol: String.duplicate("x", 200_000), eol: "y"]
  end

  same "I8", "input counts the payload: newlines, but no lengths", subject do
    port = open_sh(subject, "printf 'ab\\r\\nc\\n'", [:binary, :line, :eof])
    assert trace(port, :eof) == [{:data, {:eol, "ab"}}, {:data, {:eol, "c"}}, :eof]
    assert subject.info(port, :input) == {:input, 6}

    port = open_sh(subject, "printf '\\0\\0\\0\\2ab\\0\\0\\0\\0'", [:binary, :eof, packet: 4])
    assert items(port, :eof) == [{:data, "ab"}, {:data, ""}, :eof]
    assert subject.info(port, :input) == {:input, 2}
  end

  defp pieces(port, sizes) do
    receive do
      {^port, {:data, data}} -> pieces(port, [byte_size(data) | sizes])
      {^port, {:exit_status, 3}} -> sizes
    after
      10_000 -> flunk("only #{Enum.sum(sizes)} bytes came")
    end
  end

  defp lines(subject, bytes, text), do: packets(open_sh(subject, "printf '#{text}'", [:binary, line: bytes]))

  # Two ports: what is sent to the second, as a stream, is what the first one's program sends.
  defp relay(subject, options) do
    pipe = gate()
    relay = open_sh(subject, "cat \"$1\"", [:binary, {:argv, [pipe]} | options])
    feeder = open_sh(subject, "cat > \"$1\"", argv: [pipe])
    {relay, feeder}
  end

  defp cut(data, size) when byte_size(data) <= size, do: [data]

  defp cut(data, size) do
    [binary_part(data, 0, size) | cut(binary_part(data, size, byte_size(data) - size), size)]
  end
end
