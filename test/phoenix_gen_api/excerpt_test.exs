defmodule PhoenixGenApi.ExcerptTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Excerpt

  test "a short term is inspected whole and on one line" do
    assert Excerpt.inspect(%{a: [1, "é"]}) == ~s(%{a: [1, "é"]})
    refute Excerpt.inspect(Enum.to_list(1..40)) =~ "\n"
  end

  test "an inspected term has at most 500 bytes" do
    for term <- [String.duplicate("x", 10_000), List.duplicate("abcdefghij", 10_000)] do
      text = Excerpt.inspect(term)
      assert byte_size(text) <= 500
      assert byte_size(text) > 400
      assert String.ends_with?(text, "...")
    end
  end

  test "the number of bytes can be given" do
    assert Excerpt.inspect(String.duplicate("x", 200), 20) == ~s("xxxxxxxxxxxxxxxx...)
  end

  test "a text is never cut inside a character" do
    for size <- 4..12 do
      cut = Excerpt.cut(String.duplicate("é", 20), size)
      assert String.valid?(cut)
      assert byte_size(cut) in [size - 1, size]
    end
  end

  test "an exception's reason is its message, cut" do
    assert Excerpt.reason(:error, %RuntimeError{message: "boom"}) == "boom"
    assert Excerpt.reason(:error, :badarg) == "argument error"

    assert byte_size(Excerpt.reason(:error, RuntimeError.exception(String.duplicate("x", 999)))) ==
             500
  end

  test "the reason of an exit or a throw is the inspected term" do
    assert Excerpt.reason(:exit, {:shutdown, 1}) == "{:shutdown, 1}"
    assert Excerpt.reason(:throw, :ball) == ":ball"
  end
end
