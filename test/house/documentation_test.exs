defmodule SafePort.House.DocumentationTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO

  # Those of SafePort.Driver and of drivers are run where drivers are built.
  doctest SafePort, except: [:moduledoc, control: 3, call: 3]

  for module <- [SafePort, SafePort.Driver] do
    test "every function of #{inspect(module)} has a spec and a documentation with an example" do
      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(unquote(module))
      {:ok, specs} = Code.Typespec.fetch_specs(unquote(module))

      for {{:function, name, arity}, _, _, doc, _} <- docs do
        assert %{"en" => text} = doc
        assert text =~ "    iex> ", "#{name}/#{arity} has no example"
        assert List.keymember?(specs, {name, arity}, 0), "#{name}/#{arity} has no spec"
      end
    end
  end

  # Two lines with a bar in a row make a table for iex, also in the midst of a list.
  test "h in iex shows the documentation of SafePort in 80 columns" do
    {:docs_v1, _, _, format, %{"en" => moduledoc}, _, docs} = Code.fetch_docs(SafePort)

    for text <- [moduledoc | for({{:function, _, _}, _, _, %{"en" => text}, _} <- docs, do: text)] do
      shown = capture_io(fn -> IO.ANSI.Docs.print(text, format, width: 80, enabled: false) end)
      for line <- String.split(shown, "\n"), do: assert(String.length(String.trim_trailing(line)) <= 80, line)
    end
  end
end
