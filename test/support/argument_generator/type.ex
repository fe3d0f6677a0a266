defmodule PhoenixGenApi.ArgumentGenerator.Type do
  @moduledoc false
  # Random types as `{kind, options}`, and the three ways to write one.

  import PhoenixGenApi.ArgumentGenerator.Chance
  alias PhoenixGenApi.ArgumentGenerator.Value

  @names ["age", "b", "tags", "order", "x.y", "naïve", "user_id", "é🙂"]
  @scalars [:string, :num, :integer, :float, :boolean, :enum, :uuid] ++
             [:datetime, :naive_datetime, :date, :time]
  @open [:list, :list_string, :list_num, :list_uuid, :list_map, :map, :any]

  # Patterns on which PCRE and an automaton agree, each with texts that match. With
  # `u` the classes \w, \s and \b are left out: their tables differ.
  @formats [
    {"^[a-z]+$", ["abc", "z"]},
    {"\\d{2,4}", ["12", "a1234b"]},
    {"^.{3}$", ["é🙂x", "abc"]},
    {"\\p{Lu}", ["É", "aB"]},
    {"^(?:red|green|blue)$", ["red", "blue"]},
    {~r/^[A-Z]{2}\d+$/i, ["ab12", "XY0"]},
    {~r/^\w+@\w+\.(com|org)$/, ["me@site.com", "a_b@c.org"]},
    {~r/^.{2}$/, ["é", "ab"]},
    {~r/^é.$/u, ["éé", "éx"]},
    {~r/a.c/s, ["a\nc", "abc"]},
    {~r/^b$/m, ["a\nb\nc", "b"]},
    {~r/a b # comment/x, ["ab"]},
    {~r/ÀB/iu, ["àb", "ÀB"]}
  ]

  def texts_for(format), do: @formats |> List.keyfind!(format, 0) |> elem(1)

  def random(0), do: leaf()

  def random(depth) do
    case int(1, 10) do
      1 -> {:list, [items: random(depth - 1)] ++ list_limits() ++ common()}
      2 -> schema(depth)
      3 -> with_default({:list, [items: random(depth - 1)] ++ list_limits()})
      4 -> with_default(schema(depth))
      _ -> leaf()
    end
  end

  defp schema(depth) do
    names = Enum.take_random(@names, int(0, 4))
    {:map, [fields: for(name <- names, do: {name, random(depth - 1)})] ++ common()}
  end

  defp leaf do
    kind = pick(@scalars ++ @scalars ++ @open)
    with_default({kind, options(kind) ++ common()})
  end

  defp common, do: some(5, :allow_nil?, fn -> pick([true, true, false]) end)

  # A default that the type accepts, as a declaration must have it.
  defp with_default({kind, options}) do
    {kind, options ++ some(6, :default_value, fn -> Value.fitting({kind, options}) end)}
  end

  defp options(:string) do
    case int(1, 4) do
      1 ->
        {format, _texts} = pick(@formats)
        [format: format]

      2 ->
        min = int(0, 4)
        some(2, :min_length, fn -> min end) ++ [max_length: min + int(0, 6)]

      3 ->
        [max_bytes: int(4, 20)] ++ some(3, :max_length, fn -> int(0, 12) end)

      4 ->
        []
    end
  end

  defp options(:integer) do
    # Of any size: they are exact.
    far = pick([0, 0, 0, 2 ** 63, 2 ** 64, -(2 ** 64), 2 ** 200, 10 ** 400])
    range(&(far + int(-20, &1)))
  end

  defp options(kind) when kind in [:num, :float], do: range(&pick([int(-20, &1), &1 / 4]))

  defp options(:enum) do
    listed = ["asc", :desc, :up, 1, 2.5, true, false, "é", "", 18_446_744_073_709_551_616]
    [values: Enum.take_random(listed, int(1, 5))]
  end

  defp options(:list), do: list_limits()

  defp options(:list_string) do
    some(2, :max_items, fn -> int(0, 5) end) ++
      some(3, :max_item_length, fn -> int(0, 8) end) ++
      some(4, :max_item_bytes, fn -> int(3, 12) end)
  end

  defp options(kind) when kind in [:list_num, :list_uuid, :list_map],
    do: some(2, :max_items, fn -> int(0, 5) end)

  defp options(:map) do
    some(3, :max_items, fn -> int(3, 6) end) ++
      some(5, :nested, fn -> pick([true, false]) end) ++
      some(5, :required, fn -> Enum.take_random(["k0", "k1"], int(0, 2)) end) ++
      some(6, :accept, fn -> ["k0", "k1", "k2", "k3"] end)
  end

  defp options(_kind), do: []

  defp range(number) do
    min = number.(10)
    some(3, :min, fn -> min end) ++ some(3, :max, fn -> min + int(0, 30) end)
  end

  defp list_limits do
    min = int(0, 2)
    some(4, :min_items, fn -> min end) ++ some(3, :max_items, fn -> min + int(0, 4) end)
  end

  ## Spellings

  @main %{
    string: :max_length,
    list: :max_items,
    list_string: :max_items,
    list_num: :max_items,
    list_uuid: :max_items,
    list_map: :max_items,
    map: :max_items,
    enum: :values
  }

  def write({kind, options}) do
    options = Keyword.new(options, &write_option/1)

    case {int(1, 3), kind, options} do
      {1, _, _} -> [{:type, kind} | options] |> Enum.shuffle()
      {_, :list, [{:items, _} | _]} -> main_first(kind, :items, options)
      {_, :map, [{:fields, _} | _]} -> main_first(kind, :fields, options)
      {_, :enum, _} -> main_first(kind, :values, options)
      {_, _, []} -> pick([kind, {kind, []}])
      {2, _, _} -> {kind, Enum.shuffle(options)}
      {3, _, _} -> main_first(kind, @main[kind], options)
    end
  end

  defp main_first(kind, main, options) do
    case Keyword.pop_first(options, main) do
      {nil, options} ->
        {kind, options}

      {part, []} ->
        {kind, part}

      {part, [max_items: limit]} when main == :items ->
        {kind, part, pick([limit, [max_items: limit]])}

      {part, [max_item_length: limit]} ->
        {kind, part, pick([limit, [max_item_length: limit]])}

      {part, options} ->
        {kind, part, options}
    end
  end

  defp write_option({:items, type}), do: {:items, write(type)}

  defp write_option({:fields, fields}) do
    written = Enum.map(fields, fn {name, type} -> {name, write(type)} end)
    # An empty list is a list of options, not a map without fields.
    {:fields, if(written == [] or chance(2), do: Map.new(written), else: written)}
  end

  defp write_option(option), do: option
end
