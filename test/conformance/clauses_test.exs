defmodule SafePort.Conformance.ClausesTest do
  use ExUnit.Case, async: true

  alias SafePort.Test.Clauses

  # The table in docs/differences.md is written for people: it and the tests must say the same.

  test "every clause has a test, and every test a clause" do
    tested = Clauses.tests() |> Enum.map(&elem(&1, 0)) |> Enum.uniq()
    assert Clauses.all() -- tested == []
    assert tested -- Clauses.all() == []
  end

  test "the document of the differences lists exactly the clauses that are not the same" do
    different = for {clause, state} <- Clauses.states(), state != :same, do: clause
    rows = Regex.scan(~r/^\| ([A-Z]\d+) \|/m, File.read!("docs/differences.md"), capture: :all_but_first)
    listed = rows |> List.flatten() |> Enum.uniq()
    assert Enum.sort(different) == Enum.sort(listed)
  end
end
