defmodule PhoenixGenApi.ArgumentGenerator do
  @moduledoc false
  # Random declarations and arguments, reproducible from a seed. A declaration is
  # made as `{kind, options}` and then written in one of the three spellings;
  # arguments are made to fit it and then spoilt in one place at most per argument,
  # so that only one error can be the first.

  import PhoenixGenApi.ArgumentGenerator.Chance
  alias PhoenixGenApi.ArgumentGenerator.{Hostile, Type, Value}

  @names ["age", "b", "tags", "order", "x.y", "naïve", "user_id", "é🙂"]
  @doc "Makes everything that follows in this process a function of `seed`."
  @spec seed(integer()) :: :ok
  def seed(seed) do
    :rand.seed(:exsss, seed)
    :ok
  end

  @doc "A declaration: its parts (for `args/1`), and how it is written."
  @spec declaration() :: %{fields: list(), arg_types: term(), arg_orders: term()}
  def declaration do
    fields =
      for name <- Enum.take_random(@names, pick([0, 1, 1, 2, 3, 4])), do: {name, Type.random(3)}

    names = Enum.map(fields, &elem(&1, 0))
    written = Enum.map(fields, fn {name, type} -> {name, Type.write(type)} end)

    {types, orders} =
      case {int(1, 3), length(fields)} do
        {1, _} -> {written, pick([nil, [], :map, Enum.shuffle(names)])}
        {_, 0} -> {pick([nil, %{}, []]), pick([nil, [], :map])}
        {_, 1} -> {Map.new(written), pick([nil, [], :map, names])}
        _ -> {Map.new(written), pick([:map, Enum.shuffle(names)])}
      end

    %{fields: fields, arg_types: types, arg_orders: orders}
  end

  @doc "A declaration of the same form with one mistake, as `{arg_types, arg_orders}`."
  @spec broken(map()) :: {term(), term()}
  def broken(%{arg_types: types, arg_orders: orders}) do
    pairs = Enum.to_list(types || [])
    one = if pairs == [], do: {"a", :string}, else: hd(pairs)
    bad = pick(Hostile.types())

    case int(1, 8) do
      1 ->
        {pick([5, :map, "x", {:a}, [:a], [{"a", :num} | 1], [{1, 2, 3}], ~D[2026-01-01]]), orders}

      2 ->
        {[one, one], nil}

      3 ->
        {[{pick(["", :a, 1, nil]), :string} | pairs], :map}

      4 ->
        {types, pick([:list, ["unknown"], ["a" | "b"], [:a], %{}, 5, [nil]])}

      5 ->
        {%{"a" => :num, "b" => :num}, pick([nil, [], ["a"], ["a", "b", "b"]])}

      6 ->
        {%{"o" => {:map, %{"f" => bad}}}, nil}

      _ ->
        {[{"bad", bad}], nil}
    end
  end

  @doc "Arguments for a declaration, nearly always within one mistake of being valid."
  @spec args(map()) :: map()
  def args(%{fields: fields}) do
    args =
      for {name, type} <- fields, Value.given?(type), into: %{} do
        value = if nilable?(type) and chance(4), do: nil, else: Value.fitting(type)
        {name, if(chance(3), do: Value.spoil(value), else: value)}
      end

    case int(1, 40) do
      1 -> Map.put(args, pick(Hostile.keys()), 1)
      2 -> args |> Map.put("zz", 1) |> Map.put(pick(Hostile.keys()), nil)
      3 when args != %{} -> Map.delete(args, pick(Map.keys(args)))
      _ -> args
    end
  end

  defp nilable?({_kind, options}), do: options[:allow_nil?] == true
end
