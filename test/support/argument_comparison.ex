defmodule PhoenixGenApi.ArgumentComparison do
  @moduledoc false
  # Asks the library and its oracle the same question and shrinks a disagreement to
  # a call that can be pasted into IEx.

  alias PhoenixGenApi.{ArgumentHandler, ArgumentModel, Plan}
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @request_type "shop.buy"

  @doc "A function config that is valid apart from what the two arguments may do to it."
  @spec config(term(), term()) :: struct()
  def config(arg_types, arg_orders) do
    %FunConfig{
      service: "shop",
      request_type: @request_type,
      nodes: :local,
      mfa: {Kernel, :self, []},
      arg_types: arg_types,
      arg_orders: arg_orders
    }
  end

  @doc "nil when both judge the declaration alike, else both answers."
  @spec declaration(term(), term()) :: nil | {term(), term()}
  def declaration(arg_types, arg_orders) do
    expected =
      case ArgumentModel.validate_types(arg_types, arg_orders) do
        {:ok, _canonical} -> :accepted
        {:error, message} -> [without_reason(message)]
      end

    got =
      case FunConfig.validate_with_details(config(arg_types, arg_orders)) do
        {:ok, _config} -> :accepted
        {:error, messages} -> Enum.map(messages, &without_reason/1)
      end

    if got == expected, do: nil, else: {expected, got}
  end

  # How the type is shown and why a pattern is refused is left to the library.
  defp without_reason(message) do
    Regex.replace(
      ~r/^(arg_types has an (?:invalid type|unsupported format) for ".*?"): .*/s,
      message,
      "\\1"
    )
  end

  @doc "nil when both convert alike, else both answers. Integer and float are told apart."
  @spec conversion(map(), struct(), map()) :: nil | {term(), term()}
  def conversion(canonical, config, args) do
    expected = ArgumentModel.convert_canonical(canonical, @request_type, args)
    got = answer(config, args)
    if got === expected, do: nil, else: {expected, got}
  end

  defp answer(config, args) do
    request = %Request{request_id: "1", request_type: @request_type, service: "shop", args: args}

    case convert(config, request) do
      {:ok, converted} -> {:ok, converted}
      {:error, %module{} = exception} -> {:error, module, Exception.message(exception)}
      other -> {:unexpected, other}
    end
  rescue
    exception -> {:raised, exception}
  end

  # As `ArgumentHandler.convert_args/2`, but many arguments in a row are for one declaration, which
  # takes far longer to compile.
  defp convert(config, request) do
    compiled =
      case Process.get(__MODULE__) do
        {^config, compiled} -> compiled
        _other -> Plan.compile(config)
      end

    Process.put(__MODULE__, {config, compiled})

    case compiled do
      {:ok, plan, _config} -> ArgumentHandler.convert(plan, request)
      {:error, _errors} -> ArgumentHandler.convert_args(config, request)
    end
  end

  @doc "The smallest call found on which the two still disagree, as text."
  @spec report(term(), term(), map()) :: String.t()
  def report(arg_types, arg_orders, args) do
    {types, orders, args} = shrink({arg_types, arg_orders, args})
    {expected, got} = disagreement({types, orders, args})

    """
    ArgumentHandler.convert_args(
      %FunConfig{request_type: #{inspect(@request_type)}, service: "shop", nodes: :local, mfa: {Kernel, :self, []},
        arg_types: #{whole(types)},
        arg_orders: #{whole(orders)}},
      %Request{request_type: #{inspect(@request_type)}, service: "shop", request_id: "1",
        args: #{whole(args)}})

    expected: #{whole(expected)}
    got:      #{whole(got)}
    """
  end

  defp whole(term), do: inspect(term, limit: :infinity, printable_limit: :infinity)

  defp disagreement({types, orders, args}) do
    case ArgumentModel.validate_types(types, orders) do
      {:ok, canonical} -> conversion(canonical, config(types, orders), args)
      {:error, _message} -> nil
    end
  end

  defp shrink({types, orders, args} = call) do
    fewer =
      for {name, type} <- types || [], do: {%{name => type}, nil, Map.take(args, [name])}

    smaller = for args <- smaller(args), do: {types, orders, args}

    case Enum.find(fewer ++ smaller, &(&1 != call and disagreement(&1) != nil)) do
      nil -> call
      smaller -> shrink(smaller)
    end
  end

  # Variants of a value, each a step smaller.
  defp smaller(map) when is_map(map) and not is_struct(map) do
    dropped = for {key, _} <- map, do: Map.delete(map, key)
    dropped ++ for {key, value} <- map, less <- smaller(value), do: %{map | key => less}
  end

  defp smaller(list) when is_list(list) do
    if List.improper?(list) do
      []
    else
      half = div(length(list), 2)
      halves = if half > 0, do: [Enum.take(list, half), Enum.drop(list, half)], else: []
      indexed = Enum.take(Enum.with_index(list), 50)

      halves ++
        for({_, i} <- indexed, do: List.delete_at(list, i)) ++
        for {item, i} <- indexed, less <- smaller(item), do: List.replace_at(list, i, less)
    end
  end

  defp smaller(text) when is_binary(text) and byte_size(text) > 1 do
    half = div(byte_size(text), 2)
    [binary_part(text, 0, half), binary_part(text, half, byte_size(text) - half)]
  end

  defp smaller(_other), do: []
end
