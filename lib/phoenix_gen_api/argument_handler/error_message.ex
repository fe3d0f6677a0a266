defmodule PhoenixGenApi.ArgumentHandler.ErrorMessage do
  @moduledoc false
  # The sentences of the native checker's problems.

  alias PhoenixGenApi.Errors.InvalidType
  alias PhoenixGenApi.SafeInspect

  @shown 100

  @doc "The exception for a problem in the arguments of that request type."
  @spec exception(PhoenixGenApi.Native.problem(), term()) :: Exception.t()
  def exception({:not_json, _path, value, _}, _request_type),
    do: InvalidType.exception(value)

  def exception({code, path, a, b}, request_type),
    do: ArgumentError.exception(message(code, path, a, b, SafeInspect.inspect(request_type)))

  defp message(:extra, [], keys, _, r), do: "extra arguments for #{r}, extra: #{keys(keys)}"
  defp message(:extra, path, keys, _, _), do: "extra fields in #{p(path)}, extra: #{keys(keys)}"
  defp message(:missing, path, _, _, r), do: "missing or nil argument #{p(path)} in #{r}"

  defp message(:wrong_type, path, type, value, _)
       when type in [:datetime, :naive_datetime, :date, :time] do
    "invalid argument type for #{p(path)}, expected #{inspect(type)} (ISO 8601 string), " <>
      "got #{shown(value)}"
  end

  defp message(:wrong_type, path, type, value, _),
    do: "invalid argument type for #{p(path)}, expected #{inspect(type)}, got #{shown(value)}"

  defp message(:too_long, path, max, _, _), do: size(path, "max #{max} characters")
  defp message(:too_short, path, min, _, _), do: size(path, "min #{min} characters")
  defp message(:too_many_bytes, path, max, _, _), do: size(path, "max #{max} bytes")
  defp message(:not_utf8, path, _, _, _), do: value(path, "invalid UTF-8")
  defp message(:format, path, _, _, _), do: value(path, "does not match the required format")
  defp message(:below_min, path, min, _, _), do: value(path, "must be at least #{min}")
  defp message(:above_max, path, max, _, _), do: value(path, "must be at most #{max}")

  defp message(:not_member, path, listed, _, _),
    do: value(path, "must be one of #{SafeInspect.inspect(listed)}")

  defp message(:not_uuid, path, _, _, _), do: value(path, "require a UUID format string")

  defp message(:too_many_items, path, max, _, r),
    do: "invalid argument size for #{p(path)} in #{r}, max #{max} items"

  defp message(:too_few_items, path, min, _, r),
    do: "invalid argument size for #{p(path)} in #{r}, min #{min} items"

  defp message(:unsupported_item, path, value, _, _),
    do: "unsupported type of #{shown(value)} in list at #{p(path)}"

  defp message(:nested_map, path, _, _, _), do: "nested map is not supported yet at #{p(path)}"
  defp message(:nested_list, path, _, _, _), do: "nested list is not supported yet at #{p(path)}"
  defp message(:unsupported_nil, path, _, _, _), do: "unsupported type nil at #{p(path)}"

  defp message(:item_too_long, path, _, _, _),
    do: "string item in list exceeds max byte size at #{p(path)}"

  defp message(:entry_too_long, path, key, _, _),
    do: "nested map string value exceeds max byte size for key #{shown(key)} at #{p(path)}"

  defp message(:entry_too_many, path, key, _, _),
    do: "nested map list value exceeds max items for key #{shown(key)} at #{p(path)}"

  defp message(:unsupported_entry, path, value, key, _),
    do: "unsupported type #{shown(value)} in map for key #{shown(key)} at #{p(path)}"

  defp message(:missing_keys, path, keys, _, r),
    do: "map argument #{p(path)} missing required keys: #{keys(keys)} in #{r}"

  defp message(:rejected_keys, path, keys, _, r),
    do: "map argument #{p(path)} contains rejected keys: #{keys(keys)} in #{r}"

  defp message(:not_date, path, {type, reason}, value, _),
    do: "invalid #{type} format for #{shown(value)}: #{reason} at #{p(path)}"

  defp message(:too_deep, _, max, _, r), do: "arguments of #{r} exceed max depth #{max}"
  defp message(:too_many_nodes, _, max, _, r), do: "arguments of #{r} exceed max nodes #{max}"

  defp size(path, limit), do: "invalid argument size for #{p(path)}, #{limit}"
  defp value(path, reason), do: "invalid argument value for #{p(path)}, #{reason}"

  defp p([name | rest]),
    do: SafeInspect.inspect(IO.iodata_to_binary([name | Enum.map(rest, &segment/1)]))

  defp segment(index) when is_integer(index), do: [?[, Integer.to_string(index), ?]]
  defp segment(name), do: [?., name]

  defp keys(keys), do: keys |> Enum.sort() |> SafeInspect.inspect()

  defp shown(value), do: SafeInspect.inspect(value, @shown)
end
