defmodule SafePort.Test.Actor do
  @moduledoc """
  Another process for a test: runs functions when told, and otherwise only collects messages.
  """

  @enforce_keys [:pid]
  defstruct [:pid]

  @type t :: %__MODULE__{pid: pid()}

  @doc """
  Starts an actor that is not linked to the test, but ends with it. With `trap_exit: true` it traps exits.
  """
  @spec start(trap_exit: boolean()) :: t()
  def start(options \\ []) do
    actor = start_for_good(options)
    ExUnit.Callbacks.on_exit(fn -> Process.exit(actor.pid, :kill) end)
    actor
  end

  @doc "As `start/1`, but the actor has to be stopped."
  @spec start_for_good(trap_exit: boolean()) :: t()
  def start_for_good(options) do
    trap_exit = Keyword.get(options, :trap_exit, false)

    pid =
      spawn(fn ->
        Process.flag(:trap_exit, trap_exit)
        loop()
      end)

    actor = %__MODULE__{pid: pid}
    # It is ready when it answers.
    :ok = run(actor, fn -> :ok end)
    actor
  end

  defp loop do
    receive do
      {__MODULE__, from, reference, function} ->
        send(from, {reference, attempt(function)})
        loop()
    end
  end

  defp attempt(function) do
    {:ok, function.()}
  rescue
    error -> {:raised, error}
  end

  @doc "Runs `function` in the actor and returns its result; what it raises is raised here."
  @spec run(t(), (... -> value)) :: value when value: term()
  def run(actor, function) do
    reference = ask(actor, function)

    receive do
      {^reference, {:ok, value}} -> value
      {^reference, {:raised, error}} -> raise error
    after
      10_000 -> raise "the actor #{inspect(actor.pid)} does not answer"
    end
  end

  @doc "Has `function` run in the actor without waiting; `{reference, {:ok, value} | {:raised, error}}` will come."
  @spec ask(t(), (... -> term())) :: reference()
  def ask(actor, function) do
    reference = make_ref()
    send(actor.pid, {__MODULE__, self(), reference, function})
    reference
  end

  @doc "The messages that the actor has not taken."
  @spec messages(t()) :: [term()]
  def messages(actor) do
    run(actor, fn ->
      {:messages, messages} = Process.info(self(), :messages)
      messages
    end)
  end

  @doc "Ends the actor with `reason` and waits until it is dead."
  @spec stop(t(), term()) :: :ok
  def stop(actor, reason \\ :normal) do
    monitor = Process.monitor(actor.pid)

    if reason == :kill do
      Process.exit(actor.pid, :kill)
    else
      ask(actor, fn -> exit(reason) end)
    end

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
    end
  end
end
