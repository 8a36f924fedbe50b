# SafePort on real programs, step by step: what was done, how much of it, how long it took, and a verdict.
#
#     mix run examples/demo.exs

defmodule Demo do
  @requests 10_000
  @megabyte 1_048_576
  @megabytes 256
  @step_timeout_ms 120_000

  def run do
    steps = [
      {"A conversation with cat, by messages", &cat/0},
      {"#{@requests} requests to a worker in Python, in packets", &worker/0},
      {"#{@megabytes} MiB through gzip -1 and gzip -d", &gzip/0},
      {"Programs that cannot be started", &errors/0},
      {"A VM that is killed with SIGKILL", &killed_vm/0}
    ]

    failed =
      for {{title, step}, number} <- Enum.with_index(steps, 1),
          perform(number, title, step) != :ok,
          do: number

    if failed == [] do
      IO.puts("All #{length(steps)} steps did what they should.")
    else
      IO.puts("Failed: step #{Enum.join(failed, ", ")}.")
      System.halt(1)
    end
  end

  # Each step in a process of its own, so that one that crashes or hangs is a step that failed.
  defp perform(number, title, step) do
    IO.puts("#{number}. #{title}")
    {pid, monitor} = spawn_monitor(fn -> exit({:verdict, :timer.tc(step)}) end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:verdict, {us, :ok}}} ->
        IO.puts("   => ok, #{ms(us)}\n")

      {:DOWN, ^monitor, :process, ^pid, {:verdict, {us, reason}}} ->
        IO.puts("   => FAILED, #{ms(us)}: #{inspect(reason)}\n")
        :failed

      {:DOWN, ^monitor, :process, ^pid, crash} ->
        IO.puts("   => FAILED: #{Exception.format_exit(crash)}\n")
        :failed
    after
      @step_timeout_ms ->
        Process.exit(pid, :kill)
        IO.puts("   => FAILED: took longer than #{@step_timeout_ms} ms\n")
        :failed
    end
  end

  defp say(text), do: IO.puts("   " <> text)
  defp ms(us), do: "#{Float.round(us / 1_000, 1)} ms"
  defp program!(name), do: System.find_executable(name) || raise("there is no #{name} in PATH")

  ## 1

  defp cat do
    port = SafePort.open({:spawn, "cat"}, [:binary])

    for word <- ["hello", "world"] do
      send(port, {self(), {:command, word}})
      receive(do: ({^port, {:data, ^word}} -> say("sent #{inspect(word)}, got it back")))
    end

    send(port, {self(), :close})

    receive(
      do: ({^port, :closed} -> say("sent :close, got :closed; info is now #{inspect(SafePort.info(port))}"))
    )

    :ok
  end

  ## 2

  defp worker do
    script = Path.join(__DIR__, "worker.py")
    port = SafePort.open({:spawn_executable, program!("python3")}, [:binary, packet: 4, args: [script]])

    {us, wrong} =
      :timer.tc(fn ->
        Enum.count(1..@requests, fn number ->
          SafePort.command(port, "[#{number}, 1, 0.5]")
          receive(do: ({^port, {:data, answer}} -> answer != "#{number + 1}.5"))
        end)
      end)

    {:output, sent} = SafePort.info(port, :output)
    {:input, received} = SafePort.info(port, :input)
    SafePort.close(port)
    say("#{@requests - wrong} right answers; #{sent} bytes sent, #{received} received")
    say("#{Float.round(us / @requests, 1)} us for a request and its answer")
    if wrong == 0, do: :ok, else: {:wrong_answers, wrong}
  end

  ## 3

  # This process feeds the packer, a second passes on what it says to the unpacker, a third digests what comes out.
  # command/2 waits while a program does not keep up, and recv/1 reads only what is asked for: little is in memory.
  defp gzip do
    chunk =
      for(line <- 1..8_192, into: "", do: "This is line #{line} of a chunk.\n") |> binary_part(0, 131_072)

    chunks = div(@megabytes * @megabyte, byte_size(chunk))
    demo = self()

    digester =
      Task.async(fn ->
        unpacker = filter("-d")
        send(demo, {:unpacker, unpacker})
        digest(unpacker, :erlang.md5_init(), 0, 0)
      end)

    unpacker = receive(do: ({:unpacker, port} -> port))

    forwarder =
      Task.async(fn ->
        packer = filter("-1")
        send(demo, {:packer, packer})
        forward(packer, unpacker, 0)
      end)

    packer = receive(do: ({:packer, port} -> port))

    sent =
      Enum.reduce(1..chunks, :erlang.md5_init(), fn _number, hash ->
        SafePort.command(packer, chunk)
        :erlang.md5_update(hash, chunk)
      end)

    SafePort.close_stdin(packer)
    packed = Task.await(forwarder, :infinity)
    {received, bytes, peak} = Task.await(digester, :infinity)

    say("#{mib(chunks * byte_size(chunk))} in, #{mib(packed)} packed, #{mib(bytes)} out")
    say("MD5 in  #{hex(:erlang.md5_final(sent))}")
    say("MD5 out #{hex(received)}")
    say("the VM used at most #{mib(peak)} of memory")
    if received == :erlang.md5_final(sent), do: :ok, else: :digests_differ
  end

  defp filter(option) do
    SafePort.open({:spawn_executable, program!("gzip")}, [:binary, active: false, args: [option]])
  end

  defp forward(packer, unpacker, bytes) do
    case SafePort.recv(packer) do
      {:ok, data} ->
        SafePort.command(unpacker, data)
        forward(packer, unpacker, bytes + byte_size(data))

      {:error, :closed} ->
        SafePort.close_stdin(unpacker)
        bytes
    end
  end

  defp digest(unpacker, hash, bytes, peak) do
    case SafePort.recv(unpacker) do
      {:ok, data} ->
        peak = max(peak, :erlang.memory(:total))
        digest(unpacker, :erlang.md5_update(hash, data), bytes + byte_size(data), peak)

      {:error, :closed} ->
        {:erlang.md5_final(hash), bytes, peak}
    end
  end

  defp mib(bytes), do: "#{Float.round(bytes / @megabyte, 1)} MiB"
  defp hex(digest), do: Base.encode16(digest, case: :lower)

  ## 4

  defp errors do
    folder = Path.join(System.tmp_dir!(), "safe_port_demo_#{System.pid()}")
    script = Path.join(folder, "script")
    File.mkdir_p!(folder)
    File.write!(script, "#!/no/such/interpreter\n")
    File.chmod!(script, 0o755)

    cases = [
      {"a program that does not exist", "/no/such/program", [], :enoent},
      {"a directory", folder, [], :eacces},
      {"a script whose interpreter is missing", script, [], :enoent},
      {"a :cd that does not exist", program!("cat"), [cd: "/no/such/directory"], :enoent}
    ]

    wrong = for {what, file, options, expected} <- cases, refused(what, file, options) != expected, do: what
    File.rm_rf!(folder)
    if wrong == [] and SafePort.list() == [], do: :ok, else: {wrong, SafePort.list()}
  end

  defp refused(what, file, options) do
    port = SafePort.open({:spawn_executable, file}, options)
    say("#{what}: opened as #{inspect(port)}")
  rescue
    error in ErlangError ->
      say("#{what}: ErlangError, #{inspect(error.original)}")
      error.original
  end

  ## 5

  # The second VM is started by the built-in Port, so that nobody but its own SafePort looks after what it leaves.
  defp killed_vm do
    tag = "SAFE_PORT_DEMO=#{System.pid()}.#{System.unique_integer([:positive])}"
    [variable, value] = String.split(tag, "=")
    paths = Enum.flat_map(:code.get_path(), &["-pa", to_string(&1)])
    env = [{to_charlist(variable), to_charlist(value)}]
    options = [:binary, :exit_status, line: 200, env: env, args: paths ++ ["-e", second_vm()]]
    vm = Port.open({:spawn_executable, program!("elixir")}, options)

    # The shell says this when its children run.
    receive(do: ({^vm, {:data, {:eol, "children run"}}} -> :ok))
    {:os_pid, os_pid} = Port.info(vm, :os_pid)
    say("the processes of the second VM, whose process id is #{os_pid}:")
    for line <- ["    pid   ppid    sid command" | processes(tag)], do: say(line)

    started = System.monotonic_time(:microsecond)
    {"", 0} = System.cmd(program!("sh"), ["-c", "kill -KILL #{os_pid}"])
    receive(do: ({^vm, {:exit_status, status}} -> say("killed it: status #{status}")))
    left = await_none(tag, started + 10_000_000)

    say(
      "#{length(left)} processes are left #{ms(System.monotonic_time(:microsecond) - started)} after the kill"
    )

    for line <- left, do: say(line)
    if left == [], do: :ok, else: {:left, left}
  end

  # A shell with children in the background: a plain one, one that ignores SIGTERM, one whose parent is gone, and one in
  # a session of its own.
  defp second_vm do
    ~S"""
    {:ok, _} = Application.ensure_all_started(:safe_port)

    session = "setsid sh -c 'echo ready; exec sleep 3004'"
    shell = "sleep 3001 & (trap '' TERM; exec sleep 3002) & (sleep 3003 &); #{session} & wait"
    port = SafePort.open({:spawn_executable, "/bin/sh"}, [:binary, line: 80, args: ["-c", shell]])
    receive(do: ({^port, {:data, {:eol, "ready"}}} -> IO.puts("children run")))
    # Until it is killed, or the demo is gone.
    IO.gets("")
    """
  end

  defp await_none(tag, deadline) do
    case processes(tag) do
      [] ->
        []

      left ->
        if System.monotonic_time(:microsecond) > deadline do
          left
        else
          Process.sleep(5)
          await_none(tag, deadline)
        end
    end
  end

  # All processes with the tag in their environment, zombies aside, which have none.
  defp processes(tag) do
    for os_pid <-
          "/proc" |> File.ls!() |> Enum.filter(&(&1 =~ ~r/^\d+$/)) |> Enum.sort_by(&String.to_integer/1),
        {:ok, environment} <- [File.read("/proc/#{os_pid}/environ")],
        tag in String.split(environment, <<0>>),
        {:ok, stat} <- [File.read("/proc/#{os_pid}/stat")],
        {:ok, command} <- [File.read("/proc/#{os_pid}/cmdline")] do
      [_state, ppid, _pgid, sid | _] = stat |> String.split(") ") |> List.last() |> String.split()
      numbers = Enum.map_join([os_pid, ppid, sid], " ", &String.pad_leading(&1, 6))
      " #{numbers} #{command |> String.replace(<<0>>, " ") |> String.slice(0, 55)}"
    end
  end
end

Demo.run()
