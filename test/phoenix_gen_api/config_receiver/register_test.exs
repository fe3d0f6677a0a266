defmodule PhoenixGenApi.ConfigReceiver.RegisterTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigReceiver.Register

  @versions ["1.0.0", "1.0.1", "1.10.0", "2.0.0-rc.1", "2.0.0", "nightly-9", "nightly-10"]

  # Beside each register an oracle: every push that was heard of, and every one that a later
  # push has replaced or a deletion has deleted. They only ever grow.
  defp gateways(count) do
    for n <- 1..count, into: %{} do
      {n, %{register: Register.new(), known: MapSet.new(), dead: MapSet.new()}}
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
    %{register: register, known: known} = gateways[n]
    # Clocks of gateways differ, and stand still.
    time = 1_000 + :rand.uniform(5) + div(step, 10)
    version = Enum.random(@versions)
    again? = :rand.uniform(3) == 1
    register = Register.push(register, {:"gw#{n}@h", n}, time, version, "digest #{step}", again?)
    [push] = register.live
    {n, %{register: register, known: MapSet.put(known, push), dead: known}}
  end

  defp step(step, n, 5, gateways) do
    gateway = gateways[n]

    {n,
     %{
       gateway
       | register: Register.delete(gateway.register, {:"gw#{n}@h", n}, step),
         dead: gateway.known
     }}
  end

  defp step(_step, n, _chance, gateways),
    do: {n, join(gateways[n], gateways[:rand.uniform(map_size(gateways))])}

  defp join(a, b) do
    %{
      register: Register.merge(a.register, b.register),
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
      for state <- history(4, 200), do: assert(state.register.live == live(state))
    end

    @tag seed: seed
    test "merging is commutative, associative and idempotent, seed #{seed}", %{seed: seed} do
      :rand.seed(:exsss, seed)
      registers = history(4, 100) |> Enum.map(& &1.register)

      for _ <- 1..300 do
        [a, b, c] = for _ <- 1..3, do: Enum.random(registers)
        ab = Register.merge(a, b)
        assert ab == Register.merge(b, a)
        assert Register.merge(ab, c) == Register.merge(a, Register.merge(b, c))
        assert Register.merge(ab, b) == ab
        assert Register.merge(a, a) == a
      end
    end

    @tag seed: seed
    test "all orders of hearing of it end with the same push, seed #{seed}", %{seed: seed} do
      :rand.seed(:exsss, seed)
      states = history(4, 60)

      results =
        for _ <- 1..10, do: states |> Enum.shuffle() |> Enum.reduce(&join/2) |> Map.get(:register)

      assert [register] = Enum.uniq(results)
      assert results |> Enum.map(&Register.stamp/1) |> Enum.uniq() |> length() == 1

      newest = register.live |> Enum.map(& &1.at) |> Enum.max(fn -> 0 end)

      assert Register.winner(register) ==
               register.live
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

  defp push(register, gateway, version, time \\ 1),
    do: Register.push(register, {gateway, 1}, time, version, version)

  defp version(register) do
    with %{version: version} <- Register.winner(register), do: version
  end

  test "a push replaces what its gateway has seen, a rollback too" do
    register = Register.new() |> push(:a, "2.0.0") |> push(:b, "1.0.0")
    assert version(register) == "1.0.0"
    assert version(Register.merge(register, push(Register.new(), :a, "2.0.0"))) == "1.0.0"
  end

  test "of pushes that did not know of each other the highest version wins, then the newest" do
    old = push(Register.new(), :a, "1.9.0", 9)
    new = push(Register.new(), :b, "1.10.0", 1)
    assert version(Register.merge(old, new)) == "1.10.0"

    late = Register.push(Register.new(), {:c, 1}, 5, "1.10.0", "late")
    assert %{dot: {5, {:c, 1}}, digest: "late"} = Register.winner(Register.merge(new, late))
  end

  test "the loser of a conflict wins once the winner alone is replaced by a rollback" do
    # Merged in two orders; a register that kept only winners would end differently.
    x = push(Register.new(), :a, "3.0.0")
    y = push(x, :a, "1.0.0")
    z = push(Register.new(), :b, "2.0.0")
    assert version(Register.merge(x, z)) == "3.0.0"
    assert version(x |> Register.merge(z) |> Register.merge(y)) == "2.0.0"
    assert version(x |> Register.merge(y) |> Register.merge(z)) == "2.0.0"
  end

  test "a deletion removes what it had seen and nothing else" do
    seen = push(Register.new(), :a, "1.0.0")
    deleted = Register.delete(seen, {:a, 1}, 2)
    assert Register.winner(deleted) == nil
    assert Register.merge(deleted, seen) == deleted
    assert version(Register.merge(deleted, push(Register.new(), :b, "0.1.0"))) == "0.1.0"
    assert version(push(deleted, :c, "0.0.1")) == "0.0.1"
  end

  test "numbers go on where a clock is behind, and the time stays what it was" do
    register = Register.new() |> push(:a, "1", 1_000) |> push(:b, "2", 10)
    assert Register.last_seen(register) == 1_001
    assert %{dot: {1_001, {:b, 1}}, at: 10} = Register.winner(register)
  end

  test "hundreds of lives of gateways are not all remembered" do
    register =
      Enum.reduce(1..500, Register.new(), &Register.push(&2, {:a, &1}, &1, "#{&1}", "#{&1}"))

    assert map_size(register.seen) == 64
    assert version(register) == "500"
    recent = Register.push(Register.new(), {:a, 499}, 499, "9999", "old")
    assert version(Register.merge(register, recent)) == "500"
  end

  test "what was only pushed again counts for nothing against what was pushed later" do
    rollback = push(Register.new(), :a, "1.0.0", 200)
    again = Register.push(Register.new(), {:b, 1}, 100, "2.0.0", "again", true)
    assert version(again) == "2.0.0"
    assert version(Register.merge(again, rollback)) == "1.0.0"
    assert version(Register.merge(rollback, again)) == "1.0.0"
    # Pushed earlier, it is a side of a conflict.
    assert version(Register.merge(again, push(Register.new(), :a, "1.0.0", 50))) == "2.0.0"
  end

  test "a deletion counts among the latest, however long ago the push was" do
    deleted = Register.new() |> push(:a, "1", 10) |> Register.delete({:b, 1}, 1_000)
    assert Register.last_seen(deleted) == 1_000
  end
end
