defmodule PhoenixGenApi.Relay.Shard.Server do
  @moduledoc false
  # Changes of groups where several gateways form the relay, a part of the groups in each process.
  #
  # The oldest gateway decides: its shard makes the change and sends what came of it to the
  # shards of all others, which copy it and tell the shard that asked. That answers its caller
  # when all have, or after `sync_timeout`. Where devices are, each gateway says itself, to all
  # others; when the last device of a user has gone, the oldest gateway has them leave.
  #
  # Between two gateways everything of a group travels from one process to one process, so it
  # arrives in order. What a gateway that comes needs to know travels the same way, ahead of
  # what happens afterwards.
  use GenServer

  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Relay.{Peers, Shard}
  alias PhoenixGenApi.Relay.Shard.{Leader, PeerSync, Presence, Request, State}

  @doc false
  def start_link(n), do: GenServer.start_link(__MODULE__, n, name: Shard.name(n))

  @impl true
  def init(n) do
    state = %State{number: n, relay: Gateway.handle!(:relay), life: make_ref()}
    {:ok, state, {:continue, :resume}}
  end

  @impl true
  def handle_continue(:resume, state), do: {:noreply, PeerSync.resume(state)}

  @impl true
  def handle_call({:change, op, joining}, from, state),
    do: {:noreply, Request.new(state, op, joining, from)}

  def handle_call(:caught_up?, _from, state) do
    known? = Enum.all?(Peers.current(), &is_map_key(state.peers, &1))
    {:reply, known? and State.caught_up?(state), state}
  end

  @impl true
  def handle_cast({:up, node, number, reply?}, state),
    do: {:noreply, PeerSync.send_state(state, node, number, reply?)}

  def handle_cast({:down, node}, state), do: {:noreply, PeerSync.remove_peer(state, node)}

  def handle_cast({:present, nodes}, state),
    do: {:noreply, PeerSync.reconcile_peers(state, nodes)}

  def handle_cast({:last_device_gone, group, user, why}, state),
    do: {:noreply, Presence.last_device_gone(state, group, user, why)}

  # From this shard of another gateway

  @impl true
  def handle_info({:hello, node, hello}, state),
    do: {:noreply, PeerSync.receive_hello(state, node, hello)}

  def handle_info({:refused, node, why}, state) do
    Peers.refused(node, why)
    {:noreply, PeerSync.remove_peer(state, node)}
  end

  def handle_info({:group, node, group, origin, records, last?}, state),
    do: {:noreply, PeerSync.receive_page(state, node, group, origin, records, last?)}

  def handle_info({:synced, node}, state), do: {:noreply, PeerSync.mark_synced(state, node)}

  # For one before it; who asks will hear that there is another one, and ask again.
  def handle_info({:request, _node, _ref, _op, life}, state) when life != state.life,
    do: {:noreply, state}

  def handle_info({:request, node, ref, op, _life}, state) do
    if State.leads?(state, op) do
      {result, effects, state} = Leader.decide(state, op, node)
      awaited = State.broadcast(state, {:effects, ref, node, effects})
      State.send_to(state, node, {:decided, ref, op, result, [node() | awaited]})
      State.send_to(state, node, {:ack, ref, :effects, node()})
      {:noreply, state}
    else
      # Not handed on: the oldest one may be gone, which this gateway has not noticed yet.
      State.send_to(state, node, {:not_leader, ref})
      {:noreply, state}
    end
  end

  def handle_info({:not_leader, ref}, state), do: {:noreply, Request.not_leader(state, ref)}

  def handle_info({:decided, ref, op, result, awaited}, state),
    do: {:noreply, Request.decided(state, ref, op, result, awaited -- [node()])}

  def handle_info({:effects, ref, asked, effects}, state) do
    Leader.apply_effects(state, effects)
    if ref && asked != node(), do: State.send_to(state, asked, {:ack, ref, :effects, node()})
    {:noreply, state}
  end

  def handle_info({:presence, node, ref, group, user, there?, why}, state),
    do: {:noreply, Presence.update_remote(state, node, ref, group, user, there?, why)}

  def handle_info({:absent, node, group, user}, state),
    do: {:noreply, Presence.absent(state, node, group, user)}

  def handle_info({:ack, ref, what, node}, state),
    do: {:noreply, Request.acked(state, ref, what, node)}

  # From itself, later

  def handle_info({:retry, ref}, state), do: {:noreply, Request.retry(state, ref)}
  def handle_info({:timeout, ref}, state), do: {:noreply, Request.timed_out(state, ref)}

  def handle_info({:settle, token}, %{settling: token} = state),
    do: {:noreply, Presence.settle(state)}

  def handle_info(_other, state), do: {:noreply, state}
end
