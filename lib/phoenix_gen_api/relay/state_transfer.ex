defmodule PhoenixGenApi.Relay.StateTransfer do
  @moduledoc false
  # What a gateway tells another one that it has met: its groups, and those that it has deleted.

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.{Shard, Tombstones}
  alias PhoenixGenApi.Relay.Shard.State

  @page 500

  @doc "Sends all groups of the shard."
  @spec send_all(State.t(), node()) :: :ok
  def send_all(state, node) do
    for group <- Native.relay_ids(state.relay),
        Shard.owns?(group, state.number),
        do: send_pages(state, group, 0, node)

    :ok
  end

  defp send_pages(state, group, start, node) do
    case Native.relay_records(state.relay, group, start, @page) do
      {origin, records, next} ->
        State.send_to(state, node, {:group, node(), group, origin, records, next == nil})
        if next, do: send_pages(state, group, next, node)

      _deleted ->
        :ok
    end
  end

  @doc "Keeps a page until the group is complete."
  @spec collect(State.t(), node(), String.t(), list()) :: State.t()
  def collect(state, node, group, records) do
    incoming_groups = Map.update(state.incoming_groups, {node, group}, records, &(records ++ &1))
    %{state | incoming_groups: incoming_groups}
  end

  @doc "Unites a complete group with what is here."
  @spec merge(State.t(), node(), String.t(), tuple()) :: State.t()
  def merge(state, node, group, {_type, _ms, _by, changed_ms} = origin) do
    {records, incoming_groups} = Map.pop(state.incoming_groups, {node, group}, [])
    state = %{state | incoming_groups: incoming_groups}

    case state do
      %{peers: %{^node => %{number: number, split?: split?}}} ->
        if Tombstones.deleted_at(group) < changed_ms do
          {out, forgotten} =
            Native.relay_merge(state.relay, group, origin, number, split?, records)

          for user <- out, do: Shard.last_device_gone(group, user, :down)
          send_corrections(state, node, group, origin, forgotten)
          Tombstones.delete(group)
        end

        state

      _gone ->
        state
    end
  end

  # What a gateway missed while its shard started anew. Others may not have heard of it yet either.
  defp send_corrections(_state, _node, _group, _origin, []), do: :ok

  defp send_corrections(state, node, group, origin, forgotten) do
    if State.leader(state) == node() do
      effects = for record <- forgotten, do: {:put, group, origin, record, false}
      State.send_to(state, node, {:effects, nil, nil, effects})
    end
  end

  @doc "Deletes what was deleted elsewhere after its last change here."
  @spec apply_tombstones(State.t(), %{String.t() => integer()}) :: :ok
  def apply_tombstones(state, deleted) do
    for {group, at} <- deleted do
      case Native.relay_records(state.relay, group, 0, 1) do
        {{_type, _ms, _by, changed_ms}, _records, _next} when changed_ms > at ->
          :ok

        {_origin, _records, _next} ->
          Native.relay_decide_delete(state.relay, group)
          Tombstones.put(group, at)

        # For those who come later.
        _not_found ->
          Tombstones.put(group, max(at, Tombstones.deleted_at(group)))
      end
    end

    :ok
  end
end
