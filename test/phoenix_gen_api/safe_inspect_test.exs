defmodule PhoenixGenApi.SafeInspectTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.SafeInspect

  test "a short term is inspected whole and on one line" do
    assert SafeInspect.inspect(%{a: [1, "é"]}) == ~s(%{a: [1, "é"]})
    refute SafeInspect.inspect(Enum.to_list(1..40)) =~ "\n"
  end

  test "a long term is cut at 500 bytes, or at the number given" do
    for term <- [String.duplicate("x", 10_000), List.duplicate("abcdefghij", 10_000)] do
      text = SafeInspect.inspect(term)
      assert byte_size(text) == 500

      assert String.starts_with?(
               Kernel.inspect(term, limit: :infinity, printable_limit: :infinity),
               text
             )
    end

    assert SafeInspect.inspect(String.duplicate("x", 200), 20) == ~s("xxxxxxxxxxxxxxxxxxx)
  end

  test "a text is never cut inside a character" do
    for size <- 4..20, char <- ["é", "日"] do
      cut = SafeInspect.truncate(String.duplicate(char, 20), size)
      assert String.valid?(cut)
      assert byte_size(cut) in (size - 2)..size
    end
  end

  test "a list of numbers that begins like text is shown as numbers" do
    assert SafeInspect.inspect(~c"AB") == "[65, 66]"
    assert String.starts_with?(SafeInspect.inspect(List.duplicate(9, 600) ++ [-1]), "[9, 9, 9")
  end

  test "huge integers are named, not written, at any depth" do
    huge = Integer.pow(10, 1_000_000)
    text = SafeInspect.inspect(%{"n" => [huge, -huge, 7]})
    assert text =~ ~r/^%\{"n" => \[#Integer<\d+ bytes>, #Integer<\d+ bytes>, 7\]\}$/
  end

  test "binaries that are not UTF-8 become valid text" do
    assert String.valid?(SafeInspect.inspect(:binary.copy(<<255>>, 10_000)))
  end

  test "an exception's reason is its message, cut" do
    assert SafeInspect.reason(:error, %RuntimeError{message: "boom"}) == "boom"
    assert SafeInspect.reason(:error, :badarg) == "argument error"

    assert byte_size(
             SafeInspect.reason(:error, RuntimeError.exception(String.duplicate("x", 999)))
           ) ==
             500
  end

  test "the reason of an exit or a throw is the inspected term" do
    assert SafeInspect.reason(:exit, {:shutdown, 1}) == "{:shutdown, 1}"
    assert SafeInspect.reason(:throw, :ball) == ":ball"
  end

  test "a text that is no UTF-8 is inspected, also when it is an exception's message" do
    assert SafeInspect.text("é") == "é"
    assert SafeInspect.text(<<255, 0>>) == "<<255, 0>>"
    assert SafeInspect.reason(:error, %RuntimeError{message: <<255>>}) == "<<255>>"
    assert byte_size(SafeInspect.text(:binary.copy(<<255>>, 10_000))) <= 500
  end

  test "a line for a terminal is whole unless it has control characters" do
    long = String.duplicate("é", 1_000)
    assert SafeInspect.printable(long) == long
    assert SafeInspect.printable("a\e[31m") == ~S("a\e[31m")
    assert SafeInspect.printable("a\nb") == ~S("a\nb")
    assert SafeInspect.printable("a\u2028b") == ~S("a\u2028b")
    assert SafeInspect.printable(<<255>>) == "<<255>>"
  end
end
