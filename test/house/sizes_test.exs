defmodule SafePort.House.SizesTest do
  # Arguments and environment of the sizes that the kernel takes: 128 KiB each, its NUL included, and about 2 MiB in all
  # with the usual limit on the stack.
  use ExUnit.Case, async: true

  @longest 128 * 1024 - 1

  # What the program sees of itself, piece by piece.
  defp seen(file, options) do
    args = ["-c", "cat /proc/$$/#{file}", "sh" | Keyword.get(options, :args, [])]
    options = [:binary, :exit_status, active: false, env: Keyword.get(options, :env, []), args: args]
    port = SafePort.open({:spawn_executable, "/bin/sh"}, options)
    port |> read("") |> String.split(<<0>>)
  end

  defp read(port, seen) do
    case SafePort.recv(port, 30_000) do
      {:ok, data} -> read(port, seen <> data)
      {:error, :closed} -> seen
    end
  end

  test "an argument of 128 KiB less one byte goes through, one byte more is :e2big" do
    longest = String.duplicate("a", @longest)
    assert longest in seen("cmdline", args: [longest])
    assert catch_error(seen("cmdline", args: [longest <> "a"])) == :e2big
  end

  test "so does a variable, its name counted" do
    value = String.duplicate("a", @longest - byte_size("LONG="))
    assert ("LONG=" <> value) in seen("environ", env: [{"LONG", value}])
    assert catch_error(seen("environ", env: [{"LONG", value <> "a"}])) == :e2big
  end

  test "nearly 2 MiB of arguments go through in order, more are :e2big" do
    args = for letter <- Enum.take(?a..?z, 15), do: String.duplicate(<<letter>>, @longest)
    assert ["/bin/sh", "-c", _script, "sh" | rest] = seen("cmdline", args: args)
    assert rest == args ++ [""]
    assert catch_error(seen("cmdline", args: args ++ args)) == :e2big
  end

  test "nearly 2 MiB of many small arguments and variables go through" do
    # Each costs the kernel a pointer besides its bytes.
    args = for number <- 1..40_000, do: "argument #{number}"
    env = for number <- 1..20_000, do: {"VARIABLE_#{number}", "value"}
    assert args -- seen("cmdline", args: args, env: env) == []
    variables = for {name, value} <- env, do: name <> "=" <> value
    assert variables -- seen("environ", args: args, env: env) == []
  end
end
