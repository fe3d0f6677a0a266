defmodule PhoenixGenApi.ArgumentModel.Open do
  @moduledoc false
  # The types that do not declare their content: `:any`, `:map` and the items of
  # `:list_map` (any JSON content), `:list` and flat maps. Entries of a map are looked
  # at by key; with more than one problem in a map of more than 32 keys the native
  # side may report another one.

  import PhoenixGenApi.ArgumentModel.Check
  alias PhoenixGenApi.ArgumentModel.Text

  # Any JSON content. Strings have no size limit here, only the tree has.
  def any(value, path) do
    cond do
      is_binary(value) ->
        utf8(value, path)

      is_list(value) and List.improper?(value) ->
        invalid_type(value)

      is_list(value) ->
        each(value, path, &any/2)

      is_map(value) and not is_struct(value) ->
        entries(value, path, fn _, v, at -> any(v, at) end)

      true ->
        covered(value)
    end

    value
  end

  # Open point: an improper list among the items counts as a nested list.
  def flat_list(list, path, context) do
    each(list, path, fn item, at ->
      cond do
        is_nil(item) -> error("unsupported type nil at #{Text.path(at)}")
        is_boolean(item) or is_number(item) -> :ok
        is_list(item) -> error("nested list is not supported yet at #{Text.path(at)}")
        is_binary(item) -> string_item(item, at, context)
        true -> nested_map(item, at)
      end
    end)

    list
  end

  # Open points: with `nested: true` a map inside follows the same rules (no nil, the
  # same max_items), except for `required` and `accept`; the lists inside are limited
  # by the default of lists; an improper list is an unsupported value.
  def flat_map(type, map, path, context) do
    keys = Map.keys(map)
    names(type.required -- keys, "missing required", path, context)
    if type.accept, do: names(keys -- type.accept, "contains rejected", path, context)
    flat_entries(type, map, path, context)
  end

  defp flat_entries(type, map, path, context) do
    entries(map, path, fn key, value, at ->
      cond do
        is_boolean(value) or is_number(value) -> :ok
        is_binary(value) -> string_entry(value, key, path, at, context)
        is_list(value) and not List.improper?(value) -> list_entry(value, key, path, at, context)
        is_list(value) or is_nil(value) -> unsupported(value, key, path)
        type.nested and is_map(value) and not is_struct(value) -> nested(type, value, at, context)
        true -> nested_map(value, at)
      end
    end)

    map
  end

  defp nested(type, map, path, context) do
    max_items(map_size(map), type.max_items, path, context)
    flat_entries(type, map, path, context)
  end

  defp string_item(item, path, context) do
    utf8(item, path)

    if too_long?(item, context),
      do: error("string item in list exceeds max byte size at #{Text.path(path)}")
  end

  defp string_entry(value, key, path, at, context) do
    utf8(value, at)

    if too_long?(value, context),
      do:
        error(
          "nested map string value exceeds max byte size for key #{Text.path(key)} at #{Text.path(path)}"
        )
  end

  defp list_entry(value, key, path, at, context) do
    if length(value) > context.list_max_items,
      do:
        error(
          "nested map list value exceeds max items for key #{Text.path(key)} at #{Text.path(path)}"
        )

    flat_list(value, at, context)
  end

  defp unsupported(value, key, path) do
    error(
      "unsupported type #{Text.value(value)} in map for key #{Text.path(key)} at #{Text.path(path)}"
    )
  end

  defp nested_map(value, path) do
    covered(value)
    error("nested map is not supported yet at #{Text.path(path)}")
  end

  defp names([], _problem, _path, _context), do: :ok

  defp names(names, problem, path, context) do
    error(
      "map argument #{Text.path(path)} #{problem} keys: #{Text.shown(Enum.sort(names))}" <>
        " in #{Text.path(context.request_type)}"
    )
  end

  # Open point: a key that is not UTF-8 is an error of the map that has it.
  defp entries(map, path, check) do
    for {key, value} <- Enum.sort(map) do
      if not is_binary(key), do: invalid_type(key)
      utf8(key, path)
      check.(key, value, path <> "." <> key)
    end
  end

  defp too_long?(text, context), do: length(String.codepoints(text)) > context.string_max_length
end
