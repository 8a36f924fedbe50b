defmodule SafePort.DifferentialTest do
  use ExUnit.Case, async: true

  alias SafePort.Test.Differential
  alias SafePort.Test.Differential.Sequence

  @moduletag :capture_log

  defmodule Forgetful do
    # As Port, but commands of more than three bytes are dropped.
    defdelegate open(name, options), to: Port
    defdelegate close(port), to: Port
    defdelegate connect(port, pid), to: Port
    defdelegate info(port), to: Port
    defdelegate info(port, item), to: Port
    defdelegate list(), to: Port
    defdelegate monitor(port), to: Port
    defdelegate demonitor(monitor, options), to: Port

    def command(port, data, options \\ [])
    def command(_port, data, []) when is_binary(data) and byte_size(data) > 3, do: true
    def command(port, data, options), do: Port.command(port, data, options)
  end

  test "random sequences of operations make no difference" do
    seed = ExUnit.configuration()[:seed]

    case Differential.run(Port, SafePort, 150, seed) do
      :ok -> :ok
      {:different, difference} -> flunk(Differential.report(difference))
    end
  end

  test "the same seed gives the same sequences" do
    assert Sequence.generate(1, 2) == Sequence.generate(1, 2)
    assert Sequence.generate(1, 2) != Sequence.generate(1, 3)
    assert Sequence.generate(2, 2) != Sequence.generate(1, 2)
  end

  test "a difference is found, and made small" do
    assert {:different, difference} = Differential.run(Port, Forgetful, 200, 1)
    assert %{seed: 1, sequence: %{operations: [operation], options: options}} = difference
    # A command that should have come back, or should have been too long.
    assert {:command, _actor, _at, data, []} = operation
    assert byte_size(data) > 3
    assert options in [[], [packet: 1]]
    assert Differential.report(difference) =~ "of seed 1 makes a difference"
  end
end
