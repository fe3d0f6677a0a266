defmodule PhoenixGenApi.Contract.JsonSchema do
  @moduledoc false
  # Types as JSON Schema 2020-12. It reads what the native compiler is given, so limits that a type does not
  # name are those in force.

  alias PhoenixGenApi.ArgumentHandler.TypeParser
  alias PhoenixGenApi.Contract.Pattern

  @type t :: %{String.t() => term()}

  # The grammar of the native side. What no pattern can say is whether a year has a 29th of February.
  @day "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9]))"
  @date "[+-]?[0-9]{4}-" <> @day
  @time "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.,][0-9]+)?"
  @offset "(?:Z|(?!-00:00$)[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
  @uuid "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"

  @date_pattern "^" <> @date <> "$"
  @datetime_pattern "^" <> @date <> "[T ]" <> @time <> @offset <> "$"
  @naive_pattern "^" <> @date <> "[T ]" <> @time <> @offset <> "?$"
  @time_pattern "^T?" <> @time <> @offset <> "?$"

  @json ["array", "boolean", "number", "object", "string"]
  @scalar ["boolean", "number", "string"]
  @no_arguments %{
    "type" => "object",
    "properties" => %{},
    "required" => [],
    "additionalProperties" => false,
    "x-order" => []
  }

  @doc "The schema of a type in one of its spellings, or why it is none."
  @spec of_type(term()) :: {:ok, t()} | {:error, String.t()}
  def of_type(type) do
    with {:ok, %{fields: [{_name, type}]}} <- TypeParser.parse([{"type", type}], nil),
         do: {:ok, schema(type)}
  end

  @doc "The schema of a request's `args`."
  @spec of_arguments(term(), term()) :: {:ok, t()} | {:error, String.t()}
  def of_arguments(nil, _orders), do: {:ok, @no_arguments}

  def of_arguments(types, orders) do
    with {:ok, %{fields: fields}} <- TypeParser.parse(types, orders), do: {:ok, record(fields)}
  end

  defp schema({kind, nil?, default, parameters}),
    do: kind |> kind(parameters) |> nilable(nil?) |> default(default)

  defp kind(:string, {max, min, max_bytes, format}) do
    %{"type" => "string", "maxLength" => max}
    |> put("minLength", if(min > 0, do: min))
    |> put("x-max-bytes", max_bytes)
    |> format(format)
  end

  defp kind(:num, range), do: number("number", range)
  defp kind(:float, range), do: number("number", range)
  defp kind(:integer, range), do: number("integer", range)
  defp kind(:boolean, nil), do: %{"type" => "boolean"}
  defp kind(:enum, values), do: %{"enum" => values |> Enum.map(&plain/1) |> Enum.uniq()}
  defp kind(:uuid, nil), do: %{"type" => "string", "format" => "uuid", "pattern" => @uuid}

  defp kind(:datetime, nil),
    do: %{"type" => "string", "format" => "date-time", "pattern" => @datetime_pattern}

  defp kind(:date, nil),
    do: %{"type" => "string", "format" => "date", "pattern" => @date_pattern}

  # A time of RFC 3339 has an offset, and here none is needed: that format would refuse most of them.
  defp kind(:naive_datetime, nil),
    do: %{"type" => "string", "x-format" => "naive-datetime", "pattern" => @naive_pattern}

  defp kind(:time, nil),
    do: %{"type" => "string", "x-format" => "time", "pattern" => @time_pattern}

  defp kind(:list, {size, item}), do: list(size, schema(item))
  defp kind(:scalar_list, {size, max_length}), do: list(size, scalar(max_length))

  defp kind(:list_string, {size, max_length, max_bytes}),
    do: list(size, kind(:string, {max_length, 0, max_bytes, nil}))

  defp kind(:list_num, size), do: list(size, kind(:num, {nil, nil}))
  defp kind(:list_uuid, size), do: list(size, kind(:uuid, nil))
  defp kind(:list_map, size), do: list(size, %{"type" => "object"})
  defp kind(:map, max), do: %{"type" => "object", "maxProperties" => max}

  defp kind(:flat_map, {max, required, accept, nested?, max_length, max_list}) do
    values = [scalar(max_length), list({max_list, 0}, scalar(max_length))]
    # What these hold in turn is the same again, to which no reference is certain.
    values = if nested?, do: values ++ [kind(:map, max)], else: values

    %{
      "type" => "object",
      "maxProperties" => max,
      "required" => required,
      "additionalProperties" => %{"anyOf" => values}
    }
    |> put("propertyNames", if(accept, do: %{"enum" => Enum.uniq(accept)}))
  end

  defp kind(:record, fields), do: record(fields)
  defp kind(:any, nil), do: %{"type" => @json}

  defp record(fields) do
    %{
      "type" => "object",
      "properties" => Map.new(fields, fn {name, type} -> {name, schema(type)} end),
      "required" => for({name, {_kind, false, nil, _parameters}} <- fields, do: name),
      "additionalProperties" => false,
      "x-order" => Enum.map(fields, &elem(&1, 0))
    }
  end

  defp number(type, {min, max}),
    do: %{"type" => type} |> put("minimum", min) |> put("maximum", max)

  defp list({max, min}, items) do
    %{"type" => "array", "items" => items, "maxItems" => max}
    |> put("minItems", if(min > 0, do: min))
  end

  defp scalar(max_length), do: %{"type" => @scalar, "maxLength" => max_length}

  defp format(schema, nil), do: schema

  defp format(schema, {source, flags}) do
    case Pattern.ecma(source, flags) do
      {:ok, pattern} -> Map.put(schema, "pattern", pattern)
      :error -> Map.merge(schema, %{"x-pattern" => source, "x-flags" => flags})
    end
  end

  defp nilable(schema, false), do: schema
  defp nilable(%{"enum" => values} = schema, true), do: %{schema | "enum" => values ++ [nil]}

  defp nilable(%{"type" => types} = schema, true),
    do: %{schema | "type" => List.wrap(types) ++ ["null"]}

  defp default(schema, nil), do: schema
  defp default(schema, {:value, value}), do: Map.put(schema, "default", plain(value))

  # As a client would send it.
  defp plain(value) when value in [nil, true, false], do: value
  defp plain(value) when is_atom(value), do: Atom.to_string(value)
  defp plain(%module{} = date), do: module.to_iso8601(date)
  defp plain(list) when is_list(list), do: Enum.map(list, &plain/1)
  defp plain(map) when is_map(map), do: Map.new(map, fn {key, value} -> {key, plain(value)} end)
  defp plain(value), do: value

  defp put(schema, _key, nil), do: schema
  defp put(schema, key, value), do: Map.put(schema, key, value)
end
