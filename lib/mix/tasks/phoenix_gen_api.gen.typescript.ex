defmodule Mix.Tasks.PhoenixGenApi.Gen.Typescript do
  @shortdoc "Writes the TypeScript types of an API"
  @moduledoc """
  Writes what a gateway offers as a TypeScript file, for the client `phoenix-gen-api` of npm.

      mix phoenix_gen_api.gen.typescript --out assets/js/gen_api.ts --apis Shop.Prices,Shop.Orders

  The file exports the type `Api` and the constant `functions`:

      import {connect} from "phoenix-gen-api"
      import {functions, type Api} from "./gen_api"

      const api = connect<Api>({socket, topic: "api:lobby", event: "api", functions})
      const price = await api.shop.price({item: "tea", quantity: 3})

  | Option | |
  |---|---|
  | `--out FILE` | the file; required |
  | `--apis Mod,Mod` | modules of this project with `use PhoenixGenApi.Service` functions |
  | `--node NAME` | a gateway that runs; `--cookie` if it is another one than that of `~/.erlang.cookie` |
  | `--contract FILE` | a description as JSON, see `PhoenixGenApi.Contract` |
  | `--watch` | goes on, and writes the file again whenever the functions change; a project is compiled for it |
  | `--check` | writes nothing; the exit status is 1 if the file is not up to date |

  Without `--apis`, `--node` and `--contract` it starts this project and describes the functions of its gateway.

  The same functions give the same file: services, functions and versions are sorted. A file that is up to date is left
  alone.
  """
  use Mix.Task

  alias Mix.PhoenixGenApi.Source
  alias PhoenixGenApi.Contract.TypeScript

  @switches [out: :string, watch: :boolean, check: :boolean] ++ Source.switches()

  @look_ms 1_000

  @impl true
  def run(args) do
    opts = options(args)
    text = text(opts)

    cond do
      opts[:check] -> check(opts[:out], text)
      opts[:watch] -> opts |> write(text) |> watch()
      true -> write(opts, text)
    end
  end

  defp options(args) do
    {opts, rest} = OptionParser.parse!(args, strict: @switches)
    Source.check!(opts)

    cond do
      rest != [] -> Mix.raise("unexpected argument: #{hd(rest)}")
      opts[:out] == nil -> Mix.raise("--out FILE is missing: where to write the types")
      opts[:watch] && opts[:check] -> Mix.raise("--watch writes, and --check does not")
      true -> opts
    end
  end

  defp check(file, text) do
    if File.read(file) == {:ok, text},
      do: Mix.shell().info("#{file} is up to date"),
      else: Mix.raise("#{file} is not up to date: run mix phoenix_gen_api.gen.typescript")
  end

  defp write(opts, text) do
    file = opts[:out]

    if File.read(file) != {:ok, text} do
      File.mkdir_p!(Path.dirname(file))
      File.write!(file, text)
      Mix.shell().info("* wrote #{file}")
    end

    opts
  end

  defp watch(opts) do
    Process.sleep(@look_ms)

    try do
      write(opts, text(opts))
    rescue
      # A file that is half written, code that does not compile, a gateway that restarts.
      error -> Mix.shell().error(Exception.message(error))
    end

    watch(opts)
  end

  defp text(opts) do
    description = Source.description(opts)

    for name <- TypeScript.left_out(description),
        do: Mix.shell().error("left out, as JavaScript has another use for the name: #{name}")

    TypeScript.file(description)
  end
end
