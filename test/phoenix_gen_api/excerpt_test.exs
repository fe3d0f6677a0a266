defmodule PhoenixGenApi.ExcerptTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Excerpt

  test "short terms are inspected in full" do
    assert Excerpt.inspect({:a, "b", [1]}) == ~s({:a, "b", [1]})
  end

  test "long terms are cut at the limit and end in an ellipsis" do
    text = Excerpt.inspect(Enum.map(1..20, fn _ -> String.duplicate("x", 100) end))
    assert byte_size(text) == 500
    assert String.ends_with?(text, "...")
    assert byte_size(Excerpt.inspect(String.duplicate("x", 100), 40)) <= 40
  end

  test "a cut never splits a character" do
    for size <- 10..20 do
      text = Excerpt.cut(String.duplicate("日", 20), size)
      assert String.valid?(text)
      assert byte_size(text) <= size
    end
  end

  test "huge integers are named, not written, at any depth" do
    huge = Integer.pow(10, 1_000_000)
    {microseconds, text} = :timer.tc(fn -> Excerpt.inspect(%{"n" => [huge, -huge, 7]}) end)
    assert text =~ ~r/^%\{"n" => \[#Integer<\d+ bytes>, #Integer<\d+ bytes>, 7\]\}$/
    # Written in decimal each would take seconds.
    assert microseconds < 1_000_000
  end

  test "binaries that are not UTF-8 become valid text" do
    assert String.valid?(Excerpt.inspect(:binary.copy(<<255>>, 10_000)))
  end
end
