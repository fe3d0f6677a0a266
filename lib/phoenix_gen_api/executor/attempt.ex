defmodule PhoenixGenApi.Executor.Attempt do
  @moduledoc false
  # One attempt at a call: a node for it, and what became of it there. A node to which nothing
  # was sent makes no attempt: the next one takes its place.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.Executor.Context
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Security

  @typedoc "What became of the call, or why it was not made."
  @type outcome :: RPC.Local.outcome() | {:failed, term()}

  @doc "Chooses nodes until one can be asked, within the timeout."
  @spec run(Context.t()) :: {outcome(), Context.t()}
  def run(%{target: nil} = call) do
    case choose(call) do
      {:ok, call} -> run(call)
      {:error, failure} -> {{:failed, failure}, call}
    end
  end

  def run(call) do
    started = now()

    case at(call) do
      :not_connected -> run(elsewhere(call, started))
      :circuit_open when has(call.plan, :local) -> {{:failed, {:no_node, refused()}}, call}
      :circuit_open -> run(elsewhere(call, started))
      outcome -> {outcome, call}
    end
  end

  defp elsewhere(call, started), do: %{call | target: nil, waited: call.waited + now() - started}

  @doc "Why a function that runs here and whose circuit is open cannot be called."
  @spec refused() :: NodeSelector.reason()
  def refused, do: {:all_nodes_unavailable, [{node(), :circuit_open}]}

  @doc "Node selection, for the call or for a callback that has to run where the call will."
  @spec choose(Context.t()) :: {:ok, Context.t()} | {:error, {:no_node, NodeSelector.reason()}}
  def choose(%{target: {_node, _counted}} = call), do: {:ok, call}

  def choose(call) do
    case NodeSelector.pick(call.plan, call.request) do
      {:ok, node, counter} -> {:ok, %{call | target: {node, counter}}}
      {:error, reason} -> {:error, {:no_node, reason}}
    end
  end

  @doc "The attempt on the node that was chosen."
  @spec at(Context.t()) :: outcome() | :not_connected | :circuit_open
  def at(%{target: {node, counter}, plan: plan(module: module, function: function)} = call) do
    with :ok <- permitted(call),
         {:ok, left} <- left(call) do
      case RPC.Local.call(node, module, function, arguments(call, call.request), left, counter) do
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
  @spec permitted(Context.t()) :: :ok | {:failed, term()}
  def permitted(%{target: {node, _}} = call) when node == node() do
    plan(module: module, function: function, arguments: arguments) = call.plan

    case Security.validate_mfa({module, function, arguments}) do
      :ok -> :ok
      {:error, reason} -> {:failed, {:not_allowed, reason}}
    end
  end

  def permitted(_call), do: :ok

  defp left(%{plan: plan(timeout: :infinity)}), do: {:ok, :infinity}

  defp left(%{plan: plan(timeout: timeout), waited: waited}) when waited < timeout,
    do: {:ok, timeout - waited}

  defp left(_call), do: :timeout

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
