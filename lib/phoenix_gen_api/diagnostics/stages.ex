defmodule PhoenixGenApi.Diagnostics.Stages do
  @moduledoc false
  # The stages of a request in a few words each, as a config has them.

  alias PhoenixGenApi.{ConfigDb, SafeInspect}
  alias PhoenixGenApi.Diagnostics.Format
  alias PhoenixGenApi.NodeSelector.Preview
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @type step :: %{
          required(:phase) => atom(),
          required(:desc) => String.t(),
          optional(atom()) => term()
        }

  @doc "The steps of a request for this config, in the order of the pipeline."
  @spec describe(FunConfig.t(), %{global: [map()], api: [map()]}, [Preview.listed()]) :: [step()]
  def describe(config, limits, listed) do
    [
      {:decode, decode()},
      {:config_lookup, lookup(config)},
      {:rate_limit, limits(limits)},
      {:before_hook,
       hook(config.before_execute, config, "may replace request and config, or reject")},
      {:permission, permission(config).description},
      {:arguments, arguments(config)},
      {:worker_pool, pool(config.response_type)},
      {:node_selection, nodes(config, listed)},
      {:call, call(config)},
      {:after_hook, hook(config.after_execute, config, "sees the response")},
      {:response, response(config.response_type)}
    ]
    |> Enum.map(fn {phase, desc} -> %{phase: phase, desc: desc} end)
  end

  @doc "The steps of a request for which there is no config."
  @spec unknown(term(), term(), term(), atom()) :: [step()]
  def unknown(service, type, version, reason) do
    asked = "#{Format.name(service)} #{Format.name(type)} #{version(version)}"

    [
      %{phase: :decode, desc: decode()},
      %{phase: :config_lookup, desc: "#{asked}: #{why(reason)}"}
    ]
  end

  defp version(nil), do: "without a version"
  defp version(version), do: Format.name(version)

  defp why(:not_found), do: "no such function is registered"
  defp why(:disabled), do: "disabled"
  defp why(:not_running), do: "no gateway runs on this node"

  @doc "Who may call, as a strategy and in words."
  @spec permission(FunConfig.t()) :: %{
          strategy: :none | :any_authenticated | :arg | :role | :callback,
          description: String.t()
        }
  def permission(%FunConfig{permission_callback: {_, _, _} = mfa} = config) do
    where = if config.nodes == :local, do: "the gateway", else: "the node of the call"

    %{
      strategy: :callback,
      description:
        "#{Format.function(mfa)} decides on #{where}, within #{Format.duration(config.hook_timeout)}"
    }
  end

  def permission(%FunConfig{check_permission: check} = config) do
    case check do
      false ->
        %{strategy: :none, description: "everybody may call"}

      :any_authenticated ->
        %{strategy: check, description: "every request with a user_id"}

      {:arg, name} ->
        deep = if config.arg_orders == :map, do: ", or every such entry of its maps", else: ""

        %{
          strategy: :arg,
          description: "the argument #{Format.name(name)}#{deep} must be the user_id"
        }

      {:role, roles} ->
        %{strategy: :role, description: "one of the roles #{names(roles)}"}
    end
  end

  defp decode, do: "a payload of at most #{Format.bytes(Request.max_payload_bytes())}"

  defp lookup(config) do
    origin =
      case ConfigDb.origin(config.service, config.request_type, config.version) do
        :pull -> ", pulled"
        :push -> ", pushed"
        :direct -> ", added here"
        nil -> ""
      end

    "#{Format.name(config.service)} #{Format.name(config.request_type)} " <>
      "#{Format.name(config.version)}#{origin}"
  end

  defp limits(%{global: [], api: []}), do: "no limit applies"

  defp limits(%{global: global, api: api}) do
    Enum.map_join(global, "; ", &"all functions, #{limit(&1)}") <>
      if(global != [] and api != [], do: "; ", else: "") <>
      Enum.map_join(api, "; ", &"this function, #{limit(&1)}")
  end

  @doc "A limit in words."
  @spec limit(map()) :: String.t()
  def limit(limit) do
    key =
      if is_atom(limit.key), do: to_string(limit.key), else: "argument #{Format.name(limit.key)}"

    "#{limit.max_requests} in #{Format.duration(limit.window_ms)} by #{key}"
  end

  defp hook(nil, _config, _does), do: "none"

  defp hook(hook, config, does),
    do: "#{Format.function(hook)}, at most #{Format.duration(config.hook_timeout)}; #{does}"

  defp arguments(%{arg_types: types}) when types in [nil, %{}, []], do: "none are accepted"

  defp arguments(%{arg_types: types, arg_orders: :map}),
    do: "one map of #{names(Map.keys(types))}"

  defp arguments(%{arg_orders: names}), do: names(names)

  @doc "How many arguments the function of a config is called with."
  @spec arity(FunConfig.t()) :: non_neg_integer()
  def arity(%FunConfig{mfa: {_, _, fixed}} = config) do
    given = if config.arg_orders == :map, do: 1, else: length(config.arg_orders || [])
    given + length(fixed) + if(config.request_info, do: 1, else: 0)
  end

  defp pool(:sync), do: "none: the caller waits"
  defp pool(:stream), do: "a slot of :stream_pool for as long as the stream lives"
  defp pool(_async), do: "a task of :async_pool"

  defp nodes(%{nodes: :local}, _listed), do: "the gateway"

  defp nodes(%{nodes: {_, _, _} = mfa} = config, _listed),
    do: "#{Format.function(mfa)} lists them; #{mode(config)}"

  defp nodes(config, listed) do
    up = Enum.count(listed, &(&1.status == :up))
    "#{up} of #{Format.count(length(listed), "node")} usable; #{mode(config)}"
  end

  defp mode(%{choose_node_mode: {_, _, _} = mfa}), do: "#{Format.function(mfa)} chooses"

  defp mode(%{choose_node_mode: {mode, _} = keyed}) when mode in [:hash, :sticky],
    do: SafeInspect.inspect(keyed, 100)

  defp mode(%{choose_node_mode: {:weighted, _weights}}), do: ":weighted"
  defp mode(%{choose_node_mode: mode}), do: SafeInspect.inspect(mode, 100)

  defp call(%{mfa: {module, function, _}} = config) do
    "#{Format.function({module, function})}/#{arity(config)}, at most " <>
      Format.duration(config.timeout) <> retry(FunConfig.normalize_retry(config.retry), config)
  end

  # Streams are not retried.
  defp retry(nil, _config), do: ""
  defp retry(_rule, %{response_type: :stream}), do: ""

  defp retry({mode, n}, config) do
    where = if mode == :same_node, do: "on the same node", else: "on the next nodes"
    causes = Enum.map_join(config.retry_on, ", ", &to_string/1)
    "; again up to #{Format.count(n, "time")} #{where} after #{causes}"
  end

  defp response(:sync), do: "the response"
  defp response(:async), do: "acknowledged before the call; the response follows"
  defp response(:stream), do: "acknowledged before the call; frames follow"
  defp response(:none), do: "acknowledged before the call; nothing follows"

  defp names(names), do: names |> Enum.map_join(", ", &Format.name/1) |> SafeInspect.truncate(300)
end
