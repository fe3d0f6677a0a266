defmodule PhoenixGenApi.Relay.Shard.Presence do
  @moduledoc false
  # Where devices are, and who leaves because they have none any more.

  import PhoenixGenApi.Relay.Shard.State, only: [broadcast: 2]

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.{Events, Shard}
  alias PhoenixGenApi.Relay.Shard.{Command, State}

  # Gateways that come one by one, as after a split, all come within this time.
  @settle_ms 1_000

  @doc "A device of a user here has ended, the last one as far as is known."
  @spec last_device_gone(State.t(), String.t(), String.t(), atom()) :: State.t()
  def last_device_gone(state, group, user, why) do
    if Native.relay_has_local_device(state.relay, group, user, nil) do
      state
    else
      broadcast(state, {:presence, node(), nil, group, user, false, why})
      depart(state, group, user, why)
    end
  end

  @doc "Has a user leave who has no device anywhere, if that is for this gateway to say."
  @spec depart(State.t(), String.t(), String.t(), atom()) :: State.t()
  def depart(state, group, user, why) do
    if State.leader(state) == node() and state.settling == nil and
         not device_expected?(state, group, user) do
      died? = why in [:down, :down_here, :gone, :absent]

      case Command.execute(state.relay, {:depart, group, user, died?}) do
        # As far as this gateway knows they have one left. The other one knew better, and has said so.
        {{:error, :already_member}, []} when why == :down ->
          %{state | reported_left: MapSet.put(state.reported_left, {group, user})}

        {_error, []} ->
          state

        {_ok, effects} ->
          broadcast(state, {:effects, nil, nil, effects})

          # Nobody else says it: their gateway is gone, or their processes ended on several at once, each
          # of which took another one's to be there.
          if why in [:down_here, :gone] and not reported_left?(state, group, user),
            do: Events.left(group, user, :down)

          forget_report(state, {:depart, group, user})
      end
    else
      state
    end
  end

  @doc "Whether a gateway has said that a user has left, ahead of those that knew less."
  @spec reported_left?(State.t(), String.t(), String.t()) :: boolean()
  def reported_left?(state, group, user), do: MapSet.member?(state.reported_left, {group, user})

  @doc "What was said of them was said of an earlier stay."
  @spec forget_report(State.t(), Command.op()) :: State.t()
  def forget_report(%{reported_left: reported_left} = state, op) do
    reported_left =
      case {op, Command.member(op)} do
        {{:delete, group}, nil} -> MapSet.reject(reported_left, &(elem(&1, 0) == group))
        {{:depart, group, user}, nil} -> MapSet.delete(reported_left, {group, user})
        {_op, member} -> MapSet.delete(reported_left, member)
      end

    %{state | reported_left: reported_left}
  end

  @doc "The same for all who have none. Gateways that are not there have none."
  @spec depart_absent(State.t()) :: State.t()
  def depart_absent(state) do
    groups =
      for group <- Native.relay_ids(state.relay), Shard.owns?(group, state.number), do: group

    Enum.reduce(groups, state, &depart_absent_of/2)
  end

  defp depart_absent_of(group, state) do
    absent = Native.relay_offline_members(state.relay, group, State.mask(state))

    case State.leader(state) do
      leader when leader == node() ->
        # Their gateway cannot say any more that they have left. Any other one has.
        Enum.reduce(absent, state, fn {user, gone?}, state ->
          depart(state, group, user, if(gone?, do: :gone, else: :down))
        end)

      leader ->
        # They may have left, and another gateway have told of them that had not heard of it yet.
        for {user, _gone?} <- absent,
            do: State.send_to(state, leader, {:absent, node(), group, user})

        state
    end
  end

  @doc "Another gateway has a member who has no device as far as it knows: it is told how they stand."
  @spec absent(State.t(), node(), String.t(), String.t()) :: State.t()
  def absent(state, node, group, user) do
    cond do
      State.leader(state) != node() ->
        state

      State.caught_up?(state) ->
        state = depart(state, group, user, :absent)

        with {_status, origin, record} <- Native.relay_record(state.relay, group, user),
             do:
               State.send_to(
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
  @spec start_settling(State.t()) :: State.t()
  def start_settling(state) do
    token = make_ref()
    Process.send_after(self(), {:settle, token}, @settle_ms)
    %{state | settling: token}
  end

  @doc "The time for gateways to come one by one is over."
  @spec settle(State.t()) :: State.t()
  def settle(state) do
    if State.caught_up?(state),
      do: depart_absent(%{state | settling: nil}),
      else: start_settling(state)
  end

  @doc "A device of that user is to come, on that gateway."
  @spec expect_device(State.t(), {String.t(), String.t()}, node()) :: State.t()
  def expect_device(state, member, node) do
    expected_devices = Map.update(state.expected_devices, member, %{node => 1}, &count(&1, node))
    %{state | expected_devices: expected_devices}
  end

  defp count(nodes, node), do: Map.update(nodes, node, 1, &(&1 + 1))

  @doc "Whether a device of that user is to come, on any gateway."
  @spec device_expected?(State.t(), String.t(), String.t()) :: boolean()
  def device_expected?(state, group, user), do: is_map_key(state.expected_devices, {group, user})

  @doc "It has come, or will not."
  @spec device_attached(State.t(), String.t(), String.t(), node()) :: State.t()
  def device_attached(state, group, user, node) do
    member = {group, user}

    case state.expected_devices do
      %{^member => %{^node => n} = nodes} when n > 1 ->
        %{
          state
          | expected_devices: %{state.expected_devices | member => %{nodes | node => n - 1}}
        }

      %{^member => nodes} ->
        %{state | expected_devices: put(state.expected_devices, member, Map.delete(nodes, node))}

      _none ->
        state
    end
  end

  @doc "No device is to come on that gateway."
  @spec forget_expected(State.t(), node()) :: State.t()
  def forget_expected(state, node) do
    expected_devices =
      for {member, nodes} <- state.expected_devices, reduce: %{} do
        expected_devices -> put(expected_devices, member, Map.delete(nodes, node))
      end

    %{state | expected_devices: expected_devices}
  end

  defp put(expected_devices, member, nodes) when nodes == %{},
    do: Map.delete(expected_devices, member)

  defp put(expected_devices, member, nodes), do: Map.put(expected_devices, member, nodes)

  @doc "Another gateway says whether it has devices of a user."
  @spec update_remote(
          State.t(),
          node(),
          reference() | nil,
          String.t(),
          String.t(),
          boolean(),
          atom()
        ) ::
          State.t()
  def update_remote(state, node, ref, group, user, there?, why) do
    case state.peers do
      %{^node => %{number: number}} ->
        Native.relay_set_remote(state.relay, group, user, number, there?)
        if ref, do: State.send_to(state, node, {:ack, ref, :presence, node()})
        state = if why == :joined, do: device_attached(state, group, user, node), else: state
        # With :asked the request for it follows.
        if there? or why == :asked, do: state, else: depart(state, group, user, why)

      _gone ->
        state
    end
  end
end
