defmodule PhoenixGenApi.RelayMembers do
  @moduledoc false
  # Members of groups on any gateway: processes that keep what they get.

  alias PhoenixGenApi.Await
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Relay.Shard
  alias PhoenixGenApi.Structs.Request
  alias PhoenixGenApi.Test.Cluster

  @doc "Starts gateways that know each other, and not the node of the test. The first one decides."
  def gateways(count, relay \\ []) do
    opts = [app: [client_mode: false, relay: relay], connect: false]
    opts |> List.duplicate(count) |> Cluster.start_peers() |> meet()
  end

  @doc "Connects all with each other; returns them when they have caught up."
  def meet(gateways) do
    for {_, a} = one <- gateways, {_, b} <- gateways, a < b do
      true = Cluster.call(one, Node, :connect, [b])
    end

    together(gateways)
    gateways
  end

  @doc "A process that keeps its messages."
  def start, do: spawn(fn -> keep([]) end)

  defp keep(got) do
    receive do
      {:relay_message, response} ->
        keep([response.result["message"] | got])

      {:got, from} ->
        send(from, {self(), Enum.reverse(got)})
        keep(got)
    end
  end

  @doc "What it got, in order."
  def got(pid) do
    send(pid, {:got, self()})

    receive do
      {^pid, got} -> got
    end
  end

  @doc "How much it got."
  def count(pid), do: length(got(pid))

  @doc "The numbers of messages that are each a number and something large."
  def numbers(pid), do: for([number, _large] <- got(pid), do: number)

  @doc "A member of a group, who joins with a process of this node."
  def join(group, user, opts \\ []) do
    pid = start()
    {Relay.join_group(group, user, pid, opts), pid}
  end

  @doc "What a gateway says first, to all shards of this one."
  def hello(node, hello) do
    for shard <- Shard.names(), do: send(shard, {:hello, node, hello})
    :ok
  end

  def create(group, type, user) do
    pid = start()
    {Relay.create_group(group, type, user, pid), pid}
  end

  @doc "Sends as the user; the recipients or the error."
  def say(group, user, message) do
    args = %{"group_id" => group, "message" => message}
    response = Relay.handle_relay(%Request{request_id: "r", user_id: user, args: args}, nil)
    if response.success, do: response.result["recipients_count"], else: response.error
  end

  @doc "Sends all, each from a process of its own."
  def say_all(group, user, messages) do
    for message <- messages do
      Task.await(Task.async(fn -> say(group, user, message) end), :infinity)
    end
  end

  @doc "Sends numbers with something large."
  def say_large(group, user, numbers, size),
    do: say_all(group, user, for(n <- numbers, do: [n, String.duplicate("x", size)]))

  @doc "What this gateway knows of a group, without what takes time to compare."
  def view(group) do
    case Relay.get_group_info(group) do
      {:ok, %{group_type: type, members: members}} ->
        {type,
         Map.new(members, fn {user, member} ->
           {user, {member.status, MapSet.to_list(member.roles), member.joined_at}}
         end)}

      error ->
        error
    end
  end

  @doc "Processes that each create the same group; how many did."
  def race(group, count) do
    1..count
    |> Enum.map(fn n -> Task.async(fn -> elem(create(group, :public, "user-#{n}"), 0) end) end)
    |> Task.await_many(:infinity)
    |> Enum.count(&(&1 == :ok))
  end

  @doc "Waits until every shard of these gateways has caught up with all of them, and with no other."
  def together(gateways) do
    count = length(gateways)

    Await.until(fn ->
      Enum.all?(gateways, fn gateway ->
        gateway |> Cluster.call(__MODULE__, :known, []) |> Enum.all?(&(&1 == count))
      end)
    end)
  end

  @doc "Cuts the gateways of one side off from the others."
  def split(side, others) do
    for {_, node} = one <- side, {_, other} = two <- others do
      # Not the same one: anything that is sent would have them meet again.
      Cluster.call(one, :erlang, :set_cookie, [other, :apart])
      Cluster.call(two, :erlang, :set_cookie, [node, :elsewhere])
      Cluster.call(one, Node, :disconnect, [other])
    end

    for side <- [side, others], do: together(side)
  end

  @doc "Has them meet again."
  def heal(side, others) do
    for {_, node} = one <- side, {_, other} = two <- others do
      cookie = Cluster.cookie()
      Cluster.call(one, :erlang, :set_cookie, [other, cookie])
      Cluster.call(two, :erlang, :set_cookie, [node, cookie])
      true = Cluster.call(one, Node, :connect, [other])
    end

    together(side ++ others)
  end

  @doc "How many gateways each shard has caught up with, its own included."
  def known do
    for name <- Shard.names() do
      1 + Enum.count(:sys.get_state(name).peers, fn {_node, peer} -> peer.synced? end)
    end
  end

  @doc "Whether other gateways have to agree to changes."
  def shared?,
    do: Native.relay_leave(Gateway.handle!(:relay), "no such group", "ann", 0) == :shared

  @doc "Whether no shard waits for what other gateways may have to say."
  def settled?,
    do: Enum.all?(Shard.names(), &(:sys.get_state(&1).settling == nil))

  @doc """
  Waits until no shard of these gateways waits for what others may have to say. They do not take
  the time that they have for it: once all have caught up, nothing more is to come.
  """
  def settle(gateways) do
    for gateway <- gateways do
      Await.until(fn -> Cluster.call(gateway, __MODULE__, :settle, []) end)
    end
  end

  @doc false
  def settle do
    for name <- Shard.names(), token = :sys.get_state(name).settling do
      send(name, {:settle, token})
    end

    settled?()
  end

  @doc "As if there were as many other gateways as can be. Returns them."
  def fill do
    fakes = for n <- 0..63, do: {n, :"full-#{n}@127.0.0.1"}
    :ets.insert(Relay.Peers, fakes)
    nodes = MapSet.new(fakes, &elem(&1, 1))
    :sys.replace_state(Relay.Peers, &%{&1 | nodes: nodes})
    MapSet.to_list(nodes)
  end

  @doc "As if there were as many other gateways as can be, with those that there are."
  def fill_up do
    taken = for n <- 0..63, {number, _node} <- :ets.lookup(Relay.Peers, n), do: number
    fakes = for n <- Enum.to_list(0..63) -- taken, do: {n, :"full-#{n}@127.0.0.1"}
    :ets.insert(Relay.Peers, fakes)
    more = MapSet.new(fakes, &elem(&1, 1))
    :sys.replace_state(Relay.Peers, &%{&1 | nodes: MapSet.union(&1.nodes, more)})
    :ok
  end

  @doc "While the shards do nothing: one gateway comes, and when they all have mail, another one ends."
  def replaced(goes, comes) do
    for name <- Shard.names(), do: :sys.suspend(name)
    true = Node.connect(comes)

    for name <- Shard.names() do
      mail = fn -> Process.info(Process.whereis(name), :message_queue_len) end
      Await.until(fn -> mail.() != {:message_queue_len, 0} end)
    end

    :erpc.cast(goes, :init, :stop, [])
    Await.until(fn -> goes not in PhoenixGenApi.Cluster.gateways() end)
    :sys.get_state(Relay.Peers)
    for name <- Shard.names(), do: :sys.resume(name)
    :ok
  end

  @doc "How many processes a user has here, once those that have ended are no longer counted."
  def devices(group, user) do
    :sys.get_state(Relay.Disconnects)
    for name <- Shard.names(), do: :sys.get_state(name)
    {:ok, members} = Relay.list_members(group)
    members[user] && members[user].devices
  end

  @doc "The change of that group that waits."
  def waiting(group) do
    [%{op: op}] = Map.values(:sys.get_state(shard(group)).pending)
    op
  end

  @doc "Makes a change, as the shard does that is asked for it. Returns what the others have to copy."
  def make(op),
    do: op |> then(&Shard.Command.execute(Gateway.handle!(:relay), &1)) |> elem(1)

  @doc "Whether a change of that group is waiting for its decision, and has been asked for there."
  def asking?(group) do
    shard = shard(group)
    %{pending: pending, peers: peers} = :sys.get_state(shard)
    # They have got all that was sent to them before this.
    for node <- Map.keys(peers), do: :sys.get_state({shard, node})
    map_size(pending) > 0
  end

  @doc "What was dropped while a function ran: `{reason, count}` of each event of a group."
  def drops(group, module, function, args) do
    pid = start()

    handler = fn
      [_, _, :drop], %{count: count}, %{group_id: ^group, reason: reason}, _config ->
        send(pid, {:relay_message, %{result: %{"message" => {reason, count}}}})

      _event, _measurements, _metadata, _config ->
        :ok
    end

    :ok = PhoenixGenApi.Telemetry.attach_relay("drops-#{group}", handler)
    apply(module, function, args)
    :ok = PhoenixGenApi.Telemetry.detach_all("drops-#{group}")
    got(pid)
  end

  @doc "The processes of that name go on."
  def resume(name), do: for(name <- names(name), do: :sys.resume(name))

  @doc "So many users join with one process, which keeps nothing."
  def crowd(group, count) do
    pid = spawn(&swallow/0)
    for n <- 1..count, do: {:ok, :active} = Relay.join_group(group, "crowd-#{n}", pid)
    pid
  end

  defp swallow, do: receive(do: (_message -> swallow()))

  @doc "Sends so many messages of the server."
  def send_many(group, user, count),
    do: for(n <- 1..count, do: {:ok, _} = Relay.send_to_group(group, user, n))

  @doc "Fills the connection to a gateway that hangs."
  def clog(node) do
    spawn(fn ->
      for _ <- 1..100, do: send({:nobody, node}, String.duplicate("x", 600_000))
    end)

    Await.until(fn -> :erlang.send({:nobody, node}, :more, [:nosuspend]) == :nosuspend end)
  end

  @doc "Has the relay believe that a gateway has gone."
  def believe_gone(node), do: Relay.Shard.tell_all({:down, node})

  @doc "As if one of those had gone."
  def leave(node) do
    send(Relay.Peers, {PhoenixGenApi.Cluster, :left, node})
    :ok
  end

  @doc "A process that keeps who has left a group, and why, by the events of this gateway."
  def leaves(group) do
    pid = start()

    handler = fn
      [_, _, :leave], _measurements, %{group_id: ^group} = left, _config ->
        message = {left.user_id, left.reason}
        send(pid, {:relay_message, %{result: %{"message" => message}}})

      _event, _measurements, _metadata, _config ->
        :ok
    end

    :ok = PhoenixGenApi.Telemetry.attach_relay("leaves-#{group}", handler)
    pid
  end

  @doc "Kills the processes of that name, and these members while the processes do nothing."
  def crash_unseen(name, members, meanwhile \\ fn -> :ok end) do
    names = names(name)
    for name <- names, do: :sys.suspend(name)
    monitors = for pid <- members, do: Process.monitor(pid)
    for pid <- members, do: Process.exit(pid, :kill)
    for monitor <- monitors, do: receive(do: ({:DOWN, ^monitor, _, _, _} -> :ok))
    # What there was to do for others has been done: what is left to do is left to those.
    for other <- [Relay.Disconnects | Shard.names()] -- names, do: :sys.get_state(other)

    meanwhile.()
    crash(name)
  end

  @doc "The same; meanwhile the other gateways end."
  def crash_unseen_and_alone(name, members), do: crash_unseen(name, members, &end_others/0)

  @doc "The other gateways end; what the shards say to that is lost with the process it is for."
  def crash_unheard do
    for name <- Shard.names(), do: :sys.suspend(name)
    end_others()
    :sys.suspend(Relay.Peers)
    for name <- Shard.names(), do: :sys.resume(name)
    for name <- Shard.names(), do: :sys.get_state(name)
    crash("Peers")
  end

  defp end_others do
    for node <- PhoenixGenApi.Cluster.gateways() do
      :erpc.cast(node, :init, :stop, [])
      Await.until(fn -> node not in PhoenixGenApi.Cluster.gateways() end)
    end

    :sys.get_state(Relay.Peers)
  end

  @doc "The processes of that name do nothing until they are killed."
  def suspend(name), do: for(name <- names(name), do: :sys.suspend(name))

  @doc "Whether a device is expected of a member of that group that is not there yet."
  def device_expected?(group),
    do:
      Enum.any?(
        :sys.get_state(shard(group)).expected_devices,
        &match?({{^group, _user}, _nodes}, &1)
      )

  @doc "Whether a change of that group has been decided, and waits for others to copy it."
  def decided?(group) do
    pending = Map.values(:sys.get_state(shard(group)).pending)
    Enum.any?(pending, &(elem(&1.op, 1) == group and &1.result != nil))
  end

  @doc "What the shard of a group says of it to another gateway."
  def snapshot(group) do
    {origin, records, nil} = Native.relay_records(Gateway.handle!(:relay), group, 0, 100)
    [{:group, node(), group, origin, records, true}, {:synced, node()}]
  end

  @doc "That comes to the shard of that group."
  def deliver(group, messages) do
    for message <- messages, do: send(shard(group), message)
    :sys.get_state(shard(group))
    :ok
  end

  @doc "Waits until the shards have done what Peers has told them."
  def idle? do
    :sys.get_state(Relay.Peers)
    for name <- Shard.names(), do: :sys.get_state(name)
    true
  end

  @doc "Whether a change of that group waits for its decision."
  def pending?(group), do: map_size(:sys.get_state(shard(group)).pending) > 0

  @doc "Kills the processes of that name; returns when they are there again."
  def crash(name) do
    for name <- names(name), do: Await.restart(name)
  end

  defp shard(group), do: Relay.Shard.name(Relay.Shard.number(group))

  defp names("Shard"), do: Shard.names()
  defp names("Forwarder"), do: Relay.Forwarder.names()
  defp names(name), do: [Module.concat(Relay, name)]
end
