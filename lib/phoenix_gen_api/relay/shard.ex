defmodule PhoenixGenApi.Relay.Shard do
  @moduledoc false
  # Changes of groups where several gateways form the relay, a part of the groups in each process.
  #
  # The oldest gateway decides: its shard makes the change and sends what came of it to the
  # shards of all others, which copy it and tell the shard that asked. That answers its caller
  # when all have, or after `sync_timeout`. Where devices are, each gateway says itself, to all
  # others; when the last device of a user has gone, the oldest gateway has him leave.
  #
  # Between two gateways everything of a group travels from one process to one process, so it
  # arrives in order. What a gateway that comes needs to know travels the same way, ahead of
  # what happens afterwards.
  use GenServer
  use PhoenixGenApi.Relay.Family, count: 8

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Relay.{Catalogue, Decision, Peers}
  alias PhoenixGenApi.Native

  # Gateways that come one by one, as after a split, all come within this time.
  @settle_ms 1_000
  # While gateways do not agree on which of them is the oldest.
  @again_ms 20

  defstruct [
    :number,
    :relay,
    # node => %{number, boot, synced?}
    peers: %{},
    # Gateways that were lost while both went on: node => boot
    lost: %{},
    # Requests of callers here: ref => %{from, op, joining, asked, result, waiting, acked}. A join
    # stays without its caller, who waits no longer, as its device has to follow.
    pending: %{},
    # Those that wait for a gateway to tell what it has.
    queue: [],
    # Joins that were decided here and whose device is not there yet: {group, user, node} => count
    reserved: %{},
    deleted: %{},
    incoming: %{},
    # Set while gateways find each other, see settle/1.
    unsettled: nil
  ]

  @doc "Has a change made on all gateways. `joining` is the device that comes with it."
  @spec change(tuple(), tuple() | nil) :: term()
  def change(op, joining \\ nil) do
    GenServer.call(name(number(elem(op, 1))), {:change, op, joining}, :infinity)
  catch
    :exit, {_reason, {GenServer, :call, _}} -> {:error, :not_running}
  end

  @doc "The last device of a user here has ended."
  @spec gone(String.t(), String.t()) :: :ok
  def gone(group, user), do: GenServer.cast(name(number(group)), {:gone, group, user})

  @doc "Tells all shards of this gateway."
  @spec tell_all(term()) :: :ok
  def tell_all(event), do: Enum.each(names(), &GenServer.cast(&1, event))

  @doc "Whether that group is of that shard."
  @spec of?(String.t(), non_neg_integer()) :: boolean()
  def of?(group, number), do: number(group) == number

  @impl true
  def init(n) do
    state = %__MODULE__{number: n, relay: Gateway.handle!(:relay)}
    {:ok, state, {:continue, :resume}}
  end

  # After a crash the others are asked for what they have; otherwise there are none yet.
  @impl true
  def handle_continue(:resume, state) do
    nodes = Peers.current()
    {:noreply, Enum.reduce(nodes, state, &greet(&2, &1, Peers.number(&1), true))}
  end

  @impl true
  def handle_call({:change, op, joining}, from, state) do
    ref = make_ref()
    Process.send_after(self(), {:too_long, ref}, Config.get(:relay, :sync_timeout))

    if caught_up?(state),
      do: {:noreply, start(state, op, joining, from, ref)},
      else: {:noreply, %{state | queue: [{op, joining, from, ref} | state.queue]}}
  end

  @impl true
  def handle_cast({:up, node, number, reply?}, state),
    do: {:noreply, greet(state, node, number, reply?)}

  def handle_cast({:down, node}, state), do: {:noreply, lose(state, node)}

  def handle_cast({:present, nodes}, state),
    do: {:noreply, Enum.reduce(Map.keys(state.peers) -- nodes, state, &lose(&2, &1))}

  def handle_cast({:gone, group, user}, state), do: {:noreply, vacated(state, group, user, :down)}

  @impl true
  def handle_info({:hello, node, boot, lost?, deleted, reply?}, state) do
    state = if is_map_key(state.peers, node), do: state, else: meet(state, node)

    case state.peers do
      %{^node => peer} ->
        apart? = lost? or Map.get(state.lost, node) == boot
        peer = Map.merge(peer, %{boot: boot, apart?: apart?})
        # A shard that starts anew no longer knows of what its predecessor was to attach.
        state = forget(%{state | peers: Map.put(state.peers, node, peer)}, node)
        state = Catalogue.bury(state, deleted)
        {:noreply, if(reply?, do: greet(state, node, peer.number, false), else: state)}

      _no_part ->
        # Or it would wait for what this gateway has.
        send({name(state.number), node}, {:refused, node(), Peers.refusal()})
        {:noreply, state}
    end
  end

  def handle_info({:refused, node, why}, state) do
    Peers.refused(node, why)
    {:noreply, lose(state, node)}
  end

  def handle_info({:group, node, id, origin, records, last?}, state) do
    state =
      if is_map_key(state.peers, node),
        do: Catalogue.collect(state, node, id, records),
        else: state

    if last?, do: {:noreply, Catalogue.unite(state, node, id, origin)}, else: {:noreply, state}
  end

  def handle_info({:synced, node}, state) do
    case state.peers do
      %{^node => peer} ->
        peers = Map.put(state.peers, node, %{peer | synced?: true})
        # What is incomplete by now was deleted on its way.
        incoming = Map.reject(state.incoming, fn {{of, _group}, _records} -> of == node end)
        lost = Map.delete(state.lost, node)
        state = %{state | peers: peers, lost: lost, incoming: incoming}
        {:noreply, state |> unsettle() |> drain()}

      _gone ->
        {:noreply, state}
    end
  end

  def handle_info({:request, node, ref, op}, state) do
    case home(state) do
      home when home == node() ->
        {result, effects, state} = decide(state, op, node)
        awaited = tell(state, {:effects, ref, node, effects})
        send({name(state.number), node}, {:decided, ref, op, result, [node() | awaited]})
        send({name(state.number), node}, {:ack, ref, :effects, node()})
        {:noreply, state}

      # Not handed on: that one may be gone, which this gateway has not noticed yet.
      _other ->
        send({name(state.number), node}, {:not_home, ref})
        {:noreply, state}
    end
  end

  def handle_info({:not_home, ref}, state) do
    case state.pending do
      %{^ref => request} ->
        Process.send_after(self(), {:again, ref}, @again_ms)
        {:noreply, put_pending(state, ref, %{request | asked: nil})}

      _too_late ->
        {:noreply, state}
    end
  end

  def handle_info({:again, ref}, state) do
    case state.pending do
      %{^ref => %{result: nil, asked: nil, from: nil}} ->
        {:noreply, %{state | pending: Map.delete(state.pending, ref)}}

      %{^ref => %{result: nil, asked: nil}} ->
        {:noreply, submit(state, ref)}

      _answered ->
        {:noreply, state}
    end
  end

  def handle_info({:decided, ref, op, result, awaited}, state),
    do: {:noreply, decided(state, ref, op, result, awaited -- [node()])}

  def handle_info({:effects, ref, asked, effects}, state) do
    state = Enum.reduce(effects, state, &apply_effect(&2, &1))

    if ref && asked != node(),
      do: send({name(state.number), asked}, {:ack, ref, :effects, node()})

    {:noreply, state}
  end

  def handle_info({:presence, node, ref, group, user, there?, why}, state) do
    case state.peers do
      %{^node => %{number: number}} ->
        Native.relay_set_remote(state.relay, group, user, number, there?)
        if ref, do: send({name(state.number), node}, {:ack, ref, :presence, node()})
        state = if why == :joined, do: release(state, group, user, node), else: state
        # With :asked the request for it follows.
        {:noreply, if(there? or why == :asked, do: state, else: depart(state, group, user, why))}

      _gone ->
        {:noreply, state}
    end
  end

  def handle_info({:ack, ref, what, node}, state) do
    case state.pending do
      %{^ref => request} ->
        request = %{request | acked: MapSet.put(request.acked, {what, node})}
        {:noreply, settle(put_pending(state, ref, request), ref)}

      _answered ->
        {:noreply, state}
    end
  end

  def handle_info({:too_long, ref}, state) do
    case Map.pop(state.pending, ref) do
      {nil, _pending} ->
        {late, queue} = Enum.split_with(state.queue, &(elem(&1, 3) == ref))
        for {_op, _joining, from, _ref} <- late, do: reply(from, {:error, :timeout})
        {:noreply, %{state | queue: queue}}

      {%{result: nil, joining: {_, _, _}} = request, _pending} ->
        reply(request.from, {:error, :timeout})
        {:noreply, put_pending(state, ref, %{request | from: nil})}

      {request, pending} ->
        reply(request.from, request.result || {:error, :timeout})
        {:noreply, %{state | pending: pending}}
    end
  end

  def handle_info({:settle, token}, %{unsettled: token} = state) do
    if caught_up?(state),
      do: {:noreply, depart_absent(%{state | unsettled: nil}, nil)},
      else: {:noreply, unsettle(state)}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # A caller's change

  defp start(state, {:join, group, user} = op, {pid, _to, _lane} = joining, from, ref) do
    if Native.relay_is_here(state.relay, group, user, pid) do
      GenServer.reply(from, {:error, :already_member})
      state
    else
      ask(state, op, joining, from, ref)
    end
  end

  # The device goes at once, the user when all know of it.
  defp start(state, {:leave_device, group, user, pid}, nil, from, ref) do
    case Native.relay_release(state.relay, group, user, pid) do
      :ok ->
        if Native.relay_is_here(state.relay, group, user, nil) do
          GenServer.reply(from, {:ok, false})
          state
        else
          tell(state, {:presence, node(), nil, group, user, false, :asked})
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
      result: nil,
      waiting: MapSet.new(),
      acked: MapSet.new()
    }

    state |> put_pending(ref, request) |> submit(ref)
  end

  defp submit(state, ref) do
    %{^ref => %{op: op} = request} = state.pending

    case home(state) do
      home when home == node() ->
        {result, effects, state} = decide(state, op, node())
        awaited = tell(state, {:effects, ref, node(), effects})
        decided(state, ref, op, result, awaited)

      home ->
        send({name(state.number), home}, {:request, node(), ref, op})
        put_pending(state, ref, %{request | asked: home})
    end
  end

  defp decided(state, ref, op, result, awaited) do
    case state.pending do
      %{^ref => request} ->
        awaited = for node <- awaited, is_map_key(state.peers, node), do: {:effects, node}
        request = %{request | result: result, waiting: MapSet.new(awaited)}
        state |> put_pending(ref, request) |> attach(ref) |> settle(ref)

      # Of a request that died with a shard: no device follows.
      _too_late ->
        if Decision.joins?(op, result) do
          {group, user} = Decision.member(op)
          here? = Native.relay_is_here(state.relay, group, user, nil)
          tell(state, {:presence, node(), nil, group, user, here?, :joined})
        end

        state
    end
  end

  # The user is in: now his device.
  defp attach(state, ref) do
    case state.pending do
      %{^ref => %{joining: {_, _, _} = joining, result: result} = request}
      when result == :ok or elem(result, 0) == :ok ->
        [group, user] = request.op |> Decision.member() |> Tuple.to_list()
        Native.relay_attach(state.relay, group, user, joining)
        here? = Native.relay_is_here(state.relay, group, user, nil)
        told = tell(state, {:presence, node(), ref, group, user, here?, :joined})
        waiting = Enum.into(told, request.waiting, &{:presence, &1})
        state = put_pending(state, ref, %{request | waiting: waiting})
        release(state, group, user, node())

      _no_device ->
        state
    end
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

  defp put_pending(state, ref, request),
    do: %{state | pending: Map.put(state.pending, ref, request)}

  defp drain(state) do
    if caught_up?(state) do
      queue = Enum.reverse(state.queue)

      Enum.reduce(queue, %{state | queue: []}, fn {op, joining, from, ref}, state ->
        start(state, op, joining, from, ref)
      end)
    else
      state
    end
  end

  # Decisions, on the oldest gateway

  defp home(state) do
    others = for {node, %{synced?: true, boot: boot}} <- state.peers, do: {boot, node}
    [{Peers.boot(), node()} | others] |> Enum.min() |> elem(1)
  end

  defp decide(state, op, asked) do
    here? =
      case Decision.member(op) do
        {group, user} -> Native.relay_is_here(state.relay, group, user, nil)
        nil -> false
      end

    {result, effects} = Decision.make(state.relay, op)
    state = Enum.reduce(effects, state, &note/2)

    state =
      if Decision.joins?(op, result), do: reserve(state, Decision.member(op), asked), else: state

    # Its own devices went with the decision.
    for {:put, group, _origin, record, true} <- effects, here? do
      tell(state, {:presence, node(), nil, group, elem(record, 0), false, :asked})
    end

    {result, effects, state}
  end

  defp note({:deleted, group, at}, state),
    do: %{state | deleted: Catalogue.remember(state.deleted, group, at)}

  defp note({:put, group, _origin, _record, _evict?}, state),
    do: %{state | deleted: Map.delete(state.deleted, group)}

  defp apply_effect(state, {:deleted, group, _at} = effect) do
    Native.relay_order_delete(state.relay, group)
    note(effect, state)
  end

  defp apply_effect(state, {:put, group, origin, record, evict?} = effect) do
    state = note(effect, state)

    if Native.relay_put(state.relay, group, origin, record, evict?),
      do: tell(state, {:presence, node(), nil, group, elem(record, 0), false, :asked})

    state
  end

  # Where devices are

  defp vacated(state, group, user, why) do
    if Native.relay_is_here(state.relay, group, user, nil) do
      state
    else
      tell(state, {:presence, node(), nil, group, user, false, why})
      depart(state, group, user, why)
    end
  end

  # Has a user leave who has no device anywhere, if that is for this gateway to say.
  defp depart(state, group, user, why) do
    waited_for? =
      Enum.any?(state.reserved, fn {{g, u, _node}, _n} -> g == group and u == user end)

    if home(state) == node() and not waited_for? and state.unsettled == nil do
      {_result, effects} = Decision.make(state.relay, {:depart, group, user, why == :down})
      if effects != [], do: tell(state, {:effects, nil, nil, effects})
    end

    state
  end

  defp depart_absent(state, gone) do
    for group <- Native.relay_ids(state.relay), of?(group, state.number) do
      for user <- Native.relay_absent(state.relay, group, gone), reduce: state do
        state -> depart(state, group, user, :down)
      end
    end

    state
  end

  # While not every gateway has told where devices are, nobody is absent.
  defp unsettle(state) do
    token = make_ref()
    Process.send_after(self(), {:settle, token}, @settle_ms)
    %{state | unsettled: token}
  end

  defp caught_up?(state), do: Enum.all?(state.peers, fn {_node, peer} -> peer.synced? end)

  defp reserve(state, {group, user}, node),
    do: %{state | reserved: Map.update(state.reserved, {group, user, node}, 1, &(&1 + 1))}

  defp release(state, group, user, node) do
    key = {group, user, node}

    case state.reserved do
      %{^key => n} when n > 1 -> %{state | reserved: %{state.reserved | key => n - 1}}
      _last_or_none -> %{state | reserved: Map.delete(state.reserved, key)}
    end
  end

  # Other gateways

  # A gateway is told everything, and from then on what happens.
  defp greet(state, _node, nil, _reply?), do: state

  defp greet(state, node, number, reply?) do
    known = state.peers[node] || %{number: number, boot: nil, apart?: false, synced?: false}
    state = unsettle(%{state | peers: Map.put(state.peers, node, known)})
    lost? = is_map_key(state.lost, node)
    target = {name(state.number), node}
    send(target, {:hello, node(), Peers.boot(), lost?, state.deleted, reply?})
    Catalogue.send_all(state, target)
    send(target, {:synced, node()})
    state
  end

  # It was quicker than this gateway's own news of it, which will follow.
  defp meet(state, node) do
    case Peers.number(node) do
      nil ->
        state

      number ->
        peer = %{number: number, boot: nil, apart?: false, synced?: false}
        %{state | peers: Map.put(state.peers, node, peer)}
    end
  end

  defp lose(state, node) do
    case Map.pop(state.peers, node) do
      {nil, _peers} ->
        state

      {peer, peers} ->
        lost = if peer.boot, do: Map.put(state.lost, node, peer.boot), else: state.lost
        incoming = Map.reject(state.incoming, fn {{n, _group}, _records} -> n == node end)
        state = forget(%{state | peers: peers, lost: lost, incoming: incoming}, node)
        state = depart_absent(state, peer.number)
        if peers == %{}, do: Peers.alone(state.number)
        state |> resubmit(node) |> drain()
    end
  end

  defp forget(state, node) do
    reserved = Map.reject(state.reserved, fn {{_group, _user, of}, _n} -> of == node end)
    %{state | reserved: reserved}
  end

  # Requests wait for one less; those that it had to decide are decided by the next one, unless
  # nobody waits for them.
  defp resubmit(state, node) do
    Enum.reduce(Map.keys(state.pending), state, fn ref, state ->
      case state.pending do
        %{^ref => %{result: nil, asked: ^node, from: nil}} ->
          %{state | pending: Map.delete(state.pending, ref)}

        %{^ref => %{result: nil, asked: ^node}} ->
          submit(state, ref)

        %{^ref => request} ->
          waiting = MapSet.reject(request.waiting, fn {_what, of} -> of == node end)
          state |> put_pending(ref, %{request | waiting: waiting}) |> settle(ref)

        _answered ->
          state
      end
    end)
  end

  defp tell(state, message) do
    nodes = Map.keys(state.peers)
    for node <- nodes, do: send({name(state.number), node}, message)
    nodes
  end
end
