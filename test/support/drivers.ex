defmodule SafePort.Test.Drivers do
  @moduledoc """
  Drivers for tests: builds their libraries, and opens ports of them.
  """

  import ExUnit.Assertions
  import ExUnit.Callbacks

  @doc "The library of a driver of this repository, built when it is first asked for."
  @spec library(:echo | :digest | :watch | :trouble) :: Path.t()
  def library(name) do
    crate = "safe_port_#{name}_driver"
    path = Path.join([target(), "release", "lib#{crate}.so"])
    key = {__MODULE__, name}

    :global.trans({key, self()}, fn ->
      unless :persistent_term.get(key, false) do
        {output, status} =
          System.cmd("cargo", ["build", "--release", "--locked", "--quiet", "-p", crate],
            stderr_to_stdout: true
          )

        assert status == 0, output
        :persistent_term.put(key, true)
      end
    end)

    path
  end

  defp target, do: System.get_env("CARGO_TARGET_DIR") || Path.expand("target")

  @doc "For `setup_all`: loads the driver that makes trouble, until all tests of the module are done."
  @spec load_trouble(term()) :: :ok
  def load_trouble(_context) do
    {:ok, "trouble"} = SafePort.Driver.load(library(:trouble))
    on_exit(fn -> SafePort.Driver.unload("trouble", kill_ports: true) end)
  end

  @doc "Opens a port of a driver, which is closed when the test is done."
  @spec open_driver(String.t(), list()) :: pid()
  def open_driver(command, options \\ []) do
    port = SafePort.open({:spawn_driver, command}, options)
    on_exit(fn -> if Process.alive?(port), do: Process.exit(port, :kill) end)
    port
  end

  @doc "The next message from `port`, within the patience of these tests."
  @spec next(pid()) :: term()
  def next(port) do
    assert_receive {^port, message}, 10_000
    message
  end
end
