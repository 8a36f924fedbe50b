defmodule SafePort.MixProject do
  use Mix.Project

  @version "0.1.0"
  @source_url "https://github.com/safe-port/safe_port"

  def project do
    [
      app: :safe_port,
      version: @version,
      elixir: "~> 1.14",
      # The native half goes first: the module that loads it is compiled, and loaded, after it.
      compilers: [:safe_port_native | Mix.compilers()],
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      deps: [],
      aliases: aliases(),
      package: package(),
      docs: docs(),
      description: "Ports to external programs that leave nothing behind",
      source_url: @source_url
    ]
  end

  def application do
    [mod: {SafePort.Application, []}, extra_applications: [:logger]]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]

  # Formats, lints, warnings, cycles, tests in Rust and in Elixir.
  defp aliases, do: [ci: ["cmd bin/test"]]

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{"GitHub" => @source_url},
      files:
        ~w(lib native docs bin examples mix.exs .formatter.exs .cargo Cargo.toml Cargo.lock) ++
          ~w(README.md CHANGELOG.md LICENSE)
    ]
  end

  defp docs do
    [
      main: "readme",
      extras: ["README.md", "CHANGELOG.md" | Path.wildcard("docs/*.md")],
      source_ref: "v#{@version}"
    ]
  end
end

