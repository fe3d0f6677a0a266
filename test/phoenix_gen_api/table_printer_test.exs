defmodule PhoenixGenApi.TablePrinterTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO

  alias PhoenixGenApi.{Format, SafeInspect, TablePrinter}

  defp lines(header, rows),
    do:
      {header, rows}
      |> TablePrinter.lines()
      |> IO.iodata_to_binary()
      |> String.split("\n", trim: true)

  test "columns stand under each other, numbers to the right" do
    assert lines(["name", "n", "what"], [["a", 5, nil], ["long name", 1_000, :up]]) == [
             "  name          n  what",
             "  ---------  ----  ----",
             "  a             5  -",
             "  long name  1000  up"
           ]
  end

  test "no line is longer than a terminal, whatever is in it" do
    long = String.duplicate("word ", 100)
    wide = String.duplicate("x", 300)

    for row <- [[wide, wide, wide], [long, long, long], ["é🙂" <> wide, 1, long], ["s", "s", wide]],
        line <- lines(["a", "b", "c"], [row, ["x", "y", "z"]]),
        do: assert(String.length(line) <= 120)
  end

  test "the last column goes on below itself, at the spaces, and not for ever" do
    text = String.duplicate("word ", 30) |> String.trim()
    [_, _, first, second] = lines(["a", "b"], [["x", text]])
    assert String.starts_with?(second, "     word")
    assert first <> " " <> String.trim(second) =~ text

    many = lines(["a", "b"], [["x", String.duplicate("word ", 1_000)]])
    assert length(many) == 8 and String.ends_with?(List.last(many), "…")
  end

  test "nothing moves the cursor or begins a line" do
    for text <- ["a\e[31mb", "a\nb", "a\rb", "\a", "a\tb", "a\u2028b", "\u202Eabc", <<255, 1>>] do
      printed =
        [{["h", "i"], [[text, text]]}, [{"k", text}], [text, ["x", text]]]
        |> Enum.map_join(&IO.iodata_to_binary(TablePrinter.lines(&1)))

      # Three lines of the table, one of the pair and three more; only their ends are no text.
      assert length(String.split(printed, "\n", trim: true)) == 7
      refute String.match?(String.replace(printed, "\n", ""), ~r/[\p{C}\p{Zl}\p{Zp}]/u)
    end
  end

  test "sections are printed one below the other, each with its title" do
    sections = [
      {"table", {["a", "b"], [["x", 1]]}},
      {"pairs", [key: "v", longer: nil]},
      {"lines", ["one", ["two", "below", "it"]]},
      {"nothing", []},
      {"no rows", {["a"], []}},
      {"\e[31mred", nil}
    ]

    assert capture_io(fn -> assert TablePrinter.print(sections) == :ok end) == """
           table
             a  b
             -  -
             x  1

           pairs
             key     v
             longer  -

           lines
             one
             two
               below
               it

           nothing
             none

           no rows
             none

           "\\e[31mred"
           """
  end

  test "a name that is no plain text is shown inspected" do
    assert SafeInspect.name("a b") == "a b"
    assert SafeInspect.name("a\nb") == ~S("a\nb")
    assert SafeInspect.name(:atom) == ":atom"
    assert Format.function({String, :upcase, [1]}) == "String.upcase"
    assert Format.function({:lists, :"odd name"}) == ~S(:lists."odd name")
  end

  test "times and sizes are in the unit that a person would take" do
    assert Enum.map([0, 999, 1_500, 60_000, 300_000, 7_200_000, :infinity], &Format.duration/1) ==
             ["0 ms", "999 ms", "1.5 s", "60 s", "5 min", "2 h", "any time"]

    assert Format.duration(31 * 86_400_000) == "31 days"

    assert Enum.map([0, 1_023, 1_536, 3 * 1_048_576, 2 * 1_073_741_824], &Format.bytes/1) ==
             ["0 B", "1023 B", "1.5 KiB", "3 MiB", "2 GiB"]

    assert {Format.count(1, "node"), Format.count(0, "node")} == {"1 node", "0 nodes"}
  end
end
