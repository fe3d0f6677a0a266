defmodule PhoenixGenApi.Diagnostics.CallFlow do
  @moduledoc false
  # What becomes of a request for one function, stage by stage, read off its config.

  alias PhoenixGenApi.{ConfigDb, Gateway, RateLimiter}
  alias PhoenixGenApi.Diagnostics.Stages
  alias PhoenixGenApi.NodeSelector.Preview
  alias PhoenixGenApi.Structs.FunConfig

  @doc "The flow of a request with this version, or without one."
  @spec for_function(ConfigDb.service(), String.t(), String.t() | nil) :: map()
  def for_function(service, type, version) do
    case ConfigDb.resolve(service, type, version) do
      {:ok, config} -> explain(config)
      {:error, reason} -> unknown(service, type, version, reason)
    end
  end

  @doc "The flows of all functions, ascending by service, request type and version."
  @spec list(boolean()) :: [map()]
  def list(include_disabled?) do
    for {service, types} <- functions(),
        {type, versions} <- Enum.sort(types),
        version <- versions,
        # Exactly this version: a lookup by it does not fall back on another.
        flow = for_function(service, type, version),
        include_disabled? or flow.config != nil,
        # Gone since it was listed.
        flow[:error] != :not_found,
        do: flow
  end

  defp functions do
    case Gateway.handle(:config_db) do
      {:ok, _table} -> Enum.sort(ConfigDb.get_all_functions())
      {:error, :not_running} -> []
    end
  end

  defp unknown(service, type, version, reason) do
    %{
      service: service,
      request_type: type,
      version: version,
      config: nil,
      error: reason,
      steps: Stages.unknown(service, type, version, reason)
    }
  end

  @doc "The flow of a config."
  @spec explain(FunConfig.t()) :: map()
  def explain(%FunConfig{} = config) do
    limits = limits(config.service, config.request_type)
    listed = Preview.listed(config)
    {reachable, unreachable} = Enum.split_with(listed, & &1.connected?)

    %{
      service: config.service,
      request_type: config.request_type,
      version: config.version,
      config: config,
      local?: config.nodes == :local,
      nodes: if(is_tuple(config.nodes), do: config.nodes, else: names(listed)),
      reachable_nodes: names(reachable),
      unreachable_nodes: names(unreachable),
      node_statuses: listed,
      response_type: config.response_type,
      choose_node_mode: config.choose_node_mode,
      timeout: config.timeout,
      rate_limit: limits,
      permission: Stages.permission(config),
      hooks: %{
        before: config.before_execute,
        after: config.after_execute,
        timeout: config.hook_timeout
      },
      retry: FunConfig.normalize_retry(config.retry),
      mfa: config.mfa,
      steps: Stages.describe(config, limits, listed)
    }
  end

  defp names(listed), do: Enum.map(listed, & &1.node)

  @doc "The limits that requests for a function are charged to."
  @spec limits(String.t(), String.t()) :: %{global: [map()], api: [map()]}
  def limits(service, type) do
    if RateLimiter.status().enabled do
      %{global: global, api: api} = RateLimiter.get_configured_limits()

      %{
        global: global,
        api: for(%{service: ^service, request_type: ^type} = limit <- api, do: limit)
      }
    else
      %{global: [], api: []}
    end
  end
end
