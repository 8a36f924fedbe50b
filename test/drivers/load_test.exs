defmodule SafePort.DriverLoadTest do
  # Loading and unloading. Alone, for the counts are those of the whole VM.
  use ExUnit.Case, async: false
  doctest SafePort.Driver

  import SafePort.Test.Drivers
  import SafePort.Test.Vm

  alias SafePort.Driver

  setup do
    Process.flag(:trap_exit, true)
    on_exit(fn -> unload_all("trouble") end)
    %{path: library(:trouble)}
  end

  defp unload_all(name) do
    if Driver.unload(name, kill_ports: true) == :ok, do: unload_all(name)
  end

  defp trouble, do: Enum.find(Driver.list(), &(&1.name == "trouble"))

  test "a driver is loaded, counted and unloaded", %{path: path} do
    assert Driver.load(path) == {:ok, "trouble"}
    assert Driver.load(path) == {:ok, "trouble"}
    port = SafePort.open({:spawn_driver, "trouble"}, [])

    assert trouble() == %{
             name: "trouble",
             path: path,
             loads: 2,
             ports: 1,
             unloading: false,
             isolation: :thread
           }

    SafePort.close(port)
    assert Driver.unload("trouble") == :ok
    assert Driver.unload("trouble") == :ok
    assert Driver.unload("trouble") == {:error, :not_loaded}
    assert trouble() == nil
    assert_raise ArgumentError, fn -> SafePort.open({:spawn_driver, "trouble"}, []) end
  end

  test "unloading waits for the last port", %{path: path} do
    {:ok, _} = Driver.load(path)
    port = SafePort.open({:spawn_driver, "trouble"}, [])
    unloading = Task.async(fn -> Driver.unload("trouble") end)
    assert Task.yield(unloading, 50) == nil
    assert %{unloading: true, loads: 0, ports: 1} = trouble()
    assert_raise ArgumentError, fn -> SafePort.open({:spawn_driver, "trouble"}, []) end
    assert Driver.unload("trouble", timeout: 10) == {:error, :timeout}
    assert SafePort.control(port, 0, "still open") == ~c"still open"
    SafePort.close(port)
    assert Task.await(unloading) == :ok
    assert trouble() == nil
  end

  test "unloading can close the ports", %{path: path} do
    {:ok, _} = Driver.load(path)
    port = SafePort.open({:spawn_driver, "trouble"}, [])
    assert Driver.unload("trouble", kill_ports: true) == :ok
    assert_receive {:EXIT, ^port, :driver_unloaded}, 5_000
  end

  test "loading again takes an unload back", %{path: path} do
    {:ok, _} = Driver.load(path)
    port = SafePort.open({:spawn_driver, "trouble"}, [])
    unloading = Task.async(fn -> Driver.unload("trouble") end)
    assert Task.yield(unloading, 50) == nil
    assert Driver.load(path) == {:ok, "trouble"}
    assert Task.await(unloading) == {:error, :loaded_again}
    assert SafePort.control(port, 0, "x") == ~c"x"
  end

  test "a driver can be kept out of the VM", %{path: path} do
    assert Driver.load(path, isolation: :process) == {:ok, "trouble"}
    assert %{isolation: :process, path: ^path, loads: 1} = trouble()
    assert {:error, {:name_taken, _}} = Driver.load(library(:echo), isolation: :process)
    port = SafePort.open({:spawn_driver, "trouble"}, [:binary])
    SafePort.command(port, "segfault")
    assert_receive {:EXIT, ^port, :sigsegv}, 10_000
    port = SafePort.open({:spawn, "trouble"}, [])
    assert SafePort.control(port, 0, "x") == ~c"x"
    SafePort.close(port)

    assert_raise ArgumentError, ~r/:process} only/, fn ->
      SafePort.open({:spawn_driver, "trouble"}, isolation: :thread)
    end

    assert Driver.unload("trouble") == :ok
  end

  test "what is no driver is refused with the reason" do
    directory = Path.join(System.tmp_dir!(), "safe_port_load_#{System.pid()}")
    File.mkdir_p!(directory)
    on_exit(fn -> File.rm_rf!(directory) end)
    text = Path.join(directory, "text.so")
    File.write!(text, "no library")
    cut = Path.join(directory, "cut.so")
    whole = File.read!(library(:echo))
    File.write!(cut, binary_part(whole, 0, 5_000))
    other = Path.join(directory, "other.so")
    mark = "SafePort driver\0"
    [head, <<_version::binary-size(4), rest::binary>>] = :binary.split(whole, mark)
    File.write!(other, [head, mark, <<99, 0, 0, 0>>, rest])

    for options <- [[], [isolation: :process]] do
      assert {:error, {:enoent, _}} = Driver.load(Path.join(directory, "missing"), options)
      assert {:error, {:not_a_driver, message}} = Driver.load(text, options)
      assert message =~ "text.so is not a driver"
      assert {:error, {:not_a_driver, _}} = Driver.load(cut, options)
      assert {:error, {:not_a_driver, _}} = Driver.load(directory, options)
      assert {:error, {:wrong_version, message}} = Driver.load(other, options)
      assert message =~ "has version 99 of the driver interface, expected 1"
      assert {:error, {:name_taken, _}} = Driver.load(library(:echo), options)
    end

    for bad <- [[isolation: :other], [:x], :x],
        do: assert_raise(ArgumentError, fn -> Driver.load(text, bad) end)

    assert_raise ArgumentError, fn -> Driver.load("a\0b") end
    assert_raise ArgumentError, fn -> Driver.unload("x", kill: true) end
    assert_raise ArgumentError, fn -> Driver.unload("x", timeout: -1) end
    assert_raise ArgumentError, fn -> Driver.unload("x", kill_ports: 1) end
  end

  test "the end of the VM stops and finishes drivers, the queues of their ports emptied", %{path: path} do
    outcome =
      in_vm SafePort, bind: [path: path] do
        Process.flag(:trap_exit, true)
        {:ok, "trouble"} = SafePort.Driver.load(path)
        ports = for _ <- 1..2, do: SafePort.open({:spawn_driver, "trouble"}, [])
        for port <- ports, word <- ["tell of the end", "queue"], do: SafePort.control(port, 1, word)
        SafePort.control(hd(ports), 1, "empty")
        System.stop(7)
        receive do: (:never -> :ok)
      end

    assert outcome.status == 7, outcome.output
    calls = String.split(outcome.output, "\n", trim: true)

    assert Enum.sort(calls) ==
             ["finish of trouble", "flush of trouble", "stop of trouble", "stop of trouble"]

    assert List.last(calls) == "finish of trouble"
  end

  # Each load reads the file and compares it with what is loaded, some MiB: on a busy machine this takes its time.
  @tag timeout: 300_000
  test "loading and unloading a thousand times takes nothing", %{path: path} do
    round = fn ->
      {:ok, _} = Driver.load(path)
      port = SafePort.open({:spawn_driver, "trouble"}, [])
      Process.unlink(port)
      :ok = Driver.unload("trouble", kill_ports: true)
    end

    for _ <- 1..50, do: round.()
    before = footprint()
    for _ <- 1..1000, do: round.()
    later = footprint()
    assert later.kib < before.kib + 16 * 1024, inspect({before, later})
    assert later.descriptors <= before.descriptors + 2
    assert later.mappings < before.mappings + 50
    assert later.threads <= before.threads + 2
    assert later.processes <= before.processes + 2
  end

  defp footprint do
    :erlang.garbage_collect()
    [_, kib] = Regex.run(~r/VmRSS:\s+(\d+)/, File.read!("/proc/self/status"))

    %{
      kib: String.to_integer(kib),
      descriptors: length(File.ls!("/proc/self/fd")),
      mappings: "/proc/self/maps" |> File.read!() |> String.split("\n") |> length(),
      threads: length(File.ls!("/proc/self/task")),
      processes: length(Process.list())
    }
  end
end
