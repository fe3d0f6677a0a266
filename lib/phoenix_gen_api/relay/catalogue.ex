defmodule PhoenixGenApi.Relay.Catalogue do
  @moduledoc false
  # What a gateway tells another one that it has met: its groups, and those that it has deleted.

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.Shard
  alias PhoenixGenApi.Relay.Shard.State

  @page 500
  # How long, and how many, deleted groups are remembered for gateways that were not there.
  @remember_ms 86_400_000
  @most_remembered 10_000

  @doc "Sends all groups of the shard."
  @spec send_all(State.t(), node()) :: :ok
  def send_all(state, node) do
    target = {Shard.name(state.number), node}

    for group <- Native.relay_ids(state.relay),
        Shard.of?(group, state.number),
        do: send_pages(state.relay, group, 0, target)

    :ok
  end

  defp send_pages(relay, group, start, target) do
    case Native.relay_records(relay, group, start, @page) do
      {origin, records, next} ->
        send(target, {:group, node(), group, origin, records, next == nil})
        if next, do: send_pages(relay, group, next, target)

      _deleted ->
        :ok
    end
  end

  @doc "Keeps a page until the group is complete."
  @spec collect(State.t(), node(), String.t(), list()) :: State.t()
  def collect(state, node, group, records) do
    incoming = Map.update(state.incoming, {node, group}, records, &(records ++ &1))
    %{state | incoming: incoming}
  end

  @doc "Unites a complete group with what is here."
  @spec unite(State.t(), node(), String.t(), tuple()) :: State.t()
  def unite(state, node, group, {_type, _ms, _by, changed_ms} = origin) do
    {records, incoming} = Map.pop(state.incoming, {node, group}, [])
    state = %{state | incoming: incoming}

    case state do
      %{peers: %{^node => %{number: number, apart?: apart?}}} ->
        if Map.get(state.deleted, group, -1) >= changed_ms do
          state
        else
          out = Native.relay_merge(state.relay, group, origin, number, apart?, records)
          for user <- out, do: Shard.gone(group, user)
          %{state | deleted: Map.delete(state.deleted, group)}
        end

      _gone ->
        state
    end
  end

  @doc "Deletes what was deleted elsewhere after its last change here."
  @spec bury(State.t(), %{String.t() => integer()}) :: State.t()
  def bury(state, deleted) do
    for {group, at} <- deleted,
        {{_type, _ms, _by, changed_ms}, _records, _next} <-
          [Native.relay_records(state.relay, group, 0, 1)],
        at >= changed_ms,
        reduce: state do
      state ->
        Native.relay_order_delete(state.relay, group)
        %{state | deleted: remember(state.deleted, group, at)}
    end
  end

  @doc "Notes that a group was deleted."
  @spec remember(%{String.t() => integer()}, String.t(), integer()) :: %{String.t() => integer()}
  def remember(deleted, group, at) do
    deleted = if map_size(deleted) < @most_remembered, do: deleted, else: forget(deleted, at)
    Map.put(deleted, group, at)
  end

  defp forget(deleted, now) do
    kept = Map.filter(deleted, fn {_group, at} -> now - at < @remember_ms end)

    if map_size(kept) < @most_remembered do
      kept
    else
      kept |> Enum.sort_by(&elem(&1, 1)) |> Enum.drop(div(@most_remembered, 2)) |> Map.new()
    end
  end
end
