defmodule SafePort.Core.Client do
  @moduledoc false
  # The caller's side of a port: finds it, writes or reads directly where that keeps the order, and asks the port
  # process otherwise.

  alias SafePort.Core.{DriverServer, Flow, Native, Opening, Options, Signal}

  ## Commands

  def command(port, data, options) do
    options = command_options!(options, options, [])
    if :force in options, do: force(find!(port), data), else: command_now(port, data, options)
  end

  defp iovec!(data) do
    :erlang.iolist_to_iovec(data)
  rescue
    ArgumentError -> raise ArgumentError, "data must be iodata, got: #{inspect(data)}"
  end

  # Only drivers may take it (contract C7).
  defp force(port, data) do
    unless Native.driver_port?(port), do: :erlang.error(:notsup)

    case call(port, {:force, iovec!(data)}) do
      true -> true
      :closed -> closed!(port)
      :notsup -> :erlang.error(:notsup)
    end
  end

  defp command_now(port, data, options) do
    iovec = iovec!(data)
    result = if pid = resolve(port), do: try_command(pid, iovec, :nosuspend in options), else: :closed
    commanded!(result, port)
  end

  # `port` may be any local process: whether it is a port is seen on the way, once.
  defp try_command(port, iovec, nosuspend) do
    case write(port, iovec) do
      :ok -> true
      :server -> call(port, {:command, iovec, nosuspend})
      refused -> refused
    end
  end

  defp command_options!([option | rest], all, acc) when option in [:force, :nosuspend],
    do: command_options!(rest, all, [option | acc])

  defp command_options!([], _all, acc), do: acc

  defp command_options!(_other, all, _acc) do
    raise ArgumentError, "options must be a list of :force and :nosuspend, got: #{inspect(all)}"
  end

  # Directly, unless something else of ours may be under way to the port: then behind that (contract M9).
  defp write(port, iovec) do
    cond do
      idle?(port) -> Native.command(port, iovec)
      Native.port?(port) -> :server
      true -> :closed
    end
  end

  # Whether the port process has done all that it was sent.
  defp idle?(port) do
    Process.info(port, [:message_queue_len, :status]) == [message_queue_len: 0, status: :waiting]
  end

  defp commanded!(result, _port) when is_boolean(result), do: result
  defp commanded!(:closed, port), do: closed!(port)

  defp commanded!(:half_closed, port) do
    raise ArgumentError, "the standard input of #{inspect(port)} was closed by SafePort.close_stdin/1"
  end

  def close_stdin(port), do: ask(port, :close_stdin)

  ## Closing and changing hands

  def close(port) do
    port = find!(port)
    monitor = Process.monitor(port)

    case call(port, :close) do
      true ->
        # The signals to links and monitors precede this one.
        receive do
          {:DOWN, ^monitor, :process, ^port, _reason} -> true
        end

      :closed ->
        Process.demonitor(monitor, [:flush])
        closed!(port)
    end
  end

  def connect(port, pid) when is_pid(pid) and node(pid) == node() do
    port = find!(port)

    case call(port, {:connect, pid}) do
      true -> true
      :badarg -> raise ArgumentError, "the new owner must be a living process, got: #{inspect(pid)}"
      :closed -> closed!(port)
    end
  end

  def connect(_port, other) do
    raise ArgumentError, "the new owner must be the pid of a local process, got: #{inspect(other)}"
  end

  ## Information

  @info_items [:name, :links, :id, :connected, :input, :output, :os_pid]
  @further_items [:registered_name, :queue_size, :monitors, :monitored_by, :memory, :parallelism, :locking]

  def info(port) do
    case ask_info(port, [:registered_name | @info_items]) do
      [{:registered_name, []} | items] -> items
      items_or_nil -> items_or_nil
    end
  end

  def info(port, item) when item in @info_items or item in @further_items do
    with [pair] <- ask_info(port, [item]), do: pair
  end

  def info(port, item) do
    with pid when is_pid(pid) <- resolve(port), true <- port?(pid) do
      items = inspect(Enum.sort(@info_items ++ @further_items))
      raise ArgumentError, "the item must be one of #{items}, got: #{inspect(item)}"
    else
      _closed -> nil
    end
  end

  defp ask_info(port, items) do
    with pid when is_pid(pid) <- resolve(port),
         true <- port?(pid),
         info when is_list(info) <- call(pid, {:info, items}) do
      info
    else
      _closed -> nil
    end
  end

  # A dead pid is a closed port; a living process that is no port is a mistake.
  defp port?(pid) do
    cond do
      Native.port?(pid) -> true
      Process.alive?(pid) and not port_process?(pid) -> raise ArgumentError, "no port: #{inspect(pid)}"
      true -> false
    end
  end

  # The port process of a port that just closed may still be about to exit.
  defp port_process?(pid) do
    case Process.info(pid, :initial_call) do
      {:initial_call, {Opening, :init, 2}} -> true
      {:initial_call, {DriverServer, _init_or_adopt, _arity}} -> true
      {:initial_call, _other} -> false
      # It is gone by now.
      nil -> true
    end
  end

  def monitor(port) when is_pid(port) do
    # Behind what the caller has sent before (contract M9).
    if port?(port) and not idle?(port), do: call(port, :sync)
    Process.monitor(port)
  end

  def monitor(name) when is_atom(name), do: monitor({name, node()})

  def monitor({name, node}) when is_atom(name) and node == node() do
    pid = Process.whereis(name)

    if is_pid(pid) and Native.port?(pid) do
      Process.monitor({name, node})
    else
      # The name of a process that is no port is as good as none (contract L11).
      reference = make_ref()
      send(self(), {:DOWN, reference, :process, {name, node}, :noproc})
      reference
    end
  end

  def monitor(other) do
    raise ArgumentError, "expected a port, a name or {name, node()}, got: #{inspect(other)}"
  end

  ## Reading in the caller's own context

  def setopts(port, active: active) do
    active = Options.activation!(active)
    ask(port, {:setopts, active})
  end

  def setopts(_port, other), do: raise(ArgumentError, "expected [active: value], got: #{inspect(other)}")

  # As many pieces as one read yields.
  @batch 0x3FFF_FFFF

  def recv(port, timeout) do
    with {:ok, [data]} <- receive_packets(port, 1, timeout), do: {:ok, data}
  end

  def recv_batch(port, timeout), do: receive_packets(port, @batch, timeout)

  def request(port, data, timeout) do
    timeout!(timeout)
    iovec = iovec!(data)

    # Nothing is written by whom the reply would not reach.
    with pid when is_pid(pid) <- resolve(port),
         :ok <- readable(pid),
         accepted when accepted != :closed <- try_command(pid, iovec, false) do
      commanded!(accepted, port)
      recv(pid, timeout)
    else
      {:error, reason} -> {:error, reason}
      _closed -> {:error, :closed}
    end
  end

  # Whether the caller may read.
  defp readable(port) do
    case Native.readable(port) do
      {:error, _reason} -> after_sync(port, fn -> Native.readable(port) end)
      result -> result
    end
  end

  # The port process has sent what made us read before it let us: it is done with that when it answers.
  defp after_sync(port, fun), do: if(call(port, :sync) == true, do: fun.(), else: {:error, :closed})

  defp receive_packets(port, limit, timeout) do
    timeout!(timeout)

    case resolve(port) do
      nil -> {:error, :closed}
      pid -> read(pid, limit, timeout)
    end
  end

  defp read(port, limit, timeout) do
    deadline = deadline(timeout)

    case read(port, limit, make_ref(), deadline) do
      {:error, reason} when reason in [:einval, :not_owner] ->
        after_sync(port, fn -> read(port, limit, make_ref(), deadline) end)

      result ->
        result
    end
  end

  defp read(port, limit, reference, deadline) do
    case Native.recv(port, limit, reference) do
      {:ok, packets} -> {:ok, packets}
      {:lists, packets} -> {:ok, Enum.map(packets, &Flow.as_list/1)}
      :more -> read(port, limit, reference, deadline)
      :wait -> await_readable(port, limit, reference, deadline)
      :closed -> {:error, :closed}
      {:error, reason} -> {:error, reason}
    end
  end

  defp await_readable(port, limit, reference, deadline) do
    receive do
      {:select, _pipe, ^reference, :ready_input} ->
        read(port, limit, reference, deadline)
    after
      remaining(deadline) ->
        unless Native.cancel(port, reference), do: flush(reference)
        {:error, :timeout}
    end
  end

  # What was sent before it could be cancelled, or is about to be, must not stay in the mailbox.
  defp flush(reference) do
    receive do
      {:select, _pipe, ^reference, :ready_input} -> :ok
    end
  end

  defp deadline(:infinity), do: :infinity
  defp deadline(timeout), do: :erlang.monotonic_time(:millisecond) + timeout

  defp remaining(:infinity), do: :infinity
  defp remaining(deadline), do: max(deadline - :erlang.monotonic_time(:millisecond), 0)

  ## Signals and the exit

  def signal(port, signal, options) do
    number = Signal.number!(signal)

    case options do
      [] -> ask(port, {:signal, number, :group})
      [to: target] when target in [:group, :leader, :tree] -> ask(port, {:signal, number, target})
      other -> raise ArgumentError, "expected [to: :group | :leader | :tree], got: #{inspect(other)}"
    end
  end

  def await_exit(port, timeout) do
    timeout!(timeout)

    with pid when is_pid(pid) <- resolve(port), true <- Native.port?(pid) do
      case call(pid, :await_exit, timeout) do
        :closed -> {:error, :closed}
        {:timeout, reference} -> give_up(pid, reference)
        result -> result
      end
    else
      _closed -> {:error, :closed}
    end
  end

  # An exit that was reported before the wait was given up counts.
  defp give_up(port, reference) do
    call(port, {:cancel_await, reference})

    receive do
      {^reference, result} -> result
    after
      0 -> {:error, :timeout}
    end
  end

  defp timeout!(:infinity), do: :infinity
  defp timeout!(ms) when is_integer(ms) and ms in 0..0xFFFF_FFFF, do: ms

  defp timeout!(other) do
    raise ArgumentError, "timeout must be :infinity or 0 to 4294967295 (ms), got: #{inspect(other)}"
  end

  ## Calls of drivers

  @operations 0..0xFFFF_FFFF

  def control(port, operation, data) do
    operation!(operation)
    port = find_driver!(port)
    data = :erlang.iolist_to_binary(data)
    ask_driver(port, {:control, operation, data}, &Native.driver_control(port, &1, operation, data))
  end

  def call_driver(port, operation, term) do
    operation!(operation)
    port = find_driver!(port)
    ask_driver(port, {:call, operation, term}, &Native.driver_call(port, &1, operation, term))
  end

  defp operation!(operation) when is_integer(operation) and operation in @operations, do: operation

  defp operation!(other) do
    raise ArgumentError, "the operation must be an integer from 0 to 4294967295, got: #{inspect(other)}"
  end

  defp find_driver!(port) do
    pid = find!(port)

    if Native.driver_port?(pid),
      do: pid,
      else: raise(ArgumentError, "expected a driver's port, got: #{inspect(port)}")
  end

  defp ask_driver(port, request, function) do
    reference = make_ref()

    case if(idle?(port), do: function.(reference), else: :server) do
      :server ->
        send(port, {:"$safe_port", {self(), reference}, request})
        port |> await_driver(reference) |> answered!(port)

      :wait ->
        port |> await_driver(reference) |> answered!(port)

      {:behind, answer} ->
        # What the driver has sent us before goes first (contract M11).
        call(port, :sync)
        answered!(answer, port)

      answer ->
        answered!(answer, port)
    end
  end

  # A driver may still answer after its port was closed.
  @farewell 100

  defp await_driver(port, reference) do
    monitor = Process.monitor(port)

    receive do
      {^reference, answer} ->
        Process.demonitor(monitor, [:flush])
        answer

      {:DOWN, ^monitor, :process, ^port, _reason} ->
        receive do
          {^reference, answer} -> answer
        after
          @farewell -> :closed
        end
    end
  end

  defp answered!({:ok, answer}, _port), do: answer
  defp answered!(closed, port) when closed in [:closed, {:error, :closed}], do: closed!(port)

  defp answered!({:error, reason}, _port), do: raise(ArgumentError, refusal(reason))

  defp refusal(:badarg), do: "the driver refuses the operation or its argument"
  defp refusal({:too_large, bytes}), do: "the driver's reply is too large: #{bytes} bytes"
  defp refusal({:driver_panic, message}), do: "the driver panicked: #{message}"

  ## Calls to the port process

  defp ask(port, request) do
    with pid when is_pid(pid) <- resolve(port),
         true <- Native.port?(pid),
         reply when reply != :closed <- call(pid, request) do
      reply
    else
      _closed -> {:error, :closed}
    end
  end

  defp call(port, request, timeout \\ :infinity) do
    reference = Process.monitor(port)
    send(port, {:"$safe_port", {self(), reference}, request})

    receive do
      {^reference, reply} ->
        Process.demonitor(reference, [:flush])
        reply

      {:DOWN, ^reference, :process, ^port, _reason} ->
        :closed
    after
      timeout ->
        Process.demonitor(reference, [:flush])
        {:timeout, reference}
    end
  end

  ## Names

  defp resolve(port) when is_pid(port) and node(port) == node(), do: port
  defp resolve(name) when is_atom(name), do: Process.whereis(name)

  defp resolve(other) do
    raise ArgumentError, "expected a port or the name of one, got: #{inspect(other)}"
  end

  defp find!(port) do
    case resolve(port) do
      pid when is_pid(pid) -> if Native.port?(pid), do: pid, else: closed!(port)
      _none -> closed!(port)
    end
  end

  @spec closed!(term()) :: no_return()
  defp closed!(port), do: raise(ArgumentError, "expected an open port, got: #{inspect(port)}")
end
