defmodule PhoenixGenApi.Relay.Shard.PeerSync do
  @moduledoc false
  # Other gateways that come and go. One that comes is told everything, and from then on what
  # happens.

  alias PhoenixGenApi.Relay.{Outbox, Peers, StateTransfer, Tombstones}
  alias PhoenixGenApi.Relay.Shard.{Presence, Request, State}

  # What shards say to each other. Gateways with another one keep their groups to themselves.
  @protocol 1

  # Gateways that are remembered as lost: those that started last.
  @most_lost 256

  @doc "After a crash the others are asked for what they have; otherwise there are none yet."
  @spec resume(State.t()) :: State.t()
  def resume(state) do
    case Peers.current() do
      # The last one may have left unseen.
      [] -> peer_gone(state)
      nodes -> Enum.reduce(nodes, state, &send_state(&2, &1, Peers.number(&1), true))
    end
  end

  # One has gone: who was only there leaves.
  defp peer_gone(state) do
    if state.peers == %{}, do: Peers.alone(state.number)
    Presence.depart_absent(state)
  end

  @doc "Tells a gateway everything; with `reply?` it is to do the same."
  @spec send_state(State.t(), node(), non_neg_integer() | nil, boolean()) :: State.t()
  def send_state(state, _node, nil, _reply?), do: state

  def send_state(state, node, number, reply?) do
    state = release_number(state, node, number)
    state = if is_map_key(state.peers, node), do: state, else: State.add_peer(state, node, number)
    state = Presence.start_settling(state)

    hello = %{
      protocol: @protocol,
      boot: Peers.boot(),
      life: state.life,
      lost: state.lost,
      deleted: Tombstones.of_shard(state.number),
      reply?: reply?
    }

    State.send_to(state, node, {:hello, node(), hello})
    StateTransfer.send_all(state, node)
    State.send_to(state, node, {:synced, node()})
    state
  end

  @doc "A gateway is about to tell everything."
  @spec receive_hello(State.t(), node(), map()) :: State.t()
  def receive_hello(state, node, %{protocol: @protocol} = hello) do
    state = if is_map_key(state.peers, node), do: state, else: add_unannounced_peer(state, node)

    case state.peers do
      %{^node => peer} ->
        split? = hello.lost[node()] == Peers.boot() or state.lost[node] == hello.boot
        state = merge_lost(state, hello.lost)
        # A shard that starts anew no longer knows of what its predecessor was to attach.
        state = if peer.life == hello.life, do: state, else: Presence.forget_expected(state, node)
        peer = Map.merge(peer, %{boot: hello.boot, life: hello.life, split?: split?})
        state = %{state | peers: Map.put(state.peers, node, peer)}
        StateTransfer.apply_tombstones(state, hello.deleted)
        # Nor of what it was asked.
        if hello.reply?,
          do: state |> send_state(node, peer.number, false) |> Request.peer_gone(node),
          else: state

      _no_part ->
        # Or it would wait for what this gateway has.
        State.send_to(state, node, {:refused, node(), Peers.refusal_reason()})
        state
    end
  end

  def receive_hello(state, node, _of_another_protocol) do
    Peers.refused(node, :protocol)
    state = remove_peer(state, node)
    State.send_to(state, node, {:refused, node(), :protocol})
    state
  end

  # What this gateway has from that one, it has been told without those.
  defp merge_lost(state, lost) do
    lost = Map.drop(lost, [node() | Map.keys(state.peers)])
    %{state | lost: trim_lost(Map.merge(lost, state.lost))}
  end

  # Most will never come back.
  defp trim_lost(lost) when map_size(lost) <= @most_lost, do: lost

  defp trim_lost(lost),
    do: lost |> Enum.sort_by(&elem(&1, 1), :desc) |> Enum.take(@most_lost) |> Map.new()

  # It was quicker than this gateway's own news of it, which will follow.
  defp add_unannounced_peer(state, node) do
    case Peers.number(node) do
      nil ->
        state

      number ->
        state |> release_number(node, number) |> State.add_peer(node, number)
    end
  end

  # Who had that number before has gone, or it would not be free. News of that may be on their way
  # still, but what is noted of the one must not be taken for the other's.
  defp release_number(state, node, number) do
    before = for {other, %{number: ^number}} when other != node <- state.peers, do: other
    Enum.reduce(before, state, &remove_peer(&2, &1))
  end

  @doc "A page of a group that a gateway has."
  @spec receive_page(State.t(), node(), String.t(), tuple(), list(), boolean()) :: State.t()
  def receive_page(state, node, group, origin, records, last?) do
    state =
      if is_map_key(state.peers, node),
        do: StateTransfer.collect(state, node, group, records),
        else: state

    if last?, do: StateTransfer.merge(state, node, group, origin), else: state
  end

  @doc "A gateway has told everything."
  @spec mark_synced(State.t(), node()) :: State.t()
  def mark_synced(state, node) do
    case state.peers do
      %{^node => peer} ->
        peers = Map.put(state.peers, node, %{peer | synced?: true})
        # What is incomplete by now was deleted on its way.
        incoming_groups =
          Map.reject(state.incoming_groups, fn {{of, _group}, _records} -> of == node end)

        lost = Map.delete(state.lost, node)
        state = %{state | peers: peers, lost: lost, incoming_groups: incoming_groups}
        state |> Presence.start_settling() |> Request.drain()

      _gone ->
        state
    end
  end

  @doc "Peers starts anew: these are there, and others may have gone unseen."
  @spec reconcile_peers(State.t(), [node()]) :: State.t()
  def reconcile_peers(state, nodes) do
    case Map.keys(state.peers) -- nodes do
      # It may not have heard of it.
      [] when state.peers == %{} -> peer_gone(state)
      gone -> Enum.reduce(gone, state, &remove_peer(&2, &1))
    end
  end

  @doc "A gateway has gone."
  @spec remove_peer(State.t(), node()) :: State.t()
  def remove_peer(state, node) do
    case Map.pop(state.peers, node) do
      # One that was refused may have been the last one that Peers knew of.
      {nil, _peers} ->
        if state.peers == %{}, do: Peers.alone(state.number)
        state

      {peer, peers} ->
        Outbox.discard(peer.outbox)
        lost = if peer.boot, do: Map.put(state.lost, node, peer.boot), else: state.lost
        lost = trim_lost(lost)

        incoming_groups =
          Map.reject(state.incoming_groups, fn {{n, _group}, _records} -> n == node end)

        state =
          Presence.forget_expected(
            %{state | peers: peers, lost: lost, incoming_groups: incoming_groups},
            node
          )

        state |> peer_gone() |> Request.peer_gone(node) |> Request.drain()
    end
  end
end
