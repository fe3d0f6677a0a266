defmodule PhoenixGenApi.ConfigSync.Replicator do
  @moduledoc false
  # Tells the other gateways of what is pushed here, and decides when this one compares notes with
  # another, which is done in a process per gateway; one that hangs delays no other. Notes are compared
  #
  #   - when a gateway joins: the one of the two whose name sorts first
  #   - when a gateway has left, with all the others: it may have died while it told them of a push
  #   - with one that has not taken in a push in time, until it has
  #   - every half a minute with any one, for what nobody has thought of
  #
  # A crash loses nothing: who is behind stands in a table of the supervisor.
  use GenServer

  alias PhoenixGenApi.Cluster
  alias PhoenixGenApi.ConfigSync.{AntiEntropy, PushStore, VersionVector}
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Log

  require Log

  # How long a push waits for the other gateways: less than a pusher waits for its answer.
  @replicate_timeout_ms 3_000

  @round_ms 30_000
  @min_backoff_ms 500
  @max_backoff_ms 30_000

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc """
  Has every connected gateway take in what is known of a service, with the nodes that have joined it.

  Returns when all have, or after three seconds; who has not by then catches up in the
  background, and is waited for again when it has. An error says that this gateway stops.
  """
  @spec replicate(String.t(), VersionVector.t()) :: :ok | {:error, :not_running}
  def replicate(service, vector) do
    # In a process of its own: connections may just be breaking, and making one can take longer.
    {_pid, monitor} = spawn_monitor(fn -> tell_all(service, vector) end)

    receive do
      {:DOWN, ^monitor, :process, _pid, :normal} -> :ok
      {:DOWN, ^monitor, :process, _pid, _reason} -> {:error, :not_running}
    after
      @replicate_timeout_ms + 500 -> Process.demonitor(monitor, [:flush]) && :ok
    end
  end

  # The table is gone when this gateway has stopped, and nobody may have got anything.
  defp tell_all(service, vector) do
    life = PushStore.gateway()
    {late, others} = Enum.split_with(Cluster.gateways(), &PushStore.behind?/1)
    Enum.each(late, &behind/1)

    others
    |> AntiEntropy.tell_all(service, vector, @replicate_timeout_ms)
    |> Enum.zip(others)
    |> Enum.each(fn
      {{:ok, {:ok, :ok}}, _node} -> :ok
      # This one has left them.
      {{:ok, {:error, :not_a_gateway}}, _node} -> exit({:shutdown, :not_running})
      {_late_or_failed, node} -> behind(node)
    end)

    if PushStore.gateway() != life, do: exit({:shutdown, :not_running})
  rescue
    ArgumentError -> exit({:shutdown, :not_running})
  end

  # Has a gateway that has missed something catch up. One of another protocol never does.
  defp behind(node) do
    PushStore.mark_behind(node)
    GenServer.cast(__MODULE__, {:behind, node})
  end

  # `peers` are the connected gateways, each with the monitor of the exchange that runs, whether
  # another one is to follow, how long to wait after the next failure, and whether it was found to
  # speak another protocol. An exchange with a gateway that leaves fails by itself.

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
    peers = update_in(peers[node], &%{&1 | backoff: @min_backoff_ms, other_protocol?: false})

    if peers[node].again do
      start(node, peers)
    else
      PushStore.mark_caught_up(node)
      peers
    end
  end

  # It is asked again when something is pushed here, and says so at once.
  defp ended(node, {:shutdown, :protocol}, peers) do
    unless peers[node].other_protocol? do
      Log.warning(
        "gateway #{node} runs another version of the library, which exchanges pushes otherwise: " <>
          "what services push to one of the two is not known to the other"
      )
    end

    put_in(peers[node].other_protocol?, true)
  end

  defp ended(node, reason, peers) do
    Log.warning("gateway #{node} could not be compared with: " <> SafeInspect.inspect(reason))
    Process.send_after(self(), {:retry, node}, peers[node].backoff)
    update_in(peers[node].backoff, &min(&1 * 2, @max_backoff_ms))
  end

  # Of two gateways one begins, so that nothing is fetched twice.
  defp initiates?(node), do: node() < node

  defp idle, do: %{running: nil, again: false, backoff: @min_backoff_ms, other_protocol?: false}

  defp schedule, do: Process.send_after(self(), :round, @round_ms)
end
