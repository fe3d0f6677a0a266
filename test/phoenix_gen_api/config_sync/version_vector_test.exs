defmodule PhoenixGenApi.ConfigSync.VersionVectorTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigSync.VersionVector

  @versions ["1.0.0", "1.0.1", "1.10.0", "2.0.0-rc.1", "2.0.0", "nightly-9", "nightly-10"]

  # Beside each vector an oracle: every push that was heard of, and every one that a later
  # push has replaced or a deletion has deleted. They only ever grow.
  defp gateways(count) do
    for n <- 1..count, into: %{} do
      {n, %{vector: VersionVector.new(), known: MapSet.new(), dead: MapSet.new()}}
    end
  end

  # Random pushes, deletions and merges; every state of every gateway, oldest first.
  defp history(count, steps) do
    {_, states} =
      Enum.reduce(1..steps, {gateways(count), []}, fn step, {gateways, states} ->
        {n, gateway} = step(step, :rand.uniform(count), :rand.uniform(10), gateways)
        {%{gateways | n => gateway}, [gateway | states]}
      end)

    Enum.reverse(states)
  end

  defp step(step, n, chance, gateways) when chance <= 4 do
    %{vector: vector, known: known} = gateways[n]
    # Clocks of gateways differ, and stand still.
    time = 1_000 + :rand.uniform(5) + div(step, 10)
    version = Enum.random(@versions)
    again? = :rand.uniform(3) == 1
    vector = VersionVector.push(vector, {:"gw#{n}@h", n}, time, version, "digest #{step}", again?)
    [push] = vector.live
    {n, %{vector: vector, known: MapSet.put(known, push), dead: known}}
  end

  defp step(step, n, 5, gateways) do
    gateway = gateways[n]

    {n,
     %{
       gateway
       | vector: VersionVector.delete(gateway.vector, {:"gw#{n}@h", n}, step),
         dead: gateway.known
     }}
  end

  defp step(_step, n, _chance, gateways),
    do: {n, join(gateways[n], gateways[:rand.uniform(map_size(gateways))])}

  defp join(a, b) do
    %{
      vector: VersionVector.merge(a.vector, b.vector),
      known: MapSet.union(a.known, b.known),
      dead: MapSet.union(a.dead, b.dead)
    }
  end

  defp live(%{known: known, dead: dead}), do: known |> MapSet.difference(dead) |> Enum.sort()

  for seed <- 1..20 do
    @tag seed: seed
    test "what is live is what no known push has replaced and no known deletion has deleted, seed #{seed}",
         %{seed: seed} do
      :rand.seed(:exsss, seed)
      for state <- history(4, 200), do: assert(state.vector.live == live(state))
    end

    @tag seed: seed
    test "merging is commutative, associative and idempotent, seed #{seed}", %{seed: seed} do
      :rand.seed(:exsss, seed)
      vectors = history(4, 100) |> Enum.map(& &1.vector)

      for _ <- 1..300 do
        [a, b, c] = for _ <- 1..3, do: Enum.random(vectors)
        ab = VersionVector.merge(a, b)
        assert ab == VersionVector.merge(b, a)
        assert VersionVector.merge(ab, c) == VersionVector.merge(a, VersionVector.merge(b, c))
        assert VersionVector.merge(ab, b) == ab
        assert VersionVector.merge(a, a) == a
      end
    end

    @tag seed: seed
    test "all orders of hearing of it end with the same push, seed #{seed}", %{seed: seed} do
      :rand.seed(:exsss, seed)
      states = history(4, 60)

      results =
        for _ <- 1..10, do: states |> Enum.shuffle() |> Enum.reduce(&join/2) |> Map.get(:vector)

      assert [vector] = Enum.uniq(results)
      assert results |> Enum.map(&VersionVector.stamp/1) |> Enum.uniq() |> length() == 1

      newest = vector.live |> Enum.map(& &1.at) |> Enum.max(fn -> 0 end)

      assert VersionVector.winner(vector) ==
               vector.live
               |> Enum.reject(&(&1.again and &1.at < newest))
               |> Enum.sort(fn a, b ->
                 case ConfigDb.compare_versions(a.version, b.version) do
                   :eq -> {a.at, a.dot} >= {b.at, b.dot}
                   order -> order == :gt
                 end
               end)
               |> List.first()
    end
  end

  defp push(vector, gateway, version, time \\ 1),
    do: VersionVector.push(vector, {gateway, 1}, time, version, version)

  defp version(vector) do
    with %{version: version} <- VersionVector.winner(vector), do: version
  end

  test "a push replaces what its gateway has seen, a rollback too" do
    vector = VersionVector.new() |> push(:a, "2.0.0") |> push(:b, "1.0.0")
    assert version(vector) == "1.0.0"
    assert version(VersionVector.merge(vector, push(VersionVector.new(), :a, "2.0.0"))) == "1.0.0"
  end

  test "of pushes that did not know of each other the highest version wins, then the newest" do
    old = push(VersionVector.new(), :a, "1.9.0", 9)
    new = push(VersionVector.new(), :b, "1.10.0", 1)
    assert version(VersionVector.merge(old, new)) == "1.10.0"

    late = VersionVector.push(VersionVector.new(), {:c, 1}, 5, "1.10.0", "late")

    assert %{dot: {5, {:c, 1}}, digest: "late"} =
             VersionVector.winner(VersionVector.merge(new, late))
  end

  test "the loser of a conflict wins once the winner alone is replaced by a rollback" do
    # Merged in two orders; a vector that kept only winners would end differently.
    x = push(VersionVector.new(), :a, "3.0.0")
    y = push(x, :a, "1.0.0")
    z = push(VersionVector.new(), :b, "2.0.0")
    assert version(VersionVector.merge(x, z)) == "3.0.0"
    assert version(x |> VersionVector.merge(z) |> VersionVector.merge(y)) == "2.0.0"
    assert version(x |> VersionVector.merge(y) |> VersionVector.merge(z)) == "2.0.0"
  end

  test "a deletion removes what it had seen and nothing else" do
    seen = push(VersionVector.new(), :a, "1.0.0")
    deleted = VersionVector.delete(seen, {:a, 1}, 2)
    assert VersionVector.winner(deleted) == nil
    assert VersionVector.merge(deleted, seen) == deleted

    assert version(VersionVector.merge(deleted, push(VersionVector.new(), :b, "0.1.0"))) ==
             "0.1.0"

    assert version(push(deleted, :c, "0.0.1")) == "0.0.1"
  end

  test "numbers go on where a clock is behind, and the time stays what it was" do
    vector = VersionVector.new() |> push(:a, "1", 1_000) |> push(:b, "2", 10)
    assert VersionVector.last_seen(vector) == 1_001
    assert %{dot: {1_001, {:b, 1}}, at: 10} = VersionVector.winner(vector)
  end

  test "hundreds of lives of gateways are not all remembered" do
    vector =
      Enum.reduce(
        1..500,
        VersionVector.new(),
        &VersionVector.push(&2, {:a, &1}, &1, "#{&1}", "#{&1}")
      )

    assert map_size(vector.seen) == 64
    assert version(vector) == "500"
    recent = VersionVector.push(VersionVector.new(), {:a, 499}, 499, "9999", "old")
    assert version(VersionVector.merge(vector, recent)) == "500"
  end

  test "what was only pushed again counts for nothing against what was pushed later" do
    rollback = push(VersionVector.new(), :a, "1.0.0", 200)
    again = VersionVector.push(VersionVector.new(), {:b, 1}, 100, "2.0.0", "again", true)
    assert version(again) == "2.0.0"
    assert version(VersionVector.merge(again, rollback)) == "1.0.0"
    assert version(VersionVector.merge(rollback, again)) == "1.0.0"
    # Pushed earlier, it is a side of a conflict.
    assert version(VersionVector.merge(again, push(VersionVector.new(), :a, "1.0.0", 50))) ==
             "2.0.0"
  end

  test "a deletion counts among the latest, however long ago the push was" do
    deleted = VersionVector.new() |> push(:a, "1", 10) |> VersionVector.delete({:b, 1}, 1_000)
    assert VersionVector.last_seen(deleted) == 1_000
  end
end
