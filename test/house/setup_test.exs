defmodule SafePort.House.SetupTest do
  # bin/setup, on a machine that lacks programs: PATH has those of this machine but for some.
  use ExUnit.Case, async: true

  import SafePort.Test.Commands

  @moduletag :tmp_dir

  defp setup_without(folder, missing, arguments) do
    on_exit(fn -> File.rm_rf!(folder) end)
    link_programs(folder, missing)
    command(Path.join(package(), "bin/setup"), "/", arguments, [{"PATH", folder}])
  end

  test "says that everything is there, from any folder", %{tmp_dir: folder} do
    assert {output, 0} = setup_without(folder, [], ["sh", "sed"])
    assert output =~ ~r/\Asetup: everything is there: Elixir [\d.]+, Rust [\d.]+\n\z/
  end

  test "says what is missing on a system that is not Debian", %{tmp_dir: folder} do
    assert {output, 1} = setup_without(folder, ~w(apt-get elixir cargo cc gzip), ["gzip"])

    assert output =~
             "setup: this is no Debian system, and these are missing (by their names in Debian): " <>
               "elixir gcc libc6-dev rustc-web cargo-web gzip\n"

    assert output =~ ~r/install Elixir 1.14 or newer, a C compiler, and Rust 1\.\d+ or newer/
  end

  test "installs the Rust that is new enough on Debian 12 and 13, and the only one elsewhere", %{
    tmp_dir: folder
  } do
    on_exit(fn -> File.rm_rf!(folder) end)
    link_programs(folder, ~w(apt-get apt-cache id cargo rustc))
    script(folder, "id", "echo 0")
    script(folder, "apt-get", "")
    setup = fn -> command(Path.join(package(), "bin/setup"), "/", ["cargo-fmt"], [{"PATH", folder}]) end

    for {known, packages} <- [{"Package: rustc-web", "rustc-web cargo-web"}, {"", "rustc cargo"}] do
      script(folder, "apt-cache", "printf '#{known}'")
      assert {output, 1} = setup.()
      assert output =~ ~r/^setup: installing with apt-get: #{packages}\b/m
      assert output =~ ~r/^setup: Rust 1\.\d+ or newer is needed, and the one in PATH is none$/m
    end
  end

  defp script(folder, name, text) do
    path = Path.join(folder, name)
    File.write!(path, "#!/bin/sh\n" <> text <> "\n")
    File.chmod!(path, 0o755)
  end
end
