defmodule PhoenixGenApi.RPC do
  @moduledoc false
  # Applies a function on a node, this one or another, and returns what became of it.
  #
  # `RPC.Local` runs it here, `RPC.Client` on another node. With a counter the node's circuit for
  # the function is asked before the call and told afterwards.

  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.RPC.{Client, Local}

  @typedoc "What became of a call."
  @type outcome ::
          Local.outcome()
          # the deadline of its request was over first
          | :deadline
          # nothing was sent: another node may be tried
          | :not_connected
          # nothing was sent either, but connecting took all the time there was
          | :unreachable
          # nothing was begun: the service stops on that node
          | :stopping
          # nothing was sent: for this function the node's circuit is open
          | :circuit_open
          | {:node_down, term()}

  @doc """
  Applies a function on a node. `counter` is what `NodeSelector.pick/2` gave to count it on;
  without it no circuit is asked or told. `metadata` is for the log of the function, and says what is left
  of the deadline, which may be less than the timeout. Being cut short by it says nothing of the node: clients choose
  deadlines. With `inline` a function that runs here does so in this process, and has no deadline.
  """
  @spec call(
          node(),
          module(),
          atom(),
          [term()],
          timeout(),
          Circuits.counter(),
          map() | nil,
          Local.inline() | nil
        ) :: outcome()
  def call(
        node,
        module,
        function,
        args,
        timeout,
        counter \\ nil,
        metadata \\ nil,
        inline \\ nil
      ) do
    own? = inline != nil and node == node()

    case if(own?, do: Circuits.begin_own_call(counter), else: Circuits.begin_call(counter)) do
      :circuit_open ->
        :circuit_open

      handle when own? ->
        call = {module, function, args}
        timeout = Local.bounded(timeout)
        outcome = Local.run_inline(handle, {node, counter}, call, timeout, metadata, inline)
        finish(handle, node, counter, outcome)
        outcome

      handle ->
        {timeout, late} = limit(Local.bounded(timeout), metadata)
        outcome = run(handle, node, {module, function, args}, timeout, metadata)
        outcome = if outcome in [:timeout, :unreachable], do: late || outcome, else: outcome
        finish(handle, node, counter, outcome)
        outcome
    end
  end

  defp limit(timeout, %{remaining_ms: ms}) when ms < timeout, do: {ms, :deadline}
  defp limit(timeout, _metadata), do: {timeout, nil}

  defp run(handle, node, call, timeout, metadata) when node == node(),
    do: Local.run(handle, call, timeout, metadata)

  defp run(handle, node, call, timeout, metadata),
    do: Client.call(handle, node, call, timeout, metadata)

  @doc "A function that ran inline has run for too long."
  @spec timed_out(reference() | :free, node(), Circuits.counter()) :: :ok
  def timed_out(handle, node, counter), do: finish(handle, node, counter, :timeout)

  defp finish(:free, _node, nil, _outcome), do: :ok
  defp finish(handle, node, nil, _outcome), do: Circuits.end_call(handle, node, nil, :none)

  defp finish(handle, node, counter, outcome),
    do: Circuits.end_call(handle, node, counter, Circuits.classify(outcome))
end
