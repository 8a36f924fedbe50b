defmodule SafePort.Core.Guardian do
  @moduledoc false
  # Ends the ports that are still open when the application stops, each in the way its options say. The guardian itself
  # is started by the native link at the first open, and needs no care: it ends what is left when the VM is gone.

  use GenServer

  alias SafePort.Core.Native

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_argument), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(state) do
    Process.flag(:trap_exit, true)
    # Now and not at the first open: a native half that does not load is told when the application starts.
    {:module, Native} = Code.ensure_loaded(Native)
    {:ok, state}
  end

  @impl true
  def terminate(_reason, _state) do
    Enum.each(Native.ports(), &Process.exit(&1, :shutdown))
  end
end
