defmodule SafePort.Core.Opening do
  @moduledoc false
  # How a port comes to be: the port process is started, asks for its program, and serves once that runs.

  alias SafePort.Core.{Environment, Native, Options, Server}

  # Room for the environment in the heap of a port process that opens, which would have to grow several times otherwise.
  @opening_words 8_192

  @doc """
  Starts the port process linked to the caller; raises what the system refused.
  """
  @spec start(Options.t()) :: pid()
  def start(options), do: start(__MODULE__, options, &:erlang.error/1, min_heap_size: @opening_words)

  @doc """
  As `start/1`, for a port process that begins with `module.init/2`. It sends `{port, :opened}`, or calls `refuse/2` with
  a reason, for which `raise_refused` raises.
  """
  @spec start(module(), Options.t(), raise_refused :: (term() -> no_return()), keyword()) :: pid()
  def start(module, options, raise_refused, spawn_options \\ []) do
    {port, monitor} = :erlang.spawn_opt(module, :init, [self(), options], [:link, :monitor | spawn_options])

    receive do
      {^port, :opened} ->
        Process.demonitor(monitor, [:flush])
        port

      {:DOWN, ^monitor, :process, ^port, {:shutdown, {:refused, reason}}} ->
        raise_refused.(reason)

      {:DOWN, ^monitor, :process, ^port, reason} ->
        :erlang.error(reason)
    end
  end

  @doc false
  def init(owner, options) do
    Process.flag(:trap_exit, true)
    ask(options, config(options, owner), owner)
  end

  # Nothing is started here, and nothing ends by itself.
  defp ask(%{kind: :fd, fds: {input, output}} = options, config, owner) do
    {handle, readable} = Native.open_fd(config, input, output)
    opened(handle, owner, :undefined, %{options | input: readable, eof_timeout: :infinity})
  end

  defp ask(options, config, owner) do
    case Native.open(config) do
      {:ok, handle} -> opening(handle, owner, options)
      {:error, reason} -> refuse(owner, reason)
    end
  end

  defp config(options, owner) do
    %{
      owner: owner,
      file: options.file,
      args: [options.arg0 || options.file | options.args],
      env: Environment.block(options.env),
      cd: options.cd,
      binary: options.binary,
      cgroup: options.cgroup,
      input: options.input,
      output: options.output,
      use_stdio: options.use_stdio,
      stderr: if(options.stderr == :redirect_to_stdout, do: :redirect, else: options.stderr),
      packet: options.packet,
      packet_size: options.packet_size,
      little_endian: little_endian?(options.endian),
      line: options.line,
      share: options.share,
      passive: options.active == false,
      eof_timeout: if(options.eof_timeout == :infinity, do: nil, else: options.eof_timeout),
      kill_timeout: options.kill_timeout,
      leave_orphans: options.orphans == :leave
    }
  end

  defp little_endian?(:native), do: :erlang.system_info(:endian) == :little
  defp little_endian?(order), do: order == :little

  defp opening(handle, owner, options) do
    receive do
      {^handle, {:spawned, os_pid}} ->
        opened(handle, owner, os_pid, options)

      {^handle, {:refused, _stage, reason}} ->
        refuse(owner, reason)

      {^handle, :guardian_down} ->
        refuse(owner, :guardian_down)

      {^handle, :lost} ->
        # The guardian died before it knew of the program; the next one gets a whole new request.
        Native.close(handle)
        ask(options, config(options, owner), owner)

      {:EXIT, ^owner, reason} ->
        exit(reason)
    end
  end

  defp opened(handle, owner, os_pid, options) do
    Native.publish(handle)
    send(owner, {self(), :opened})
    # The room is needed no more: the server's first collection of garbage gives it back.
    {:min_heap_size, words} = :erlang.system_info(:min_heap_size)
    Process.flag(:min_heap_size, words)
    Server.serve(handle, owner, os_pid, options)
  end

  @doc """
  Ends the port process that calls it: nothing was opened.
  """
  @spec refuse(pid(), term()) :: no_return()
  def refuse(owner, reason) do
    # The caller raises: it must not get an exit signal as well.
    Process.unlink(owner)
    exit({:shutdown, {:refused, reason}})
  end
end
