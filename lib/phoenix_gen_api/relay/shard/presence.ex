defmodule PhoenixGenApi.Relay.Shard.Presence do
  @moduledoc false
  # Where devices are, and who leaves because he has none any more.

  import PhoenixGenApi.Relay.Shard.State, only: [tell: 2]

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.{Events, Shard}
  alias PhoenixGenApi.Relay.Shard.{Command, State}

  # Gateways that come one by one, as after a split, all come within this time.
  @settle_ms 1_000

  @doc "A device of a user here has ended, the last one as far as is known."
  @spec vacated(State.t(), String.t(), String.t(), atom()) :: State.t()
  def vacated(state, group, user, why) do
    if Native.relay_is_here(state.relay, group, user, nil) do
      state
    else
      tell(state, {:presence, node(), nil, group, user, false, why})
      depart(state, group, user, why)
    end
  end

  @doc "Has a user leave who has no device anywhere, if that is for this gateway to say."
  @spec depart(State.t(), String.t(), String.t(), atom()) :: State.t()
  def depart(state, group, user, why) do
    if State.home(state) == node() and state.unsettled == nil and
         not promised?(state, group, user) do
      died? = why in [:down, :down_here, :gone, :absent]

      case Command.make(state.relay, {:depart, group, user, died?}) do
        # As far as this gateway knows he has one left. The other one knew better, and has said so.
        {{:error, :already_member}, []} when why == :down ->
          %{state | announced: MapSet.put(state.announced, {group, user})}

        {_error, []} ->
          state

        {_ok, effects} ->
          tell(state, {:effects, nil, nil, effects})

          # Nobody else says it: his gateway is gone, or his processes ended on several at once, each
          # of which took another one's to be there.
          if why in [:down_here, :gone] and not announced?(state, group, user),
            do: Events.left(group, user, :down)

          unannounce(state, {:depart, group, user})
      end
    else
      state
    end
  end

  @doc "Whether a gateway has said that a user has left, ahead of those that knew less."
  @spec announced?(State.t(), String.t(), String.t()) :: boolean()
  def announced?(state, group, user), do: MapSet.member?(state.announced, {group, user})

  @doc "What was said of them was said of an earlier stay."
  @spec unannounce(State.t(), Command.op()) :: State.t()
  def unannounce(%{announced: announced} = state, op) do
    announced =
      case {op, Command.member(op)} do
        {{:delete, group}, nil} -> MapSet.reject(announced, &(elem(&1, 0) == group))
        {{:depart, group, user}, nil} -> MapSet.delete(announced, {group, user})
        {_op, member} -> MapSet.delete(announced, member)
      end

    %{state | announced: announced}
  end

  @doc "The same for all who have none. Gateways that are not there have none."
  @spec depart_absent(State.t()) :: State.t()
  def depart_absent(state) do
    groups = for group <- Native.relay_ids(state.relay), Shard.of?(group, state.number), do: group
    Enum.reduce(groups, state, &depart_absent_of/2)
  end

  defp depart_absent_of(group, state) do
    absent = Native.relay_absent(state.relay, group, State.mask(state))

    case State.home(state) do
      home when home == node() ->
        # His gateway cannot say any more that he has left. Any other one has.
        Enum.reduce(absent, state, fn {user, gone?}, state ->
          depart(state, group, user, if(gone?, do: :gone, else: :down))
        end)

      home ->
        # He may have left, and another gateway have told of him that had not heard of it yet.
        for {user, _gone?} <- absent, do: State.tell(state, home, {:absent, node(), group, user})
        state
    end
  end

  @doc "Another gateway has a member who has no device as far as it knows: it is told how he stands."
  @spec absent(State.t(), node(), String.t(), String.t()) :: State.t()
  def absent(state, node, group, user) do
    cond do
      State.home(state) != node() ->
        state

      State.caught_up?(state) ->
        state = depart(state, group, user, :absent)

        with {origin, record} <- Native.relay_record(state.relay, group, user),
             do:
               State.tell(
                 state,
                 node,
                 {:effects, nil, nil, [{:put, group, origin, record, false}]}
               )

        state

      true ->
        Process.send_after(self(), {:absent, node, group, user}, @settle_ms)
        state
    end
  end

  @doc "While not every gateway has told where devices are, nobody is absent."
  @spec unsettle(State.t()) :: State.t()
  def unsettle(state) do
    token = make_ref()
    Process.send_after(self(), {:settle, token}, @settle_ms)
    %{state | unsettled: token}
  end

  @doc "The time for gateways to come one by one is over."
  @spec settle(State.t()) :: State.t()
  def settle(state) do
    if State.caught_up?(state),
      do: depart_absent(%{state | unsettled: nil}),
      else: unsettle(state)
  end

  @doc "A device of that user is to come, on that gateway."
  @spec promise(State.t(), {String.t(), String.t()}, node()) :: State.t()
  def promise(state, member, node) do
    promised = Map.update(state.promised, member, %{node => 1}, &count(&1, node))
    %{state | promised: promised}
  end

  defp count(nodes, node), do: Map.update(nodes, node, 1, &(&1 + 1))

  @doc "Whether a device of that user is to come, on any gateway."
  @spec promised?(State.t(), String.t(), String.t()) :: boolean()
  def promised?(state, group, user), do: is_map_key(state.promised, {group, user})

  @doc "It has come, or will not."
  @spec release(State.t(), String.t(), String.t(), node()) :: State.t()
  def release(state, group, user, node) do
    member = {group, user}

    case state.promised do
      %{^member => %{^node => n} = nodes} when n > 1 ->
        %{state | promised: %{state.promised | member => %{nodes | node => n - 1}}}

      %{^member => nodes} ->
        %{state | promised: put(state.promised, member, Map.delete(nodes, node))}

      _none ->
        state
    end
  end

  @doc "No device is to come on that gateway."
  @spec forget(State.t(), node()) :: State.t()
  def forget(state, node) do
    promised =
      for {member, nodes} <- state.promised, reduce: %{} do
        promised -> put(promised, member, Map.delete(nodes, node))
      end

    %{state | promised: promised}
  end

  defp put(promised, member, nodes) when nodes == %{}, do: Map.delete(promised, member)
  defp put(promised, member, nodes), do: Map.put(promised, member, nodes)

  @doc "Another gateway says whether it has devices of a user."
  @spec told(State.t(), node(), reference() | nil, String.t(), String.t(), boolean(), atom()) ::
          State.t()
  def told(state, node, ref, group, user, there?, why) do
    case state.peers do
      %{^node => %{number: number}} ->
        Native.relay_set_remote(state.relay, group, user, number, there?)
        if ref, do: State.tell(state, node, {:ack, ref, :presence, node()})
        state = if why == :joined, do: release(state, group, user, node), else: state
        # With :asked the request for it follows.
        if there? or why == :asked, do: state, else: depart(state, group, user, why)

      _gone ->
        state
    end
  end
end
