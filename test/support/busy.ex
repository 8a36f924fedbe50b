defmodule SafePort.Test.Busy do
  @moduledoc """
  Ports whose program does not read, so that their output queue fills.
  """

  import SafePort.Test.Ports

  alias SafePort.Test.{Actor, Proc}

  @page 4096

  @doc """
  Opens a port whose program says "ready", waits at `gate`, and then runs `rest`, a piece of shell script.

  The script's arguments are the gate and those in `:argv`.
  """
  @spec open_waiting(module(), String.t(), String.t(), list()) :: port() | pid()
  def open_waiting(subject, gate, rest, options \\ []) do
    {argv, options} = Enum.split_with(options, &match?({:argv, _}, &1))
    script = "echo ready; read go < \"$1\"; #{rest}"
    port = open_sh(subject, script, [:binary, {:argv, [gate | Keyword.get(argv, :argv, [])]} | options])
    await_line(port, "ready")
    port
  end

  @doc "Fills the pipe to the program, so that exactly one page of 4096 bytes is queued; returns the bytes accepted."
  @spec fill(module(), port() | pid(), non_neg_integer()) :: pos_integer()
  def fill(subject, port, accepted \\ 0) do
    true = subject.command(port, :binary.copy("f", @page))
    accepted = accepted + @page

    case subject.info(port, :queue_size) do
      {:queue_size, 0} -> fill(subject, port, accepted)
      {:queue_size, @page} -> accepted
    end
  end

  @doc "Waits until so many bytes are queued."
  @spec await_queue(module(), port() | pid(), non_neg_integer()) :: :ok
  def await_queue(subject, port, bytes) do
    Proc.wait_until("#{bytes} bytes are queued", fn ->
      subject.info(port, :queue_size) == {:queue_size, bytes}
    end)

    :ok
  rescue
    error ->
      reraise "#{Exception.message(error)}, but: #{inspect(subject.info(port, :queue_size))}", __STACKTRACE__
  end

  @doc "Makes the port busy with the default limits; returns the bytes accepted."
  @spec make_busy(module(), port() | pid()) :: pos_integer()
  def make_busy(subject, port) do
    accepted = fill(subject, port)
    true = subject.command(port, :binary.copy("b", @page))
    accepted + @page
  end

  @doc "Has `actor` call `function`, and waits until it is held up in it."
  @spec ask_and_wait(Actor.t(), module(), (... -> term())) :: reference()
  def ask_and_wait(actor, subject, function) do
    reference = Actor.ask(actor, function)
    Proc.wait_until("the caller waits", fn -> held_up?(subject, actor) end)
    reference
  end

  defp held_up?(Port, actor), do: Process.info(actor.pid, :status) == {:status, :suspended}

  defp held_up?(SafePort, actor) do
    [status: status, current_function: function, message_queue_len: length] =
      Process.info(actor.pid, [:status, :current_function, :message_queue_len])

    status == :waiting and length == 0 and function != {Actor, :loop, 0}
  end

  @doc """
  Sends `data` to a program that has closed its input until the port ends; returns all that the port sends meanwhile.

  Once will do with SafePort. While it starts programs, Port may have the input open itself, a moment longer than they.
  """
  @spec write_until_end(module(), port() | pid(), iodata()) :: [term()]
  def write_until_end(subject, port, data \\ "x") do
    monitor = subject.monitor(port)
    true = subject.command(port, data)
    write(subject, port, data, monitor)
    trace(port)
  end

  defp write(subject, port, data, monitor) do
    receive do
      {:DOWN, ^monitor, _kind, _port, _reason} -> :ok
    after
      20 ->
        raised(fn -> subject.command(port, data) end)
        write(subject, port, data, monitor)
    end
  end
end
