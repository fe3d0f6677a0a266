defmodule PhoenixGenApi.Structs.FunConfigTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.Test.LogLines

  doctest FunConfig

  @moduletag :capture_log

  @mfa {String, :upcase, []}
  @order_required "arg_orders is required: arg_types is a map with 2 or more entries and a map " <>
                    "has no order; list the names in arg_orders, set arg_orders to :map, or write " <>
                    "arg_types as a list of {name, type} pairs"
  @bad_orders "arg_orders must be nil, :map, or a list with every arg_types name exactly once"
  @bad_types "arg_types must be nil, a map, or a list of {name, type} pairs"
  @bad_names "arg_types names must be unique non-empty strings"

  # Section 1.1 of the contract: {field, accepted, rejected, error}, in its order.
  defp table do
    [
      {:request_type, ["t", "naïve", "a b", String.duplicate("x", 5_000)],
       [nil, "", :t, ~c"t", 1, <<255>>, ["t"]], "request_type must be a non-empty string"},
      {:service, ["s", :s, Some.Module], ["", :"", 1, ~c"s", {:s}, <<255>>, %{}],
       "service must be an atom or a non-empty string"},
      {:nodes,
       [
         :local,
         :service,
         [:a@h],
         ["a@h"],
         [:a@h, "b@h", :a@h],
         {Mod, :f, []},
         {:mod, :f, [1, %{}]}
       ],
       [
         nil,
         [],
         [nil],
         [:a@h, nil],
         [""],
         [<<255>>],
         [1],
         [:a@h | :b@h],
         "a@h",
         :a@h,
         :services,
         {Mod, :f},
         {Mod, :f, 1},
         {Mod, "f", []},
         {Mod, :f, [1 | 2]},
         {"Mod", :f, []},
         %{},
         1
       ], "nodes must be a valid list, MFA tuple, :local, or :service"},
      {:choose_node_mode,
       [
         :random,
         :hash,
         {:hash, "k"},
         {:hash, :k},
         :round_robin,
         {:sticky, "k"},
         {:sticky, :k},
         :least_busy,
         {:weighted, %{a@h: 0}},
         {:weighted, [a@h: 1_000_000]},
         {:weighted, %{"a@h" => 3}},
         {Mod, :f, []},
         {Mod, :f, [:x]}
       ],
       [
         nil,
         :sticky,
         :weighted,
         :local,
         "random",
         {:hash, nil},
         {:hash, ""},
         {:hash, 1},
         {:sticky, ""},
         {:sticky, nil},
         {:weighted, nil},
         {:weighted, %{a@h: -1}},
         {:weighted, %{a@h: 1_000_001}},
         {:weighted, %{a@h: 1.0}},
         {:weighted, [:a@h]},
         {:weighted, [{:a@h, 1} | :b]},
         {:weighted, %{1 => 1}},
         {:other, "k"},
         {Mod, :f},
         {Mod, :f, :x},
         []
       ],
       "choose_node_mode must be :random, :hash, {:hash, key}, :round_robin, {:sticky, key}, " <>
         ":least_busy, {:weighted, weights}, or {module, function, args}"},
      {:timeout, [100, 300_000, :infinity],
       [nil, 99, 300_001, 0, -1, 100.0, "100", :forever, 10 ** 30],
       "timeout must be a positive integer between 100 and 300000, or :infinity"},
      {:mfa, [{Mod, :f, []}, {:mod, :f, [nil]}],
       [
         nil,
         {Mod, :f},
         {Mod, :f, 0},
         {Mod, "f", []},
         {"Mod", :f, []},
         {Mod, :f, [1 | 2]},
         &String.upcase/1,
         Mod
       ], "mfa must be a valid {module, function, args} tuple"},
      {:response_type, [:sync, :async, :stream, :none], [nil, "sync", :other, 1],
       "response_type must be :sync, :async, :stream, or :none"},
      {:check_permission,
       [false, :any_authenticated, {:arg, "u"}, {:arg, :u}, {:role, ["a", :b]}],
       [nil, true, :admin, {:arg, nil}, {:arg, ""}, {:arg, 1}, {:role, "a"}, {:role, nil}] ++
         [{:role, [1]}, {:role, ["a" | "b"]}, {:role, [nil]}, {Mod, :f, []}],
       "check_permission must be false, :any_authenticated, {:arg, arg_name}, or {:role, roles}"},
      {:permission_callback, [nil, {Mod, :f, []}],
       [false, {Mod, :f}, {Mod, :f, nil}, "f", fn -> true end, []],
       "permission_callback must be nil or a valid {module, function, args} tuple"},
      {:request_info, [true, false], [nil, "true", 1], "request_info must be a boolean"},
      {:version, [nil, "1.0.0", "2024-05", "x"], ["", 1, 1.0, :v1, <<255>>, ~c"1.0.0"],
       "version must be a valid version string (e.g., '1.0.0')"},
      {:disabled, [true, false], [nil, "true", 0], "disabled must be a boolean"},
      {:retry, [nil, 1, 1.9, 100, 100.9, {:same_node, 1}, {:all_nodes, 100}],
       [
         101,
         10 ** 20,
         1.0e300,
         {:same_node, 101},
         {:all_nodes, 1.0e300},
         0,
         0.5,
         -1,
         "3",
         true,
         {:same_node, 0},
         {:all_nodes, nil},
         {:other, 1},
         {:same_node},
         []
       ], "retry must be nil, a positive number, {:same_node, number}, or {:all_nodes, number}"},
      {:retry_on, [[], [:timeout], [:error_result, :exception, :timeout, :node_down]],
       [nil, :timeout, [:other], [:timeout | :exception], ["timeout"]],
       "retry_on must be a list of :error_result, :exception, :timeout, :node_down"},
      {:before_execute, [nil, {Mod, :f}, {Mod, :f, []}, {Mod, :f, [1]}],
       [false, Mod, {Mod}, {Mod, "f"}, {Mod, :f, 1}, {Mod, :f, [1 | 2]}, fn -> 1 end],
       "before_execute must be nil or a valid {module, function} or {module, function, args} tuple"},
      {:after_execute, [nil, {Mod, :f}, {Mod, :f, [1]}],
       [false, Mod, {Mod, :f, %{}}, {"Mod", :f}],
       "after_execute must be nil or a valid {module, function} or {module, function, args} tuple"},
      {:hook_timeout, [1, 5_000, 300_000], [300_001, 10 ** 12, nil, 0, -1, 1.5, :infinity, "5"],
       "hook_timeout must be a positive integer"},
      {:deadline, [nil, 100, 2_500, 3_600_000],
       [99, 3_600_001, 0, -100, 10 ** 12, 100.0, :infinity, "500", false, [500]],
       "deadline must be nil or an integer between 100 and 3600000"},
      {:doc, [nil, "", "Finds a book.", String.duplicate("é", 4_000)],
       [:text, <<255>>, 1, ["a"], String.duplicate("é", 4_001), String.duplicate("x", 10 ** 6)],
       "doc must be nil or a string of at most 4000 characters"},
      {:deprecated, [true, false, "Use find 2.0.0."],
       [nil, "", :yes, 1, <<255>>, String.duplicate("x", 4_001)],
       "deprecated must be a boolean or a non-empty string of at most 4000 characters"},
      {:idempotent, [true, false], [nil, "true", 1], "idempotent must be a boolean"},
      {:tags, [[], ["a", "é b"]], [nil, "a", [:a], [""], [nil], ["a" | "b"], [<<255>>], %{}],
       "tags must be a list of non-empty strings"}
    ]
  end

  defp config(fields \\ []) do
    struct!(%FunConfig{request_type: "t", service: "s", nodes: :local, mfa: @mfa}, fields)
  end

  defp errors(config) do
    case FunConfig.validate_with_details(config) do
      {:ok, ^config} -> []
      {:error, errors} -> errors
    end
  end

  # What is stored for this config.
  defp stored(fields) do
    service = "fun_config_test_#{System.unique_integer([:positive])}"
    assert :ok = ConfigDb.add(config([service: service] ++ fields))
    {:ok, stored} = ConfigDb.get(service, "t", fields[:version])
    ConfigDb.delete(service, "t", fields[:version])
    stored
  end

  describe "fields" do
    test "have the defaults of the contract" do
      assert Map.from_struct(%FunConfig{}) == %{
               request_type: nil,
               service: nil,
               nodes: nil,
               choose_node_mode: :random,
               timeout: 5_000,
               mfa: nil,
               arg_types: nil,
               arg_orders: nil,
               response_type: :sync,
               check_permission: false,
               permission_callback: nil,
               request_info: false,
               version: "0.0.0",
               disabled: false,
               retry: nil,
               retry_on: [:error_result, :exception, :node_down],
               before_execute: nil,
               after_execute: nil,
               hook_timeout: 5_000,
               log: nil,
               max_result_bytes: nil,
               deadline: nil,
               doc: nil,
               result: nil,
               deprecated: false,
               idempotent: false,
               tags: []
             }
    end

    test "accept what the contract lists" do
      for {field, accepted, _rejected, _error} <- table(), value <- accepted do
        assert errors(config([{field, value}])) == [], "#{field}: #{inspect(value, limit: 5)}"
      end
    end

    test "reject anything else with exactly the contract's sentence" do
      for {field, _accepted, rejected, error} <- table(), value <- rejected do
        assert errors(config([{field, value}])) == [error], "#{field}: #{inspect(value)}"
      end
    end

    test "without a service have a sentence of their own" do
      assert errors(config(service: nil)) == ["service must not be nil"]
    end

    test "report their errors in the order of the fields" do
      broken = for {field, _accepted, [value | _], _error} <- table(), do: {field, value}
      # The first rejected values of these two are nil, which has another sentence or is right.
      all = config(broken ++ [arg_types: 5, service: ""])
      {before, rest} = Enum.split_while(table(), &(elem(&1, 0) != :response_type))
      expected = Enum.map(before, &elem(&1, 3)) ++ [@bad_types] ++ Enum.map(rest, &elem(&1, 3))
      assert errors(all) == expected
    end

    test "never make validation raise, whatever they hold, and it agrees with storing" do
      service = "fun_config_test_hostile"

      for field <- Map.keys(Map.from_struct(%FunConfig{})), value <- hostile() do
        config = config([{:service, service}, {field, value}])
        verdict = FunConfig.validate_with_details(config)
        assert FunConfig.valid?(config) == (verdict == {:ok, config})

        case {verdict, ConfigDb.add(config)} do
          {{:ok, _}, :ok} -> :ok
          {{:ok, _}, {:error, {:mfa_not_allowed, _}}} -> :ok
          {{:error, [error | _]}, {:error, :invalid_config}} -> assert String.valid?(error)
          disagreement -> flunk("#{field}: #{inspect(value)}: #{inspect(disagreement)}")
        end
      end
    after
      for {service, types} <- ConfigDb.get_functions_from_services(hostile_services()),
          {type, versions} <- types,
          version <- versions,
          do: ConfigDb.delete(service, type, version)
    end
  end

  defp hostile_services,
    do: ["fun_config_test_hostile", "text" | Enum.filter(hostile(), &is_atom/1)]

  defp hostile do
    [
      nil,
      true,
      false,
      :atom,
      :"",
      "",
      "text",
      <<255>>,
      <<1::3>>,
      0,
      -1,
      1,
      1.5,
      1.0e308,
      10 ** 400,
      [],
      [1],
      [nil],
      [""],
      [[]],
      [:a | :b],
      [{"a", :string} | :b],
      [{"a", :string}],
      [{"a", :no_type}],
      [a: 1],
      {},
      {nil},
      {:a, :b},
      {nil, nil},
      {nil, nil, nil},
      {nil, nil, []},
      {:a, :b, []},
      {:a, :b, [1 | 2]},
      {:hash, %{}},
      {:sticky, self()},
      {:weighted, %{}},
      {:weighted, ~D[2026-01-01]},
      {:weighted, [{nil, 1}]},
      {:role, []},
      {:arg, {}},
      {:same_node, 10 ** 400},
      %{},
      %{a: 1},
      %{"a" => :string, "b" => :string},
      %{1 => 2},
      ~D[2026-01-01],
      MapSet.new([1]),
      1..2,
      ~r/x/,
      self(),
      make_ref(),
      &String.upcase/1,
      String.duplicate("é", 200_000),
      Enum.to_list(1..5_000)
    ]
  end

  describe "arg_types and arg_orders" do
    test "have the contract's sentences, one for both" do
      ab = %{"a" => :string, "b" => :string}

      for {types, orders, error} <- [
            {5, nil, @bad_types},
            {:map, nil, @bad_types},
            {"a", nil, @bad_types},
            {[:a], nil, @bad_types},
            {[{"a", :string} | :b], nil, @bad_types},
            {~D[2026-01-01], nil, @bad_types},
            {%{"" => :string}, nil, @bad_names},
            {%{true: :string}, nil, @bad_names},
            {%{1 => :string}, nil, @bad_names},
            {[{"a", :string}, {"a", :num}], nil, @bad_names},
            {ab, nil, @order_required},
            {ab, [], @order_required},
            {ab, ["a"], @bad_orders},
            {ab, ["a", "b", "b"], @bad_orders},
            {ab, ["a", "c"], @bad_orders},
            {ab, [:a, :c], @bad_orders},
            {ab, :list, @bad_orders},
            {ab, ["a" | "b"], @bad_orders},
            {nil, ["a"], @bad_orders},
            {%{"a" => {:integer, default_value: "x"}}, nil,
             "arg_types has an invalid default_value for \"a\""}
          ] do
        assert errors(config(arg_types: types, arg_orders: orders)) == [error],
               inspect({types, orders})
      end
    end

    test "name the path of a field with an invalid type, and the type" do
      nested = %{"order" => {:map, %{"lines" => {:list, :strin}}}}
      assert [error] = errors(config(arg_types: nested))
      assert error =~ ~r/^arg_types has an invalid type for "order\.lines\S*": /

      assert errors(config(arg_types: %{"age" => :interger})) ==
               ["arg_types has an invalid type for \"age\": :interger"]
    end

    test "refuse a format that no linear engine runs" do
      for pattern <- ["(a)\\1", "(?=a)b", ~r/(?<!a)b/] do
        assert [error] = errors(config(arg_types: %{"code" => [type: :string, format: pattern]}))
        assert error =~ ~r/^arg_types has an unsupported format for "code": ./
      end
    end

    test "are limited in depth and number" do
      deep = Enum.reduce(1..40, :string, fn _, type -> {:list, type} end)
      assert errors(config(arg_types: %{"a" => deep})) == ["arg_types nesting exceeds 32 levels"]

      wide = for n <- 1..10_001, do: {"a#{n}", :string}
      assert errors(config(arg_types: wide)) == ["arg_types exceeds 10000 types"]
      assert errors(config(arg_types: tl(wide))) == []
    end
  end

  describe "result" do
    test "takes every spelling of an argument type" do
      for type <- [
            nil,
            :any,
            {:string, 40},
            [type: :integer, min: 0, allow_nil?: true],
            {:list, {:map, %{"qty" => :integer}}},
            {:map, %{"item" => :string, "total" => {:integer, min: 0}}}
          ] do
        assert errors(config(result: type)) == []
        assert stored(result: type).result == type
      end
    end

    test "has the sentences of arguments, with the path of the field" do
      for {type, error} <- [
            {:strin, "result has an invalid type for \"result\": :strin"},
            {false, "result has an invalid type for \"result\": false"},
            {{:map, %{"lines" => {:list, {:map, %{"qty" => 5}}}}},
             "result has an invalid type for \"result.lines[].qty\": 5"},
            {{:integer, default_value: "x"},
             "result has an invalid default_value for \"result\""},
            {{:string, format: 5},
             "result has an invalid type for \"result\": {:string, [format: 5]}"},
            {Enum.reduce(1..40, :string, fn _, type -> {:list, type} end),
             "result nesting exceeds 32 levels"}
          ] do
        assert errors(config(result: type)) == [error]
      end
    end

    test "ignores an unknown option with one warning" do
      unknown = config(result: {:num, maximum: 1})
      assert [line] = LogLines.of_caller(fn -> assert errors(unknown) == [] end)
      assert line =~ "s t: result ignores unknown options [:maximum] of \"result\""
    end
  end

  describe "a stored config" do
    test "has its service as a string and a version" do
      assert %{service: "fun_config_test_" <> _, version: "0.0.0"} = stored(version: nil)

      assert :ok = ConfigDb.add(config(service: :fun_config_test_atom))
      assert {:ok, %{service: "fun_config_test_atom"}} = ConfigDb.get(:fun_config_test_atom, "t")
      assert {:ok, _} = ConfigDb.get("fun_config_test_atom", "t", "0.0.0")
      ConfigDb.delete("fun_config_test_atom", "t")
    end

    test "has its nodes as atoms" do
      assert stored(nodes: ["n1@h", :n2@h, "n1@h"]).nodes == [:n1@h, :n2@h, :n1@h]
      assert stored(nodes: {Mod, :f, ["a@h"]}).nodes == {Mod, :f, ["a@h"]}
      assert stored(nodes: :local).nodes == :local
      assert stored(nodes: :service).nodes == :service
    end

    test "has its retry in the long form" do
      assert stored(retry: 3).retry == {:all_nodes, 3}
      assert stored(retry: 2.9).retry == {:all_nodes, 2}
      assert stored(retry: {:same_node, 2}).retry == {:same_node, 2}
      assert stored(retry: nil).retry == nil
    end

    test "has ordered arg_types as a map and their order" do
      pairs = [{"b", :string}, {"a", :num}]

      for orders <- [nil, []] do
        assert %{arg_types: %{"a" => :num, "b" => :string}, arg_orders: ["b", "a"]} =
                 stored(arg_types: pairs, arg_orders: orders)
      end

      assert stored(arg_types: pairs, arg_orders: ["a", "b"]).arg_orders == ["a", "b"]
      assert stored(arg_types: pairs, arg_orders: :map).arg_orders == :map
    end

    test "has an order for no type and for one type" do
      for none <- [nil, %{}, []], orders <- [nil, []] do
        assert stored(arg_types: none, arg_orders: orders).arg_orders == []
      end

      assert stored(arg_types: %{"a" => :num}, arg_orders: []).arg_orders == ["a"]
      assert stored(arg_types: %{"a" => :num}, arg_orders: nil).arg_orders == ["a"]
      assert stored(arg_types: %{"a" => :num}, arg_orders: :map).arg_orders == :map
    end

    test "has roles, argument names and routing keys as strings" do
      assert stored(check_permission: {:role, [:admin, "ops"]}).check_permission ==
               {:role, ["admin", "ops"]}

      assert stored(check_permission: {:arg, :user_id}).check_permission == {:arg, "user_id"}
      assert stored(choose_node_mode: {:hash, :user_id}).choose_node_mode == {:hash, "user_id"}
      assert stored(choose_node_mode: {:sticky, :k}).choose_node_mode == {:sticky, "k"}
    end

    test "keeps everything else as it was given" do
      fields = [
        timeout: :infinity,
        response_type: :none,
        request_info: true,
        retry_on: [:timeout],
        before_execute: {Mod, :f},
        after_execute: {Mod, :f, [self()]},
        permission_callback: {Mod, :f, [%{"k" => 1.5}]},
        hook_timeout: 1,
        doc: "Changes case.",
        result: [type: :string, allow_nil?: true],
        deprecated: "Use another one.",
        idempotent: true,
        tags: ["text"],
        version: "not semantic"
      ]

      assert Map.take(stored(fields), Keyword.keys(fields)) == Map.new(fields)
    end
  end

  describe "the functions" do
    test "validate_with_details returns the struct as it was given" do
      given = config(service: :s, version: nil, nodes: ["a@h"], retry: 3)
      assert FunConfig.validate_with_details(given) == {:ok, given}
    end

    test "valid? logs every error" do
      invalid = config(timeout: 1, request_info: "yes")
      lines = LogLines.of_caller(fn -> refute FunConfig.valid?(invalid) end)
      assert length(lines) == 2
      assert Enum.any?(lines, &(&1 =~ "timeout must be a positive integer"))
      assert Enum.any?(lines, &(&1 =~ "request_info must be a boolean"))
      assert LogLines.of_caller(fn -> assert FunConfig.valid?(config()) end) == []
    end

    test "an unknown type option is ignored with one warning" do
      unknown = config(arg_types: %{"a" => {:num, maximum: 1}})
      assert [line] = LogLines.of_caller(fn -> assert errors(unknown) == [] end)
      assert line =~ "maximum"
    end

    test "normalize_retry gives the long form or nil" do
      for {retry, expected} <- [
            {nil, nil},
            {1, {:all_nodes, 1}},
            {3.99, {:all_nodes, 3}},
            {{:same_node, 2}, {:same_node, 2}},
            {{:all_nodes, 2}, {:all_nodes, 2}}
          ] do
        assert FunConfig.normalize_retry(retry) == expected
      end
    end

    test "version and local_service? read the config" do
      assert FunConfig.version(config(version: nil)) == "0.0.0"
      assert FunConfig.version(config(version: "1.2.3")) == "1.2.3"

      for {nodes, local?} <- [
            {:local, true},
            {[:a@h], false},
            {{Mod, :f, []}, false},
            {:service, false},
            {nil, false}
          ] do
        assert FunConfig.local_service?(config(nodes: nodes)) == local?
        assert FunConfig.is_local_service?(config(nodes: nodes)) == local?
      end
    end

    test "get_node, convert_args! and check_permission! delegate" do
      config = config(arg_types: %{"a" => :integer}, check_permission: {:arg, "a"})
      request = %Request{request_id: "1", request_type: "t", service: "s", args: %{"a" => 1}}

      assert FunConfig.get_node(config, request) == {:ok, node()}
      assert FunConfig.convert_args!(config, request) == [1]

      assert_raise PhoenixGenApi.Permission.PermissionDenied, fn ->
        FunConfig.check_permission!(request, config)
      end
    end
  end
end
