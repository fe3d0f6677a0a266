defmodule PhoenixGenApi.Relay.Shard.Request do
  @moduledoc false
  # A change that somebody here waits for: it is decided on the oldest gateway, its device
  # follows, and its caller is answered when all gateways have confirmed both, or when
  # `sync_timeout` is over.

  import PhoenixGenApi.Relay.Shard.State, only: [broadcast: 2]

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.Shard.{Command, Leader, Presence, State}

  # While gateways do not agree on which of them is the oldest, or are still telling each other.
  @retry_ms 20

  @doc "A caller asks, and waits first for gateways that have not told yet what they have."
  @spec new(State.t(), Command.op(), tuple() | nil, GenServer.from()) :: State.t()
  def new(state, op, joining, from) do
    ref = make_ref()
    Process.send_after(self(), {:timeout, ref}, Config.get(:relay, :sync_timeout))

    if State.caught_up?(state),
      do: start(state, op, joining, from, ref),
      else: %{state | queue: [{op, joining, from, ref} | state.queue]}
  end

  @doc "Starts those that waited for a gateway, if there is none to wait for."
  @spec drain(State.t()) :: State.t()
  def drain(state) do
    if State.caught_up?(state) do
      queue = Enum.reverse(state.queue)

      Enum.reduce(queue, %{state | queue: []}, fn {op, joining, from, ref}, state ->
        start(state, op, joining, from, ref)
      end)
    else
      state
    end
  end

  defp start(state, {:join, group, user} = op, {pid, _to, _lane} = joining, from, ref) do
    if Native.relay_has_local_device(state.relay, group, user, pid) do
      GenServer.reply(from, {:error, :already_member})
      state
    else
      ask(state, op, joining, from, ref)
    end
  end

  # The device goes at once, the user when all know of it.
  defp start(state, {:leave_device, group, user, pid}, nil, from, ref) do
    case Native.relay_detach(state.relay, group, user, pid) do
      :ok ->
        if Native.relay_has_local_device(state.relay, group, user, nil) do
          GenServer.reply(from, {:ok, false})
          state
        else
          broadcast(state, {:presence, node(), nil, group, user, false, :asked})
          ask(state, {:depart, group, user}, nil, from, ref)
        end

      reason ->
        GenServer.reply(from, {:error, reason})
        state
    end
  end

  defp start(state, op, joining, from, ref), do: ask(state, op, joining, from, ref)

  defp ask(state, op, joining, from, ref) do
    request = %{
      from: from,
      op: op,
      joining: joining,
      asked: nil,
      repeated?: false,
      result: nil,
      waiting: MapSet.new(),
      acked: MapSet.new()
    }

    state |> put(ref, request) |> submit(ref)
  end

  defp submit(state, ref) do
    %{^ref => %{op: op} = request} = state.pending

    leader = State.leader(state)

    cond do
      State.leads?(state, op) ->
        {result, effects, state} = Leader.decide(state, op, node())
        awaited = broadcast(state, {:effects, ref, node(), effects})
        decided(state, ref, op, result, awaited)

      leader == node() ->
        not_leader(state, ref)

      true ->
        State.send_to(state, leader, {:request, node(), ref, op, state.peers[leader].life})
        put(state, ref, %{request | asked: leader})
    end
  end

  @doc """
  The gateway that was asked does not take itself for the oldest one, or has not been told enough
  yet: later.
  """
  @spec not_leader(State.t(), reference()) :: State.t()
  def not_leader(state, ref) do
    case state.pending do
      %{^ref => request} ->
        Process.send_after(self(), {:retry, ref}, @retry_ms)
        put(state, ref, %{request | asked: nil})

      _too_late ->
        state
    end
  end

  @doc "Asks again, unless nobody waits for it any more."
  @spec retry(State.t(), reference()) :: State.t()
  def retry(state, ref) do
    case state.pending do
      %{^ref => %{result: nil, asked: nil, from: nil}} ->
        %{state | pending: Map.delete(state.pending, ref)}

      %{^ref => %{result: nil, asked: nil}} ->
        submit(state, ref)

      _answered ->
        state
    end
  end

  @doc "It is decided; those gateways copy it."
  @spec decided(State.t(), reference(), Command.op(), term(), [node()]) :: State.t()
  def decided(state, ref, op, result, awaited) do
    case state.pending do
      %{^ref => %{result: nil} = request} ->
        awaited = for node <- awaited, is_map_key(state.peers, node), do: {:effects, node}
        # It may have been made before the one that was asked first could say so.
        already_done? = request.repeated? and Command.already_done?(state.relay, op, result)
        result = if already_done?, do: :ok, else: result
        request = %{request | result: result, waiting: MapSet.new(awaited)}
        state |> put(ref, request) |> attach(ref) |> settle(ref)

      # Of a request that died with a shard: no device follows.
      _too_late ->
        if Command.attaches_device?(op, result) do
          {group, user} = Command.member(op)
          here? = Native.relay_has_local_device(state.relay, group, user, nil)
          broadcast(state, {:presence, node(), nil, group, user, here?, :joined})
        end

        state
    end
  end

  # The user is in: now their device.
  defp attach(state, ref) do
    case state.pending do
      %{^ref => %{joining: {_, _, _} = joining, result: result} = request}
      when result == :ok or elem(result, 0) == :ok ->
        [group, user] = request.op |> Command.member() |> Tuple.to_list()
        attached = Native.relay_attach(state.relay, group, user, joining)
        here? = Native.relay_has_local_device(state.relay, group, user, nil)
        told = broadcast(state, {:presence, node(), ref, group, user, here?, :joined})
        waiting = Enum.into(told, request.waiting, &{:presence, &1})
        # Another join of the same process was decided before this one. What else takes the member
        # out between the decision and here came after the join, which was made.
        # So did more devices than a user may have, on this gateway.
        refused? = attached in [:already_member, :too_many_devices]
        result = if refused?, do: {:error, attached}, else: result
        state = put(state, ref, %{request | waiting: waiting, result: result})
        Presence.device_attached(state, group, user, node())

      _no_device ->
        state
    end
  end

  @doc "A gateway has copied the change, or noted where its device is."
  @spec acked(State.t(), reference(), :effects | :presence, node()) :: State.t()
  def acked(state, ref, what, node) do
    case state.pending do
      %{^ref => request} ->
        request = %{request | acked: MapSet.put(request.acked, {what, node})}
        state |> put(ref, request) |> settle(ref)

      _answered ->
        state
    end
  end

  @doc "`sync_timeout` is over: the caller waits no longer. The device of a join still follows."
  @spec timed_out(State.t(), reference()) :: State.t()
  def timed_out(state, ref) do
    case Map.pop(state.pending, ref) do
      {nil, _pending} ->
        {late, queue} = Enum.split_with(state.queue, &(elem(&1, 3) == ref))
        for {_op, _joining, from, _ref} <- late, do: reply(from, {:error, :timeout})
        %{state | queue: queue}

      {%{result: nil, joining: {_, _, _}} = request, _pending} ->
        reply(request.from, {:error, :timeout})
        put(state, ref, %{request | from: nil})

      {request, pending} ->
        reply(request.from, request.result || {:error, :timeout})
        %{state | pending: pending}
    end
  end

  @doc """
  A gateway has gone, or its shard starts anew: requests wait for one less. Those that it had to
  decide are decided by the next one, unless nobody waits for them.
  """
  @spec peer_gone(State.t(), node()) :: State.t()
  def peer_gone(state, node) do
    Enum.reduce(Map.keys(state.pending), state, fn ref, state ->
      case state.pending do
        %{^ref => %{result: nil, asked: ^node, from: nil}} ->
          %{state | pending: Map.delete(state.pending, ref)}

        %{^ref => %{result: nil, asked: ^node} = request} ->
          state |> put(ref, %{request | repeated?: true}) |> submit(ref)

        %{^ref => request} ->
          waiting = MapSet.reject(request.waiting, fn {_what, of} -> of == node end)
          state |> put(ref, %{request | waiting: waiting}) |> settle(ref)

        _answered ->
          state
      end
    end)
  end

  defp settle(state, ref) do
    with %{^ref => %{result: result} = request} when result != nil <- state.pending,
         true <- match?({:error, _}, result) or MapSet.subset?(request.waiting, request.acked) do
      reply(request.from, result)
      %{state | pending: Map.delete(state.pending, ref)}
    else
      _not_yet -> state
    end
  end

  defp reply(nil, _result), do: :ok
  defp reply(from, result), do: GenServer.reply(from, result)

  defp put(state, ref, request), do: %{state | pending: Map.put(state.pending, ref, request)}
end
