defmodule PhoenixGenApi.Executor.Context do
  @moduledoc false
  # One request on its way through the stages, and the stages before the call.
  #
  # A stage returns the context, or `{:error, failure}` (worded by `ErrorResponse`). A request that
  # ends returns `{result, rest}`; the rest is the failure, if there is one, with the context as it
  # was then, or `:later` when the result is an acknowledgement.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.ArgumentHandler
  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.Attempt
  alias PhoenixGenApi.Hooks
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Permission
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.RateLimiter
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.ServiceSets
  alias PhoenixGenApi.Structs.{Request, Response}

  @enforce_keys [:request, :request_id, :plan, :receiver, :arrived]
  defstruct [
    :request,
    :request_id,
    :plan,
    :receiver,
    :arrived,
    :deadline,
    :target,
    :caller,
    :inline,
    arguments: [],
    stopping: [],
    refreshed: 0,
    waited: 0,
    attempts: 0,
    executed: :no
  ]

  @type target :: {node(), Circuits.counter()}
  @type t :: %__MODULE__{
          request: Request.t(),
          # as sent, whatever a hook makes of the request
          request_id: term(),
          plan: Plan.t(),
          receiver: pid(),
          # in native units
          arrived: integer(),
          # how many ms the request has from then on; the moment is its `expires_at`
          deadline: non_neg_integer() | nil,
          target: target() | nil,
          # of a request that a client has sent: who counts for a share of the worker pools
          caller: Circuits.caller(),
          # of one that has a process of its own: its function may run there
          inline: RPC.Local.inline() | nil,
          arguments: [term()],
          # nodes that have said that they stop
          stopping: [node()],
          # how often it went on with another plan, as the nodes of its service had changed
          refreshed: non_neg_integer(),
          # ms in the queue of a pool or for nodes out of reach, which count against the timeout
          waited: non_neg_integer(),
          # of a function with `retry` set: how many failed, and whether it has begun to run in any
          attempts: non_neg_integer(),
          executed: ErrorResponse.executed()
        }
  @type done ::
          {Response.t() | {:ok, :none}, {ErrorResponse.failure() | nil, t() | nil} | :later}

  @doc "The same, for a request of a client: it counts for their share of the worker pools."
  @spec from_client(t(), RPC.Local.inline() | nil) :: t()
  def from_client(context, inline),
    do: %{context | caller: Circuits.caller(context.request), inline: inline}

  @spec new(Request.t(), Plan.t(), pid(), integer()) :: t()
  def new(request, plan, receiver, arrived) do
    limit(%__MODULE__{
      request: request,
      request_id: request.request_id,
      plan: plan,
      receiver: receiver,
      arrived: arrived
    })
  end

  # Also what a hook makes of request and config counts from the arrival on.
  defp limit(%{request: %{deadline_ms: given} = request, plan: plan} = context) do
    if given != nil or has(plan, :deadline) or Deadline.inherited?() do
      configured = if has(plan, :deadline), do: Plan.config(plan).deadline
      limit(context, Deadline.of(given, configured, context.arrived))
    else
      if request.expires_at == nil and context.deadline == nil,
        do: context,
        else: limit(context, nil)
    end
  end

  defp limit(%{request: request} = context, nil),
    do: %{context | request: %{request | expires_at: nil}, deadline: nil}

  defp limit(%{request: request} = context, {ms, moment}),
    do: %{context | request: %{request | expires_at: moment}, deadline: ms}

  @doc "The same request by another plan, on the node that was chosen with it."
  @spec with_plan(t(), Plan.t(), target() | nil) :: t()
  def with_plan(context, plan, target),
    do: limit(%{context | plan: plan, target: target, arguments: []})

  @doc "Without its arguments, which may be large: it will be called nowhere else."
  @spec begun(t()) :: t()
  def begun(%{plan: plan, request: request} = context) do
    request = if has(plan, :after_execute), do: request, else: %{request | args: %{}}
    %{context | arguments: [], request: request}
  end

  @doc "A request whose deadline is over, as it has waited for its turn, goes no further. No hook has seen it."
  @spec accept(t()) :: {:ok, t()} | done()
  def accept(context) do
    case Deadline.check(context) do
      :ok -> {:ok, context}
      {:error, expired} -> {ErrorResponse.build(context.request_id, expired), {expired, context}}
    end
  end

  @doc """
  The rate limits by who sends a request; and which ones are left, by what the client claims.
  """
  @spec charge(Request.t(), :verified | :claimed) ::
          {:ok, :none | Native.limit_group()} | {:error, term()}
  def charge(request, device) do
    {first, second} = groups(device)

    case RateLimiter.charge(request, first) do
      :ok -> {:ok, :none}
      :more -> {:ok, second}
      {:error, reason, details} -> {:error, {reason, details}}
    end
  end

  defp groups(:verified), do: {:verified_device, :claimed_device}
  defp groups(:claimed), do: {:verified, :claimed}

  @doc "The rate limits that are left. What a hook has made of the request counts."
  @spec charge_claims(t(), :none | Native.limit_group()) :: :ok | {:error, term()}
  def charge_claims(_context, :none), do: :ok

  def charge_claims(context, group) do
    case RateLimiter.charge(context.request, group) do
      passed when passed in [:ok, :more] -> :ok
      {:error, reason, details} -> {:error, {reason, details}}
    end
  end

  @doc "The before hook, which may replace the request and the config."
  @spec before(t()) :: {:ok, t()} | {:error, term()} | done()
  def before(%{plan: plan} = context) when not has(plan, :before_execute), do: {:ok, context}

  def before(context) do
    config = Plan.config(context.plan)

    case Hooks.before(config.before_execute, context.request, config) do
      {:ok, request, ^config} -> {:ok, limit(%{context | request: request})}
      {:ok, request, changed} -> replan(%{context | request: request}, changed)
      {:error, %Response{} = response} -> rejected(context, response)
      {:error, reason} -> finish(context, {:hook_rejected, reason})
      {:failed, _, outcome} -> finish(context, {:hook_failed, config.before_execute, outcome})
    end
  end

  defp rejected(context, response) do
    response = ErrorResponse.from_hook(context.request_id, response, "rejected")
    failure = if response.success == false, do: {:own, response.code}
    conclude(context, response, failure, :no)
  end

  defp replan(context, config) do
    case Plan.compile_unstored(config, &set_of(&1, context.plan)) do
      {:ok, plan} -> {:ok, with_plan(context, plan, nil)}
      {:error, failure} -> finish(context, failure)
    end
  end

  # As long as it is the same function it runs where it would have.
  defp set_of(config, plan(handle: handle) = plan) do
    key = &{&1.service, &1.request_type, &1.version}
    own = if key.(config) == key.(Plan.config(plan)), do: Plan.candidate_set(handle)
    own || ServiceSets.of_config(config)
  end

  @doc "Permission. A callback runs where the function will, so the node is chosen first."
  @spec authorise(t()) ::
          {:ok, t()} | {:error, ErrorResponse.failure()} | {:error, ErrorResponse.failure(), t()}
  def authorise(%{plan: plan} = context) when has(plan, :permission_callback) do
    with {:ok, chosen} <- Attempt.choose(context), do: ask(chosen, [], nil)
  end

  def authorise(%{plan: plan} = context) do
    with :ok <- Permission.authorise(plan, context.request, node()), do: {:ok, context}
  end

  # One node after the other, until a callback decides. `failure` is that of the last one that was
  # asked and has not decided.
  defp ask(%{plan: plan, request: request, target: {node, counter}} = context, asked, failure) do
    case Permission.authorise(plan, request, node) do
      :ok ->
        {:ok, context}

      {:error, :not_connected} ->
        NodeSelector.mark(node, :down)
        ask_next(context, [node | asked], failure)

      {:error, {:permission_unanswered, _callback, outcome} = failure} ->
        Circuits.count_failure(node, counter, Circuits.classify(outcome))

        if Deadline.expired?(context),
          do: {:error, failure, context},
          else: ask_next(context, [node | asked], failure)

      {:error, denied} ->
        {:error, denied, context}
    end
  end

  defp ask_next(context, asked, failure) do
    with {:ok, targets} <- NodeSelector.candidates(context.plan, context.request),
         target when target != nil <- Enum.find(targets, &(elem(&1, 0) not in asked)) do
      ask(%{context | target: target}, asked, failure)
    else
      _none_left when failure != nil -> {:error, failure, context}
      {:error, reason} -> {:error, {:no_node, reason}}
      nil -> {:error, {:no_node, {:all_nodes_unavailable, Enum.map(asked, &{&1, :down})}}}
    end
  end

  @doc "The arguments."
  @spec convert(t()) :: {:ok, t()} | {:error, term()}
  def convert(%{plan: plan, request: request} = context) do
    case ArgumentHandler.convert(plan, request) do
      {:ok, arguments} ->
        {:ok, %{context | arguments: arguments}}

      {:error, exception} ->
        {:error, {:invalid_arguments, exception, ArgumentHandler.problems(plan, request)}}
    end
  end

  @doc "Ends a call that goes no further: the after hook sees its response."
  @spec finish(t(), ErrorResponse.failure()) :: done()
  def finish(context, failure) do
    # Whatever a stage says that was cut short.
    failure = if Deadline.expired?(context), do: {:expired, context.deadline}, else: failure
    response = ErrorResponse.build(context.request_id, failure, context.executed)
    conclude(context, response, failure, ErrorResponse.executed(failure))
  end

  @doc """
  The end: the after hook may replace the response. One whose deadline is over by then is answered with
  that, and the hook sees it for itself.
  """
  @spec conclude(t(), Response.t(), ErrorResponse.failure() | nil, ErrorResponse.executed()) ::
          {Response.t(), {ErrorResponse.failure() | nil, t()}}
  def conclude(%{plan: plan} = context, response, failure, executed)
      when has(plan, :after_execute) do
    config = Plan.config(plan)

    hooked =
      if not Deadline.expired?(context), do: Hooks.finish(config, context.request, response)

    if Deadline.expired?(context) do
      {response, failure} = late(context, response, failure, executed)
      callers = [self() | Process.get(:"$callers", [])]
      Hooks.notify(config, context.request, response, callers)
      {response, {failure, context}}
    else
      {hooked, {failure, context}}
    end
  end

  def conclude(context, response, failure, _executed), do: {response, {failure, context}}

  # It has been answered with its deadline already, or not.
  defp late(%{deadline: ms}, response, {late, ms} = failure, _executed)
       when late in [:expired, :timeout],
       do: {response, failure}

  defp late(%{deadline: ms} = context, _response, _failure, executed) do
    executed = ErrorResponse.worse(context.executed, executed)
    failure = if executed == :no, do: {:expired, ms}, else: {:timeout, ms}
    {ErrorResponse.build(context.request_id, failure, executed), failure}
  end
end
