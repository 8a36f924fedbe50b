defmodule SafePort.Test.Differential.World do
  @moduledoc """
  Runs a sequence of operations with one of the two modules, and tells what could be seen of it.

  After each operation everything comes to rest, so that the result does not depend on who is faster.
  """

  alias SafePort.Test.{Actor, Proc}
  alias SafePort.Test.Differential.Sequence

  defstruct [
    :subject,
    :sequence,
    :port,
    :os_pid,
    :name,
    :actors,
    # Why actors died, and which monitors the living have.
    deaths: %{},
    monitors: %{},
    results: [],
    # Who is to get {port, :closed}, what the program that talks is at, and whether nobody can tell any more.
    closers: [],
    talk: :waits,
    over: false,
    # The monitor of a port that is a process, until it has fired.
    monitor: nil
  ]

  @doc """
  Runs the sequence; returns the results of the operations, and for each actor its messages or why it died.

  Ports are `:port`, processes their actors' names, references `:reference`. Signals that are
  `expected` to be seen may be on their way for a while.
  """
  @spec run(module(), Sequence.t(), map() | nil) :: %{
          results: [term()],
          actors: %{Sequence.actor() => term()}
        }
  def run(subject, sequence, expected \\ nil) do
    {pid, monitor} =
      spawn_monitor(fn -> exit({:seen, subject |> start(sequence) |> perform_all() |> finish(expected)}) end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:seen, seen}} -> seen
      {:DOWN, ^monitor, :process, ^pid, reason} -> %{results: [{:failed, reason}], actors: %{}}
    end
  end

  ## The start

  defp start(subject, sequence) do
    actors =
      for name <- Sequence.actors(), into: %{} do
        actor = Actor.start_for_good(trap_exit: name in sequence.trapping)
        {name, {actor, Process.monitor(actor.pid)}}
      end

    {owner, _monitor} = actors.a
    {file, options} = program(sequence)
    port = Actor.run(owner, fn -> subject.open({:spawn_executable, file}, options) end)
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    name = :"safe_port_differential_#{rem(System.unique_integer([:positive]), 1000)}"

    world = %__MODULE__{
      subject: subject,
      sequence: sequence,
      port: port,
      os_pid: os_pid,
      name: name,
      actors: actors,
      monitor: if(is_pid(port), do: Process.monitor(port))
    }

    if sequence.program == :deaf, do: await(fn -> subject.info(port, :input) == {:input, 2} end)
    world
  end

  # None of them has to complain of ports that go.
  defp program(%{program: :echo, options: options}), do: script("exec cat", options)

  # Says so when it does not listen any more, and waits to be killed.
  defp program(%{program: :deaf, options: options}),
    do: script("exec <&-; echo R; exec sleep 1000", options)

  # Waits for a line first.
  defp program(%{program: {:talk, text, status}, options: options}) do
    octal = for <<byte <- text>>, into: "", do: "\\" <> String.pad_leading(Integer.to_string(byte, 8), 3, "0")
    script("read go || exit 9; printf '#{octal}'; exit #{status}", options)
  end

  defp script(script, options), do: {"/bin/sh", [{:args, ["-c", "exec 2>/dev/null; " <> script]} | options]}

  ## Operations

  defp perform_all(world) do
    Enum.reduce(world.sequence.operations, world, fn operation, world ->
      {result, world} = perform(operation, world)
      settled = settle(world)
      %{settled | results: [normal(outcome(result, elem(operation, 1), settled), settled) | settled.results]}
    end)
  end

  # Who dies of what it did may be told the result, or not.
  defp outcome(result, _actor, _world) when result in [:dead, :skipped], do: result
  defp outcome(_result, actor, world) when is_map_key(world.deaths, actor), do: :died
  defp outcome(result, _actor, _world), do: result

  defp perform(operation, world) do
    cond do
      world.over -> {:skipped, world}
      Map.has_key?(world.deaths, elem(operation, 1)) -> {:dead, world}
      skipped?(operation, world) -> {:skipped, world}
      true -> do_perform(operation, world)
    end
  end

  # Whether linking to what is closed is an error or a signal depends on the kind of what is closed.
  defp skipped?({:link, actor}, world), do: actor not in world.sequence.trapping and not open?(world)
  defp skipped?(_operation, _world), do: false

  defp do_perform({:command, actor, at, data, options}, world),
    do: ask(world, actor, fn -> world.subject.command(target(at, world), data, options) end)

  # The line that the program waits for.
  defp do_perform({:trigger, actor, at}, world) do
    {result, world} = ask(world, actor, fn -> world.subject.command(target(at, world), "go\n") end)
    {result, if(result == {:ok, true} and world.talk == :waits, do: %{world | talk: :talks}, else: world)}
  end

  defp do_perform({:send, actor, at, message}, world) do
    message = message(message, world)
    world |> expect_closed(at, message) |> ask(actor, fn -> send(target(at, world), message) && :sent end)
  end

  # Calls and messages in turn; in the owner's name, as signals to it may come before or after the echo.
  defp do_perform({:burst, actor, at, parts}, world) do
    target = target(at, world)
    owner = with {:connected, pid} <- world.subject.info(world.port, :connected), do: pid

    {_result, world} =
      ask(world, actor, fn ->
        for {kind, data} <- parts do
          if kind == :call,
            do: world.subject.command(target, data),
            else: send(target, {owner, {:command, data}})
        end
      end)

    {:burst, world}
  end

  defp do_perform({:connect, actor, at, to}, world),
    do: ask(world, actor, fn -> world.subject.connect(target(at, world), pid(to, world)) end)

  defp do_perform({:close, actor, at}, world),
    do: ask(world, actor, fn -> world.subject.close(target(at, world)) end)

  defp do_perform({:link, actor}, world), do: ask(world, actor, fn -> Process.link(world.port) end)
  defp do_perform({:unlink, actor}, world), do: ask(world, actor, fn -> Process.unlink(world.port) end)

  defp do_perform({:monitor, actor, at}, world) do
    {result, world} = ask(world, actor, fn -> world.subject.monitor(target(at, world)) end)

    case result do
      {:ok, monitor} ->
        {result, %{world | monitors: Map.update(world.monitors, actor, [monitor], &[monitor | &1])}}

      _refused ->
        {result, world}
    end
  end

  defp do_perform({:demonitor, actor, options}, world) do
    case world.monitors[actor] do
      [monitor | rest] ->
        world = %{world | monitors: Map.put(world.monitors, actor, rest)}
        ask(world, actor, fn -> world.subject.demonitor(monitor, options) end)

      _none ->
        {:none, world}
    end
  end

  defp do_perform({:exit, actor, reason}, world) do
    {_result, world} = ask(world, actor, fn -> Process.exit(world.port, reason) end)
    {:sent, world}
  end

  defp do_perform({:stop, actor, reason}, world) do
    {process, monitor} = world.actors[actor]
    if reason == :kill, do: Process.exit(process.pid, :kill), else: Actor.ask(process, fn -> exit(reason) end)

    receive do
      {:DOWN, ^monitor, :process, _pid, reason} -> {:stopped, died(world, actor, reason)}
    end
  end

  defp do_perform({:register, actor}, world),
    do: ask(world, actor, fn -> Process.register(world.port, world.name) end)

  defp do_perform({:unregister, actor}, world),
    do: ask(world, actor, fn -> Process.unregister(world.name) end)

  defp do_perform({:info, actor, at, :all}, world),
    do: ask(world, actor, fn -> world.subject.info(target(at, world)) end)

  defp do_perform({:info, actor, at, item}, world),
    do: ask(world, actor, fn -> world.subject.info(target(at, world), item) end)

  defp target(:port, world), do: world.port
  defp target(:name, world), do: world.name

  defp message(actor, world) when actor in [:a, :b, :c], do: pid(actor, world)

  defp message(message, world) when is_tuple(message),
    do: message |> Tuple.to_list() |> Enum.map(&message(&1, world)) |> List.to_tuple()

  defp message(message, _world), do: message

  defp pid(actor, world), do: elem(world.actors[actor], 0).pid

  # Whoever owns the port gets {port, :closed} when it asks for it.
  defp expect_closed(world, at, {pid, :close}) when is_pid(pid) do
    target = if at == :name, do: Process.whereis(world.name), else: world.port
    asked = target == world.port and world.subject.info(world.port, :connected) == {:connected, pid}
    if asked, do: %{world | closers: [pid | world.closers]}, else: world
  end

  defp expect_closed(world, _at, _message), do: world

  ## What an actor does

  defp ask(world, actor, function) do
    {process, monitor} = world.actors[actor]
    reference = Actor.ask(process, function)

    receive do
      {^reference, {:ok, value}} -> {{:ok, value}, world}
      {^reference, {:raised, %ErlangError{original: original}}} -> {{:raised, original}, world}
      {^reference, {:raised, error}} -> {{:raised, error.__struct__}, world}
      {:DOWN, ^monitor, :process, _pid, reason} -> {:died, died(world, actor, reason)}
    end
  end

  defp died(world, actor, reason), do: %{world | deaths: Map.put(world.deaths, actor, reason)}

  ## Coming to rest

  # Signals go from actors to the port and from the port to actors, until nobody has anything new.
  defp settle(world) do
    before = {world.deaths, open?(world)}
    world = Enum.reduce(living(world), world, &barrier/2)
    world = world |> await_program() |> await_closed() |> await_signals()
    if {world.deaths, open?(world)} == before, do: world, else: settle(world)
  end

  defp barrier(actor, world) do
    {_result, world} = ask(world, actor, fn -> world.subject.info(world.port) && :ok end)
    world
  end

  defp living(world), do: Enum.reject(Sequence.actors(), &Map.has_key?(world.deaths, &1))

  defp open?(world), do: world.subject.info(world.port) != nil

  # What was sent to the program has come back from it.
  defp await_program(%{sequence: %{program: :echo}} = world) do
    await(fn ->
      info = world.subject.info(world.port)
      info == nil or info[:input] == info[:output]
    end)

    world
  end

  # The program has said what it has to say.
  defp await_program(%{sequence: %{program: {:talk, _text, _status}, options: options}, talk: :talks} = world) do
    cond do
      :eof not in options ->
        await(fn -> not open?(world) end)
        %{world | talk: :done}

      owner = owner(world) ->
        await(fn ->
          not open?(world) or
            ({world.port, :eof} in messages(world, owner) and not Proc.exists?(world.os_pid))
        end)

        %{world | talk: :done}

      # Nobody can say when all is over.
      true ->
        %{world | talk: :done, over: true}
    end
  end

  defp await_program(world), do: world

  defp owner(world) do
    connected = with {:connected, pid} <- world.subject.info(world.port, :connected), do: pid
    Enum.find(living(world), &(pid(&1, world) == connected))
  end

  defp await_closed(world) do
    for actor <- living(world), pid(actor, world) in world.closers do
      await(fn -> {world.port, :closed} in messages(world, actor) end)
    end

    %{world | closers: []}
  end

  # A process is dead for those who ask before its links and monitors know, who do not learn of it together.
  defp await_signals(%{monitor: monitor} = world) when is_reference(monitor) do
    if open?(world) do
      world
    else
      receive do
        {:DOWN, ^monitor, :process, _port, _reason} -> :ok
      end

      for actor <- living(world), do: await(fn -> world.port not in links(pid(actor, world)) end)
      %{world | monitor: nil}
    end
  end

  defp await_signals(world), do: world

  defp links(pid) do
    case Process.info(pid, :links) do
      {:links, links} -> links
      nil -> []
    end
  end

  # An actor that dies meanwhile has no messages; the next round finds out.
  defp messages(world, actor) do
    {result, _world} = ask(world, actor, fn -> self() |> Process.info(:messages) |> elem(1) end)
    if result == :died, do: send_again(world, actor), else: elem(result, 1)
  end

  defp send_again(world, actor) do
    {process, monitor} = world.actors[actor]
    send(self(), {:DOWN, monitor, :process, process.pid, :noproc})
    []
  end

  defp await(condition), do: Proc.wait_until("the port is at rest", condition)

  ## The end

  defp finish(world, expected) do
    if open?(world), do: world.subject.close(world.port)
    world = settle(world)
    await(fn -> not open?(world) and world.port not in world.subject.list() end)
    end_program(world)
    told = all_told(world, expected, 200)
    for {_name, {actor, _monitor}} <- world.actors, do: Process.exit(actor.pid, :kill)
    %{results: Enum.reverse(world.results), actors: told}
  end

  defp all_told(world, expected, turns) do
    told =
      for name <- Sequence.actors(), into: %{} do
        {name, if(reason = world.deaths[name], do: {:died, normal(reason, world)}, else: told(world, name))}
      end

    if expected == nil or told == expected.actors or turns == 0 do
      told
    else
      receive do
      after
        1 -> all_told(world, expected, turns - 1)
      end
    end
  end

  # The deaf one does not notice that it is over.
  defp end_program(%{sequence: %{program: :deaf}} = world) do
    if Proc.alive?(world.os_pid), do: Proc.signal_if_there(world.os_pid, "KILL")
  end

  defp end_program(_world), do: :ok

  defp told(world, name) do
    world |> messages(name) |> Enum.map(&normal(&1, world)) |> join(world) |> order(world.subject)
  end

  # How a stream is cut is open.
  defp join(messages, world) do
    framed =
      Enum.any?(
        world.sequence.options,
        &(&1 == :line or match?({framing, _} when framing in [:line, :packet], &1))
      )

    if framed, do: messages, else: join(messages)
  end

  defp join([{:port, {:data, left}}, {:port, {:data, right}} | rest]) do
    joined = if is_binary(left), do: left <> right, else: left ++ right
    join([{:port, {:data, joined}} | rest])
  end

  defp join([message | rest]), do: [message | join(rest)]
  defp join([]), do: []

  # SafePort tells the status after the last unfinished line, on purpose.
  defp order([{:port, {:exit_status, _}} = status, {:port, {:data, {:noeol, _}}} = line | rest], Port),
    do: [line | order([status | rest], Port)]

  defp order([message | rest], subject), do: [message | order(rest, subject)]
  defp order([], _subject), do: []

  ## Identifiers by what they stand for

  defp normal(term, %{port: term}), do: :port
  defp normal(term, %{name: term}), do: :name
  defp normal(reference, _world) when is_reference(reference), do: :reference

  defp normal(pid, world) when is_pid(pid),
    do: Enum.find(Sequence.actors(), {:unknown, pid}, &(pid(&1, world) == pid))

  # On purpose, too.
  defp normal({:DOWN, reference, :port, object, reason}, world),
    do: normal({:DOWN, reference, :process, object, reason}, world)

  defp normal({:id, id}, _world) when is_integer(id), do: {:id, :integer}
  defp normal({:os_pid, os_pid}, _world) when is_integer(os_pid), do: {:os_pid, :integer}

  defp normal({item, pids}, world) when item in [:links, :monitored_by],
    do: {item, pids |> List.delete(self()) |> Enum.map(&normal(&1, world)) |> Enum.sort()}

  defp normal(tuple, world) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> Enum.map(&normal(&1, world)) |> List.to_tuple()

  defp normal([head | tail], world), do: [normal(head, world) | normal(tail, world)]
  defp normal(term, _world), do: term
end