defmodule Mix.Tasks.Compile.SafePortNative do
  @shortdoc "Builds the native half of SafePort with cargo"
  @moduledoc """
  Runs `cargo build --release` and places what it built in priv/native: the NIF library and the executables.

  A file whose content changed is replaced by renaming a new one over it, and never written over: a running VM keeps
  the file it has mapped. Nothing is touched when nothing changed; what has to be built is for cargo to say.

  cargo works in the folder `target` of the package, for every environment and for every application that depends on
  it by path, or where `CARGO_TARGET_DIR` says. cargo's own lock keeps parallel builds apart.

  `SAFE_PORT_FEATURES` names features of safe_port_nif to build with: `timing` has the calls of the data path timed for
  bench/schedule.exs.
  """
  use Mix.Task.Compiler

  @packages ~w(safe_port_nif safe_port_guardian safe_port_host)
  @sources ~w(mix.exs Cargo.toml Cargo.lock .cargo/config.toml native/{safe_port_*,drivers}/**/*.{rs,toml})

  # Mix calls this in the folder of the package, also where the package is a dependency.
  @impl true
  def run(_arguments) do
    root = File.cwd!()

    case build(root) do
      :ok ->
        place(root)

      {:error, message} ->
        Mix.shell().error(message)
        {:error, [diagnostic(root, message)]}
    end
  end

  @impl true
  def manifests, do: [manifest()]

  @impl true
  def clean do
    root = File.cwd!()
    File.rm_rf!(Path.join(root, "priv/native"))
    File.rm(manifest())
    # A folder that the user named may hold more than this package.
    only = if System.get_env("CARGO_TARGET_DIR"), do: ["--release" | package_arguments()], else: []
    if System.find_executable("cargo"), do: cargo(["clean", "--quiet" | only], root)
    :ok
  end

  ## Building

  # cargo runs each time, but may only speak when a source is newer than the last build: otherwise its closing line
  # would stand in front of the output of every mix command.
  defp build(root) do
    started = System.os_time(:second)
    stale? = Mix.Utils.stale?(sources(root), [manifest()])

    with :ok <- check_cargo(),
         :ok <- if(stale?, do: check_rustc(root), else: :ok),
         :ok <- run_cargo(if(stale?, do: [], else: ["--quiet"]), root) do
      if stale?, do: touch(manifest(), started)
      :ok
    end
  end

  defp sources(root), do: Enum.flat_map(@sources, &Path.wildcard(Path.join(root, &1), match_dot: true))
  defp manifest, do: Path.join(Mix.Project.manifest_path(), "compile.safe_port_native")

  defp touch(path, time) do
    File.mkdir_p!(Path.dirname(path))
    File.touch!(path, time)
  end

  defp check_cargo do
    if System.find_executable("cargo"),
      do: :ok,
      else: {:error, "SafePort needs cargo to build its native half, and there is none in PATH. #{advice()}"}
  end

  defp check_rustc(root) do
    [_, wanted] = Regex.run(~r/^rust-version = "([\d.]+)"/m, File.read!(Path.join(root, "Cargo.toml")))

    case rustc_version(root) do
      nil ->
        {:error, "SafePort needs rustc #{wanted} or newer, and there is none that runs. #{advice()}"}

      found ->
        if Version.match?(found, ">= #{wanted}.0"),
          do: :ok,
          else: {:error, "SafePort needs rustc #{wanted} or newer, and found #{found}. #{advice()}"}
    end
  end

  defp rustc_version(root) do
    with rustc when is_binary(rustc) <- System.find_executable("rustc"),
         {output, 0} <- System.cmd(rustc, ["--version"], cd: root),
         [_, version] <- Regex.run(~r/^rustc (\d+\.\d+\.\d+)/, output) do
      version
    else
      _none -> nil
    end
  end

  defp advice do
    "On Debian 12, run bin/setup of the package or apt-get install rustc-web cargo-web gcc libc6-dev; elsewhere, " <>
      "get Rust from https://rustup.rs."
  end

  defp run_cargo(flags, root) do
    case cargo(
           ["build", "--release", "--locked"] ++ flags ++ package_arguments() ++ feature_arguments(),
           root
         ) do
      0 -> :ok
      status -> {:error, "cargo could not build the native half of SafePort, it ended with status #{status}."}
    end
  end

  defp package_arguments, do: Enum.flat_map(@packages, &["--package", &1])

  defp feature_arguments do
    features = "SAFE_PORT_FEATURES" |> System.get_env("") |> String.split([" ", ","], trim: true)
    Enum.flat_map(features, &["--features", "safe_port_nif/#{&1}"])
  end

  # cargo's progress goes to standard error, which it shares with mix.
  defp cargo([command | arguments], root) do
    arguments = [command, "--target-dir", target(root) | arguments]
    {_output, status} = System.cmd("cargo", arguments, cd: root, into: IO.stream(:stdio, :line))
    status
  end

  defp target(root), do: Path.expand(System.get_env("CARGO_TARGET_DIR", "target"), root)

  ## Placing

  defp place(root) do
    directory = Path.join(root, "priv/native")
    File.mkdir_p!(directory)
    replaced = Enum.filter(@packages, &replace(built(&1, root), Path.join(directory, placed(&1))))
    # In a fresh clone there was no priv yet when mix linked it into the build folder.
    if replaced != [], do: Mix.Project.build_structure()
    {if(replaced == [], do: :noop, else: :ok), []}
  end

  defp replace(built, placed) do
    content = File.read!(built)

    if File.read(placed) == {:ok, content} do
      false
    else
      temporary = "#{placed}.#{System.pid()}"
      File.write!(temporary, content)
      File.chmod!(temporary, 0o755)
      File.rename!(temporary, placed)
      true
    end
  end

  defp built(package, root) do
    Path.join([target(root), System.get_env("CARGO_BUILD_TARGET", ""), "release", built(package)])
  end

  defp built("safe_port_nif") do
    if match?({:unix, :darwin}, :os.type()), do: "libsafe_port_nif.dylib", else: "libsafe_port_nif.so"
  end

  defp built(executable), do: executable

  # The VM looks for .so on every Unix.
  defp placed("safe_port_nif"), do: "libsafe_port_nif.so"
  defp placed(executable), do: executable

  defp diagnostic(root, message) do
    %Mix.Task.Compiler.Diagnostic{
      compiler_name: "safe_port_native",
      file: Path.join(root, "Cargo.toml"),
      message: message,
      position: 0,
      severity: :error
    }
  end
end
