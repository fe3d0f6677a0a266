defmodule PhoenixGenApi.Diagnostics.Table do
  @moduledoc false
  # Tables for a terminal: columns under each other, wide values cut, the last column on as many
  # lines as it needs, nothing but plain text, so that no name that a client or a service has
  # chosen can move the cursor.

  alias PhoenixGenApi.Diagnostics.Format

  @line 120
  # The last column gets the rest of a line, at least this, and so many lines.
  @last 40
  @lines 6

  @doc "Lines with the columns of `rows` under those of `header`."
  @spec lines([String.t()], [[term()]]) :: iodata()
  def lines(header, rows) do
    numbers? =
      if rows == [],
        do: [],
        else: Enum.zip_with(rows, &Enum.all?(&1, fn cell -> is_integer(cell) end))

    cells = [header | Enum.map(rows, fn row -> Enum.map(row, &text/1) end)]
    widths = widths(cells)
    rule = Enum.map(widths, &String.duplicate("-", &1))

    cells
    |> List.insert_at(1, rule)
    |> Enum.map(&row(&1, widths, numbers?))
  end

  @doc "Lines of a name and a value each."
  @spec pairs([{String.t() | atom(), term()}]) :: iodata()
  def pairs(pairs) do
    cells = for {name, value} <- pairs, do: [to_string(name), text(value)]
    if cells == [], do: [], else: Enum.map(cells, &row(&1, widths(cells), []))
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
    numbers? = if numbers? == [], do: Enum.map(widths, fn _ -> false end), else: numbers?

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
  defp text(atom) when is_atom(atom), do: atom |> name() |> plain()
  defp text(text) when is_binary(text), do: plain(text)
  defp text(other), do: inspect(other)

  # A module as it is written, other atoms without their colon.
  defp name(atom) do
    case Atom.to_string(atom) do
      "Elixir." <> _ -> inspect(atom)
      name -> name
    end
  end

  defp plain(text), do: if(Format.plain?(text), do: text, else: inspect(text))

  defp cut(text, width) do
    if String.length(text) <= width, do: text, else: String.slice(text, 0, width - 1) <> "…"
  end
end
