defmodule PhoenixGenApi.NodeSelector.Health do
  @moduledoc false
  # Tells node selection which nodes are up: from the events of distribution, and by trying
  # to connect to those that are down. Sweeps the sticky table, forgotten nodes and
  # circuits.
  use GenServer

  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.NodeSelector

  # A host that swallows packets takes seven seconds to fail and must not delay the others. But
  # `:net_kernel` looks up the hosts of all connections, one after the other: probing thousands
  # of nodes at once delays every other connection by minutes.
  @concurrency 32

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)
    # Events before this process lived, or while it was being restarted.
    for node <- Node.list(:connected), do: NodeSelector.mark(node, :up)
    schedule()
    {:ok, %{prober: nil, sweeper: nil}}
  end

  @impl true
  def handle_info({:nodeup, node, _info}, state) do
    NodeSelector.mark(node, :up)
    Circuits.probe_now(node)
    {:noreply, state}
  end

  def handle_info({:nodedown, node, _info}, state) do
    NodeSelector.mark(node, :down)
    {:noreply, state}
  end

  # Connecting may block for seconds, so it is done aside, one round at a time. Sweeping does not
  # wait for a round.
  def handle_info(:probe, state) do
    schedule()
    health = self()
    state = aside(state, :sweeper, &sweep/0)
    {:noreply, aside(state, :prober, fn -> probe(health) end)}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state),
    do:
      {:noreply,
       Map.new(state, fn {name, running} -> {name, if(running != ref, do: running)} end)}

  def handle_info(_other, state), do: {:noreply, state}

  defp schedule do
    Process.send_after(self(), :probe, Config.get(:node_selector, :probe_interval))
  end

  defp aside(state, name, fun), do: Map.update!(state, name, &(&1 || elem(spawn_monitor(fun), 1)))

  defp sweep do
    NodeSelector.sweep(Gateway.handle!(:node_selector))
    Circuits.sweep()
  end

  # A long round skips nodes that came back meanwhile, and ends with the process that began it.
  @doc false
  def probe(health, connect \\ &connect/1) do
    down = for {node, :down} <- NodeSelector.node_statuses(), do: node

    down
    |> Stream.take_while(fn _node -> Process.alive?(health) end)
    |> Stream.filter(&(NodeSelector.node_status(&1) == :down))
    |> Task.async_stream(connect,
      max_concurrency: @concurrency,
      ordered: false,
      timeout: :infinity
    )
    |> Stream.run()
  end

  defp connect(node) do
    if :net_kernel.connect_node(node) == true, do: NodeSelector.mark(node, :up)
  end
end
