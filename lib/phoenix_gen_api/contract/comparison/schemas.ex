defmodule PhoenixGenApi.Contract.Comparison.Schemas do
  @moduledoc false
  # Two schemas that the library has exported: which values the newer one takes that the older did not, and the
  # other way round. To arguments the second matters, to results the first.

  # Of limits that are upper bounds a smaller one is narrower, of the others a greater one.
  @upper [
    {"maxLength", "a maximum length"},
    {"x-max-bytes", "a maximum number of bytes"},
    {"maximum", "a maximum"},
    {"maxItems", "a maximum number of items"},
    {"maxProperties", "a maximum number of entries"}
  ]
  @lower [
    {"minLength", "a minimum length"},
    {"minimum", "a minimum"},
    {"minItems", "a minimum number of items"}
  ]
  @formats ["pattern", "x-pattern", "x-flags"]

  @type told :: {atom(), String.t(), String.t()}
  @typep side :: :argument | :result

  @doc "Changes of the `args` of a version, as `{change, path, text}`."
  @spec arguments(map(), map()) :: [told()]
  def arguments(old, new), do: schema(:argument, "", old, new)

  @doc "Changes of a result, each of which may be undescribed."
  @spec results(map() | nil, map() | nil) :: [told()]
  def results(same, same), do: []
  def results(nil, _new), do: [{:result_described, "", "the result is described"}]

  def results(_old, nil),
    do: [{:result_undescribed, "", "the result is no longer described"}]

  def results(old, new), do: schema(:result, "", old, new)

  defp schema(_side, _path, same, same), do: []

  defp schema(side, path, old, new) do
    case {types(old), types(new)} do
      {{:values, olds}, {:values, news}} -> values(side, path, olds, news)
      {{:types, olds}, {:types, news}} -> typed(side, path, {old, olds}, {new, news})
      {_values, _types} -> other_form(side, path, old, new)
    end
  end

  defp types(%{"enum" => values}), do: {:values, values}
  defp types(%{"type" => types}), do: {:types, List.wrap(types)}

  # A list of values against a type: the values may all be of it.
  defp other_form(side, path, %{"enum" => values} = old, new) do
    change = if Enum.all?(values, &takes?(new, &1)), do: :wider, else: :other
    [value(side, change, path, "is #{kind(new)} instead of #{kind(old)}")]
  end

  defp other_form(side, path, old, %{"enum" => values} = new) do
    change = if Enum.all?(values, &takes?(old, &1)), do: :narrower, else: :other
    [value(side, change, path, "is #{kind(new)} instead of #{kind(old)}")]
  end

  defp takes?(schema, value) do
    {:types, types} = types(schema)

    Enum.any?(types, &type?(&1, value)) and Enum.all?(@formats, &(schema[&1] == nil)) and
      within?(schema, value)
  end

  defp type?("null", value), do: value == nil
  defp type?("boolean", value), do: is_boolean(value)
  defp type?("integer", value), do: is_integer(value)
  defp type?("number", value), do: is_number(value)
  defp type?("string", value), do: is_binary(value)
  defp type?(_parts, _value), do: false

  defp within?(schema, value) when is_binary(value) do
    length = length(String.to_charlist(value))
    bytes = schema["x-max-bytes"]

    length >= (schema["minLength"] || 0) and length <= (schema["maxLength"] || length) and
      (bytes == nil or byte_size(value) <= bytes)
  end

  defp within?(schema, value) when is_number(value),
    do: value >= (schema["minimum"] || value) and value <= (schema["maximum"] || value)

  defp within?(_schema, _value), do: true

  defp values(side, path, old, new) do
    for {change, values} <- [narrower: old -- new, wider: new -- old], values != [] do
      value(
        side,
        change,
        path,
        "#{says(side, change)} #{Enum.map_join(values, ", ", &JSON.encode!/1)}"
      )
    end
  end

  defp says(:argument, :narrower), do: "no longer takes"
  defp says(:argument, :wider), do: "also takes"
  defp says(:result, :narrower), do: "is no longer"
  defp says(:result, :wider), do: "may also be"

  defp typed(side, path, {old, olds}, {new, news}) do
    nulls = values(side, path, null(olds), null(news))
    {olds, news} = {olds -- ["null"], news -- ["null"]}

    types =
      case {missing(olds, news), missing(news, olds)} do
        {[], []} -> nil
        {[], _more} -> :wider
        {_fewer, []} -> :narrower
        _others -> :other
      end

    changed =
      if types,
        do: [value(side, types, path, "is #{kind(new)} instead of #{kind(old)}")],
        else: []

    # Of another type nothing more is worth telling.
    if types == :other,
      do: nulls ++ changed,
      else:
        nulls ++
          changed ++
          limits(side, path, old, new) ++
          format(side, path, old, new) ++ parts(side, path, old, new)
  end

  defp null(types), do: if("null" in types, do: [nil], else: [])

  # The types of the one that the other does not have; every integer is a number.
  defp missing(types, others),
    do: Enum.reject(types, &(&1 in others or (&1 == "integer" and "number" in others)))

  defp limits(side, path, old, new) do
    for {limits, tighter?} <- [{@upper, &Kernel.</2}, {@lower, &Kernel.>/2}],
        {key, name} <- limits,
        old[key] != new[key],
        not declared?(old, new, key) do
      change =
        cond do
          old[key] == nil -> :narrower
          new[key] == nil -> :wider
          tighter?.(new[key], old[key]) -> :narrower
          true -> :wider
        end

      value(
        side,
        change,
        path,
        "has #{name} of #{new[key] || "none"} instead of #{old[key] || "none"}"
      )
    end
  end

  # The number of declared fields is known.
  defp declared?(%{"properties" => fields}, %{"maxProperties" => max}, "maxProperties"),
    do: map_size(fields) <= max

  defp declared?(_old, new, "maxProperties"), do: is_map_key(new, "properties")
  defp declared?(_old, _new, _key), do: false

  defp format(side, path, old, new) do
    case {Map.take(old, @formats), Map.take(new, @formats)} do
      {same, same} -> []
      {_format, none} when none == %{} -> [value(side, :wider, path, "has no format any more")]
      {none, _format} when none == %{} -> [value(side, :narrower, path, "has a format now")]
      _others -> [value(side, :other, path, "has another format")]
    end
  end

  defp parts(side, path, %{"items" => old}, %{"items" => new}),
    do: schema(side, path <> "[]", old, new)

  defp parts(side, path, %{"properties" => _} = old, %{"properties" => _} = new) do
    {olds, news} = {old["properties"], new["properties"]}

    for name <- Enum.uniq(old["x-order"] ++ new["x-order"]),
        told <-
          property(
            side,
            join(path, name),
            {olds[name], name in old["required"]},
            {news[name], name in new["required"]}
          ),
        do: told
  end

  # A map of declared fields is one of any.
  defp parts(side, path, old, new) do
    case {form(old), form(new)} do
      {same, same} ->
        flat(side, path, old, new)

      {_declared_or_flat, :open} ->
        [value(side, :wider, path, "is a map of any content")]

      {:open, _declared_or_flat} ->
        [value(side, :narrower, path, "is no longer a map of any content")]

      {_one, _another} ->
        [value(side, :other, path, "is another kind of map")]
    end
  end

  defp form(%{"properties" => _fields}), do: :declared
  defp form(%{"additionalProperties" => %{}}), do: :flat
  defp form(_map_or_scalar), do: :open

  defp flat(
         side,
         path,
         %{"additionalProperties" => %{"anyOf" => old_values}} = old,
         %{"additionalProperties" => %{"anyOf" => new_values}} = new
       ) do
    entries =
      for {old, new} <- Enum.zip(old_values, new_values),
          told <- schema(side, path <> ".*", old, new),
          do: told

    nested =
      case {length(old_values), length(new_values)} do
        {same, same} -> []
        {3, 2} -> [value(side, :narrower, path, "no longer has maps in it")]
        {2, 3} -> [value(side, :wider, path, "may have maps in it")]
      end

    keys(side, path, old["required"], new["required"]) ++
      accepted(side, path, old["propertyNames"], new["propertyNames"]) ++ nested ++ entries
  end

  defp flat(_side, _path, _old, _new), do: []

  defp keys(side, path, old, new) do
    for {change, says, keys} <- [
          {:narrower, "needs", new -- old},
          {:wider, "no longer needs", old -- new}
        ],
        keys != [] do
      value(side, change, path, "#{says} the keys #{Enum.join(keys, ", ")}")
    end
  end

  defp accepted(_side, _path, same, same), do: []

  defp accepted(side, path, nil, _new),
    do: [value(side, :narrower, path, "no longer has keys of any name")]

  defp accepted(side, path, _old, nil), do: [value(side, :wider, path, "has keys of any name")]

  defp accepted(side, path, %{"enum" => old}, %{"enum" => new}) do
    for {change, says, keys} <- [
          {:narrower, "no longer has", old -- new},
          {:wider, "may also have", new -- old}
        ],
        keys != [] do
      value(side, change, path, "#{says} the keys #{Enum.join(keys, ", ")}")
    end
  end

  defp property(:argument, path, {nil, _}, {_new, true}),
    do: [{:required_argument_added, path, "#{subject(:argument, path)} is new and required"}]

  defp property(:argument, path, {nil, _}, {_new, false}),
    do: [{:optional_argument_added, path, "#{subject(:argument, path)} is new"}]

  defp property(:argument, path, {_old, _}, {nil, _}),
    do: [{:argument_removed, path, "#{subject(:argument, path)} has been removed"}]

  defp property(:result, path, {nil, _}, _new),
    do: [{:result_field_added, path, "#{subject(:result, path)} is new"}]

  defp property(:result, path, {_old, _}, {nil, _}),
    do: [{:result_field_removed, path, "#{subject(:result, path)} has been removed"}]

  defp property(side, path, {old, required?}, {new, now?}),
    do: requirement(side, path, required?, now?) ++ schema(side, path, old, new)

  defp requirement(_side, _path, same, same), do: []

  defp requirement(:argument, path, false, true),
    do: [{:argument_required, path, "#{subject(:argument, path)} is required"}]

  defp requirement(:argument, path, true, false),
    do: [{:argument_optional, path, "#{subject(:argument, path)} may be missing"}]

  defp requirement(:result, path, false, true),
    do: [{:result_field_required, path, "#{subject(:result, path)} is always there"}]

  defp requirement(:result, path, true, false),
    do: [{:result_field_optional, path, "#{subject(:result, path)} may be missing"}]

  @spec value(side(), :narrower | :wider | :other, String.t(), String.t()) :: told()
  defp value(side, change, path, text),
    do: {change(side, change), path, "#{subject(side, path)} #{text}"}

  defp change(:argument, :wider), do: :argument_widened
  defp change(:argument, _narrower), do: :argument_narrowed
  defp change(:result, :narrower), do: :result_narrowed
  defp change(:result, _wider), do: :result_widened

  defp subject(:argument, path), do: "argument #{path}"
  defp subject(:result, ""), do: "the result"
  defp subject(:result, path), do: "result #{path}"

  defp join("", name), do: name
  defp join(path, name), do: path <> "." <> name

  # What a schema takes, in words.
  defp kind(%{"enum" => values}), do: "one of #{Enum.map_join(values, ", ", &JSON.encode!/1)}"

  defp kind(%{"type" => types}) do
    case List.wrap(types) -- ["null"] do
      [type] -> if type in ["array", "integer", "object"], do: "an #{type}", else: "a #{type}"
      [_, _, _] -> "a scalar"
      _all -> "any value"
    end
  end
end
