defmodule PhoenixGenApi.ArgumentHandler.Problems do
  @moduledoc false
  # The native checker's problems as data for clients. They say what is allowed, and never what
  # was sent.

  alias PhoenixGenApi.SafeInspect

  @max_problems 20
  @max_name_bytes 100
  @max_path_bytes 500
  # Up to 20 problems may be of an enum of thousands.
  @max_values 100

  @typedoc "`path` and `rule`, with `limit`, `expected` or `values` where the rule has one."
  @type problem :: %{String.t() => term()}

  @doc "At most 20 problems, in the order found."
  @spec describe([PhoenixGenApi.Native.problem()]) :: [problem()]
  def describe(found), do: found |> Enum.flat_map(&problems/1) |> Enum.take(@max_problems)

  defp problems({code, path, keys, _}) when code in [:extra, :rejected_keys],
    do:
      for(key <- keys |> Enum.sort() |> Enum.take(@max_problems), do: problem(path, key, "extra"))

  defp problems({:missing_keys, path, keys, _}),
    do: for(key <- Enum.sort(keys), do: problem(path, key, "required"))

  defp problems({:entry_too_long, path, key, max}),
    do: [problem(path, key, "max_length", %{"limit" => max})]

  defp problems({:entry_too_many, path, key, max}),
    do: [problem(path, key, "max_items", %{"limit" => max})]

  defp problems({:unsupported_entry, path, _value, key}),
    do: [problem(path, key, "type", %{"expected" => "scalar"})]

  defp problems({code, path, a, b}) do
    {rule, more} = rule(code, a, b)
    [Map.merge(%{"path" => text(path), "rule" => rule}, more)]
  end

  defp rule(:missing, _, _), do: {"required", %{}}
  defp rule(:wrong_type, type, _), do: expected(type)
  defp rule(:not_json, _, _), do: expected(:json)
  defp rule(:not_uuid, _, _), do: expected(:uuid)
  defp rule(:not_date, {type, _reason}, _), do: expected(type)
  defp rule(:unsupported_item, _value, type), do: expected(type)

  defp rule(code, _, _) when code in [:nested_map, :nested_list, :unsupported_nil],
    do: expected(:scalar)

  defp rule(code, max, _) when code in [:too_long, :item_too_long], do: {"max_length", limit(max)}
  defp rule(:too_short, min, _), do: {"min_length", limit(min)}
  defp rule(:too_many_bytes, max, _), do: {"max_bytes", limit(max)}
  defp rule(:not_utf8, _, _), do: {"encoding", %{}}
  defp rule(:format, _, _), do: {"format", %{}}
  defp rule(:below_min, min, _), do: {"min", limit(min)}
  defp rule(:above_max, max, _), do: {"max", limit(max)}
  defp rule(:not_member, listed, _), do: {"enum", %{"values" => Enum.take(listed, @max_values)}}
  defp rule(:too_many_items, max, _), do: {"max_items", limit(max)}
  defp rule(:too_few_items, min, _), do: {"min_items", limit(min)}
  defp rule(:too_deep, max, _), do: {"max_depth", limit(max)}
  defp rule(:too_many_nodes, max, _), do: {"max_nodes", limit(max)}

  defp expected(type), do: {"type", %{"expected" => Atom.to_string(type)}}
  defp limit(limit), do: %{"limit" => limit}

  defp problem(path, key, rule, more \\ %{}),
    do: Map.merge(%{"path" => text(path ++ [name(key)]), "rule" => rule}, more)

  # What a client has made up, cut.
  defp name(key) when is_binary(key), do: SafeInspect.text(key, @max_name_bytes)
  defp name(key), do: SafeInspect.inspect(key, @max_name_bytes)

  defp text([]), do: ""

  defp text([first | rest]) do
    [name(first) | Enum.map(rest, &segment/1)]
    |> IO.iodata_to_binary()
    |> SafeInspect.truncate(@max_path_bytes)
  end

  defp segment(index) when is_integer(index), do: [?[, Integer.to_string(index), ?]]
  defp segment(name), do: [?., name(name)]
end
