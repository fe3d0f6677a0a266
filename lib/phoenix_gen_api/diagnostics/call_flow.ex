defmodule PhoenixGenApi.Diagnostics.CallFlow do
  @moduledoc false
  # Collects the explanations of all stages, for a function or for one request.

  alias PhoenixGenApi.{ConfigDb, ErrorResponse, FailureLog, Gateway, Plan}
  alias PhoenixGenApi.Executor.Preview
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @of_config [
    :service,
    :request_type,
    :version,
    :response_type,
    :choose_node_mode,
    :timeout,
    :mfa
  ]

  @doc "The flow of a request with this version, or without one."
  @spec for_function(ConfigDb.service(), String.t(), String.t() | nil) :: map()
  def for_function(service, type, version) do
    {flow, stages} = build(service, type, version, nil)
    Map.put(flow, :steps, for({phase, %{desc: desc}} <- stages, do: %{phase: phase, desc: desc}))
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

  @doc "The flow of one request, with a decision for every step."
  @spec for_request(term()) :: map()
  def for_request(params) do
    case decode(params) do
      {:ok, request} ->
        {flow, stages} = build(request.service, request.request_type, request.version, request)
        flow |> Map.put(:request, request) |> decided(stages)

      {:error, error} = undecodable ->
        unknown(nil, nil, nil, error.code)
        |> Map.put(:request, nil)
        |> decided(decode: Request.explain(undecodable))
    end
  end

  # Which id it is makes no difference.
  defp decode(params) do
    case Request.decode(params) do
      {:error, %{message: "Missing required fields: request_id"}} ->
        params
        |> Map.drop([:request_id, "request_id"])
        |> Map.put(:request_id, "inspect_request")
        |> Request.decode()

      decoded ->
        decoded
    end
  end

  defp build(service, type, version, request) do
    {found, lookup} = ConfigDb.Preview.explain(service, type, version)
    start = [decode: Request.explain(request && {:ok, request}), config_lookup: lookup]

    case found do
      {:ok, plan} ->
        stages = Preview.explain(plan, request)
        {known(Plan.config(plan), Map.new(stages)), start ++ stages}

      {:error, reason} ->
        {unknown(service, type, version, reason), start}
    end
  end

  defp known(config, stages) do
    listed = stages.node_selection.nodes
    {reachable, unreachable} = Enum.split_with(listed, & &1.connected?)

    config
    |> Map.take(@of_config)
    |> Map.merge(%{
      config: config,
      local?: config.nodes == :local,
      nodes: if(is_tuple(config.nodes), do: config.nodes, else: names(listed)),
      reachable_nodes: names(reachable),
      unreachable_nodes: names(unreachable),
      node_statuses: listed,
      rate_limit: stages.rate_limit.limits,
      permission: %{strategy: stages.permission.strategy, description: stages.permission.desc},
      hooks: %{
        before: config.before_execute,
        after: config.after_execute,
        timeout: config.hook_timeout
      },
      retry: FunConfig.normalize_retry(config.retry)
    })
  end

  defp names(listed), do: Enum.map(listed, & &1.node)

  defp unknown(service, type, version, reason),
    do: %{service: service, request_type: type, version: version, config: nil, error: reason}

  # The first stage that refuses is the one that the client hears of, unless code of the user's
  # before it decides otherwise. `:runs` means that the function would be called.
  defp decided(flow, stages) do
    steps = for {phase, explanation} <- stages, do: step(phase, explanation)
    refused = Enum.find(steps, &(&1.decision == :refuses))
    unknown = for %{decision: :unknown, phase: phase} <- steps, do: phase

    Map.merge(flow, %{
      steps: steps,
      verdict: if(refused, do: :refused, else: if(unknown == [], do: :runs, else: :unknown)),
      refused_by: refused && refused.phase,
      client_gets: refused && refused.client_gets,
      log_says: refused && refused.log_says,
      unknown: unknown
    })
  end

  defp step(phase, explanation) do
    explanation
    |> Map.take([:desc, :decision, :because, :candidates])
    |> Map.merge(%{
      phase: phase,
      client_gets: client_gets(explanation),
      log_says: log_says(explanation)
    })
  end

  # The words of the log for the same failure.
  defp log_says(%{decision: :refuses, failure: failure}) when not is_binary(failure),
    do: FailureLog.reason(failure)

  defp log_says(%{decision: :refuses, log_says: words}), do: words
  defp log_says(_passes), do: nil

  defp client_gets(%{decision: :refuses, failure: failure}) when not is_binary(failure),
    do: ErrorResponse.build(nil, failure).error

  defp client_gets(%{failure: text_or_nil}), do: text_or_nil
end
