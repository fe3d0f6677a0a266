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
        Shard.of?(group, state.number),
        do: send_pages(state, group, 0, node)

    :ok
  end

  defp send_pages(state, group, start, node) do
    case Native.relay_records(state.relay, group, start, @page) do
      {origin, records, next} ->
        State.tell(state, node, {:group, node(), group, origin, records, next == nil})
        if next, do: send_pages(state, group, next, node)

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
        if Tombstones.at(group) < changed_ms do
          {out, forgotten} =
            Native.relay_merge(state.relay, group, origin, number, apart?, records)

          for user <- out, do: Shard.gone(group, user, :down)
          correct(state, node, group, origin, forgotten)
          Tombstones.forget(group)
        end

        state

      _gone ->
        state
    end
  end

  # What a gateway missed while its shard started anew. Others may not have heard of it yet either.
  defp correct(_state, _node, _group, _origin, []), do: :ok

  defp correct(state, node, group, origin, forgotten) do
    if State.home(state) == node() do
      effects = for record <- forgotten, do: {:put, group, origin, record, false}
      State.tell(state, node, {:effects, nil, nil, effects})
    end
  end

  @doc "Deletes what was deleted elsewhere after its last change here."
  @spec bury(State.t(), %{String.t() => integer()}) :: :ok
  def bury(state, deleted) do
    for {group, at} <- deleted do
      case Native.relay_records(state.relay, group, 0, 1) do
        {{_type, _ms, _by, changed_ms}, _records, _next} when changed_ms > at ->
          :ok

        {_origin, _records, _next} ->
          Native.relay_order_delete(state.relay, group)
          Tombstones.note(group, at)

        # For those who come later.
        _not_found ->
          Tombstones.note(group, max(at, Tombstones.at(group)))
      end
    end

    :ok
  end
end
