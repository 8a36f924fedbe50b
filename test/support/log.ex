defmodule SafePort.Test.Log do
  @moduledoc """
  A handler of `:logger` that sends what is logged to a test, as `{:logged, text}`.
  """

  @doc "Has everything that is logged sent to the calling process, until the test is over."
  @spec listen() :: :ok
  def listen do
    id = :"safe_port_test_#{System.unique_integer([:positive])}"
    :ok = :logger.add_handler(id, __MODULE__, %{config: %{pid: self()}})
    ExUnit.Callbacks.on_exit(fn -> :logger.remove_handler(id) end)
  end

  @doc false
  def log(event, %{config: %{pid: pid}}) do
    send(pid, {:logged, event |> :logger_formatter.format(%{}) |> IO.chardata_to_string()})
  end
end
