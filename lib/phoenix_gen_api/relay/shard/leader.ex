defmodule PhoenixGenApi.Relay.Shard.Leader do
  @moduledoc false
  # Decisions on the oldest gateway, and their copies on the others.

  import PhoenixGenApi.Relay.Shard.State, only: [broadcast: 2]

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.Shard.{Command, Presence, State}
  alias PhoenixGenApi.Relay.Tombstones

  @doc "Makes a change that a gateway has asked for: its result, and what the others have to copy."
  @spec decide(State.t(), Command.op(), node()) :: {term(), [Command.effect()], State.t()}
  def decide(state, {:depart, group, user} = op, asked) do
    # Who has joined since, on whichever gateway, is in, though their device is still on its way.
    if Presence.device_expected?(state, group, user) do
      {{:ok, false}, [], state}
    else
      reported? = Presence.reported_left?(state, group, user)
      {{:ok, left?}, effects, state} = execute(state, op, asked)
      {{:ok, left? and not reported?}, effects, state}
    end
  end

  def decide(state, op, asked), do: execute(state, op, asked)

  defp execute(state, op, asked) do
    here? =
      case Command.member(op) do
        {group, user} -> Native.relay_has_local_device(state.relay, group, user, nil)
        nil -> false
      end

    {result, effects} = Command.execute(state.relay, op)
    Enum.each(effects, &update_tombstone/1)
    state = if effects == [], do: state, else: Presence.forget_report(state, op)

    state =
      if Command.attaches_device?(op, result),
        do: Presence.expect_device(state, Command.member(op), asked),
        else: state

    # Its own devices went with the decision.
    for {:put, group, _origin, record, true} <- effects, here? do
      broadcast(state, {:presence, node(), nil, group, elem(record, 0), false, :asked})
    end

    {result, effects, state}
  end

  @doc "Copies what was decided."
  @spec apply_effects(State.t(), [Command.effect()]) :: :ok
  def apply_effects(state, effects), do: Enum.each(effects, &apply_effect(state, &1))

  defp apply_effect(state, {:deleted, group, _at} = effect) do
    Native.relay_decide_delete(state.relay, group)
    update_tombstone(effect)
  end

  defp apply_effect(state, {:put, group, origin, record, evict?} = effect) do
    update_tombstone(effect)

    if Native.relay_put(state.relay, group, origin, record, evict?),
      do: broadcast(state, {:presence, node(), nil, group, elem(record, 0), false, :asked})
  end

  defp update_tombstone({:deleted, group, at}), do: Tombstones.put(group, at)
  defp update_tombstone({:put, group, _origin, _record, _evict?}), do: Tombstones.delete(group)
end
