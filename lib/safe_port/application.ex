defmodule SafePort.Application do
  @moduledoc false

  use Application

  @impl true
  def start(_type, _args) do
    Supervisor.start_link([SafePort.Core.Guardian], strategy: :one_for_one, name: SafePort.Supervisor)
  end
end
