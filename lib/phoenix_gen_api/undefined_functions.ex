defmodule PhoenixGenApi.UndefinedFunctions do
  @moduledoc false
  # Configs of functions that do not exist, where that can be told: those of this node when they are
  # stored, those of other nodes when a pull or a push has brought them. They are stored all the same,
  # as their code may be on its way; a warning names them, and `health_check/1` does until they are
  # there.
  #
  # Rows: {{service, request_type, version}, "Shop.Api.find/2"}. The table belongs to the supervisor.

  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.Format
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.FunConfig

  require Log

  @table __MODULE__
  # Of another node.
  @timeout_ms 5_000
  # Functions that a line names.
  @named 5

  # The one function that is not called as its config says.
  @relay Module.concat(["PhoenixGenApi", "Relay"])

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set])

  @doc "The name of the function of a config, with its arity."
  @spec name(FunConfig.t()) :: String.t()
  def name(%{mfa: mfa} = config), do: Format.function(mfa, FunConfig.arity(config))

  @doc "Those of the configs whose function this node does not have, wherever it is to run."
  @spec here([FunConfig.t()]) :: [FunConfig.t()]
  def here(configs) do
    for %FunConfig{mfa: {module, function, args}} = config <- configs,
        is_atom(module) and is_atom(function) and is_list(args) and not List.improper?(args),
        {module, function} != {@relay, :handle_relay},
        not (Code.ensure_loaded?(module) and
               function_exported?(module, function, FunConfig.arity(config))),
        do: config
  end

  @doc "The same of another node that has loaded their modules; none if it does not tell."
  @spec elsewhere(node(), [FunConfig.t()], timeout()) :: [FunConfig.t()]
  def elsewhere(_node, [], _timeout), do: []

  def elsewhere(node, configs, timeout) do
    # Plain OTP, for nodes without the library.
    {modules, rest} =
      configs
      |> Enum.map(fn %{mfa: {module, function, _args}} = config ->
        {module, {function, FunConfig.arity(config)}}
      end)
      |> Enum.unzip()

    {functions, arities} = Enum.unzip(rest)
    args = [&:erlang.function_exported/3, modules, functions, arities]

    case RPC.call(node, :lists, :zipwith3, args, timeout) do
      {:return, exported} when length(exported) == length(configs) ->
        for {config, false} <- Enum.zip(configs, exported), do: config

      _not_told ->
        []
    end
  end

  @doc "Looks for the functions of this node among configs that were just stored, and reports."
  @spec check_local([FunConfig.t()], ConfigFailed.source()) :: :ok
  def check_local(configs, source) do
    local = Enum.filter(configs, &match?(%{nodes: :local}, &1))
    if local != [], do: report(local, here(local), source, node())
    :ok
  end

  @doc """
  Looks for the functions of other nodes among the configs of a push, in a process of its own: the
  answer to the push does not wait for them. `sender` is asked first.
  """
  @spec check_pushed([FunConfig.t()], node() | nil) :: pid()
  def check_pushed(configs, sender) do
    spawn(fn ->
      for {node, configs} <- Enum.group_by(configs, &whom_to_ask(&1, sender)), node != nil do
        modules = for %{mfa: {module, _, _}} <- configs, uniq: true, do: module

        with {:return, :ok} <-
               RPC.call(node, :code, :ensure_modules_loaded, [modules], @timeout_ms),
             do: report(configs, elsewhere(node, configs, @timeout_ms), :push, node)
      end
    end)
  end

  defp whom_to_ask(%{nodes: nodes}, sender) when is_list(nodes) do
    nodes = for node <- nodes, do: if(is_binary(node), do: existing(node), else: node)
    connected = [node() | Node.list(:connected)]
    Enum.find([sender | nodes], &(&1 in nodes and &1 in connected))
  end

  defp whom_to_ask(_local_or_dynamic, _sender), do: nil

  defp existing(name) do
    String.to_existing_atom(name)
  rescue
    ArgumentError -> nil
  end

  defp report(checked, undefined, source, node) do
    note(checked, undefined)
    for config <- undefined, do: record(config, source, node)

    if undefined != [] do
      names = for config <- undefined, uniq: true, do: name(config)

      Log.warning(
        "#{SafeInspect.name(hd(undefined).service)} has functions that #{node} does not: " <>
          SafeInspect.list(names, @named)
      )
    end
  end

  @doc "Records the config of a function that does not exist."
  @spec record(FunConfig.t(), ConfigFailed.source(), node()) :: ConfigFailed.entry()
  def record(config, source, node),
    do: ConfigFailed.record(config, "undefined_function: #{name(config)}", source, node)

  @doc "Notes which of the configs that were looked at have no function."
  @spec note([FunConfig.t()], [FunConfig.t()]) :: :ok
  def note(checked, undefined) do
    for config <- checked -- undefined, do: :ets.delete(@table, key(config))
    for config <- undefined, do: :ets.insert(@table, {key(config), name(config)})
    :ok
  rescue
    # The gateway is going down.
    ArgumentError -> :ok
  end

  defp key(config),
    do: {to_string(config.service), config.request_type, FunConfig.version(config)}

  @doc "The functions of configs for which `stored?` still says so; the others are forgotten."
  @spec current((String.t(), String.t(), String.t() -> boolean())) :: [String.t()]
  def current(stored?) do
    for {{service, type, version} = key, name} <- :ets.tab2list(@table),
        stored?.(service, type, version) or not :ets.delete(@table, key),
        uniq: true,
        do: name
  end
end
