defmodule PhoenixGenApi.MixProject do
  use Mix.Project

  @version "0.1.0"
  @description "Turns a Phoenix application into a dynamic API gateway for an Erlang cluster"

  def project do
    [
      app: :phoenix_gen_api,
      version: @version,
      description: @description,
      elixir: "~> 1.18",
      compilers: [:gen_api_native | Mix.compilers()],
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      deps: deps(),
      package: package(),
      docs: docs(),
      test_paths: ["test"]
    ]
  end

  def application do
    [extra_applications: [:logger, :crypto], mod: {PhoenixGenApi.Application, []}]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]

  # Every Phoenix application has what is optional; the library compiles and is tested
  # without them too. bin/setup sets the variable where no Hex repository answers.
  defp deps do
    if System.get_env("GEN_API_NO_HEX") == "1" do
      []
    else
      [
        # CI asks for each of its Phoenix versions.
        {:phoenix, System.get_env("GEN_API_PHOENIX", "~> 1.7"), optional: true},
        {:telemetry, "~> 1.0", optional: true},
        {:telemetry_metrics, "~> 1.0", optional: true},
        {:jason, "~> 1.4", optional: true},
        {:ex_doc, "~> 0.34", only: :dev, runtime: false},
        {:bandit, "~> 1.5", only: :test},
        {:plug_cowboy, "~> 2.7", only: :test}
      ]
    end
  end

  defp docs do
    [
      main: "readme",
      extras:
        ["README.md" | Enum.uniq(["guides/getting_started.md" | Path.wildcard("guides/*.md")])] ++
          [{:"native/README.md", filename: "native", title: "The native side"}] ++
          ~w(CHANGELOG.md CONTRIBUTING.md LICENSE),
      groups_for_extras: [Guides: ~r"guides/"]
    ]
  end

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{},
      files:
        ~w(lib native Cargo.toml Cargo.lock mix.exs .formatter.exs README.md CHANGELOG.md LICENSE guides)
    ]
  end
end

defmodule Mix.Tasks.Compile.GenApiNative do
  @moduledoc false
  # Builds the Rust workspace with cargo and puts the library where the code
  # server finds it: priv/native/gen_api_nif.so.
  use Mix.Task.Compiler

  @library "gen_api_nif"

  @impl true
  def run(_args) do
    root = File.cwd!()

    target =
      System.get_env("CARGO_TARGET_DIR") ||
        Path.join(Path.dirname(Mix.Project.build_path()), "native")

    args = ~w(build --release --locked --quiet --package gen_api_nif --target-dir) ++ [target]

    with cargo when is_binary(cargo) <- System.find_executable("cargo"),
         {_output, 0} <-
           System.cmd(cargo, args, cd: root, into: IO.stream(), stderr_to_stdout: true) do
      install(Path.expand(Path.join([target, "release", built_name()]), root), root)
    else
      nil ->
        error(
          "cargo was not found: phoenix_gen_api needs Rust 1.91 or newer (rustup or your distribution) to build its native library"
        )

      {_output, status} ->
        error("cargo build of #{@library} ended with exit status #{status}")
    end
  end

  @impl true
  def clean, do: File.rm_rf!(Path.join(["priv", "native"]))

  # Renamed into place: a running VM may have the old file mapped.
  defp install(built, root) do
    dir = Path.join([root, "priv", "native"])
    installed = Path.join(dir, @library <> ".so")

    if same?(built, installed) do
      :noop
    else
      File.mkdir_p!(dir)
      temporary = installed <> ".#{System.pid()}"
      File.cp!(built, temporary)
      File.rename!(temporary, installed)
      Mix.Project.build_structure()
      :ok
    end
  end

  defp same?(a, b), do: File.exists?(b) and File.read!(a) == File.read!(b)

  defp built_name do
    case :os.type() do
      {:unix, :darwin} -> "lib#{@library}.dylib"
      {:win32, _} -> "#{@library}.dll"
      _ -> "lib#{@library}.so"
    end
  end

  defp error(message) do
    Mix.shell().error(message)

    {:error,
     [
       %Mix.Task.Compiler.Diagnostic{
         file: "Cargo.toml",
         message: message,
         position: 0,
         severity: :error,
         compiler_name: "gen_api_native"
       }
     ]}
  end
end
