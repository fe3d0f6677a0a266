defmodule PhoenixGenApi.TablePrinter do
  @moduledoc false
  # The only module that prints: titles with tables, name-value pairs or lines below them. Wide
  # values are cut, and the last column wraps. All text is escaped, so no name chosen by a client
  # or a service can move the cursor.

  alias PhoenixGenApi.SafeInspect

  @line 120
  # The last column gets the rest of a line, at least this, and so many lines.
  @last 40
  @lines 6

  @typedoc """
  The content below a title: a table, name-value pairs, or lines, where `[line | below]` indents
  the lines `below`. Empty content prints `none`; `nil` prints nothing.
  """
  @type content ::
          {header :: [String.t()], rows :: [[term()]]}
          | [{String.t() | atom(), term()}]
          | [String.t() | [String.t()]]
          | nil

  @doc "Prints sections, separated by empty lines."
  @spec print([{String.t(), content()}]) :: :ok
  def print(sections) do
    sections
    |> Enum.map(fn {title, content} -> [SafeInspect.printable(title), ?\n | lines(content)] end)
    |> Enum.intersperse(?\n)
    |> IO.write()
  end

  @doc "Formats the content of one section."
  @spec lines(content()) :: iodata()
  def lines(nil), do: []
  def lines(empty) when empty == [] or elem(empty, 1) == [], do: "  none\n"

  def lines({header, rows}) do
    numbers? = Enum.zip_with(rows, &Enum.all?(&1, fn cell -> is_integer(cell) end))
    cells = [header | Enum.map(rows, fn row -> Enum.map(row, &text/1) end)]
    widths = widths(cells)
    rule = Enum.map(widths, &String.duplicate("-", &1))

    cells
    |> List.insert_at(1, rule)
    |> Enum.map(&row(&1, widths, numbers?))
  end

  def lines([{_name, _value} | _] = pairs) do
    cells = for {name, value} <- pairs, do: [text(name), text(value)]
    Enum.map(cells, &row(&1, widths(cells), [false, false]))
  end

  def lines(lines) do
    Enum.map(lines, fn
      [line | below] -> [lines([line]) | Enum.map(below, &["  " | lines([&1])])]
      line -> ["  ", SafeInspect.printable(line), ?\n]
    end)
  end

  defp widths(cells) do
    widths =
      Enum.zip_with(cells, fn column ->
        column |> Enum.map(&String.length/1) |> Enum.max() |> min(@line)
      end)

    {others, [last]} = Enum.split(widths, -1)
    room = @line - 2 * length(widths)
    others = narrowed(others, room - min(last, @last))
    others ++ [min(last, room - Enum.sum(others))]
  end

  # The widest gives way first.
  defp narrowed(widths, room) do
    widest = Enum.max(widths, fn -> 0 end)

    if Enum.sum(widths) <= room or widest <= 1 do
      widths
    else
      at = Enum.find_index(widths, &(&1 == widest))
      widths |> List.replace_at(at, widest - 1) |> narrowed(room)
    end
  end

  defp row(cells, widths, numbers?) do
    {others, [last]} = Enum.split(cells, -1)
    [first | more] = wrap(last, List.last(widths))
    indent = Enum.sum(widths) - List.last(widths) + 2 * length(widths)

    [
      line(others ++ [first], widths, numbers?)
      | Enum.map(more, &[String.duplicate(" ", indent), &1, ?\n])
    ]
  end

  defp line(cells, widths, numbers?) do
    text =
      [cells, widths, numbers?]
      |> Enum.zip_with(fn
        [cell, width, true] -> String.pad_leading(cut(cell, width), width)
        [cell, width, false] -> String.pad_trailing(cut(cell, width), width)
      end)
      |> Enum.join("  ")

    ["  ", String.trim_trailing(text), ?\n]
  end

  # At the spaces; what has none is cut.
  defp wrap(text, width) do
    {lines, last} =
      text
      |> String.split(" ")
      |> Enum.reduce({[], ""}, fn
        word, {lines, ""} -> {lines, word}
        word, {lines, line} -> add(word, line, lines, width)
      end)

    case Enum.reverse([last | lines]) do
      lines when length(lines) > @lines ->
        {kept, _left} = Enum.split(lines, @lines)
        kept |> List.update_at(-1, &(&1 <> " …")) |> Enum.map(&cut(&1, width))

      lines ->
        Enum.map(lines, &cut(&1, width))
    end
  end

  defp add(word, line, lines, width) do
    if String.length(line) + 1 + String.length(word) <= width,
      do: {lines, line <> " " <> word},
      else: {[line | lines], word}
  end

  defp text(value) when value in [nil, ""], do: "-"
  defp text(text) when is_binary(text), do: SafeInspect.printable(text)

  # A module as it is written, other atoms without their colon.
  defp text(atom) when is_atom(atom) do
    case Atom.to_string(atom) do
      "Elixir." <> _ -> inspect(atom)
      name -> SafeInspect.printable(name)
    end
  end

  defp text(other), do: SafeInspect.inspect(other)

  defp cut(text, width) do
    if String.length(text) <= width, do: text, else: String.slice(text, 0, width - 1) <> "…"
  end
end
