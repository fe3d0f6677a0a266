defmodule PhoenixGenApi.ConfigSync.PushStoreTest do
  # The one table of this node.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.ConfigSync.{PushStore, VersionVector}

  @table PushStore

  setup do
    before = :ets.tab2list(@table)

    on_exit(fn ->
      :ets.delete_all_objects(@table)
      :ets.insert(@table, before)
    end)

    :ets.delete_all_objects(@table)
    :ets.insert(@table, {:life, 1})
    :ok
  end

  defp put(service, time, digest) do
    vector = VersionVector.push(PushStore.entry(service).vector, {:a@h, 1}, time, "1", digest)
    put(service, vector, hd(vector.live), %{digest => "content of " <> digest})
  end

  defp put(service, vector, applied, contents) do
    PushStore.put(service, %{vector: vector, applied: applied, refused: nil}, contents)
    vector
  end

  test "the content of a push goes with the push" do
    put("pushed", 1, "one")
    assert PushStore.content("pushed", "one") == {:ok, "content of one"}
    vector = put("pushed", 2, "two")
    assert PushStore.content("pushed", "one") == :error
    assert PushStore.content("pushed", "two") == {:ok, "content of two"}
    put("pushed", VersionVector.delete(vector, {:a@h, 1}, 3), nil, %{})
    assert PushStore.content("pushed", "two") == :error
    assert PushStore.version("pushed") == nil
  end

  test "the content of what is stored stays while a later push is refused here" do
    one = put("pushed", 1, "one")
    two = VersionVector.push(one, {:b@h, 1}, 2, "2", "two")
    put("pushed", two, hd(one.live), %{"two" => "2"})
    assert PushStore.version("pushed") == "1"
    assert PushStore.content("pushed", "one") == {:ok, "content of one"}
    assert PushStore.content("pushed", "two") == {:ok, "2"}
  end

  test "ten thousand deleted services are remembered, the latest" do
    for n <- 1..11_050 do
      # The later it is deleted the longer ago it was pushed.
      vector = VersionVector.push(VersionVector.new(), {:a@h, 1}, 20_000 - n, "1", "d")
      put("deleted #{n}", VersionVector.delete(vector, {:a@h, 1}, 20_000 + n), nil, %{})
    end

    stamps = PushStore.stamps()
    deleted = for {"deleted " <> n, _} <- stamps, do: String.to_integer(n)
    assert length(deleted) in 10_000..11_000
    assert Enum.sort(deleted) == Enum.to_list(Enum.min(deleted)..11_050)
  end

  test "equal pushes have equal digests, which name what is sent" do
    push = %PhoenixGenApi.Structs.PushConfig{service: "s", args: [%{b: 1, a: 2}]}
    {digest, content} = PushStore.pack(push)
    assert {^digest, ^content} = PushStore.pack(%{push | args: [Map.new(a: 2, b: 1)]})
    assert PushStore.unpack(content) == push
    refute match?({^digest, _}, PushStore.pack(%{push | config_version: "1"}))
  end
end
