defmodule PhoenixGenApi.ArgumentModel.Check do
  @moduledoc false
  # The checks that several types share. A failed one throws the exception and the
  # exact text of contract 2.4.

  alias PhoenixGenApi.ArgumentModel.Text

  def text(limits, value, path) do
    if limits.max_bytes && byte_size(value) > limits.max_bytes,
      do: error("invalid argument size for #{Text.path(path)}, max #{limits.max_bytes} bytes")

    utf8(value, path)

    if length(String.codepoints(value)) > limits.max_length,
      do:
        error("invalid argument size for #{Text.path(path)}, max #{limits.max_length} characters")

    value
  end

  def in_range(type, number, path) do
    if type.min && number < type.min,
      do:
        error(
          "invalid argument value for #{Text.path(path)}, must be at least #{inspect(type.min)}"
        )

    if type.max && number > type.max,
      do:
        error(
          "invalid argument value for #{Text.path(path)}, must be at most #{inspect(type.max)}"
        )

    number
  end

  def uuid(value, path) do
    if value =~ ~r/\A[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\z/,
      do: value,
      else: error("invalid argument value for #{Text.path(path)}, require a UUID format string")
  end

  def list(kind, type, value, path, context) do
    if not is_list(value) or List.improper?(value), do: wrong_type(kind, value, path)
    count = length(value)
    max_items(count, type.max_items, path, context)
    min = Map.get(type, :min_items, 0)
    if count < min, do: wrong_size(path, "min #{min} items", context)
  end

  def map(value, max, path, context) do
    if not is_map(value) or is_struct(value), do: wrong_type(:map, value, path)
    max_items(map_size(value), max, path, context)
  end

  def max_items(count, max, path, context) do
    if count > max, do: wrong_size(path, "max #{max} items", context)
  end

  def each(list, path, convert) do
    for {item, index} <- Enum.with_index(list), do: convert.(item, "#{path}[#{index}]")
  end

  def utf8(value, path) do
    if String.valid?(value),
      do: value,
      else: error("invalid argument value for #{Text.path(path)}, invalid UTF-8")
  end

  def error(message), do: throw({:argument_error, ArgumentError, message})

  def invalid_type(value) do
    message = "Invalid type for argument '#{Text.shown(value)}'"
    throw({:argument_error, PhoenixGenApi.Errors.InvalidType, message})
  end

  # Open point: an improper list is of a JSON type, though never of the right one.
  def covered(value) do
    json? =
      is_binary(value) or is_number(value) or is_boolean(value) or is_nil(value) or
        is_list(value) or (is_map(value) and not is_struct(value))

    if not json?, do: invalid_type(value)
  end

  # Open point: for a date type the struct of the other one is a wrong type.
  def not_a_date(kind, value, path) do
    if not (is_struct(value, DateTime) or is_struct(value, NaiveDateTime)), do: covered(value)
    type_error("#{kind} (ISO 8601 string)", value, path)
  end

  def wrong_type(kind, value, path) do
    covered(value)
    type_error(kind, value, path)
  end

  defp type_error(kind, value, path) do
    error(
      "invalid argument type for #{Text.path(path)}, expected :#{kind}, got #{Text.value(value)}"
    )
  end

  defp wrong_size(path, limit, context) do
    error(
      "invalid argument size for #{Text.path(path)} in #{Text.path(context.request_type)}, #{limit}"
    )
  end

  def wrong_item(value, path) do
    covered(value)
    error("unsupported type of #{Text.value(value)} in list at #{Text.path(path)}")
  end
end
