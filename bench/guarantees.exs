# What is left of a tree of five processes (leader, child in its group, child in a session of its own, daemon, child that
# ignores SIGTERM) after each cause of an end. Each cause has a VM and a tree of its own, and the trees of SafePort those
# of the tests.
#
#     bin/guarantees

defmodule Guarantees do
  alias SafePort.Test.{Proc, Vm}

  @eof_timeout 100
  @kill_timeout 500
  # Nothing that has not ended after this ends at all.
  @patience 5_000

  # In the VM that has the tree: `port` and `owner`, a child of `supervisor`, and `helper`, the process that starts
  # programs, the guardian or the built-in's `erl_child_setup`.
  @causes [
    {"close/1", "subject.close(port)"},
    {"the close message", "send(port, {owner, :close})"},
    {"the owner ends normally", "send(owner, {:exit, :normal})"},
    {"the owner crashes", "send(owner, {:exit, :crash})"},
    {"the owner is killed", "Process.exit(owner, :kill)"},
    {"the port is killed", "Process.exit(port, :kill)"},
    {"a supervisor shuts the owner down", "Supervisor.stop(supervisor)"},
    {"the program ends by itself", "subject.command(port, \"go\\n\")"},
    {"System.halt/1", "System.halt(0)"},
    {":init.stop/0", ":init.stop()"},
    {"the VM aborts", ":erlang.halt(:abort)"},
    {"the VM is killed", "kill.([Proc.vm()])"},
    {"the process that starts programs is killed", "kill.([helper])"},
    {"both are killed together", "kill.([helper, Proc.vm()])"}
  ]

  def run do
    IO.puts(
      "Survivors of a tree of five processes #{div(@patience, 1000)} s after the cause, and milliseconds until none was"
    )

    IO.puts("left. SafePort has eof_timeout: #{@eof_timeout} and kill_timeout: #{@kill_timeout}.\n")
    IO.puts(row(["cause", "SafePort", "ms", "Port", "ms"]))
    IO.puts("|---|---|---|---|---|")

    left =
      for {name, cause} <- @causes do
        [{left, _ms} = ours, theirs] = for subject <- [SafePort, Port], do: outcome(subject, name, cause)
        IO.puts(row([name | Enum.flat_map([ours, theirs], &cells/1)]))
        left
      end

    if Enum.sum(left) > 0, do: System.halt(1)
  end

  defp row(cells), do: "| #{Enum.join(cells, " | ")} |"

  defp cells({0, ms}), do: ["0", ms]
  defp cells({left, _ms}), do: [left, "-"]

  # The survivors, and how long it took.
  defp outcome(subject, name, cause) do
    tag = "guarantees.#{System.pid()}.#{System.unique_integer([:positive])}"
    file = Path.join(System.tmp_dir!(), tag)
    leader = if name == "the program ends by itself", do: :obeys, else: :stays
    options = if subject == SafePort, do: [eof_timeout: @eof_timeout, kill_timeout: @kill_timeout], else: []
    bind = [tag: tag, file: file, options: options, kind: [leader: leader, subject: subject]]
    vm = Task.async(fn -> Vm.run(subject, code(cause), bind: bind, shell: "ulimit -c 0") end)

    try do
      {vm_pid, os_pids, begun} = Proc.wait_until("the VM has a tree", fn -> read(file) end)
      left = await_none(os_pids, begun + @patience * 1_000)
      ms = div(System.os_time(:microsecond) - begun, 1_000)
      Enum.each([vm_pid | left], &Proc.signal_if_there(&1, "KILL"))
      Task.await(vm)
      {length(left), ms}
    after
      File.rm(file)
    end
  end

  # There as a whole, as it was renamed.
  defp read(file) do
    with {:ok, term} <- File.read(file), do: :erlang.binary_to_term(term), else: (_error -> nil)
  end

  defp await_none(os_pids, deadline) do
    left = Enum.filter(os_pids, &Proc.alive?/1)

    if left == [] or System.os_time(:microsecond) > deadline do
      left
    else
      Process.sleep(1)
      await_none(os_pids, deadline)
    end
  end

  defp code(cause) do
    """
    alias SafePort.Test.{Proc, Tree}
    Process.flag(:trap_exit, true)
    # Otherwise the VM tells on standard error what is meant to happen.
    Logger.configure(level: :none)
    main = self()

    own = fn ->
      send(main, {self(), Tree.grow(tag, options, kind)})

      receive do
        {:exit, reason} -> exit(reason)
      end
    end

    child = %{id: :owner, start: {Task, :start_link, [own]}, restart: :temporary}
    {:ok, supervisor} = Supervisor.start_link([child], strategy: :one_for_one)
    {owner, tree} = receive do: ({pid, %Tree{} = tree} -> {pid, tree})
    port = tree.port
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    helper = Proc.stat(os_pid).ppid
    kill = fn os_pids -> System.cmd("/bin/sh", ["-c", "kill -KILL " <> Enum.join(os_pids, " ")]) end
    told = {Proc.vm(), tree.os_pids, System.os_time(:microsecond)}
    File.write!(file <> ".new", :erlang.term_to_binary(told))
    File.rename!(file <> ".new", file)
    #{cause}
    receive do: (:never -> :ok)
    """
  end
end

Guarantees.run()
