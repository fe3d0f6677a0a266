defmodule PhoenixGenApi.RPC.Connection do
  @moduledoc false
  # Connections to other nodes: whether there is one, and sending over one that may be full.

  alias PhoenixGenApi.SafeInspect

  @epmd_timeout_ms 2_000

  @doc "Whether there is a connection to the node now."
  @spec connected?(node()) :: boolean()
  def connected?(node), do: node in Node.list(:connected)

  @doc """
  Why a node cannot be connected, as far as its host tells. Takes up to some seconds.

  The VM only says that it cannot.
  """
  @spec diagnose(node()) :: String.t()
  def diagnose(node) do
    with true <- Node.alive?(),
         [name, host] <- node |> Atom.to_string() |> String.split("@", parts: 2) do
      case ask_host(String.to_charlist(name), String.to_charlist(host)) do
        {:port, _port, _version} ->
          "it runs, but does not accept this node: are the cookies the same?"

        :noport ->
          "no node of that name runs on its host"

        {:error, :nxdomain} ->
          "its host is not known"

        {:error, reason} ->
          "its host does not answer: #{SafeInspect.inspect(reason, 100)}"
      end
    else
      false -> "this node has no name, so that it cannot connect others"
      _no_host -> "its name has no host"
    end
  end

  defp ask_host(name, host) do
    :net_kernel.epmd_module().port_please(name, host, @epmd_timeout_ms)
  catch
    kind, reason -> {:error, {kind, reason}}
  end

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
