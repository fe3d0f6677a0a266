defmodule PhoenixGenApi.Relay.DeletedTest do
  use ExUnit.Case, async: false

  alias PhoenixGenApi.Relay.Deleted

  setup do
    # Of other tests, none of which needs them any more.
    :ets.delete_all_objects(Deleted)
    groups = for n <- 1..50_001, do: "deleted-#{n}"
    on_exit(fn -> Enum.each(groups, &Deleted.forget/1) end)
    %{groups: groups, now: System.system_time(:millisecond)}
  end

  defp remembered(groups), do: Enum.count(groups, &(Deleted.at(&1) >= 0))

  test "of more than 50,000 deletions the later half is remembered", %{groups: groups, now: now} do
    for {group, n} <- Enum.with_index(groups), do: Deleted.note(group, now + n)
    assert remembered(groups) in 24_900..25_100
    assert Deleted.at(List.last(groups)) == now + 50_000
    assert Deleted.at("deleted-30000") == now + 29_999
    assert Deleted.at("deleted-1") == -1
  end

  test "those older than a day make room first", %{groups: groups, now: now} do
    {old, recent} = Enum.split(groups, 1_000)
    for group <- old, do: Deleted.note(group, now - 86_400_001)
    for group <- recent, do: Deleted.note(group, now)
    assert remembered(old) == 0
    assert remembered(recent) == 49_001
  end
end
