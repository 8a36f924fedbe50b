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

  defp aliases do
    [
      ci: [
        "format --check-formatted",
        "cmd cargo fmt --all --check",
        "cmd cargo clippy --workspace --all-targets --locked -- -D warnings",
        "compile --warnings-as-errors",
        "xref graph --format cycles --fail-above 0",
        "cmd cargo test --workspace --locked",
        "cmd mix test"
      ]
    ]
  end

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{"GitHub" => @source_url},
      files: ~w(lib native docs mix.exs Cargo.toml Cargo.lock README.md CHANGELOG.md LICENSE)
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
  Builds the NIF library and the executables with `cargo build --release`, and places them in priv/native.

  A file is replaced by renaming a new one over it, never written over: a running VM keeps the one it has mapped.
  Nothing is touched when nothing has changed. cargo's own folder is `target` of the package, whatever the application
  and its environment, unless `CARGO_TARGET_DIR` says otherwise.
  """
  use Mix.Task.Compiler

  @files [
    {"safe_port_nif", :library},
    {"safe_port_guardian", :executable},
    {"safe_port_host", :executable}
  ]

  @impl true
  def run(_arguments) do
    root = File.cwd!()

    with {:ok, cargo} <- find_cargo(),
         :ok <- new_enough(root),
         :ok <- build(cargo, root) do
      place(root)
    else
      {:error, message} ->
        Mix.shell().error(message)
        {:error, [diagnostic(root, message)]}
    end
  end

  @impl true
  def manifests, do: []

  @impl true
  def clean do
    root = File.cwd!()
    File.rm_rf!(Path.join(root, "priv/native"))
    if System.find_executable("cargo"), do: cargo(["clean", "--quiet"], root)
    :ok
  end

  defp find_cargo do
    case System.find_executable("cargo") do
      nil -> {:error, "SafePort needs cargo to build its native half, and there is none in PATH. #{how_to_install()}"}
      cargo -> {:ok, cargo}
    end
  end

  defp new_enough(root) do
    wanted = rust_version(root)

    with rustc when is_binary(rustc) <- System.find_executable("rustc"),
         {output, 0} <- System.cmd(rustc, ["--version"]),
         [_, found] <- Regex.run(~r/^rustc (\d+\.\d+\.\d+)/, output) do
      if Version.compare(found, wanted) == :lt do
        {:error, "SafePort needs rustc #{wanted} or newer, found #{found}. #{how_to_install()}"}
      else
        :ok
      end
    else
      _none -> {:error, "SafePort needs rustc #{wanted} or newer, and there is none that runs. #{how_to_install()}"}
    end
  end

  defp rust_version(root) do
    [_, version] = Regex.run(~r/^rust-version = "([\d.]+)"/m, File.read!(Path.join(root, "Cargo.toml")))
    if version =~ ~r/^\d+\.\d+$/, do: version <> ".0", else: version
  end

  defp how_to_install do
    "On Debian 12: apt-get install rustc-web cargo-web gcc libc6-dev (bin/setup does that); elsewhere see " <>
      "https://rustup.rs."
  end

  defp build(_cargo, root) do
    packages = Enum.flat_map(@files, fn {name, _kind} -> ["-p", name] end)

    case cargo(["build", "--release", "--locked" | packages], root) do
      0 -> :ok
      status -> {:error, "cargo build failed with status #{status}, see above"}
    end
  end

  # cargo's progress goes straight to the terminal.
  defp cargo(arguments, root) do
    options = [cd: root, into: IO.stream(:stdio, :line), stderr_to_stdout: true]
    # Quiet as long as there is nothing to tell: cargo prints what it compiles, and its closing line only then.
    {_output, status} = System.cmd("cargo", arguments ++ quiet(arguments, root), options)
    status
  end

  defp quiet(["build" | _], root) do
    if File.dir?(Path.join(target(root), "release")) and up_to_date?(root), do: ["--quiet"], else: []
  end

  defp quiet(_arguments, _root), do: []

  # Only to keep mix quiet; cargo itself decides what is to be built.
  defp up_to_date?(root) do
    placed = for {name, kind} <- @files, do: mtime(Path.join([root, "priv/native", file_name(name, kind)]))
    sources = [Path.join(root, "Cargo.toml") | Path.wildcard(Path.join(root, "native/**/*.{rs,toml}"))]
    Enum.min(placed) >= sources |> Enum.map(&mtime/1) |> Enum.max()
  end

  defp mtime(path) do
    case File.stat(path, time: :posix) do
      {:ok, stat} -> stat.mtime
      {:error, _reason} -> 0
    end
  end

  defp target(root), do: Path.expand(System.get_env("CARGO_TARGET_DIR", "target"), root)

  defp place(root) do
    directory = Path.join(root, "priv/native")
    File.mkdir_p!(directory)
    changed = for {name, kind} <- @files, replace(root, directory, name, kind), do: name
    # Made when priv was not there yet, the link from the build folder is missing.
    Mix.Project.build_structure()
    {if(changed == [], do: :noop, else: :ok), []}
  end

  defp replace(root, directory, name, kind) do
    built = Path.join([target(root), "release", built_name(name, kind)])
    placed = Path.join(directory, file_name(name, kind))

    if same?(built, placed) do
      false
    else
      temporary = "#{placed}.#{System.pid()}"
      File.cp!(built, temporary)
      File.rename!(temporary, placed)
      true
    end
  end

  defp same?(built, placed) do
    match?({:ok, %{size: size}} when size > 0, File.stat(placed)) and digest(built) == digest(placed)
  end

  defp digest(path), do: :crypto.hash(:sha256, File.read!(path))

  defp built_name(name, :library) do
    if match?({:unix, :darwin}, :os.type()), do: "lib#{name}.dylib", else: "lib#{name}.so"
  end

  defp built_name(name, :executable), do: name

  # The VM loads .so on every Unix.
  defp file_name(name, :library), do: "lib#{name}.so"
  defp file_name(name, :executable), do: name

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
