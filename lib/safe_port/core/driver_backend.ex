defmodule SafePort.Core.DriverBackend do
  @moduledoc false
  # Where a driver runs, as the port process of its port sees it: in the VM or in a process of its own.

  alias SafePort.Core.{Native, Options}

  @typedoc "What is behind the port, in the shape its module likes."
  @type link :: term()
  @type from :: {pid(), reference()}
  @type event ::
          Native.driver_event()
          | {:info, from(), [atom()], figures :: map()}
          | {:again, message :: term()}

  @doc "Begins to open the port."
  @callback open(Options.t(), owner :: pid()) :: {:ok, link()} | {:error, reason :: term()}
  @doc "Waits until the driver has started; the events that came before. Exits if the owner does."
  @callback await(link(), owner :: pid()) :: {:ok, [event()], link()} | {:error, reason :: term()}
  @doc "The port is open: from now on it can be found."
  @callback opened(link()) :: link()
  @doc "The events that a message to the port process brings, if it is one of the driver's."
  @callback message(term(), link()) :: {[event()], link()} | :unknown
  @callback command(link(), caller :: pid(), [binary()], force :: boolean()) ::
              {:ok | :busy | :closed | :notsup, link()}
  @doc "Has the driver called; the caller gets `{reference, answer}`."
  @callback control(link(), from(), 0..0xFFFF_FFFF, binary()) :: {:wait | :closed, link()}
  @callback call(link(), from(), 0..0xFFFF_FFFF, term()) :: {:wait | :closed, link()}
  @callback set_owner(link(), pid()) :: link()
  @doc "The event `:info` follows."
  @callback info(link(), from(), [atom()]) :: {[event()], link()}
  @doc "Closes the port, which goes on until its queue is empty. `closed_to` gets `{port, :closed}` then."
  @callback close(link(), closed_to :: pid() | nil) :: :ok
end
