defmodule PhoenixGenApi.OwnedTableTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.OwnedTable

  @table __MODULE__

  test "a table is created once, with the rows it begins with, and goes with its owner" do
    refute OwnedTable.exists?(@table)

    owner =
      start_supervised!(
        {Agent, fn -> OwnedTable.new(@table, [:set], fn -> [{:first, 1}, {:second, 2}] end) end}
      )

    assert OwnedTable.exists?(@table)
    :ets.insert(@table, {:first, :changed})
    assert OwnedTable.new(@table, [:set], fn -> [{:first, 1}] end) == :ok
    assert Enum.sort(:ets.tab2list(@table)) == [first: :changed, second: 2]
    assert :ets.info(@table, :owner) == owner
    assert :ets.info(@table, :protection) == :public

    stop_supervised!(Agent)
    refute OwnedTable.exists?(@table)
  end
end
