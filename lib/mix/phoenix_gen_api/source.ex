defmodule Mix.PhoenixGenApi.Source do
  @moduledoc false
  # Where the tasks that describe functions have them from, with the options that they share.

  alias PhoenixGenApi.Contract

  @call_ms 15_000

  @switches [apis: :string, node: :string, cookie: :string, contract: :string]

  @doc "The options, for `OptionParser`."
  @spec switches() :: keyword(:string)
  def switches, do: @switches

  @doc "Raises a `Mix.Error` if the options name several sources."
  @spec check!(keyword()) :: :ok
  def check!(opts) do
    if Enum.count([:apis, :node, :contract], &opts[&1]) > 1,
      do: Mix.raise("only one of --apis, --node and --contract makes sense"),
      else: :ok
  end

  @doc "The description that the options name; raises a `Mix.Error` if there is none."
  @spec description(keyword()) :: Contract.t()
  def description(opts) do
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

  @doc "That in a file."
  @spec of_file(Path.t()) :: Contract.t()
  def of_file(file) do
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
