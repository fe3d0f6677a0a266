defmodule PhoenixGenApi.Config.Type do
  @moduledoc false
  # The types of the options in `PhoenixGenApi.Config.Schema`: one function that
  # says a type in words and one that checks a value against it.

  alias PhoenixGenApi.RateLimiter.Limit
  alias PhoenixGenApi.SafeInspect

  @type t ::
          :boolean
          | {:positive, String.t() | nil}
          | {:non_negative, String.t() | nil}
          | {:integer, integer(), integer()}
          | :share
          | {:one_of, [atom()]}
          | {:list_of, [atom()]}
          | {:or, t(), t()}
          | {:limits, Limit.scope()}
          | :list
          | :mfa_names
          | :mfas
          | :node_patterns
          | :fraction
          | :secret

  # What a BEAM timer takes at most, and what fits the native side's counters on
  # any platform. A larger value would pass the check and crash a process later.
  @max_integer 4_294_967_295

  @doc "The type in words, as it stands after \"expected\"."
  @spec describe(t()) :: String.t()
  def describe(:boolean), do: "true or false"
  def describe({:positive, unit}), do: "a positive integer" <> unit(unit)
  def describe({:non_negative, unit}), do: "a non-negative integer" <> unit(unit)
  def describe({:integer, min, max}), do: "an integer from #{min} to #{max}"
  def describe(:share), do: "a number from 0 to 1"
  def describe({:one_of, values}), do: words(values, "or")
  def describe({:list_of, values}), do: "a list of " <> words(values, "and")
  def describe({:or, a, b}), do: describe(a) <> " or " <> describe(b)
  def describe({:limits, :global}), do: "a list of global limits"
  def describe({:limits, :api}), do: "a list of API limits"
  def describe(:list), do: "a list"
  def describe(:mfa_names), do: "a list of modules and {module, function} tuples"

  def describe(:mfas),
    do: "a list of {module, function} and {module, function, args} tuples"

  def describe(:node_patterns), do: "a list of nodes and patterns of their names"
  def describe(:fraction), do: "a number above 0 and at most 1"
  def describe(:secret), do: "a non-empty string"

  @doc """
  `{:ok, value}`, normalised where the type says so, or `{:error, [{expected, got}]}`
  with both sides as text. Values of type `:secret` never appear in the text.
  """
  @spec cast(t(), term()) :: {:ok, term()} | {:error, [{String.t(), String.t()}, ...]}
  def cast({:or, a, b} = type, value) do
    with {:error, _} <- cast(a, value),
         {:error, [{_expected, got} | _]} <- cast(b, value) do
      {:error, [{describe(type), got}]}
    end
  end

  def cast({kind, _unit} = type, value)
      when kind in [:positive, :non_negative] and is_integer(value) and value > @max_integer do
    {:error, [{describe(type) <> " of at most #{@max_integer}", SafeInspect.inspect(value)}]}
  end

  # `length/1` keeps improper lists out.
  def cast({:limits, scope}, limits) when length(limits) >= 0 do
    {valid, invalid} =
      limits |> Enum.map(&Limit.validate(&1, scope)) |> Enum.split_with(&match?({:ok, _}, &1))

    if invalid == [] do
      {:ok, Enum.map(valid, fn {:ok, limit} -> limit end)}
    else
      {:error,
       for {:error, {:invalid_limit, limit, reason}} <- invalid do
         {"every limit to be valid (#{reason})", SafeInspect.inspect(limit)}
       end}
    end
  end

  def cast(type, value) do
    if valid?(type, value), do: {:ok, value}, else: {:error, [{describe(type), got(type, value)}]}
  end

  @doc "`a, b or c`, with each atom as it is written in a config file."
  @spec words([atom()], String.t()) :: String.t()
  def words([single], _conjunction), do: inspect(single)

  def words(values, conjunction) do
    {first, [last]} = Enum.split(values, -1)
    Enum.map_join(first, ", ", &inspect/1) <> " #{conjunction} " <> inspect(last)
  end

  defp unit(nil), do: ""
  defp unit(unit), do: " (#{unit})"

  defp valid?(:boolean, value), do: is_boolean(value)
  defp valid?({:positive, _}, value), do: is_integer(value) and value > 0
  defp valid?({:non_negative, _}, value), do: is_integer(value) and value >= 0
  defp valid?({:integer, min, max}, value), do: is_integer(value) and value in min..max
  defp valid?(:share, value), do: is_number(value) and value >= 0 and value <= 1
  defp valid?({:one_of, values}, value), do: value in values
  defp valid?({:list_of, values}, value), do: all?(value, &(&1 in values))
  defp valid?(:list, value), do: all?(value, fn _ -> true end)
  defp valid?(:mfa_names, value), do: all?(value, &mfa_name?/1)
  defp valid?(:node_patterns, value), do: all?(value, &node_pattern?/1)
  defp valid?(:mfas, value), do: all?(value, &mfa?/1)
  defp valid?(:fraction, value), do: is_number(value) and value > 0 and value <= 1
  defp valid?(:secret, value), do: is_binary(value) and value != ""
  defp valid?({:limits, _}, _value), do: false

  defp node_pattern?(name) when is_binary(name), do: name != "" and String.valid?(name)
  defp node_pattern?(name), do: is_atom(name) and name not in [nil, true, false]

  defp mfa_name?({module, function}), do: mfa_name?(module) and is_atom(function)
  defp mfa_name?(module), do: is_atom(module) and module not in [nil, true, false]

  defp mfa?({module, function, args}),
    do: mfa?({module, function}) and all?(args, fn _ -> true end)

  defp mfa?(name), do: is_tuple(name) and mfa_name?(name)

  # An improper list is not a list to anyone who reads a config file.
  defp all?([head | tail], fun), do: fun.(head) and all?(tail, fun)
  defp all?(value, _fun), do: value == []

  defp got(:secret, _value), do: "a value that is not shown here"
  defp got(_type, value), do: SafeInspect.inspect(value)
end
