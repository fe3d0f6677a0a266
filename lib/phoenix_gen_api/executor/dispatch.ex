defmodule PhoenixGenApi.Executor.Dispatch do
  @moduledoc false
  # The call, as its response type says: in this process, in one of a pool, or as a stream.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.{Attempt, Context, ResultCheck, Retry, Rolling}
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.StreamCall
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.WorkerPool

  @doc "Runs the call as its response type says."
  @spec start(Context.t()) :: Context.done()
  def start(%{plan: plan(response_type: :sync) = plan} = context) do
    # Where something may follow the call, its process has to outlive it.
    context =
      if has(plan, :retry) or has(plan, :after_execute) or context.deadline != nil,
        do: %{context | inline: nil},
        else: context

    {response, {failure, context}} = run(context)
    Context.conclude(context, response, failure, executed(failure))
  end

  def start(%{plan: plan(response_type: :async)} = context) do
    submit_to_pool(context, Response.async_response(context.request_id), owner: context.receiver)
  end

  def start(%{plan: plan(response_type: :stream)} = context) do
    case StreamCall.submit(context) do
      :ok -> {Response.stream_response(context.request_id, :init), :later}
      {:error, failure} -> Context.finish(context, failure)
    end
  end

  def start(%{plan: plan(response_type: :none)} = context),
    do: submit_to_pool(context, {:ok, :none}, [])

  def start(context), do: Context.finish(context, :unsupported_response_type)

  defp submit_to_pool(context, acknowledgement, opts) do
    submitted = System.monotonic_time()

    died =
      {context.receiver, {:async_call, ErrorResponse.build(context.request_id, :async_failed)}}

    notify = if opts[:owner], do: [on_death: died], else: []
    task = fn -> deliver(context, submitted) end
    max_wait = Deadline.within(context.request, queue_timeout(context.plan))
    bounds = [max_wait: {max_wait, nil}, caller: context.caller]

    case WorkerPool.submit(:async_pool, task, opts ++ notify ++ bounds) do
      {:ok, _pid} -> {acknowledgement, :later}
      {:error, reason} -> Context.finish(context, {:pool, reason})
    end
  end

  # Whose first attempt is too late may have another one, in its turn.
  defp queue_timeout(plan(timeout: timeout) = plan) do
    if has(plan, :retry) and :timeout in Plan.config(plan).retry_on,
      do: :infinity,
      else: timeout
  end

  # The pool sends the answer.
  defp deliver(%{plan: plan(response_type: type)} = context, submitted) do
    waited = System.convert_time_unit(System.monotonic_time() - submitted, :native, :millisecond)
    {response, {failure, chosen}} = run(%{context | waited: waited, inline: nil})
    if failure, do: FailureLog.log(failure, chosen, submitted)
    # Whatever the function or the hook has made, it is the answer and no acknowledgement.
    response = %{response | async: false}
    {response, {late, _}} = Context.conclude(chosen, response, failure, executed(failure))
    # It had succeeded but for the hook.
    if failure == nil and late != nil, do: FailureLog.log(late, chosen, submitted)
    answer = if type == :async, do: {context.receiver, {:async_call, %{response | async: false}}}
    {:answer, answer, crash(failure)}
  end

  @doc "Node selection and the call, retries included, in this process."
  @spec run(Context.t()) :: {Response.t(), {ErrorResponse.failure() | nil, Context.t()}}
  # The relay is part of the gateway: it needs the request, and no process of its own.
  def run(%{plan: plan(module: Relay, function: :handle_relay, arguments: []) = plan} = context)
      when has(plan, :local) do
    with :ok <- Attempt.check_local_mfa(%{context | target: {node(), nil}}),
         :ok <- Attempt.check_deadline(context),
         :ok <- check_queue_wait(context) do
      config = Plan.config(plan)
      args = named(config.arg_orders, context.arguments, context.request.args)
      response = Relay.handle_relay(%{context.request | args: args}, config)
      done(%{response | request_id: context.request_id}, context)
    else
      outcome -> failed(context, outcome)
    end
  end

  def run(context) do
    {outcome, context} = outcome(context)

    case ErrorResponse.from_return(context.request_id, outcome) do
      nil -> failed(context, outcome)
      response -> done(response, context)
    end
  end

  # A function's own error is one too.
  defp done(%Response{success: false, code: code} = response, context),
    do: {response, {{:own, code}, context}}

  defp done(response, context) do
    case ResultCheck.check(context, response.result) do
      :ok ->
        {response, {nil, context}}

      {:error, failure} ->
        response = ErrorResponse.build(context.request_id, failure, context.executed)
        {response, {failure, context}}
    end
  end

  defp failed(%{request_id: id, plan: plan(timeout: timeout)} = context, outcome) do
    failure = ErrorResponse.failure(outcome, timeout)
    {ErrorResponse.build(id, failure, context.executed), {failure, context}}
  end

  # Its only wait is that in the queue.
  defp check_queue_wait(%{plan: plan, waited: waited}) do
    case queue_timeout(plan) do
      ms when is_integer(ms) and waited >= ms -> :expired
      _longer -> :ok
    end
  end

  defp outcome(context) do
    with {{:failed, {:no_node, _reason}}, context} = failed <- attempt(context) do
      case Rolling.refresh(context) do
        {:ok, context} -> outcome(context)
        :same -> failed
        {:error, failure} -> {{:failed, failure}, context}
        {:error, failure, context} -> {{:failed, failure}, context}
      end
    end
  end

  defp attempt(%{plan: plan} = context) do
    case Attempt.check_deadline(context) do
      {:failed, _expired} = expired -> {expired, context}
      :ok when has(plan, :retry) -> Retry.run(context)
      :ok -> Attempt.run(context)
    end
  end

  # A response of its own is one that the function has made.
  defp executed(none) when none == nil or elem(none, 0) == :own, do: :yes
  defp executed(failure), do: ErrorResponse.executed(failure)

  # The arguments as they were converted, by their names again.
  defp named([_ | _] = names, arguments, _args), do: names |> Enum.zip(arguments) |> Map.new()
  defp named(:map, [arguments], _args), do: arguments
  defp named(_none, _arguments, args), do: args

  defp crash({:raised, kind, reason, stack}),
    do: ErrorResponse.crash_metadata(kind, reason, stack)

  defp crash(_failure), do: nil
end
