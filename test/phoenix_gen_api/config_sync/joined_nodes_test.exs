defmodule PhoenixGenApi.ConfigSync.JoinedNodesTest do
  # In the one table of this node.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.ConfigSync.{JoinedNodes, PushStore}

  setup do
    on_exit(fn -> :ets.match_delete(PushStore, {{:joined, :_}, :_}) end)
  end

  test "nodes of one content are no nodes of another" do
    :ok = JoinedNodes.add("joined", "one", :b@h, 1)
    :ok = JoinedNodes.add("joined", "one", :a@h, 2)
    assert JoinedNodes.of("joined", "one") == [:a@h, :b@h]
    assert JoinedNodes.of("joined", "two") == []
    assert JoinedNodes.services(:a@h) == ["joined"]
    :ok = JoinedNodes.keep("joined", "one")
    assert JoinedNodes.row("joined") == {"one", %{a@h: 2, b@h: 1}}
    :ok = JoinedNodes.keep("joined", "two")
    assert JoinedNodes.row("joined") == nil
    # Nobody else reaches a node by that name.
    :ok = JoinedNodes.add("joined", "one", :nonode@nohost, 1)
    assert JoinedNodes.rows() == %{}
  end

  test "what is merged is the same in any order" do
    rows = for _ <- 1..5, do: Map.new(1..6, &{:"node#{:rand.uniform(8)}@h", &1})

    [once | others] =
      for _ <- 1..10 do
        :ets.match_delete(PushStore, {{:joined, "joined"}, :_})

        for row <- Enum.shuffle(rows ++ rows), do: JoinedNodes.merge("joined", "one", row)
        JoinedNodes.row("joined")
      end

    assert Enum.all?(others, &(&1 == once))
  end

  test "a node that was forgotten comes back by joining later, not by being heard of" do
    :ok = JoinedNodes.add("joined", "one", :a@h, 5)
    :ok = JoinedNodes.forget("joined", :a@h)
    :ok = JoinedNodes.forget("joined", :other@h)
    assert JoinedNodes.merge("joined", "one", %{a@h: 5, b@h: 1}) == [:b@h]
    assert JoinedNodes.of("joined", "one") == [:b@h]
    assert JoinedNodes.merge("joined", "one", %{a@h: 6}) == [:a@h]
    :ok = JoinedNodes.forget("joined", :a@h)
    # Whatever the clock says.
    :ok = JoinedNodes.add("joined", "one", :a@h, 1)
    assert JoinedNodes.row("joined") == {"one", %{a@h: 7, b@h: 1}}
  end

  test "the last thousand are kept, and the last thousand that were forgotten" do
    for n <- 1..1_005, do: JoinedNodes.add("joined", "one", :"node#{n}@h", n)
    nodes = JoinedNodes.of("joined", "one")
    assert length(nodes) == 1_000
    assert :node5@h not in nodes and :node6@h in nodes

    for n <- 1..1_010,
        do:
          JoinedNodes.add("joined", "two", :"node#{n}@h", n) &&
            JoinedNodes.forget("joined", :"node#{n}@h")

    [{_, {"two", joined, forgotten}}] = :ets.lookup(PushStore, {:joined, "joined"})
    assert {joined, map_size(forgotten)} == {%{}, 1_000}
  end
end
