defmodule SafePort.Conformance.CloseTest do
  use SafePort.Test.Conformance, async: true

  import SafePort.Test.Busy

  # Section 8: closing

  same "K1", "close returns true, and sends an exit signal but no answer", subject do
    port = open(subject, {:spawn, "cat"})
    assert subject.close(port) == true
    assert_exit(port, :normal)
    assert gone?(subject, port)
  end

  same "K1", "any process may close, also by name", subject do
    port = open(subject, {:spawn, "cat"})
    name = unique_name()
    Process.register(port, name)
    assert Actor.run(Actor.start(), fn -> subject.close(name) end)
    assert_exit(port, :normal)
  end

  same "K1", "an owner that is not linked gets nothing", subject do
    port = open(subject, {:spawn, "cat"})
    Process.unlink(port)
    assert subject.close(port)
    assert gone?(subject, port)
  end

  same "K1", "what is no open port is refused", subject do
    port = open(subject, {:spawn, "cat"})
    subject.close(port)
    assert_exit(port, :normal)

    for no_port <- [port, self(), :no_such_name, 1, "port", make_ref(), nil, []] do
      assert {no_port, raised(fn -> subject.close(no_port) end)} == {no_port, ArgumentError}
    end

    send(port, {self(), :close})
    send(port, {self(), :close})
  end

  same "K2", "a close flushes the queue in the background", subject do
    for close <- [:call, :message] do
      gate = gate()
      file = Path.join(tmp_dir(), "count")
      port = open_waiting(subject, gate, "wc -c > \"$2\"", argv: [file])
      assert subject.command(port, :binary.copy("x", 1_000_000))
      if close == :call, do: subject.close(port), else: send(port, {self(), :close})
      # Nobody has waited for the program, which reads only now.
      assert_exit(port, :normal)
      open_gate(gate)
      Proc.wait_until("all is counted", fn -> File.read(file) == {:ok, "1000000\n"} end)
      if close == :message, do: assert_receive({^port, :closed}, 5_000)
    end
  end

  same "K3", "while the port flushes, the program can still write", subject do
    gate = gate()
    file = Path.join(tmp_dir(), "seen")
    script = "trap '' PIPE; echo out && echo wrote > \"$2\"; wc -c >> \"$2\""
    port = open_waiting(subject, gate, script, argv: [file])
    assert subject.command(port, :binary.copy("x", 1_000_000))
    subject.close(port)
    assert_exit(port, :normal)
    open_gate(gate)
    Proc.wait_until("all is counted", fn -> File.read(file) == {:ok, "wrote\n1000000\n"} end)
  end

  same "K4", "a port that flushes is closed for everyone", subject do
    gate = gate()
    port = open_waiting(subject, gate, "echo lost; cat >/dev/null; exit 3", [:exit_status])
    make_busy(subject, port)
    subject.close(port)
    assert_exit(port, :normal)

    assert raised(fn -> subject.command(port, "x") end) == ArgumentError
    assert raised(fn -> subject.close(port) end) == ArgumentError
    assert raised(fn -> subject.connect(port, self()) end) == ArgumentError
    assert raised(fn -> Process.register(port, :safe_port_test_name) end) == ArgumentError
    assert await_down(subject.monitor(port)) == :noproc
    Process.link(port)
    assert_exit(port, :noproc)

    open_gate(gate)
    # Neither data nor status is delivered.
    Proc.wait_until("the port is gone", fn -> gone?(subject, port) end)
  end

  cannot "K4", "a port that flushes is still told of by Port, and gone for SafePort", subject do
    gate = gate()
    port = open_waiting(subject, gate, "cat >/dev/null")
    make_busy(subject, port)
    subject.close(port)
    assert_exit(port, :normal)

    case subject do
      Port ->
        assert subject.info(port, :links) == {:links, []}
        assert {:queue_size, queued} = subject.info(port, :queue_size)
        assert queued > 0
        assert port in subject.list()

      SafePort ->
        assert gone?(subject, port)
        assert subject.info(port, :links) == nil
    end

    open_gate(gate)
  end

  same "K5", "flushing ends when the reader is gone", subject do
    gate = gate()
    port = open_waiting(subject, gate, "exit 0")
    make_busy(subject, port)
    send(port, {self(), :close})
    assert_exit(port, :normal)
    refute_received {^port, :closed}
    open_gate(gate)
    assert_receive {^port, :closed}, 5_000
    assert gone?(subject, port)
  end

  better "K5",
         "flushing to a program that never reads is given up by SafePort after the time to end",
         subject do
    gate = gate()
    options = if subject == SafePort, do: [eof_timeout: 50], else: []
    port = open_waiting(subject, gate, "exit 0", options)
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    make_busy(subject, port)
    send(port, {self(), :close})
    assert_exit(port, :normal)

    if subject == Port do
      refute_received {^port, :closed}
      assert port in subject.list()
      open_gate(gate)
    end

    assert_receive {^port, :closed}, 5_000
    Proc.await_gone(os_pid)
  end

  same "K5", "with eof_timeout: :infinity SafePort flushes as long as it takes, too", subject do
    gate = gate()
    file = Path.join(tmp_dir(), "count")
    options = if subject == SafePort, do: [eof_timeout: :infinity], else: []
    port = open_waiting(subject, gate, "wc -c > \"$2\"", [{:argv, [file]} | options])
    assert subject.command(port, :binary.copy("x", 1_000_000))
    send(port, {self(), :close})
    assert_exit(port, :normal)
    open_gate(gate)
    assert_receive {^port, :closed}, 5_000
    Proc.wait_until("all is counted", fn -> File.read(file) == {:ok, "1000000\n"} end)
  end

  same "K6", "what was delivered stays, what comes after is lost", subject do
    port = open(subject, {:spawn, "cat 2>/dev/null"}, [:binary])
    subject.command(port, "kept")
    kept = read(port, 4)
    subject.close(port)
    assert_exit(port, :normal)
    assert kept == "kept"

    gate = gate()
    file = Path.join(tmp_dir(), "ended")
    port = open_waiting(subject, gate, "trap '' PIPE; echo lost 2>/dev/null; echo > \"$2\"", argv: [file])
    subject.close(port)
    assert_exit(port, :normal)
    open_gate(gate)
    Proc.wait_until("the program ended", fn -> File.exists?(file) end)
  end

  same "K7", "a closed program sees the end of its input", subject do
    file = Path.join(tmp_dir(), "seen")
    port = open_sh(subject, "cat; echo end > \"$1\"", [:binary, argv: [file]])
    subject.command(port, "x")
    assert read(port, 1) == "x"
    subject.close(port)
    assert_exit(port, :normal)
    Proc.wait_until("the end was seen", fn -> File.read(file) == {:ok, "end\n"} end)
  end

  better "K7",
         "a program that does not end by itself runs on after Port, and is ended by SafePort",
         subject do
    gate = gate()
    options = if subject == SafePort, do: [eof_timeout: 50], else: []
    port = open_waiting(subject, gate, "exit 0", options)
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    subject.close(port)
    assert_exit(port, :normal)

    if subject == Port do
      assert Proc.alive?(os_pid)
      open_gate(gate)
    end

    Proc.await_gone(os_pid)
  end

  better "K7", "SafePort ends the whole tree, also what ignores SIGTERM", subject do
    gate = gate()
    options = if subject == SafePort, do: [eof_timeout: 50, kill_timeout: 50], else: []
    inner = gate()
    script = "trap '' TERM; (echo ready; read go < \"$2\") & read go < \"$1\""
    port = open_sh(subject, script, [:binary, {:argv, [gate, inner]} | options])
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    await_line(port, "ready")
    subject.close(port)
    assert_exit(port, :normal)
    if subject == Port, do: Enum.each([gate, inner], &open_gate/1)
    Proc.await_gone(os_pid)
  end

  same "K7", "with eof_timeout: :infinity a program runs on after SafePort, too", subject do
    gate = gate()
    file = Path.join(tmp_dir(), "ran on")
    options = if subject == SafePort, do: [eof_timeout: :infinity], else: []
    port = open_waiting(subject, gate, "echo > \"$2\"", [{:argv, [file]} | options])
    subject.close(port)
    assert_exit(port, :normal)
    open_gate(gate)
    Proc.wait_until("it ran on", fn -> File.exists?(file) end)
  end

  better "K8", "programs survive a killed VM with Port, and end with SafePort", subject do
    gate = gate()
    file = Path.join(tmp_dir(), "os_pid")

    %{status: status} =
      in_vm subject, bind: [gate: gate, file: file, tag: tag()] do
        port =
          subject.open({:spawn_executable, "/bin/sh"},
            args: ["-c", "read go < \"$1\"", "sh", gate],
            env: [tag]
          )

        {:os_pid, os_pid} = subject.info(port, :os_pid)
        File.write!(file, Integer.to_string(os_pid))
        System.cmd("/bin/kill", ["-KILL", System.pid()])
        receive do: (:never -> :ok)
      end

    assert status == 137
    os_pid = file |> File.read!() |> String.to_integer()

    if subject == Port do
      assert Proc.alive?(os_pid)
      open_gate(gate)
    end

    Proc.await_gone(os_pid)
  end

  cannot "K9", "System.halt waits for the queues of Port; with SafePort the programs end", subject do
    gate = gate()
    folder = tmp_dir()
    script = "read go < \"$1\"; wc -c > \"$2/count\""

    %{status: 0} =
      in_vm subject, bind: [gate: gate, folder: folder, script: script, tag: tag()] do
        args = ["-c", script, "sh", gate, folder]
        port = subject.open({:spawn_executable, "/bin/sh"}, args: args, env: [tag])
        subject.command(port, :binary.copy("x", 1_000_000))

        if subject == Port do
          # The program reads when the VM is about to halt.
          opener = "(until test -e \"$2/halting\"; do :; done; echo go > \"$1\") >/dev/null 2>&1 &"
          System.cmd("/bin/sh", ["-c", opener, "sh", gate, folder])
          File.write!(Path.join(folder, "halting"), "")
        end

        System.halt(0)
      end

    if subject == Port do
      Proc.wait_until("all is counted", fn -> File.read(Path.join(folder, "count")) == {:ok, "1000000\n"} end)
    end
  end

  cannot "K9", "halting without flushing waits for nothing", subject do
    gate = gate()

    %{status: 0} =
      in_vm subject, bind: [gate: gate, tag: tag()] do
        port =
          subject.open({:spawn_executable, "/bin/sh"},
            args: ["-c", "read go < \"$1\"", "sh", gate],
            env: [tag]
          )

        subject.command(port, :binary.copy("x", 1_000_000))
        :erlang.halt(0, flush: false)
      end

    # Nobody ended it, as nobody does for Port (K8).
    if subject == Port, do: open_gate(gate)
  end
end
