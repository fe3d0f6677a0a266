defmodule PhoenixGenApi.Relay.TombstonesTest do
  use ExUnit.Case, async: false

  alias PhoenixGenApi.Relay.Tombstones

  setup do
    # Of other tests, none of which needs them any more.
    :ets.delete_all_objects(Tombstones)
    groups = for n <- 1..50_001, do: "deleted-#{n}"
    on_exit(fn -> Enum.each(groups, &Tombstones.delete/1) end)
    %{groups: groups, now: System.system_time(:millisecond)}
  end

  defp remembered(groups), do: Enum.count(groups, &(Tombstones.deleted_at(&1) >= 0))

  test "of more than 50,000 deletions the later half is remembered", %{groups: groups, now: now} do
    for {group, n} <- Enum.with_index(groups), do: Tombstones.put(group, now + n)
    assert remembered(groups) in 24_900..25_100
    assert Tombstones.deleted_at(List.last(groups)) == now + 50_000
    assert Tombstones.deleted_at("deleted-30000") == now + 29_999
    assert Tombstones.deleted_at("deleted-1") == -1
  end

  test "those older than a day make room first", %{groups: groups, now: now} do
    {old, recent} = Enum.split(groups, 1_000)
    for group <- old, do: Tombstones.put(group, now - 86_400_001)
    for group <- recent, do: Tombstones.put(group, now)
    assert remembered(old) == 0
    assert remembered(recent) == 49_001
  end
end
