defmodule PhoenixGenApi.Executor.Dispatch do
  @moduledoc false
  # The call, as its response type says: in this process, in one of a pool, or as a stream.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.{Attempt, Context, Retry}
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.StreamCall
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.WorkerPool
  alias PhoenixGenApi.Log

  require Log

  @doc "Runs the call as its response type says."
  @spec start(Context.t()) :: Context.done()
  def start(%{plan: plan(response_type: :sync)} = context) do
    {response, crash} = run(context)
    {Context.after_hook(context, response), crash}
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
    submitted = now()

    died =
      {context.receiver, {:async_call, ErrorResponse.build(context.request_id, :async_failed)}}

    notify = if opts[:owner], do: [on_death: died], else: []
    task = fn -> deliver(%{context | waited: now() - submitted}) end
    bounds = [max_wait: {queue_timeout(context.plan), nil}, caller: context.caller]

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
  defp deliver(%{plan: plan(response_type: type)} = context) do
    {response, crash} = run(context)
    # Whatever the function or the hook has made, it is the answer and no acknowledgement.
    response = %{Context.after_hook(context, %{response | async: false}) | async: false}
    if type == :none, do: log_unheard_failure(response)
    {:answer, if(type == :async, do: {context.receiver, {:async_call, response}}), crash}
  end

  # Nobody else is told. What the error says may quote the request, so that is for debugging.
  defp log_unheard_failure(%Response{success: true}), do: :ok

  defp log_unheard_failure(%Response{request_id: id, error: error}) do
    Log.warning("request #{SafeInspect.inspect(id)} of response type :none failed")
    Log.debug("request #{SafeInspect.inspect(id)}: #{SafeInspect.inspect(error)}")
  end

  @doc "Node selection and the call, retries included, in this process."
  @spec run(Context.t()) :: {Response.t(), Context.crash()}
  # The relay is part of the gateway: it needs the request, and no process of its own.
  def run(%{plan: plan(module: Relay, function: :handle_relay, arguments: []) = plan} = context)
      when has(plan, :local) do
    with :ok <- Attempt.check_local_mfa(%{context | target: {node(), nil}}),
         :ok <- check_queue_wait(context) do
      config = Plan.config(plan)
      args = named(config.arg_orders, context.arguments, context.request.args)
      response = Relay.handle_relay(%{context.request | args: args}, config)
      {%{response | request_id: context.request_id}, nil}
    else
      outcome -> {response_of(context, outcome), nil}
    end
  end

  def run(context) do
    {outcome, context} = outcome(context)
    {response_of(context, outcome), crash(outcome)}
  end

  defp response_of(%{request_id: id, plan: plan(timeout: timeout)} = context, outcome),
    do: ErrorResponse.from_outcome(id, outcome, timeout, context.executed)

  # Its only wait is that in the queue.
  defp check_queue_wait(%{plan: plan, waited: waited}) do
    case queue_timeout(plan) do
      ms when is_integer(ms) and waited >= ms -> :expired
      _longer -> :ok
    end
  end

  defp outcome(%{plan: plan} = context) when has(plan, :retry), do: Retry.run(context)
  defp outcome(context), do: Attempt.run(context)

  # The arguments as they were converted, by their names again.
  defp named([_ | _] = names, arguments, _args), do: names |> Enum.zip(arguments) |> Map.new()
  defp named(:map, [arguments], _args), do: arguments
  defp named(_none, _arguments, args), do: args

  defp crash({:raised, kind, reason, stack}),
    do: ErrorResponse.crash_metadata(kind, reason, stack)

  defp crash(_outcome), do: nil

  defp now, do: System.monotonic_time(:millisecond)
end
