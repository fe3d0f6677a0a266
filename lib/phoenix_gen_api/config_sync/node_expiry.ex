defmodule PhoenixGenApi.ConfigSync.NodeExpiry do
  @moduledoc false
  # Takes nodes that have joined a service off its functions when they have been away for
  # `config :phoenix_gen_api, :service, forget_ms`. Each gateway goes by its own connections. A crash
  # lets the nodes that are away stay for as long again.
  use GenServer

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ConfigSync.{Installer, JoinedNodes, PushStore}
  alias PhoenixGenApi.ConfigSync.ServiceLock.Recovery
  alias PhoenixGenApi.Log

  require Log

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "These nodes have joined, and may be away already."
  @spec watch([node()]) :: :ok
  def watch([]), do: :ok
  def watch(nodes), do: GenServer.cast(__MODULE__, {:watch, nodes})

  # The state: the timers of nodes that are away.

  @impl true
  def init(_opts) do
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)
    {:ok, Enum.reduce(JoinedNodes.nodes(), %{}, &start/2)}
  end

  @impl true
  def handle_cast({:watch, nodes}, timers), do: {:noreply, Enum.reduce(nodes, timers, &start/2)}

  @impl true
  def handle_info({:nodedown, node, _info}, timers), do: {:noreply, start(node, timers)}

  def handle_info({:nodeup, node, _info}, timers) do
    {timer, timers} = Map.pop(timers, node)
    if timer, do: :erlang.cancel_timer(timer)
    {:noreply, timers}
  end

  def handle_info({:timeout, timer, node}, timers) do
    case timers do
      %{^node => ^timer} ->
        for service <- JoinedNodes.services(node), do: forget(service, node)
        {:noreply, Map.delete(timers, node)}

      _came_back ->
        {:noreply, timers}
    end
  end

  def handle_info(_other, timers), do: {:noreply, timers}

  defp start(node, timers) do
    if is_map_key(timers, node) or connected?(node) or JoinedNodes.services(node) == [],
      do: timers,
      else:
        Map.put(timers, node, :erlang.start_timer(Config.get(:service, :forget_ms), self(), node))
  end

  defp connected?(node), do: node == node() or node in Node.list(:connected)

  defp forget(service, node) do
    Recovery.run(service, fn ->
      PushStore.mark_dirty(service)
      JoinedNodes.forget(service, node)

      with %{applied: %{digest: digest} = applied} <- PushStore.entry(service),
           {:ok, %{nodes: nodes}} <- PushStore.outline(service, digest),
           # The node of the push itself stays.
           false <- Atom.to_string(node) in nodes do
        Installer.update_nodes(service, applied)
        Log.info("node #{node} is no longer one of service #{service}: it has been away for long")
      end

      PushStore.clear_dirty(service)
    end)
  end
end
