defmodule SafePort.House.LeaksTest do
  # Counts what belongs to the whole VM, so nothing else may run beside it.
  use ExUnit.Case, async: false

  @cycles 1_000

  defp descriptors, do: "/proc/self/fd" |> File.ls!() |> length()

  defp guardian_descriptors do
    "/proc/#{SafePort.Core.Native.guardian_pid()}/fd" |> File.ls!() |> length()
  end

  # The children of the guardian, zombies included.
  defp children do
    guardian = SafePort.Core.Native.guardian_pid()

    for folder <- Path.wildcard("/proc/[0-9]*"),
        {:ok, stat} <- [File.read(Path.join(folder, "stat"))],
        [_state, parent | _] = stat |> String.split(") ") |> List.last() |> String.split(" "),
        parent == "#{guardian}",
        do: stat
  end

  defp counts,
    do: {descriptors(), guardian_descriptors(), length(Process.list()), SafePort.list(), children()}

  # Descriptors are closed, and children reaped, a moment after the call that let go of them.
  defp assert_settles(expected, tries \\ 250) do
    if counts() != expected and tries > 0 do
      receive do: (:never -> :ok), after: (20 -> :ok)
      assert_settles(expected, tries - 1)
    else
      assert counts() == expected
    end
  end

  setup do
    port = SafePort.open({:spawn, "cat"}, [])
    SafePort.close(port)
    receive do: (:never -> :ok), after: (100 -> :ok)
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

    assert_settles(before)
    refute_received _anything
  end

  test "#{@cycles} ports that are opened and closed leave nothing behind", %{before: before} do
    for _cycle <- 1..@cycles do
      port = SafePort.open({:spawn_executable, "/bin/cat"}, [])
      assert SafePort.command(port, "x")
      SafePort.close(port)
    end

    assert_settles(before)
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

    assert_settles(before)
  end
end
