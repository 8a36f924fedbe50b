# SafePort on real programs, step by step: what was done, how much of it, how long it took, and a verdict.
#
#     mix run examples/demo.exs

defmodule Demo do
  @requests 10_000
  @megabytes 256

  def run do
    steps = [
      {"cat, by messages", &cat/0},
      {"#{@requests} requests to a Python worker in packets", &worker/0},
      {"#{@megabytes} MiB through gzip and back", &gzip/0},
      {"programs that cannot be started", &errors/0},
      {"a VM that is killed with SIGKILL", &killed_vm/0}
    ]

    failed =
      for {{title, step}, number} <- Enum.with_index(steps, 1), not perform(number, title, step), do: number

    if failed != [] do
      IO.puts("failed: step #{Enum.join(failed, ", ")}")
      System.halt(1)
    end

    IO.puts("All #{length(steps)} steps did what they should.")
  end

  defp perform(number, title, step) do
    IO.puts("#{number}. #{title}")
    {us, result} = :timer.tc(fn -> attempt(step) end)
    verdict = if result == :ok, do: "ok", else: "FAILED: #{inspect(result)}"
    IO.puts("   #{verdict}, #{div(us, 1000)} ms\n")
    result == :ok
  end

  defp attempt(step) do
    step.()
  rescue
    error -> error
  end

  defp say(text), do: IO.puts("   " <> text)

  ## 1

  defp cat do
    port = SafePort.open({:spawn, "cat"}, [:binary])
    send(port, {self(), {:command, "hello"}})
    say("sent hello, got #{inspect(take(port, 5))}")
    send(port, {self(), {:command, "world"}})
    say("sent world, got #{inspect(take(port, 5))}")
    send(port, {self(), :close})

    receive do
      {^port, :closed} -> say("closed: #{inspect(SafePort.info(port))}")
    after
      5_000 -> raise "the port did not close"
    end

    :ok
  end

  defp take(port, bytes, data \\ "")
  defp take(_port, bytes, data) when byte_size(data) == bytes, do: data

  defp take(port, bytes, data) do
    receive do
      {^port, {:data, more}} -> take(port, bytes, data <> more)
    after
      5_000 -> raise "nothing came"
    end
  end

  ## 2

  defp worker do
    python = System.find_executable("python3") || raise "python3 is not installed"
    script = Path.join(__DIR__, "worker.py")
    port = SafePort.open({:spawn_executable, python}, [:binary, packet: 4, args: [script]])

    {us, wrong} =
      :timer.tc(fn ->
        Enum.count(1..@requests, fn number ->
          SafePort.command(port, "[#{number}, 1]")
          expected = Integer.to_string(number + 1)

          receive do
            {^port, {:data, ^expected}} -> false
            {^port, {:data, _other}} -> true
          after
            5_000 -> raise "no answer"
          end
        end)
      end)

    {:input, input} = SafePort.info(port, :input)
    {:output, output} = SafePort.info(port, :output)
    SafePort.close(port)
    say("#{@requests - wrong} right answers, #{output} bytes out, #{input} in, #{div(us, @requests)} us each")
    if wrong == 0, do: :ok, else: {:wrong_answers, wrong}
  end

  ## 3

  # Two filters, each a port of a process of its own; what one says is what the other gets. command/2 blocks while a
  # program does not keep up, so little is held in memory at any time.
  defp gzip do
    chunk = for(number <- 1..8_192, into: "", do: "line #{number} of the demo\n") |> binary_part(0, 131_072)
    count = div(@megabytes * 1_048_576, byte_size(chunk))

    digest =
      Enum.reduce(1..count, :crypto.hash_init(:sha256), fn _, hash -> :crypto.hash_update(hash, chunk) end)

    sink = self()

    unpacker =
      spawn_link(fn ->
        port = filter(["-d"])
        send(sink, {:unpacker, port})
        unpack(port, sink, :crypto.hash_init(:sha256), 0)
      end)

    port = receive(do: ({:unpacker, port} -> port))
    spawn_link(fn -> pack(port, unpacker, chunk, count) end)

    receive do
      {:unpacked, bytes, unpacked} ->
        same = unpacked == :crypto.hash_final(digest)
        say("#{div(bytes, 1_048_576)} MiB back, SHA-256 #{if same, do: "is the same", else: "DIFFERS"}")
        say("memory of the VM: #{div(:erlang.memory(:total), 1_048_576)} MiB")
        if same and bytes == count * byte_size(chunk), do: :ok, else: :digest_differs
    after
      120_000 -> raise "gzip did not end"
    end
  end

  defp filter(args) do
    gzip = System.find_executable("gzip") || raise "gzip is not installed"
    SafePort.open({:spawn_executable, gzip}, [:binary, :exit_status, active: false, args: args])
  end

  defp pack(unpacker_port, unpacker, chunk, count) do
    packer = self()

    reader =
      spawn_link(fn ->
        receive do
          {:port, port} -> forward(port, unpacker_port, unpacker)
        end
      end)

    port = filter(["-1"])
    SafePort.connect(port, reader)
    send(reader, {:port, port})
    for _ <- 1..count, do: SafePort.command(port, chunk)
    SafePort.close_stdin(port)
    monitor = Process.monitor(reader)
    Process.unlink(port)

    receive do
      {:DOWN, ^monitor, :process, ^reader, _reason} -> packer
    end
  end

  defp forward(port, unpacker_port, unpacker) do
    case SafePort.recv(port) do
      {:ok, data} ->
        SafePort.command(unpacker_port, data)
        forward(port, unpacker_port, unpacker)

      {:error, :closed} ->
        SafePort.close_stdin(unpacker_port)
    end
  end

  defp unpack(port, sink, hash, bytes) do
    case SafePort.recv(port) do
      {:ok, data} -> unpack(port, sink, :crypto.hash_update(hash, data), bytes + byte_size(data))
      {:error, :closed} -> send(sink, {:unpacked, bytes, :crypto.hash_final(hash)})
    end
  end

  ## 4

  defp errors do
    folder = Path.join(System.tmp_dir!(), "safe_port_demo_#{System.pid()}")
    script = Path.join(folder, "script")
    File.mkdir_p!(folder)
    File.write!(script, "#!/no/such/interpreter\n")
    File.chmod!(script, 0o755)

    cases = [
      {"a file that does not exist", :enoent, "/no/such/program", []},
      {"a folder", :eacces, folder, []},
      {"a script whose interpreter is missing", :enoent, script, []},
      {"a working directory that does not exist", :enoent, "/bin/cat", [cd: "/no/such/folder"]}
    ]

    wrong =
      for {what, expected, file, options} <- cases,
          raised = refused(file, options),
          say("#{what}: #{inspect(raised)}"),
          raised != expected,
          do: what

    File.rm_rf!(folder)
    if wrong == [], do: :ok, else: wrong
  end

  defp refused(file, options) do
    SafePort.open({:spawn_executable, file}, options)
  rescue
    error in ErlangError -> error.original
  end

  ## 5

  defp killed_vm do
    tag = "safe_port_demo_#{System.pid()}_#{System.unique_integer([:positive])}"

    code = """
    shell = "sleep 3001 & setsid sleep 3002 & (trap '' TERM; exec sleep 3003) & wait"
    SafePort.open({:spawn_executable, "/bin/sh"}, args: ["-c", shell], env: [{"DEMO_TAG", "#{tag}"}])
    IO.puts("ready \#{System.pid()}")
    Process.sleep(:infinity)
    """

    paths = Enum.flat_map(:code.get_path(), &["-pa", to_string(&1)])
    elixir = System.find_executable("elixir") || raise "elixir is not in PATH"
    start = ["-e", "{:ok, _} = Application.ensure_all_started(:safe_port)", "-e", code]
    vm = SafePort.open({:spawn_executable, elixir}, [:binary, line: 200, args: paths ++ start])

    os_pid =
      receive do
        {^vm, {:data, {:eol, "ready " <> os_pid}}} -> os_pid
      after
        30_000 -> raise "the second VM did not start"
      end

    wait_until(fn -> length(tagged(tag)) == 4 end)
    say("before:")
    for line <- tagged(tag), do: say("  " <> line)
    {_, 0} = System.cmd("kill", ["-KILL", os_pid])
    {us, gone} = :timer.tc(fn -> wait_until(fn -> tagged(tag) == [] end) end)
    say("after: #{length(tagged(tag))} processes, #{div(us, 1000)} ms after the kill")
    if gone, do: :ok, else: {:left, tagged(tag)}
  end

  # What runs with the tag in its environment, read from /proc.
  defp tagged(tag) do
    for folder <- Path.wildcard("/proc/[0-9]*"),
        {:ok, environment} <- [File.read(Path.join(folder, "environ"))],
        environment =~ "DEMO_TAG=" <> tag,
        {:ok, command} <- [File.read(Path.join(folder, "cmdline"))],
        command != "",
        do: "#{Path.basename(folder)} #{command |> String.replace(<<0>>, " ") |> String.slice(0, 70)}"
  end

  defp wait_until(condition, tries \\ 500)
  defp wait_until(_condition, 0), do: false

  defp wait_until(condition, tries) do
    if condition.() do
      true
    else
      receive(do: (:never -> :ok), after: (20 -> :ok))
      wait_until(condition, tries - 1)
    end
  end
end

Demo.run()
