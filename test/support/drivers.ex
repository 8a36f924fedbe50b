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

  @doc """
  The library of a driver outside this repository: a crate `name` with `source`, and `manifest` at the end of its own.
  """
  @spec build(String.t(), String.t(), String.t()) :: Path.t()
  def build(name, manifest, source) do
    crate = Path.join(System.tmp_dir!(), "safe_port_#{name}_#{System.pid()}")
    File.mkdir_p!(Path.join(crate, "src"))
    on_exit(fn -> File.rm_rf!(crate) end)
    sdk = Path.expand("native/safe_port_driver")

    File.write!(Path.join(crate, "Cargo.toml"), """
    [package]
    name = "#{name}"
    version = "0.1.0"
    edition = "2021"

    [dependencies]
    safe_port_driver = { path = #{inspect(sdk)} }

    #{manifest}
    """)

    File.write!(Path.join(crate, "src/lib.rs"), source)
    # The versions that this repository is built with, which are here already.
    File.cp!("Cargo.lock", Path.join(crate, "Cargo.lock"))
    target = Path.join(target(), "crates")
    arguments = ["build", "--release", "--quiet", "--offline", "--target-dir", target]
    {output, status} = System.cmd("cargo", arguments, cd: crate, stderr_to_stdout: true)
    assert status == 0, output
    Path.join(target, "release/lib#{name}.so")
  end

  defp target, do: "CARGO_TARGET_DIR" |> System.get_env("target") |> Path.expand()

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
