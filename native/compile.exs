defmodule Mix.Tasks.Compile.GenApiNative do
  @moduledoc false
  # Puts the native library where the code server finds it, priv/native/gen_api_nif.so: downloaded
  # where this version was published with one for this machine, otherwise built with cargo.
  #
  # rustler_precompiled finds the artefact, fetches it and compares its checksum. Its macro is not
  # used: it would load the library while modules load, where a failure has no words, and would
  # build with the package rustler instead of cargo.
  use Mix.Task.Compiler

  @crate "gen_api_nif"
  @module PhoenixGenApi.Native
  @checksums "checksum-#{@module}.exs"
  # As in .github/workflows/release.yml. OTP 27 is NIF version 2.17, and newer ones take it.
  @targets ~w(
    aarch64-apple-darwin
    aarch64-unknown-linux-gnu
    aarch64-unknown-linux-musl
    x86_64-apple-darwin
    x86_64-pc-windows-msvc
    x86_64-unknown-linux-gnu
    x86_64-unknown-linux-musl
  )
  @nif_versions ["2.17"]

  @impl true
  def run(_args) do
    case library(Mix.Project.config()) do
      {:ok, file} -> install(file)
      {:error, message} -> error(message)
    end
  end

  @impl true
  def clean, do: File.rm_rf!(Path.dirname(installed()))

  defp library(config) do
    case prebuilt(config) do
      {:build, why} -> built(why)
      downloaded -> downloaded
    end
  end

  ## Downloaded

  defp prebuilt(config) do
    case url(config) do
      nil ->
        {:build, "the repository has no address yet that they could come from"}

      url ->
        why = reason_to_build(config[:version])

        if Code.ensure_loaded?(RustlerPrecompiled),
          do: download(url, config[:version], why),
          else:
            {:build,
             why || "that takes {:rustler_precompiled, \"~> 0.9\"} among your dependencies"}
    end
  end

  # Called also where it is to build: its task for the checksums reads what this call writes.
  defp download(url, version, why) do
    # The application has a directory, and its priv is that of the sources, before the first module is compiled.
    File.mkdir_p!(Path.dirname(installed()))
    File.mkdir_p!(Mix.Project.compile_path())
    Code.prepend_path(Mix.Project.compile_path())
    Mix.Project.build_structure()

    options = [
      otp_app: :phoenix_gen_api,
      crate: @crate,
      base_url: url,
      version: version,
      targets: @targets,
      nif_versions: @nif_versions,
      force_build: why != nil
    ]

    case apply(RustlerPrecompiled, :__using__, [@module, options]) do
      {:force_build, _options} ->
        {:build, why || "#{version} is a development version"}

      {:ok, %{load_from: {app, path}}} ->
        {:ok, Application.app_dir(app, path <> extension())}

      {:error, message} ->
        {:error, refused(url, message)}
    end
  end

  # A slash at the end: rustler_precompiled cannot append to a host alone.
  defp url(config) do
    case {System.get_env("PHOENIX_GEN_API_NATIVE_URL"), config[:source_url]} do
      {nil, nil} -> nil
      {nil, repository} -> "#{repository}/releases/download/v#{config[:version]}/"
      {mirror, _repository} -> String.trim_trailing(mirror, "/") <> "/"
    end
  end

  defp reason_to_build(version) do
    published = for {name, _sum} <- checksums(), name =~ "#{@crate}-v#{version}-nif-", do: name

    cond do
      forced?() -> "building is asked for by the environment or the config"
      published == [] -> "#{@checksums} lists no library of version #{version}"
      not Code.ensure_loaded?(RustlerPrecompiled) -> nil
      true -> reason_of_target(published)
    end
  end

  defp reason_of_target(published) do
    case apply(RustlerPrecompiled, :target, []) do
      {:ok, target} ->
        unless Enum.any?(published, &String.contains?(&1, "-#{target}.")),
          do: "none is published for #{target}"

      {:error, message} ->
        message |> String.split("\n") |> hd()
    end
  end

  defp forced? do
    forced_all? = System.get_env("RUSTLER_PRECOMPILED_FORCE_BUILD_ALL") in ["1", "true"]

    System.get_env("PHOENIX_GEN_API_BUILD") in ["1", "true"] or debug?() or
      Application.get_env(:rustler_precompiled, :force_build_all, forced_all?) or
      Application.get_env(:rustler_precompiled, :force_build, [])[:phoenix_gen_api] == true
  end

  defp checksums do
    case File.read(@checksums) do
      {:ok, text} -> text |> Code.eval_string([], file: @checksums) |> elem(0)
      {:error, _none} -> %{}
    end
  end

  defp refused(url, message) do
    # The rest is about building with the package rustler.
    [message | _rest] = String.split(message, "\n\n", parts: 2)

    """
    the prebuilt native library from #{url} cannot be used.

    #{message}

    PHOENIX_GEN_API_NATIVE_URL names another place to fetch it from. With PHOENIX_GEN_API_BUILD=1 it is built here,
    with Rust. A bad download stays in the cache of rustler_precompiled until it is removed there.
    """
  end

  ## Built

  defp built(why) do
    root = File.cwd!()

    target =
      System.get_env("CARGO_TARGET_DIR") ||
        Path.join(Path.dirname(Mix.Project.build_path()), "native")

    args = ~w(build --profile #{profile()} --locked --package #{@crate} --target-dir) ++ [target]

    with cargo when is_binary(cargo) <- System.find_executable("cargo"),
         0 <- cargo(cargo, args, root) do
      {:ok, Path.expand(Path.join([target, profile(), built_name()]), root)}
    else
      nil ->
        {:error,
         "cargo was not found: phoenix_gen_api needs Rust 1.91 or newer (rustup or your distribution) " <>
           "to build its native library. No prebuilt one is taken: #{why}"}

      status ->
        {:error, "cargo build of #{@crate} ended with exit status #{status}"}
    end
  end

  # Both in Cargo.toml; the second is for debuggers and profilers.
  defp profile, do: if(debug?(), do: "release-debug", else: "release")

  defp debug?, do: System.get_env("PHOENIX_GEN_API_DEBUG") in ["1", "true"]

  defp cargo(executable, args, root) do
    options = [:binary, :exit_status, :stderr_to_stdout, :hide, line: 4096, args: args, cd: root]
    port = Port.open({:spawn_executable, executable}, options)
    show(port, "", :quiet)
  end

  # Passed on line by line: minutes without a word look like a hang. Where there was nothing to do cargo
  # only says that it has finished, which would be noise at every compilation.
  defp show(port, begun, state) do
    receive do
      {^port, {:data, {:noeol, part}}} ->
        show(port, begun <> part, state)

      {^port, {:data, {:eol, rest}}} ->
        show(port, "", show_line(begun <> rest, state))

      {^port, {:exit_status, status}} ->
        if begun != "", do: show_line(begun, state)
        status
    end
  end

  defp show_line("    Finished" <> _rest, :quiet), do: :quiet

  defp show_line(line, state) do
    starts? = state == :quiet and line =~ ~r/^ +(Updating|Downloading|Downloaded|Compiling) /

    if starts? do
      Mix.shell().info(
        "Building the native library with cargo. This takes one to three minutes, most of them for the " <>
          "last crate, #{@crate}, and is only done again when its sources change."
      )
    end

    Mix.shell().info(line)
    if starts?, do: :shown, else: state
  end

  defp built_name do
    case :os.type() do
      {:unix, :darwin} -> "lib#{@crate}.dylib"
      {:win32, _} -> "#{@crate}.dll"
      _ -> "lib#{@crate}.so"
    end
  end

  ## Installed

  defp installed, do: Path.expand("priv/native/#{@crate}#{extension()}")

  # What :erlang.load_nif/2 appends, on macOS too.
  defp extension, do: if(match?({:win32, _}, :os.type()), do: ".dll", else: ".so")

  # Renamed into place: a running VM may have the old file mapped.
  defp install(file) do
    if same?(file, installed()) do
      remove_extracted(file)
      :noop
    else
      File.mkdir_p!(Path.dirname(installed()))
      temporary = installed() <> ".#{System.pid()}"
      File.cp!(file, temporary)
      File.rename!(temporary, installed())
      remove_extracted(file)
      Mix.Project.build_structure()
      :ok
    end
  end

  # A downloaded library lies beside its copy, and a release would carry both.
  defp remove_extracted(file) do
    if Path.basename(file) != built_name(), do: File.rm!(file)
  end

  defp same?(a, b), do: File.exists?(b) and File.read!(a) == File.read!(b)

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
