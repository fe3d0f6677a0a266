defmodule PhoenixGenApi.RPC.Connection do
  @moduledoc false
  # Connections to other nodes: whether there is one, and sending over one that may be full.

  @doc "Whether there is a connection to the node now."
  @spec connected?(node()) :: boolean()
  def connected?(node), do: node in Node.list(:connected)

  @doc "Sends signals to another node without waiting for a full connection to drain."
  # The connection to a node that hangs is soon full. Signals then suspend their sender until
  # the connection is given up, after a minute, and no timeout runs meanwhile. Signals sent
  # from `send` wait in the connection's own queue instead.
  @spec nosuspend((-> result)) :: result when result: term()
  def nosuspend(send) do
    before = :erlang.process_flag(:async_dist, true)
    sent = send.()
    :erlang.process_flag(:async_dist, before)
    sent
  end
end
