defmodule PhoenixGenApi.Executor.Attempt do
  @moduledoc false
  # One attempt at a call: a node for it, and what became of it there. A node to which nothing
  # was sent makes no attempt: the next one takes its place.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.Executor.Context
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Security

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

  @doc "Why a function that runs here and whose circuit is open cannot be called."
  @spec circuit_open_reason() :: NodeSelector.reason()
  def circuit_open_reason, do: {:all_nodes_unavailable, [{node(), :circuit_open}]}

  @doc "Node selection, for the call or for a callback that has to run where the call will."
  @spec choose(Context.t()) :: {:ok, Context.t()} | {:error, {:no_node, NodeSelector.reason()}}
  def choose(%{target: {_node, _counter}} = context), do: {:ok, context}

  def choose(context) do
    case NodeSelector.pick(context.plan, context.request) do
      {:ok, node, counter} -> {:ok, %{context | target: {node, counter}}}
      {:error, reason} -> {:error, {:no_node, reason}}
    end
  end

  @doc "The attempt on the node that was chosen."
  @spec execute(Context.t()) :: outcome() | :not_connected | :circuit_open
  def execute(
        %{target: {node, counter}, plan: plan(module: module, function: function)} = context
      ) do
    with :ok <- check_local_mfa(context),
         {:ok, remaining} <- remaining(context) do
      arguments = arguments(context, context.request)

      metadata = Log.metadata(context.request, context.request_id)

      case RPC.call(node, module, function, arguments, remaining, counter, metadata) do
        :not_connected ->
          NodeSelector.mark(node, :down)
          :not_connected

        # A host that swallows every packet. Connecting fails only after seven seconds, when
        # requests have given up: they must not go on choosing it.
        :unreachable ->
          NodeSelector.mark(node, :down)
          :timeout

        outcome ->
          outcome
      end
    end
  end

  @doc "What the gateway runs itself is checked against the lists as they are now."
  @spec check_local_mfa(Context.t()) :: :ok | {:failed, term()}
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
