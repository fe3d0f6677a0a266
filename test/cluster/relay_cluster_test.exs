defmodule PhoenixGenApi.RelayClusterTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Await
  alias PhoenixGenApi.Test.Cluster
  alias PhoenixGenApi.{Relay, RelayMembers}

  @moduletag :cluster

  # Three gateways that know each other. The test's own node is not among them.
  setup do
    %{gateways: RelayMembers.gateways(3), id: "room-#{System.unique_integer([:positive])}"}
  end

  defp on(gateway, function, args), do: Cluster.call(gateway, RelayMembers, function, args)
  defp relay(gateway, function, args), do: Cluster.call(gateway, Relay, function, args)

  defp got({gateway, pid}), do: on(gateway, :got, [pid])

  defp gets({gateway, pid} = member, messages) do
    try do
      Await.until(fn -> on(gateway, :count, [pid]) >= length(messages) end)
    rescue
      _still_not -> :ok
    end

    assert got(member) == messages
  end

  defp joins(gateway, id, user, status \\ :active) do
    assert {{:ok, ^status}, pid} = on(gateway, :join, [id, user])
    {gateway, pid}
  end

  defp creates(gateway, id, type, user) do
    assert {:ok, pid} = on(gateway, :create, [id, type, user])
    {gateway, pid}
  end

  defp agree(gateways, id) do
    Await.until(fn -> match?([_], views(gateways, id)) end)
    hd(views(gateways, id))
  rescue
    _still_not -> flunk("they differ: #{inspect(views(gateways, id))}")
  end

  defp views(gateways, id), do: gateways |> Enum.map(&on(&1, :view, [id])) |> Enum.uniq()

  defp statuses({_type, members}),
    do: Map.new(members, fn {user, {status, _, _}} -> {user, status} end)

  test "a group that is ensured on one gateway is there on all, with its admins",
       %{gateways: [a, b, c] = all, id: id} do
    for gateway <- all, do: assert(relay(gateway, :ensure_group, [id, :public]) == :ok)
    assert [{:public, none}] = views(all, id)
    assert none == %{}

    assert relay(b, :ensure_group, [id, :private, [admins: ["root"]]]) ==
             {:error, :already_exists}

    assert relay(b, :delete_group, [id]) == :ok

    ensured =
      for gateway <- all do
        Task.async(fn ->
          relay(gateway, :ensure_group, [id, :private, [admins: ["root", "ann"]]])
        end)
      end

    assert Enum.uniq(Task.await_many(ensured, :infinity)) == [:ok]
    joins(c, id, "bob", :pending)
    joins(b, id, "ann")
    joins(c, id, "root")
    assert relay(a, :accept_member, [id, "ann", "bob"]) == :ok
    assert relay(b, :demote_member, [id, "root", "ann"]) == :ok
    assert relay(a, :demote_member, [id, "root", "root"]) == {:error, :last_admin}
    agree(all, id)
  end

  test "of gateways on which users create a group by joining one makes it",
       %{gateways: [a, b, c] = all, id: id} do
    joined =
      for {gateway, user} <- [{a, "ann"}, {b, "bob"}, {c, "carl"}] do
        Task.async(fn -> on(gateway, :join, [id, user, [create: :public]]) end)
      end

    for {result, _pid} <- Task.await_many(joined, :infinity), do: assert(result == {:ok, :active})
    {:public, members} = agree(all, id)
    assert map_size(members) == 3
  end

  test "what changes on one gateway has changed on all when the call returns",
       %{gateways: [a, b, c] = all, id: id} do
    creates(a, id, :strict_private, "root")
    assert [_same] = views(all, id)
    joins(b, id, "ann", :pending)
    joins(c, id, "bob", :pending)
    assert [view] = views(all, id)
    assert statuses(view) == %{"root" => :active, "ann" => :pending, "bob" => :pending}
    assert relay(c, :accept_member, [id, "root", "ann"]) == :ok
    assert relay(b, :accept_member, [id, "root", "bob"]) == :ok
    assert relay(b, :mute_member, [id, "root", "bob"]) == :ok
    assert [view] = views(all, id)
    assert statuses(view) == %{"root" => :active, "ann" => :active, "bob" => :muted}

    # Pending and banned never receive, muted receive and cannot send.
    pat = joins(a, id, "pat", :pending)
    assert on(b, :say, [id, "ann", "1"]) == 3
    assert on(c, :say, [id, "bob", "2"]) == "You are muted and cannot send messages"
    assert on(c, :say, [id, "pat", "2"]) == "Pending membership: wait for acceptance"
    assert relay(c, :ban_member, [id, "root", "ann"]) == :ok
    assert [view] = views(all, id)
    refute is_map_key(elem(view, 1), "ann")
    assert relay(a, :join_group, [id, "ann", elem(pat, 1)]) == {:error, :banned}
    assert on(a, :say, [id, "root", "3"]) == 2
    assert got(pat) == []

    assert relay(c, :leave_group, [id, "bob"]) == :ok
    assert [view] = views(all, id)
    assert Map.keys(elem(view, 1)) == ["pat", "root"]
    assert relay(c, :delete_group, [id]) == :ok
    assert views(all, id) == [{:error, :not_found}]
  end

  test "every message reaches every connected active member once and in order, large ones too",
       %{gateways: [a, b, c] = all, id: id} do
    root = creates(a, id, :public, "root")
    ann = joins(b, id, "ann")
    bob = joins(c, id, "bob")
    bob2 = joins(a, id, "bob")

    messages =
      for n <- 1..100, do: if(rem(n, 10) == 0, do: [n, String.duplicate("x", 200_000)], else: n)

    assert on(b, :say_all, [id, "ann", messages]) == List.duplicate(3, 100)
    for member <- [root, ann, bob, bob2], do: gets(member, messages)
    assert [_same] = views(all, id)
  end

  test "a group that many create on all gateways at once is created once", %{
    gateways: all,
    id: id
  } do
    for round <- 1..10 do
      tasks =
        for gateway <- all, do: Task.async(fn -> on(gateway, :race, ["#{id}-#{round}", 4]) end)

      assert tasks |> Task.await_many(:infinity) |> Enum.sum() == 1
      assert [_same] = views(all, "#{id}-#{round}")
    end
  end

  test "a process that joins many times at once through all gateways joins once", context do
    %{gateways: [a, _b, _c] = all, id: id} = context
    creates(a, id, :public, "root")

    for {gateway, n} <- Enum.with_index(all), round <- (5 * n + 1)..(5 * n + 5) do
      pid = on(gateway, :start, [])
      user = "user-#{round}"

      results =
        for asked <- all, _n <- 1..3 do
          Task.async(fn -> relay(asked, :join_group, [id, user, pid]) end)
        end

      results = results |> Task.await_many(:infinity) |> Enum.frequencies()
      assert results == %{{:ok, :active} => 1, {:error, :already_member} => 8}
      assert on(gateway, :say, [id, user, round]) == round + 1
      gets({gateway, pid}, [round])
      assert relay(gateway, :leave_group, [id, user, pid]) == :ok
      joins(gateway, id, user)
    end
  end

  test "a user is gone with their last process, on whichever gateways those were", context do
    %{gateways: [a, b, c] = all, id: id} = context
    creates(a, id, :private, "root")
    {_, one} = joins(b, id, "ann", :pending)
    {_, two} = joins(c, id, "ann", :pending)
    assert relay(a, :accept_member, [id, "root", "ann"]) == :ok
    Cluster.call(b, Process, :exit, [one, :kill])
    joins(a, id, "zoe", :pending)
    assert statuses(agree(all, id))["ann"] == :active
    Cluster.call(c, Process, :exit, [two, :kill])
    Await.until(fn -> not is_map_key(elem(agree(all, id), 1), "ann") end)
    joins(a, id, "ann", :pending)
    pid = Cluster.call(b, RelayMembers, :start, [])
    # A process of another gateway than the one that is asked.
    assert relay(c, :join_group, [id, "ann", pid]) == {:ok, :pending}
    assert relay(a, :leave_group, [id, "ann", pid]) == :ok
    assert relay(a, :leave_group, [id, "ann"]) == :ok
    assert Map.keys(elem(agree(all, id), 1)) == ["root", "zoe"]
  end

  test "all gateways together emit one leave event, when the last process of a user ends",
       %{gateways: [a, b, c] = all, id: id} do
    RelayMembers.settle(all)
    creates(a, id, :public, "root")
    leaves = for gateway <- all, do: {gateway, on(gateway, :leaves, [id])}
    events = fn -> Enum.flat_map(leaves, &got/1) end
    {_, one} = joins(b, id, "ann")
    {_, two} = joins(c, id, "ann")
    Cluster.call(b, Process, :exit, [one, :kill])
    Await.until(fn -> on(b, :devices, [id, "ann"]) == 0 end)
    assert events.() == []
    Cluster.call(c, Process, :exit, [two, :kill])
    Await.until(fn -> events.() == [{"ann", :down}] end)

    # Where neither gateway knows yet of what happens on the other one.
    for n <- 1..20 do
      members = for gateway <- [b, c], do: joins(gateway, id, "user-#{n}")

      members
      |> Enum.map(fn {gateway, pid} ->
        Task.async(fn -> Cluster.call(gateway, Process, :exit, [pid, :kill]) end)
      end)
      |> Task.await_many(:infinity)
    end

    Await.until(fn -> Map.keys(elem(agree(all, id), 1)) == ["root"] end)
    for gateway <- all, do: on(gateway, :devices, [id, "root"])
    expected = for user <- ["ann" | for(n <- 1..20, do: "user-#{n}")], do: {user, :down}
    assert Enum.sort(events.()) == Enum.sort(expected)
  end

  test "a leave event is emitted only by the gateway that knew of it first",
       %{gateways: [a, b, c] = all, id: id} do
    RelayMembers.settle(all)
    creates(a, id, :public, "root")
    leaves = on(a, :leaves, [id])
    for gateway <- [b, c], user <- ["ann", "bob", "eve"], do: joins(gateway, id, user)
    says = fn {_, node}, user, why -> {:presence, node, nil, id, user, false, why} end
    # What b says comes late: c has heard of it, and said what follows.
    on(a, :deliver, [id, [says.(c, "ann", :down), says.(b, "ann", :down_here)]])
    # Neither has heard of the other.
    on(a, :deliver, [id, [says.(c, "bob", :down_here), says.(b, "bob", :down_here)]])
    # A gateway that asks has said nothing.
    joins(b, id, "dan")
    {_, node} = c
    on(a, :deliver, [id, [{:absent, node, id, "dan"}, says.(b, "dan", :down_here)]])
    # He has come back meanwhile.
    on(a, :deliver, [id, [says.(c, "eve", :down)]])
    joins(c, id, "eve")
    on(a, :deliver, [id, [says.(c, "eve", :down_here), says.(b, "eve", :down_here)]])
    assert Map.keys(elem(on(a, :view, [id]), 1)) == ["root"]

    Await.until(fn ->
      on(a, :got, [leaves]) == [{"bob", :down}, {"dan", :down}, {"eve", :down}]
    end)
  end

  test "a crash of any process of the relay loses nothing, even on the leader",
       context do
    %{gateways: [a, b, c] = all, id: id} = context
    root = creates(b, id, :strict_private, "root")
    ann = joins(c, id, "ann", :pending)

    for gateway <- [a, b],
        name <- ["Peers", "Disconnects", "SlowConsumers", "Shard", "Forwarder"] do
      on(gateway, :crash, [name])
      RelayMembers.together(all)
    end

    assert relay(a, :accept_member, [id, "root", "ann"]) == :ok
    dora = joins(a, id, "dora", :pending)
    assert relay(c, :accept_member, [id, "root", "dora"]) == :ok
    assert [view] = views(all, id)
    assert statuses(view) == %{"root" => :active, "ann" => :active, "dora" => :active}
    assert on(c, :say, [id, "ann", "still there"]) == 3
    for member <- [root, ann, dora], do: gets(member, ["still there"])
    {_, pid} = dora
    Cluster.call(a, Process, :exit, [pid, :kill])
    Await.until(fn -> not is_map_key(elem(agree(all, id), 1), "dora") end)
  end

  test "C9: a gateway that joins has all groups", %{gateways: [a, b, c] = all, id: id} do
    creates(a, id, :public, "root")
    ann = joins(b, id, "ann")
    for n <- 1..1_200, do: joins(c, id, "user-#{n}")
    d = Cluster.start_peer(app: [client_mode: false], connect: false)
    RelayMembers.meet([d | all])
    assert [_same] = views([d | all], id)
    dora = joins(d, id, "dora")
    assert on(b, :say_all, [id, "ann", Enum.to_list(1..100)]) == List.duplicate(1_203, 100)
    for member <- [ann, dora], do: gets(member, Enum.to_list(1..100))
  end

  for {name, victim} <- [{"oldest", 0}, {"youngest", 2}] do
    test "only members on the #{name} gateway leave when it ends", context do
      %{gateways: all, id: id} = context
      victim = Enum.at(all, unquote(victim))
      [x, y] = rest = all -- [victim]
      creates(victim, id, :strict_private, "root")
      ann = joins(x, id, "ann", :pending)
      bob = joins(y, id, "bob", :pending)
      joins(victim, id, "ann", :pending)
      for user <- ["ann", "bob"], do: :ok = relay(y, :accept_member, [id, "root", user])
      :ok = relay(y, :promote_member, [id, "root", "bob"])
      before = Enum.to_list(1..50)
      on(x, :say_all, [id, "ann", before])
      RelayMembers.settle(rest)
      leaves = for gateway <- rest, do: {gateway, on(gateway, :leaves, [id])}

      spawn(fn -> Cluster.stop_peer(victim) end)
      during = for n <- 51..500, do: n
      on(x, :say_all, [id, "ann", during])
      for member <- [ann, bob], do: gets(member, before ++ during)

      RelayMembers.together(rest)
      Await.until(fn -> Map.keys(elem(agree(rest, id), 1)) == ["ann", "bob"] end)
      Await.until(fn -> Enum.flat_map(leaves, &got/1) == [{"root", :down}] end)
      assert relay(x, :mute_member, [id, "bob", "ann"]) == :ok
      assert on(x, :say, [id, "ann", 501]) == "You are muted and cannot send messages"
      joins(x, id, "root", :active)
      assert on(y, :say, [id, "bob", 502]) == 3
      gets(ann, before ++ during ++ [502])
    end
  end

  # What comes after has a later time stamp.
  defp later do
    now = System.system_time(:millisecond)
    Await.until(fn -> System.system_time(:millisecond) > now + 1 end)
  end

  for {name, order} <- [{"youngest", [0, 1, 2]}, {"oldest", [1, 2, 0]}] do
    test "both sides of a split go on, and unite as documented, with the #{name} gateway alone",
         context do
      gateways = for n <- unquote(order), do: Enum.at(context.gateways, n)
      split_and_heal(gateways, context.id)
    end
  end

  defp split_and_heal([a, b, c] = all, id) do
    {kept, gone, both} = {id <> "-kept", id <> "-gone", id <> "-both"}
    root = creates(a, id, :strict_private, "root")
    carl = joins(c, id, "carl", :pending)
    for user <- ["ann", "bob"], do: joins(a, id, user, :pending)
    for user <- ["ann", "carl"], do: :ok = relay(a, :accept_member, [id, "root", user])

    for user <- ["ann", "bob", "carl"],
        do: joins(c, id, user, if(user == "bob", do: :pending, else: :active))

    :ok = relay(a, :promote_member, [id, "root", "carl"])
    for group <- [kept, gone], do: creates(a, group, :public, "root")
    for group <- [kept, gone], do: joins(c, group, "carl")

    RelayMembers.split([a, b], [c])
    Await.until(fn -> not is_map_key(elem(on(a, :view, [id]), 1), "carl") end)
    Await.until(fn -> not is_map_key(elem(on(c, :view, [id]), 1), "root") end)

    :ok = relay(a, :mute_member, [id, "root", "ann"])
    :ok = relay(c, :accept_member, [id, "carl", "bob"])
    dora = joins(b, id, "dora", :pending)
    evan = joins(c, id, "evan", :pending)
    on(a, :say, [id, "root", "left"])
    on(c, :say, [id, "carl", "right"])
    gets(root, ["left"])
    gets(carl, ["right"])

    # Deleted ahead of a change of the other side, and after it.
    :ok = relay(a, :delete_group, [kept])
    later()
    joins(c, kept, "late")
    joins(c, gone, "early")
    later()
    :ok = relay(a, :delete_group, [gone])
    creates(a, both, :private, "one")
    later()
    creates(c, both, :public, "two")

    RelayMembers.heal([a, b], [c])

    # Nobody leaves for having been out of sight.
    for _look <- 1..150 do
      assert {_type, %{"root" => _, "carl" => _, "dora" => _}} = on(b, :view, [id])
      later()
    end

    view = agree(all, id)

    assert statuses(view) == %{
             "root" => :active,
             "ann" => :muted,
             "bob" => :active,
             "carl" => :active,
             "dora" => :pending,
             "evan" => :pending
           }

    {_, members} = view
    assert {:active, [:admin], _} = members["root"]
    assert {:active, [:admin], _} = members["carl"]
    assert views(all, gone) == [{:error, :not_found}]
    assert {:public, %{"carl" => _, "late" => _}} = agree(all, kept)
    assert {:private, %{"one" => {_, [:admin], _}, "two" => {_, [:member], _}}} = agree(all, both)

    assert on(b, :say, [id, "root", "again"]) == 4
    gets(root, ["left", "again"])
    gets(carl, ["right", "again"])
    assert got(dora) == [] and got(evan) == []
    assert relay(c, :accept_member, [id, "root", "dora"]) == :ok
    assert [_same] = views(all, id)
  end
end
