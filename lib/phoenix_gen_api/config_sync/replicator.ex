defmodule PhoenixGenApi.ConfigSync.Replicator do
  @moduledoc false
  # Decides when this gateway compares notes with another one, and has it done in a process per
  # gateway; one that hangs delays no other.
  #
  #   - when a gateway joins: the one of the two whose name sorts first
  #   - when a gateway has left, with all the others: it may have died while it told them of a push
  #   - with one that has not taken in a push in time, until it has
  #   - every half a minute with any one, for what nobody has thought of
  #
  # A crash loses nothing: who is behind stands in a table of the supervisor.
  use GenServer

  alias PhoenixGenApi.Cluster
  alias PhoenixGenApi.ConfigSync.{AntiEntropy, PushStore}
  alias PhoenixGenApi.SafeInspect

  require Logger

  @round_ms 30_000
  @min_backoff_ms 500
  @max_backoff_ms 30_000

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Notes that a gateway has missed something, and has it catch up."
  @spec behind(node()) :: :ok
  def behind(node) do
    PushStore.mark_behind(node)
    GenServer.cast(__MODULE__, {:behind, node})
  end

  # `peers` are the connected gateways, each with the monitor of the exchange that runs, whether
  # another one is to follow, and how long to wait after the next failure. An exchange with a
  # gateway that leaves fails by itself.

  @impl true
  def init(_opts) do
    nodes = Cluster.watch()
    schedule()
    state = Enum.reduce(nodes, %{}, &Map.put(&2, &1, idle()))
    due = Enum.filter(nodes, &initiates?/1) ++ PushStore.all_behind()
    {:ok, due |> Enum.uniq() |> Enum.reduce(state, &start/2)}
  end

  @impl true
  def handle_cast({:behind, node}, peers), do: {:noreply, start(node, peers)}

  @impl true
  def handle_info({Cluster, :joined, node}, peers) do
    peers = Map.put_new_lazy(peers, node, &idle/0)
    peers = put_in(peers[node].backoff, @min_backoff_ms)
    {:noreply, if(initiates?(node), do: start(node, peers), else: peers)}
  end

  def handle_info({Cluster, :left, node}, peers) do
    peers = Map.delete(peers, node)
    PushStore.mark_caught_up(node)
    {:noreply, peers |> Map.keys() |> Enum.filter(&initiates?/1) |> Enum.reduce(peers, &start/2)}
  end

  def handle_info({{:exchanged, node}, monitor, :process, _pid, reason}, peers) do
    case peers do
      %{^node => %{running: ^monitor} = peer} ->
        {:noreply, ended(node, reason, %{peers | node => %{peer | running: nil}})}

      _of_a_gateway_that_left ->
        {:noreply, peers}
    end
  end

  def handle_info({:retry, node}, peers), do: {:noreply, start(node, peers)}

  def handle_info(:round, peers) do
    schedule()

    {:noreply,
     if(peers == %{}, do: peers, else: peers |> Map.keys() |> Enum.random() |> start(peers))}
  end

  def handle_info(_other, peers), do: {:noreply, peers}

  defp start(node, peers) do
    case peers do
      %{^node => %{running: nil} = peer} ->
        opts = [monitor: [tag: {:exchanged, node}]]
        {_pid, monitor} = :erlang.spawn_opt(AntiEntropy, :run, [node], opts)
        %{peers | node => %{peer | running: monitor, again: false}}

      %{^node => peer} ->
        %{peers | node => %{peer | again: true}}

      _left ->
        PushStore.mark_caught_up(node)
        peers
    end
  end

  defp ended(node, :normal, peers) do
    peers = put_in(peers[node].backoff, @min_backoff_ms)

    if peers[node].again do
      start(node, peers)
    else
      PushStore.mark_caught_up(node)
      peers
    end
  end

  defp ended(node, reason, peers) do
    Logger.warning("gateway #{node} could not be compared with: " <> SafeInspect.inspect(reason))
    Process.send_after(self(), {:retry, node}, peers[node].backoff)
    update_in(peers[node].backoff, &min(&1 * 2, @max_backoff_ms))
  end

  # Of two gateways one begins, so that nothing is fetched twice.
  defp initiates?(node), do: node() < node

  defp idle, do: %{running: nil, again: false, backoff: @min_backoff_ms}

  defp schedule, do: Process.send_after(self(), :round, @round_ms)
end
