defmodule SafePort do
  @external_resource "README.md"
  @moduledoc "README.md"
             |> File.read!()
             |> String.split("<!-- MDOC -->")
             |> Enum.fetch!(1)

  alias SafePort.Core.{Client, DriverServer, Native, Opening, Options}

  @typedoc "A port: the pid of its port process."
  @type port_id :: pid()

  @typedoc "A port, or the name it is registered under."
  @type port_or_name :: port_id() | atom()

  @typedoc "What a port runs."
  @type name ::
          {:spawn, charlist() | binary()}
          | {:spawn_driver, charlist() | binary()}
          | {:spawn_executable, charlist() | binary() | atom()}
          | {:fd, non_neg_integer(), non_neg_integer()}

  @typedoc "What the program sent: a chunk or packet, or a line."
  @type data :: binary() | [byte()] | {:eol | :noeol, binary() | [byte()]}

  @typedoc "How data reaches the owner."
  @type active :: boolean() | :once | 1..32_767

  @doc """
  Opens a port and starts its program.

  The calling process becomes the owner of the port and is linked to it. Returns when the program runs, that is
  after `execve(2)` has succeeded; what the system refuses is raised here.

  ## Names

    * `{:spawn, command}` - `command` is run by `/bin/sh -c "exec command"`; or the driver named by its first word is
      opened, if one was loaded with `SafePort.Driver.load/2`.
    * `{:spawn_executable, file}` - the program at the path `file`, with `:args`. Neither a shell nor `PATH` is used.
    * `{:spawn_driver, command}` - the linked-in driver named by the first word of `command`.
    * `{:fd, in, out}` - descriptors of the VM itself.

  ## Options of `Port`

    * `:binary` - data comes as binaries; without it, as lists of bytes.
    * `:stream` (default), `{:packet, 1 | 2 | 4}`, `{:line, max_bytes}` - how data is cut into messages. Packets have
      a big-endian length of so many bytes in front, which is added and stripped.
    * `:exit_status` - sends `{port, {:exit_status, status}}` when the program ends: its exit code, or 128 plus the
      signal that killed it.
    * `:eof` - sends `{port, :eof}` at the end of the output and leaves the port open.
    * `:in`, `:out` - only read from, or only write to the program. Both is the default.
    * `:use_stdio` (default), `:nouse_stdio` - the program reads from descriptor 0 and writes to 1, or 3 and 4.
    * `:stderr_to_stdout` - the program's standard error goes where its standard output goes.
    * `{:args, list}`, `{:arg0, name}` - the arguments, and the zeroth one if it is not the file.
    * `{:cd, directory}` - the program's working directory.
    * `{:env, [{name, value}]}` - changes to the environment; `false` as value removes a variable.
    * `{:busy_limits_port, {low, high} | :disabled}` - bytes of queued output, `{4096, 8192}` by default: the port is
      busy from `high` on, and free again below `low`.
    * `{:parallelism, boolean}`, `{:busy_limits_msgq, limits}`, `:hide`, `:overlapped_io` - accepted, without effect.

  ## Options beyond `Port`

    * `{:active, true | false | :once | count}` - how data reaches the owner, as with `:gen_tcp`; default `true`.
      See `setopts/2` and `recv/2`.
    * `{:stderr, :console | :redirect_to_stdout | :disable}` - where standard error goes; default `:console`, the VM's.
    * `{:eof_timeout, ms}` - how long a program may run on after the port was closed, that is after the end of its
      input; default 1,000. With `:infinity` it is never signalled, as with `Port`.
    * `{:kill_timeout, ms}` - time between SIGTERM and SIGKILL; default 5,000.
    * `{:orphans, :kill | :leave}` - what happens to descendants that outlive a program which ended by itself; default
      `:kill`.
    * `:exit_info` - sends `{port, {:exit_info, map}}` before the exit status, with the keys `:code`, `:signal`,
      `:core_dumped`, `:user_us`, `:system_us` (microseconds) and `:max_rss_kib`.
    * `{:packet_size, max_bytes}` - the longest packet accepted from the program; a longer one ends the port with
      `:emsgsize`.
    * `{:endian, :big | :little | :native}` - byte order of packet lengths; default `:big`.
    * `{:share, boolean}` - whether packets of more than 64 bytes may share the memory they were read into; default
      `true`. With `false` each packet is its own binary, as after `:binary.copy/1`.
    * `{:cgroup, path}` - a cgroup v2 folder in which a group for the program is made.
    * `{:isolation, :thread | :process}` - whether a driver runs in the VM (default) or in a process of its own.

  ## Errors

  Raises `ArgumentError` for a malformed name or option, and `ErlangError` with the errno atom as `:original` when the
  system refuses: `:enoent`, `:eacces`, `:enoexec`, `:e2big`, `:enotdir`, `:emfile` and so on (`execve(2)`,
  `chdir(2)`, `pipe(2)`, `clone(2)`). `:guardian_down` means that the process that starts programs was killed at that
  moment; the program may have run, and does not any more.

  ## Examples

      iex> port = SafePort.open({:spawn, "cat"}, [:binary])
      iex> SafePort.command(port, "hello")
      true
      iex> receive do {^port, {:data, data}} -> data end
      "hello"
      iex> SafePort.close(port)
      true

      iex> SafePort.open({:spawn_executable, "/no/such/program"}, [])
      ** (ErlangError) Erlang error: :enoent
  """
  @spec open(name(), list()) :: port_id()
  def open(name, settings) do
    case Options.new(name, settings) do
      %{kind: :spawn_driver} = options -> DriverServer.start(options)
      options -> Opening.start(options)
    end
  end

  @doc """
  Sends `data` to the program's standard input.

  Returns `true` when the data is written or queued. Blocks while the port is busy, see `:busy_limits_port`; with
  `[:nosuspend]` it then drops the data and returns `false` instead.

  Raises `ArgumentError` if `port` is closed, if it closes while the caller waits, if `data` is no iodata, or if the
  standard input was closed by `close_stdin/1`. `[:force]` raises `ErlangError` with `:notsup`, as it does for
  programs in `Port`.

  A program that no longer reads ends the port with the reason `:epipe`.

  ## Examples

      iex> port = SafePort.open({:spawn, "cat"}, [:binary, packet: 2])
      iex> SafePort.command(port, ["any", ?\\s, "iodata"])
      true
      iex> receive do {^port, {:data, data}} -> data end
      "any iodata"
  """
  @spec command(port_or_name(), iodata(), [:force | :nosuspend]) :: boolean()
  def command(port, data, options \\ []), do: Client.command(port, data, options)

  @doc """
  Closes the port.

  Returns `true` at once. The owner gets `{:EXIT, port, :normal}` if it is linked and traps exits. What is queued is
  still written, in the background; then the program sees the end of its input, and has `:eof_timeout` ms to end
  before its whole process tree gets SIGTERM, and `:kill_timeout` ms later SIGKILL.

  Raises `ArgumentError` if the port is closed already.

  ## Examples

      iex> port = SafePort.open({:spawn, "cat"}, [])
      iex> SafePort.close(port)
      true
      iex> SafePort.info(port)
      nil
  """
  @spec close(port_or_name()) :: true
  def close(port), do: Client.close(port)

  @doc """
  Makes `pid` the owner of the port and links it; the old owner stays linked.

  Raises `ArgumentError` if the port is closed or `pid` is not a living local process.

  ## Examples

      iex> port = SafePort.open({:spawn, "cat"}, [])
      iex> SafePort.connect(port, self())
      true
  """
  @spec connect(port_or_name(), pid()) :: true
  def connect(port, pid), do: Client.connect(port, pid)

  @doc """
  Returns information about the port as a keyword list, or `nil` if it is closed.

  The items are `:registered_name` (only if the port has one), `:name`, `:links`, `:id`, `:connected`, `:input`,
  `:output` and `:os_pid`, see `info/2`.

  ## Examples

      iex> port = SafePort.open({:spawn, "cat"}, [])
      iex> info = SafePort.info(port)
      iex> {info[:name], info[:connected] == self(), is_integer(info[:os_pid])}
      {~c"cat", true, true}
  """
  @spec info(port_or_name()) :: keyword() | nil
  def info(port), do: Client.info(port)

  @doc """
  Returns one item of information about the port as `{item, value}`, or `nil` if the port is closed.

    * `:name` - the command, file or descriptors the port was opened with, as a charlist
    * `:id` - an integer that no other port of this node has
    * `:connected` - the owner
    * `:links` - the pids of linked processes
    * `:input`, `:output` - payload bytes that came from, and were accepted for, the program
    * `:os_pid` - the program's process id, also after it ended
    * `:queue_size` - bytes that wait to be written, with prefixes
    * `:monitored_by` - pids of processes that monitor the port, once per monitor
    * `:registered_name` - the name, or `[]`
    * `:memory` - bytes of the port process
    * `:monitors`, `:parallelism`, `:locking` - as the built-in has them

  Raises `ArgumentError` for any other item of an open port.

  ## Examples

      iex> port = SafePort.open({:spawn, "cat"}, [])
      iex> SafePort.info(port, :queue_size)
      {:queue_size, 0}
  """
  @spec info(port_or_name(), atom()) :: {atom(), term()} | nil
  def info(port, item), do: Client.info(port, item)

  @doc """
  Returns all open SafePorts of this node, in the order of their pids.

  ## Examples

      iex> port = SafePort.open({:spawn, "cat"}, [])
      iex> port in SafePort.list()
      true
  """
  @spec list() :: [port_id()]
  def list, do: Native.ports()

  @doc """
  Monitors the port.

  When it closes, the calling process gets `{:DOWN, ref, :process, object, reason}`, where `object` is `port`, or
  `{name, node}` if a name was given. A port that is closed already gives the message at once, with `:noproc`.

  Raises `ArgumentError` if `port` is a process that is no port.

  ## Examples

      iex> port = SafePort.open({:spawn, "cat"}, [])
      iex> ref = SafePort.monitor(port)
      iex> SafePort.close(port)
      iex> receive do {:DOWN, ^ref, :process, ^port, reason} -> reason end
      :normal
  """
  @spec monitor(port_or_name() | {atom(), node()}) :: reference()
  def monitor(port), do: Client.monitor(port)

  @doc """
  Stops monitoring; the options `:flush` and `:info` are those of `Process.demonitor/2`.

  ## Examples

      iex> port = SafePort.open({:spawn, "cat"}, [])
      iex> ref = SafePort.monitor(port)
      iex> SafePort.demonitor(ref, [:flush])
      true
  """
  @spec demonitor(reference(), [:flush | :info]) :: boolean()
  def demonitor(reference, options \\ []), do: Process.demonitor(reference, options)

  @doc """
  Changes how data reaches the owner.

    * `active: true` - every packet is a message
    * `active: false` - none is; the owner calls `recv/2`
    * `active: :once` - one message, then as `false`
    * `active: count` - so many messages, then `{port, :passive}` and as `false`. A count that is still running is
      added to, or taken from by a negative one; where nothing is left of it, `{port, :passive}` comes at once.

  While nobody reads, the program blocks in `write(2)` once its pipe is full.

  An active port that sends much goes on when its owner has come along: the mailbox of an owner that receives stays at a
  few hundred messages. An owner that does not receive gets all there is, as from `Port`.

  Returns `:ok`, `{:error, :einval}` if the count is not in -32,768..32,767 or the counts add up to more than 32,767, or
  `{:error, :closed}`. Raises `ArgumentError` for other options and values.

  ## Examples

      iex> port = SafePort.open({:spawn, "echo hello"}, [:binary, active: false])
      iex> SafePort.setopts(port, active: :once)
      :ok
      iex> receive do {^port, {:data, data}} -> data end
      "hello\\n"
  """
  @spec setopts(port_or_name(), active: active() | -32_768..0) :: :ok | {:error, :closed | :einval}
  def setopts(port, options), do: Client.setopts(port, options)

  @doc """
  Reads the next packet, line or chunk of a passive port.

  Only the owner may read, and only while the port is passive, see `setopts/2`. The data is read in the calling
  process, straight from the pipe: the port process has no part in it.

  Returns

    * `{:ok, data}` - with `:line`, `data` is `{:eol, line}` or `{:noeol, part}`
    * `{:error, :closed}` - the output is over and everything was read, or the port is closed
    * `{:error, :timeout}` - `timeout` ms went by; nothing is lost, the next call goes on
    * `{:error, :not_owner}` - the caller does not own the port
    * `{:error, :einval}` - the port is active
    * `{:error, reason}` - the read failed and the port ends: `:emsgsize`, `:enomem` or an errno of `read(2)`

  Packets of up to 64 bytes are the reader's own. Longer ones may share the chunk they were read into (up to 256 KiB):
  copy what is kept for long with `:binary.copy/1`, or open the port with `share: false`.

  ## Examples

      iex> options = [:binary, line: 80, active: false]
      iex> port = SafePort.open({:spawn, "printf 'a\\nb\\n'"}, options)
      iex> SafePort.recv(port)
      {:ok, {:eol, "a"}}
      iex> SafePort.recv(port)
      {:ok, {:eol, "b"}}
      iex> SafePort.recv(port)
      {:error, :closed}
  """
  @spec recv(port_or_name(), timeout()) ::
          {:ok, data()} | {:error, :closed | :timeout | :not_owner | File.posix()}
  def recv(port, timeout \\ :infinity), do: Client.recv(port, timeout)

  @doc """
  Reads all packets, lines or chunks that one read of a passive port yields, at least one.

  The fastest way to get data, see `recv/2` for the rules and the errors.

  ## Examples

      iex> options = [:binary, line: 80, active: false]
      iex> port = SafePort.open({:spawn, "printf 'a\\nb\\n'"}, options)
      iex> SafePort.recv_batch(port)
      {:ok, [{:eol, "a"}, {:eol, "b"}]}
  """
  @spec recv_batch(port_or_name(), timeout()) ::
          {:ok, [data(), ...]} | {:error, :closed | :timeout | :not_owner | File.posix()}
  def recv_batch(port, timeout \\ :infinity), do: Client.recv_batch(port, timeout)

  @doc """
  Sends `data` and waits for the next packet: `command/2`, then `recv/2`.

  For programs that answer each request with one packet. The port must be passive and the caller its owner; otherwise
  nothing is sent, and the error is that of `recv/2`. `timeout` is for the reply, in milliseconds: where the port is busy
  the data waits its turn first, as in `command/2`, whose exceptions are raised here as well.

  ## Examples

      iex> options = [:binary, packet: 4, active: false]
      iex> port = SafePort.open({:spawn, "cat"}, options)
      iex> SafePort.request(port, "ping")
      {:ok, "ping"}
  """
  @spec request(port_or_name(), iodata(), timeout()) ::
          {:ok, data()} | {:error, :closed | :timeout | :not_owner | File.posix()}
  def request(port, data, timeout \\ 5_000), do: Client.request(port, data, timeout)

  @doc """
  Closes the program's standard input, as soon as what is queued has been written; its output can still be read.

  Commands that follow raise `ArgumentError`. Returns `:ok` or `{:error, :closed}`.

  ## Examples

      iex> port = SafePort.open({:spawn, "sort"}, [:binary])
      iex> SafePort.command(port, "b\\na\\n")
      iex> SafePort.close_stdin(port)
      :ok
      iex> receive do {^port, {:data, data}} -> data end
      "a\\nb\\n"
  """
  @spec close_stdin(port_or_name()) :: :ok | {:error, :closed}
  def close_stdin(port), do: Client.close_stdin(port)

  @doc """
  Sends a signal to the program (`to: :leader`), its process group (`to: :group`, the default) or all of its
  descendants as well (`to: :tree`).

  `signal` is a name such as `:sigterm` or `:sigusr1`, or a number from 1 to 64 (`signal(7)`). Returns `:ok` when the
  signal has been sent, `{:error, :closed}` if the port is closed or nothing is left to signal, or
  `{:error, reason}` with the errno of `kill(2)`. Raises `ArgumentError` for what is no signal or target.

  ## Examples

      iex> port = SafePort.open({:spawn, "sleep 60"}, [:exit_status])
      iex> SafePort.signal(port, :sigint)
      :ok
      iex> receive do {^port, {:exit_status, status}} -> status end
      130
  """
  @spec signal(port_or_name(), atom() | 1..64, to: :group | :leader | :tree) ::
          :ok | {:error, :closed | File.posix()}
  def signal(port, signal, options \\ []), do: Client.signal(port, signal, options)

  @doc """
  Waits until the program has ended and returns its exit status.

  `{:ok, status}` is the exit code, or 128 plus the number of the signal that killed it. `{:error, :closed}` means that
  the port closed before, `{:error, :timeout}` that `timeout` ms went by. A port closes when its program has ended and
  its output was delivered; with the option `:eof` it stays, and so does the answer.

  ## Examples

      iex> port = SafePort.open({:spawn, "sleep 0.1"}, [:eof])
      iex> SafePort.await_exit(port, 5_000)
      {:ok, 0}
  """
  @spec await_exit(port_or_name(), timeout()) :: {:ok, 0..255} | {:error, :closed | :timeout}
  def await_exit(port, timeout \\ :infinity), do: Client.await_exit(port, timeout)

  @doc """
  Calls the `control` callback of a driver with `operation` and `data`, as `:erlang.port_control/3`.

  Returns the driver's reply, a list of bytes or a binary as the driver has chosen. Waits for it, as long as the port is
  open. Any process may call.

  Raises `ArgumentError` if `port` is closed or no port of a driver, if `operation` is no integer from 0 to 4294967295,
  if `data` is no iodata, and if the driver refuses them.

  ## Examples

      iex> port = SafePort.open({:spawn_driver, "echo"}, [:binary])
      iex> SafePort.control(port, 1, "bytes")
      ~c"bytes"
  """
  @spec control(port_or_name(), 0..0xFFFF_FFFF, iodata()) :: binary() | [byte()]
  def control(port, operation, data), do: Client.control(port, operation, data)

  @doc """
  Calls the `call` callback of a driver with `operation` and `term`, as `:erlang.port_call/3`.

  Returns the term that the driver replies with. Waits and raises as `control/3`; the term must be nested at most 256
  levels deep and hold no function but `&Module.name/arity`.

  ## Examples

      iex> port = SafePort.open({:spawn_driver, "echo"}, [])
      iex> SafePort.call(port, 1, {:any, %{term: [1.5]}})
      {:any, %{term: [1.5]}}
  """
  @spec call(port_or_name(), 0..0xFFFF_FFFF, term()) :: term()
  def call(port, operation, term), do: Client.call_driver(port, operation, term)
end
