defmodule PhoenixGenApi.PackageTest do
  use ExUnit.Case, async: true

  @root Path.expand("..", __DIR__)

  test "mix.exs and the workspace of crates have one version" do
    assert [_, version] = Regex.run(~r/^version = "(.+)"$/m, read("Cargo.toml"))
    assert version == Mix.Project.config()[:version]
  end

  test "the release workflow builds the libraries that are looked for" do
    [_, targets] = Regex.run(~r/@targets ~w\(([^)]+)\)/, read("native/compile.exs"))
    built = Regex.scan(~r/\{ target: ([^,]+),/, read(".github/workflows/release.yml"))

    assert length(built) > 5
    assert Enum.sort(String.split(targets)) == Enum.sort(for [_, target] <- built, do: target)
  end

  test "the release workflow builds for the NIF version that the crate asks for" do
    assert [_, version] = Regex.run(~r/@nif_versions \["(.+)"\]/, read("native/compile.exs"))
    assert read(".github/workflows/release.yml") =~ ~s(nif-version: "#{version}")

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

  defp read(path), do: @root |> Path.join(path) |> File.read!()
end
