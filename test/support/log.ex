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

  @doc "Waits for something to be logged that holds `text`."
  @spec await(String.t()) :: :ok
  def await(text) do
    receive do
      {:logged, logged} -> if logged =~ text, do: :ok, else: await(text)
    after
      5_000 -> ExUnit.Assertions.flunk("not logged: #{text}")
    end
  end

  @doc "Takes what was logged from the mailbox."
  @spec ignore() :: :ok
  def ignore do
    receive do
      {:logged, _text} -> ignore()
    after
      0 -> :ok
    end
  end
end
