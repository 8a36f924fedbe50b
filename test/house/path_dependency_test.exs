defmodule SafePort.House.PathDependencyTest do
  # An application that has SafePort as a path dependency: compiled, run, and released.
  use ExUnit.Case, async: false

  import SafePort.Test.Commands

  @moduletag :tmp_dir
  @moduletag timeout: 600_000

  setup %{tmp_dir: folder} do
    on_exit(fn -> File.rm_rf!(folder) end)

    write(folder, "mix.exs", """
    defmodule Second.MixProject do
      use Mix.Project

      def project do
        [app: :second, version: "1.2.3", deps: [{:safe_port, path: #{inspect(package())}}]]
      end

      def application, do: [extra_applications: [:logger]]
    end
    """)

    write(folder, "lib/second.ex", """
    defmodule Second do
      def run do
        {:ok, _} = Application.ensure_all_started(:second)
        port = SafePort.open({:spawn_executable, "/bin/cat"}, [:binary, packet: 2])
        true = SafePort.command(port, "from " <> File.cwd!())

        receive do
          {^port, {:data, answer}} -> IO.puts(["answer ", answer])
        end
      end
    end
    """)

    :ok
  end

  test "compiles without a warning and runs in the environment dev", %{tmp_dir: folder} do
    output = mix!(folder, ["compile", "--warnings-as-errors"])
    assert output =~ "Generated safe_port app"
    refute output =~ "warning"
    # Nothing has changed, so nothing is built or said.
    assert mix!(folder, ["run", "-e", "Second.run()"]) == "answer from #{folder}\n"
  end

  test "answers in iex at once", %{tmp_dir: folder} do
    assert {output, 0} = command("/bin/sh", folder, ["-c", "echo 'Second.run()' | iex -S mix"])
    assert output =~ "answer from #{folder}\n"
    refute output =~ "warning"
  end

  test "is released in the environment prod and runs from another folder, without the sources", %{
    tmp_dir: folder
  } do
    mix!(folder, ["release", "--path", Path.join(folder, "built")], [{"MIX_ENV", "prod"}])
    moved = Path.join(folder, "moved")
    File.rename!(Path.join(folder, "built"), moved)
    File.rm_rf!(Path.join(folder, "_build"))

    assert [native] = Path.wildcard(Path.join(moved, "lib/safe_port-*/priv/native"))
    assert {:ok, %{type: :directory}} = File.lstat(native)

    assert {output, 0} = command(Path.join(moved, "bin/second"), "/", ["eval", "Second.run()"])
    assert output =~ "answer from /\n"
  end

  defp write(folder, name, text) do
    path = Path.join(folder, name)
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
  end
end
