defmodule SafePort.Core.Native do
  @moduledoc false
  # The NIF line: one stub for each function of native/safe_port_nif, no logic. None of them blocks.

  @on_load :load

  @type handle :: reference()
  @type target :: :leader | :group | :tree

  def load do
    directory = :filename.join(:code.priv_dir(:safe_port), ~c"native")
    guardian = directory |> :filename.join(~c"safe_port_guardian") |> to_string()
    :erlang.load_nif(:filename.join(directory, ~c"libsafe_port_nif"), guardian)
  end

  @spec open(map()) :: {:ok, handle()} | {:error, atom()}
  def open(_config), do: :erlang.nif_error(:nif_not_loaded)

  @spec open_fd(map(), non_neg_integer(), non_neg_integer()) :: {handle(), boolean()}
  def open_fd(_config, _input, _output), do: :erlang.nif_error(:nif_not_loaded)

  @spec publish(handle()) :: :ok
  def publish(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec close(handle()) :: :ok
  def close(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec close_stdin(handle()) :: :ok
  def close_stdin(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec hand_over(handle(), pid()) :: :ok
  def hand_over(_handle, _successor), do: :erlang.nif_error(:nif_not_loaded)

  @spec set_owner(handle(), pid()) :: :ok
  def set_owner(_handle, _owner), do: :erlang.nif_error(:nif_not_loaded)

  @spec set_passive(handle(), boolean()) :: :ok
  def set_passive(_handle, _passive), do: :erlang.nif_error(:nif_not_loaded)

  @spec counters(handle()) :: {non_neg_integer(), non_neg_integer()}
  def counters(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec command(pid(), [binary()]) :: :ok | :server | :closed | :half_closed
  def command(_port, _iovec), do: :erlang.nif_error(:nif_not_loaded)

  @spec accept_command(handle(), [binary()]) ::
          :ok
          | :asked
          | :half_closed
          | {:queue | :behind, [binary()], pos_integer()}
          | {:error, atom()}
  def accept_command(_handle, _iovec), do: :erlang.nif_error(:nif_not_loaded)

  @spec drain(handle(), [binary()]) :: {:ok, [binary()], non_neg_integer()} | {:error, atom()}
  def drain(_handle, _iovec), do: :erlang.nif_error(:nif_not_loaded)

  @spec arm_output(handle(), reference()) :: boolean()
  def arm_output(_handle, _tag), do: :erlang.nif_error(:nif_not_loaded)

  @spec drained(handle()) :: :ok
  def drained(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec queued(handle()) :: boolean()
  def queued(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec read(handle(), pos_integer(), reference()) :: {:more | :wait | :eof, [term()]} | {:error, atom()}
  def read(_handle, _limit, _tag), do: :erlang.nif_error(:nif_not_loaded)

  @spec read_awake(handle(), pos_integer(), reference()) ::
          {:more | :wait | :eof, [term()]} | {:error, atom()}
  def read_awake(_handle, _limit, _tag), do: :erlang.nif_error(:nif_not_loaded)

  @spec recv(pid(), pos_integer(), reference()) ::
          {:ok | :lists, [term()]} | :wait | :more | :closed | {:error, atom()}
  def recv(_port, _limit, _reference), do: :erlang.nif_error(:nif_not_loaded)

  @spec readable(pid()) :: :ok | :closed | {:error, atom()}
  def readable(_port), do: :erlang.nif_error(:nif_not_loaded)

  @spec cancel(pid(), reference()) :: boolean()
  def cancel(_port, _reference), do: :erlang.nif_error(:nif_not_loaded)

  @spec suspend(handle(), reference()) :: :ok
  def suspend(_handle, _tag), do: :erlang.nif_error(:nif_not_loaded)

  @spec end_input(handle()) :: :ok
  def end_input(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec signal(handle(), non_neg_integer(), pos_integer(), target()) :: :ok | :closed
  def signal(_handle, _ticket, _signal, _target), do: :erlang.nif_error(:nif_not_loaded)

  @spec guardian_pid() :: pos_integer() | nil
  def guardian_pid, do: :erlang.nif_error(:nif_not_loaded)

  @spec ports() :: [pid()]
  def ports, do: :erlang.nif_error(:nif_not_loaded)

  @spec port?(pid()) :: boolean()
  def port?(_pid), do: :erlang.nif_error(:nif_not_loaded)

  ## Ports of linked-in drivers

  @type driver_event ::
          {:data, binary() | {:eol | :noeol, binary()}}
          | {:data, header :: binary(), binary() | {:eol | :noeol, binary()}}
          | {:term, term()}
          | :eof
          | {:failed | :exit, reason :: term()}
          | {:busy, boolean()}
          | {:create_port, owner :: pid(), name :: binary(), handle()}
          | {:reply, pid(), reference(), driver_answer()}
          | {:log, String.t()}
          | :closed
  @type driver_answer ::
          {:ok, term()}
          | {:error, :badarg | :closed | {:too_large, non_neg_integer()} | {:driver_panic, String.t()}}

  @spec driver_open(map()) :: {:ok, handle()} | {:error, atom()}
  def driver_open(_config), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_attach(handle()) :: :ok
  def driver_attach(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_isolated() :: handle()
  def driver_isolated, do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_publish(handle()) :: :ok
  def driver_publish(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_events(handle()) :: [driver_event()]
  def driver_events(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_close(handle(), :flush | :kill) :: :ok
  def driver_close(_handle, _mode), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_hand_over(handle(), pid()) :: :ok
  def driver_hand_over(_handle, _successor), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_set_owner(handle(), pid()) :: :ok
  def driver_set_owner(_handle, _owner), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_info(handle()) :: map() | nil
  def driver_info(_handle), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_command(handle(), pid(), [binary()], boolean()) :: :ok | :busy | :closed | :notsup
  def driver_command(_handle, _caller, _iovec, _force), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_control(pid(), reference(), 0..0xFFFF_FFFF, binary()) ::
          driver_answer() | {:behind, driver_answer()} | :wait | :server | :closed
  def driver_control(_port, _reference, _operation, _data), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_call(pid(), reference(), 0..0xFFFF_FFFF, term()) ::
          driver_answer() | {:behind, driver_answer()} | :wait | :server | :closed
  def driver_call(_port, _reference, _operation, _term), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_control_for(handle(), pid(), reference(), 0..0xFFFF_FFFF, binary()) :: :wait | :closed
  def driver_control_for(_handle, _caller, _reference, _operation, _data),
    do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_call_for(handle(), pid(), reference(), 0..0xFFFF_FFFF, term()) :: :wait | :closed
  def driver_call_for(_handle, _caller, _reference, _operation, _term), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_known(binary()) :: boolean()
  def driver_known(_command), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_port?(pid()) :: boolean()
  def driver_port?(_pid), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_file(binary()) :: {:ok, binary(), boolean()} | {:error, atom()}
  def driver_file(_command), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_load(binary(), boolean(), reference()) :: :ok | {:error, atom()}
  def driver_load(_path, _isolated, _reference), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_unload(String.t(), boolean(), reference()) :: :ok | {:error, atom()}
  def driver_unload(_name, _kill, _reference), do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_list() :: {:ok, [tuple()]} | {:error, atom()}
  def driver_list, do: :erlang.nif_error(:nif_not_loaded)

  @spec timings() :: [non_neg_integer()]
  def timings, do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_workers() :: {crew, crew} when crew: {live :: integer(), idle :: integer(), lost :: integer()}
  def driver_workers, do: :erlang.nif_error(:nif_not_loaded)

  @spec driver_shut_down(non_neg_integer(), non_neg_integer(), reference()) :: :ok | :closed
  def driver_shut_down(_flush_ms, _stop_ms, _reference), do: :erlang.nif_error(:nif_not_loaded)
end
