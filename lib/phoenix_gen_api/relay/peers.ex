defmodule PhoenixGenApi.Relay.Peers do
  @moduledoc false
  # The other gateways of the relay, each with a number: the bit that stands for it in the native
  # index. Tells the shards who comes and goes.
  #
  # Rows: {:boot, stamp} and {number, node}
  use GenServer

  alias PhoenixGenApi.Cluster
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.Shard

  require Logger

  @table __MODULE__
  # The native index has that many bits.
  @most 31

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new do
    if :ets.whereis(@table) == :undefined do
      :ets.new(@table, [:named_table, :set, :public, read_concurrency: true])
      :ets.insert(@table, {:boot, {System.system_time(:microsecond), node()}})
    end

    :ok
  end

  @doc "When this gateway started, and that only once: the oldest gateway decides."
  @spec boot() :: {integer(), node()}
  def boot, do: :ets.lookup_element(@table, :boot, 2)

  @doc "The gateways that the bits stand for."
  @spec nodes(non_neg_integer()) :: [node()]
  def nodes(0), do: []

  def nodes(mask) do
    for number <- 0..@most,
        Bitwise.band(mask, Bitwise.bsl(1, number)) != 0,
        [{_number, node}] <- [:ets.lookup(@table, number)],
        do: node
  end

  @doc "The number of a gateway, or nil when there are too many."
  @spec number(node()) :: non_neg_integer() | nil
  def number(node), do: GenServer.call(__MODULE__, {:number, node}, :infinity)

  @doc "From a shard: it knows of no other gateway."
  @spec alone(non_neg_integer()) :: :ok
  def alone(shard), do: GenServer.cast(__MODULE__, {:alone, shard})

  @doc "From a shard that starts: the gateways to turn to."
  @spec current() :: [node()]
  def current, do: if(Config.get(:relay, :cluster), do: Cluster.gateways(), else: [])

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    present = if Config.get(:relay, :cluster), do: Cluster.watch(), else: []
    # Some may have left unseen, if this process was restarted.
    Shard.tell_all({:present, present})
    for node <- present, do: send(self(), {Cluster, :joined, node})
    {:ok, %{relay: Gateway.handle!(:relay), nodes: MapSet.new(), alone: MapSet.new()}}
  end

  @impl true
  def handle_call({:number, node}, _from, state), do: {:reply, find_number(node, state), state}

  @impl true
  def handle_cast({:alone, shard}, state) do
    state = %{state | alone: MapSet.put(state.alone, shard)}

    if MapSet.size(state.nodes) == 0 and MapSet.size(state.alone) == Shard.count(),
      do: Native.relay_share(state.relay, false)

    {:noreply, state}
  end

  @impl true
  def handle_info({Cluster, :joined, node}, state) do
    # Before anybody copies a group: from now on changes are ordered.
    Native.relay_share(state.relay, true)
    state = %{state | nodes: MapSet.put(state.nodes, node), alone: MapSet.new()}

    case find_number(node, state) do
      nil -> Logger.error("phoenix_gen_api: the relay has no room for gateway #{node}")
      number -> Shard.tell_all({:up, node, number})
    end

    {:noreply, state}
  end

  def handle_info({Cluster, :left, node}, state) do
    state = %{state | nodes: MapSet.delete(state.nodes, node), alone: MapSet.new()}
    Shard.tell_all({:down, node})
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # A number stays with its gateway, until one that is gone has to make room.
  defp find_number(node, state) do
    rows = for number <- 0..@most, row <- :ets.lookup(@table, number), do: row

    case List.keyfind(rows, node, 1) do
      {number, ^node} -> number
      nil -> free(rows, state.nodes) |> tap(&(&1 && :ets.insert(@table, {&1, node})))
    end
  end

  defp free(rows, nodes) do
    taken = for {number, node} <- rows, node in nodes, do: number
    never_used = Enum.to_list(0..@most) -- Enum.map(rows, &elem(&1, 0))
    List.first(never_used ++ (Enum.to_list(0..@most) -- taken))
  end
end
