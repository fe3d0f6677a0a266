defmodule PhoenixGenApi.NativeCompileTest do
  # native/compile.exs in a project of its own, with stand-ins of cargo and of rustler_precompiled.
  # bin/package tries the real ones.
  use ExUnit.Case, async: true

  @moduletag :tmp_dir
  @compile_exs Path.expand("../native/compile.exs", __DIR__)
  @checksums "checksum-Elixir.PhoenixGenApi.Native.exs"
  @here "libgen_api_nif-v9.9.9-nif-2.17-x86_64-unknown-linux-gnu.so.tar.gz"

  setup %{tmp_dir: dir} do
    File.write!(Path.join(dir, "mix.exs"), """
    System.put_env("PATH", System.fetch_env!("TEST_PATH"))
    Code.require_file(#{inspect(@compile_exs)})

    unless System.get_env("WITHOUT") do
      defmodule RustlerPrecompiled do
        def target, do: {:ok, "nif-2.17-x86_64-unknown-linux-gnu"}

        def __using__(PhoenixGenApi.Native, options) do
          IO.puts("asked \#{options[:base_url]} force_build \#{options[:force_build]}")
          path = "priv/native/libgen_api_nif-v\#{options[:version]}-nif-2.17-x86_64-unknown-linux-gnu"

          cond do
            options[:force_build] ->
              {:force_build, []}

            System.get_env("REFUSED") ->
              {:error, "the checksum of files does not match.\\n\\nAdd the package rustler"}

            true ->
              File.write!(Application.app_dir(:phoenix_gen_api, path <> ".so"), "downloaded")
              {:ok, %{load_from: {:phoenix_gen_api, path}}}
          end
        end
      end
    end

    defmodule P.MixProject do
      use Mix.Project

      def project,
        do: [app: :phoenix_gen_api, version: "9.9.9", source_url: System.get_env("SOURCE"), compilers: [:gen_api_native]]
    end
    """)

    cargo = Path.join(dir, "bin/cargo")
    File.mkdir_p!(Path.dirname(cargo))

    # cargo build --profile PROFILE … TARGET_DIRECTORY
    File.write!(cargo, """
    #!/bin/sh
    [ "$TEST_CARGO" != fails ] || { echo "error: no matching package" >&2; exit 101; }
    profile=$3
    for to; do :; done
    [ -e "$to/$profile" ] || echo "   Compiling gen_api_nif v9.9.9" >&2
    echo "    Finished \\`$profile\\` profile" >&2
    mkdir -p "$to/$profile"
    built=built
    [ "$profile" = release ] || built="built as $profile"
    for name in libgen_api_nif.so libgen_api_nif.dylib; do printf "$built" >"$to/$profile/$name"; done
    """)

    File.chmod!(cargo, 0o755)
    :ok
  end

  defp compile(dir, env \\ %{}) do
    env =
      Map.merge(
        %{
          "MIX_ENV" => "prod",
          "MIX_BUILD_PATH" => nil,
          "CARGO_TARGET_DIR" => nil,
          "PHOENIX_GEN_API_BUILD" => nil,
          "PHOENIX_GEN_API_DEBUG" => nil,
          "PHOENIX_GEN_API_NATIVE_URL" => nil,
          "RUSTLER_PRECOMPILED_FORCE_BUILD_ALL" => nil,
          "TEST_PATH" => Path.join(dir, "bin") <> ":/bin:/usr/bin"
        },
        env
      )

    {output, status} = System.cmd("mix", ["compile"], cd: dir, env: env, stderr_to_stdout: true)
    {output, status, File.ls(Path.join(dir, "priv/native")), installed(dir)}
  end

  defp installed(dir) do
    case File.read(Path.join(dir, "priv/native/gen_api_nif.so")) do
      {:ok, text} -> text
      {:error, reason} -> reason
    end
  end

  defp publish(dir, name \\ @here) do
    File.write!(Path.join(dir, @checksums), inspect(%{name => "sha256:00"}))
  end

  @source %{"SOURCE" => "https://code.example/p"}

  test "without an address of the repository cargo builds, whatever is published", %{tmp_dir: dir} do
    publish(dir)
    assert {output, 0, _files, "built"} = compile(dir)
    refute output =~ "asked"
  end

  test "what is published for this machine is fetched from the release of the version, and cargo does not build",
       %{tmp_dir: dir} do
    publish(dir)
    assert {output, 0, {:ok, ["gen_api_nif.so"]}, "downloaded"} = compile(dir, @source)
    assert output =~ "asked https://code.example/p/releases/download/v9.9.9/ force_build false"
  end

  test "a mirror takes the place of the repository", %{tmp_dir: dir} do
    publish(dir)
    mirror = %{"PHOENIX_GEN_API_NATIVE_URL" => "http://mirror.example"}
    assert {output, 0, _files, "downloaded"} = compile(dir, Map.merge(@source, mirror))
    assert output =~ "asked http://mirror.example/ force_build false"
  end

  test "a download that is refused fails the compilation and is not built over", %{tmp_dir: dir} do
    publish(dir)
    assert {output, 1, _files, :enoent} = compile(dir, Map.put(@source, "REFUSED", "1"))
    assert output =~ "the checksum of files does not match."
    assert output =~ "PHOENIX_GEN_API_BUILD=1"
    refute output =~ "Add the package rustler"
  end

  for name <- ["PHOENIX_GEN_API_BUILD", "RUSTLER_PRECOMPILED_FORCE_BUILD_ALL"] do
    test "#{name} builds with cargo", %{tmp_dir: dir} do
      publish(dir)
      assert {_output, 0, _files, "built"} = compile(dir, Map.put(@source, unquote(name), "1"))
    end
  end

  test "PHOENIX_GEN_API_DEBUG builds with the names that debuggers read, also where a library is published",
       %{tmp_dir: dir} do
    publish(dir)
    env = Map.put(@source, "PHOENIX_GEN_API_DEBUG", "1")
    assert {_output, 0, _files, "built as release-debug"} = compile(dir, env)
    assert File.read!(Path.expand("../Cargo.toml", __DIR__)) =~ "[profile.release-debug]"

    assert {_output, 0, _files, "downloaded"} = compile(dir, @source)
  end

  test "what cargo does is shown while it builds, and nothing when there was nothing to do", %{
    tmp_dir: dir
  } do
    assert {output, 0, _files, "built"} = compile(dir)
    assert output =~ "Building the native library with cargo. This takes"
    assert output =~ "   Compiling gen_api_nif v9.9.9\n    Finished `release` profile\n"

    assert {again, 0, _files, "built"} = compile(dir)
    refute again =~ "cargo"
    refute again =~ "Finished"
  end

  test "an error of cargo is shown and fails the compilation", %{tmp_dir: dir} do
    assert {output, 1, _files, :enoent} = compile(dir, %{"TEST_CARGO" => "fails"})
    assert output =~ "error: no matching package\n"
    assert output =~ "cargo build of gen_api_nif ended with exit status 101"
    refute output =~ "This takes"
  end

  test "the config of rustler_precompiled builds with cargo", %{tmp_dir: dir} do
    publish(dir)
    File.mkdir_p!(Path.join(dir, "config"))

    File.write!(Path.join(dir, "config/config.exs"), """
    import Config
    config :rustler_precompiled, :force_build, phoenix_gen_api: true
    """)

    assert {_output, 0, _files, "built"} = compile(dir, @source)
  end

  test "cargo builds where another version or another machine was published for", %{tmp_dir: dir} do
    for name <- [String.replace(@here, "9.9.9", "9.9.8"), String.replace(@here, "x86_64", "arm")] do
      publish(dir, name)
      assert {output, 0, _files, "built"} = compile(dir, @source)
      assert output =~ "force_build true"
    end
  end

  test "cargo builds where rustler_precompiled is not among the dependencies", %{tmp_dir: dir} do
    publish(dir)
    assert {_output, 0, _files, "built"} = compile(dir, Map.put(@source, "WITHOUT", "1"))
  end

  test "without cargo a sentence says what is missing and why nothing was downloaded", %{
    tmp_dir: dir
  } do
    publish(dir)
    nowhere = Map.put(@source, "TEST_PATH", "/nowhere")

    assert {output, 1, _files, :enoent} = compile(dir, Map.put(nowhere, "WITHOUT", "1"))
    assert output =~ "cargo was not found: phoenix_gen_api needs Rust"
    assert output =~ ~s({:rustler_precompiled, "~> 0.9"} among your dependencies)

    publish(dir, String.replace(@here, "x86_64", "arm"))
    assert {output, 1, _files, :enoent} = compile(dir, nowhere)
    assert output =~ "none is published for nif-2.17-x86_64-unknown-linux-gnu"
  end

  test "compiling again changes nothing", %{tmp_dir: dir} do
    publish(dir)
    assert {_output, 0, _files, "downloaded"} = compile(dir, @source)
    path = Path.join(dir, "priv/native/gen_api_nif.so")
    before = File.stat!(path).inode
    assert {_output, 0, {:ok, ["gen_api_nif.so"]}, "downloaded"} = compile(dir, @source)
    assert File.stat!(path).inode == before
  end
end
