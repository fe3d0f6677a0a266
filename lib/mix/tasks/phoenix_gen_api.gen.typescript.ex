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

  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Contract.TypeScript

  @switches [
    out: :string,
    apis: :string,
    node: :string,
    cookie: :string,
    contract: :string,
    watch: :boolean,
    check: :boolean
  ]

  @look_ms 1_000
  @call_ms 15_000

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
    sources = Enum.filter([:apis, :node, :contract], &opts[&1])

    cond do
      rest != [] -> Mix.raise("unexpected argument: #{hd(rest)}")
      opts[:out] == nil -> Mix.raise("--out FILE is missing: where to write the types")
      length(sources) > 1 -> Mix.raise("only one of --apis, --node and --contract makes sense")
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
    description = description(opts)

    for name <- TypeScript.left_out(description),
        do: Mix.shell().error("left out, as JavaScript has another use for the name: #{name}")

    TypeScript.file(description)
  end

  defp description(opts) do
    cond do
      names = opts[:apis] -> of_modules(names)
      node = opts[:node] -> of_node(node, opts[:cookie])
      file = opts[:contract] -> of_file(file)
      true -> of_project()
    end
  end

  defp of_modules(names) do
    compile()
    functions = names |> String.split(",", trim: true) |> Enum.flat_map(&functions/1)
    Contract.describe(functions: functions)
  end

  defp functions(name) do
    module = Module.concat([String.trim(name)])

    cond do
      not Code.ensure_loaded?(module) ->
        Mix.raise("there is no module #{inspect(module)}")

      not function_exported?(module, :__gen_api__, 0) ->
        Mix.raise("#{inspect(module)} has no @api functions")

      true ->
        module.__gen_api__()
    end
  end

  # Again for every look, which finds what has changed.
  defp compile do
    Enum.each(["compile.all", "compile"], &Mix.Task.reenable/1)
    Mix.Task.run("compile")
  end

  defp of_node(name, cookie) do
    node = String.to_atom(name)
    connect(node, cookie)

    try do
      :erpc.call(node, Contract, :describe, [], @call_ms)
    catch
      _kind, reason -> Mix.raise("#{name} does not describe its functions: #{inspect(reason)}")
    end
  end

  defp connect(node, cookie) do
    unless Node.alive?() do
      domain = if String.contains?("#{node}", "."), do: :longnames, else: :shortnames
      own = :"phoenix_gen_api_#{System.pid()}"

      with {:error, reason} <- :net_kernel.start(own, %{name_domain: domain, hidden: true}),
           do: Mix.raise("distribution does not start: #{inspect(reason)}")
    end

    if cookie, do: Node.set_cookie(node, String.to_atom(cookie))

    unless Node.connect(node),
      do: Mix.raise("cannot connect with #{node}: is its name right, and the cookie?")
  end

  defp of_file(file) do
    with {:ok, text} <- File.read(file),
         {:ok, %{"phoenix_gen_api" => "1", "services" => _} = description} <- JSON.decode(text) do
      description
    else
      {:error, reason} when is_atom(reason) ->
        Mix.raise("cannot read #{file}: #{:file.format_error(reason)}")

      _other ->
        Mix.raise("#{file} is no description of this version")
    end
  end

  defp of_project do
    Mix.Task.run("app.start")
    Contract.describe()
  end
end
