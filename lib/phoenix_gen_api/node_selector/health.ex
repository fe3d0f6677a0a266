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

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)
    # Events before this process lived, or while it was being restarted.
    for node <- Node.list(:connected), do: NodeSelector.mark(node, :up)
    schedule()
    {:ok, %{prober: nil}}
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

  # Connecting may block for seconds, so it is done aside, one round at a time.
  def handle_info(:probe, %{prober: nil} = state) do
    schedule()
    {_pid, ref} = spawn_monitor(&probe/0)
    {:noreply, %{state | prober: ref}}
  end

  def handle_info(:probe, state) do
    schedule()
    {:noreply, state}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, %{prober: ref} = state),
    do: {:noreply, %{state | prober: nil}}

  def handle_info(_other, state), do: {:noreply, state}

  defp schedule do
    Process.send_after(self(), :probe, Config.get(:node_selector, :probe_interval))
  end

  defp probe do
    NodeSelector.sweep(Gateway.handle!(:node_selector))
    Circuits.sweep()

    # All at once: a host that swallows packets takes seven seconds to fail, and must not keep
    # the others waiting. The round ends with the slowest, so that rounds do not pile up.
    probes =
      for {node, :down} <- NodeSelector.node_statuses(),
          do: spawn_monitor(fn -> connect(node) end)

    for {pid, monitor} <- probes do
      receive do
        {:DOWN, ^monitor, :process, ^pid, _reason} -> :ok
      end
    end
  end

  defp connect(node) do
    if :net_kernel.connect_node(node) == true, do: NodeSelector.mark(node, :up)
  end
end
