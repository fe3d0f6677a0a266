defmodule PhoenixGenApi.Executor.Context do
  @moduledoc false
  # One request on its way through the stages, and the stages.
  #
  # A stage returns the call, or `{:error, failure}` (worded by `ErrorResponse`). The last one
  # returns `{result, rest}`; the rest is what telemetry says of a function that raised, or
  # `:later` when the result is an acknowledgement.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.ArgumentHandler
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.{Attempt, Retry}
  alias PhoenixGenApi.Hooks
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Permission
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.RateLimiter
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.StreamCall
  alias PhoenixGenApi.Structs.{Request, Response}
  alias PhoenixGenApi.WorkerPool

  require Logger

  @enforce_keys [:request, :request_id, :plan, :receiver]
  defstruct [:request, :request_id, :plan, :receiver, :target, arguments: [], waited: 0]

  @type target :: {node(), {reference(), non_neg_integer()} | nil}
  @type t :: %__MODULE__{
          request: Request.t(),
          # as sent, whatever a hook makes of the request
          request_id: term(),
          plan: Plan.t(),
          receiver: pid(),
          target: target() | nil,
          arguments: [term()],
          # ms in the queue of a pool or for nodes out of reach, which count against the timeout
          waited: non_neg_integer()
        }
  @type crash :: map() | nil
  @type done :: {Response.t() | {:ok, :none}, crash() | :later}

  @spec new(Request.t(), Plan.t(), pid()) :: t()
  def new(request, plan, receiver) do
    %__MODULE__{
      request: request,
      request_id: request.request_id,
      plan: plan,
      receiver: receiver
    }
  end

  @doc "The rate limits."
  @spec charge(Request.t()) :: :ok | {:error, term()}
  def charge(request) do
    case RateLimiter.check_rate_limit(request) do
      :ok -> :ok
      {:error, reason, details} -> {:error, {reason, details}}
    end
  end

  @doc "The before hook, which may replace the request and the config."
  @spec before(t()) :: {:ok, t()} | {:error, term()} | done()
  def before(%{plan: plan} = context) when not has(plan, :before_execute), do: {:ok, context}

  def before(context) do
    config = Plan.config(context.plan)

    case Hooks.run_before(config.before_execute, context.request, config) do
      {:ok, request, ^config} -> {:ok, %{context | request: request}}
      {:ok, request, changed} -> replan(%{context | request: request}, changed)
      {:error, %Response{} = response} -> finish(context, response)
      {:error, reason} -> finish(context, {:hook_rejected, reason})
    end
  end

  defp replan(context, config) do
    case Plan.compile_unstored(config) do
      {:ok, plan} -> {:ok, %{context | plan: plan}}
      {:error, failure} -> finish(context, failure)
    end
  end

  @doc "Permission. A callback runs where the function will, so the node is chosen first."
  @spec authorise(t()) :: {:ok, t()} | {:error, term()}
  def authorise(%{plan: plan} = context) when has(plan, :permission_callback) do
    with {:ok, %{target: {node, _}} = chosen} <- Attempt.choose(context) do
      case Permission.authorise(plan, context.request, node) do
        :ok ->
          {:ok, chosen}

        {:error, :not_connected} ->
          NodeSelector.mark(node, :down)
          authorise(context)

        {:error, denied} ->
          {:error, denied}
      end
    end
  end

  def authorise(%{plan: plan} = context) do
    with :ok <- Permission.authorise(plan, context.request, node()), do: {:ok, context}
  end

  @doc "The arguments."
  @spec convert(t()) :: {:ok, t()} | {:error, term()}
  def convert(%{plan: plan, request: request} = context) do
    case ArgumentHandler.convert(plan, request) do
      {:ok, arguments} -> {:ok, %{context | arguments: arguments}}
      {:error, exception} -> {:error, {:invalid_arguments, exception}}
    end
  end

  @doc "Runs the call as its response type says."
  @spec start(t()) :: done()
  def start(%{plan: plan(response_type: :sync)} = context) do
    {response, crash} = run(context)
    {after_hook(context, response), crash}
  end

  def start(%{plan: plan(response_type: :async)} = context) do
    submit_to_pool(context, Response.async_response(context.request_id), owner: context.receiver)
  end

  def start(%{plan: plan(response_type: :stream)} = context) do
    case StreamCall.submit(context) do
      :ok -> {Response.stream_response(context.request_id, :init), :later}
      {:error, failure} -> finish(context, failure)
    end
  end

  def start(%{plan: plan(response_type: :none)} = context),
    do: submit_to_pool(context, {:ok, :none}, [])

  def start(context), do: finish(context, :unsupported_response_type)

  defp submit_to_pool(context, acknowledgement, opts) do
    submitted = now()

    died =
      {context.receiver, {:async_call, ErrorResponse.build(context.request_id, :async_failed)}}

    notify = if opts[:owner], do: [on_death: died], else: []
    task = fn -> deliver(%{context | waited: now() - submitted}) end
    queue_timeout = [max_wait: {queue_timeout(context.plan), nil}]

    case WorkerPool.submit(:async_pool, task, opts ++ notify ++ queue_timeout) do
      {:ok, _pid} -> {acknowledgement, :later}
      {:error, reason} -> finish(context, {:pool, reason})
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
    response = %{after_hook(context, %{response | async: false}) | async: false}
    if type == :none, do: log_unheard_failure(response)
    {:answer, if(type == :async, do: {context.receiver, {:async_call, response}}), crash}
  end

  # Nobody else is told. What the error says may quote the request, so that is for debugging.
  defp log_unheard_failure(%Response{success: true}), do: :ok

  defp log_unheard_failure(%Response{request_id: id, error: error}) do
    Logger.warning(fn -> "request #{SafeInspect.inspect(id)} of response type :none failed" end)
    Logger.debug(fn -> "request #{SafeInspect.inspect(id)}: #{SafeInspect.inspect(error)}" end)
  end

  @doc "Node selection and the call, retries included, in this process."
  @spec run(t()) :: {Response.t(), crash()}
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
    outcome = outcome(context)
    {response_of(context, outcome), crash(outcome)}
  end

  defp response_of(%{request_id: id, plan: plan(timeout: timeout)}, outcome),
    do: ErrorResponse.from_outcome(id, outcome, timeout)

  # Its only wait is that in the queue.
  defp check_queue_wait(%{plan: plan, waited: waited}) do
    case queue_timeout(plan) do
      ms when is_integer(ms) and waited >= ms -> :timeout
      _longer -> :ok
    end
  end

  defp outcome(%{plan: plan} = context) when has(plan, :retry), do: Retry.run(context)
  defp outcome(context), do: context |> Attempt.run() |> elem(0)

  # The arguments as they were converted, by their names again.
  defp named([_ | _] = names, arguments, _args), do: names |> Enum.zip(arguments) |> Map.new()
  defp named(:map, [arguments], _args), do: arguments
  defp named(_none, _arguments, args), do: args

  defp crash({:raised, kind, reason, stack}),
    do: ErrorResponse.crash_metadata(kind, reason, stack)

  defp crash(_outcome), do: nil

  @doc "Ends a call that goes no further, with a failure or a response: the after hook sees it."
  @spec finish(t(), term()) :: done()
  def finish(context, %Response{} = response),
    do: {after_hook(context, %{response | request_id: context.request_id}), nil}

  def finish(context, failure),
    do: finish(context, ErrorResponse.build(context.request_id, failure))

  defp after_hook(%{plan: plan} = context, response) when has(plan, :after_execute),
    do: Hooks.finish(Plan.config(plan), context.request, response)

  defp after_hook(_context, response), do: response

  defp now, do: System.monotonic_time(:millisecond)
end
