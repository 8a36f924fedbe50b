defmodule SafePort.House.PathDependencyTest do
  # Builds an application of its own, with cargo's and mix's locks.
  use ExUnit.Case, async: false

  @moduletag timeout: 600_000

  setup do
    folder = Path.join(System.tmp_dir!(), "safe_port_user_#{System.pid()}")
    on_exit(fn -> File.rm_rf!(folder) end)
    File.mkdir_p!(Path.join(folder, "lib"))

    File.write!(Path.join(folder, "mix.exs"), """
    defmodule User.MixProject do
      use Mix.Project

      def project do
        [app: :user, version: "1.0.0", deps: [{:safe_port, path: #{inspect(File.cwd!())}}]]
      end

      def application, do: [extra_applications: [:logger]]
    end
    """)

    File.write!(Path.join(folder, "lib/user.ex"), """
    defmodule User do
      def hello do
        port = SafePort.open({:spawn, "cat"}, [:binary])
        SafePort.command(port, "hello from the user")
        receive do: ({^port, {:data, data}} -> IO.puts(data))
      end
    end
    """)

    %{folder: folder}
  end

  defp mix!(folder, arguments) do
    # The environment of this test run is not the user's.
    env = [{"MIX_ENV", "prod"}, {"MIX_BUILD_PATH", nil}, {"MIX_TARGET", nil}]
    {output, status} = System.cmd("mix", arguments, cd: folder, env: env, stderr_to_stdout: true)
    assert status == 0, output
    output
  end

  test "an application that depends on the package by path builds, runs and releases", %{folder: folder} do
    assert mix!(folder, ["run", "-e", "User.hello()"]) =~ "hello from the user"
    # Nothing has changed, so nothing is built.
    refute mix!(folder, ["compile"]) =~ "Compiling"

    mix!(folder, ["release", "--quiet"])
    release = Path.join(folder, "_build/prod/rel/user/bin/user")

    assert {output, 0} =
             System.cmd(release, ["eval", ~s|Application.ensure_all_started(:user); User.hello()|], cd: "/")

    assert output =~ "hello from the user"
  end
end
