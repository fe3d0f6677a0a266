defmodule PhoenixGenApi.Relay.Peers do
  @moduledoc false
  # The other gateways of the relay, each with a number: the bit that stands for it in the native
  # index. Tells the shards who comes and goes.
  #
  # Rows: {:boot, stamp}, {number, node} and {{:refused, node}}
  use GenServer

  alias PhoenixGenApi.Cluster
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.Relay.Shard
  alias PhoenixGenApi.Log

  require Log

  @table __MODULE__
  # The native index has that many bits.
  @max_peers 63

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new do
    OwnedTable.new(@table, [:set, read_concurrency: true], fn ->
      [{:boot, {System.system_time(:microsecond), node()}}]
    end)
  end

  @doc "When this gateway started, and that only once: the oldest gateway decides."
  @spec boot() :: {integer(), node()}
  def boot, do: :ets.lookup_element(@table, :boot, 2)

  @doc "How many numbers there are."
  @spec numbers() :: pos_integer()
  def numbers, do: @max_peers + 1

  @doc "The gateways that the bits stand for, with their numbers."
  @spec nodes(non_neg_integer()) :: [{non_neg_integer(), node()}]
  def nodes(0), do: []

  def nodes(mask) do
    for number <- bits(mask, 0), [numbered] <- [:ets.lookup(@table, number)], do: numbered
  end

  # Those that are set: as a rule some of the first.
  defp bits(0, _number), do: []
  defp bits(mask, number) when Bitwise.band(mask, 1) == 1, do: [number | rest(mask, number)]
  defp bits(mask, number), do: rest(mask, number)

  defp rest(mask, number), do: bits(Bitwise.bsr(mask, 1), number + 1)

  @doc "The number of a gateway, or nil when there are too many."
  @spec number(node()) :: non_neg_integer() | nil
  def number(node), do: GenServer.call(__MODULE__, {:number, node}, :infinity)

  @doc "Why a gateway that has got no number is not taken in."
  @spec refusal_reason() :: :full | :apart
  def refusal_reason, do: if(Config.get(:relay, :cluster), do: :full, else: :apart)

  @doc "From a shard: that gateway does not take this one in, or they do not understand each other."
  @spec refused(node(), :full | :apart | :protocol) :: :ok
  def refused(node, why), do: GenServer.cast(__MODULE__, {:refused, node, why})

  @doc "From a shard: it knows of no other gateway."
  @spec alone(non_neg_integer()) :: :ok
  def alone(shard), do: GenServer.cast(__MODULE__, {:alone, shard})

  @doc "The other gateways of the relay; from a shard that starts: those to turn to."
  @spec current() :: [node()]
  def current do
    if Config.get(:relay, :cluster),
      do: Enum.reject(Cluster.gateways(), &:ets.member(@table, {:refused, &1})),
      else: []
  end

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
  def handle_call({:number, node}, _from, state) do
    # Without a cluster it is none of this gateway's who else there is.
    {:reply, if(Config.get(:relay, :cluster), do: find_number(node, state)), state}
  end

  @impl true
  def handle_cast({:refused, node, why}, state) do
    # Each shard is told.
    if :ets.insert_new(@table, {{:refused, node}}), do: warn(why, node)
    {:noreply, state}
  end

  def handle_cast({:alone, shard}, state) do
    state = %{state | alone: MapSet.put(state.alone, shard)}

    if MapSet.size(state.nodes) == 0 and MapSet.size(state.alone) == Shard.count(),
      do: Native.relay_set_shared(state.relay, false)

    {:noreply, state}
  end

  @impl true
  def handle_info({Cluster, :joined, node}, state) do
    # Before anybody copies a group: from now on changes are ordered.
    Native.relay_set_shared(state.relay, true)
    state = %{state | nodes: MapSet.put(state.nodes, node), alone: MapSet.new()}

    case find_number(node, state) do
      nil -> refuse(node)
      number -> Shard.tell_all({:up, node, number, false})
    end

    {:noreply, state}
  end

  def handle_info({Cluster, :left, node}, state) do
    state = %{state | nodes: MapSet.delete(state.nodes, node), alone: MapSet.new()}
    :ets.delete(@table, {:refused, node})
    Shard.tell_all({:down, node})
    admit_waiting(state)
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # There is room for one of those who were refused, which has to hear of it.
  defp admit_waiting(state) do
    numbered = for {_number, node} <- rows(), do: node

    for node <- state.nodes, node not in numbered, number = find_number(node, state) do
      Shard.tell_all({:up, node, number, true})
    end
  end

  defp refuse(node) do
    :ets.insert(@table, {{:refused, node}})

    Log.error(
      "phoenix_gen_api: gateway #{node} is kept out of the relay, which has no room for more " <>
        "than #{@max_peers + 2} gateways"
    )
  end

  defp warn(:full, node) do
    Log.error(
      "phoenix_gen_api: gateway #{node} keeps this one out of its relay, which has no room for " <>
        "more than #{@max_peers + 2} gateways: groups are not shared with it"
    )
  end

  defp warn(:protocol, node) do
    Log.warning(
      "phoenix_gen_api: gateway #{node} runs another version of the library, whose relay speaks " <>
        "another protocol: groups are not shared with it"
    )
  end

  defp warn(:apart, node) do
    Log.warning(
      "phoenix_gen_api: gateway #{node} is configured with `relay: [cluster: false]`: groups are " <>
        "not shared with it"
    )
  end

  # A number stays with its gateway, until one that is gone has to make room.
  defp find_number(node, state) do
    rows = rows()

    number =
      case List.keyfind(rows, node, 1) do
        {number, ^node} -> number
        nil -> free(rows, state.nodes)
      end

    if number do
      :ets.insert(@table, {number, node})
      :ets.delete(@table, {:refused, node})
    end

    number
  end

  defp rows, do: for(number <- 0..@max_peers, row <- :ets.lookup(@table, number), do: row)

  defp free(rows, nodes) do
    taken = for {number, node} <- rows, node in nodes, do: number
    never_used = Enum.to_list(0..@max_peers) -- Enum.map(rows, &elem(&1, 0))
    List.first(never_used ++ (Enum.to_list(0..@max_peers) -- taken))
  end
end
