defmodule SafePort.Core.Guardian do
  @moduledoc false
  # Ends the ports that are still open when the application stops, each in the way its options say, and the drivers when
  # the VM does. The guardian itself is started by the native link at the first open, and needs no care: it ends what is
  # left when the VM is gone.

  use GenServer

  alias SafePort.Core.Native

  # Together less than the 5 seconds that a supervisor gives.
  @flush_ms 2_000
  @stop_ms 2_000

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

    # Only with the VM: an application that was stopped can be started again, and its drivers are still loaded.
    if match?({:stopping, _progress}, :init.get_status()), do: stop_drivers()
  end

  defp stop_drivers do
    reference = make_ref()

    with :ok <- Native.driver_shut_down(@flush_ms, @stop_ms, reference) do
      receive do
        {^reference, :ok} -> :ok
      end
    end
  end
end
