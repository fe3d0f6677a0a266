defmodule PhoenixGenApi.Executor.Preview do
  @moduledoc false
  # Explains a request without running it: asks every stage of `PhoenixGenApi.Executor` in pipeline
  # order. The stages that are the executor's own are explained here.

  alias PhoenixGenApi.{ArgumentHandler, Explanation, Format, Hooks, Permission, Plan, Security}
  alias PhoenixGenApi.{NodeSelector, RateLimiter, WorkerPool}
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @doc "Explains the stages after the lookup for a request, or for any request if there is none."
  @spec explain(Plan.t(), Request.t() | nil) :: [{atom(), Explanation.t()}]
  def explain(plan, request) do
    config = Plan.config(plan)

    [
      rate_limit: RateLimiter.Preview.explain(config.service, config.request_type, request),
      before_hook: Hooks.explain(:before, config),
      permission: Permission.explain(config, request),
      arguments: ArgumentHandler.explain(plan, request),
      worker_pool: pool(config.response_type),
      node_selection: NodeSelector.Preview.explain(config, request),
      call: call(config),
      after_hook: Hooks.explain(:after, config),
      response: Explanation.none(response(config.response_type))
    ]
  end

  defp pool(:sync), do: Explanation.none("none: the caller waits")

  defp pool(:stream),
    do: WorkerPool.explain(:stream_pool, "a slot of :stream_pool for as long as the stream lives")

  defp pool(_async), do: WorkerPool.explain(:async_pool, "a task of :async_pool")

  # Only the functions of this node can be looked up.
  defp call(%FunConfig{mfa: {module, function, _} = mfa} = config) do
    arity = FunConfig.arity(config)
    name = Format.function(mfa, arity)
    timeout = Format.duration(config.timeout)

    desc =
      "#{name}, at most #{timeout}#{retry(FunConfig.normalize_retry(config.retry), config)}#{deadline(config)}"

    cond do
      config.nodes == :local and Security.validate_mfa(mfa) != :ok ->
        failure = {:not_allowed, {:mfa_not_allowed, {module, function}}}
        Explanation.refuses(desc, failure, "not allowed here")

      config.nodes == :local and :erlang.module_loaded(module) and
          not :erlang.function_exported(module, function, arity) ->
        failure = {:raised, :error, :undef, [{module, function, arity, []}]}
        Explanation.refuses(desc, failure, "there is no such function")

      true ->
        Explanation.passes(desc, "#{name} is not run here")
    end
  end

  defp deadline(%{deadline: nil}), do: ""
  defp deadline(%{deadline: ms}), do: "; the whole request at most #{Format.duration(ms)}"

  # Streams are not retried.
  defp retry(rule, %{response_type: type}) when rule == nil or type == :stream, do: ""

  defp retry({mode, n}, config) do
    where = if mode == :same_node, do: "on the same node", else: "on the next nodes"
    causes = Enum.map_join(config.retry_on, ", ", &to_string/1)
    "; again up to #{Format.count(n, "time")} #{where} after #{causes}"
  end

  defp response(:sync), do: "the response"
  defp response(:async), do: "acknowledged before the call; the response follows"
  defp response(:stream), do: "acknowledged before the call; frames follow"
  defp response(:none), do: "acknowledged before the call; nothing follows"
end
