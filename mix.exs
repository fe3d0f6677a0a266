Code.require_file("native/compile.exs", __DIR__)

defmodule PhoenixGenApi.MixProject do
  use Mix.Project

  @version "0.1.0"
  @description "Turns a Phoenix application into a dynamic API gateway for an Erlang cluster"
  # The address of the repository, once it has one. Links of the package and of the documentation
  # come from it, and prebuilt native libraries are looked for in its releases.
  @source_url nil

  def project do
    [
      app: :phoenix_gen_api,
      version: @version,
      description: @description,
      source_url: @source_url,
      elixir: "~> 1.18",
      compilers: [:gen_api_native | Mix.compilers()],
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      deps: deps(),
      package: package(),
      docs: docs(),
      aliases: [docs: [&without_debian/1, "docs"]],
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
        {:plug, "~> 1.14", optional: true},
        {:telemetry, "~> 1.0", optional: true},
        {:telemetry_metrics, "~> 1.0", optional: true},
        {:jason, "~> 1.4", optional: true},
        # Fetches a prebuilt native library instead of building it: native/compile.exs.
        {:rustler_precompiled, "~> 0.8.4 or ~> 0.9.0", optional: true, runtime: false},
        {:ex_doc, "~> 0.34", only: :dev, runtime: false},
        {:bandit, "~> 1.5", only: :test},
        {:plug_cowboy, "~> 2.7", only: :test}
      ]
    end
  end

  defp docs do
    [
      main: "readme",
      source_ref: "v#{@version}",
      extras: extras(),
      groups_for_extras: [
        Introduction: ~r"^README|guides/(getting_started|services|cheatsheet)|livebooks/",
        "For your clients":
          ~r"guides/(channels|http|clients|arguments|streams|relay|rate_limiting)",
        "Running it":
          ~r"guides/(configuration|deployment|security|reliability|telemetry|diagnostics|testing|troubleshooting|versions_and_rollout)",
        "How it is built": ~r"guides/(architecture|benchmarks)|native/README",
        "About the project":
          ~r"CHANGELOG|CONTRIBUTING|SECURITY|CODE_OF_CONDUCT|LICENSE|NOTICE|usage-rules|guides/migrating"
      ],
      groups_for_modules: groups_for_modules(),
      nest_modules_by_prefix: [PhoenixGenApi.Errors]
    ]
  end

  # Debian keeps an ExDoc beside Elixir, with two traps. Mix takes its task even where a dependency brings
  # another ExDoc. And its makeup_c names ex_doc as an application that it needs, ex_doc names makeup_c,
  # and OTP follows that circle until memory ends, whichever ExDoc is used.
  defp without_debian(_args) do
    Mix.Task.run("loadpaths")
    :code.purge(Mix.Tasks.Docs)
    :code.delete(Mix.Tasks.Docs)

    with path when is_list(path) <- :code.where_is_file(~c"makeup_c.app"),
         {:ok, [{:application, :makeup_c, spec}]} <- :file.consult(path) do
      _ = :application.unload(:makeup_c)
      spec = Keyword.update!(spec, :applications, &(&1 -- [:ex_doc]))
      :ok = :application.load({:application, :makeup_c, spec})
    end
  end

  # Guides in the order in which one would read them; those not named here come after.
  defp extras do
    first =
      ~w(getting_started.md services.md cheatsheet.cheatmd channels.md http.md clients.md arguments.md streams.md relay.md
         rate_limiting.md versions_and_rollout.md configuration.md deployment.md security.md reliability.md
         telemetry.md diagnostics.md testing.md troubleshooting.md architecture.md benchmarks.md migrating.md)

    guides = Path.wildcard("guides/*.{md,cheatmd}")
    first = for name <- first, path = "guides/" <> name, path in guides, do: path

    ["README.md" | first] ++
      (guides -- first) ++
      Path.wildcard("livebooks/*.livemd") ++
      [{:"native/README.md", filename: "native", title: "The native side"}] ++
      [{:"usage-rules.md", filename: "usage-rules", title: "Rules for coding assistants"}] ++
      ~w(CHANGELOG.md CONTRIBUTING.md SECURITY.md CODE_OF_CONDUCT.md NOTICE LICENSE)
  end

  defp groups_for_modules do
    [
      Gateway: [PhoenixGenApi, ~r/\.Executor/, ~r/\.Hooks$/, ~r/\.Permission/, ~r/\.StreamCall$/],
      Structs: [~r/\.Structs\./],
      "Phoenix channels": [~r/\.Channel/],
      HTTP: [~r/\.Http/, ~r/\.Plug$/],
      "Functions and their configs": [
        ~r/\.Config(Db|Puller|Pusher|Receiver|Failed)/,
        ~r/\.Contract$/,
        ~r/\.JsonConfig/,
        ~r/\.Service$/
      ],
      Arguments: [~r/\.ArgumentHandler/],
      Nodes: [~r/\.NodeSelector/, ~r/\.ServiceGuard/],
      Limits: [~r/\.RateLimiter/, ~r/\.WorkerPool/],
      Relay: [~r/\.Relay/],
      "Configuration and security": [
        PhoenixGenApi.Config,
        PhoenixGenApi.BootAudit,
        PhoenixGenApi.Security
      ],
      "Seeing what happens": [~r/\.Telemetry/, ~r/\.Diagnostics/, ~r/\.Doctor$/],
      JSON: [~r/ImplHelper$/],
      Testing: [~r/\.Testing$/],
      "Mix tasks": [~r/^Mix\.Tasks\./],
      Errors: [~r/\.Errors\./]
    ]
  end

  # On Hex `phoenix_gen_api` is the pure-Elixir library, whose application and modules have the same names.
  defp package do
    [
      name: "phoenix_gen_api_native",
      licenses: ["Apache-2.0"],
      links: links(@source_url),
      files: ~w(
          lib priv/console mix.exs .formatter.exs
          native/compile.exs native/README.md native/gen_api_nif/Cargo.toml native/gen_api_nif/src
          native/gen_api_core/Cargo.toml native/gen_api_core/src native/gen_api_core/benches
          Cargo.toml Cargo.lock .cargo/config.toml
          README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md CODE_OF_CONDUCT.md LICENSE NOTICE
          usage-rules.md guides livebooks
        ) ++ Path.wildcard("checksum-*.exs")
    ]
  end

  defp links(nil), do: %{}

  defp links(url),
    do: %{"Repository" => url, "Changelog" => "#{url}/blob/v#{@version}/CHANGELOG.md"}
end
