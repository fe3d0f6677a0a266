defmodule PhoenixGenApi.Relay.Shard.Leader do
  @moduledoc false
  # Decisions on the oldest gateway, and their copies on the others.

  import PhoenixGenApi.Relay.Shard.State, only: [tell: 2]

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.Shard.{Command, Presence, State}
  alias PhoenixGenApi.Relay.Tombstones

  @doc "Makes a change that a gateway has asked for: its result, and what the others have to copy."
  @spec decide(State.t(), Command.op(), node()) :: {term(), [Command.effect()], State.t()}
  def decide(state, {:depart, group, user} = op, asked) do
    # Who has joined since, on whichever gateway, is in, though his device is still on its way.
    if Presence.promised?(state, group, user) do
      {{:ok, false}, [], state}
    else
      said? = Presence.announced?(state, group, user)
      {{:ok, left?}, effects, state} = make(state, op, asked)
      {{:ok, left? and not said?}, effects, state}
    end
  end

  def decide(state, op, asked), do: make(state, op, asked)

  defp make(state, op, asked) do
    here? =
      case Command.member(op) do
        {group, user} -> Native.relay_is_here(state.relay, group, user, nil)
        nil -> false
      end

    {result, effects} = Command.make(state.relay, op)
    Enum.each(effects, &note/1)
    state = if effects == [], do: state, else: Presence.unannounce(state, op)

    state =
      if Command.joins?(op, result),
        do: Presence.promise(state, Command.member(op), asked),
        else: state

    # Its own devices went with the decision.
    for {:put, group, _origin, record, true} <- effects, here? do
      tell(state, {:presence, node(), nil, group, elem(record, 0), false, :asked})
    end

    {result, effects, state}
  end

  @doc "Copies what was decided."
  @spec copy(State.t(), [Command.effect()]) :: :ok
  def copy(state, effects), do: Enum.each(effects, &copy_one(state, &1))

  defp copy_one(state, {:deleted, group, _at} = effect) do
    Native.relay_order_delete(state.relay, group)
    note(effect)
  end

  defp copy_one(state, {:put, group, origin, record, evict?} = effect) do
    note(effect)

    if Native.relay_put(state.relay, group, origin, record, evict?),
      do: tell(state, {:presence, node(), nil, group, elem(record, 0), false, :asked})
  end

  defp note({:deleted, group, at}), do: Tombstones.note(group, at)
  defp note({:put, group, _origin, _record, _evict?}), do: Tombstones.forget(group)
end
