defmodule SafePort.House.LeaksTest do
  # Counts what belongs to the whole VM, so nothing else may run beside it.
  use ExUnit.Case, async: false

  alias SafePort.Core.Native
  alias SafePort.Test.Proc

  @cycles 1_000

  # What the VM and the guardian have open, and whom they look after, zombies included.
  defp counts do
    guardian = Native.guardian_pid()

    %{
      descriptors: map_size(Proc.descriptors(Proc.vm())),
      guardian_descriptors: map_size(Proc.descriptors(guardian)),
      programs: length(Proc.filter(&(&1.ppid == guardian))),
      processes: length(Process.list()),
      ports: length(SafePort.list())
    }
  end

  # Descriptors are closed, and programs reaped, a moment after the call that let go of them. What was there before may
  # go as well.
  defp assert_nothing_left(before) do
    Proc.wait_until("there is no more than #{inspect(before)}", fn ->
      Enum.all?(counts(), fn {what, count} -> count <= before[what] end)
    end)
  end

  setup do
    # Starts the guardian.
    {:spawn_executable, "/bin/cat"} |> SafePort.open([]) |> SafePort.close()
    %{before: counts()}
  end

  test "#{@cycles} opens that fail leave no descriptor, process or message behind", %{before: before} do
    for cycle <- 1..@cycles do
      {file, options, reason} =
        case rem(cycle, 4) do
          0 -> {"/no/such/program", [], :enoent}
          1 -> {"/", [], :eacces}
          2 -> {"/bin/cat", [cd: "/no/such/folder"], :enoent}
          3 -> {"/bin/cat", [args: [:binary.copy("x", 200_000)]], :e2big}
        end

      assert catch_error(SafePort.open({:spawn_executable, file}, options)) == reason
    end

    assert_nothing_left(before)
    refute_received _anything
  end

  test "#{@cycles} ports that are opened and closed leave nothing behind", %{before: before} do
    for _cycle <- 1..@cycles do
      port = SafePort.open({:spawn_executable, "/bin/cat"}, [])
      assert SafePort.command(port, "x")
      SafePort.close(port)
    end

    assert_nothing_left(before)
  end

  test "bad options leave nothing open or running", %{before: before} do
    for options <- [
          [:no_such_option],
          [packet: 3],
          [args: :x],
          [env: [{"A=B", "c"}]],
          [cd: "a\0b"] | [[:a | :b]]
        ] do
      assert_raise ArgumentError, fn -> SafePort.open({:spawn_executable, "/bin/cat"}, options) end
    end

    assert_nothing_left(before)
  end
end
