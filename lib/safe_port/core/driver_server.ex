defmodule SafePort.Core.DriverServer do
  @moduledoc false
  # The port process of a linked-in driver: the same process protocol as that of a program (`SafePort.Core.Server`),
  # with a driver behind it, in this VM or in a process of its own.

  require Logger

  alias SafePort.Core.{DriverHost, DriverThread, Info, Native, Opening, Options}

  @enforce_keys [:backend, :link, :owner]
  defstruct [
    :backend,
    :link,
    :owner,
    name: "",
    binary: false,
    parallelism: false,
    # For `Info`.
    figures: %{},
    # Commands that wait until the port is no longer busy: {caller, from or nil, monitor or nil, iovec}.
    parked: :queue.new()
  ]

  @doc """
  Starts the port process linked to the caller; raises what the driver or the system refused.
  """
  @spec start(Options.t()) :: pid()
  def start(options), do: Opening.start(__MODULE__, options, &refused!(&1, options.name))

  @spec refused!(term(), String.t()) :: no_return()
  defp refused!(:no_driver, name) do
    raise ArgumentError, "the command must begin with the name of a driver, got: #{inspect(name)}"
  end

  defp refused!(:only_isolated, name) do
    raise ArgumentError, "this driver was loaded for {:isolation, :process} only, got: #{inspect(name)}"
  end

  defp refused!(:badarg, name),
    do: raise(ArgumentError, "the driver refuses its arguments, got: #{inspect(name)}")

  defp refused!(reason, _name), do: :erlang.error(reason)

  @doc false
  def init(owner, options) do
    Process.flag(:trap_exit, true)

    with {:ok, backend} <- backend(options),
         {:ok, link} <- backend.open(options, owner) do
      opening(%__MODULE__{
        backend: backend,
        link: link,
        owner: owner,
        name: options.name,
        binary: options.binary,
        parallelism: options.parallelism
      })
    else
      {:error, reason} -> Opening.refuse(owner, reason)
    end
  end

  defp backend(options) do
    with {:ok, _path, only_isolated} <- Native.driver_file(options.name) do
      cond do
        options.isolation == :process -> {:ok, DriverHost}
        only_isolated and :isolation in options.given -> {:error, :only_isolated}
        only_isolated -> {:ok, DriverHost}
        true -> {:ok, DriverThread}
      end
    end
  end

  defp opening(state) do
    case state.backend.await(state.link, state.owner) do
      {:ok, early, link} ->
        link = state.backend.opened(link)
        send(state.owner, {self(), :opened})
        # What the driver has sent from its start comes after the opener knows the port.
        early |> happen(%{state | link: link}) |> collect_garbage() |> loop()

      {:error, reason} ->
        Opening.refuse(state.owner, reason)
    end
  end

  # The options are garbage now, and an idle port is to be small.
  defp collect_garbage(state) do
    :erlang.garbage_collect()
    state
  end

  @doc false
  # The process of a port that a driver has made (`driver_create_port`).
  def adopt(maker, handle, owner, state) do
    Process.flag(:trap_exit, true)
    # If the owner is dead its exit signal closes the port.
    Process.link(owner)
    Native.driver_attach(handle)
    send(maker, {self(), :attached})
    loop(%{state | link: handle, owner: owner})
  end

  ## The loop

  defp loop(state) do
    receive do
      message -> message |> handle(state) |> loop()
    end
  end

  defp handle(message, state) do
    case state.backend.message(message, state.link) do
      {events, link} -> happen(events, %{state | link: link})
      :unknown -> request(message, state)
    end
  end

  # Calls by function, from anyone
  defp request({:"$safe_port", {pid, reference} = from, request}, state)
       when is_pid(pid) and is_reference(reference),
       do: call(request, from, state)

  # The owner's messages; the pid in the tuple is what counts (contract M1)
  defp request({owner, {:command, data}}, %{owner: owner} = state) do
    case iovec(data) do
      {:ok, iovec} -> accept({owner, nil, nil, iovec}, state)
      :error -> bad_signal(state)
    end
  end

  defp request({owner, :close}, %{owner: owner} = state), do: stop(:normal, state, owner)

  defp request({owner, {:connect, new}}, %{owner: owner} = state) when is_pid(new) and node(new) == node() do
    send(owner, {self(), :connected})
    connect(new, state)
  end

  # Exit signals (contract L3 to L6)
  defp request({:EXIT, owner, reason}, %{owner: owner} = state), do: stop(reason, state)

  defp request({:EXIT, from, :normal}, state) do
    # A link that ended normally is no reason to close, exit(port, :normal) is: whoever sent that is still there.
    if is_pid(from) and node(from) == node() and not Process.alive?(from),
      do: state,
      else: stop(:normal, state)
  end

  defp request({:EXIT, _from, reason}, state), do: stop(reason, state)

  defp request({:DOWN, monitor, :process, _pid, _reason}, state) when is_reference(monitor) do
    # A caller that waited; whoever else forges such a message gets what a built-in port would do with it.
    case :queue.filter(&(elem(&1, 2) != monitor), state.parked) do
      parked when parked == state.parked -> bad_signal(state)
      parked -> %{state | parked: parked}
    end
  end

  defp request(_message, state), do: bad_signal(state)

  # As `Port` does: whatever is not in the protocol signals the owner, whoever sent it; the port stays open.
  defp bad_signal(state) do
    Process.exit(state.owner, :badsig)
    state
  end

  ## What the driver does

  defp happen([event | rest], state) do
    # Nothing after these is done any more, but callers get their answers.
    if last?(event), do: Enum.each(rest, &answer/1)
    happen(rest, happens(event, state))
  end

  defp happen([], state), do: state

  defp last?(event), do: event == :closed or match?({kind, _reason} when kind in [:failed, :exit], event)

  defp answer({:reply, pid, reference, answer}), do: send(pid, {reference, answer})
  defp answer(_event), do: :ok

  defp happens({:data, data}, state) do
    send(state.owner, {self(), {:data, form(data, state.binary)}})
    state
  end

  defp happens({:data, header, data}, state) do
    send(state.owner, {self(), {:data, with_header(header, data, state.binary)}})
    state
  end

  defp happens({:term, term}, state) do
    send(state.owner, term)
    state
  end

  defp happens(:eof, state) do
    send(state.owner, {self(), :eof})
    state
  end

  defp happens({:failed, reason}, state), do: stop(reason, state)

  defp happens({:exit, reason}, state) do
    # driver_exit: the owner gets no exit signal (contract D3).
    Process.unlink(state.owner)
    stop(reason, state)
  end

  defp happens({:busy, true}, state), do: state
  defp happens({:busy, false}, state), do: resume(state)

  defp happens({:reply, _pid, _reference, _answer} = event, state) do
    answer(event)
    state
  end

  defp happens({:info, from, items, figures}, state) do
    reply(from, Info.items(items, %{state | figures: figures}, elem(from, 0)))
    state
  end

  defp happens({:create_port, owner, name, handle}, state) do
    made = %{state | name: name, parked: :queue.new()}
    pid = :erlang.spawn(__MODULE__, :adopt, [self(), handle, owner, made])

    receive do
      {^pid, :attached} -> state
    end
  end

  defp happens({:log, text}, state) do
    Logger.warning("SafePort driver port #{inspect(self())} (#{inspect(state.name)}): #{text}")
    state
  end

  defp happens({:again, message}, state), do: handle(message, state)

  # Its driver has stopped: we learn the reason before, unless it was closed by us.
  defp happens(:closed, state), do: stop(:normal, state)

  defp form(data, true), do: data
  defp form({kind, line}, false), do: {kind, :erlang.binary_to_list(line)}
  defp form(data, false), do: :erlang.binary_to_list(data)

  # The bytes of the header are list cells in front of the data, even if that is a binary (contract D1).
  defp with_header(header, {kind, line}, binary), do: {kind, with_header(header, line, binary)}
  defp with_header(header, data, binary), do: :erlang.binary_to_list(header) ++ form(data, binary)

  ## Commands

  defp iovec(data) do
    {:ok, :erlang.iolist_to_iovec(data)}
  rescue
    ArgumentError -> :error
  end

  defp accept({caller, from, _monitor, iovec} = command, state) do
    if :queue.is_empty(state.parked) do
      {result, link} = state.backend.command(state.link, caller, iovec, false)
      accepted(result, from, command, %{state | link: link})
    else
      park(command, state)
    end
  end

  defp accepted(:ok, from, _command, state) do
    if from, do: reply(from, true)
    state
  end

  defp accepted(:busy, _from, command, state), do: park(command, state)
  defp accepted(closed, nil, _command, state) when closed in [:closed, :notsup], do: state

  defp accepted(result, from, _command, state) do
    reply(from, result)
    state
  end

  defp park({caller, from, nil, iovec}, state) do
    monitor = if from, do: Process.monitor(caller)
    %{state | parked: :queue.in({caller, from, monitor, iovec}, state.parked)}
  end

  # Commands that waited while the port was busy, one by one as long as it stays free.
  defp resume(state) do
    case :queue.out(state.parked) do
      {:empty, _parked} ->
        state

      {{:value, {caller, from, monitor, iovec}}, parked} ->
        case state.backend.command(state.link, caller, iovec, false) do
          {:busy, link} ->
            %{state | link: link}

          {result, link} ->
            if monitor, do: Process.demonitor(monitor, [:flush])
            resume(accepted(result, from, nil, %{state | link: link, parked: parked}))
        end
    end
  end

  ## Calls

  defp call({:command, iovec, false}, {caller, _reference} = from, state),
    do: accept({caller, from, nil, iovec}, state)

  defp call({:command, iovec, true}, {caller, _reference} = from, state) do
    if :queue.is_empty(state.parked) do
      {result, link} = state.backend.command(state.link, caller, iovec, false)
      reply(from, if(result == :ok, do: true, else: result != :busy and result))
      %{state | link: link}
    else
      reply(from, false)
      state
    end
  end

  defp call({:force, iovec}, {caller, _reference} = from, state) do
    {result, link} = state.backend.command(state.link, caller, iovec, true)
    reply(from, if(result == :ok, do: true, else: result))
    %{state | link: link}
  end

  defp call({:control, operation, data}, from, state),
    do: state.link |> state.backend.control(from, operation, data) |> asked(from, state)

  defp call({:call, operation, term}, from, state),
    do: state.link |> state.backend.call(from, operation, term) |> asked(from, state)

  # What came before was passed on by now.
  defp call(:sync, from, state) do
    reply(from, :ok)
    state
  end

  defp call(:close, from, state) do
    reply(from, true)
    stop(:normal, state)
  end

  defp call({:connect, new}, from, state) do
    if Process.alive?(new) do
      Process.link(new)
      reply(from, true)
      connect(new, state)
    else
      reply(from, :badarg)
      state
    end
  end

  defp call({:info, items}, from, state) do
    {events, link} = state.backend.info(state.link, from, items)
    happen(events, %{state | link: link})
  end

  # What only programs have.
  defp call(program, from, state) when program in [:close_stdin, :await_exit] do
    reply(from, {:error, :einval})
    state
  end

  defp call({program, _}, from, state) when program in [:setopts, :cancel_await] do
    reply(from, {:error, :einval})
    state
  end

  defp call({:signal, _signal, _target}, from, state) do
    reply(from, {:error, :einval})
    state
  end

  defp call(_unknown, _from, state), do: bad_signal(state)

  defp asked({:wait, link}, _from, state), do: %{state | link: link}

  defp asked({:closed, link}, from, state) do
    reply(from, {:error, :closed})
    %{state | link: link}
  end

  defp reply({pid, reference}, result), do: send(pid, {reference, result})

  defp connect(new, state), do: %{state | owner: new, link: state.backend.set_owner(state.link, new)}

  ## Stopping

  # The driver may go on until its queue is empty, while links and monitors fire at once (contract K2, L14).
  defp stop(reason, state, closed_to \\ nil) do
    state.backend.close(state.link, closed_to)
    exit(reason)
  end
end
