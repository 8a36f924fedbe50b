defmodule SafePort.Test.Proc do
  @moduledoc """
  What `/proc` tells about programs.
  """

  import ExUnit.Assertions

  @tag_variable "SAFE_PORT_TEST"

  @doc """
  Polls until `condition` returns something true, and returns that.

  For facts of the operating system, which sends no messages. Fails with `what` after ten seconds.
  """
  @spec wait_until(String.t(), (... -> value)) :: value when value: term()
  def wait_until(what, condition), do: wait_until(what, condition, now() + 10_000)

  defp wait_until(what, condition, deadline) do
    cond do
      value = condition.() ->
        value

      now() > deadline ->
        flunk("waited in vain until #{what}")

      true ->
        receive do
        after
          2 -> wait_until(what, condition, deadline)
        end
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  @doc "The process of this VM."
  @spec vm() :: pos_integer()
  def vm, do: String.to_integer(System.pid())

  @doc "Whether the process runs: it exists and is no zombie."
  @spec alive?(pos_integer()) :: boolean()
  def alive?(os_pid), do: match?(%{state: state} when state not in ["Z", "X"], stat(os_pid))

  @doc "Whether anything with this process id exists, a zombie included."
  @spec exists?(pos_integer()) :: boolean()
  def exists?(os_pid), do: stat(os_pid) != nil

  @doc "Waits until the process is gone, zombie and all."
  @spec await_gone(pos_integer()) :: true
  def await_gone(os_pid), do: wait_until("process #{os_pid} is gone", fn -> not exists?(os_pid) end)

  @doc "Some fields of `/proc/OS_PID/stat`, or nil if there is no such process."
  @spec stat(pos_integer()) :: map() | nil
  def stat(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, line} ->
        # The name is in parentheses and may hold anything.
        [state, ppid, pgid, sid, tty | _rest] = line |> String.split(") ") |> List.last() |> String.split()
        %{state: state, ppid: int(ppid), pgid: int(pgid), sid: int(sid), tty: int(tty)}

      {:error, _gone} ->
        nil
    end
  end

  @doc "A field of `/proc/OS_PID/status`."
  @spec status(pos_integer() | String.t(), String.t()) :: String.t()
  def status(os_pid, field) do
    [_all, value] = Regex.run(~r/^#{field}:[ \t]*(.*)$/m, File.read!("/proc/#{os_pid}/status"))
    value
  end

  @doc "The set of signals in a field of `/proc/OS_PID/status`, as a list of numbers."
  @spec signals(pos_integer() | String.t(), String.t()) :: [pos_integer()]
  def signals(os_pid, field) do
    mask = os_pid |> status(field) |> String.to_integer(16)
    for signal <- 1..64, Bitwise.band(mask, Bitwise.bsl(1, signal - 1)) != 0, do: signal
  end

  @doc "The arguments that the program was started with; none if it is gone."
  @spec arguments(pos_integer()) :: [String.t()]
  def arguments(os_pid) do
    case File.read("/proc/#{os_pid}/cmdline") do
      {:ok, text} -> split(text)
      {:error, _gone} -> []
    end
  end

  @doc "The environment that the program was started with, as sorted `NAME=value` entries, without the tests' tag."
  @spec environment(pos_integer() | String.t()) :: [String.t()]
  def environment(os_pid) do
    "/proc/#{os_pid}/environ"
    |> entries()
    |> Enum.reject(&String.starts_with?(&1, @tag_variable <> "="))
    |> Enum.sort()
  end

  defp entries(file), do: file |> File.read!() |> split()
  defp split(text), do: text |> String.split(<<0>>) |> Enum.drop(-1)

  @doc "The open descriptors of a process, each with what it refers to."
  @spec descriptors(pos_integer()) :: %{non_neg_integer() => String.t()}
  def descriptors(os_pid) do
    for number <- File.ls!("/proc/#{os_pid}/fd"),
        # Some go while we look.
        {:ok, target} <- [File.read_link("/proc/#{os_pid}/fd/#{number}")],
        into: %{},
        do: {int(number), target}
  end

  @doc "Whether a descriptor of a process is non-blocking."
  @spec nonblocking?(pos_integer() | String.t(), non_neg_integer()) :: boolean()
  def nonblocking?(os_pid, descriptor) do
    [_all, flags] = Regex.run(~r/^flags:\s*(\d+)$/m, File.read!("/proc/#{os_pid}/fdinfo/#{descriptor}"))
    Bitwise.band(String.to_integer(flags, 8), 0o4000) != 0
  end

  @doc "Runs a program, which must succeed, and returns its output."
  @spec run(String.t(), [String.t()]) :: String.t()
  def run(program, args) do
    {output, status} = cmd(program, args, [])
    assert status == 0, "#{program} #{inspect(args)} failed: #{output}"
    output
  end

  @doc "As `System.cmd/3`, but a caller that traps exits gets no message."
  @spec cmd(String.t(), [String.t()], keyword()) :: {String.t(), non_neg_integer()}
  def cmd(program, args, options) do
    {pid, monitor} = spawn_monitor(fn -> exit({:result, System.cmd(program, args, options)}) end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:result, result}} -> result
      {:DOWN, ^monitor, :process, ^pid, reason} -> flunk("could not run #{program}: #{inspect(reason)}")
    end
  end

  @doc "Sends a signal to a process."
  @spec signal(pos_integer(), String.t()) :: :ok
  def signal(os_pid, name) do
    run("/bin/sh", ["-c", "kill -#{name} #{os_pid}"])
    :ok
  end

  @doc "Sends a signal to a process that may be gone."
  @spec signal_if_there(pos_integer(), String.t()) :: :sent | :gone
  def signal_if_there(os_pid, name) do
    case cmd("/bin/sh", ["-c", "kill -#{name} #{os_pid} 2>/dev/null"], []) do
      {_output, 0} -> :sent
      {_output, _status} -> :gone
    end
  end

  @doc "The environment entry that marks the programs of one test."
  @spec tag_entry(String.t()) :: {charlist(), charlist()}
  def tag_entry(tag), do: {String.to_charlist(@tag_variable), String.to_charlist(tag)}

  @doc "Fails if programs with this tag do not end by themselves; ends them in that case."
  @spec assert_none_tagged(String.t()) :: :ok
  def assert_none_tagged(tag) do
    wait_until("no program of the test is left", fn -> tagged(tag) == [] end)
    :ok
  rescue
    error ->
      survivors = for os_pid <- tagged(tag), do: {os_pid, arguments(os_pid)}
      Enum.each(survivors, fn {os_pid, _arguments} -> cmd("/bin/sh", ["-c", "kill -KILL #{os_pid}"], []) end)
      reraise "#{Exception.message(error)}: #{inspect(survivors)}", __STACKTRACE__
  end

  defp tagged(tag), do: with_variable(@tag_variable, tag)

  @doc """
  The programs that were started with this environment variable.

  One that is being executed has no environment for a moment, and a zombie has none.
  """
  @spec with_variable(String.t(), String.t()) :: [pos_integer()]
  def with_variable(name, value) do
    for os_pid <- all(),
        {:ok, environment} <- [File.read("/proc/#{os_pid}/environ")],
        String.contains?(environment, "#{name}=#{value}" <> <<0>>),
        do: os_pid
  end

  @doc "All processes for which `fun` is true of their `stat/1`."
  @spec filter((map() -> boolean())) :: [pos_integer()]
  def filter(fun), do: for(os_pid <- all(), stat = stat(os_pid), fun.(stat), do: os_pid)

  defp all, do: for(name <- File.ls!("/proc"), name =~ ~r/^\d+$/, do: int(name))

  defp int(text), do: String.to_integer(text)
end
