defmodule PhoenixGenApi.Contract.ComparisonTest do
  use ExUnit.Case, async: true

  import PhoenixGenApi.Test.Contracts

  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Contract.Comparison

  @guide "guides/versions_and_rollout.md"
  @start "<!-- changes -->\n"
  @stop "<!-- end of the changes -->"

  # As from a file.
  defp describe(configs) do
    [functions: configs |> configs() |> Enum.map(&config/1)]
    |> Contract.describe()
    |> JSON.encode!()
    |> JSON.decode!()
  end

  defp compare(old, new), do: Contract.compare(describe(old), describe(new))

  defp args(types), do: [arg_types: types]
  defp one(type), do: args([{"a", type}])
  defp result(type), do: [result: type]
  defp at(version), do: [version: version]

  # Old and new, and what is told of them: {:change, severity, sentence}.
  defp pairs do
    [
      {none(), [], [{:function_added, :compatible, "shop price is new"}]},
      {[], none(), [{:function_removed, :breaking, "shop price has been removed"}]},
      {[at("1.0.0"), at("2.0.0")], at("2.0.0"),
       [{:version_removed, :breaking, "shop price 1.0.0 has been removed"}]},
      {at("2.0.0"), [at("1.0.0"), at("2.0.0")],
       [{:version_added, :compatible, "shop price 1.0.0 is new"}]},
      {at("1.0.0"), [at("1.0.0"), at("2.0.0")],
       [
         {:version_added, :compatible, "shop price 2.0.0 is new"},
         {:default_version_changed, :compatible,
          "shop price is served as 2.0.0 instead of 1.0.0 without a version"}
       ]},
      {one(:string), [one(:string), [version: "2.0.0", arg_types: [{"a", :string}, {"b", :num}]]],
       [
         {:version_added, :compatible, "shop price 2.0.0 is new"},
         {:default_version_changed, :compatible,
          "shop price is served as 2.0.0 instead of 1.0.0 without a version"},
         {:required_argument_added, :breaking,
          "shop price: without a version, argument b is new and required"}
       ]},
      {args([{"a", :num}]), args([{"a", :num}, {"b", :num}]),
       [{:required_argument_added, :breaking, "shop price 1.0.0: argument b is new and required"}]},
      {args([{"a", :num}]), args([{"a", :num}, {"b", {:num, default_value: 1}}]),
       [{:optional_argument_added, :compatible, "shop price 1.0.0: argument b is new"}]},
      {args([{"a", :num}, {"b", :num}]), args([{"a", :num}]),
       [{:argument_removed, :breaking, "shop price 1.0.0: argument b has been removed"}]},
      {one({:num, default_value: 1}), one(:num),
       [{:argument_required, :breaking, "shop price 1.0.0: argument a is required"}]},
      {one(:num), one({:num, default_value: 1}),
       [{:argument_optional, :compatible, "shop price 1.0.0: argument a may be missing"}]},
      {one({:num, allow_nil?: true}), one(:num),
       [
         {:argument_required, :breaking, "shop price 1.0.0: argument a is required"},
         {:argument_narrowed, :breaking, "shop price 1.0.0: argument a no longer takes null"}
       ]},
      {one({:string, 40}), one({:string, 10}),
       [
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a has a maximum length of 10 instead of 40"}
       ]},
      {one({:string, 10}), one({:string, 40}),
       [
         {:argument_widened, :compatible,
          "shop price 1.0.0: argument a has a maximum length of 40 instead of 10"}
       ]},
      {one(:integer), one({:integer, min: 1}),
       [
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a has a minimum of 1 instead of none"}
       ]},
      {one({:integer, max: 9}), one(:integer),
       [
         {:argument_widened, :compatible,
          "shop price 1.0.0: argument a has a maximum of none instead of 9"}
       ]},
      {one({:string, max_bytes: 9}), one({:string, max_bytes: 8}),
       [
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a has a maximum number of bytes of 8 instead of 9"}
       ]},
      {one(:integer), one(:num),
       [
         {:argument_widened, :compatible,
          "shop price 1.0.0: argument a is a number instead of an integer"}
       ]},
      {one(:float), one(:integer),
       [
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a is an integer instead of a number"}
       ]},
      {one(:string), one(:boolean),
       [
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a is a boolean instead of a string"}
       ]},
      {one(:any), one(:string),
       [
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a is a string instead of any value"},
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a has a maximum length of 3000 instead of none"}
       ]},
      {one({:enum, [:en, :vi]}), one({:enum, [:en, :fr]}),
       [
         {:argument_narrowed, :breaking, ~s(shop price 1.0.0: argument a no longer takes "vi")},
         {:argument_widened, :compatible, ~s(shop price 1.0.0: argument a also takes "fr")}
       ]},
      {one({:enum, ["en"]}), one({:string, 2}),
       [
         {:argument_widened, :compatible,
          ~s(shop price 1.0.0: argument a is a string instead of one of "en")}
       ]},
      {one({:enum, ["english"]}), one({:string, 2}),
       [
         {:argument_narrowed, :breaking,
          ~s(shop price 1.0.0: argument a is a string instead of one of "english")}
       ]},
      {one(:string), one({:enum, ["en"]}),
       [
         {:argument_narrowed, :breaking,
          ~s(shop price 1.0.0: argument a is one of "en" instead of a string)}
       ]},
      {one({:string, format: "^a"}), one({:string, format: "^b"}),
       [{:argument_narrowed, :breaking, "shop price 1.0.0: argument a has another format"}]},
      {one({:string, format: "^a"}), one(:string),
       [{:argument_widened, :compatible, "shop price 1.0.0: argument a has no format any more"}]},
      {one(:date), one(:datetime),
       [{:argument_narrowed, :breaking, "shop price 1.0.0: argument a has another format"}]},
      {one({:list, {:string, 9}}), one({:list, {:string, 8}}),
       [
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a[] has a maximum length of 8 instead of 9"}
       ]},
      {one({:list, :num, 3}), one({:list, :num, min_items: 1, max_items: 3}),
       [
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a has a minimum number of items of 1 instead of none"}
       ]},
      {one({:map, %{"lines" => {:list, {:map, %{"qty" => :integer}}}}}),
       one({:map, %{"lines" => {:list, {:map, %{"qty" => :integer, "note" => :string}}}}}),
       [
         {:required_argument_added, :breaking,
          "shop price 1.0.0: argument a.lines[].note is new and required"}
       ]},
      {one({:map, %{"x" => :num}}), one(:map),
       [{:argument_widened, :compatible, "shop price 1.0.0: argument a is a map of any content"}]},
      {one(:map), one({:map, 1_000}),
       [
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a is no longer a map of any content"}
       ]},
      {one({:map, required: ["x"]}), one({:map, required: ["x", "y"], accept: ["x", "y"]}),
       [
         {:argument_narrowed, :breaking, "shop price 1.0.0: argument a needs the keys y"},
         {:argument_narrowed, :breaking,
          "shop price 1.0.0: argument a no longer has keys of any name"}
       ]},
      {one({:map, nested: true}), one({:map, nested: false}),
       [{:argument_narrowed, :breaking, "shop price 1.0.0: argument a no longer has maps in it"}]},
      {[response_type: :sync], [response_type: :stream],
       [
         {:response_type_changed, :breaking,
          "shop price 1.0.0 has the response type stream instead of sync"}
       ]},
      {result({:map, %{"total" => :integer}}), result({:map, %{"sum" => :integer}}),
       [
         {:result_field_removed, :breaking, "shop price 1.0.0: result total has been removed"},
         {:result_field_added, :compatible, "shop price 1.0.0: result sum is new"}
       ]},
      {result({:map, %{"total" => :integer}}),
       result({:map, %{"total" => {:integer, allow_nil?: true}}}),
       [
         {:result_field_optional, :breaking, "shop price 1.0.0: result total may be missing"},
         {:result_widened, :breaking, "shop price 1.0.0: result total may also be null"}
       ]},
      {result({:map, %{"total" => {:integer, default_value: 1}}}),
       result({:map, %{"total" => :integer}}),
       [{:result_field_required, :compatible, "shop price 1.0.0: result total is always there"}]},
      {result(:integer), result(:num),
       [
         {:result_widened, :breaking,
          "shop price 1.0.0: the result is a number instead of an integer"}
       ]},
      {result({:string, 40}), result({:string, 10}),
       [
         {:result_narrowed, :compatible,
          "shop price 1.0.0: the result has a maximum length of 10 instead of 40"}
       ]},
      {result(:string), result(nil),
       [{:result_undescribed, :breaking, "shop price 1.0.0: the result is no longer described"}]},
      {result(nil), result(:string),
       [{:result_described, :compatible, "shop price 1.0.0: the result is described"}]},
      {[check_permission: false], [check_permission: :any_authenticated],
       [
         {:permission_stricter, :breaking,
          "shop price 1.0.0 is for every user instead of everyone"}
       ]},
      {[check_permission: {:role, ["a", "b"]}], [check_permission: {:role, ["a", "c"]}],
       [
         {:permission_stricter, :breaking,
          "shop price 1.0.0 is for the roles a, c instead of the roles a, b"}
       ]},
      {[check_permission: {:role, ["a"]}], [check_permission: {:role, ["b", "a"]}],
       [
         {:permission_looser, :compatible,
          "shop price 1.0.0 is for the roles a, b instead of the roles a"}
       ]},
      {[check_permission: {:role, ["a", "b"]}], [check_permission: {:role, ["b", "a"]}], []},
      {[check_permission: {:arg, "a"}, arg_types: [{"a", :string}]],
       [check_permission: :any_authenticated, arg_types: [{"a", :string}]],
       [
         {:permission_looser, :compatible,
          "shop price 1.0.0 is for every user instead of the user in the argument a"}
       ]},
      {[check_permission: :any_authenticated], [permission_callback: {String, :length, []}],
       [
         {:permission_stricter, :breaking,
          "shop price 1.0.0 is for those whom a callback lets in instead of every user"}
       ]},
      {[idempotent: true], [idempotent: false],
       [{:idempotence_lost, :breaking, "shop price 1.0.0 may no longer be called twice"}]},
      {[idempotent: false], [idempotent: true],
       [{:idempotence_gained, :compatible, "shop price 1.0.0 may be called twice"}]},
      {[], [], []},
      {[], [deprecated: "Use another."],
       [{:deprecated, :compatible, "shop price 1.0.0 is deprecated"}]},
      {[deprecated: true], [],
       [{:deprecation_withdrawn, :compatible, "shop price 1.0.0 is no longer deprecated"}]},
      {[doc: "Old.", tags: ["a"], timeout: 1_000], [doc: "New.", tags: [], timeout: 2_000], []},
      {[at("1.0.0"), at("beta")], [at("1.0.0") ++ [disabled: true], at("beta")],
       [
         {:version_removed, :breaking, "shop price 1.0.0 has been removed"},
         {:default_version_changed, :compatible,
          "shop price is served as beta instead of 1.0.0 without a version"}
       ]}
    ]
  end

  # Of one config or of several.
  defp configs(:none), do: []
  defp configs([fields | _] = configs) when is_list(fields), do: configs
  defp configs(fields), do: [fields]

  defp none, do: :none

  test "every change is told with its severity and in a sentence" do
    assert length(pairs()) >= 40

    for {old, new, expected} <- pairs() do
      told =
        for change <- compare(old, new),
            do: {change.change, change.severity, change.message}

      assert told == expected
    end
  end

  test "every change that can be told is in the table above, and none other" do
    told =
      for {_old, _new, expected} <- pairs(),
          {change, _severity, _sentence} <- expected,
          uniq: true,
          do: change

    # A request without a version that nobody serves: only one caller's view has that.
    listed = for {change, _severity, _text} <- Comparison.changes(), do: change
    assert Enum.sort(listed -- [:default_version_removed]) == Enum.sort(told)
  end

  test "a function that is no longer served without a version is told" do
    old = describe(at("1.0.0"))

    new =
      put_in(old, ["services", Access.at(0), "functions", Access.at(0), "default_version"], nil)

    assert [
             %{
               change: :default_version_removed,
               severity: :breaking,
               function: "shop price",
               path: ""
             }
           ] = Contract.compare(old, new)

    assert Contract.compare(new, old) == []
  end

  test "the path is that of the argument or field" do
    assert [%{path: "a[]", function: "shop price 1.0.0"}] =
             compare(one({:list, {:string, 9}}), one({:list, {:string, 8}}))
  end

  describe "random types" do
    alias PhoenixGenApi.ArgumentGenerator.{Chance, Type, Value}
    alias PhoenixGenApi.{ArgumentGenerator, ArgumentHandler, Plan}
    alias PhoenixGenApi.Structs.Request

    defp breaks?(old, new) do
      Enum.any?(compare(one(Type.write(old)), one(Type.write(new))), &(&1.severity == :breaking))
    end

    defp accepted(type) do
      {:ok, plan, _config} = Plan.compile(config(one(Type.write(type))))
      plan
    end

    defp accepts?(plan, value) do
      request = %Request{request_type: "price", args: %{"a" => value}}
      match?({:ok, _arguments}, ArgumentHandler.convert(plan, request))
    end

    # A type that is nearly the same.
    defp changed({kind, options}) do
      {kind,
       options
       |> Enum.flat_map(&option/1)
       |> Enum.reject(fn {key, _value} -> key == :default_value end)}
    end

    defp option({:items, type}), do: [items: changed(type)]

    defp option({:fields, fields}),
      do: [fields: for({name, type} <- fields, not Chance.chance(8), do: {name, changed(type)})]

    defp option({:values, values}), do: Chance.pick([[values: values], moved(:values, values)])

    defp option({key, value}),
      do: Chance.pick([[], [{key, value}], [{key, value}], moved(key, value)])

    defp moved(key, n) when is_integer(n) and key not in [:min, :max],
      do: [{key, max(n + Chance.int(-1, 1), 0)}]

    defp moved(key, n) when is_number(n), do: [{key, n + Chance.int(-1, 1)}]
    defp moved(:values, values), do: [values: Enum.take_random(["asc", 1 | values], 3)]
    defp moved(key, bool) when is_boolean(bool), do: [{key, not bool}]
    defp moved(key, value), do: [{key, value}]

    test "do not differ from themselves" do
      for seed <- 1..200 do
        ArgumentGenerator.seed(seed)
        written = 3 |> Type.random() |> Type.write()
        for side <- [one(written), result(written)], do: assert(compare(side, side) == [])
      end
    end

    test "take every value that a type takes which they do not break" do
      kept =
        for seed <- 1..1_500 do
          ArgumentGenerator.seed(seed)
          old = Type.random(2)
          new = if Chance.chance(5), do: Type.random(1), else: changed(old)

          if not breaks?(old, new) do
            {before, now} = {accepted(old), accepted(new)}

            for _ <- 1..20 do
              value = old |> Value.fitting() |> JSON.encode!() |> JSON.decode!()

              assert accepts?(before, value) == false or accepts?(now, value),
                     "seed #{seed}: #{inspect(new)} does not take #{inspect(value)} of #{inspect(old)}"
            end
          end
        end

      # The test is worth something only while many changes are compatible and many are not.
      assert Enum.count(kept, &(&1 != nil)) in 300..1_200
    end
  end

  test "what is no description raises" do
    for other <- [%{}, %{"phoenix_gen_api" => "2", "services" => []}, [], nil],
        do:
          assert_raise(ArgumentError, ~r/no description/, fn ->
            Contract.compare(describe([]), other)
          end)
  end

  test "the changes in the guide are those of the code" do
    [before, rest] = @guide |> File.read!() |> String.split(@start)
    [table, rest] = String.split(rest, @stop)

    rows =
      for {change, severity, text} <- Comparison.changes(),
          do: "| `#{change}` | #{severity} | #{text} |\n"

    made = "\n| Change | Severity | What has changed |\n|---|---|---|\n#{rows}\n"

    if System.get_env("GUIDES") == "write",
      do: File.write!(@guide, [before, @start, made, @stop, rest]),
      else:
        assert(
          table == made,
          "out of date: GUIDES=write bin/mix test #{Path.relative_to_cwd(__ENV__.file)}"
        )
  end
end
