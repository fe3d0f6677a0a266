defmodule PhoenixGenApi.ConfigFailed.StoreTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.ConfigFailed.Store

  @lifetime 24 * 60 * 60 * 1000

  setup context do
    store = context.test
    :ok = Store.new(store)
    writer = start_supervised!({Store, name: store})
    %{store: store, writer: writer}
  end

  defp put(store, service, now, reason \\ "x") do
    entry = ConfigFailed.entry(%{service: service}, reason, :pull, nil, now)
    {:ok, stored} = Store.put(store, entry, now)
    stored
  end

  defp services(store, now) do
    {:ok, entries} = Store.entries(store, now)
    Enum.map(entries, & &1.service)
  end

  test "an entry is gone when its 24 hours are over", %{store: store} do
    put(store, "a", 0)
    put(store, "b", 1)

    assert services(store, @lifetime - 1) == ["a", "b"]
    assert services(store, @lifetime) == ["b"]
    assert Store.count(store, @lifetime) == {:ok, 1}
    assert Store.count(store, @lifetime + 1) == {:ok, 0}
  end

  test "cleanup removes the expired entries only and counts them", %{store: store} do
    put(store, "a", 0)
    put(store, "b", 1)
    assert Store.cleanup(store, @lifetime - 1) == {:ok, 0}
    assert Store.cleanup(store, @lifetime) == {:ok, 1}
    assert services(store, 0) == ["b"]
    assert Store.cleanup(store, @lifetime + 1) == {:ok, 1}
    # Nothing is left but the sequence.
    assert [{:sequence, 2, 0}] = :ets.tab2list(store)
  end

  test "a repeat starts the 24 hours again", %{store: store} do
    first = put(store, "a", 0)

    assert put(store, "a", 1_000) == %{
             first
             | times: 2,
               inserted_at_ms: 1_000,
               expires_at_ms: 1_000 + @lifetime
           }

    assert services(store, @lifetime) == ["a"]
  end

  test "a repeat becomes the newest", %{store: store} do
    for service <- ["a", "b", "a"], do: put(store, service, 0)
    assert services(store, 0) == ["b", "a"]
  end

  test "a failure after its entry expired is a new one", %{store: store} do
    first = put(store, "a", 0)
    second = put(store, "a", @lifetime)
    assert second.times == 1
    assert second.id != first.id
    assert services(store, @lifetime) == ["a"]
  end

  test "the oldest of more than 1000 is dropped, in order", %{store: store} do
    for n <- 1..1000, do: put(store, "s#{n}", n)
    assert Store.count(store, 0) == {:ok, 1000}

    # A repeat needs no room.
    put(store, "s1", 1001)
    assert Store.count(store, 0) == {:ok, 1000}

    put(store, "new", 1002)
    assert Store.count(store, 0) == {:ok, 1000}
    assert services(store, 0) == Enum.map(3..1000, &"s#{&1}") ++ ["s1", "new"]
  end

  test "a dropped failure that comes again starts at one", %{store: store} do
    for n <- 1..1001, do: put(store, "s#{n}", n)
    assert put(store, "s1", 1002).times == 1
    assert Store.count(store, 0) == {:ok, 1000}
  end

  test "the writer removes expired entries by itself", %{store: store, writer: writer} do
    put(store, "old", 0)
    put(store, "current", System.system_time(:millisecond))
    send(writer, :cleanup)
    :sys.get_state(writer)
    assert services(store, 0) == ["current"]
  end

  test "no crash of the writer loses an entry", %{store: store, writer: writer} do
    put(store, "a", 0)
    monitor = Process.monitor(writer)
    Process.exit(writer, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^writer, :killed}
    assert services(store, 0) == ["a"]
  end

  test "creating the table again keeps it", %{store: store} do
    put(store, "a", 0)
    assert Store.new(store) == :ok
    assert services(store, 0) == ["a"]
  end

  test "without a table or a writer nothing is running" do
    entry = ConfigFailed.entry(%{}, "x", :pull, nil, 0)

    for result <- [
          Store.put(:no_such_store, entry, 0),
          Store.entries(:no_such_store, 0),
          Store.count(:no_such_store, 0),
          Store.cleanup(:no_such_store, 0),
          Store.clear(:no_such_store)
        ] do
      assert result == {:error, :not_running}
    end
  end
end
