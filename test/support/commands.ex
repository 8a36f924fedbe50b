defmodule SafePort.Test.Commands do
  @moduledoc """
  Running mix and other programs, on other projects and other machines than this one.
  """

  import ExUnit.Assertions

  # What would make the other project build into this one, or in its environment.
  @unset for name <- ~w(MIX_ENV MIX_TARGET MIX_EXS MIX_BUILD_PATH MIX_BUILD_ROOT MIX_DEPS_PATH),
             do: {name, nil}

  @doc "The folder of this package."
  @spec package() :: Path.t()
  def package, do: Path.expand("../..", __DIR__)

  @doc "Runs mix in `folder` and returns what it wrote, standard error included, and its exit status."
  @spec mix(Path.t(), [String.t()], [{String.t(), String.t() | nil}]) :: {String.t(), non_neg_integer()}
  def mix(folder, arguments, env \\ []), do: command(System.find_executable("mix"), folder, arguments, env)

  @doc "As `mix/3`, but it must succeed; returns what it wrote."
  @spec mix!(Path.t(), [String.t()], [{String.t(), String.t() | nil}]) :: String.t()
  def mix!(folder, arguments, env \\ []) do
    {output, status} = mix(folder, arguments, env)
    assert status == 0, "mix #{Enum.join(arguments, " ")} ended with status #{status}:\n#{output}"
    output
  end

  @doc "Runs any program in `folder`, as `mix/3` does."
  @spec command(Path.t(), Path.t(), [String.t()], [{String.t(), String.t() | nil}]) ::
          {String.t(), non_neg_integer()}
  def command(program, folder, arguments, env \\ []) do
    System.cmd(program, arguments, cd: folder, env: @unset ++ env, stderr_to_stdout: true)
  end

  @doc "Links all programs in PATH into `folder` but those named, for a PATH that has everything else."
  @spec link_programs(Path.t(), [String.t()]) :: :ok
  def link_programs(folder, without) do
    for path <- "PATH" |> System.get_env() |> String.split(":"),
        {:ok, names} <- [File.ls(path)],
        name <- names -- without,
        # The first one in PATH counts; a later link fails.
        do: File.ln_s(Path.expand(name, path), Path.join(folder, name))

    :ok
  end
end
