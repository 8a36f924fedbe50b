defmodule SafePort.Conformance.EndTest do
  use SafePort.Test.Conformance, async: true

  import SafePort.Test.Busy, only: [write_until_end: 2]

  # Section 6: the end of the program

  better "E1", "the end: Port tells the status before an unfinished line, SafePort after it", subject do
    end_of = fn options ->
      open_sh(subject, "printf 'whole\\npart'; exit 3", [:binary, :line, :exit_status | options])
    end

    whole = {:data, {:eol, "whole"}}
    part = {:data, {:noeol, "part"}}

    for {options, last} <- [{[], {:EXIT, :normal}}, {[:eof], :eof}] do
      expected =
        if subject == Port,
          do: [whole, {:exit_status, 3}, part, last],
          else: [whole, part, {:exit_status, 3}, last]

      assert trace(end_of.(options), if(options == [], do: :exit, else: :eof)) == expected
    end
  end

  same "E1", "when all writers of the output are gone, the port goes", subject do
    port = open_sh(subject, "echo a; exit 3", [:binary, :exit_status])
    assert trace(port) == [{:data, "a\n"}, {:exit_status, 3}, {:EXIT, :normal}]
    assert gone?(subject, port)
  end

  same "E2", "the data of a stream precedes the status", subject do
    for _round <- 1..20 do
      port = open_sh(subject, "head -c 100000 /dev/zero; printf end; exit 3", [:binary, :exit_status])
      assert [{:data, data}, {:exit_status, 3}, {:EXIT, :normal}] = trace(port)
      assert byte_size(data) == 100_003
    end
  end

  better "E2", "the last unfinished line precedes the status only with SafePort", subject do
    for _round <- 1..20 do
      port = open_sh(subject, "printf abc; exit 3", [:binary, :line, :exit_status])
      data = {:data, {:noeol, "abc"}}
      expected = if subject == Port, do: [{:exit_status, 3}, data], else: [data, {:exit_status, 3}]
      assert trace(port) == expected ++ [{:EXIT, :normal}]
    end
  end

  same "E3", "without :exit_status the end of the output closes the port", subject do
    gate = gate()
    port = open_sh(subject, "echo $$; exec >&-; read go < \"$1\"", [:binary, argv: [gate]])
    assert [{:data, line}, {:EXIT, :normal}] = trace(port)
    assert gone?(subject, port)
    assert line |> String.trim() |> String.to_integer() |> Proc.alive?()
    open_gate(gate)
  end

  better "E3",
         "the program runs on after the end of its output; SafePort ends it as after any close",
         subject do
    gate = gate()
    file = Path.join(tmp_dir(), "ran on")
    options = if subject == SafePort, do: [eof_timeout: 50], else: []
    script = "echo $$; exec >&-; read go < \"$1\"; echo > \"$2\""
    port = open_sh(subject, script, [:binary, {:argv, [gate, file]} | options])
    assert [{:data, line}, {:EXIT, :normal}] = trace(port)
    os_pid = line |> String.trim() |> String.to_integer()
    if subject == Port, do: open_gate(gate)
    Proc.await_gone(os_pid)
    assert File.exists?(file) == (subject == Port)
  end

  same "E3", "with eof_timeout: :infinity the program runs on with SafePort too", subject do
    gate = gate()
    file = Path.join(tmp_dir(), "ran on")
    options = if subject == SafePort, do: [eof_timeout: :infinity], else: []
    port = open_sh(subject, "exec >&-; read go < \"$1\"; echo > \"$2\"", [{:argv, [gate, file]} | options])
    assert_exit(port, :normal)
    open_gate(gate)
    Proc.wait_until("it ran on", fn -> File.exists?(file) end)
  end

  same "E4",
       "with :exit_status a port whose output ended waits for the program, and can be written to",
       subject do
    file = Path.join(tmp_dir(), "read")

    port =
      open_sh(subject, "echo a; exec >&-; read line; echo \"$line\" > \"$1\"; exit 3", [
        :binary,
        :exit_status,
        argv: [file]
      ])

    {:os_pid, os_pid} = subject.info(port, :os_pid)
    assert read(port, 2) == "a\n"
    Proc.wait_until("output is closed", fn -> not Map.has_key?(Proc.descriptors(os_pid), 1) end)
    assert subject.info(port, :connected) == {:connected, self()}
    assert subject.command(port, "hello\n")
    assert trace(port) == [{:exit_status, 3}, {:EXIT, :normal}]
    assert File.read!(file) == "hello\n"
  end

  better "E5",
         "a descendant that holds the output delays the end of Port, and is ended by SafePort",
         subject do
    gate = gate()
    script = "(trap '' HUP; read go < \"$1\"; echo late) & echo early; exit 3"
    port = open_sh(subject, script, [:binary, :exit_status, argv: [gate]])

    case subject do
      Port ->
        {:os_pid, os_pid} = subject.info(port, :os_pid)
        assert read(port, 6) == "early\n"
        Proc.wait_until("the program ended", fn -> not Proc.alive?(os_pid) end)
        assert subject.info(port, :connected) == {:connected, self()}
        open_gate(gate)
        assert trace(port) == [{:data, "late\n"}, {:exit_status, 3}, {:EXIT, :normal}]

      SafePort ->
        assert trace(port) == [{:data, "early\n"}, {:exit_status, 3}, {:EXIT, :normal}]
    end
  end

  better "E5",
         "with orphans: :leave SafePort leaves the descendant alone, but does not wait for it",
         subject do
    gate = gate()
    file = Path.join(tmp_dir(), "ran on")
    script = "(read go < \"$1\"; echo > \"$2\") & echo early; exit 3"
    options = if subject == SafePort, do: [orphans: :leave], else: []
    port = open_sh(subject, script, [:binary, :exit_status, {:argv, [gate, file]} | options])
    if subject == Port, do: open_gate(gate)
    assert trace(port) == [{:data, "early\n"}, {:exit_status, 3}, {:EXIT, :normal}]
    if subject == SafePort, do: open_gate(gate)
    Proc.wait_until("it ran on", fn -> File.exists?(file) end)
  end

  better "E6",
         "while a descendant holds the output, a command ends Port; SafePort has ended by then",
         subject do
    gate = gate()
    script = "(echo ready; read go < \"$1\") <&- & exit 3"
    port = open_sh(subject, script, [:binary, :exit_status, argv: [gate]])

    case subject do
      Port ->
        {:os_pid, os_pid} = subject.info(port, :os_pid)
        Proc.wait_until("the program ended", fn -> not Proc.alive?(os_pid) end)
        await_line(port, "ready")
        assert write_until_end(subject, port) == [{:EXIT, :epipe}]
        open_gate(gate)

      SafePort ->
        # Whether the descendant was ended before it said anything is open.
        assert Enum.reject(trace(port), &match?({:data, _}, &1)) == [{:exit_status, 3}, {:EXIT, :normal}]
    end
  end

  same "E7", "with :eof the port stays open after the end", subject do
    port = open_sh(subject, "echo a", [:binary, :eof])
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    assert trace(port, :eof) == [{:data, "a\n"}, :eof]
    Proc.await_gone(os_pid)
    assert subject.info(port, :os_pid) == {:os_pid, os_pid}
    assert port in subject.list()
    refute_received {^port, :eof}

    assert write_until_end(subject, port) == [{:EXIT, :epipe}]
  end

  same "E7", "after :eof the owner closes the port", subject do
    port = open_sh(subject, "exit 0", [:eof])
    assert trace(port, :eof) == [:eof]
    assert subject.close(port)
    assert_exit(port, :normal)
  end

  same "E7", ":eof comes at the end of the output, also if the program runs on", subject do
    gate = gate()
    port = open_sh(subject, "exec >&-; read go < \"$1\"; cat > /dev/null", [:eof, argv: [gate]])
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    assert trace(port, :eof) == [:eof]
    assert Proc.alive?(os_pid)
    assert subject.command(port, "x")
    open_gate(gate)
  end

  same "E8", "with :eof and :exit_status the status comes first", subject do
    for script <- ["exit 3", "echo a; exit 3", "exec >&-; exit 3"], _round <- 1..10 do
      port = open_sh(subject, script, [:eof, :exit_status])
      assert [{:exit_status, 3}, :eof] = Enum.reject(trace(port, :eof), &match?({:data, _}, &1))
    end
  end

  same "E9", "the status is the exit code, or 128 plus the signal", subject do
    for {script, status} <- [
          {"exit 0", 0},
          {"exit 1", 1},
          {"exit 127", 127},
          {"exit 255", 255},
          {"kill -KILL $$", 137},
          {"kill -TERM $$", 143},
          {"ulimit -c 0; kill -SEGV $$", 139},
          {"ulimit -c 0; kill -ABRT $$", 134},
          {"kill -USR1 $$", 138}
        ] do
      port = open_sh(subject, script, [:exit_status])
      assert {script, trace(port)} == {script, [{:exit_status, status}, {:EXIT, :normal}]}
    end
  end

  same "E9", "stopping and going on is not told", subject do
    port = open_sh(subject, "kill -STOP $$; exit 3", [:exit_status])
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    # Again and again, as it may come too early.
    Proc.wait_until("it ended", fn -> Proc.signal_if_there(os_pid, "CONT") == :gone end)
    assert trace(port) == [{:exit_status, 3}, {:EXIT, :normal}]
  end

  same "E10", "the program is reaped, whether the port is open or not", subject do
    port = open_sh(subject, "exit 3", [:eof])
    {:os_pid, open} = subject.info(port, :os_pid)
    assert trace(port, :eof) == [:eof]

    closing = open(subject, {:spawn, "cat"})
    {:os_pid, closed} = subject.info(closing, :os_pid)
    subject.close(closing)
    assert_exit(closing, :normal)

    for os_pid <- [open, closed], do: Proc.await_gone(os_pid)
    assert subject.info(port, :os_pid) == {:os_pid, open}
  end

  same "E11", "a write at the end meets the end or its traces", subject do
    for _round <- 1..20 do
      port = open_sh(subject, "exit 3", [:exit_status])
      sent = raised(fn -> subject.command(port, "x") end)
      assert sent in [{:returned, true}, ArgumentError]

      assert trace(port) in [
               [{:exit_status, 3}, {:EXIT, :normal}],
               [{:EXIT, :epipe}],
               [{:exit_status, 3}, {:EXIT, :epipe}]
             ]
    end
  end

  better "E12", "a packet longer than memory silences Port, and ends SafePort", subject do
    gate = gate()

    port =
      open_sh(subject, "printf '\\377\\377\\377\\377abc'; read go < \"$1\"; exit 3", [
        :exit_status,
        packet: 4,
        argv: [gate]
      ])

    case subject do
      Port ->
        {:os_pid, os_pid} = subject.info(port, :os_pid)
        open_gate(gate)
        Proc.wait_until("the program ended", fn -> not Proc.alive?(os_pid) end)
        assert subject.info(port, :connected) == {:connected, self()}
        assert write_until_end(subject, port) == [{:EXIT, :epipe}]

      SafePort ->
        assert [{:EXIT, reason}] = trace(port)
        assert reason in [:einval, :enomem, :emsgsize]
    end
  end
end
