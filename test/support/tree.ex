defmodule SafePort.Test.Tree do
  @moduledoc """
  A case about what a port leaves behind, and the tree of processes it is asked of.

  A tree has five members: the leader; a child in its group; a child in a session of its own; a daemon, which has forked
  twice and lost its parent; and a child that ignores SIGTERM.
  """

  use ExUnit.CaseTemplate

  alias SafePort.Test.{Ports, Proc, Vm}

  @enforce_keys [:port, :os_pids]
  defstruct [:port, :os_pids]

  @type t :: %__MODULE__{port: port() | pid(), os_pids: [pos_integer()]}

  # A leader that does not care about its input, and one that ends when it is told something.
  @stays "exec sleep 900"
  @obeys "read go; exit 7"

  @members """
  sleep 901 &
  setsid sleep 902 &
  (setsid sh -c 'sleep 903 &' &)
  (trap '' TERM; exec sleep 904) &
  """

  # Waits longer than a test would.
  @quick [eof_timeout: 20, kill_timeout: 100]

  using do
    quote do
      import SafePort.Test.Ports
      import SafePort.Test.Tree
      alias SafePort.Test.{Actor, Proc}

      @moduletag :capture_log
    end
  end

  setup do
    %{tag: Ports.watch_programs()}
  end

  @doc """
  Opens a port whose program becomes a tree, and returns when all five members run.

  `options` are those of `SafePort.open/2`; the timeouts are short otherwise. With `leader: :obeys` the leader ends when
  it is told something; with `subject: Port` the port is one of the built-in's.
  """
  @spec grow(String.t(), list(), leader: :stays | :obeys, subject: module()) :: t()
  def grow(tag, options \\ [], kind \\ []) do
    {leader, subject} = {Keyword.get(kind, :leader, :stays), Keyword.get(kind, :subject, SafePort)}
    script = @members <> if leader == :stays, do: @stays, else: @obeys
    # The tag of this tree, within the tag of the test.
    own = "#{tag}.#{System.unique_integer([:positive])}"
    env = [Proc.tag_entry(tag), {~c"SAFE_PORT_TREE", String.to_charlist(own)}]
    options = if subject == SafePort, do: @quick ++ options, else: options
    port = subject.open({:spawn_executable, "/bin/sh"}, [args: ["-c", script], env: env] ++ options)
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    %__MODULE__{port: port, os_pids: await(own, os_pid, leader)}
  end

  # Until nothing but the members is there: no shell that is about to become one, or to end.
  defp await(own, leader, kind) do
    expected = for number <- if(kind == :stays, do: 900..904, else: 901..904), do: ["sleep", "#{number}"]

    Proc.wait_until("a tree has grown", fn ->
      os_pids = Proc.with_variable("SAFE_PORT_TREE", own)
      sleeping = for os_pid <- os_pids, ["sleep", _] = arguments <- [Proc.arguments(os_pid)], do: arguments
      if Enum.sort(sleeping) == expected and length(os_pids) == 5 and leader in os_pids, do: os_pids
    end)
  end

  @doc "Waits until nothing of the tree is left, no zombie either."
  @spec await_ended(t()) :: :ok
  def await_ended(tree) do
    Proc.wait_until("the tree has ended", fn -> not Enum.any?(tree.os_pids, &Proc.exists?/1) end)
    :ok
  rescue
    error ->
      left = for os_pid <- tree.os_pids, stat = Proc.stat(os_pid), do: {os_pid, stat.state}
      reraise "#{Exception.message(error)}, these are left: #{inspect(left)}", __STACKTRACE__
  end

  @doc "The members that run."
  @spec living(t()) :: [pos_integer()]
  def living(tree), do: Enum.filter(tree.os_pids, &Proc.alive?/1)

  @doc """
  Runs `block` in a VM of its own that has a tree, bound to `tree`, and waits until the tree has ended.

  `tag` is bound too. Returns what `SafePort.Test.Vm.in_vm/3` returns, and takes its options, and `:options` for the
  tree's port.
  """
  defmacro in_vm_with_tree(tag, options \\ [], do: block) do
    quote do
      SafePort.Test.Tree.run_vm(unquote(tag), unquote(Macro.to_string(block)), unquote(options))
    end
  end

  @doc false
  def run_vm(tag, block, options) do
    file = Path.join(Ports.tmp_dir(), "os_pids")

    code = """
    import SafePort.Test.Tree
    alias SafePort.Test.Proc
    Process.flag(:trap_exit, true)
    tree = grow(tag, options)
    File.write!(file, :erlang.term_to_binary(tree.os_pids))
    #{block}
    """

    {bind, options} = Keyword.pop(options, :bind, [])
    {of_tree, options} = Keyword.pop(options, :options, [])
    bind = [tag: tag, file: file, options: of_tree] ++ bind
    outcome = Vm.run(SafePort, code, Keyword.put_new([bind: bind] ++ options, :shell, "ulimit -c 0"))
    assert {:ok, os_pids} = File.read(file), "the VM ended too early: #{inspect(outcome)}"
    await_ended(%__MODULE__{port: nil, os_pids: :erlang.binary_to_term(os_pids)})
    outcome
  end
end
