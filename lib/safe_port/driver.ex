defmodule SafePort.Driver do
  @moduledoc """
  Loads and unloads linked-in drivers written in Rust, as `:erl_ddll` does for those written in C.

  A driver is a shared library made with the crate `safe_port_driver`; [Drivers](drivers.html) shows how to write one.
  Once it is loaded, ports of it are opened by its name:

      {:ok, "upcase"} = SafePort.Driver.load("target/release/libupcase.so")
      port = SafePort.open({:spawn_driver, "upcase any arguments"}, [:binary])

  They are ports like others: `SafePort.command/2`, the owner's messages, links, monitors and the rest work as they do
  for programs. `SafePort.control/3` and `SafePort.call/3` call the driver and wait for its answer.

  ## Where a driver runs

  By default on threads in the VM. A panic ends the port it happens in, a callback that takes long holds up its own port.
  What takes a process down takes the VM down, though: a wild pointer in `unsafe` code, `exit`, an endless recursion, no
  memory. With `{:isolation, :process}` as an option of `SafePort.open/2` the same library runs in a process of its own,
  one for each port, which is watched and ended like any program; then such things end the port, with the signal or
  `{:exit_status, code}` as the reason. Calls take longer, and the driver cannot make further ports.

  A driver loaded with `isolation: :process` is never brought into the VM, not even to be looked at.

  ## Drivers that come with SafePort

  `echo`, `digest` and (on Linux) `watch` are examples that need not be loaded. They are opened with `{:spawn_driver, _}`
  only: `{:spawn, "echo hello"}` runs the program.
  """

  alias SafePort.Core.Native

  @typedoc "A driver that can be opened."
  @type info :: %{
          name: String.t(),
          path: Path.t() | nil,
          loads: non_neg_integer(),
          ports: non_neg_integer(),
          unloading: boolean(),
          isolation: :thread | :process
        }

  @typedoc """
  Why a driver is not loaded, and the same as a text.

    * a posix atom such as `:enoent` - the file cannot be read
    * `:not_a_driver` - it is no shared library of this machine, or has no driver's entry, or cannot be linked
    * `:wrong_version` - it was made with another version of `safe_port_driver`
    * `:name_taken` - another driver of this name is loaded
    * `:init_refused` - the driver itself refuses, or panicked
  """
  @type load_error ::
          {File.posix() | :not_a_driver | :wrong_version | :name_taken | :init_refused, message :: String.t()}

  @doc """
  Loads the driver in the shared library `path`; returns its name.

  What is no driver, or a driver made for another version of SafePort, is refused before anything of it is run. The same
  library can be loaded several times; it has to be unloaded as often.

  ## Options

    * `{:isolation, :thread | :process}` - where it may run. With `:process` it is not brought into the VM and all its
      ports run in processes of their own. The default, `:thread`, leaves the choice to `SafePort.open/2`.

  Raises `ArgumentError` for other options or a malformed path.

  ## Examples

      iex> {:error, {reason, message}} = SafePort.Driver.load("/no/such/driver.so")
      iex> {reason, message}
      {:enoent, "cannot read /no/such/driver.so: No such file or directory (os error 2)"}
  """
  @spec load(Path.t(), isolation: :thread | :process) :: {:ok, String.t()} | {:error, load_error()}
  def load(path, options \\ []) do
    isolated = isolated!(options)
    path = path!(path)

    case await(&Native.driver_load(path, isolated, &1)) do
      {:error, reason} when is_atom(reason) -> {:error, {reason, "cannot load drivers: #{reason}"}}
      result -> result
    end
  end

  defp isolated!([]), do: false
  defp isolated!(isolation: :thread), do: false
  defp isolated!(isolation: :process), do: true

  defp isolated!(other) do
    raise ArgumentError, "expected [isolation: :thread | :process], got: #{inspect(other)}"
  end

  defp path!(path) do
    path = path |> IO.chardata_to_string() |> Path.expand()

    if String.contains?(path, <<0>>),
      do: raise(ArgumentError, "a path must not contain NUL, got: #{inspect(path)}")

    path
  end

  @doc """
  Takes one load of the driver `name` away.

  With the last load it takes no more ports and goes when its last port is closed; this waits for that. Its library
  stays in memory, for what safe code may have left behind in it, such as a thread; loading it again takes no more.

  ## Options

    * `{:kill_ports, boolean}` - closes its ports, with the reason `:driver_unloaded`; default `false`.
    * `{:timeout, ms | :infinity}` - how long to wait; default `:infinity`. The driver is unloaded when its last port is
      closed, waited for or not.

  Errors: `:not_loaded`; `:built_in`; `:loaded_again`, if somebody loaded it before its last port was closed; `:timeout`.

  ## Examples

      iex> SafePort.Driver.unload("nobody")
      {:error, :not_loaded}
      iex> SafePort.Driver.unload("echo")
      {:error, :built_in}
  """
  @spec unload(String.t(), kill_ports: boolean(), timeout: timeout()) ::
          :ok | {:error, :not_loaded | :built_in | :loaded_again | :timeout}
  def unload(name, options \\ []) when is_binary(name) and is_list(options) do
    options = Enum.reduce(options, %{kill_ports: false, timeout: :infinity}, &put!/2)
    await_for(&Native.driver_unload(name, options.kill_ports, &1), options.timeout)
  end

  defp put!({:kill_ports, kill}, options) when is_boolean(kill), do: %{options | kill_ports: kill}
  defp put!({:kill_ports, other}, _options), do: invalid!(:kill_ports, "true or false", other)
  defp put!({:timeout, :infinity}, options), do: options

  defp put!({:timeout, ms}, options) when is_integer(ms) and ms in 0..0xFFFF_FFFF,
    do: %{options | timeout: ms}

  defp put!({:timeout, other}, _options), do: invalid!(:timeout, ":infinity or 0 to 4294967295 (ms)", other)

  defp put!(other, _options),
    do: raise(ArgumentError, "unknown option #{inspect(other)} for SafePort.Driver.unload/2")

  @spec invalid!(atom(), String.t(), term()) :: no_return()
  defp invalid!(option, expected, got) do
    raise ArgumentError, "option #{inspect(option)} must be #{expected}, got: #{inspect(got)}"
  end

  @doc """
  The drivers that can be opened, or wait for their last port to close.

  `:loads` is how often a driver has to be unloaded, `:ports` the number of its ports in this VM. `:path` is `nil` for
  those that come with SafePort.

  ## Examples

      iex> for %{path: nil, name: name} <- SafePort.Driver.list(), do: name
      ["digest", "echo", "watch"]
  """
  @spec list() :: [info()]
  def list do
    {:ok, drivers} = Native.driver_list()

    for {name, path, loads, ports, unloading, only_isolated} <- drivers do
      %{
        name: name,
        path: path,
        loads: loads,
        ports: ports,
        unloading: unloading,
        isolation: if(only_isolated, do: :process, else: :thread)
      }
    end
  end

  @doc """
  The threads that run drivers in this VM.

  `:workers` run the callbacks, 64 at the most; `:job_workers` run the long jobs of drivers, 16 at the most. Of each:
  `:live` threads, `:idle` ones among them, and `:lost` ones beside them, which are inside a callback that did not
  return before its port was closed.

  ## Examples

      iex> %{workers: %{live: live}} = SafePort.Driver.threads()
      iex> live in 0..64
      true
  """
  @spec threads() :: %{workers: counts, job_workers: counts}
        when counts: %{live: non_neg_integer(), idle: non_neg_integer(), lost: non_neg_integer()}
  def threads do
    {workers, job_workers} = Native.driver_workers()
    %{workers: counts(workers), job_workers: counts(job_workers)}
  end

  defp counts({live, idle, lost}), do: %{live: live, idle: idle, lost: lost}

  # The result comes as a message.
  defp await(begin) do
    reference = make_ref()

    with :ok <- begin.(reference) do
      receive do
        {^reference, result} -> result
      end
    end
  end

  defp await_for(begin, :infinity), do: await(begin)

  # In a process of its own, so that a result that comes too late goes nowhere.
  defp await_for(begin, ms) do
    {pid, monitor} = spawn_monitor(fn -> exit({:result, await(begin)}) end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:result, result}} -> result
    after
      ms ->
        Process.demonitor(monitor, [:flush])
        Process.exit(pid, :kill)
        {:error, :timeout}
    end
  end
end
