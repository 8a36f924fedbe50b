defmodule SafePort.Core.Server do
  @moduledoc false
  # The port process: one small process per port, whose pid is the port. It owns the program's pipes, sends the owner
  # everything that comes from the port, and takes part in links and signals as the built-in's ports do.
  #
  # It is a plain loop and not a GenServer: a port has no parent whose exit ends it, and answers unknown messages with
  # a signal to its owner.

  alias SafePort.Core.{Delivery, Flow, Info, Limbo, Native, Options, Signal}

  @enforce_keys [:handle, :owner, :os_pid, :flow]
  defstruct [
    :handle,
    # Comes back with the readiness that this process asked for.
    :tag,
    :owner,
    :os_pid,
    :flow,
    :name,
    :binary,
    :input,
    :eof,
    :exit_status,
    :exit_info,
    :eof_timeout,
    :parallelism,
    # :wait (armed), :more, :off (the owner reads, or has no credit), :eof
    reading: :off,
    # The exit of the program, once it is known.
    exit: nil,
    # Whether the program's standard input was closed by close_stdin/1.
    half_closed: false,
    # Set once {port, :eof} has been sent to an owner who keeps the port open.
    done: false,
    # Callers of await_exit/2.
    awaiting: [],
    # Callers of signal/3 by ticket, or :ended.
    signalling: %{},
    tickets: 1
  ]

  # The ticket of the signal that only asks.
  @question 0

  @doc """
  Serves as the port of a program that runs, until it is closed.
  """
  @spec serve(Native.handle(), pid(), pos_integer() | :undefined, Options.t()) :: no_return()
  def serve(handle, owner, os_pid, options) do
    state = handle |> new(owner, os_pid, options) |> start_reading()
    # The options and the environment are garbage now, and an idle port is to be small.
    :erlang.garbage_collect()
    loop(state)
  end

  defp new(handle, owner, os_pid, options) do
    %__MODULE__{
      handle: handle,
      tag: make_ref(),
      owner: owner,
      os_pid: os_pid,
      flow: Flow.new(options.active, options.busy_limits_port),
      name: options.name,
      binary: options.binary,
      input: options.input,
      eof: options.eof,
      exit_status: options.exit_status,
      exit_info: options.exit_info,
      eof_timeout: options.eof_timeout,
      parallelism: options.parallelism
    }
  end

  ## The loop

  defp loop(%{reading: :more} = state) do
    receive do
      message -> handle(message, state)
    after
      0 -> state
    end
    |> read()
    |> loop()
  end

  defp loop(state) do
    receive do
      message -> message |> handle(state) |> loop()
    end
  end

  # Readiness
  defp handle({:select, _pipe, tag, :ready_input}, %{tag: tag, reading: :wait} = state),
    do: read(%{state | reading: :more})

  defp handle({:select, _pipe, tag, :ready_input}, %{tag: tag} = state), do: state
  defp handle({:select, _pipe, tag, :ready_output}, %{tag: tag} = state), do: drain(state)

  # The native half, and callers who met a full pipe
  defp handle({handle, event}, %{handle: handle} = state), do: native(event, state)

  # Calls by function, from anyone
  defp handle({:"$safe_port", {pid, reference} = from, request}, state)
       when is_pid(pid) and is_reference(reference),
       do: call(request, from, state)

  # The owner's messages; the pid in the tuple is what counts (contract M1)
  defp handle({owner, {:command, data}}, %{owner: owner} = state) do
    case iovec(data) do
      {:ok, iovec} -> accept(iovec, state)
      :error -> bad_signal(state)
    end
  end

  defp handle({owner, :close}, %{owner: owner} = state), do: stop(:normal, state, owner)

  defp handle({owner, {:connect, new}}, %{owner: owner} = state) when is_pid(new) and node(new) == node() do
    send(owner, {self(), :connected})
    Native.set_owner(state.handle, new)
    %{state | owner: new}
  end

  # Exit signals (contract L3 to L6)
  defp handle({:EXIT, owner, reason}, %{owner: owner} = state), do: stop(reason, state)

  defp handle({:EXIT, from, :normal}, state) when is_pid(from) and from != self() do
    # A link that ended normally is no reason to close, exit(port, :normal) is: whoever sent that is still there.
    if node(from) == node() and not Process.alive?(from), do: state, else: stop(:normal, state)
  end

  defp handle({:EXIT, from, reason}, state) when (is_pid(from) or is_port(from)) and from != self(),
    do: stop(reason, state)

  defp handle({:DOWN, monitor, :process, _pid, _reason}, state) do
    case Flow.abandon(state.flow, monitor) do
      {:ok, flow} -> %{state | flow: flow}
      :error -> bad_signal(state)
    end
  end

  defp handle(_message, state), do: bad_signal(state)

  # As `Port` does: whatever is not in the protocol signals the owner, whoever sent it; the port stays open.
  defp bad_signal(state) do
    Process.exit(state.owner, :badsig)
    state
  end

  ## Reading

  defp start_reading(%{input: false} = state), do: state

  defp start_reading(state) do
    if Flow.credit(state.flow) > 0, do: read(%{state | reading: :more}), else: state
  end

  defp read(%{reading: :more} = state),
    do: state.handle |> Native.read(Flow.credit(state.flow), state.tag) |> take(state)

  defp read(state), do: state

  # A command was written whose reply may come within microseconds.
  defp read_awake(%{reading: :wait} = state),
    do: state.handle |> Native.read_awake(Flow.credit(state.flow), state.tag) |> take(state)

  defp read_awake(state), do: state

  defp take({:error, reason}, state), do: stop_now(reason, state)
  defp take({next, packets}, state), do: state |> deliver(packets) |> proceed(next)

  defp deliver(state, []), do: state

  defp deliver(state, packets) do
    count = length(packets)
    Delivery.send_all(packets, count, state.owner, state.binary)

    {told, flow} = Flow.spend(state.flow, count)
    if told == :passive, do: send(state.owner, {self(), :passive})
    %{state | flow: flow}
  end

  defp proceed(state, :eof) do
    # Whoever reads now is told that nothing is left.
    Native.set_passive(state.handle, true)
    at_eof(%{state | reading: :eof})
  end

  defp proceed(state, next) do
    if Flow.credit(state.flow) == 0, do: pause(state), else: %{state | reading: next}
  end

  # From here on the owner reads, or asks for more.
  defp pause(state) do
    Native.suspend(state.handle, state.tag)
    Native.set_passive(state.handle, true)
    %{state | reading: :off}
  end

  ## The end of the program

  defp at_eof(%{done: true} = state), do: state
  defp at_eof(state) when state.exit_status or state.exit_info, do: finish(state)
  defp at_eof(state), do: state |> trust() |> finish()

  # What shows in the pipes may be the death of the guardian, which takes the program with it, and whose own end may show
  # later. A guardian that answers after that was not dying then.
  defp trust(%{handle: handle, exit: nil, os_pid: os_pid, signalling: signalling} = state)
       when is_integer(os_pid) and signalling != :ended do
    Native.signal(handle, @question, 0, :leader)

    receive do
      {^handle, {:signalled, @question, _result}} -> state
      {^handle, :ended} -> native(:ended, state)
      {^handle, :guardian_down} -> stop_now(:guardian_down, state)
    end
  end

  defp trust(state), do: state

  # Goes on only when all is known that the owner is to be told, in this order: data, exit status, eof or EXIT.
  defp finish(%{done: true} = state), do: state

  defp finish(%{exit: nil} = state) when state.exit_status or state.exit_info, do: state

  defp finish(state) do
    if state.exit_info, do: send(state.owner, {self(), {:exit_info, exit_info(state.exit)}})
    if state.exit_status, do: send(state.owner, {self(), {:exit_status, state.exit.status}})

    if state.eof do
      send(state.owner, {self(), :eof})
      %{state | done: true}
    else
      stop(:normal, state)
    end
  end

  defp exit_info(%{signal: signal, status: status} = exit) do
    exit
    |> Map.delete(:status)
    |> Map.merge(%{code: if(signal == nil, do: status), signal: signal && Signal.name(signal)})
  end

  ## The native half

  defp native({:exited, status, signal, core_dumped, {user_us, system_us, max_rss_kib}}, state) do
    exit = %{
      status: status,
      signal: signal,
      core_dumped: core_dumped,
      user_us: user_us,
      system_us: system_us,
      max_rss_kib: max_rss_kib
    }

    Enum.each(state.awaiting, &reply(&1, {:ok, status}))
    state = %{state | exit: exit, awaiting: []}

    case state do
      %{input: false} -> finish(state)
      %{reading: :eof} -> finish(state)
      # What the program wrote before it ended is in the pipe by now; what comes later is not its own.
      %{reading: :off} -> end_input(state)
      _active -> read(%{end_input(state) | reading: :more})
    end
  end

  defp native({:queue, iovec, bytes}, state), do: enqueue(iovec, bytes, state)
  defp native(:asked, state), do: read_awake(state)
  defp native({:write_failed, reason}, state), do: write_failed(reason, state)
  defp native({:read_failed, reason}, state), do: stop_now(reason, state)
  defp native(:eof, state), do: at_eof(%{state | reading: :eof})
  defp native(:guardian_down, state), do: stop_now(:guardian_down, state)

  # Nothing of the tree is left, and nobody answers for it any more.
  defp native(:ended, state) do
    for {_ticket, from} <- state.signalling, do: reply(from, {:error, :closed})
    %{state | signalling: :ended}
  end

  defp native({:signalled, ticket, result}, state) do
    {from, signalling} = Map.pop(state.signalling, ticket)
    if from, do: reply(from, signal_result(result))
    %{state | signalling: signalling}
  end

  defp signal_result(:ok), do: :ok
  defp signal_result(:esrch), do: {:error, :closed}
  defp signal_result(reason), do: {:error, reason}

  defp end_input(state) do
    Native.end_input(state.handle)
    state
  end

  ## Writing

  defp iovec(data) do
    {:ok, :erlang.iolist_to_iovec(data)}
  rescue
    ArgumentError -> :error
  end

  defp accept(iovec, state) do
    case Native.accept_command(state.handle, iovec) do
      :ok -> state
      :asked -> read_awake(state)
      :half_closed -> stop_now(:epipe, state)
      {:queue, rest, bytes} -> enqueue(rest, bytes, state)
      {:behind, rest, bytes} -> enqueue(rest, bytes, state |> await_rest())
      {:error, reason} -> write_failed(reason, state)
    end
  end

  # A caller filled the pipe and its rest is on its way to us: it goes first.
  defp await_rest(%{handle: handle} = state) do
    if Flow.empty?(state.flow) and Native.queued(handle) do
      receive do
        {^handle, {:queue, iovec, bytes}} -> enqueue(iovec, bytes, state)
      end
    else
      state
    end
  end

  defp enqueue(iovec, bytes, state) do
    if Flow.empty?(state.flow), do: Native.arm_output(state.handle, state.tag)
    %{state | flow: Flow.enqueue(state.flow, iovec, bytes)}
  end

  defp drain(state) do
    {iovec, flow} = Flow.take(state.flow)

    case Native.drain(state.handle, iovec) do
      {:ok, rest, written} -> drained(%{state | flow: Flow.wrote(flow, rest, written)})
      {:error, reason} -> write_failed(reason, state)
    end
  end

  @spec write_failed(atom(), %__MODULE__{}) :: no_return()
  defp write_failed(:epipe, state), do: stop_now(:epipe, trust(state))
  defp write_failed(reason, state), do: stop_now(reason, state)

  defp drained(state) do
    if Flow.empty?(state.flow),
      do: Native.drained(state.handle),
      else: Native.arm_output(state.handle, state.tag)

    resume(state)
  end

  # Callers that waited while the port was busy, one by one as long as it stays free.
  defp resume(state) do
    case Flow.resume(state.flow) do
      nil ->
        state

      {{from, monitor, iovec}, flow} ->
        Process.demonitor(monitor, [:flush])
        state = %{state | flow: flow}

        if Process.alive?(elem(from, 0)) do
          reply(from, true)
          iovec |> accept(state) |> resume()
        else
          resume(state)
        end
    end
  end

  ## Calls

  defp call({:command, _iovec, _nosuspend}, from, %{half_closed: true} = state) do
    reply(from, :half_closed)
    state
  end

  defp call({:command, iovec, nosuspend}, from, %{flow: %{busy: true}} = state) do
    if nosuspend do
      reply(from, false)
      state
    else
      %{state | flow: Flow.park(state.flow, {from, Process.monitor(elem(from, 0)), iovec})}
    end
  end

  defp call({:command, iovec, _nosuspend}, from, state) do
    reply(from, true)
    accept(iovec, state)
  end

  defp call(:sync, from, state) do
    reply(from, true)
    state
  end

  defp call(:close, from, state) do
    reply(from, true)
    stop(:normal, state)
  end

  defp call({:connect, new}, from, state) do
    if Process.alive?(new) do
      Process.link(new)
      Native.set_owner(state.handle, new)
      reply(from, true)
      %{state | owner: new}
    else
      reply(from, :badarg)
      state
    end
  end

  defp call({:info, items}, from, state) do
    reply(from, Info.items(items, state, elem(from, 0)))
    state
  end

  defp call({:setopts, active}, from, state) do
    case Flow.activate(state.flow, active) do
      {:error, reason} ->
        reply(from, {:error, reason})
        state

      {:ok, told, flow} ->
        state = mode(%{state | flow: flow})
        if told == :passive, do: send(state.owner, {self(), :passive})
        reply(from, :ok)
        state
    end
  end

  defp call(:await_exit, from, %{exit: nil} = state), do: %{state | awaiting: [from | state.awaiting]}

  defp call(:await_exit, from, state) do
    reply(from, {:ok, state.exit.status})
    state
  end

  defp call({:cancel_await, reference}, from, state) do
    reply(from, :ok)
    %{state | awaiting: Enum.reject(state.awaiting, &(elem(&1, 1) == reference))}
  end

  defp call({:signal, _signal, _target}, from, %{signalling: :ended} = state) do
    reply(from, {:error, :closed})
    state
  end

  defp call({:signal, signal, target}, from, state) do
    ticket = state.tickets
    Native.signal(state.handle, ticket, signal, target)
    %{state | tickets: ticket + 1, signalling: Map.put(state.signalling, ticket, from)}
  end

  # What is queued goes first; `Native.drained/1` closes the pipe behind it.
  defp call(:close_stdin, from, state) do
    state = await_rest(state)
    Native.close_stdin(state.handle)
    reply(from, :ok)
    %{state | half_closed: true}
  end

  defp call(_unknown, _from, state), do: bad_signal(state)

  defp reply({pid, reference}, result), do: send(pid, {reference, result})

  defp mode(%{reading: :eof} = state), do: state
  defp mode(%{input: false} = state), do: state

  defp mode(state) do
    if Flow.credit(state.flow) == 0 do
      pause(state)
    else
      Native.set_passive(state.handle, false)
      %{state | reading: :more}
    end
  end

  ## Stopping

  # The queue is flushed in the background while links and monitors fire at once (contract K2, L14).
  defp stop(reason, state, closed_to \\ nil) do
    state = await_rest(state)

    if closed_to != nil or (not Flow.empty?(state.flow) and state.exit == nil) do
      Limbo.start(state.handle, state.flow, state.eof_timeout, closed_to)
    else
      Native.close(state.handle)
    end

    exit(reason)
  end

  # Nothing can be flushed: the program, its pipe or the guardian failed.
  defp stop_now(reason, state) do
    Native.close(state.handle)
    exit(reason)
  end
end
