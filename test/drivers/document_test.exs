defmodule SafePort.DriverDocumentTest do
  # docs/drivers.md does what it says: its driver is built as it is printed there, and its conversation is held.
  use ExUnit.Case, async: true

  import SafePort.Test.Drivers

  @document File.read!("docs/drivers.md")
  @moduletag :capture_log
  @moduletag timeout: 300_000

  test "its driver can be built and says what the document says" do
    [manifest] = blocks("toml")
    [source] = blocks("rust")
    library = build("tally", manifest, source)

    conversation =
      "elixir" |> blocks() |> Enum.join() |> String.replace(~r{"\.\./tally/\S*"}, inspect(library))

    steps = steps(conversation)
    assert length(steps) > 10

    Enum.reduce(steps, [], fn {code, expected}, binding ->
      {result, binding} = answer(code, binding)
      if expected != "", do: assert(result == expected(expected), "#{code}\ngave #{inspect(result)}")
      binding
    end)
  end

  test "every callback and every function of the interface is in its tables" do
    for item <- callbacks() ++ functions(), do: assert(@document =~ "`#{item}`", "#{item} is missing")
  end

  test "every callback and every group of functions, D1 to D12, has a test that names it" do
    names =
      for file <- Path.wildcard("native/safe_port_core/tests/driver_*.rs"),
          [name] <- Regex.scan(~r/^#\[test\]\nfn (\w+)/m, File.read!(file), capture: :all_but_first),
          do: "_#{name}_"

    for row <- callbacks() ++ Enum.map(1..12, &"d#{&1}"),
        do: assert(Enum.any?(names, &(&1 =~ "_#{row}_")), "no test names #{row}")
  end

  defp callbacks, do: public("driver.rs", ~r/^    fn (\w+)[<(]/m) -- ~w(fmt from)

  # Those that make up a `PortHandle`, whose documentation names what they stand for.
  defp functions, do: public("port.rs", ~r/^    pub fn (\w+)[<(]/m)

  defp public(file, pattern) do
    names = Regex.scan(pattern, File.read!("native/safe_port_driver/src/#{file}"), capture: :all_but_first)
    names |> List.flatten() |> Enum.uniq()
  end

  defp blocks(language) do
    ~r/^```#{language}\n(.*?)^```$/ms |> Regex.scan(@document, capture: :all_but_first) |> List.flatten()
  end

  # {code, what is printed below it}
  defp steps(text) do
    for step <- String.split(text, "iex> ", trim: true) do
      [code | printed] = String.split(step, "\n", trim: true)
      {code, Enum.join(printed, "\n")}
    end
  end

  defp answer(code, binding) do
    Code.eval_string(code, binding)
  rescue
    error -> {"** (#{inspect(error.__struct__)}) #{Exception.message(error)}", binding}
  end

  defp expected("** " <> _ = message), do: message
  defp expected(code), do: code |> Code.eval_string() |> elem(0)
end
