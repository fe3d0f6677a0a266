defmodule PhoenixGenApi.RelayCrashClusterTest do
  # Processes of the relay are killed with work in their mailboxes.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, Relay, RelayMembers}
  alias PhoenixGenApi.Test.Cluster

  @moduletag :cluster

  setup do
    %{id: "crash-#{System.unique_integer([:positive])}"}
  end

  defp gateways(count) do
    gateways =
      for _ <- 1..count, do: Cluster.start_peer(app: [client_mode: false], connect: false)

    for a <- gateways,
        {_, node} = b <- gateways,
        a != b,
        do: true = Cluster.call(a, Node, :connect, [node])

    together(gateways)
    # Or those who are absent are looked for anyway.
    for gateway <- gateways, do: Await.until(fn -> on(gateway, :settled?, []) end)
    gateways
  end

  defp together(gateways) do
    count = length(gateways)

    Await.until(fn ->
      Enum.all?(gateways, fn gateway ->
        Enum.all?(0..7, &(on(gateway, :known, [&1]) == count))
      end)
    end)
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

  for count <- [1, 3], name <- ["Departures", "Shard"] do
    test "with #{count} gateways, who ends unseen by #{name}, which is killed, leaves everywhere",
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
        for other <- gateways, do: Await.until(fn -> on(other, :settled?, []) end)
        on(gateway, :crash_unseen, [unquote(name), gone])

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

  test "nor is anybody forgotten when the last of the others ends meanwhile", %{id: id} do
    [a, b] = gateways(2)
    {:ok, _root} = on(b, :create, [id, :public, "root"])
    ann = joins(b, id, "ann")
    _elsewhere = joins(a, id, "eve")
    for gateway <- [a, b], do: Await.until(fn -> on(gateway, :settled?, []) end)
    Process.unlink(elem(a, 0))
    on(b, :crash_unseen_and_alone, ["Shard", [ann]])
    Await.until(fn -> members(b, id) == ["root"] end)
    Await.until(fn -> not on(b, :shared?, []) end)
  end

  test "a gateway knows that it is alone although Peers was killed before it heard of it" do
    [a, b] = gateways(2)
    Process.unlink(elem(a, 0))
    assert on(b, :shared?, [])
    on(b, :crash_unheard, [])
    Await.until(fn -> not on(b, :shared?, []) end)
  end
end
