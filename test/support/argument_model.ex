defmodule PhoenixGenApi.ArgumentModel do
  @moduledoc false
  # The oracle of argument validation: contract 1.1 (arg_types, arg_orders) and 2 in
  # plain Elixir, written to be read beside the contract and never for speed. The
  # native implementation is compared with it; the two share no code. Where the
  # contract leaves a choice, the place is marked "Open point".

  import PhoenixGenApi.ArgumentModel.Check
  alias PhoenixGenApi.ArgumentModel.{Open, Text, Types}

  @settings %{
    max_depth: 32,
    max_nodes: 100_000,
    string_max_length: 3_000,
    string_max_bytes: nil,
    list_max_items: 1_000,
    map_max_items: 1_000
  }

  @type message :: String.t()
  @type outcome :: {:ok, list()} | {:error, module(), message()}

  @doc """
  The canonical form of a declaration, or the one error string of contract 1.1.
  `opts` overrides the defaults that applications set in `:argument_handler`.
  """
  @spec validate_types(term(), term(), keyword()) :: {:ok, map()} | {:error, message()}
  def validate_types(arg_types, arg_orders, opts \\ []) do
    {:ok, Types.canonical(arg_types, arg_orders, settings(opts))}
  catch
    {:config_error, message} -> {:error, message}
  end

  @doc "What `ArgumentHandler.convert_args/2` must answer. The declaration must be valid."
  @spec convert(term(), term(), term(), term(), keyword()) :: outcome()
  def convert(arg_types, arg_orders, request_type, args, opts \\ []) do
    {:ok, canonical} = validate_types(arg_types, arg_orders, opts)
    convert_canonical(canonical, request_type, args, opts)
  end

  @doc "The same for the result of `validate_types/3`."
  @spec convert_canonical(map(), term(), term(), keyword()) :: outcome()
  def convert_canonical(%{types: types, order: order}, request_type, args, opts \\ []) do
    context = Map.put(settings(opts), :request_type, request_type)

    checked(fn ->
      # Open point: what an Elixir caller may put in `args` besides a map.
      args = if args == nil, do: %{}, else: args
      if not is_map(args) or is_struct(args), do: invalid_type(args)

      tree_limits(args, context)
      undeclared(args, types, "extra arguments for #{Text.path(request_type)}")

      cond do
        types == %{} -> []
        order == :map -> [fields(types, args, "", context)]
        true -> Enum.map(order, &field(types[&1], Map.fetch(args, &1), &1, context))
      end
    end)
  end

  @doc "Converts one value that is neither missing nor nil; for default values."
  @spec convert_value(map(), term(), map()) :: {:ok, term()} | {:error, module(), message()}
  def convert_value(type, value, settings) do
    checked(fn -> typed(type, value, "", Map.put(settings, :request_type, "")) end)
  end

  defp settings(opts), do: Map.merge(@settings, Map.new(opts))

  defp checked(convert) do
    {:ok, convert.()}
  catch
    {:argument_error, module, message} -> {:error, module, message}
  end

  ## Tree limits: arguments are level 1; only lists and maps are levels, every value
  ## is a node, keys and `args` itself are not.

  defp tree_limits(args, context) do
    values = Map.values(args)
    shown = Text.path(context.request_type)

    if depth(values) > context.max_depth,
      do: error("arguments of #{shown} exceed max depth #{context.max_depth}")

    if nodes(values) > context.max_nodes,
      do: error("arguments of #{shown} exceed max nodes #{context.max_nodes}")
  end

  defp depth(values) do
    values
    |> Enum.map(fn value ->
      case children(value) do
        {:container, inner} -> 1 + depth(inner)
        :leaf -> 0
      end
    end)
    |> Enum.max(fn -> 0 end)
  end

  defp nodes(values) do
    Enum.sum_by(values, fn value ->
      case children(value) do
        {:container, inner} -> 1 + nodes(inner)
        :leaf -> 1
      end
    end)
  end

  defp children(value) do
    cond do
      is_struct(value) -> :leaf
      is_map(value) -> {:container, Map.values(value)}
      is_list(value) and not List.improper?(value) -> {:container, value}
      true -> :leaf
    end
  end

  ## Fields: arguments, and the declared fields of a map

  defp undeclared(map, types, text) do
    case Enum.sort(Map.keys(map) -- Map.keys(types)) do
      [] -> :ok
      extra -> error("#{text}, extra: #{Text.shown(extra)}")
    end
  end

  # Open point: fields of a schema are checked by name, also for a list of pairs.
  defp fields(types, map, prefix, context) do
    for {name, type} <- Enum.sort(types), into: %{} do
      {name, field(type, Map.fetch(map, name), prefix <> name, context)}
    end
  end

  defp field(%{default: {:value, default}}, :error, _path, _context), do: default
  defp field(%{allow_nil?: true}, :error, _path, _context), do: nil
  defp field(%{allow_nil?: true}, {:ok, nil}, _path, _context), do: nil

  defp field(_type, absent, path, context) when absent in [:error, {:ok, nil}],
    do: error("missing or nil argument #{Text.path(path)} in #{Text.path(context.request_type)}")

  defp field(type, {:ok, value}, path, context), do: typed(type, value, path, context)

  ## Types

  defp typed(%{kind: :string} = type, value, path, _context) do
    if not is_binary(value), do: wrong_type(:string, value, path)
    text(type, value, path)

    if length(String.codepoints(value)) < type.min_length,
      do: error("invalid argument size for #{Text.path(path)}, min #{type.min_length} characters")

    if type.format && not Regex.match?(type.format, value),
      do:
        error("invalid argument value for #{Text.path(path)}, does not match the required format")

    value
  end

  defp typed(%{kind: :num} = type, value, path, _context) do
    if not is_number(value), do: wrong_type(:num, value, path)
    in_range(type, value, path)
  end

  defp typed(%{kind: :integer} = type, value, path, _context) do
    if not is_integer(value), do: wrong_type(:integer, value, path)
    in_range(type, value, path)
  end

  # Open point: the range is that of the resulting float.
  defp typed(%{kind: :float} = type, value, path, _context) do
    if not is_number(value), do: wrong_type(:float, value, path)

    case to_float(value) do
      {:ok, float} -> in_range(type, float, path)
      :error -> wrong_type(:float, value, path)
    end
  end

  defp typed(%{kind: :boolean}, value, path, _context) do
    if is_boolean(value), do: value, else: wrong_type(:boolean, value, path)
  end

  defp typed(%{kind: :enum} = type, value, path, _context) do
    case Enum.filter(type.values, &listed?(&1, value)) do
      [listed | _] ->
        listed

      [] ->
        covered(value)

        error(
          "invalid argument value for #{Text.path(path)}, must be one of #{Text.shown(type.values)}"
        )
    end
  end

  defp typed(%{kind: :uuid}, value, path, _context) do
    if not is_binary(value), do: wrong_type(:uuid, value, path)
    uuid(value, path)
  end

  defp typed(%{kind: :datetime}, %DateTime{} = value, _path, _context) do
    case in_utc(value) do
      {:ok, utc} -> utc
      :error -> invalid_type(value)
    end
  end

  defp typed(%{kind: :datetime}, value, path, _context) do
    if not is_binary(value), do: not_a_date(:datetime, value, path)

    case parse(DateTime, value) do
      {:ok, utc, _offset} ->
        utc

      {:error, reason} ->
        error("invalid datetime format for #{Text.value(value)}: #{reason} at #{Text.path(path)}")
    end
  end

  defp typed(%{kind: :naive_datetime}, %NaiveDateTime{} = value, _path, _context) do
    if shows?(value), do: value, else: invalid_type(value)
  end

  defp typed(%{kind: :naive_datetime}, value, path, _context) do
    if not is_binary(value), do: not_a_date(:naive_datetime, value, path)

    case parse(NaiveDateTime, value) do
      {:ok, naive} ->
        naive

      {:error, reason} ->
        error(
          "invalid naive_datetime format for #{Text.value(value)}: #{reason} at #{Text.path(path)}"
        )
    end
  end

  defp typed(%{kind: :date}, %Date{} = value, _path, _context), do: value
  defp typed(%{kind: :time}, %Time{} = value, _path, _context), do: value

  defp typed(%{kind: kind}, value, path, _context) when kind in [:date, :time] do
    if not is_binary(value), do: not_a_date(kind, value, path)

    case if(kind == :date, do: Date.from_iso8601(value), else: parse(Time, value)) do
      {:ok, parsed} ->
        parsed

      {:error, reason} ->
        error("invalid #{kind} format for #{Text.value(value)}: #{reason} at #{Text.path(path)}")
    end
  end

  defp typed(%{kind: :list} = type, value, path, context) do
    list(:list, type, value, path, context)
    Open.flat_list(value, path, context)
  end

  defp typed(%{kind: :typed_list, item: item} = type, value, path, context) do
    list(:list, type, value, path, context)

    # On items only `allow_nil?` counts; an item is never missing.
    each(value, path, fn element, at -> field(item, {:ok, element}, at, context) end)
  end

  defp typed(%{kind: :list_string} = type, value, path, context) do
    list(:list_string, type, value, path, context)
    limits = %{max_length: type.max_item_length, max_bytes: type.max_item_bytes}

    each(value, path, fn item, at ->
      if not is_binary(item), do: wrong_item(item, at)
      text(limits, item, at)
    end)
  end

  defp typed(%{kind: :list_num} = type, value, path, context) do
    list(:list_num, type, value, path, context)
    each(value, path, fn item, at -> if is_number(item), do: item, else: wrong_item(item, at) end)
  end

  # Open point: an item that is a string but no UUID gets the text of `:uuid`.
  defp typed(%{kind: :list_uuid} = type, value, path, context) do
    list(:list_uuid, type, value, path, context)

    each(value, path, fn item, at ->
      if is_binary(item), do: uuid(item, at), else: wrong_item(item, at)
    end)
  end

  defp typed(%{kind: :list_map} = type, value, path, context) do
    list(:list_map, type, value, path, context)

    each(value, path, fn item, at ->
      if is_map(item) and not is_struct(item), do: Open.any(item, at), else: wrong_item(item, at)
    end)
  end

  defp typed(%{kind: :map} = type, value, path, context) do
    map(value, type.max_items, path, context)
    Open.any(value, path)
  end

  defp typed(%{kind: :flat_map} = type, value, path, context) do
    map(value, type.max_items, path, context)
    Open.flat_map(type, value, path, context)
  end

  defp typed(%{kind: :schema, fields: types}, value, path, context) do
    map(value, :infinity, path, context)
    undeclared(value, types, "extra fields in #{Text.path(path)}")
    fields(types, value, path <> ".", context)
  end

  defp typed(%{kind: :any}, value, path, _context), do: Open.any(value, path)

  ## Parts of types

  defp to_float(number) do
    {:ok, :erlang.float(number)}
  rescue
    ArgumentError -> :error
  end

  # Shifting alone lets a malformed struct pass when it says that it is UTC.
  defp in_utc(datetime) do
    if shows?(datetime), do: {:ok, DateTime.shift_zone!(datetime, "Etc/UTC")}, else: :error
  end

  defp shows?(%calendar_type{} = value) do
    is_binary(calendar_type.to_iso8601(value))
  rescue
    _malformed -> false
  end

  # Open points: 1 is not 1.0, and -0.0 is 0.0.
  defp listed?(listed, value) when is_boolean(listed), do: value === listed

  defp listed?(listed, value) when is_atom(listed),
    do: value === listed or value === Atom.to_string(listed)

  defp listed?(listed, value) when is_float(listed), do: is_float(value) and value == listed
  defp listed?(listed, value), do: value === listed

  # Elixir's parser also takes a sign inside an offset ("+14:+0"), for which ISO 8601 has no
  # place; the contract's forms do not.
  defp parse(calendar, text) do
    size = min(byte_size(text), 6)
    tail = binary_part(text, byte_size(text), -size)

    if length(Regex.scan(~r/[+-]/, tail)) > 1,
      do: {:error, :invalid_format},
      else: calendar.from_iso8601(text)
  end
end
