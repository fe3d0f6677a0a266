defmodule PhoenixGenApi.PackageTest do
  use ExUnit.Case, async: true

  @root Path.expand("..", __DIR__)

  test "mix.exs and the workspace of crates have one version" do
    assert [_, version] = Regex.run(~r/^version = "(.+)"$/m, read("Cargo.toml"))
    assert version == Mix.Project.config()[:version]
  end

  test "the release workflow builds the libraries that are looked for, and names the crates in each" do
    [_, targets] = Regex.run(~r/@targets ~w\(([^)]+)\)/, read("native/compile.exs"))
    built = Regex.scan(~r/\{ target: ([^,]+),/, read(".github/workflows/release.yml"))
    described = Regex.scan(~r/^  "(.+)",$/m, read("native/about.toml"))

    assert length(built) > 5

    for listed <- [built, described] do
      assert Enum.sort(String.split(targets)) == Enum.sort(for [_, target] <- listed, do: target)
    end
  end

  test "libraries are looked for under the NIF version that the crate asks for" do
    assert [_, version] = Regex.run(~r/@nif_versions \["(.+)"\]/, read("native/compile.exs"))
    feature = "nif_version_" <> String.replace(version, ".", "_")
    assert read("native/gen_api_nif/Cargo.toml") =~ feature
  end

  test "what the package lists is there, and says under which license it is" do
    package = Mix.Project.config()[:package]
    for file <- package[:files], do: assert(File.exists?(Path.join(@root, file)), file)

    assert "LICENSE" in package[:files]
    assert package[:licenses] == ["Apache-2.0"]
    assert read("LICENSE") =~ "Apache License"
    assert read("Cargo.toml") =~ ~s(license = "Apache-2.0")
  end

  test "on Hex the package has a name of its own, and the application the name that is used in code" do
    project = Mix.Project.config()
    assert project[:app] == :phoenix_gen_api
    assert project[:package][:name] == "phoenix_gen_api_native"
  end

  if :os.type() == {:unix, :linux} and
       System.get_env("PHOENIX_GEN_API_DEBUG") not in ["1", "true"] do
    test "the native library carries no names for debuggers, which are four fifths of it" do
      assert File.stat!(PhoenixGenApi.Native.file()).size < 5_000_000
    end
  end

  test "every action of the workflows is pinned to a commit and says which version that is" do
    for workflow <- Path.wildcard(Path.join(@root, ".github/workflows/*.yml")),
        [_, action] <- Regex.scan(~r/uses: (.*)$/m, File.read!(workflow)) do
      assert action =~ ~r/^[\w.-]+(\/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/, action
    end
  end

  test "the changelog has the version of the package, or what is not yet released" do
    version = Regex.escape(Mix.Project.config()[:version])
    assert read("CHANGELOG.md") =~ ~r/^## \[(Unreleased|#{version})\]/m
  end

  test "what may stay out of the package is not needed to compile it" do
    files = Mix.Project.config()[:package][:files]

    for {manifest, folder} <- [{"native/gen_api_core/Cargo.toml", "native/gen_api_core"}],
        [_, kind] <- Regex.scan(~r/^\[\[(bench|test|example)\]\]/m, read(manifest)) do
      path =
        Path.join(
          folder,
          %{"bench" => "benches", "test" => "tests", "example" => "examples"}[kind]
        )

      assert path in files, "#{manifest} names a #{kind}, and #{path} is not in the package"
    end
  end

  test "each pattern that groups modules in the documentation matches one, and each module is in a group" do
    patterns =
      for {_group, patterns} <- docs(:groups_for_modules), pattern <- patterns, do: pattern

    modules = documented_modules()
    assert length(modules) > 30

    for pattern <- patterns do
      assert Enum.any?(modules, &in_group?(&1, pattern)), "#{inspect(pattern)} matches no module"
    end

    for module <- modules do
      assert Enum.any?(patterns, &in_group?(module, &1)), "#{inspect(module)} is in no group"
    end
  end

  test "each part of a pattern that groups pages matches one, and each page is in a group" do
    pages = for page <- docs(:extras), do: with({path, _options} <- page, do: to_string(path))
    groups = docs(:groups_for_extras)

    for {_group, regex} <- groups, part <- parts(regex.source) do
      assert Enum.any?(pages, &(&1 =~ Regex.compile!(part))), "#{part} matches no page"
    end

    for page <- pages -- ["README.md"] do
      assert Enum.any?(groups, fn {_group, regex} -> page =~ regex end), "#{page} is in no group"
    end
  end

  defp docs(key), do: Mix.Project.config()[:docs][key]

  # As ExDoc sees them: without those that say `@moduledoc false`, and without those of the tests.
  defp documented_modules do
    {:ok, modules} = :application.get_key(:phoenix_gen_api, :modules)

    for module <- modules,
        List.starts_with?(module.module_info(:compile)[:source], ~c"#{@root}/lib/"),
        {:docs_v1, _, _, _, doc, _, _} <- [Code.fetch_docs(module)],
        doc != :hidden,
        do: module
  end

  defp in_group?(module, %Regex{} = regex), do: inspect(module) =~ regex
  defp in_group?(module, pattern), do: module == pattern

  # The alternatives of a regular expression: those outside its parentheses, each with those inside.
  defp parts(source) do
    for alternative <- String.split(source, ~r/\|(?![^(]*\))/),
        part <- inner(alternative),
        do: part
  end

  defp inner(alternative) do
    case Regex.run(~r/^(.*)\((.*)\)(.*)$/, alternative) do
      nil -> [alternative]
      [_, before, inside, rest] -> for one <- String.split(inside, "|"), do: before <> one <> rest
    end
  end

  defp read(path), do: @root |> Path.join(path) |> File.read!()
end
