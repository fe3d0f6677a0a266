defmodule PhoenixGenApi.RelayCrashClusterTest do
  # Processes of the relay are killed with work in their mailboxes.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{Await, Relay, RelayDriver, RelayMembers}
  alias PhoenixGenApi.Test.Cluster

  @moduletag :cluster

  setup do
    %{id: "crash-#{System.unique_integer([:positive])}"}
  end

  defp gateways(count, relay \\ []) do
    gateways = RelayMembers.gateways(count, relay)
    # Or those who are absent are looked for anyway.
    RelayMembers.settle(gateways)
    gateways
  end

  defp on(gateway, function, args), do: Cluster.call(gateway, RelayMembers, function, args)

  defp joins(gateway, id, user) do
    {{:ok, :active}, pid} = on(gateway, :join, [id, user])
    pid
  end

  defp members(gateway, id) do
    {:ok, %{members: members}} = Cluster.call(gateway, Relay, :get_group_info, [id])
    members |> Map.keys() |> Enum.sort()
  end

  for count <- [1, 3], name <- ["Disconnects", "Shard"] do
    test "members that end while #{name} is down leave everywhere, with #{count} gateways",
         %{id: id} do
      gateways = gateways(unquote(count))

      for gateway <- gateways do
        {:ok, root} = on(gateway, :create, ["#{id}-0", :public, "root"])
        groups = for n <- 0..15, do: "#{id}-#{n}"

        for group <- tl(groups),
            do: :ok = Cluster.call(gateway, Relay, :create_group, [group, :public, "root", root])

        leaves = Map.new(groups, &{&1, on(gateway, :leaves, [&1])})
        stay = joins(gateway, hd(groups), "stays")
        gone = for group <- groups, n <- 1..5, do: joins(gateway, group, "user-#{n}")
        RelayMembers.settle(gateways)
        on(gateway, :crash_unseen, [unquote(name), gone])
        RelayMembers.together(gateways)
        RelayMembers.settle(gateways)

        for group <- groups, other <- gateways do
          expected = if group == hd(groups), do: ["root", "stays"], else: ["root"]
          Await.until(fn -> members(other, group) == expected end)
        end

        for {group, leaves} <- leaves do
          expected = for n <- 1..5, do: {"user-#{n}", :down}
          Await.until(fn -> length(on(gateway, :got, [leaves])) >= 5 end)
          assert Enum.sort(on(gateway, :got, [leaves])) == expected, group
        end

        Cluster.call(gateway, Process, :exit, [stay, :kill])
        for group <- groups, do: :ok = Cluster.call(gateway, Relay, :delete_group, [group])
      end
    end
  end

  test "a member that ends while the last other gateway stops leaves as well", %{id: id} do
    [a, b] = gateways(2)
    {:ok, _root} = on(b, :create, [id, :public, "root"])
    ann = joins(b, id, "ann")
    _elsewhere = joins(a, id, "eve")
    RelayMembers.settle([a, b])
    on(b, :crash_unseen_and_alone, ["Shard", [ann]])
    Await.until(fn -> members(b, id) == ["root"] end)
    Await.until(fn -> not on(b, :shared?, []) end)
  end

  test "a gateway knows that it is alone although Peers was killed before it heard of it" do
    [_a, b] = gateways(2)
    assert on(b, :shared?, [])
    on(b, :crash_unheard, [])
    Await.until(fn -> not on(b, :shared?, []) end)
  end

  test "a change is made although the leader's shard is killed before it decides", %{id: id} do
    # Asked for once more: nobody waits until the time for it is over, which the test does not have.
    [a, b] = gateways(2, sync_timeout: 600_000)
    on(a, :suspend, ["Shard"])
    asked = Task.async(fn -> on(b, :create, [id, :public, "root"]) end)
    Await.until(fn -> on(b, :pending?, [id]) end)
    on(a, :crash, ["Shard"])
    assert {:ok, _root} = Task.await(asked, :infinity)
    for gateway <- [a, b], do: assert(members(gateway, id) == ["root"])
  end

  for {name, killed} <- [{"", []}, {", also if Peers is killed", ["Peers"]}] do
    test "a user who joins with one device while leaving with another stays#{name}", %{id: id} do
      [a, b, c] = gateways = gateways(3)
      {:ok, _root} = on(a, :create, [id, :private, "root"])
      {{:ok, :pending}, other} = on(b, :join, [id, "ann"])
      :ok = Cluster.call(a, Relay, :accept_member, [id, "root", "ann"])

      # Decided after what c says of itself, and its device does not follow yet.
      on(a, :suspend, ["Shard"])
      join = Task.async(fn -> on(c, :join, [id, "ann"]) end)
      Await.until(fn -> on(c, :pending?, [id]) end)
      for name <- unquote(killed), do: on(c, :crash, [name])
      on(c, :idle?, [])
      on(c, :suspend, ["Shard"])
      on(a, :resume, ["Shard"])
      RelayMembers.settle([a])
      assert on(a, :device_expected?, [id])

      leave = Task.async(fn -> Cluster.call(b, Relay, :leave_group, [id, "ann", other]) end)
      Await.until(fn -> on(b, :decided?, [id]) end)
      on(c, :resume, ["Shard"])
      assert Task.await(leave, :infinity) == :ok
      assert {{:ok, :active}, device} = Task.await(join, :infinity)

      for gateway <- gateways, do: Await.until(fn -> members(gateway, id) == ["ann", "root"] end)
      assert on(c, :say, [id, "ann", "here"]) == 2
      assert {on(b, :devices, [id, "ann"]), on(c, :devices, [id, "ann"])} == {0, 1}
      Await.until(fn -> not on(a, :device_expected?, [id]) end)
      assert Cluster.call(c, Relay, :leave_group, [id, "ann", device]) == :ok
      for gateway <- gateways, do: assert(members(gateway, id) == ["root"])
    end
  end

  test "a user stays whose device a restarted shard has not heard of yet, whichever device leaves",
       %{
         id: id
       } do
    [a, b, c] = gateways = gateways(3)
    {:ok, _root} = on(a, :create, [id, :public, "root"])
    other = joins(b, id, "ann")
    # What c says of its device is lost with the shard that decides.
    on(a, :suspend, ["Shard"])
    join = Task.async(fn -> on(c, :join, [id, "ann"]) end)
    Await.until(fn -> on(c, :pending?, [id]) end)
    on(c, :suspend, ["Shard"])
    on(a, :resume, ["Shard"])
    Await.until(fn -> on(a, :device_expected?, [id]) end)
    on(a, :suspend, ["Shard"])
    on(c, :resume, ["Shard"])
    Await.until(fn -> on(c, :devices, [id, "ann"]) == 1 end)
    on(c, :suspend, ["Shard"])
    on(a, :crash, ["Shard"])
    Await.until(fn -> on(b, :known, []) |> Enum.all?(&(&1 == 3)) end)

    leave = Task.async(fn -> Cluster.call(b, Relay, :leave_group, [id, "ann", other]) end)
    Await.until(fn -> on(b, :pending?, [id]) end)
    on(a, :idle?, [])
    on(c, :resume, ["Shard"])
    assert Task.await(leave, :infinity) == :ok
    assert {{:ok, :active}, device} = Task.await(join, :infinity)
    for gateway <- gateways, do: assert(members(gateway, id) == ["ann", "root"])
    assert Cluster.call(c, Relay, :leave_group, [id, "ann", device]) == :ok
    for gateway <- gateways, do: assert(members(gateway, id) == ["root"])
  end

  test "a user who has left stays out although a gateway reports them late", %{id: id} do
    [a, b, c] = gateways = gateways(3)
    {:ok, _root} = on(a, :create, [id, :public, "root"])
    joins(a, id, "ann")
    # What b says to those that meet it anew, as when its Peers was killed.
    said = on(b, :snapshot, [id])
    assert Cluster.call(a, Relay, :leave_group, [id, "ann"]) == :ok
    on(c, :deliver, [id, said])
    for gateway <- gateways, do: Await.until(fn -> members(gateway, id) == ["root"] end)
    RelayMembers.settle([c])
  end

  for {what, function, args} <- [
        {"a user is kicked", :kick_member, ["root", "ann"]},
        {"a user leaves", :leave_group, ["ann"]},
        {"a ban ends", :unban_member, ["root", "bob"]}
      ] do
    test "the change that #{what} survives a kill of the shard that copies it", %{id: id} do
      [a, b] = gateways(2)
      {:ok, _root} = on(a, :create, [id, :public, "root"])
      _ann = joins(b, id, "ann")
      :ok = Cluster.call(a, Relay, :ban_member, [id, "root", "bob"])
      on(b, :suspend, ["Shard"])
      args = [id | unquote(args)]
      asked = Task.async(fn -> Cluster.call(a, Relay, unquote(function), args) end)
      Await.until(fn -> on(a, :pending?, [id]) end)
      on(b, :crash, ["Shard"])
      assert Task.await(asked, :infinity) == :ok
      RelayMembers.together([a, b])
      RelayMembers.settle([a, b])
      expected = if unquote(function) == :unban_member, do: ["ann", "root"], else: ["root"]
      for gateway <- [a, b], do: assert(members(gateway, id) == expected)

      if unquote(function) == :unban_member,
        do: joins(b, id, "bob"),
        else: assert(on(b, :devices, [id, "ann"]) == nil)

      assert on(a, :say, [id, "root", "hello"]) == length(members(a, id))
    end
  end

  for {what, function, args} <- [
        {"left", :leave_group, ["ann"]},
        {"been kicked", :kick_member, ["root", "ann"]},
        {"been accepted", :accept_member, ["root", "ann"]},
        {"been banned", :ban_member, ["root", "ann"]}
      ] do
    test "the caller is told that a user has #{what} although the shard that did it is killed",
         %{id: id} do
      [a, b] = gateways(2)
      {:ok, _root} = on(a, :create, [id, :private, "root"])
      {{:ok, :pending}, _ann} = on(b, :join, [id, "ann"])
      assert done_unsaid([a, b], id, unquote(function), unquote(args)) == :ok
      expected = if unquote(function) == :accept_member, do: ["ann", "root"], else: ["root"]
      for gateway <- [a, b], do: assert(members(gateway, id) == expected)
    end
  end

  test "the caller is told that a group was created or deleted although the shard that did it is killed",
       %{id: id} do
    [a, b] = gateways(2)
    root = Cluster.call(b, RelayMembers, :start, [])
    assert done_unsaid([a, b], id, :create_group, [:public, "root", root]) == :ok
    for gateway <- [a, b], do: assert(members(gateway, id) == ["root"])
    assert on(b, :devices, [id, "root"]) == 1
    assert done_unsaid([a, b], id, :delete_group, []) == :ok
  end

  # Asked for on b, made by the shard of a, copied by b; a's shard is killed before it says so.
  defp done_unsaid([a, b], id, function, args) do
    on(a, :suspend, ["Shard"])
    asked = Task.async(fn -> Cluster.call(b, Relay, function, [id | args]) end)
    Await.until(fn -> on(b, :pending?, [id]) end)
    effects = on(a, :make, [on(b, :waiting, [id])])
    on(b, :deliver, [id, [{:effects, nil, nil, effects}]])
    on(a, :crash, ["Shard"])
    Task.await(asked, :infinity)
  end

  test "a deletion is remembered by a gateway that was alone, and through a crash", %{id: id} do
    [a, b] = gateways(2)

    for n <- 1..2 do
      {:ok, _root} = on(a, :create, ["#{id}-#{n}", :public, "root"])
      joins(b, "#{id}-#{n}", "ann")
    end

    RelayMembers.split([a], [b])
    for gateway <- [a, b], do: Await.until(fn -> not on(gateway, :shared?, []) end)
    :ok = Cluster.call(a, Relay, :delete_group, ["#{id}-1"])
    :ok = Cluster.call(b, Relay, :delete_group, ["#{id}-2"])
    for gateway <- [a, b], do: on(gateway, :crash, ["Shard"])
    RelayMembers.heal([a], [b])

    for gateway <- [a, b], n <- 1..2 do
      info = fn -> Cluster.call(gateway, Relay, :get_group_info, ["#{id}-#{n}"]) end
      Await.until(fn -> info.() == {:error, :not_found} end)
    end
  end

  @names ["Disconnects", "Shard", "Forwarder", "Peers", "SlowConsumers"]

  @tag timeout: 180_000
  test "acknowledged changes hold everywhere, whichever process of whichever gateway is killed",
       %{id: id} do
    gateways = gateways(3)
    groups = for n <- 1..12, do: "#{id}-#{n}"

    for {gateway, n} <- Enum.zip(Stream.cycle(gateways), 0..11) do
      {:ok, root} = on(gateway, :create, [Enum.at(groups, n), :public, "root"])
      Cluster.call(gateway, Process, :exit, [root, :kill])
    end

    drivers =
      for {gateway, g} <- Enum.with_index(gateways), n <- 1..4 do
        shared? = n > 2
        user = if shared?, do: "shared-#{n}", else: "own-#{g}-#{n}"

        {gateway, user,
         Cluster.call(gateway, RelayDriver, :start, [groups, user, shared?, 10 * g + n])}
      end

    # Each goes on for a while before the next crash.
    for _round <- 1..2, name <- Enum.shuffle(@names), gateway <- Enum.shuffle(gateways) do
      on(gateway, :crash, [name])
      RelayMembers.together(gateways)
      before = steps(drivers)

      Await.until(fn ->
        Enum.all?(Enum.zip(steps(drivers), before), fn {now, before} -> now > before + 5 end)
      end)
    end

    told =
      for {gateway, user, pid} <- drivers do
        {known, wrong, steps} = Cluster.call(gateway, RelayDriver, :stop, [pid])
        assert {user, wrong} == {user, []}
        assert steps > 150
        {gateway, user, known}
      end

    RelayMembers.settle(gateways)
    checked = for group <- groups, do: check(gateways, group, told)
    # Most of what was done has been answered.
    assert Enum.sum(checked) > 40
  end

  defp steps(drivers) do
    for {gateway, _user, pid} <- drivers, do: Cluster.call(gateway, RelayDriver, :steps, [pid])
  end

  # The members of whom all is known are those with processes, and have these.
  defp check(gateways, group, told) do
    known = for {gateway, user, groups} <- told, do: {user, gateway, groups[group]}
    unclear = for {user, _gateway, :unclear} <- known, uniq: true, do: user
    known = Enum.reject(known, fn {user, _gateway, _pids} -> user in unclear end)

    for gateway <- gateways do
      expected =
        for {user, of} <- Enum.group_by(known, &elem(&1, 0)),
            Enum.any?(of, &(elem(&1, 2) != [])),
            into: %{} do
          {user, Enum.sum(for {_user, ^gateway, pids} <- of, do: length(pids))}
        end

      actual = fn ->
        {:ok, members} = Cluster.call(gateway, Relay, :list_members, [group])
        for {user, member} <- members, user not in unclear, into: %{}, do: {user, member.devices}
      end

      try do
        Await.until(fn -> actual.() == expected end)
      rescue
        _still_not -> assert {gateway, group, actual.()} == {gateway, group, expected}
      end
    end

    length(known)
  end
end
