defmodule PhoenixGenApi.Diagnostics.Inspection do
  @moduledoc false
  # What each stage would say to one request. No stage is run: each is asked in a way that
  # changes nothing, and what only code of the user's can tell is `:unknown`.

  alias PhoenixGenApi.{
    ArgumentHandler,
    Config,
    ConfigDb,
    Permission,
    Plan,
    SafeInspect,
    Security,
    WorkerPool
  }

  alias PhoenixGenApi.Diagnostics.{CallFlow, Format, Probe, Stages}
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.NodeSelector.Preview
  alias PhoenixGenApi.RateLimiter
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @typedoc """
  `:passes`, `:refuses` with the text that the client would get, `:unknown` where code of the
  user's decides, `:none` where the config asks for nothing.
  """
  @type decision :: %{
          decision: :passes | :refuses | :unknown | :none,
          because: String.t() | nil,
          client_gets: String.t() | nil
        }

  @doc "The flow of the request, with a decision for every step."
  @spec run(term()) :: map()
  def run(params) do
    case Request.decode(params) do
      {:ok, request} -> inspect_request(request)
      {:error, error} -> undecodable(error)
    end
  end

  defp undecodable(error) do
    step = %{phase: :decode, desc: "the payload is no request"}
    steps = [Map.merge(step, refuses({:invalid_request, error}, Exception.message(error)))]

    %{
      service: nil,
      request_type: nil,
      version: nil,
      config: nil,
      error: error.code,
      steps: steps,
      request: nil
    }
    |> Map.merge(verdict(steps))
  end

  defp inspect_request(request) do
    %{service: service, request_type: type, version: version} = request

    case ConfigDb.fetch(service, type, version) do
      {:ok, plan} ->
        flow = CallFlow.explain(Plan.config(plan))
        steps = Enum.map(flow.steps, &Map.merge(&1, decide(&1.phase, request, plan, flow)))
        Map.merge(%{flow | steps: steps}, Map.put(verdict(steps), :request, request))

      {:error, reason} ->
        flow = CallFlow.for_function(service, type, version)
        failure = if reason == :not_running, do: reason, else: {reason, type, version}
        [decode, lookup] = Stages.unknown(service, type, version, reason)
        steps = [Map.merge(decode, passes()), Map.merge(lookup, refuses(failure, nil))]
        Map.merge(%{flow | steps: steps}, Map.put(verdict(steps), :request, request))
    end
  end

  # The first stage that refuses is the one that the client hears of, unless code of the user's
  # before it decides otherwise. `:runs` means that the function would be called.
  defp verdict(steps) do
    refused = Enum.find(steps, &(&1.decision == :refuses))
    unknown = for %{decision: :unknown, phase: phase} <- steps, do: phase

    %{
      verdict: if(refused, do: :refused, else: if(unknown == [], do: :runs, else: :unknown)),
      refused_by: refused && refused.phase,
      client_gets: refused && refused.client_gets,
      unknown: unknown
    }
  end

  defp decide(:rate_limit, request, _plan, flow), do: limits(request, flow.rate_limit)
  defp decide(:before_hook, _request, _plan, %{hooks: %{before: nil}}), do: none()

  defp decide(:before_hook, _request, _plan, %{hooks: %{before: hook}}),
    do: unknown("#{Format.function(hook)} is not run here")

  defp decide(:permission, request, _plan, flow), do: permission(request, flow.config)
  defp decide(:arguments, request, plan, _flow), do: arguments(request, plan)
  defp decide(:worker_pool, _request, _plan, %{response_type: :sync}), do: none()
  defp decide(:worker_pool, _request, _plan, %{response_type: :stream}), do: pool(:stream_pool)
  defp decide(:worker_pool, _request, _plan, _flow), do: pool(:async_pool)
  defp decide(:node_selection, request, _plan, flow), do: nodes(request, flow.config)
  defp decide(:call, _request, _plan, flow), do: call(flow.config)
  defp decide(:after_hook, _request, _plan, %{hooks: %{after: nil}}), do: none()

  defp decide(:after_hook, _request, _plan, %{hooks: %{after: hook}}),
    do: passes("#{Format.function(hook)} is not run here")

  defp decide(:response, _request, _plan, _flow), do: none()
  defp decide(_decode_or_lookup, _request, _plan, _flow), do: passes()

  ## Limits

  defp limits(_request, %{global: [], api: []}), do: none()

  defp limits(request, %{global: global, api: api}) do
    scope = {request.service, request.request_type}

    rows =
      Enum.map(global, &limit(&1, :global, "all functions", request)) ++
        Enum.map(api, &limit(&1, scope, "this function", request))

    because = Enum.map_join(rows, "; ", &elem(&1, 1))

    if Enum.any?(rows, &(elem(&1, 0) == :denies)) do
      # The time is known to the limiter when it denies.
      refuses("Rate limit exceeded. Please retry after … seconds.", because)
    else
      passes(because)
    end
  end

  defp limit(limit, scope, counts, request) do
    value = value(request, limit.key)
    words = "#{counts}, #{Stages.limit(limit)}"

    case {value, Map.get(limit, :on_missing, :skip)} do
      {nil, :skip} -> {:passes, "#{words}: no value, skipped"}
      {nil, :deny} -> {:denies, "#{words}: no value, denied"}
      {value, _on_missing} -> counted(limit, scope, value, words)
    end
  end

  defp counted(limit, scope, value, words) do
    status =
      value
      |> RateLimiter.get_rate_limit_status(scope, limit.key)
      |> Enum.find(&(&1.window_ms == limit.window_ms and &1.max_requests == limit.max_requests))

    case status do
      %{remaining: 0} -> {:denies, "#{words}: #{status.current_requests} used, none left"}
      %{remaining: left} -> {:passes, "#{words}: #{status.current_requests} used, #{left} left"}
      # Changed in this moment.
      nil -> {:passes, "#{words}: no longer in force"}
    end
  end

  # What counts as a value is for the limiter to say; these are the kinds that it counts.
  defp value(request, key) do
    value = if is_atom(key), do: Map.get(request, key), else: request.args[key]
    if (is_binary(value) and value != "") or is_number(value) or is_boolean(value), do: value
  end

  ## Permission

  defp permission(_request, %{permission_callback: {_, _, _} = mfa}),
    do: unknown("#{Format.function(mfa)} is not run here")

  defp permission(_request, %{check_permission: false}), do: none()

  defp permission(request, config) do
    if Permission.check_permission(request, config),
      do: passes(),
      else:
        refuses(
          :permission_denied,
          "user_id #{SafeInspect.inspect(request.user_id, 60)}, " <> held(request, config)
        )
  end

  defp held(request, %{check_permission: {:role, _}}),
    do: "user_roles #{SafeInspect.inspect(request.user_roles, 60)}"

  defp held(request, %{check_permission: {:arg, name}}),
    do: "argument #{SafeInspect.inspect(request.args[to_string(name)], 60)}"

  defp held(_request, _config), do: "which is no user"

  ## Arguments

  defp arguments(request, plan) do
    case ArgumentHandler.convert(plan, request) do
      {:ok, []} -> passes()
      {:ok, arguments} -> passes(Format.count(length(arguments), "argument"))
      {:error, error} -> refuses({:invalid_arguments, error}, SafeInspect.reason(:error, error))
    end
  end

  ## Pools

  defp pool(pool) do
    case Probe.run(fn -> {WorkerPool.status(pool), WorkerPool.refuses?(pool)} end) do
      {:ok, {_status, true}} ->
        refuses({:pool, :circuit_open}, "the circuit of #{inspect(pool)} is open")

      {:ok, {%{idle_workers: 0} = status, false}} ->
        words = "#{status.busy_workers} running, #{status.queued_tasks} queued"

        if status.queued_tasks >= Config.get(:worker_pool, :max_queue_size),
          do: refuses({:pool, :queue_full}, words),
          else: passes(words)

      {:ok, {status, false}} ->
        passes("#{status.busy_workers} running, #{status.idle_workers} free")

      {:error, reason} ->
        refuses({:pool, :pool_not_found}, "#{inspect(pool)}: #{reason}")
    end
  end

  ## Nodes and the call

  defp nodes(request, config) do
    case Preview.candidates(config, request) do
      {:order, nodes} -> Map.put(passes(listed(nodes, ", then ")), :candidates, nodes)
      {:usable, [node]} -> Map.put(passes(listed([node], "")), :candidates, [node])
      {:usable, nodes} -> Map.put(passes("one of " <> listed(nodes, ", ")), :candidates, nodes)
      {:unknown, mfa} -> unknown("#{Format.function(mfa)} is not run here")
      {:error, reason} -> refuses({:no_node, reason}, obstacles(reason))
    end
  end

  defp obstacles({:all_nodes_unavailable, nodes}) do
    nodes
    |> Enum.map_join(", ", fn {node, obstacle} ->
      "#{Format.name(to_string(node))} #{String.replace(to_string(obstacle), "_", " ")}"
    end)
    |> SafeInspect.truncate(300)
  end

  defp obstacles(reason), do: SafeInspect.inspect(reason, 200)

  defp listed(nodes, between),
    do: nodes |> Enum.map_join(between, &Format.name(to_string(&1))) |> SafeInspect.truncate(300)

  # What this node would run itself can be looked up; of others nothing is known here.
  defp call(%FunConfig{nodes: :local, mfa: {module, function, _} = mfa} = config) do
    arity = Stages.arity(config)

    cond do
      Security.validate_mfa(mfa) != :ok ->
        refuses({:not_allowed, {:mfa_not_allowed, {module, function}}}, "not allowed here")

      :erlang.module_loaded(module) and not :erlang.function_exported(module, function, arity) ->
        refuses({:error, :undef}, "there is no such function")

      true ->
        passes("#{Format.function(mfa)}/#{arity} is not run here")
    end
  end

  defp call(%{mfa: mfa} = config),
    do: passes("#{Format.function(mfa)}/#{Stages.arity(config)} is not run here")

  ## Decisions

  defp none, do: %{decision: :none, because: nil, client_gets: nil}
  defp passes(because \\ nil), do: %{decision: :passes, because: because, client_gets: nil}
  defp unknown(because), do: %{decision: :unknown, because: because, client_gets: nil}

  defp refuses(text, because) when is_binary(text),
    do: %{decision: :refuses, because: because, client_gets: text}

  defp refuses(failure, because),
    do: refuses(ErrorResponse.build(nil, failure).error, because)
end
