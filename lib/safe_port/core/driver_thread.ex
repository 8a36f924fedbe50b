defmodule SafePort.Core.DriverThread do
  @moduledoc false
  # A driver in this VM: its port process asks the runner through the NIF.

  @behaviour SafePort.Core.DriverBackend

  require Logger

  alias SafePort.Core.Native

  @impl true
  def open(options, owner) do
    Native.driver_open(%{
      command: options.name,
      owner: owner,
      eof: options.eof,
      line: options.line,
      busy_limits: limits(options)
    })
  end

  # Of the driver's own choice, unless the option was given.
  defp limits(%{busy_limits_msgq: limits} = options) do
    cond do
      :busy_limits_msgq not in options.given -> {0, 0}
      limits == :disabled -> {0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF}
      true -> limits
    end
  end

  @impl true
  def await(handle, owner) do
    receive do
      {^handle, :started} -> {:ok, [], handle}
      {^handle, {:refused, reason}} -> {:error, reason}
      {:EXIT, ^owner, reason} -> exit(reason)
    end
  end

  @impl true
  def opened(handle) do
    Native.driver_publish(handle)
    handle
  end

  @impl true
  def message({handle, :events}, handle) do
    case Native.driver_events(handle) do
      [] -> {[], handle}
      # There may be more, behind these.
      events -> {events ++ [{:again, {handle, :events}}], handle}
    end
  end

  def message(_message, _handle), do: :unknown

  @impl true
  def command(handle, caller, iovec, force), do: {Native.driver_command(handle, caller, iovec, force), handle}

  @impl true
  def control(handle, {caller, reference}, operation, data),
    do: {Native.driver_control_for(handle, caller, reference, operation, data), handle}

  @impl true
  def call(handle, {caller, reference}, operation, term),
    do: {Native.driver_call_for(handle, caller, reference, operation, term), handle}

  @impl true
  def set_owner(handle, owner) do
    Native.driver_set_owner(handle, owner)
    handle
  end

  @impl true
  def info(handle, from, items), do: {[{:info, from, items, figures(Native.driver_info(handle))}], handle}

  # Its driver has stopped, and we are about to learn that.
  defp figures(nil),
    do: %{input: 0, output: 0, queue_size: 0, os_pid: :undefined, locking: :port_level, monitors: []}

  defp figures(info) do
    %{
      input: info.input,
      output: info.output,
      queue_size: info.queue_size,
      os_pid: info.os_pid || :undefined,
      locking: if(info.driver_locking, do: :driver_level, else: :port_level),
      monitors: Enum.map(info.monitors, &{:process, &1})
    }
  end

  @impl true
  def close(handle, closed_to) do
    # Callers may still wait for answers, and the driver may have something for the log.
    successor = :erlang.spawn(__MODULE__, :await_closed, [handle, self(), closed_to])
    Native.driver_hand_over(handle, successor)
    Native.driver_close(handle, :flush)
  end

  @doc false
  def await_closed(handle, port, closed_to) do
    # Asked for first, so that what we send comes after all other signs of the port's death (contract L14).
    monitor = Process.monitor(port)
    # The port process may have heard already that the driver has stopped.
    stopped = Native.driver_info(handle) == nil
    unless closed?(handle) or stopped, do: await_closed(handle)

    receive do
      {:DOWN, ^monitor, :process, ^port, _reason} -> if closed_to, do: send(closed_to, {port, :closed})
    end
  end

  defp await_closed(handle) do
    receive do
      {^handle, :events} -> unless closed?(handle), do: await_closed(handle)
    end
  end

  defp closed?(handle) do
    case Native.driver_events(handle) do
      [] ->
        false

      events ->
        Enum.each(events, &farewell/1)
        :closed in events or closed?(handle)
    end
  end

  defp farewell({:reply, pid, reference, answer}), do: send(pid, {reference, answer})
  defp farewell({:log, text}), do: Logger.warning("SafePort driver: #{text}")
  defp farewell(_event), do: :ok
end
