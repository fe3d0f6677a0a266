defmodule PhoenixGenApi.Relay.Tombstones do
  @moduledoc false
  # Groups that were deleted, and when, for gateways that were not there. The table is the
  # supervisor's: no crash of a shard brings a group back.
  #
  # Rows: {group, milliseconds}

  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.Relay.Shard

  @table __MODULE__
  # How long, and about how many.
  @ttl_ms 86_400_000
  @max_entries 50_000

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, write_concurrency: true])

  @doc "Notes that a group was deleted."
  @spec put(String.t(), integer()) :: :ok
  def put(group, at) do
    if :ets.info(@table, :size) >= @max_entries, do: evict(at)

    # As a rule the name is a part of the request that has deleted the group, all of which it would keep.
    :ets.insert(@table, {:binary.copy(group), at})
    :ok
  end

  @doc "It is there again."
  @spec delete(String.t()) :: :ok
  def delete(group) do
    :ets.delete(@table, group)
    :ok
  end

  @doc "When a group was deleted; before all times if it was not."
  @spec deleted_at(String.t()) :: integer()
  def deleted_at(group), do: :ets.lookup_element(@table, group, 2, -1)

  @doc "Those of a shard."
  @spec of_shard(non_neg_integer()) :: %{String.t() => integer()}
  def of_shard(shard),
    do:
      for(
        {group, at} <- :ets.tab2list(@table),
        Shard.owns?(group, shard),
        into: %{},
        do: {group, at}
      )

  # The older half, or whatever nobody needs to know any more.
  defp evict(now) do
    :ets.select_delete(@table, [{{:_, :"$1"}, [{:<, :"$1", now - @ttl_ms}], [true]}])

    if :ets.info(@table, :size) >= @max_entries do
      times = Enum.sort(:ets.select(@table, [{{:_, :"$1"}, [], [:"$1"]}]))
      median = Enum.at(times, div(length(times), 2))
      :ets.select_delete(@table, [{{:_, :"$1"}, [{:"=<", :"$1", median}], [true]}])
    end
  end
end
