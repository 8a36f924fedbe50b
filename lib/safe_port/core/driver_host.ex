defmodule SafePort.Core.DriverHost do
  @moduledoc false
  # A driver in a process of its own: the host program, an ordinary port of ours, runs it and talks to us in frames. They
  # are described in native/safe_port_host/src/protocol.rs.

  @behaviour SafePort.Core.DriverBackend

  alias SafePort.Core.{Native, Opening, Options, Signal}

  @enforce_keys [:port]
  defstruct [
    :port,
    # Makes the port process known as a port.
    :handle,
    # Whether commands can be forced, and whether others have to wait.
    soft_busy: false,
    busy: false,
    # Calls that are under way, by ticket: the caller, and for figures which.
    tickets: %{},
    last_ticket: 0,
    # Processes that the driver monitors: {reference, pid} by its number, and the number by reference.
    monitors: %{},
    references: %{}
  ]

  # As long as the host gives its driver, and a bit.
  @eof_timeout 2_000

  @impl true
  def open(options, owner) do
    {:ok, path, _only_isolated} = Native.driver_file(options.name)
    host = :safe_port |> :code.priv_dir() |> Path.join("native/safe_port_host")

    settings = [
      :binary,
      :nouse_stdio,
      :exit_info,
      packet: 4,
      busy_limits_port: :disabled,
      eof_timeout: @eof_timeout,
      kill_timeout: options.kill_timeout,
      cd: options.cd || "",
      cgroup: options.cgroup || ""
    ]

    port = {:spawn_executable, host} |> Options.new(settings) |> Opening.start()
    link = %__MODULE__{port: port}
    tell(link, [open_frame(options, owner), <<byte_size(path)::32>>, path, options.name])
    {:ok, link}
  rescue
    error in ErlangError -> {:error, error.original}
  end

  defp open_frame(options, owner) do
    {limits, low, high} = limits(options)
    flags = if(options.eof, do: 1, else: 0) + if(options.line > 0, do: 2, else: 0) + limits
    node = Atom.to_string(node())
    <<_id::32, _serial::32, creation::32>> = numbers(owner)

    [
      <<?o, flags, options.line::64, low::64, high::64, number(owner)::64, creation::32>>,
      <<byte_size(node)::16>>,
      node
    ]
  end

  defp limits(%{busy_limits_msgq: limits} = options) do
    cond do
      :busy_limits_msgq not in options.given -> {0, 0, 0}
      limits == :disabled -> {4, 0, 0}
      true -> {8, elem(limits, 0), elem(limits, 1)}
    end
  end

  @impl true
  def await(%{port: port} = link, owner), do: await(port, owner, link, [])

  defp await(port, owner, link, early) do
    receive do
      {^port, {:data, <<?s, flags>>}} -> {:ok, Enum.reverse(early), %{link | soft_busy: flags == 1}}
      {^port, {:data, <<?r, refusal::binary>>}} -> {:error, refusal(refusal)}
      {^port, {:exit_info, info}} -> {:error, exit_reason(info)}
      {:EXIT, ^port, reason} -> {:error, reason}
      {:EXIT, ^owner, reason} -> exit(reason)
      {^port, {:data, frame}} -> await_more(event(frame, link), port, owner, early)
    end
  end

  defp await_more({events, link}, port, owner, early),
    do: await(port, owner, link, Enum.reverse(events, early))

  defp refusal(<<?l, text::binary>>), do: {:not_loaded, text}
  defp refusal(<<?e, name::binary>>), do: String.to_atom(name)
  defp refusal(<<?p, text::binary>>), do: {:driver_panic, text}
  defp refusal("g"), do: :einval
  defp refusal("b"), do: :badarg

  @impl true
  def opened(link), do: %{link | handle: Native.driver_isolated()}

  ## What the host says

  @impl true
  def message({port, {:data, frame}}, %{port: port} = link), do: event(frame, link)

  # The program ended without saying that its driver has stopped.
  def message({port, {:exit_info, info}}, %{port: port} = link), do: {[{:failed, exit_reason(info)}], link}
  def message({:EXIT, port, reason}, %{port: port} = link), do: {[{:failed, reason}], link}
  def message({port, :connected}, %{port: port} = link), do: {[], link}

  def message({:DOWN, reference, :process, _pid, _reason}, link)
      when is_map_key(link.references, reference) do
    {number, references} = Map.pop(link.references, reference)
    tell(link, <<?e, number::64>>)
    {[], %{link | references: references, monitors: Map.delete(link.monitors, number)}}
  end

  def message(_message, _link), do: :unknown

  defp exit_reason(%{signal: nil, code: 0}), do: :normal
  defp exit_reason(%{signal: nil, code: code}), do: {:exit_status, code}
  defp exit_reason(%{signal: signal}) when is_integer(signal), do: Signal.name(signal)
  defp exit_reason(%{signal: signal}), do: signal

  defp event(<<?d, kind, size::32, header::binary-size(size), data::binary>>, link) do
    data = piece(kind, data)
    {[if(header == "", do: {:data, data}, else: {:data, header, data})], link}
  end

  defp event(<<?m, term::binary>>, link), do: {[{:term, :erlang.binary_to_term(term)}], link}

  defp event(<<?M, pid::64, term::binary>>, link) do
    send(pid(pid), :erlang.binary_to_term(term))
    {[], link}
  end

  defp event("E", link), do: {[:eof], link}
  defp event(<<?f, failure::binary>>, link), do: {[failed(failure)], link}
  defp event(<<?b, busy>>, link), do: {[{:busy, busy == 1}], %{link | busy: busy == 1}}

  defp event(<<?y, ticket::64, answer::binary>>, link) do
    {{pid, reference}, tickets} = Map.pop(link.tickets, ticket)
    {[{:reply, pid, reference, answer(answer)}], %{link | tickets: tickets}}
  end

  defp event(<<?+, number::64, pid::64>>, link) do
    pid = pid(pid)
    reference = Process.monitor(pid)

    {[],
     %{
       link
       | monitors: Map.put(link.monitors, number, {reference, pid}),
         references: Map.put(link.references, reference, number)
     }}
  end

  defp event(<<?-, number::64>>, link) do
    case Map.pop(link.monitors, number) do
      {nil, _monitors} ->
        {[], link}

      {{reference, _pid}, monitors} ->
        Process.demonitor(reference, [:flush])
        {[], %{link | monitors: monitors, references: Map.delete(link.references, reference)}}
    end
  end

  defp event(<<?l, text::binary>>, link), do: {[{:log, text}], link}

  defp event(
         <<?i, ticket::64, input::64, output::64, queue_size::64, os_pid::32, flags, _pids::binary>>,
         link
       ) do
    {{from, items}, tickets} = Map.pop(link.tickets, ticket)

    figures = %{
      input: input,
      output: output,
      queue_size: queue_size,
      os_pid: if(os_pid == 0, do: :undefined, else: os_pid),
      locking: if(flags >= 2, do: :driver_level, else: :port_level),
      monitors: for({_number, {_reference, pid}} <- link.monitors, do: {:process, pid}),
      links: links(link.port)
    }

    {[{:info, from, items, figures}], %{link | tickets: tickets}}
  end

  defp event("z", link), do: {[:closed], link}

  # The host is nobody's business.
  defp links(port), do: self() |> Process.info(:links) |> elem(1) |> Enum.filter(&(is_pid(&1) and &1 != port))

  defp piece(0, data), do: data
  defp piece(1, data), do: {:eol, data}
  defp piece(2, data), do: {:noeol, data}

  defp failed("e"), do: {:failed, :normal}
  defp failed(<<?c, code::32-signed>>), do: {:failed, code}
  defp failed(<<?a, name::binary>>), do: {:failed, String.to_atom(name)}
  defp failed(<<?n, name::binary>>), do: {:failed, String.to_atom(name)}
  defp failed("x"), do: {:exit, :normal}
  defp failed(<<?x, name::binary>>), do: {:exit, String.to_atom(name)}
  defp failed(<<?p, message::binary>>), do: {:failed, {:driver_panic, message}}

  defp answer(<<?l, bytes::binary>>), do: {:ok, :erlang.binary_to_list(bytes)}
  defp answer(<<?b, bytes::binary>>), do: {:ok, bytes}
  defp answer(<<?t, term::binary>>), do: {:ok, :erlang.binary_to_term(term)}
  defp answer("a"), do: {:error, :badarg}
  defp answer("c"), do: {:error, :closed}
  defp answer(<<?z, bytes::64>>), do: {:error, {:too_large, bytes}}
  defp answer(<<?p, message::binary>>), do: {:error, {:driver_panic, message}}

  ## What the host is told

  @impl true
  def command(%{soft_busy: false} = link, _caller, _iovec, true), do: {:notsup, link}
  def command(%{busy: true} = link, _caller, _iovec, false), do: {:busy, link}

  def command(link, caller, iovec, force) do
    tell(link, [<<?d, number(caller)::64, if(force, do: 1, else: 0)>> | iovec])
    {:ok, link}
  end

  @impl true
  def control(link, from, operation, data), do: ask(link, ?c, from, operation, data)

  @impl true
  def call(link, from, operation, term), do: ask(link, ?t, from, operation, :erlang.term_to_binary(term))

  defp ask(link, tag, {caller, _reference} = from, operation, data) do
    {ticket, link} = ticket(link, from)
    tell(link, [<<tag, ticket::64, operation::32, number(caller)::64>>, data])
    {:wait, link}
  end

  @impl true
  def set_owner(link, owner) do
    tell(link, <<?w, number(owner)::64>>)
    link
  end

  @impl true
  def info(link, from, items) do
    {ticket, link} = ticket(link, {from, items})
    tell(link, <<?i, ticket::64>>)
    {[], link}
  end

  defp ticket(link, whom) do
    ticket = link.last_ticket + 1
    {ticket, %{link | last_ticket: ticket, tickets: Map.put(link.tickets, ticket, whom)}}
  end

  defp tell(link, frame), do: send(link.port, {self(), {:command, frame}})

  ## Closing

  @impl true
  def close(link, closed_to) do
    Native.driver_close(link.handle, :flush)
    tell(link, <<?x, 0>>)
    # The host's port outlives us: until its driver has emptied its queue.
    successor = :erlang.spawn(__MODULE__, :await_closed, [link, self(), closed_to])
    send(link.port, {self(), {:connect, successor}})
    Process.unlink(link.port)
    :ok
  end

  @doc false
  def await_closed(%{port: host} = link, port, closed_to) do
    # Asked for first, so that what we send comes after all other signs of the port's death (contract L14).
    monitor = Process.monitor(port)

    receive do
      {:DOWN, ^monitor, :process, ^port, _reason} -> :ok
    end

    await_end(host, Process.monitor(host), link)
    if closed_to, do: send(closed_to, {port, :closed})
  end

  defp await_end(host, monitor, link) do
    receive do
      {^host, {:data, "z"}} ->
        send(host, {self(), :close})

      # Callers may still wait for answers.
      {^host, {:data, <<?y, _answer::binary>> = frame}} ->
        {[{:reply, pid, reference, answer}], link} = event(frame, link)
        send(pid, {reference, answer})
        await_end(host, monitor, link)

      {:DOWN, ^monitor, :process, ^host, _reason} ->
        :ok

      {^host, _frame} ->
        await_end(host, monitor, link)
    end
  end

  ## Processes as numbers

  defp number(pid) do
    <<id::32, serial::32, _creation::32>> = numbers(pid)
    :erlang.bsl(serial, 32) + id
  end

  defp numbers(pid), do: binary_part(:erlang.term_to_binary(pid), byte_size(:erlang.term_to_binary(pid)), -12)

  defp pid(number) do
    <<131, 88, rest::binary>> = :erlang.term_to_binary(self())
    head = binary_part(rest, 0, byte_size(rest) - 12)
    <<_id::32, _serial::32, creation::32>> = numbers(self())
    <<serial::32, id::32>> = <<number::64>>
    :erlang.binary_to_term(<<131, 88, head::binary, id::32, serial::32, creation::32>>)
  end
end
