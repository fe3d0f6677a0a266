defmodule PhoenixGenApi.NativeStackTest do
  # Every test has a VM of its own, which would not survive an overflow.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.SmallStacks

  setup do
    {:ok, peer: SmallStacks.start_link()}
  end

  test "formats of any nesting, within types of any nesting, do not overflow a small stack", %{
    peer: peer
  } do
    assert Enum.uniq(SmallStacks.run(peer, :formats)) == [:returned]
  end

  test "types nested more deeply than 32 levels are refused before they overflow a stack", %{
    peer: peer
  } do
    refused = List.duplicate(:refused, 3)
    expected = [:returned] ++ refused ++ [:returned] ++ refused
    assert SmallStacks.run(peer, :types) == expected
  end

  test "no more than 32 levels of arguments can be asked for", %{peer: peer} do
    assert SmallStacks.run(peer, :depths) == [:returned, :refused, :refused, :refused]
  end

  test "arguments of any nesting do not overflow a small stack", %{peer: peer} do
    assert length(SmallStacks.run(peer, :arguments)) == 18
  end

  test "default values of any nesting do not overflow a small stack", %{peer: peer} do
    assert SmallStacks.run(peer, :defaults) == :returned
  end
end
