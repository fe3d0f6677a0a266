defmodule PhoenixGenApi.RelaySplitClusterTest do
  # Gateways that were apart, and others that know only one side.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{Await, Relay, RelayMembers}
  alias PhoenixGenApi.Test.Cluster

  @moduletag :cluster

  setup do
    %{id: "split-#{System.unique_integer([:positive])}"}
  end

  defp on(gateway, function, args), do: Cluster.call(gateway, RelayMembers, function, args)
  defp relay(gateway, function, args), do: Cluster.call(gateway, Relay, function, args)

  # A group of root, who is on the first gateway, and of carl, an admin too, and ann, who are on the second one.
  defp pair(id) do
    [a, b] = gateways = RelayMembers.gateways(2)
    {:ok, _root} = on(a, :create, [id, :strict_private, "root"])

    for user <- ["carl", "ann"] do
      {{:ok, :pending}, _pid} = on(b, :join, [id, user])
      :ok = relay(a, :accept_member, [id, "root", user])
    end

    :ok = relay(a, :promote_member, [id, "root", "carl"])
    gateways
  end

  defp agree(gateways, id) do
    views = fn -> gateways |> Enum.map(&on(&1, :view, [id])) |> Enum.uniq() end
    Await.until(fn -> match?([_], views.()) end)
  rescue
    _still_not -> flunk("they differ: #{inspect(Enum.map(gateways, &on(&1, :view, [id])))}")
  end

  test "a ban made on one side of a split holds on a gateway that started on the other side",
       %{id: id} do
    [a, b] = pair(id)
    RelayMembers.split([a], [b])
    Await.until(fn -> not is_map_key(elem(on(b, :view, [id]), 1), "root") end)
    # She left with her gateway.
    :ok = relay(a, :ban_member, [id, "root", "ann"])

    for _ <- 1..5,
        verb <- [:mute_member, :unmute_member],
        do: :ok = relay(b, verb, [id, "carl", "ann"])

    c = Cluster.start_peer(app: [client_mode: false], connect: false)
    RelayMembers.meet([b, c])
    # It is the first one that the other side meets.
    RelayMembers.heal([a], [c, b])
    agree([a, b, c], id)

    for gateway <- [a, b, c],
        do: assert({{:error, :banned}, _pid} = on(gateway, :join, [id, "ann"]))
  end
end
