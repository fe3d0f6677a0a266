defmodule PhoenixGenApi.RelayTroubleClusterTest do
  # Gateways that say nothing, that are too many, or that answer late.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Await
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.RelayMembers
  alias PhoenixGenApi.Test.Cluster

  @moduletag :cluster

  setup do
    %{id: "trouble-#{System.unique_integer([:positive])}"}
  end

  # So long does a gateway wait for one that says nothing; otherwise it has all the time it needs.
  @soon 300

  # A gateway per list of options of the relay; the first one decides.
  defp start(relays) do
    Cluster.start_peers(
      for relay <- relays do
        relay = Keyword.merge([sync_timeout: 60_000], relay)
        # Members on a busy machine are slow, and here no message may be skipped for that.
        channel = [max_client_bytes: 1_000_000_000]
        [app: [client_mode: false, relay: relay, channel: channel], connect: false]
      end
    )
  end

  # From now on.
  defp impatient(gateway) do
    env = [:phoenix_gen_api, :relay, [sync_timeout: @soon]]
    :ok = Cluster.call(gateway, Application, :put_env, env)
    :ok = Cluster.call(gateway, PhoenixGenApi, :reload_config, [])
  end

  defp on(gateway, function, args), do: Cluster.call(gateway, RelayMembers, function, args)
  defp relay(gateway, function, args), do: Cluster.call(gateway, Relay, function, args)

  defp members(gateway, id) do
    {:ok, %{members: members}} = relay(gateway, :get_group_info, [id])
    Map.keys(members)
  end

  test "a join that was decided too late still has its device, and leaves with it", %{id: id} do
    [a, b] = RelayMembers.meet(start([[], []]))
    assert {:ok, _root} = on(a, :create, [id, :public, "root"])
    impatient(b)
    wake = Cluster.suspend(a)
    assert {{:error, :timeout}, ann} = on(b, :join, [id, "ann"])
    wake.()
    Await.until(fn -> members(b, id) == ["ann", "root"] end)
    Await.until(fn -> on(a, :say, [id, "root", "hello"]) == 2 and on(b, :got, [ann]) != [] end)
    Cluster.call(b, Process, :exit, [ann, :kill])
    for gateway <- [a, b], do: Await.until(fn -> members(gateway, id) == ["root"] end)
  end

  test "a change waits no longer than sync_timeout for a gateway that does not tell what it has",
       %{id: id} do
    [a, b] = RelayMembers.meet(start([[], []]))
    impatient(b)
    Cluster.suspend(a)
    on(b, :crash, ["Shard"])
    assert {{:error, :timeout}, _pid} = on(b, :create, [id, :public, "root"])
  end

  test "a change is made although the next gateway notices late that the one that decides is gone",
       %{id: id} do
    [{_, gone} = a, b, c] = RelayMembers.meet(start([[], [], []]))
    Cluster.suspend(a)
    on(c, :believe_gone, [gone])
    asked = Task.async(fn -> on(c, :create, [id, :public, "root"]) end)
    # In time for the request to be there first.
    Await.until(fn -> on(c, :asking?, [id]) end)
    on(b, :believe_gone, [gone])
    assert {:ok, _pid} = Task.await(asked, :infinity)
    for gateway <- [b, c], do: assert(members(gateway, id) == ["root"])
  end

  test "a gateway that hangs, with its connection full, keeps neither messages nor changes from others",
       %{id: id} do
    [a, b, c] = RelayMembers.meet(start([[], [], []]))
    assert {:ok, _root} = on(a, :create, [id, :public, "root"])
    assert {{:ok, :active}, ann} = on(b, :join, [id, "ann"])
    assert {{:ok, :active}, eve} = on(c, :join, [id, "eve"])
    impatient(a)
    wake = Cluster.suspend(c)

    # Far more than the buffers of the connection hold.
    assert on(a, :say_large, [id, "root", 1..40, 600_000]) == List.duplicate(3, 40)
    Await.until(fn -> on(b, :numbers, [ann]) == Enum.to_list(1..40) end)

    # Made here and on the other one, and told the third one later. In several processes of the
    # relay, none of which the full connection stops.
    groups = for n <- 1..20, do: "#{id}-#{n}"

    groups
    |> Enum.map(&Task.async(fn -> on(a, :create, [&1, :public, "root"]) end))
    |> Task.await_many(:infinity)
    |> Enum.each(&assert {:ok, _pid} = &1)

    for group <- groups, do: Await.until(fn -> knows?(b, group) end)

    wake.()
    Await.until(fn -> on(c, :numbers, [eve]) == Enum.to_list(1..40) end)
    for group <- groups, do: Await.until(fn -> knows?(c, group) end)
  end

  defp knows?(gateway, group),
    do: relay(gateway, :get_group_info, [group]) != {:error, :not_found}

  test "a process of a gateway that hangs joins nothing, and its caller does not wait for the gateway to wake",
       %{id: id} do
    [a, b] = RelayMembers.meet(start([[], []]))
    impatient(b)
    far = on(a, :start, [])
    Cluster.suspend(a)
    assert relay(b, :create_group, [id, :public, "root", far]) == {:error, :timeout}
    on(b, :clog, [elem(a, 1)])
    assert relay(b, :create_group, [id, :public, "root", far]) == {:error, :timeout}
  end

  test "messages to a large group on another gateway do not delay those of other users to a small one",
       %{id: id} do
    [a, b] = RelayMembers.meet(start([[], []]))
    {large, small} = {id <> "-large", id <> "-small"}

    for group <- [large, small],
        do: assert({:ok, _root} = on(a, :create, [group, :public, "root"]))

    on(b, :crowd, [large, 1_200])
    assert {{:ok, :active}, ann} = on(b, :join, [large, "ann"])
    assert {:ok, :active} = relay(b, :join_group, [small, "ann", ann])
    # Two whose messages pass through the same process.
    link = Relay.Forwarder.number("busy")
    other = Enum.find(Stream.map(1..1_000, &"other-#{&1}"), &(Relay.Forwarder.number(&1) == link))

    on(b, :suspend, ["Forwarder"])
    on(a, :send_many, [large, "busy", 300])
    {:ok, 2} = relay(a, :send_to_group, [small, other, "other"])
    # Of the same sender.
    {:ok, 2} = relay(a, :send_to_group, [small, "busy", "last"])
    on(b, :resume, ["Forwarder"])
    Await.until(fn -> on(b, :count, [ann]) == 302 end)
    messages = on(b, :got, [ann])
    assert List.delete(messages, "other") == Enum.to_list(1..300) ++ ["last"]
    # In the one process it would come after all of those that had come before it.
    assert Enum.find_index(messages, &(&1 == "other")) < 300
  end

  test "messages beyond 50,000 of one sender that wait for a gateway are dropped and counted",
       %{id: id} do
    [a, b] = RelayMembers.meet(start([[], []]))
    assert {:ok, _root} = on(a, :create, [id, :public, "root"])
    assert {{:ok, :active}, ann} = on(b, :join, [id, "ann"])
    on(a, :suspend, ["Forwarder"])
    drops = on(a, :drops, [id, RelayMembers, :send_many, [id, "root", 50_003]])
    assert drops == List.duplicate({:slow_gateway, 1}, 3)
    on(a, :resume, ["Forwarder"])
    Await.until(fn -> on(b, :count, [ann]) == 50_000 end)
    assert on(a, :drops, [id, RelayMembers, :send_many, [id, "root", 1]]) == []
    Await.until(fn -> List.last(on(b, :got, [ann])) == 1 end)
  end

  test "a relay without cluster refuses processes of other gateways", %{id: id} do
    [a, b] = start([[], [cluster: false]])
    {_, node} = a
    true = Cluster.call(b, Node, :connect, [node])
    far = on(a, :start, [])

    Await.until(fn -> Cluster.call(b, PhoenixGenApi.Cluster, :gateways, []) == [node] end)
    assert relay(b, :create_group, [id, :public, "root", far]) == {:error, :invalid_argument}
    assert relay(a, :get_group_info, [id]) == {:error, :not_found}
    Await.until(fn -> relay(a, :status, []).gateways == 1 end)
    Cluster.call(b, :erlang, :set_cookie, [node, :apart])
    Cluster.call(b, Node, :disconnect, [node])
    Await.until(fn -> not on(a, :shared?, []) end)
  end

  test "gateways with another protocol each go on with groups of their own", %{id: id} do
    [{_, first} = a, {_, second} = b] = RelayMembers.meet(start([[], []]))
    on(a, :hello, [second, %{protocol: 2, news: :strange}])
    # It is told, though it would understand.
    for gateway <- [a, b], do: Await.until(fn -> relay(gateway, :status, []).gateways == 1 end)

    for {gateway, user} <- [{a, "ann"}, {b, "bob"}] do
      assert {:ok, pid} = on(gateway, :create, [id, :public, user])
      assert on(gateway, :say, [id, user, "hi"]) == 1
      Await.until(fn -> on(gateway, :got, [pid]) == ["hi"] end)
      assert members(gateway, id) == [user]
    end

    for {gateway, other} <- [{a, second}, {b, first}],
        do: assert(Cluster.call(gateway, PhoenixGenApi.Cluster, :gateways, []) == [other])
  end

  test "a gateway that is one too many goes on alone, says so, and is taken in when there is room",
       %{id: id} do
    [a, b] = start([[], []])
    {_, node} = a
    {_, other} = b
    [fake | _] = on(a, :fill, [])
    true = Cluster.call(b, Node, :connect, [node])
    Await.until(fn -> Cluster.call(a, PhoenixGenApi.Cluster, :gateways, []) == [other] end)

    for {gateway, n} <- [{a, 1}, {b, 2}],
        do: assert({:ok, _} = on(gateway, :create, ["#{id}-#{n}", :public, "root"]))

    for gateway <- [a, b], do: Await.until(fn -> relay(gateway, :status, []).gateways == 1 end)
    assert relay(a, :get_group_info, [id <> "-2"]) == {:error, :not_found}
    assert relay(b, :get_group_info, [id <> "-1"]) == {:error, :not_found}

    on(a, :leave, [fake])
    RelayMembers.together([a, b])
    for gateway <- [a, b], n <- 1..2, do: assert(members(gateway, "#{id}-#{n}") == ["root"])
    assert {{:ok, :active}, _ann} = on(b, :join, [id <> "-1", "ann"])
    assert members(a, id <> "-1") == ["ann", "root"]
    for gateway <- [a, b], do: assert(relay(gateway, :status, []).gateways == 2)
  end

  test "members on a gateway that ended leave, even if another one takes its place before that is noticed",
       %{id: id} do
    [a, {_, goes} = b, {_, comes} = c] = start([[], [], []])
    RelayMembers.meet([a, b])
    assert {:ok, _root} = on(a, :create, [id, :public, "root"])
    assert {{:ok, :active}, _ann} = on(b, :join, [id, "ann"])
    on(a, :fill_up, [])
    on(a, :replaced, [goes, comes])
    RelayMembers.together([a, c])
    for gateway <- [a, c], do: Await.until(fn -> members(gateway, id) == ["root"] end)
  end
end
