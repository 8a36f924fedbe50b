defmodule SafePort.Conformance.SurroundingsTest do
  use SafePort.Test.Conformance, async: true

  # Section 10: what a program finds around it

  @sigfpe 8
  @sigpipe 13
  @sigterm 15
  @sigchld 17

  better "S1",
         "SIGPIPE and SIGFPE are ignored in programs of Port, and nothing is in those of SafePort",
         subject do
    os_pid = running_cat(subject)
    ignored = Proc.signals(os_pid, "SigIgn")

    case subject do
      Port -> assert @sigpipe in ignored and @sigfpe in ignored
      SafePort -> assert ignored == []
    end
  end

  better "S1",
         "writing for a reader that is gone is an error with Port, and the end with SafePort",
         subject do
    script = "(while echo y; do :; done; echo $? > \"$1/status\") 2>/dev/null | head -n 1; true"
    folder = tmp_dir()
    port = open_sh(subject, script, [:binary, :exit_status, argv: [folder]])
    assert result(port) == {"y\n", 0}
    # The writer of a pipe that nobody reads got to the line after its loop, or was ended in it.
    if subject == Port,
      do: Proc.wait_until("the loop ended", fn -> File.exists?(Path.join(folder, "status")) end)

    assert File.exists?(Path.join(folder, "status")) == (subject == Port)
  end

  same "S1", "SIGTERM has its default, no signal is blocked, and none is handled", subject do
    os_pid = running_cat(subject)
    refute @sigterm in Proc.signals(os_pid, "SigIgn")
    assert Proc.signals(os_pid, "SigBlk") == []
    assert Proc.signals(os_pid, "SigCgt") == []
  end

  same "S2",
       "a program leads a session and group of its own, has no terminal, and the VM is not its parent",
       subject do
    os_pid = running_cat(subject)
    assert %{pgid: ^os_pid, sid: ^os_pid, tty: 0, ppid: parent} = Proc.stat(os_pid)
    assert parent != Proc.vm()
    # The VM's helper, or the guardian, which has its sentinel above it.
    grandparent = Proc.stat(parent).ppid
    assert grandparent in [Proc.vm(), 1] or Proc.stat(grandparent).ppid in [Proc.vm(), 1]
  end

  same "S3", "only the standard descriptors are open, whatever the VM has open", subject do
    folder = tmp_dir()

    files =
      for number <- 1..20 do
        {:ok, file} = File.open(Path.join(folder, "#{number}"), [:write, :raw])
        file
      end

    {:ok, socket} = :gen_tcp.listen(0, [])
    ports = for _number <- 1..10, do: open(subject, {:spawn, "cat"})

    os_pids =
      1..20
      |> Enum.map(fn _number -> Actor.start() end)
      |> Enum.map(&Actor.ask(&1, open_cat(subject)))
      |> Enum.map(fn answer ->
        {:ok, os_pid} = await_answer(answer)
        os_pid
      end)

    for os_pid <- os_pids do
      assert os_pid |> Proc.descriptors() |> Map.keys() == [0, 1, 2]
    end

    for file <- files, do: File.close(file)
    :gen_tcp.close(socket)
    for port <- ports, do: assert(subject.info(port) != nil)
  end

  same "S3", "with :nouse_stdio 3 and 4 are open as well", subject do
    port = open_sh(subject, "exec cat <&3 >&4", [:nouse_stdio, :binary])
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    await_echo(subject, port)
    assert os_pid |> Proc.descriptors() |> Map.keys() == [0, 1, 2, 3, 4]
  end

  same "S4", "input and output are two pipes, blocking for the program", subject do
    os_pid = running_cat(subject)
    assert %{0 => "pipe:" <> input, 1 => "pipe:" <> output} = Proc.descriptors(os_pid)
    assert input != output
    refute Proc.nonblocking?(os_pid, 0)
    refute Proc.nonblocking?(os_pid, 1)

    # The VM's ends of them are not.
    ends = for {number, "pipe:" <> pipe} <- Proc.descriptors(Proc.vm()), pipe in [input, output], do: number
    assert length(ends) == 2
    for number <- ends, do: assert(Proc.nonblocking?(Proc.vm(), number))
  end

  same "S5", "user, umask, niceness, limits and processors are the VM's", subject do
    os_pid = running_cat(subject)

    for field <- ["Uid", "Gid", "Groups", "Umask", "Cpus_allowed", "NoNewPrivs", "Seccomp"] do
      assert {field, Proc.status(os_pid, field)} == {field, Proc.status(Proc.vm(), field)}
    end

    assert File.read!("/proc/#{os_pid}/limits") == File.read!("/proc/#{Proc.vm()}/limits")
    assert niceness(os_pid) == niceness(Proc.vm())
  end

  same "S6", "standard error is the VM's", subject do
    os_pid = running_cat(subject)
    assert Proc.descriptors(os_pid)[2] == Proc.descriptors(Proc.vm())[2]
  end

  same "S6", "what a program writes to standard error comes out of the VM's", subject do
    %{output: output, result: :ok} =
      in_vm subject do
        port = subject.open({:spawn, "sh -c 'echo complaint >&2'"}, [])
        Process.flag(:trap_exit, true)
        receive do: ({:EXIT, ^port, :normal} -> :ok)
      end

    assert output =~ "complaint\n"
  end

  same "S7", "the VM goes on to ignore SIGCHLD, and exit statuses are told none the less", subject do
    assert @sigchld in Proc.signals(Proc.vm(), "SigIgn")

    for status <- [0, 3],
        do: assert(result(open_sh(subject, "exit #{status}", [:binary, :exit_status])) == {"", status})

    assert @sigchld in Proc.signals(Proc.vm(), "SigIgn")
  end

  better "S8",
         "when the helper that starts programs is killed, Port's VM ends, SafePort's ports do",
         subject do
    %{result: result, status: status, output: output} =
      in_vm subject, bind: [tag: tag()] do
        Process.flag(:trap_exit, true)

        # With :exit_status the end of the output alone, which the death of the helper brings about, is not the end.
        port = subject.open({:spawn, "cat"}, [:exit_status, env: [tag]])
        {:os_pid, os_pid} = subject.info(port, :os_pid)
        helper = SafePort.Test.Proc.stat(os_pid).ppid
        SafePort.Test.Proc.signal(helper, "KILL")

        reason =
          receive do
            {:EXIT, ^port, reason} -> reason
          end

        next = subject.open({:spawn, "echo on"}, [:binary, :exit_status, env: [tag]])

        on =
          receive do
            {^next, {:data, data}} -> data
          end

        {reason, on}
      end

    case subject do
      Port ->
        assert status != 0
        assert output =~ "erl_child_setup"

      SafePort ->
        assert result == {:guardian_down, "on\n"}, output
    end
  end

  better "S9",
         "open returns when the program's process is there; with SafePort, when it runs the program",
         subject do
    for _round <- 1..20 do
      port = open(subject, {:spawn_executable, "/bin/cat"}, args: ["-"])
      {:os_pid, os_pid} = subject.info(port, :os_pid)
      # The first thing that exec changes; the arguments become readable a moment later.
      runs = fn -> "/proc/#{os_pid}/exe" |> File.read_link!() |> Path.basename() == "cat" end
      if subject == Port, do: Proc.wait_until("cat runs", runs), else: assert(runs.())
    end
  end

  defp running_cat(subject) do
    port = open(subject, {:spawn, "cat"}, [:binary])
    await_echo(subject, port)
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    os_pid
  end

  # It is loaded and waits for more.
  defp await_echo(subject, port) do
    subject.command(port, "x")
    assert_receive {^port, {:data, "x"}}, 5_000
  end

  defp open_cat(subject) do
    options = [:binary, env: [tag()]]

    fn ->
      port = subject.open({:spawn, "cat"}, options)
      await_echo(subject, port)
      {:os_pid, os_pid} = subject.info(port, :os_pid)
      os_pid
    end
  end

  defp niceness(os_pid),
    do:
      File.read!("/proc/#{os_pid}/stat") |> String.split(") ") |> List.last() |> String.split() |> Enum.at(16)
end

defmodule SafePort.Conformance.SurroundingsAloneTest do
  # Changes the working directory of the VM.
  use SafePort.Test.Conformance, async: false

  same "S5", "the folder is the VM's of the moment", subject do
    before = File.cwd!()
    folder = tmp_dir()

    try do
      File.cd!(folder)
      assert result(open(subject, {:spawn, "pwd"}, [:binary, :exit_status])) == {folder <> "\n", 0}
      File.mkdir!("below")

      assert result(open(subject, {:spawn, "pwd"}, [:binary, :exit_status, cd: "below"])) ==
               {folder <> "/below\n", 0}
    after
      File.cd!(before)
    end
  end
end
