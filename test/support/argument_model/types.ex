defmodule PhoenixGenApi.ArgumentModel.Types do
  @moduledoc false
  # The first half of the oracle: from the spellings of contract 1.1 and 2.1 to one
  # canonical form. Problems are thrown as `{:config_error, message}`.

  alias PhoenixGenApi.ArgumentModel
  alias PhoenixGenApi.ArgumentModel.Text

  @max_levels 32
  @max_types 10_000

  @kinds [
    :string,
    :num,
    :integer,
    :float,
    :boolean,
    :enum,
    :uuid,
    :datetime,
    :naive_datetime,
    :date,
    :time,
    :list,
    :list_string,
    :list_num,
    :list_uuid,
    :list_map,
    :map,
    :any
  ]
  @main_limit %{
    string: :max_length,
    list: :max_items,
    list_string: :max_items,
    list_num: :max_items,
    list_uuid: :max_items,
    list_map: :max_items,
    map: :max_items
  }

  # Open point: with only common options (`[type: :map, allow_nil?: true]`) a map
  # stays a map of any content; one of these makes it a flat map.
  @flat_map_options [:max_items, :required, :accept, :nested]

  @shape_error "arg_types must be nil, a map, or a list of {name, type} pairs"
  @names_error "arg_types names must be unique non-empty strings"
  @order_error "arg_orders must be nil, :map, or a list with every arg_types name exactly once"
  @order_required "arg_orders is required: arg_types is a map with 2 or more entries and a map has " <>
                    "no order; list the names in arg_orders, set arg_orders to :map, or write " <>
                    "arg_types as a list of {name, type} pairs"

  def canonical(arg_types, arg_orders, settings) do
    pairs = pairs(arg_types)
    arg_orders = if is_list(arg_orders), do: named_order(arg_orders), else: arg_orders
    names = Enum.map(pairs, &elem(&1, 0))
    if not names?(names), do: throw({:config_error, @names_error})
    types = Map.new(pairs, fn {name, type} -> {name, parse(type, name, 1, settings)} end)

    if count(Map.values(types)) > @max_types,
      do: throw({:config_error, "arg_types exceeds #{@max_types} types"})

    %{types: types, order: order(arg_orders, names, is_list(arg_types))}
  end

  ## Names and order

  defp pairs(nil), do: []

  defp pairs(types) when is_map(types) and not is_struct(types),
    do: types |> Map.to_list() |> named() |> Enum.sort()

  defp pairs(types) do
    if proper_list?(types) and Enum.all?(types, &match?({_, _}, &1)),
      do: named(types),
      else: throw({:config_error, @shape_error})
  end

  # An atom is its text.
  defp named(pairs), do: for({name, type} <- pairs, do: {text(name), type})

  defp named_order(order) do
    if proper_list?(order), do: Enum.map(order, &text/1), else: order
  end

  defp text(name) when is_atom(name) and name not in [nil, true, false],
    do: Atom.to_string(name)

  defp text(name), do: name

  defp names?(names) do
    Enum.all?(names, &(is_binary(&1) and &1 != "" and String.valid?(&1))) and
      Enum.uniq(names) == names
  end

  defp order(:map, _names, _listed?), do: :map
  defp order(none, names, true) when none in [nil, []], do: names
  defp order(none, names, false) when none in [nil, []] and length(names) < 2, do: names

  defp order(none, _names, false) when none in [nil, []],
    do: throw({:config_error, @order_required})

  defp order(order, names, _listed?) do
    if proper_list?(order) and Enum.sort(order) === Enum.sort(names),
      do: order,
      else: throw({:config_error, @order_error})
  end

  ## One type

  # Open point: a scalar inside 32 containers is on level 33.
  defp parse(_type, _path, level, _settings) when level > @max_levels,
    do: throw({:config_error, "arg_types nesting exceeds #{@max_levels} levels"})

  defp parse(type, path, level, settings) do
    case spelling(type) do
      {kind, options} ->
        at = %{type: type, path: path, level: level, settings: settings}

        kind
        |> build(options, at)
        |> Map.put(:allow_nil?, boolean(options, :allow_nil?, at))
        |> default(Keyword.get(options, :default_value), at)

      :malformed ->
        invalid(type, path)
    end
  end

  # The three spellings become `{kind, options}`, the main part being an option.
  defp spelling(kind) when kind in @kinds, do: {kind, []}

  defp spelling(keywords) when is_list(keywords) do
    with true <- Keyword.keyword?(keywords),
         {kind, options} when kind in @kinds <- Keyword.pop_first(keywords, :type) do
      {kind, options}
    else
      _ -> :malformed
    end
  end

  defp spelling({:enum, values}), do: {:enum, [values: values]}
  defp spelling({:enum, values, options}), do: with_options({:enum, [values: values]}, options)

  defp spelling({:list, main}) do
    cond do
      is_integer(main) -> {:list, [max_items: main]}
      options?(main) -> {:list, main}
      true -> {:list, [items: main]}
    end
  end

  defp spelling({:list, main, more}) do
    cond do
      is_integer(main) -> with_options({:list, [max_items: main]}, more)
      options?(main) -> :malformed
      is_integer(more) -> {:list, [items: main, max_items: more]}
      true -> with_options({:list, [items: main]}, more)
    end
  end

  defp spelling({:map, main}) do
    cond do
      is_integer(main) -> {:map, [max_items: main]}
      Keyword.keyword?(main) -> {:map, main}
      true -> {:map, [fields: main]}
    end
  end

  defp spelling({:map, main, options}) when is_integer(main),
    do: with_options({:map, [max_items: main]}, options)

  defp spelling({:map, main, options}), do: with_options({:map, [fields: main]}, options)

  defp spelling({:list_string, items, length}) when is_integer(items) and is_integer(length),
    do: {:list_string, [max_items: items, max_item_length: length]}

  defp spelling({kind, limit}) when is_integer(limit) and is_map_key(@main_limit, kind),
    do: {kind, [{@main_limit[kind], limit}]}

  defp spelling({kind, options}) when kind in @kinds, do: with_options({kind, []}, options)

  defp spelling({kind, limit, options}) when is_integer(limit) and is_map_key(@main_limit, kind),
    do: with_options({kind, [{@main_limit[kind], limit}]}, options)

  defp spelling(_other), do: :malformed

  defp with_options({kind, main}, options) do
    if Keyword.keyword?(options), do: {kind, main ++ options}, else: :malformed
  end

  defp options?(term), do: Keyword.keyword?(term) and not Keyword.has_key?(term, :type)

  defp build(:string, options, at) do
    %{
      kind: :string,
      max_length: size(options, :max_length, at.settings.string_max_length, at),
      min_length: size(options, :min_length, 0, at),
      max_bytes: size(options, :max_bytes, at.settings.string_max_bytes, at),
      format: format(Keyword.get(options, :format), at)
    }
  end

  defp build(kind, options, at) when kind in [:num, :integer, :float],
    do: %{kind: kind, min: bound(options, :min, at), max: bound(options, :max, at)}

  defp build(:enum, options, at) do
    values = Keyword.get(options, :values)

    if proper_list?(values) and values != [] and Enum.all?(values, &listable?/1),
      do: %{kind: :enum, values: values},
      else: invalid(at.type, at.path)
  end

  defp build(:list, options, at) do
    case Keyword.fetch(options, :items) do
      {:ok, type} ->
        # Open point: item types have the path of the list and "[]".
        item = parse(type, at.path <> "[]", at.level + 1, at.settings)
        Map.merge(%{kind: :typed_list, item: item}, item_limits(options, at))

      :error ->
        Map.put(item_limits(options, at), :kind, :list)
    end
  end

  defp build(:list_string, options, at) do
    %{
      kind: :list_string,
      max_items: size(options, :max_items, at.settings.list_max_items, at),
      max_item_length: size(options, :max_item_length, at.settings.string_max_length, at),
      max_item_bytes: size(options, :max_item_bytes, at.settings.string_max_bytes, at)
    }
  end

  defp build(kind, options, at) when kind in [:list_num, :list_uuid, :list_map],
    do: %{kind: kind, max_items: size(options, :max_items, at.settings.list_max_items, at)}

  defp build(:map, options, at) do
    cond do
      Keyword.has_key?(options, :fields) ->
        %{kind: :schema, fields: fields(options[:fields], at)}

      Enum.any?(@flat_map_options, &Keyword.has_key?(options, &1)) ->
        %{
          kind: :flat_map,
          max_items: size(options, :max_items, at.settings.map_max_items, at),
          required: keys(options, :required, [], at),
          accept: keys(options, :accept, nil, at),
          nested: boolean(options, :nested, at)
        }

      true ->
        %{kind: :map, max_items: at.settings.map_max_items}
    end
  end

  defp build(kind, _options, _at), do: %{kind: kind}

  # Open point: a field name that is empty, not a string or repeated makes the
  # map type malformed; only top level names have their own error.
  defp fields(schema, at) do
    pairs =
      cond do
        is_map(schema) and not is_struct(schema) -> Map.to_list(schema)
        proper_list?(schema) and Enum.all?(schema, &match?({_, _}, &1)) -> schema
        true -> invalid(at.type, at.path)
      end

    pairs = named(pairs)
    if not names?(Enum.map(pairs, &elem(&1, 0))), do: invalid(at.type, at.path)

    for {name, type} <- Enum.sort(pairs), into: %{} do
      {name, parse(type, at.path <> "." <> name, at.level + 1, at.settings)}
    end
  end

  ## Options. An option that is nil counts as not given.

  defp item_limits(options, at) do
    %{
      max_items: size(options, :max_items, at.settings.list_max_items, at),
      min_items: size(options, :min_items, 0, at)
    }
  end

  defp size(options, key, default, at),
    do: option(options, key, default, at, &(is_integer(&1) and &1 >= 0))

  defp bound(options, key, at), do: option(options, key, nil, at, &is_number/1)
  defp boolean(options, key, at), do: option(options, key, false, at, &is_boolean/1)

  defp keys(options, key, default, at) do
    option(
      options,
      key,
      default,
      at,
      &(proper_list?(&1) and Enum.all?(&1, fn k -> is_binary(k) end))
    )
  end

  defp option(options, key, default, at, valid?) do
    case Keyword.get(options, key) do
      nil -> default
      value -> if valid?.(value), do: value, else: invalid(at.type, at.path)
    end
  end

  defp listable?(value),
    do: is_binary(value) or is_number(value) or (is_atom(value) and value != nil)

  defp default(type, nil, _at), do: Map.put(type, :default, :none)

  defp default(type, value, at) do
    case ArgumentModel.convert_value(type, value, at.settings) do
      {:ok, converted} ->
        Map.put(type, :default, {:value, converted})

      {:error, _module, _message} ->
        throw({:config_error, "arg_types has an invalid default_value for #{Text.path(at.path)}"})
    end
  end

  ## Formats

  defp format(nil, _at), do: nil

  defp format(pattern, at) when is_binary(pattern) do
    with :ok <- linear(pattern), {:ok, regex} <- Regex.compile(pattern, "u") do
      regex
    else
      _ -> unsupported(at)
    end
  end

  defp format(%Regex{source: source, opts: options} = regex, at) when is_binary(source) do
    known = [:caseless, :multiline, :dotall, :extended, :unicode, :ucp, {:newline, :anycrlf}]
    if linear(source) == :ok and options -- known == [], do: regex, else: unsupported(at)
  end

  defp format(_other, at), do: invalid(at.type, at.path)

  # What an automaton cannot do: look-around, atomic groups, conditions, recursion,
  # references to groups and possessive quantifiers.
  defp linear(pattern) do
    plain = Regex.replace(~r/\\[^1-9kg]/s, pattern, "_")

    if plain =~ ~r/\(\?(?:[=!>(R&|\d]|<[=!])|\\[1-9kg]|[*+?}]\+/,
      do: :backtracking,
      else: :ok
  end

  defp unsupported(at) do
    throw(
      {:config_error, "arg_types has an unsupported format for #{Text.path(at.path)}: not linear"}
    )
  end

  defp invalid(type, path) do
    throw(
      {:config_error, "arg_types has an invalid type for #{Text.path(path)}: #{Text.shown(type)}"}
    )
  end

  ## Counting

  defp count(types), do: Enum.sum_by(types, &(1 + count(children(&1))))

  defp children(%{kind: :typed_list, item: item}), do: [item]
  defp children(%{kind: :schema, fields: fields}), do: Map.values(fields)
  defp children(_leaf), do: []

  defp proper_list?(term), do: is_list(term) and not List.improper?(term)
end
