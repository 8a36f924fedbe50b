defmodule SafePort.Core.Options do
  @moduledoc false
  # Names and options of `SafePort.open/2`, checked and folded as the built-in does (contract O1 to O20, P1 to P27).

  alias SafePort.Core.{Environment, Native, Text}

  @max_ms 0xFFFF_FFFF
  # The longest line and packet length that the built-in takes is a small integer of the VM.
  @max_line 0x7FF_FFFF_FFFF_FFFF
  @max_packet 0x7FFF_FFFF

  defstruct kind: nil,
            name: "",
            file: "",
            fds: nil,
            args: [],
            arg0: nil,
            cd: nil,
            env: [],
            binary: false,
            packet: 0,
            packet_size: @max_packet,
            endian: :big,
            line: 0,
            share: true,
            input: false,
            output: false,
            use_stdio: true,
            stderr: :console,
            eof: false,
            exit_status: false,
            exit_info: false,
            parallelism: false,
            busy_limits_port: {4096, 8192},
            busy_limits_msgq: {4096, 8192},
            active: true,
            eof_timeout: 1_000,
            kill_timeout: 5_000,
            orphans: :kill,
            cgroup: nil,
            isolation: :thread,
            given: []

  @type t :: %__MODULE__{}

  @doc """
  Checks `name` and `settings`; raises `ArgumentError` with the option, what it must be, and what it got.
  """
  @spec new(term(), term()) :: t()
  def new(name, settings) do
    name
    |> name!()
    |> fold!(settings, settings)
    |> directions()
    |> check!()
  end

  ## Names

  defp name!({:spawn, command}) do
    text = Text.bytes!(command, "the command of {:spawn, command}")

    # A driver of that name goes before a program (contract O6): one that was loaded, for those that come with us have
    # the names of programs.
    if Native.driver_known(text) do
      %__MODULE__{kind: :spawn_driver, name: text}
    else
      %__MODULE__{kind: :spawn, name: text, file: "/bin/sh", args: ["-c", "exec " <> text], arg0: "sh"}
    end
  end

  defp name!({:spawn_executable, file}) do
    text = Text.bytes!(file, "the file of {:spawn_executable, file}")
    %__MODULE__{kind: :spawn_executable, name: text, file: text}
  end

  defp name!({:spawn_driver, command}) do
    text = Text.bytes!(command, "the command of {:spawn_driver, command}")
    %__MODULE__{kind: :spawn_driver, name: text}
  end

  defp name!({:fd, input, output})
       when is_integer(input) and is_integer(output) do
    if min(input, output) < 0 or max(input, output) >= max_fds(), do: :erlang.error(:einval)

    %__MODULE__{kind: :fd, name: "#{input}/#{output}", fds: {input, output}}
  end

  defp name!(other) do
    raise ArgumentError,
          "invalid port name: expected {:spawn, command}, {:spawn_executable, file}, {:spawn_driver, command} " <>
            "or {:fd, in, out}, got: #{inspect(other)}"
  end

  # As many descriptors as the VM may have.
  defp max_fds do
    :check_io |> :erlang.system_info() |> Enum.map(&Keyword.get(&1, :max_fds, 0)) |> Enum.max()
  end

  ## Options, folded from left to right

  defp fold!(acc, [option | rest], all), do: option |> put!(acc) |> fold!(rest, all)
  defp fold!(acc, [], _all), do: acc

  defp fold!(_acc, _improper, all) do
    raise ArgumentError, "options must be a proper list, got: #{inspect(all)}"
  end

  defp put!(:binary, acc), do: %{acc | binary: true}
  defp put!(:stream, acc), do: %{acc | packet: 0}
  defp put!(:line, acc), do: %{acc | line: 512}
  defp put!(:eof, acc), do: %{acc | eof: true}
  defp put!(:exit_status, acc), do: given(%{acc | exit_status: true}, :exit_status)
  defp put!(:exit_info, acc), do: given(%{acc | exit_info: true}, :exit_info)
  defp put!(:in, acc), do: %{acc | input: true}
  defp put!(:out, acc), do: %{acc | output: true}
  defp put!(:use_stdio, acc), do: %{acc | use_stdio: true}
  defp put!(:nouse_stdio, acc), do: %{acc | use_stdio: false}
  defp put!(:stderr_to_stdout, acc), do: %{acc | stderr: :redirect_to_stdout}
  defp put!(option, acc) when option in [:hide, :overlapped_io], do: acc

  defp put!({:packet, bytes}, acc) when bytes in [1, 2, 4], do: %{acc | packet: bytes}
  defp put!({:packet, other}, _acc), do: invalid!(:packet, "1, 2 or 4 (bytes)", other)

  defp put!({:packet_size, bytes}, acc) when is_integer(bytes) and bytes in 1..@max_packet,
    do: %{acc | packet_size: bytes}

  defp put!({:packet_size, other}, _acc), do: invalid!(:packet_size, "1 to #{@max_packet} (bytes)", other)

  defp put!({:endian, order}, acc) when order in [:big, :little, :native], do: %{acc | endian: order}
  defp put!({:endian, other}, _acc), do: invalid!(:endian, ":big, :little or :native", other)

  defp put!({:line, bytes}, acc) when is_integer(bytes) and bytes in 1..@max_line, do: %{acc | line: bytes}
  defp put!({:line, other}, _acc), do: invalid!(:line, "a positive integer (bytes)", other)

  defp put!({:share, share}, acc) when is_boolean(share), do: %{acc | share: share}
  defp put!({:share, other}, _acc), do: invalid!(:share, "true or false", other)

  defp put!({:active, active}, acc), do: %{acc | active: active!(active)}

  defp put!({:args, args}, acc), do: given(%{acc | args: args!(args, args)}, :args)
  defp put!({:arg0, arg0}, acc), do: given(%{acc | arg0: Text.bytes!(arg0, "option :arg0", "")}, :arg0)
  defp put!({:cd, cd}, acc), do: %{acc | cd: presence(Text.bytes!(cd, "option :cd", ""))}
  defp put!({:env, env}, acc), do: %{acc | env: Environment.changes!(env)}

  defp put!({:stderr, to}, acc) when to in [:console, :redirect_to_stdout, :disable], do: %{acc | stderr: to}

  defp put!({:stderr, other}, _acc),
    do: invalid!(:stderr, ":console, :redirect_to_stdout or :disable", other)

  defp put!({:parallelism, parallelism}, acc) when is_boolean(parallelism),
    do: %{acc | parallelism: parallelism}

  defp put!({:parallelism, other}, _acc), do: invalid!(:parallelism, "true or false", other)

  defp put!({name, limits}, acc) when name in [:busy_limits_port, :busy_limits_msgq],
    do: acc |> Map.put(name, busy_limits!(name, limits)) |> given(name)

  defp put!({:eof_timeout, :infinity}, acc), do: %{acc | eof_timeout: :infinity}

  defp put!({name, ms}, acc)
       when name in [:eof_timeout, :kill_timeout] and is_integer(ms) and ms in 0..@max_ms,
       do: Map.put(acc, name, ms)

  defp put!({:eof_timeout, other}, _acc),
    do: invalid!(:eof_timeout, ":infinity or 0 to #{@max_ms} (ms)", other)

  defp put!({:kill_timeout, other}, _acc), do: invalid!(:kill_timeout, "0 to #{@max_ms} (ms)", other)

  defp put!({:orphans, orphans}, acc) when orphans in [:kill, :leave], do: %{acc | orphans: orphans}
  defp put!({:orphans, other}, _acc), do: invalid!(:orphans, ":kill or :leave", other)

  defp put!({:cgroup, path}, acc), do: %{acc | cgroup: presence(Text.bytes!(path, "option :cgroup", ""))}

  defp put!({:isolation, isolation}, acc) when isolation in [:thread, :process],
    do: given(%{acc | isolation: isolation}, :isolation)

  defp put!({:isolation, other}, _acc), do: invalid!(:isolation, ":thread or :process", other)

  defp put!(other, _acc), do: raise(ArgumentError, "unknown option #{inspect(other)} for SafePort.open/2")

  @doc """
  Checks a value of `:active`.
  """
  @spec active!(term()) :: boolean() | :once | 1..32_767
  def active!(active) when is_boolean(active) or active == :once, do: active
  def active!(count) when is_integer(count) and count in 1..32_767, do: count
  def active!(other), do: invalid!(:active, "true, false, :once or 1 to 32767 (packets)", other)

  @doc """
  Checks what `:active` is to be changed to: a count may take away, too.
  """
  @spec activation!(term()) :: boolean() | :once | integer()
  def activation!(count) when is_integer(count), do: count
  def activation!(active) when is_boolean(active) or active == :once, do: active
  def activation!(other), do: invalid!(:active, "true, false, :once or a count (packets)", other)

  defp given(acc, option), do: %{acc | given: [option | acc.given]}

  defp busy_limits!(_name, :disabled), do: :disabled

  defp busy_limits!(_name, {low, high})
       when is_integer(low) and is_integer(high) and low > 0 and high > 0 and
              low < 0xFFFF_FFFF_FFFF_FFFE and high < 0xFFFF_FFFF_FFFF_FFFE,
       do: {min(low, high), high}

  defp busy_limits!(name, other), do: invalid!(name, "{low, high} (bytes, at least 1) or :disabled", other)

  defp args!([arg | rest], all), do: [Text.bytes!(arg, "an element of option :args", "") | args!(rest, all)]
  defp args!([], _all), do: []
  defp args!(_improper, all), do: invalid!(:args, "a proper list of binaries, charlists or atoms", all)

  ## What can only be told when all options are known

  defp directions(%{input: false, output: false} = acc), do: %{acc | input: true, output: true}
  defp directions(acc), do: acc

  defp check!(%{packet: packet, line: line}) when packet > 0 and line > 0 do
    raise ArgumentError, "options :packet and :line exclude each other, got packet: #{packet}, line: #{line}"
  end

  defp check!(%{use_stdio: false, stderr: :redirect_to_stdout}) do
    raise ArgumentError, "options :nouse_stdio and :stderr_to_stdout exclude each other"
  end

  defp check!(%{kind: :spawn_driver, active: active}) when active != true do
    raise ArgumentError, "option :active must be true for a driver, got: #{inspect(active)}"
  end

  defp check!(%{kind: kind, given: given} = acc) do
    refused =
      case kind do
        :spawn_executable -> [:isolation]
        :spawn -> [:args, :arg0]
        _fd_or_driver -> [:args, :arg0, :exit_status, :exit_info]
      end

    case Enum.find(given, &(&1 in refused)) do
      nil -> acc
      option -> raise ArgumentError, "option #{inspect(option)} does not go with {#{inspect(kind)}, ...}"
    end
  end

  defp presence(""), do: nil
  defp presence(text), do: text

  @spec invalid!(atom(), String.t(), term()) :: no_return()
  defp invalid!(option, expected, got) do
    raise ArgumentError, "option #{inspect(option)} must be #{expected}, got: #{inspect(got)}"
  end
end
