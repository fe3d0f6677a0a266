defmodule PhoenixGenApi.Contract.JudgesTest do
  # The exported schemas against validators that others have written: what the gateway says of a value, they say
  # of it by the schema. `GEN_API_SEED=n` runs the types of a failure again.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{ArgumentGenerator, ArgumentHandler, Contract, Plan}
  alias PhoenixGenApi.ArgumentGenerator.{Chance, Type, Value}
  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.Test.Judges

  @moduletag :judges
  @moduletag timeout: 600_000

  @types 200
  @values 10_000
  @made 1_000

  # Beyond it JavaScript has not every integer.
  @exact 2 ** 53

  # More than one at a time: each waits for its judge now and then.
  @workers 2

  defp seed do
    case System.get_env("GEN_API_SEED") do
      nil -> ExUnit.configuration()[:seed]
      seed -> String.to_integer(seed)
    end
  end

  test "#{@values} values of each of #{@types} types get the verdict of a validator of the exported schema" do
    first = seed()

    counts =
      1..@types
      |> Enum.chunk_every(div(@types, @workers))
      |> Enum.map(fn numbers -> Task.async(fn -> judge_all(numbers, first) end) end)
      |> Task.await_many(:infinity)
      |> Enum.reduce(&Map.merge(&1, &2, fn _key, a, b -> a + b end))

    assert counts.judged == @types * @values

    # The comparison is worth something only while both verdicts are common, and differences are not.
    assert counts.accepted > counts.judged / 4
    assert counts.refused > counts.judged / 10
    assert counts.listed < counts.judged / 20
    assert counts.python > 1_000
  end

  defp judge_all(numbers, first) do
    judges = %{node: Judges.start(:node), python: Judges.start(:python)}

    for number <- numbers, reduce: %{judged: 0, accepted: 0, refused: 0, listed: 0, python: 0} do
      counts ->
        ArgumentGenerator.seed(:erlang.phash2({first, number}))
        judge(type(number), judges, counts, "GEN_API_SEED=#{first}, type #{number}")
    end
  end

  # Mostly without bounds that only Python has, which takes its time. Every other one is that of all
  # arguments of a function.
  defp type(number) do
    type = if rem(number, 2) == 0, do: Type.random(3), else: arguments()

    schema = schema(type)

    if bounds_beyond?(schema) and (rem(number, 20) != 0 or not python?(schema)),
      do: type(number),
      else: type
  end

  defp arguments do
    {:map, options} = {:map, [fields: ArgumentGenerator.declaration().fields]}
    {:map, options}
  end

  defp schema(type), do: type |> Type.write() |> Contract.json_schema()

  defp judge(type, judges, counts, where) do
    spelling = Type.write(type)
    schema = Contract.json_schema(spelling)
    {accepts?, problems} = gateway(spelling)
    far? = bounds_beyond?(schema)
    {python, node} = type |> values(python?(schema)) |> Enum.split_with(&(far? or beyond?(&1)))
    ask(judges.node, schema, node)
    ask(judges.python, schema, python)
    ours = for values <- [node, python], do: Enum.map(values, accepts?)

    for {judge, values, ours} <- Enum.zip([[judges.node, judges.python], [node, python], ours]),
        {value, ours, verdict} <- Enum.zip([values, ours, verdicts(judge)]),
        reduce: %{
          counts
          | judged: counts.judged + @values,
            python: counts.python + length(python)
        } do
      counts ->
        case {ours, verdict} do
          {true, ?1} ->
            %{counts | accepted: counts.accepted + 1}

          {false, ?0} ->
            %{counts | refused: counts.refused + 1}

          {false, ?1} ->
            left = problems.(whole(value))
            assert listed?(left, schema, value), report(where, spelling, schema, value, left)
            %{counts | listed: counts.listed + 1}

          {true, ?0} ->
            flunk(report(where, spelling, schema, value, []))
        end
    end
  end

  defp report(where, spelling, schema, value, problems) do
    "#{where}: #{inspect(spelling)} has the problems #{inspect(problems)} with " <>
      "#{value |> JSON.encode!() |> String.slice(0, 500)}, unlike #{JSON.encode!(schema)}"
  end

  defp ask(judge, schema, values),
    do:
      Judges.ask(judge, JSON.encode_to_iodata!(%{kind: "values", schema: schema, values: values}))

  defp verdicts(judge), do: judge |> Judges.answer() |> String.to_charlist()

  # Whether the gateway accepts a value, and what problems it has with one.
  defp gateway(spelling) do
    {:ok, plan, _config} =
      Plan.compile(%FunConfig{
        service: "judged",
        request_type: "t",
        nodes: :local,
        mfa: {String, :length, []},
        arg_types: %{"v" => spelling}
      })

    request = &%Request{request_type: "t", args: %{"v" => &1}}

    {fn value -> match?({:ok, _arguments}, ArgumentHandler.convert(plan, request.(value))) end,
     fn value -> ArgumentHandler.problems(plan, request.(value)) end}
  end

  # Its patterns have no properties of Unicode.
  defp python?(schema), do: not (JSON.encode!(schema) =~ "\\\\p{")

  # Values as the gateway gets them from JSON. Making one of the more involved takes longer than judging it,
  # so most are put together of parts of others.
  defp values(type, python?) do
    made = made(type, @made, python?)
    pool = List.to_tuple(made)
    made ++ for(_ <- 1..(@values - @made), do: mixed(pick(pool), pool))
  end

  defp made(_type, 0, _python?), do: []

  defp made(type, left, python?) do
    value = Value.fitting(type)

    with json when json != nil <-
           encode(if Chance.chance(2), do: Value.spoil(value), else: value),
         value = JSON.decode!(json),
         true <- python? or not beyond?(value) do
      [value | made(type, left - 1, python?)]
    else
      _another -> made(type, left, python?)
    end
  end

  defp pick(pool), do: elem(pool, :rand.uniform(tuple_size(pool)) - 1)

  defp mixed(map, pool) when is_map(map) do
    Map.merge(map, pool |> pick() |> part(), fn _key, one, other ->
      if(Chance.chance(2), do: one, else: other)
    end)
  end

  defp mixed(list, pool) when is_list(list) do
    case pick(pool) do
      [_ | _] = other ->
        Enum.take(list, div(length(list) + 1, 2)) ++ Enum.take(other, div(length(other) + 1, 2))

      _another ->
        list
    end
  end

  defp mixed(number, _pool) when is_number(number) and abs(number) < 1_000,
    do: number + Chance.int(-3, 3)

  defp mixed(scalar, _pool), do: scalar

  # Of what another one has, what this one mostly has, too.
  defp part(map) when is_map(map) and map_size(map) < 32, do: map
  defp part(_other), do: %{}

  defp encode(value) do
    JSON.encode!(value)
  rescue
    _not_json -> nil
  end

  defp beyond?(number) when is_number(number), do: abs(number) > @exact
  defp beyond?(list) when is_list(list), do: Enum.any?(list, &beyond?/1)
  defp beyond?(map) when is_map(map), do: Enum.any?(map, fn {_key, value} -> beyond?(value) end)
  defp beyond?(_scalar), do: false

  defp bounds_beyond?(%{} = schema) do
    beyond?(schema["minimum"]) or beyond?(schema["maximum"]) or
      Enum.any?(schema, fn {_key, value} -> bounds_beyond?(value) end)
  end

  defp bounds_beyond?(list) when is_list(list), do: Enum.any?(list, &bounds_beyond?/1)
  defp bounds_beyond?(_scalar), do: false

  # The differences that the guide lists. To JSON Schema 5.0 is an integer, so a value is judged again with
  # these as integers; every problem that is left has to be one that no schema can express.
  defp whole(float) when is_float(float) and trunc(float) == float, do: trunc(float)
  defp whole(list) when is_list(list), do: Enum.map(list, &whole/1)
  defp whole(map) when is_map(map), do: Map.new(map, fn {key, value} -> {key, whole(value)} end)
  defp whole(scalar), do: scalar

  defp listed?(problems, schema, value) do
    json = if problems != [], do: JSON.encode!(value)
    Enum.all?(problems, &expected?(&1, schema, json))
  end

  defp expected?(%{"rule" => rule}, _schema, _json)
       when rule in ["max_bytes", "max_depth", "max_nodes"],
       do: true

  defp expected?(%{"rule" => "format"}, schema, _json), do: has?(schema, "x-pattern")

  defp expected?(%{"rule" => "type", "expected" => date}, _schema, json)
       when date in ["datetime", "naive_datetime", "date"],
       do: json =~ "-02-29"

  defp expected?(%{"rule" => "type", "expected" => "float"}, _schema, json),
    do: json =~ ~r/[0-9]{309}/

  defp expected?(%{"rule" => rule}, schema, _json)
       when rule in ["type", "max_length", "max_items"],
       do: nested?(schema)

  defp expected?(_problem, _schema, _json), do: false

  defp has?(map, key) when is_map(map),
    do: is_map_key(map, key) or Enum.any?(map, fn {_key, value} -> has?(value, key) end)

  defp has?(list, key) when is_list(list), do: Enum.any?(list, &has?(&1, key))
  defp has?(_scalar, _key), do: false

  # A flat map with maps in it.
  defp nested?(%{"additionalProperties" => %{"anyOf" => [_, _, _map]}}), do: true
  defp nested?(map) when is_map(map), do: Enum.any?(map, fn {_key, value} -> nested?(value) end)
  defp nested?(list) when is_list(list), do: Enum.any?(list, &nested?/1)
  defp nested?(_scalar), do: false

  test "the OpenAPI documents of 200 random tables are valid" do
    judge = Judges.start(:node)

    for number <- 1..200 do
      ArgumentGenerator.seed(:erlang.phash2({seed(), :table, number}))
      document = Contract.openapi([functions: table()] ++ options())
      Judges.ask(judge, JSON.encode!(%{"kind" => "openapi", "document" => document}))
      assert Judges.answer(judge) == nil, "GEN_API_SEED=#{seed()}, table #{number}"
    end
  end

  test "a document that is none is told" do
    judge = Judges.start(:node)
    document = Contract.openapi(functions: []) |> Map.delete("info")
    Judges.ask(judge, JSON.encode!(%{"kind" => "openapi", "document" => document}))
    assert Judges.answer(judge) =~ "info"
  end

  defp options do
    Chance.pick([
      [],
      [public: true, statuses: %{"sold_out" => 409, "gone" => 404}],
      [title: "Shop", version: "2", servers: ["https://shop.example/gen_api"]]
    ])
  end

  defp table do
    for service <- Enum.take_random(["shop", "a b/c", "é"], Chance.int(0, 3)),
        type <- Enum.take_random(["price", "x.y", "{id}", "a?b#c"], Chance.int(1, 3)),
        version <- Enum.take_random(["0.0.0", "1.0.0", "2.0.0-rc.1", "beta"], Chance.int(1, 3)) do
      made = ArgumentGenerator.declaration()

      %FunConfig{
        service: service,
        request_type: type,
        version: version,
        nodes: :local,
        mfa: {String, :length, []},
        arg_types: made.arg_types,
        arg_orders: made.arg_orders,
        result: Chance.pick([nil, Type.write(Type.random(2))]),
        response_type: Chance.pick([:sync, :async, :stream, :none]),
        check_permission:
          Chance.pick([false, :any_authenticated, {:role, ["admin"]}, {:arg, "age"}]),
        deprecated: Chance.pick([false, true, "Use another."]),
        doc: Chance.pick([nil, "What it does."]),
        tags: Chance.pick([[], ["catalogue", service]]),
        timeout: Chance.pick([5_000, :infinity])
      }
    end
  end
end
