defmodule SafePort.DriverExampleTest do
  # The drivers that come with SafePort, as their READMEs show them.
  use ExUnit.Case, async: true

  import SafePort.Test.Drivers

  for isolation <- [:thread, :process] do
    describe "with isolation: #{inspect(isolation)}" do
      @describetag isolation: isolation

      test "echo sends back what it is sent", %{isolation: isolation} do
        port = open_driver("echo", [:binary, isolation: isolation])
        SafePort.command(port, ["any ", "iodata"])
        assert next(port) == {:data, "any iodata"}
        assert SafePort.control(port, 7, "bytes") == ~c"bytes"
        assert SafePort.call(port, 7, {:any, %{term: 1}}) == {:any, %{term: 1}}
        big = :crypto.strong_rand_bytes(1_000_000)
        SafePort.command(port, big)
        assert next(port) == {:data, big}
      end

      test "digest hashes what it is sent", %{isolation: isolation} do
        port = open_driver("digest", [:binary, isolation: isolation])
        data = :crypto.strong_rand_bytes(20_000_000)
        for <<chunk::binary-size(100_000) <- data>>, do: SafePort.command(port, chunk)
        SafePort.control(port, 1, "")
        assert next(port) == {:data, :crypto.hash(:sha256, data)}
        assert SafePort.control(port, 0, "") == <<20_000_000::64>>
        assert SafePort.control(port, 2, "small data") == :crypto.hash(:sha256, "small data")
        assert_raise ArgumentError, fn -> SafePort.control(port, 3, "") end
      end

      test "watch tells what happens to files", %{isolation: isolation} do
        directory =
          Path.join(
            System.tmp_dir!(),
            "safe_port_watch_#{System.unique_integer([:positive])}_#{System.pid()}"
          )

        File.mkdir_p!(Path.join(directory, "sub"))
        on_exit(fn -> File.rm_rf!(directory) end)
        port = open_driver("watch #{directory}", isolation: isolation)
        file = Path.join(directory, "order.csv")
        File.write!(file, "content")
        assert_receive {:watch, ^file, [:created]}, 10_000
        assert_receive {:watch, ^file, [:written]}, 10_000
        assert SafePort.call(port, 1, "/nowhere") == {:error, :enoent}
        assert SafePort.call(port, 4, Path.join(directory, "sub")) == :ok
        assert Enum.sort(SafePort.call(port, 3, nil)) == [directory, Path.join(directory, "sub")]
        deep = Path.join(directory, "sub/a/b")
        File.mkdir_p!(deep)
        assert_receive {:watch, ^deep, [:created, :directory]}, 10_000
        assert SafePort.call(port, 2, Path.join(directory, "sub")) == :ok
        assert SafePort.call(port, 3, nil) == [directory]
        assert_raise ArgumentError, fn -> SafePort.call(port, 1, :no_path) end
      end
    end
  end

  test "a path that cannot be watched is refused when the port is opened" do
    assert catch_error(SafePort.open({:spawn_driver, "watch /nowhere"}, [])) == :enoent
  end
end
