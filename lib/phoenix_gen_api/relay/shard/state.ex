defmodule PhoenixGenApi.Relay.Shard.State do
  @moduledoc false
  # What a shard knows of itself and of the other gateways.

  alias PhoenixGenApi.Relay.{Outbox, Peers, Shard}
  alias PhoenixGenApi.Relay.Shard.Command

  defstruct [
    :number,
    :relay,
    # Tells this process from those of the same name before it.
    :life,
    # node => %{number, boot, life, split?, synced?, outbox}
    peers: %{},
    # Gateways that were lost while both went on, by this one or by those that it has its groups
    # from: node => boot
    lost: %{},
    # Requests of callers here: ref => %{from, op, joining, asked, result, waiting, acked}. A join
    # stays without its caller, who waits no longer, as its device has to follow.
    pending: %{},
    # Those that wait for a gateway to tell what it has.
    queue: [],
    # Joins that were decided here and whose device is not there yet: {group, user} => %{node => count}
    expected_devices: %{},
    # {group, user} of whom a gateway has said that they left, when this one took them to be elsewhere.
    reported_left: MapSet.new(),
    incoming_groups: %{},
    # Set while gateways find each other, see Presence.start_settling/1.
    settling: nil
  ]

  @type t :: %__MODULE__{}

  @doc "The gateway that decides: the oldest one of those that have told what they have."
  @spec leader(t()) :: node()
  def leader(state) do
    others = for {node, %{synced?: true, boot: boot}} <- state.peers, do: {boot, node}
    [{Peers.boot(), node()} | others] |> Enum.min() |> elem(1)
  end

  @doc "Whether it is for this gateway to decide that, and now."
  @spec leads?(t(), Command.op()) :: boolean()
  # Not before all have told where they have devices of theirs.
  def leads?(state, op) when elem(op, 0) == :depart,
    do: leader(state) == node() and caught_up?(state)

  def leads?(state, _op), do: leader(state) == node()

  @doc "Whether every gateway has told what it has."
  @spec caught_up?(t()) :: boolean()
  def caught_up?(state), do: Enum.all?(state.peers, fn {_node, peer} -> peer.synced? end)

  @doc "The bits of the other gateways in the native index."
  @spec mask(t()) :: non_neg_integer()
  def mask(state) do
    for {_node, %{number: number}} <- state.peers, reduce: 0 do
      mask -> Bitwise.bor(mask, Bitwise.bsl(1, number))
    end
  end

  @doc "Sends to this shard of all other gateways, which are returned."
  @spec broadcast(t(), term()) :: [node()]
  def broadcast(state, message) do
    nodes = Map.keys(state.peers)
    for node <- nodes, do: send_to(state, node, message)
    nodes
  end

  @doc "Sends to this shard of one gateway."
  @spec send_to(t(), node(), term()) :: :ok
  def send_to(state, node, message) do
    target = {Shard.name(state.number), node}

    case state.peers do
      %{^node => %{outbox: outbox}} -> Outbox.put(outbox, message)
      # An answer to one that is no part of the relay, or no more. It may hang as well.
      _none -> spawn(fn -> :erlang.send(target, message, [:noconnect]) end)
    end

    :ok
  end

  @doc "Another gateway of which nothing is known yet."
  @spec add_peer(t(), node(), non_neg_integer()) :: t()
  def add_peer(state, node, number) do
    outbox = Outbox.open({Shard.name(state.number), node})

    peer = %{
      number: number,
      boot: nil,
      life: nil,
      split?: false,
      synced?: false,
      outbox: outbox
    }

    %{state | peers: Map.put(state.peers, node, peer)}
  end
end
