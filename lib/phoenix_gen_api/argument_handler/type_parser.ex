defmodule PhoenixGenApi.ArgumentHandler.TypeParser do
  @moduledoc false
  # Every spelling of an argument type, read into the one form that the native schema
  # compiler takes: {kind, allow_nil?, nil | {:value, default}, parameters}.

  alias PhoenixGenApi.ArgumentHandler.TypeSyntax
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.SafeInspect

  @max_levels 32
  @max_types 10_000
  @max_u32 0xFFFF_FFFF

  # An item of a list has no name of its own.
  @item "[]"

  @common [:allow_nil?, :default_value]
  @options %{
    string: [:max_length, :min_length, :max_bytes, :format],
    num: [:min, :max],
    integer: [:min, :max],
    float: [:min, :max],
    boolean: [],
    enum: [:values],
    uuid: [],
    datetime: [],
    naive_datetime: [],
    date: [],
    time: [],
    list: [:items, :max_items, :min_items],
    list_string: [:max_items, :min_items, :max_item_length, :max_item_bytes],
    list_num: [:max_items, :min_items],
    list_uuid: [:max_items, :min_items],
    list_map: [:max_items, :min_items],
    map: [:fields, :max_items, :required, :accept, :nested],
    any: []
  }
  @flat_map_options [:max_items, :required, :accept, :nested]

  @type parsed :: %{
          fields: [{String.t(), tuple()}],
          orders: [String.t()] | :map,
          warnings: [String.t()]
        }

  @doc "Reads `arg_types` and `arg_orders`; the error is the sentence of the contract."
  @spec parse(term(), term()) :: {:ok, parsed()} | {:error, String.t()}
  def parse(arg_types, arg_orders) do
    with {:ok, pairs} <- pairs(arg_types),
         :ok <- names(pairs),
         {:ok, orders} <- orders(arg_types, pairs, ordered(arg_orders)) do
      state = %{types: 0, warnings: [], path: [], defaults: defaults()}
      {fields, state} = Enum.map_reduce(in_order(pairs, orders), state, &field/2)
      {:ok, %{fields: fields, orders: orders, warnings: Enum.reverse(state.warnings)}}
    end
  catch
    {:invalid_types, message} -> {:error, message}
  end

  @doc "The sentence for a schema that the native compiler refused."
  @spec compile_error({atom(), [String.t()], String.t() | nil}) :: String.t()
  def compile_error({:invalid_default, path, _reason}),
    do: "arg_types has an invalid default_value for #{where(Enum.reverse(path))}"

  def compile_error({:unsafe_format, path, reason}),
    do: "arg_types has an unsupported format for #{where(Enum.reverse(path))}: #{reason}"

  @doc "The name of an argument: an atom is its text."
  @spec name(term()) :: term()
  def name(name) when is_atom(name) and name not in [nil, true, false], do: Atom.to_string(name)
  def name(name), do: name

  defp ordered(orders) when is_list(orders),
    do: if(proper?(orders), do: Enum.map(orders, &name/1), else: orders)

  defp ordered(orders), do: orders

  defp pairs(nil), do: {:ok, []}

  defp pairs(types) when is_map(types) and not is_struct(types),
    do: {:ok, types |> named() |> Enum.sort()}

  defp pairs(types) when is_list(types) do
    if proper?(types) and Enum.all?(types, &match?({_, _}, &1)),
      do: {:ok, named(types)},
      else: pairs(:no)
  end

  defp pairs(_types),
    do: {:error, "arg_types must be nil, a map, or a list of {name, type} pairs"}

  defp named(pairs), do: for({name, type} <- pairs, do: {name(name), type})

  defp names(pairs) do
    names = Enum.map(pairs, &elem(&1, 0))

    if Enum.all?(names, &(is_binary(&1) and &1 != "" and String.valid?(&1))) and
         Enum.uniq(names) == names,
       do: :ok,
       else: {:error, "arg_types names must be unique non-empty strings"}
  end

  defp orders(_types, _pairs, :map), do: {:ok, :map}

  defp orders(types, [_, _ | _], none) when is_map(types) and none in [nil, []] do
    {:error,
     "arg_orders is required: arg_types is a map with 2 or more entries and a map has no order; " <>
       "list the names in arg_orders, set arg_orders to :map, or write arg_types as a list of " <>
       "{name, type} pairs"}
  end

  defp orders(_types, pairs, none) when none in [nil, []],
    do: {:ok, Enum.map(pairs, &elem(&1, 0))}

  defp orders(_types, pairs, orders) do
    if is_list(orders) and proper?(orders) and
         Enum.sort(orders) == Enum.sort(Enum.map(pairs, &elem(&1, 0))),
       do: {:ok, orders},
       else:
         {:error,
          "arg_orders must be nil, :map, or a list with every arg_types name exactly once"}
  end

  defp in_order(pairs, :map), do: pairs

  defp in_order(pairs, orders) do
    types = Map.new(pairs)
    Enum.map(orders, &{&1, Map.fetch!(types, &1)})
  end

  defp proper?(list), do: not List.improper?(list)

  defp defaults do
    length = Config.get(:argument_handler, :string_max_length)

    %{
      string_length: length,
      string_bytes: Config.get(:argument_handler, :string_max_bytes),
      list_items: Config.get(:argument_handler, :list_max_items),
      map_items: Config.get(:argument_handler, :map_max_items)
    }
  end

  # Levels and types are counted on the way down, so that a monstrous schema is refused
  # before it is walked whole.
  defp field({name, spelling}, state) do
    {type, below} = type(spelling, %{state | path: [name | state.path]})
    {{name, type}, %{below | path: state.path}}
  end

  defp type(spelling, state) do
    state = %{state | types: state.types + 1}

    if length(state.path) > @max_levels,
      do: throw({:invalid_types, "arg_types nesting exceeds #{@max_levels} levels"})

    if state.types > @max_types,
      do: throw({:invalid_types, "arg_types exceeds #{@max_types} types"})

    with {name, options} <- TypeSyntax.parse(spelling) do
      {kind, parameters, state} = kind(name, options, spelling, warn(name, options, state))
      nil? = Keyword.get(options, :allow_nil?, false)
      unless is_boolean(nil?), do: invalid(spelling, state)
      {{kind, nil?, default(Keyword.get(options, :default_value)), parameters}, state}
    else
      _ -> invalid(spelling, state)
    end
  end

  defp default(nil), do: nil
  defp default(value), do: {:value, value}

  defp warn(name, options, state) do
    case Keyword.keys(options) -- (@common ++ Map.fetch!(@options, name)) do
      [] ->
        state

      unknown ->
        warning =
          "arg_types ignores unknown options #{inspect(unknown)} of #{where(state.path)}"

        %{state | warnings: [warning | state.warnings]}
    end
  end

  defp kind(:string, options, spelling, state) do
    parameters = {
      size(options, :max_length, state.defaults.string_length, spelling, state),
      size(options, :min_length, 0, spelling, state),
      size(options, :max_bytes, state.defaults.string_bytes, spelling, state),
      format(Keyword.get(options, :format), spelling, state)
    }

    {:string, parameters, state}
  end

  defp kind(name, options, spelling, state) when name in [:num, :integer, :float] do
    {name, {bound(options, :min, spelling, state), bound(options, :max, spelling, state)}, state}
  end

  defp kind(:enum, options, spelling, state) do
    values = Keyword.get(options, :values)

    if is_list(values) and values != [] and proper?(values) and Enum.all?(values, &member?/1),
      do: {:enum, values, state},
      else: invalid(spelling, state)
  end

  defp kind(:list, options, spelling, state) do
    items = items(options, spelling, state)

    case Keyword.fetch(options, :items) do
      :error ->
        {:scalar_list, {items, state.defaults.string_length}, state}

      {:ok, item} ->
        {type, below} = type(item, %{state | path: [@item | state.path]})
        {:list, {items, type}, %{below | path: state.path}}
    end
  end

  defp kind(:list_string, options, spelling, state) do
    parameters = {
      items(options, spelling, state),
      size(options, :max_item_length, state.defaults.string_length, spelling, state),
      size(options, :max_item_bytes, nil, spelling, state)
    }

    {:list_string, parameters, state}
  end

  defp kind(name, options, spelling, state) when name in [:list_num, :list_uuid, :list_map],
    do: {name, items(options, spelling, state), state}

  defp kind(:map, options, spelling, state) do
    cond do
      Keyword.has_key?(options, :fields) ->
        record(options[:fields], spelling, state)

      Enum.any?(@flat_map_options, &Keyword.has_key?(options, &1)) ->
        flat_map(options, spelling, state)

      true ->
        {:map, state.defaults.map_items, state}
    end
  end

  defp kind(name, _options, _spelling, state), do: {name, nil, state}

  defp record(fields, spelling, state) do
    with {:ok, pairs} when fields != nil <- pairs(fields), :ok <- names(pairs) do
      {fields, state} = Enum.map_reduce(pairs, state, &field/2)
      {:record, fields, state}
    else
      _ -> invalid(spelling, state)
    end
  end

  defp flat_map(options, spelling, state) do
    nested = Keyword.get(options, :nested, false)
    required = Keyword.get(options, :required, [])
    accept = Keyword.get(options, :accept)

    unless is_boolean(nested) and keys?(required) and (accept == nil or keys?(accept)),
      do: invalid(spelling, state)

    max = size(options, :max_items, state.defaults.map_items, spelling, state)

    {:flat_map,
     {max, Enum.sort(required), accept, nested, state.defaults.string_length,
      state.defaults.list_items}, state}
  end

  defp keys?(keys),
    do:
      is_list(keys) and proper?(keys) and Enum.all?(keys, &(is_binary(&1) and String.valid?(&1)))

  defp items(options, spelling, state) do
    {size(options, :max_items, state.defaults.list_items, spelling, state),
     size(options, :min_items, 0, spelling, state)}
  end

  defp size(options, key, default, spelling, state) do
    case Keyword.get(options, key, default) do
      size when is_integer(size) and size >= 0 -> min(size, @max_u32)
      nil -> default
      _ -> invalid(spelling, state)
    end
  end

  defp bound(options, key, spelling, state) do
    case Keyword.get(options, key) do
      bound when bound == nil or is_number(bound) -> bound
      _ -> invalid(spelling, state)
    end
  end

  defp member?(value) when is_binary(value), do: String.valid?(value)

  defp member?(value), do: is_number(value) or (is_atom(value) and value != nil)

  defp format(nil, _spelling, _state), do: nil

  # A pattern given as text has no place for flags; it gets the one that makes it mean
  # characters rather than bytes.
  defp format(pattern, spelling, state) when is_binary(pattern) do
    if String.valid?(pattern), do: {pattern, "u"}, else: invalid(spelling, state)
  end

  # One from another node may have been made by anything.
  defp format(%Regex{} = regex, spelling, state) do
    with %{source: source, opts: options} when is_binary(source) and is_list(options) <- regex,
         true <- String.valid?(source) and proper?(options) do
      # Elixir adds the new-line convention to the flag s; here a line ends in a line feed.
      flags = List.keydelete(options, :newline, 0)
      {source, Enum.map_join(flags, &flag(&1, state))}
    else
      _malformed -> invalid(spelling, state)
    end
  end

  defp format(_other, spelling, state), do: invalid(spelling, state)

  for {option, flag} <- [
        caseless: "i",
        multiline: "m",
        dotall: "s",
        extended: "x",
        unicode: "u",
        ucp: ""
      ] do
    defp flag(unquote(option), _state), do: unquote(flag)
  end

  defp flag(option, state) do
    reason = "option #{SafeInspect.inspect(option, 100)} is not supported"

    throw(
      {:invalid_types, "arg_types has an unsupported format for #{where(state.path)}: #{reason}"}
    )
  end

  @spec invalid(term(), map()) :: no_return()
  defp invalid(spelling, state) do
    shown = SafeInspect.inspect(spelling)
    throw({:invalid_types, "arg_types has an invalid type for #{where(state.path)}: #{shown}"})
  end

  # The path is kept innermost first.
  defp where(path) do
    path
    |> Enum.reverse()
    |> Enum.reduce(fn
      @item, shown -> shown <> @item
      name, shown -> shown <> "." <> name
    end)
    |> SafeInspect.inspect()
  end
end
