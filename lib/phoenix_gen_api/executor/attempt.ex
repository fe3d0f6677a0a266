defmodule PhoenixGenApi.Executor.Attempt do
  @moduledoc false
  # One attempt at a call: a node for it, and what became of it there. A node to which nothing
  # was sent makes no attempt: the next one takes its place.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.Executor.Context
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Security
  alias PhoenixGenApi.Structs.Request

  @typedoc "What became of the call, or why it was not made."
  # Without time left nothing was sent.
  @type outcome :: RPC.outcome() | :expired | {:failed, term()}

  @doc "Chooses nodes until one can be asked, within the timeout."
  @spec run(Context.t()) :: {outcome(), Context.t()}
  def run(%{target: nil} = context) do
    case choose(context) do
      {:ok, context} -> run(context)
      {:error, failure} -> {{:failed, failure}, context}
    end
  end

  def run(context) do
    started = now()

    case execute(context) do
      :not_connected ->
        run(try_another_node(context, started))

      :stopping ->
        context |> pass_over() |> try_another_node(started) |> run()

      :circuit_open when has(context.plan, :local) ->
        {{:failed, {:no_node, circuit_open_reason()}}, context}

      :circuit_open ->
        run(try_another_node(context, started))

      outcome ->
        {outcome, context}
    end
  end

  defp try_another_node(context, started),
    do: %{context | target: nil, waited: context.waited + now() - started}

  @doc "The chosen node stops, and is not chosen again by this request. Whether it is listed does not matter."
  @spec pass_over(Context.t()) :: Context.t()
  def pass_over(%{target: {node, _counter}} = context),
    do: %{context | target: nil, stopping: [node | context.stopping]}

  @doc "Why a function that runs here and whose circuit is open cannot be called."
  @spec circuit_open_reason() :: NodeSelector.reason()
  def circuit_open_reason, do: {:all_nodes_unavailable, [{node(), :circuit_open}]}

  @doc "Node selection, for the call or for a callback that has to run where the call will."
  @spec choose(Context.t()) ::
          {:ok, Context.t()}
          | {:error, {:no_node, NodeSelector.reason()} | {:expired, non_neg_integer()}}
  def choose(%{target: {_node, _counter}} = context), do: {:ok, context}

  def choose(context) do
    case pick(context) do
      {:ok, node, counter} -> {:ok, %{context | target: {node, counter}}}
      # A function of the config may have taken all the time that was left.
      {:error, reason} -> with :ok <- Deadline.check(context), do: {:error, {:no_node, reason}}
    end
  end

  defp pick(%{stopping: []} = context), do: NodeSelector.pick(context.plan, context.request)

  defp pick(context) do
    with {:ok, [{node, counter} | _]} <- candidates(context), do: {:ok, node, counter}
  end

  @doc "All usable nodes, best first, but for those that stop."
  @spec candidates(Context.t()) ::
          {:ok, [Context.target(), ...]} | {:error, NodeSelector.reason()}
  def candidates(%{stopping: stopping} = context) do
    with {:ok, targets} <- NodeSelector.candidates(context.plan, context.request) do
      case Enum.reject(targets, fn {node, _counter} -> node in stopping end) do
        [] -> {:error, {:all_nodes_unavailable, Enum.map(stopping, &{&1, :draining})}}
        targets -> {:ok, targets}
      end
    end
  end

  @doc "The attempt on the node that was chosen."
  @spec execute(Context.t()) :: outcome() | :not_connected | :circuit_open
  def execute(
        %{target: {node, counter}, plan: plan(module: module, function: function)} = context
      ) do
    with :ok <- check_local_mfa(context),
         :ok <- check_deadline(context),
         {:ok, remaining} <- remaining(context) do
      arguments = arguments(context, context.request)
      timeout = judged(context, remaining)

      metadata =
        context.request |> Log.metadata(context.request_id) |> Deadline.mark(context.request)

      inline = if context.inline, do: Map.put(context.inline, :plan, context.plan)

      case RPC.call(node, module, function, arguments, timeout, counter, metadata, inline) do
        :not_connected ->
          NodeSelector.mark(node, :down)
          :not_connected

        # A host that swallows every packet. Connecting fails only after seven seconds, when
        # requests have given up: they must not go on choosing it.
        :unreachable ->
          NodeSelector.mark(node, :down)
          late(context, :timeout)

        late when late in [:timeout, :deadline] ->
          late(context, late)

        outcome ->
          outcome
      end
    end
  end

  # The last word: no other attempt has any time.
  defp late(%{deadline: ms} = context, outcome) do
    if outcome == :deadline or Deadline.expired?(context),
      do: {:failed, {:timeout, ms}},
      else: outcome
  end

  @doc "Whether there is time for an attempt."
  @spec check_deadline(Context.t()) :: :ok | {:failed, {:expired, non_neg_integer()}}
  def check_deadline(context),
    do: with({:error, expired} <- Deadline.check(context), do: {:failed, expired})

  # How long the node has until it is found wanting.
  defp judged(%{deadline: ms} = context, timeout) when ms != nil do
    if judged?(context), do: Deadline.within(context.request, timeout), else: timeout
  end

  defp judged(_context, timeout), do: timeout

  @doc """
  Whether the deadline judges a node as the timeout does: one that is the function's own, with half of it left at
  least. That of a client says nothing of a node.
  """
  @spec judged?(Context.t()) :: boolean()
  def judged?(%{deadline: ms, plan: plan, request: request}) do
    has(plan, :deadline) and Plan.config(plan).deadline == ms and
      2 * Request.remaining_ms(request) >= ms
  end

  @doc "What the gateway runs itself is checked against the lists as they are now."
  @spec check_local_mfa(Context.t()) :: :ok | {:failed, term()}
  def check_local_mfa(%{plan: plan}) when has(plan, :built_in), do: :ok

  def check_local_mfa(%{target: {node, _}} = context) when node == node() do
    plan(module: module, function: function, arguments: arguments) = context.plan

    case Security.validate_mfa({module, function, arguments}) do
      :ok -> :ok
      {:error, reason} -> {:failed, {:not_allowed, reason}}
    end
  end

  def check_local_mfa(_context), do: :ok

  defp remaining(%{plan: plan(timeout: :infinity)}), do: {:ok, :infinity}

  defp remaining(%{plan: plan(timeout: timeout), waited: waited}) when waited < timeout,
    do: {:ok, timeout - waited}

  defp remaining(_context), do: :expired

  @doc "The arguments of the function; `info` is the last one if it asks for that."
  @spec arguments(Context.t(), term()) :: [term()]
  def arguments(%{plan: plan(arguments: extra) = plan, arguments: arguments}, info) do
    cond do
      has(plan, :request_info) -> arguments ++ extra ++ [info]
      extra == [] -> arguments
      true -> arguments ++ extra
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
