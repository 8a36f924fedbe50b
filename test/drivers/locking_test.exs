defmodule SafePort.DriverLockingTest do
  # A driver whose ports exclude each other.
  use ExUnit.Case, async: true

  import SafePort.Test.Drivers

  @moduletag timeout: 300_000

  @manifest """
  [lib]
  crate-type = ["cdylib"]
  """

  @source """
  use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

  use safe_port_driver::{export, BadArg, Driver, Locking, PortHandle, StartError};

  struct Exclusive;

  /// The callbacks that are running.
  static INSIDE: AtomicU8 = AtomicU8::new(0);

  impl Driver for Exclusive {
      const NAME: &'static str = "exclusive";
      const LOCKING: Locking = Locking::Driver;

      fn start(_port: &PortHandle, _command: &[u8]) -> Result<Self, StartError> {
          Ok(Exclusive)
      }

      fn control(&mut self, _port: &PortHandle, _op: u32, _data: &[u8]) -> Result<Vec<u8>, BadArg> {
          let others = INSIDE.fetch_add(1, SeqCst);
          std::thread::yield_now();
          INSIDE.fetch_sub(1, SeqCst);
          Ok(vec![others])
      }
  }

  export!(Exclusive);
  """

  test "callbacks of all ports of a driver run one at a time if it wants that" do
    {:ok, "exclusive"} = "exclusive" |> build(@manifest, @source) |> SafePort.Driver.load()
    on_exit(fn -> SafePort.Driver.unload("exclusive", kill_ports: true) end)
    ports = for _ <- 1..4, do: open_driver("exclusive")
    assert SafePort.info(hd(ports), :locking) == {:locking, :driver_level}

    ports
    |> Enum.map(fn port -> Task.async(fn -> for _ <- 1..500, do: SafePort.control(port, 0, "") end) end)
    |> Task.await_many(60_000)
    |> Enum.each(fn others -> assert Enum.all?(others, &(&1 == [0])) end)
  end
end
