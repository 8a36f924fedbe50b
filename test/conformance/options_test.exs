defmodule SafePort.Conformance.OptionsTest do
  use SafePort.Test.Conformance, async: true

  import SafePort.Test.Busy, only: [write_until_end: 2]

  # Section 2: the options of open/2

  ## In general

  same "P1", "options are a proper list of known options; anything else is refused", subject do
    for options <- [
          :x,
          %{},
          {},
          nil,
          "binary",
          [:binary | :eof],
          [:nonsense],
          [{:nonsense, 1}],
          [{:packet, 2, 2}],
          [{}],
          ["binary"],
          [1]
        ] do
      assert {options, raised(fn -> subject.open({:spawn, "cat"}, options) end)} == {options, ArgumentError}
    end
  end

  same "P2", "flags are atoms, and what has a value is a pair", subject do
    flags = [
      :stream,
      :use_stdio,
      :nouse_stdio,
      :stderr_to_stdout,
      :in,
      :out,
      :binary,
      :eof,
      :exit_status,
      :hide
    ]

    for option <-
          for(flag <- flags, do: {flag, true}) ++
            [:packet, :parallelism, :cd, :env, :args, :arg0, :busy_limits_port] do
      assert {option, raised(fn -> subject.open({:spawn_executable, "/bin/true"}, [option]) end)} ==
               {option, ArgumentError}
    end
  end

  same "P3", "the last of several values counts", subject do
    folder = tmp_dir()

    options = [
      :binary,
      :exit_status,
      cd: "/no/such/folder",
      cd: folder,
      args: ["-c", "exit 1"],
      args: ["-c", "pwd; echo $0"]
    ]

    port = open(subject, {:spawn_executable, "/bin/sh"}, [{:arg0, "a"}, {:arg0, "b"} | options])
    assert result(port) == {folder <> "\nb\n", 0}

    port = open_sh(subject, "printf 'a\\nb\\n'", [:binary, line: 1, line: 80])
    assert packets(port) == [{:eol, "a"}, {:eol, "b"}]

    port = open_sh(subject, "printf '\\1x'", [:binary, packet: 4, packet: 1])
    assert packets(port) == ["x"]
  end

  same "P3", ":in and :out add up", subject do
    for options <- [[:in, :out], [:out, :in], [:in, :out, :in], []] do
      port = open(subject, {:spawn, "cat"}, [:binary | options])
      assert subject.command(port, "x")
      assert read(port, 1) == "x"
    end
  end

  same "P4",
       "the defaults: a stream of lists, both directions, and nothing said of status or end of file",
       subject do
    port = open_sh(subject, "cat >/dev/null & printf 'abc\\n'; exit 3")
    assert trace(port) == [{:data, ~c"abc\n"}, {:EXIT, :normal}]

    port = open(subject, {:spawn, "cat"})
    assert subject.info(port, :parallelism) == {:parallelism, false}
    assert {:os_pid, os_pid} = subject.info(port, :os_pid)
    assert subject.command(port, "x")
    assert_receive {^port, {:data, ~c"x"}}, 5_000
    descriptors = Proc.descriptors(os_pid)
    assert Map.keys(descriptors) == [0, 1, 2]
    assert descriptors[2] == Proc.descriptors(Proc.vm())[2]
  end

  ## Framing

  same "P5", "packets have lengths of 1, 2 or 4 bytes", subject do
    for bytes <- [0, 3, 5, 8, -1, :a, "2", 2.0, nil, []] do
      assert {bytes, raised(fn -> subject.open({:spawn, "cat"}, packet: bytes) end)} == {bytes, ArgumentError}
    end
  end

  same "P5", "lengths are big-endian, added on the way out and stripped on the way in", subject do
    for {packet, prefix} <- [{1, <<5>>}, {2, <<0, 5>>}, {4, <<0, 0, 0, 5>>}] do
      file = Path.join(tmp_dir(), "seen")
      script = "head -c #{packet + 5} > \"$1\"; printf '#{octal(prefix)}world'"
      port = open_sh(subject, script, [:binary, packet: packet, argv: [file]])
      assert subject.command(port, "hello")
      assert packets(port) == ["world"]
      assert File.read!(file) == prefix <> "hello"
    end
  end

  same "P5", ":stream is no framing", subject do
    port = open(subject, {:spawn, "cat"}, [:binary, :stream, packet: 2] ++ [:stream])
    assert subject.command(port, <<0, 1, ?x>>)
    assert read(port, 3) == <<0, 1, ?x>>
  end

  same "P6", "lines have a length of at least 1, which is a small integer", subject do
    for bytes <- [0, -1, :a, "5", 5.0, nil, 0x10000_0000_0000_0000] do
      assert {bytes, raised(fn -> subject.open({:spawn, "cat"}, line: bytes) end)} == {bytes, ArgumentError}
    end

    port = open_sh(subject, "echo a line", [:binary, line: 0x10_0000])
    assert packets(port) == [{:eol, "a line"}]
  end

  better "P6", "SafePort takes any small integer; Port allocates so many bytes at once", subject do
    bytes = if subject == Port, do: 0x10_0000, else: 0x100_0000_0000
    port = open_sh(subject, "echo a line", [:binary, line: bytes])
    assert packets(port) == [{:eol, "a line"}]
  end

  same "P6", ":line stands for 512 bytes", subject do
    port = open_sh(subject, "head -c 513 /dev/zero | tr '\\0' x; echo", [:binary, :line])
    assert packets(port) == [{:noeol, String.duplicate("x", 512)}, {:eol, "x"}]
  end

  same "P7", "lines and packets exclude each other, when all options are read", subject do
    for options <- [
          [packet: 2, line: 5],
          [line: 5, packet: 2],
          [:line, {:packet, 4}],
          [:stream, {:packet, 2}, :line]
        ] do
      assert {options, raised(fn -> subject.open({:spawn, "cat"}, options) end)} == {options, ArgumentError}
    end

    port = open_sh(subject, "echo abc", [{:packet, 2}, {:line, 5}, :stream, :binary])
    assert packets(port) == [{:eol, "abc"}]
  end

  same "P8", ":binary is about what comes in, also inside of lines", subject do
    port = open_sh(subject, "printf 'ab\\nc'", [:binary, :line])
    assert packets(port) == [{:eol, "ab"}, {:noeol, "c"}]

    port = open_sh(subject, "printf 'ab\\nc'", [:line])
    assert packets(port) == [{:eol, ~c"ab"}, {:noeol, ~c"c"}]

    port = open_sh(subject, "printf '\\1a\\0'", packet: 1)
    assert packets(port) == [~c"a", []]

    port = open(subject, {:spawn, "cat"})
    assert subject.command(port, ["a", ?b, [<<0xFF>>]])
    assert_receive {^port, {:data, [?a, ?b, 0xFF]}}, 5_000
  end

  ## Directions and the rest

  same "P19", "with :use_stdio the program reads from 0 and writes to 1", subject do
    port = open_sh(subject, "read line; echo \"got $line\"", [:use_stdio, :binary])
    assert subject.command(port, "it\n")
    assert trace(port) == [{:data, "got it\n"}, {:EXIT, :normal}]
  end

  same "P19", "with :nouse_stdio it reads from 3 and writes to 4, and 0 and 1 are the VM's", subject do
    script =
      "read line <&3; links=$(readlink /proc/$$/fd/0 /proc/$$/fd/1); printf '%s\\n' \"got $line\" \"$links\" >&4"

    port = open_sh(subject, script, [:nouse_stdio, :binary, :exit_status])
    assert subject.command(port, "it\n")
    vm = Proc.descriptors(Proc.vm())
    assert result(port) == {"got it\n#{vm[0]}\n#{vm[1]}\n", 0}
  end

  same "P20", "with :stderr_to_stdout standard error goes where standard output goes", subject do
    port =
      open_sh(subject, "echo out; echo err >&2; readlink /proc/$$/fd/1 /proc/$$/fd/2", [
        :stderr_to_stdout,
        :binary,
        :exit_status
      ])

    assert {"out\nerr\n" <> links, 0} = result(port)
    assert [same, same, ""] = String.split(links, "\n")
  end

  same "P20", ":stderr_to_stdout and :nouse_stdio exclude each other, when all options are read", subject do
    for options <- [
          [:nouse_stdio, :stderr_to_stdout],
          [:stderr_to_stdout, :nouse_stdio],
          [:use_stdio, :nouse_stdio, :stderr_to_stdout]
        ] do
      assert raised(fn -> subject.open({:spawn, "cat"}, options) end) == ArgumentError
    end

    port = open(subject, {:spawn, "echo a"}, [:nouse_stdio, :stderr_to_stdout, :use_stdio])
    assert trace(port) == [{:data, ~c"a\n"}, {:EXIT, :normal}]
  end

  same "P20", "with :out only, nobody reads what the program writes to standard error", subject do
    file = Path.join(tmp_dir(), "seen")
    # The shell's own echo reports the failure; no signal, as the shell ignores it.
    script = "trap '' PIPE; echo lost >&2 || echo failed > \"$1\"; cat >/dev/null"
    port = open_sh(subject, script, [:out, :stderr_to_stdout, argv: [file]])
    Proc.wait_until("writing failed", fn -> File.read(file) == {:ok, "failed\n"} end)
    assert subject.close(port)
    assert_exit(port, :normal)
  end

  same "P21", "with :in only, standard input is the VM's", subject do
    port = open_sh(subject, "readlink /proc/$$/fd/0; exit 3", [:in, :binary, :exit_status])
    assert result(port) == {Proc.descriptors(Proc.vm())[0] <> "\n", 3}
  end

  same "P21", "with :in only, a command is accepted and ends the port", subject do
    gate = gate()
    port = open_sh(subject, "read go < \"$1\"", [:in, :exit_status, argv: [gate]])
    assert subject.command(port, "x")
    assert_exit(port, :ebadf)
    open_gate(gate)
  end

  same "P21", "with :in only, :eof works", subject do
    port = open_sh(subject, "echo a", [:in, :eof, :binary])
    assert trace(port, :eof) == [{:data, "a\n"}, :eof]
  end

  same "P22", "with :out only, standard output is the VM's", subject do
    file = Path.join(tmp_dir(), "seen")

    port =
      open_sh(subject, "link=$(readlink /proc/$$/fd/1); echo \"$link\" > \"$1\"; cat >/dev/null", [
        :out,
        argv: [file]
      ])

    expected = Proc.descriptors(Proc.vm())[1] <> "\n"
    Proc.wait_until("the link was read", fn -> File.read(file) == {:ok, expected} end)
    subject.close(port)
    assert_exit(port, :normal)
  end

  better "P22", "with :out only, Port misses the program's end, and SafePort reports it", subject do
    port = open_sh(subject, "exit 3", [:out, :exit_status])

    case subject do
      Port ->
        {:os_pid, os_pid} = subject.info(port, :os_pid)
        Proc.await_gone(os_pid)
        assert subject.info(port, :connected) == {:connected, self()}
        assert write_until_end(subject, port) == [{:EXIT, :epipe}]

      SafePort ->
        assert trace(port) == [{:exit_status, 3}, {:EXIT, :normal}]
    end
  end

  better "P22", "with :out and :eof, SafePort sends eof when the program ends", subject do
    port = open_sh(subject, "exit 3", [:out, :eof, :exit_status])
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    Proc.await_gone(os_pid)

    case subject do
      Port ->
        assert write_until_end(subject, port) == [{:EXIT, :epipe}]

      SafePort ->
        assert trace(port, :eof) == [{:exit_status, 3}, :eof]
    end
  end

  same "P23", ":exit_status and :eof are silent unless given", subject do
    for {options, expected} <- [
          {[], [{:EXIT, :normal}]},
          {[:exit_status], [{:exit_status, 3}, {:EXIT, :normal}]},
          {[:eof], [:eof]},
          {[:eof, :exit_status], [{:exit_status, 3}, :eof]}
        ] do
      port = open_sh(subject, "exit 3", options)
      assert trace(port, if(:eof in options, do: :eof, else: :exit)) == expected
      if :eof in options, do: subject.close(port) && assert_exit(port, :normal)
    end
  end

  same "P24", ":hide and :overlapped_io are accepted", subject do
    port = open_sh(subject, "echo a", [:hide, :overlapped_io, :binary])
    assert trace(port) == [{:data, "a\n"}, {:EXIT, :normal}]
  end

  same "P25", ":parallelism is a boolean, which info tells", subject do
    for value <- [true, false] do
      port = open(subject, {:spawn, "cat"}, parallelism: value)
      assert subject.info(port, :parallelism) == {:parallelism, value}
    end

    for value <- [nil, :yes, 1, "true"] do
      assert raised(fn -> subject.open({:spawn, "cat"}, parallelism: value) end) == ArgumentError
    end
  end

  same "P26", "busy limits are a pair of at least 1 each, or :disabled", subject do
    for limits <- [{1, 1}, {4096, 8192}, {8192, 4096}, {1, 0xFFFF_FFFF_FFFF}, :disabled] do
      port = open(subject, {:spawn, "cat"}, [:binary, busy_limits_port: limits])
      assert subject.command(port, "x")
      assert read(port, 1) == "x"
    end

    for limits <- [
          {0, 1},
          {1, 0},
          {-1, 1},
          {1, -1},
          {1, 0xFFFF_FFFF_FFFF_FFFF},
          {1},
          {1, 2, 3},
          {1, :a},
          {1.0, 2},
          :enabled,
          5,
          nil,
          []
        ] do
      assert {limits, raised(fn -> subject.open({:spawn, "cat"}, busy_limits_port: limits) end)} ==
               {limits, ArgumentError}
    end
  end

  same "P27", "limits of the message queue are checked in the same way", subject do
    for limits <- [{1, 1}, {8192, 4096}, :disabled] do
      port = open(subject, {:spawn, "cat"}, [:binary, busy_limits_msgq: limits])
      assert subject.command(port, "x")
      assert read(port, 1) == "x"
    end

    for limits <- [{0, 1}, {1, 0}, {-1, 1}, {1, 0xFFFF_FFFF_FFFF_FFFF}, {1}, {1, :a}, :enabled, 5, nil] do
      assert {limits, raised(fn -> subject.open({:spawn, "cat"}, busy_limits_msgq: limits) end)} ==
               {limits, ArgumentError}
    end
  end

  cannot "P27",
         "bytes waiting in the message queue hold up senders to a Port; a SafePort takes them all",
         subject do
    port = open(subject, {:spawn, "cat"}, [:binary, busy_limits_msgq: {1, 1}])
    for number <- 1..9, do: send(port, {self(), {:command, <<?0 + number>>}})
    assert read(port, 9) == "123456789"
  end

  # As printf(1) takes it.
  defp octal(bytes),
    do: for(<<byte <- bytes>>, into: "", do: "\\" <> String.pad_leading(Integer.to_string(byte, 8), 3, "0"))
end
