defmodule PhoenixGenApi.ArgumentGenerator.Value do
  @moduledoc false
  # Values that fit a type, and ways to spoil one.

  import Bitwise
  import PhoenixGenApi.ArgumentGenerator.Chance
  alias PhoenixGenApi.ArgumentGenerator.{Hostile, Type}

  def fitting({:string, options}) do
    case options[:format] do
      nil -> text(options[:min_length] || 0, options[:max_length] || 3_000, options[:max_bytes])
      format -> format |> Type.texts_for() |> pick()
    end
  end

  def fitting({:integer, options}), do: number(options, 1)
  def fitting({kind, options}) when kind in [:num, :float], do: number(options, pick([1, 1.0]))
  def fitting({:boolean, _}), do: pick([true, false])

  def fitting({:enum, options}) do
    case pick(options[:values]) do
      atom when is_atom(atom) and not is_boolean(atom) -> pick([atom, Atom.to_string(atom)])
      value -> value
    end
  end

  def fitting({:uuid, _}), do: uuid()
  def fitting({:datetime, _}), do: pick(Hostile.datetimes())
  def fitting({:naive_datetime, _}), do: pick(Hostile.naive_datetimes())
  def fitting({:date, _}), do: pick(Hostile.dates())
  def fitting({:time, _}), do: pick(Hostile.times())

  def fitting({:list, options}) do
    items(options, fn ->
      case options[:items] do
        nil ->
          flat()

        {_, item_options} = item ->
          if item_options[:allow_nil?] && chance(3), do: nil, else: fitting(item)
      end
    end)
  end

  def fitting({:list_string, options}) do
    items(options, fn -> text(0, options[:max_item_length] || 30, options[:max_item_bytes]) end)
  end

  def fitting({:list_num, options}), do: items(options, fn -> number([], pick([1, 1.0])) end)
  def fitting({:list_uuid, options}), do: items(options, &uuid/0)
  def fitting({:list_map, options}), do: items(options, fn -> json_map(2) end)

  def fitting({:map, options}) do
    cond do
      options[:fields] ->
        for {name, type} <- options[:fields], given?(type), into: %{}, do: {name, fitting(type)}

      Enum.any?([:max_items, :nested, :required, :accept], &Keyword.has_key?(options, &1)) ->
        flat_map(options)

      true ->
        json_map(3)
    end
  end

  def fitting({:any, _}) do
    # nil is a JSON value, yet it needs allow_nil? like everywhere.
    with nil <- json(3), do: flat()
  end

  defp flat_map(options) do
    keys =
      Enum.uniq(
        (options[:required] || []) ++ Enum.take_random(["k0", "k1", "k2", "k3"], int(0, 1))
      )

    Map.new(keys, fn key ->
      {key,
       case int(1, 6) do
         1 -> for _ <- 1..3, do: flat()
         2 -> if options[:nested], do: %{"n" => flat()}, else: []
         _ -> flat()
       end}
    end)
  end

  defp items(options, item) do
    min = options[:min_items] || 0

    count =
      case {options[:max_items], int(1, 400)} do
        {nil, 1} -> pick([999, 1_000])
        {nil, _} -> min + int(0, 4)
        {max, _} -> pick([min, max, int(min, max)])
      end

    # A long list repeats one item: what it is made of matters less than its length.
    if count > 20, do: List.duplicate(item.(), count), else: for(_ <- 1..count//1, do: item.())
  end

  defp flat do
    case int(1, 4) do
      1 -> pick([true, false])
      2 -> number([], pick([1, 1.0]))
      _ -> text(0, 12, nil)
    end
  end

  defp json(0), do: pick([nil, flat()])

  defp json(depth) do
    case int(1, 4) do
      1 -> for _ <- 1..int(0, 3)//1, do: json(depth - 1)
      2 -> json_map(depth)
      _ -> pick([nil, flat()])
    end
  end

  defp json_map(depth) do
    # Beyond 32 keys the VM keeps maps in another form and order.
    size = if chance(60), do: int(31, 70), else: int(0, 4)
    for key <- 1..size//1, into: %{}, do: {"k#{key}", json(depth - 1)}
  end

  defp number(options, one) do
    {min, max} = {options[:min], options[:max]}

    cond do
      min && max && one === 1 && is_integer(min) -> pick([min, max, min + div(max - min, 2)])
      min && max -> pick([min, max, min + (max - min) / 2]) |> within(min, max, one)
      min -> (min + int(0, 100)) |> like(one)
      max -> (max - int(0, 100)) |> like(one)
      chance(4) -> pick([0, -1, (1 <<< 63) - 1, 1 <<< 63, -(1 <<< 63), 1 <<< 64, 1 <<< 80]) * one
      true -> int(-1_000, 1_000) * one
    end
  end

  defp within(number, min, max, one) do
    near = if one === 1 and is_integer(min), do: trunc(number), else: number
    like(min(max(near, min), max), one)
  end

  defp like(number, 1) when is_float(number), do: number
  defp like(number, one), do: number * one

  @letters ["a", "b", "Z", "7", "_", " ", "é", "ß", "日", "🙂", "e\u0301", "👨‍👩‍👧", "\0", "\u200B"]

  defp text(min, max, max_bytes) do
    length =
      if max >= 3_000 or chance(2),
        do: int(min, max(min, min(max, min + 8))),
        else: pick([min, max])

    text = if length == 0, do: "", else: Enum.map_join(1..length, fn _ -> pick(@letters) end)

    text =
      if max >= 3_000 and chance(150),
        do: String.duplicate(pick(["a", "é", "🙂"]), pick([2_999, 3_000])),
        else: text

    fit(text |> String.codepoints() |> Enum.take(length_limit(text, length, max)), max_bytes)
  end

  defp length_limit(text, _length, max) when byte_size(text) >= 2_999, do: max
  defp length_limit(_text, length, _max), do: length

  defp fit(codepoints, max_bytes) do
    text = Enum.join(codepoints)

    if max_bytes && byte_size(text) > max_bytes,
      do: fit(Enum.drop(codepoints, -1), max_bytes),
      else: text
  end

  defp uuid do
    hex = Base.encode16(:rand.bytes(16), case: pick([:upper, :lower]))
    <<a::8-bytes, b::4-bytes, c::4-bytes, d::4-bytes, e::12-bytes>> = hex
    Enum.join([a, b, c, d, e], "-")
  end

  def given?({_kind, options}) do
    optional? = options[:allow_nil?] || Keyword.has_key?(options, :default_value)
    not (optional? && chance(4))
  end

  ## Mistakes

  # Somewhere inside the value: down a random branch, then a small change or
  # something hostile instead.
  def spoil(list) when is_list(list) and list != [] do
    index = int(0, length(list) - 1)

    case int(1, 8) do
      1 -> List.delete_at(list, index)
      2 -> list ++ [pick([hd(list), Hostile.value(), Hostile.long()])]
      3 -> List.insert_at(list, index, nil)
      4 -> list ++ pick([1, :tail, "x"])
      5 -> Hostile.value()
      _ -> List.update_at(list, index, &spoil/1)
    end
  end

  def spoil(map) when is_map(map) and not is_struct(map) and map != %{} do
    key = pick(Map.keys(map))

    case int(1, 8) do
      1 -> Map.delete(map, key)
      2 -> Map.put(map, pick(Hostile.keys()), 1)
      3 -> Map.put(map, key, nil)
      4 -> Map.put(map, pick([key, "k9"]), pick([Hostile.value(), Hostile.long()]))
      5 -> Hostile.value()
      _ -> Map.update!(map, key, &spoil/1)
    end
  end

  def spoil(<<_year::4-bytes, "-", _rest::binary>> = date) do
    if chance(2), do: pick(Hostile.near_dates()), else: spoil_text(date)
  end

  def spoil(text) when is_binary(text), do: spoil_text(text)

  def spoil(number) when is_number(number) do
    pick([number + 1, number - 1, number * 2, -number, to_string(number), nil, Hostile.value()])
  end

  def spoil(_other), do: Hostile.value()

  defp spoil_text(text) do
    case int(1, 8) do
      1 -> text <> pick(@letters)
      2 -> pick(@letters) <> text
      3 -> String.slice(text, 1..-1//1)
      4 -> binary_part(text, 0, max(byte_size(text) - 1, 0))
      5 -> text <> pick([<<255>>, <<0xED, 0xA0, 0x80>>, <<0xC0, 0x80>>])
      6 -> replace_byte(text)
      _ -> Hostile.value()
    end
  end

  defp replace_byte(""), do: "-"

  defp replace_byte(text) do
    at = int(0, byte_size(text) - 1)
    <<before::binary-size(^at), _byte, rest::binary>> = text
    before <> pick(["0", "9", "T", "-", ":", ".", "+", "Z", " ", "g"]) <> rest
  end
end
