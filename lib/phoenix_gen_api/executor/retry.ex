defmodule PhoenixGenApi.Executor.Retry do
  @moduledoc false
  # The attempts of a function that has `retry` set, in the process that waits for the result.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.{Attempt, Context}
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Telemetry

  @event [:phoenix_gen_api, :executor, :retry]

  @doc "The first attempt, and as many others as it takes or as are allowed: the last outcome."
  @spec run(Context.t()) :: {Attempt.outcome(), Context.t()}
  def run(%{plan: plan(handle: handle)} = context) do
    Native.executor_count(handle)
    {outcome, context} = Attempt.run(context)

    case kind(outcome) do
      nil ->
        {outcome, context}

      # Only now: the config is a copy, and most attempts succeed.
      kind ->
        %{retry: {mode, retries}, retry_on: retry_on} = Plan.config(context.plan)
        context = %{failed(context, outcome) | waited: 0}
        retry = %{mode: mode, retries: retries, on: retry_on, made: 0, tried: tried(context, [])}
        judge(context, outcome, kind, retry)
    end
  end

  # What `retry_on` may list. A response that the function made is its last word, and so is what
  # no function returns.
  defp kind({:return, {:error, _reason}}), do: :error_result
  defp kind({:return, :error}), do: :error_result
  defp kind({:raised, _kind, _reason, _stack}), do: :exception
  defp kind(late) when late in [:timeout, :expired], do: :timeout
  defp kind({:node_down, _reason}), do: :node_down
  defp kind(_final), do: nil

  defp judge(context, outcome, kind, retry) do
    cond do
      kind not in retry.on -> {outcome, context}
      retry.made == retry.retries -> exhausted(context, outcome, retry, :attempts)
      not affordable?(context.plan) -> exhausted(context, outcome, retry, :budget)
      true -> again(context, outcome, retry)
    end
  end

  defp affordable?(plan(handle: handle)) do
    case Config.get(:retry, :budget) do
      :infinity -> true
      ratio -> Native.executor_retry(handle, ratio / 1, Config.get(:retry, :min_per_window))
    end
  end

  defp again(context, outcome, retry) do
    attempt = retry.made + 1
    backoff = NodeSelector.calculate_backoff(attempt)
    Process.sleep(Deadline.within(context.request, backoff))

    announce = fn nodes -> retried(context, retry, attempt, backoff, nodes) end

    case in_time(context, fn -> attempt(context, retry, announce) end) do
      {{:failed, {:expired, ms}}, %{executed: executed} = context} when executed != :no ->
        {{:failed, {:timeout, ms}}, context}

      {{:failed, {:expired, _ms}}, _context} = expired ->
        expired

      {:none, _call} ->
        exhausted(context, outcome, retry, :no_node)

      {outcome, context} ->
        retry = %{retry | made: attempt, tried: tried(context, retry.tried)}

        case kind(outcome) do
          nil -> {outcome, %{context | attempts: context.attempts + 1}}
          kind -> judge(failed(context, outcome), outcome, kind, retry)
        end
    end
  end

  defp in_time(context, attempt) do
    with :ok <- Attempt.check_deadline(context),
         {:none, _context} = none <- attempt.(),
         :ok <- Attempt.check_deadline(context) do
      none
    else
      {:failed, _expired} = expired -> {expired, context}
      made -> made
    end
  end

  # What one attempt has begun no later one takes back.
  defp failed(%{plan: plan(timeout: timeout)} = context, outcome) do
    executed = outcome |> ErrorResponse.failure(timeout) |> ErrorResponse.executed()

    %{
      context
      | attempts: context.attempts + 1,
        executed: ErrorResponse.worse(context.executed, executed)
    }
  end

  # The node chosen first, whatever is known of it by now. Nothing can take its place.
  defp attempt(%{target: {node, _counter}} = context, %{mode: mode}, announce)
       when mode == :same_node or has(context.plan, :local) do
    announce.([node])

    case Attempt.execute(context) do
      :circuit_open -> {:none, context}
      :not_connected -> {{:node_down, :noconnection}, context}
      :stopping -> {{:node_down, :stopping}, context}
      outcome -> {outcome, context}
    end
  end

  defp attempt(context, retry, announce) do
    case Attempt.candidates(context) do
      {:ok, targets} ->
        [target | _] = targets = in_turn(targets, retry.tried)
        announce.(for {node, _counter} <- targets, do: node)
        chosen = %{context | target: target}

        case Attempt.execute(chosen) do
          # It is passed over from now on.
          skipped when skipped in [:not_connected, :circuit_open] ->
            attempt(context, retry, fn _nodes -> :ok end)

          :stopping ->
            chosen |> Attempt.pass_over() |> attempt(retry, fn _nodes -> :ok end)

          outcome ->
            {outcome, chosen}
        end

      {:error, _reason} ->
        {:none, context}
    end
  end

  # Those not tried yet in the order of the mode, then the others, longest ago first.
  defp in_turn(targets, tried) do
    Enum.sort_by(targets, fn {node, _counter} ->
      -(Enum.find_index(tried, &(&1 == node)) || length(tried))
    end)
  end

  # The latest first.
  defp tried(%{target: {node, _counter}}, tried), do: [node | List.delete(tried, node)]

  defp retried(context, retry, attempt, backoff, nodes) do
    metadata = %{request_id: context.request_id, mode: retry.mode}

    metadata =
      if has(context.plan, :local),
        do: Map.put(metadata, :type, :local),
        else: Map.merge(metadata, %{type: :remote, nodes: nodes})

    Telemetry.execute(@event, %{attempt: attempt, backoff_ms: backoff}, metadata)
  end

  defp exhausted(context, outcome, retry, reason) do
    metadata = %{
      request_id: context.request_id,
      mode: retry.mode,
      last_error: text(outcome),
      reason: reason
    }

    Telemetry.execute(@event ++ [:exhausted], %{}, metadata)
    {outcome, context}
  end

  defp text({:return, {:error, reason}}) when is_binary(reason), do: SafeInspect.text(reason)
  defp text({:return, {:error, reason}}), do: SafeInspect.inspect(reason)
  defp text({:return, :error}), do: "error"
  defp text({:raised, kind, reason, stack}), do: SafeInspect.reason(kind, reason, stack)
  defp text(late) when late in [:timeout, :expired], do: "timeout"
  defp text({:node_down, reason}), do: "node down: #{SafeInspect.inspect(reason)}"
end
