defmodule SafePort.House.DemoTest do
  use ExUnit.Case, async: false

  import SafePort.Test.Commands

  @moduletag timeout: 300_000

  test "every step of the demo does what it should" do
    output = mix!(package(), ["run", "--no-compile", "examples/demo.exs"], [{"MIX_ENV", "test"}])
    assert output =~ ~r/\nAll 5 steps did what they should\.\n\z/
    assert ~r/^   => ok, /m |> Regex.scan(output) |> length() == 5
  end
end
