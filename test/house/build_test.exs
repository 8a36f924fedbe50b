defmodule SafePort.House.BuildTest do
  # The Mix compiler of mix.exs, on a copy of the package. A script stands for cargo: it "builds" the files of this
  # package, to which a test may append something, which a library and an executable bear.
  use ExUnit.Case, async: false

  import SafePort.Test.Commands

  @moduletag timeout: 300_000

  @files ~w(libsafe_port_nif.so safe_port_guardian safe_port_host)

  @cargo """
  #!/bin/sh
  echo "$*" >>"$STUB/calls"
  case "$1 $*" in
    build*--quiet*) ;;
    build*) echo "   Compiling stub" >&2 ;;
  esac
  if [ "$1" = build ]; then
    [ -e "$STUB/fails" ] && { echo "error: it does not compile" >&2; exit 101; }
    mkdir -p "$3/release"
    cp "$STUB"/built/* "$3/release/"
  fi
  """

  # Compiled once. Each test finds it as it was then, in the same folder: mix compiles anew what has been moved.
  setup_all do
    folder = Path.join(System.tmp_dir!(), "safe_port_build_#{System.pid()}")
    on_exit(fn -> File.rm_rf!(folder) end)
    work = Path.join(folder, "work")
    for name <- ~w(package stub/built rust programs), do: File.mkdir_p!(Path.join(work, name))

    for entry <- ~w(mix.exs Cargo.toml Cargo.lock README.md lib native) do
      File.cp_r!(Path.join(package(), entry), Path.join([work, "package", entry]))
    end

    built = Application.app_dir(:safe_port, "priv/native")
    for file <- @files, do: File.cp!(Path.join(built, file), Path.join([work, "stub/built", file]))

    # Nothing may fall back on the Rust of this machine.
    link_programs(Path.join(work, "programs"), ~w(cargo rustc))
    script(Path.join(work, "rust/cargo"), @cargo)
    script(Path.join(work, "rust/rustc"), "#!/bin/sh\necho 'rustc 1.999.0 (a stub)'\n")

    mix!(Path.join(work, "package"), ["compile"], env(work))
    File.rm!(Path.join(work, "stub/calls"))
    copy!(work, Path.join(folder, "kept"))
    %{kept: Path.join(folder, "kept"), work: work}
  end

  setup %{kept: kept, work: work} do
    File.rm_rf!(work)
    copy!(kept, work)

    %{
      root: Path.join(work, "package"),
      stub: Path.join(work, "stub"),
      rust: Path.join(work, "rust"),
      env: env(work)
    }
  end

  # With the times of the files.
  defp copy!(from, to), do: {"", 0} = System.cmd("cp", ["-a", from, to])

  defp env(folder) do
    [
      {"PATH", Path.join(folder, "rust") <> ":" <> Path.join(folder, "programs")},
      {"STUB", Path.join(folder, "stub")},
      {"CARGO_TARGET_DIR", nil},
      {"CARGO_BUILD_TARGET", nil}
    ]
  end

  test "the first build shows cargo's progress and places the files where the application finds them",
       context do
    for built <- ~w(_build priv target), do: File.rm_rf!(Path.join(context.root, built))
    assert mix!(context.root, ["compile"], context.env) =~ "Compiling stub"
    priv = Path.join(context.root, "_build/dev/lib/safe_port/priv/native")

    for file <- @files do
      assert File.read!(Path.join(priv, file)) == File.read!(Path.join([context.stub, "built", file]))
      assert Bitwise.band(File.stat!(Path.join(priv, file)).mode, 0o777) == 0o755
    end

    assert File.ls!(Path.join(context.root, "priv/native")) |> Enum.sort() == Enum.sort(@files)
    assert mix!(context.root, ["run", "-e", "IO.inspect(SafePort.list())"], context.env) == "[]\n"
  end

  test "a second build asks cargo, touches nothing and says nothing", context do
    before = stats(context.root)
    assert mix!(context.root, ["compile"], context.env) == ""
    assert stats(context.root) == before
    assert calls(context.stub, "build") == 1
    code = "IO.inspect(Mix.Tasks.Compile.SafePortNative.run([]))"
    assert mix!(context.root, ["run", "--no-compile", "-e", code], context.env) == "{:noop, []}\n"
  end

  test "a source that is newer than the last build is built, and shown to be", context do
    append(context.stub, "changed")
    # As if the last build had been a while ago; times in the future are set back by mix.
    manifest = Path.join(context.root, "_build/dev/lib/safe_port/.mix/compile.safe_port_native")
    File.touch!(manifest, System.os_time(:second) - 100)
    File.touch!(Path.join(context.root, "native/safe_port_os/src/lib.rs"))

    assert mix!(context.root, ["compile"], context.env) =~ "Compiling stub"
    assert File.read!(placed(context.root, "libsafe_port_nif.so")) =~ ~r/changed\z/
  end

  test "what cargo built for another reason is placed as well", context do
    append(context.stub, "by another compiler")
    assert mix!(context.root, ["compile"], context.env) == ""
    assert File.read!(placed(context.root, "safe_port_guardian")) =~ ~r/by another compiler\z/
  end

  test "a running VM survives that its library and its guardian are replaced", context do
    before = stats(context.root)

    code = """
    talk = fn port, text ->
      SafePort.command(port, text)
      receive do: ({^port, {:data, ^text}} -> text)
    end

    old = SafePort.open({:spawn, "cat"}, [:binary])
    IO.puts(talk.(old, "old"))
    IO.gets("")
    IO.puts(File.read!("/proc/self/maps") =~ "libsafe_port_nif.so (deleted)")
    IO.puts(talk.(old, "old again"))
    new = SafePort.open({:spawn, "cat"}, [:binary])
    IO.puts(talk.(new, "new"))
    """

    mix = System.find_executable("mix")
    env = for {name, value} <- [{"MIX_ENV", nil} | context.env], do: {name, value || false}
    options = [:binary, :exit_status, line: 200, cd: context.root, env: env]
    vm = SafePort.open({:spawn_executable, mix}, [args: ["run", "--no-compile", "-e", code]] ++ options)
    assert_receive {^vm, {:data, {:eol, "old"}}}, 30_000

    append(context.stub, "replaced")
    mix!(context.root, ["compile"], context.env)
    for {file, stat} <- stats(context.root), do: refute(stat.inode == before[file].inode)

    SafePort.command(vm, "go on\n")
    assert_receive {^vm, {:data, {:eol, "true"}}}, 30_000
    assert_receive {^vm, {:data, {:eol, "old again"}}}, 30_000
    assert_receive {^vm, {:data, {:eol, "new"}}}, 30_000
    assert_receive {^vm, {:exit_status, 0}}, 30_000
  end

  test "mix clean removes what was placed and what cargo built", context do
    mix!(context.root, ["clean"], context.env)
    refute File.exists?(Path.join(context.root, "priv/native"))
    assert last_call(context.stub) == "clean --target-dir #{context.root}/target --quiet"
    assert mix!(context.root, ["compile"], context.env) =~ "Compiling stub"
  end

  test "a target folder that the user named is used, and only cleaned of this package", context do
    folder = Path.join(context.root, "elsewhere")
    File.rm_rf!(Path.join(context.root, "target"))
    env = List.keystore(context.env, "CARGO_TARGET_DIR", 0, {"CARGO_TARGET_DIR", folder})
    mix!(context.root, ["compile"], env)
    assert last_call(context.stub) =~ "build --target-dir #{folder} --release --locked"
    refute File.exists?(Path.join(context.root, "target"))
    mix!(context.root, ["clean"], env)
    assert last_call(context.stub) =~ "--package safe_port_nif"
  end

  test "without cargo, one sentence says what is missing and what to do", context do
    File.rm!(Path.join(context.rust, "cargo"))
    assert {output, 1} = mix(context.root, ["compile"], context.env)
    assert [line] = for(line <- String.split(output, "\n"), line =~ "cargo", do: line)
    assert line =~ "SafePort needs cargo to build its native half, and there is none in PATH. On Debian 12"
  end

  test "with a rustc that is too old, one sentence says which is needed and what to do", context do
    script(Path.join(context.rust, "rustc"), "#!/bin/sh\necho 'rustc 1.63.0 (a stub)'\n")
    File.rm_rf!(Path.join(context.root, "_build"))
    assert {output, 1} = mix(context.root, ["compile"], context.env)
    assert [line] = for(line <- String.split(output, "\n"), line =~ "rustc", do: line)
    assert line =~ ~r/^SafePort needs rustc [\d.]+ or newer, and found 1\.63\.0\. On Debian 12/
    assert calls(context.stub, "build") == 0
  end

  test "when cargo fails, mix fails and nothing that was placed is lost", context do
    before = stats(context.root)
    File.touch!(Path.join(context.stub, "fails"))
    assert {output, 1} = mix(context.root, ["compile"], context.env)
    assert output =~ "error: it does not compile"
    assert output =~ "cargo could not build the native half of SafePort, it ended with status 101."
    assert stats(context.root) == before
  end

  ## The copy

  defp placed(root, file), do: Path.join([root, "priv/native", file])

  defp stats(root),
    do: for(file <- @files, into: %{}, do: {file, %{File.stat!(placed(root, file)) | atime: nil}})

  defp append(stub, text) do
    for file <- @files, do: File.write!(Path.join([stub, "built", file]), text, [:append])
  end

  defp calls(stub, command) do
    case File.read(Path.join(stub, "calls")) do
      {:ok, calls} -> calls |> String.split("\n") |> Enum.count(&String.starts_with?(&1, command))
      {:error, :enoent} -> 0
    end
  end

  defp last_call(stub),
    do: stub |> Path.join("calls") |> File.read!() |> String.split("\n", trim: true) |> List.last()

  ## Programs

  defp script(path, text) do
    File.write!(path, text)
    File.chmod!(path, 0o755)
  end
end
