defmodule PhoenixGenApi.ConfigReceiver.PushedTest do
  # The one table of this node.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.ConfigReceiver.{Pushed, Register}

  @table PhoenixGenApi.ConfigReceiver

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
    register = Register.push(Pushed.entry(service).register, {:a@h, 1}, time, "1", digest)
    put(service, register, hd(register.live), %{digest => "content of " <> digest})
  end

  defp put(service, register, applied, contents) do
    Pushed.put(service, %{register: register, applied: applied, refused: nil}, contents)
    register
  end

  test "the content of a push goes with the push" do
    put("pushed", 1, "one")
    assert Pushed.content("pushed", "one") == {:ok, "content of one"}
    register = put("pushed", 2, "two")
    assert Pushed.content("pushed", "one") == :error
    assert Pushed.content("pushed", "two") == {:ok, "content of two"}
    put("pushed", Register.delete(register, {:a@h, 1}, 3), nil, %{})
    assert Pushed.content("pushed", "two") == :error
    assert Pushed.version("pushed") == nil
  end

  test "the content of what is stored stays while a later push is refused here" do
    one = put("pushed", 1, "one")
    two = Register.push(one, {:b@h, 1}, 2, "2", "two")
    put("pushed", two, hd(one.live), %{"two" => "2"})
    assert Pushed.version("pushed") == "1"
    assert Pushed.content("pushed", "one") == {:ok, "content of one"}
    assert Pushed.content("pushed", "two") == {:ok, "2"}
  end

  test "ten thousand deleted services are remembered, the latest" do
    for n <- 1..11_050 do
      # The later it is deleted the longer ago it was pushed.
      register = Register.push(Register.new(), {:a@h, 1}, 20_000 - n, "1", "d")
      put("deleted #{n}", Register.delete(register, {:a@h, 1}, 20_000 + n), nil, %{})
    end

    stamps = Pushed.stamps()
    deleted = for {"deleted " <> n, _} <- stamps, do: String.to_integer(n)
    assert length(deleted) in 10_000..11_000
    assert Enum.sort(deleted) == Enum.to_list(Enum.min(deleted)..11_050)
  end

  test "equal pushes have equal digests, which name what is sent" do
    push = %PhoenixGenApi.Structs.PushConfig{service: "s", args: [%{b: 1, a: 2}]}
    {digest, content} = Pushed.pack(push)
    assert {^digest, ^content} = Pushed.pack(%{push | args: [Map.new(a: 2, b: 1)]})
    assert Pushed.unpack(content) == push
    refute match?({^digest, _}, Pushed.pack(%{push | config_version: "1"}))
  end
end
