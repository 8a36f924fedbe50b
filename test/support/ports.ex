defmodule SafePort.Test.Ports do
  @moduledoc """
  Opening ports in tests, and taking down what they send.

  Everything that `Port` and `SafePort` have in common is done through `subject`, the module under test.
  """

  import ExUnit.Assertions
  import ExUnit.Callbacks

  alias SafePort.Test.Proc

  @patience 10_000

  @doc """
  For the set-up of a case: exits are trapped, and no program that carries the test's tag may be left at its end.
  """
  @spec watch_programs() :: String.t()
  def watch_programs do
    Process.flag(:trap_exit, true)
    tag = "#{System.pid()}.#{System.unique_integer([:positive])}"
    Process.put(__MODULE__, %{tag: tag, ports: []})
    ExUnit.Callbacks.on_exit(fn -> Proc.assert_none_tagged(tag) end)
    tag
  end

  @doc "The environment entry that marks the programs of this test; for those not opened by `open/3`."
  @spec tag() :: {charlist(), charlist()}
  def tag, do: Proc.tag_entry(Process.get(__MODULE__).tag)

  @doc """
  Opens a port whose program carries the test's tag, and which is closed when the test is done.
  """
  @spec open(module(), tuple(), list()) :: port() | pid()
  def open(subject, name, options \\ []) do
    port = subject.open(name, tagged(name, options, tag()))
    Process.put(__MODULE__, Map.update!(Process.get(__MODULE__), :ports, &[port | &1]))
    port
  end

  @doc "Opens a port that runs `script` by a shell."
  @spec open_sh(module(), String.t(), list()) :: port() | pid()
  def open_sh(subject, script, options \\ []) do
    {args, options} = Keyword.pop(Enum.map(options, &option/1), :argv, [])
    open(subject, {:spawn_executable, "/bin/sh"}, [{:args, ["-c", script, "sh" | args]} | flags(options)])
  end

  # Keyword functions need pairs.
  defp option(name) when is_atom(name), do: {name, :flag}
  defp option(pair), do: pair

  defp flags(options) do
    Enum.map(options, fn
      {name, :flag} -> name
      pair -> pair
    end)
  end

  defp tagged({kind, _}, options, entry) when kind in [:spawn, :spawn_executable] and is_list(options) do
    if Enum.any?(options, &match?({:env, _}, &1)) do
      Enum.map(options, fn
        {:env, changes} when is_list(changes) -> {:env, [entry | changes]}
        other -> other
      end)
    else
      [{:env, [entry]} | options]
    end
  end

  defp tagged(_name, options, _entry), do: options

  @doc """
  Closes what is still open, and fails if a message is left.
  """
  @spec finish(module()) :: :ok
  def finish(subject) do
    %{ports: ports} = Process.get(__MODULE__)
    Enum.each(ports, &close_quietly(subject, &1))
    {:messages, messages} = Process.info(self(), :messages)
    assert messages == [], "the test left messages: #{inspect(messages)}"
    :ok
  end

  defp close_quietly(subject, port) do
    if subject.info(port) != nil do
      Process.unlink(port)
      subject.close(port)
    end
  rescue
    # It went by itself meanwhile, or the pid is no port any more.
    ArgumentError -> :ok
  end

  @doc """
  All that `port` sends from now on, in order, to its end; joins what a stream was cut into.

  The items are what follows the port in its messages, `{:EXIT, reason}` for the exit signal. The end is the exit
  signal, or the item `until`.
  """
  @spec trace(port() | pid(), term()) :: [term()]
  def trace(port, until \\ :exit), do: port |> items(until) |> join()

  @doc "As `trace/2`, with packets as they came."
  @spec items(port() | pid(), term()) :: [term()]
  def items(port, until \\ :exit), do: port |> take(until, []) |> Enum.reverse()

  defp take(port, until, items) do
    receive do
      {:EXIT, ^port, reason} -> [{:EXIT, reason} | items]
      {^port, ^until} -> [until | items]
      {^port, item} -> take(port, until, [item | items])
    after
      @patience -> flunk("#{inspect(port)} sent no #{inspect(until)}, only: #{inspect(Enum.reverse(items))}")
    end
  end

  defp join([{:data, left}, {:data, right} | rest]) when is_binary(left) and is_binary(right),
    do: join([{:data, left <> right} | rest])

  defp join([{:data, [byte | _] = left}, {:data, [other | _] = right} | rest])
       when is_integer(byte) and is_integer(other),
       do: join([{:data, left ++ right} | rest])

  defp join([item | rest]), do: [item | join(rest)]
  defp join([]), do: []

  @doc "The packets or lines that `port` sends from now on, to its normal end."
  @spec packets(port() | pid()) :: [term()]
  def packets(port) do
    items = items(port)
    assert List.last(items) == {:EXIT, :normal}
    for {:data, data} <- items, do: data
  end

  @doc "The output of a port opened with `:binary` and `:exit_status`, and the status."
  @spec result(port() | pid()) :: {binary(), non_neg_integer()}
  def result(port) do
    case trace(port) do
      [{:data, data}, {:exit_status, status}, {:EXIT, :normal}] -> {data, status}
      [{:exit_status, status}, {:EXIT, :normal}] -> {"", status}
      other -> flunk("expected data, an exit status and a normal exit, got: #{inspect(other)}")
    end
  end

  @doc "The next `bytes` bytes of a binary stream."
  @spec read(port() | pid(), pos_integer()) :: binary()
  def read(port, bytes), do: read(port, bytes, "")

  defp read(_port, bytes, data) when byte_size(data) == bytes, do: data

  defp read(port, bytes, data) do
    receive do
      {^port, {:data, more}} -> read(port, bytes, data <> more)
    after
      @patience ->
        flunk(
          "#{inspect(port)} sent #{byte_size(data)} of #{bytes} bytes: #{inspect(data, printable_limit: 50)}"
        )
    end
  end

  @doc "Waits for a line of this text from a binary stream; the program says that it has got so far."
  @spec await_line(port() | pid(), String.t()) :: :ok
  def await_line(port, text) do
    assert read(port, byte_size(text) + 1) == text <> "\n"
    :ok
  end

  @doc "Waits for the exit signal of `port`, before which it must send nothing."
  @spec assert_exit(port() | pid(), term()) :: :ok
  def assert_exit(port, reason) do
    assert trace(port) == [{:EXIT, reason}]
    :ok
  end

  @doc "Waits for the DOWN message of a monitor and returns its reason."
  @spec await_down(reference()) :: term()
  def await_down(monitor) do
    receive do
      {:DOWN, ^monitor, _type, _object, reason} -> reason
    after
      @patience -> flunk("no DOWN message came")
    end
  end

  @doc "Waits for the result of `SafePort.Test.Actor.ask/2`."
  @spec await_answer(reference()) :: {:ok, term()} | {:raised, Exception.t()}
  def await_answer(reference) do
    receive do
      {^reference, answer} -> answer
    after
      @patience -> flunk("the actor does not answer")
    end
  end

  @doc "Whether the port is gone: neither info nor list know it."
  @spec gone?(module(), port() | pid()) :: boolean()
  def gone?(subject, port), do: subject.info(port) == nil and port not in subject.list()

  @doc "Has messages of this process to `port` take effect, by a call that comes after them."
  @spec settle(module(), port() | pid()) :: :ok
  def settle(subject, port) do
    subject.info(port)
    :ok
  end

  @doc "The exception that `function` raises, for an ErlangError what it holds."
  @spec raised((... -> term())) :: atom() | {:returned, term()}
  def raised(function) do
    {:returned, function.()}
  rescue
    error -> class(error)
  end

  defp class(%ErlangError{original: original}), do: original
  defp class(error), do: error.__struct__

  @doc "A folder for this test."
  @spec tmp_dir() :: String.t()
  def tmp_dir do
    name = "safe_port_test_#{System.pid()}_#{System.unique_integer([:positive])}"
    path = Path.join(System.tmp_dir!(), name)
    File.mkdir_p!(path)
    on_exit(fn -> File.rm_rf!(path) end)
    path
  end

  @doc "An executable file of this content."
  @spec script(String.t(), String.t(), String.t()) :: String.t()
  def script(folder, name, content) do
    path = Path.join(folder, name)
    File.write!(path, content)
    File.chmod!(path, 0o755)
    path
  end

  @doc """
  A named pipe that programs wait at: `read go < "$1"` ends when `open_gate/1` is called.
  """
  @spec gate() :: String.t()
  def gate do
    path = Path.join(tmp_dir(), "gate")
    Proc.run("mkfifo", [path])
    path
  end

  @doc "Lets one program pass that waits at the gate."
  @spec open_gate(String.t()) :: :ok
  def open_gate(gate), do: File.write!(gate, "go\n")

  @doc "A name that nobody else has."
  @spec unique_name() :: atom()
  def unique_name, do: :"safe_port_test_#{System.unique_integer([:positive])}"

  @doc "A pid as if it came from a node that we are not connected to."
  @spec remote_pid() :: pid()
  def remote_pid do
    node = "far@away"
    # External term format: NEW_PID_EXT.
    :erlang.binary_to_term(<<131, 88, 119, byte_size(node), node::binary, 42::32, 0::32, 1::32>>)
  end
end
