defmodule PhoenixGenApi.ArgumentHandler.TypeSyntax do
  @moduledoc false
  # The ways to write one argument type: `:string`, `{:string, 255}`,
  # `{:string, max_length: 255}`, `{:string, 255, min_length: 1}`,
  # `[type: :string, max_length: 255]`.

  @names [
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

  @doc "The name of the type and its options; the main part is an option like the others."
  @spec parse(term()) :: {atom(), keyword()} | :error
  def parse(spelling) do
    with {name, options} <- normalise(spelling) do
      if Keyword.keyword?(options), do: {name, options}, else: :error
    end
  end

  defp normalise(name) when name in @names, do: {name, []}

  defp normalise({:enum, values}) when is_list(values), do: {:enum, [values: values]}

  defp normalise({:enum, values, options}) when is_list(options),
    do: {:enum, [{:values, values} | options]}

  defp normalise({:list, size}) when is_integer(size), do: {:list, [max_items: size]}

  defp normalise({:list, item}) do
    if Keyword.keyword?(item) and not Keyword.has_key?(item, :type),
      do: {:list, item},
      else: {:list, [items: item]}
  end

  defp normalise({:list, size, options}) when is_integer(size) and is_list(options),
    do: {:list, [{:max_items, size} | options]}

  defp normalise({:list, item, size}) when is_integer(size),
    do: {:list, [items: item, max_items: size]}

  defp normalise({:list, item, options}) when is_list(options),
    do: {:list, [{:items, item} | options]}

  defp normalise({:list_string, size, length}) when is_integer(length),
    do: {:list_string, [max_items: size, max_item_length: length]}

  defp normalise({:list_string, size, length, options}) when is_list(options),
    do: {:list_string, [{:max_items, size}, {:max_item_length, length} | options]}

  defp normalise({:map, fields}) when is_map(fields), do: {:map, [fields: fields]}

  defp normalise({:map, [{name, _} | _] = fields}) when is_binary(name),
    do: {:map, [fields: fields]}

  defp normalise({:map, fields, options})
       when (is_map(fields) or is_list(fields)) and is_list(options),
       do: {:map, [{:fields, fields} | options]}

  defp normalise({name, options}) when name in @names and is_list(options), do: {name, options}

  defp normalise({name, limit}) when name in @names, do: limited(name, limit, [])

  defp normalise({name, limit, options}) when name in @names and is_list(options),
    do: limited(name, limit, options)

  defp normalise(options) when is_list(options) do
    with true <- Keyword.keyword?(options),
         {type, options} when type != nil <- Keyword.pop(options, :type),
         false <- is_list(type),
         {name, inner} <- normalise(type) do
      {name, inner ++ options}
    else
      _ -> :error
    end
  end

  defp normalise(_other), do: :error

  defp limited(_name, nil, _options), do: :error
  defp limited(:string, limit, options), do: {:string, [{:max_length, limit} | options]}

  defp limited(name, limit, options)
       when name in [:list, :list_string, :list_num, :list_uuid, :list_map, :map],
       do: {name, [{:max_items, limit} | options]}

  defp limited(_name, _limit, _options), do: :error
end
