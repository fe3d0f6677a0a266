defmodule PhoenixGenApi.SchedulerTest do
  # Hostile and heavy input while the VM reports every process that holds a scheduler for
  # 10 ms or longer.
  use ExUnit.Case, async: false

  import PhoenixGenApi.LongSchedule
  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.{ArgumentHandler, ConfigDb, Gateway, Native, NodeSelector, Plan}
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @moduletag :capture_log
  @moduletag timeout: 120_000

  setup do
    ConfigDb.clear()
    on_exit(&ConfigDb.clear/0)
  end

  test "a function that does hold a scheduler is reported" do
    # Nothing of ours does; this one counts the words of a term in one go, here for some 100 ms.
    counting = fn -> :erts_debug.flat_size(List.duplicate(Enum.to_list(1..10_000), 5_000)) end
    # A machine that takes the scheduler away meanwhile hides it.
    assert Enum.any?(1..40, fn _ -> reports(counting) != [] end)
  end

  defp config(fields) do
    struct!(
      %FunConfig{
        service: "load",
        request_type: "t",
        nodes: :local,
        mfa: {String, :upcase, ["x"]}
      },
      fields
    )
  end

  defp request(fields),
    do: struct!(%Request{request_id: "r", request_type: "t", service: "load"}, fields)

  defp convert(types, args) do
    {:ok, plan, _} = Plan.compile(config(arg_types: types, arg_orders: :map))
    request = request(args: args)
    fn -> ArgumentHandler.convert(plan, request) end
  end

  describe "arguments" do
    # What is left to a dirty scheduler is left to it in time. The quickest of 100 runs: a
    # busy machine adds to the others, for some milliseconds to all.
    test "hold a normal scheduler for less than a millisecond" do
      record = {:map, %{"x" => :integer, "at" => :datetime}}
      records = for x <- 1..1_000, do: %{"x" => x, "at" => "2026-01-01T00:00:00+02:00"}
      strings = fn count -> for n <- 1..count, do: "s#{n}" end

      cases = [
        {:any, Enum.to_list(1..9_900)},
        {:any, Enum.to_list(1..100_000)},
        {:any, strings.(4_900) ++ [{1}]},
        {:any, Map.new(1..4_900, &{"k#{&1}", 1})},
        {:any, Map.new(1..100_000, &{"k#{&1}", 1})},
        {:list, Enum.to_list(1..500_000)},
        {[type: :string, max_length: 100_000], String.duplicate("é🙂", 52_000)},
        {[type: :string, max_length: 2_000_000], String.duplicate("ab", 500_000) <> <<255>>},
        {{:list, record}, records},
        {{:list, record}, tl(records) ++ [%{"x" => 1, "at" => 1}]},
        {{:list, record}, List.duplicate(hd(records), 120) ++ [%{"x" => 1, "at" => 1}]},
        {:float, Integer.pow(2, 3_000_000)}
      ]

      calls = for {type, value} <- cases, do: {%{"a" => type}, %{"a" => value}}
      undeclared = for n <- [4_900, 14_000, 100_000], do: {nil, Map.new(1..n, &{"k#{&1}", 1})}

      for {types, args} <- calls ++ undeclared do
        {:ok, plan, _} = Plan.compile(config(arg_types: types, arg_orders: :map))
        check = fn -> Native.argument_handler_convert(elem(plan, 1), args) end
        took = for _ <- 1..100, do: check |> :timer.tc(:nanosecond) |> elem(0)
        assert Enum.min(took) < 1_000_000, "#{inspect(types)} took #{Enum.min(took)} ns"
      end
    end

    test "of a megabyte of text, with and without a format" do
      text = String.duplicate("ab", 500_000)
      wide = String.duplicate("é🙂", 170_000)

      for {name, type, value} <- [
            {"ascii", [type: :string, max_length: 2_000_000], text},
            {"wide", [type: :string, max_length: 2_000_000], wide},
            {"invalid", [type: :string, max_length: 2_000_000], text <> <<255>>},
            {"too long", :string, text},
            {"in a list", :list_string, [text]},
            {"alternation", [type: :string, max_length: 2_000_000, format: "(a|b|ab)*c$"], text},
            {"nested", [type: :string, max_length: 2_000_000, format: "^((a+)+b?)*$"], text},
            {"case", [type: :string, max_length: 2_000_000, format: ~r/(?:\w+\s?)*!$/iu], wide},
            {"uuid", :uuid, text},
            {"datetime", :datetime, text},
            {"enum", {:enum, ["a"]}, text},
            {"any", :any, text},
            {"integer", :integer, text}
          ] do
        assert_yields(name, convert(%{"a" => type}, %{"a" => value}))
      end
    end

    test "of formats on the longest default string" do
      text = String.duplicate("ab", 1_500)

      for format <- [
            "(a|b|ab)*c$",
            "^(([a-b]+)*)+$",
            "(.*)(.*)(.*)(.*)x",
            "(a{0,50}){0,50}c",
            "\\b(\\w+\\W*){1,100}$"
          ] do
        config = config(arg_types: %{"a" => [type: :string, format: format]})

        with {:ok, plan, _} <- Plan.compile(config) do
          request = request(args: %{"a" => text})
          assert_yields(format, fn -> ArgumentHandler.convert(plan, request) end)
        end
      end
    end

    test "of 100,000 keys or items" do
      map = Map.new(1..100_000, &{"key#{&1}", &1})
      deep = Enum.reduce(1..100_000, 1, fn _, value -> [value] end)
      words = for n <- 1..99_000, do: "word #{n}"
      maps = for n <- 1..30_000, do: %{"n" => n}

      for {name, types, args} <- [
            {"undeclared", %{"a" => :any}, map},
            {"any map", %{"a" => :any}, %{"a" => map}},
            {"map", %{"a" => :map}, %{"a" => map}},
            {"flat map", %{"a" => {:map, 1_000_000}}, %{"a" => map}},
            {"schema", %{"a" => {:map, %{"x" => :num}}}, %{"a" => map}},
            {"nested lists", %{"a" => :any}, %{"a" => deep}},
            {"numbers", %{"a" => {:list_num, 1_000_000}}, %{"a" => Enum.to_list(1..99_000)}},
            {"words", %{"a" => {:list_string, 1_000_000}}, %{"a" => words}},
            {"words with a format", %{"a" => {:list, [type: :string, format: "x$"], 1_000_000}},
             %{"a" => words}},
            {"converted", %{"a" => {:list, :float, 1_000_000}},
             %{"a" => Enum.to_list(1..99_000)}},
            {"maps", %{"a" => {:list, {:map, %{"n" => :float}}, 1_000_000}}, %{"a" => maps}},
            {"improper", %{"a" => :any}, %{"a" => Enum.to_list(1..99_000) ++ :improper}},
            {"million", %{"a" => :any}, %{"a" => Enum.to_list(1..1_000_000)}}
          ] do
        assert_yields(name, convert(types, args))
      end
    end

    test "of schemas as large as they may be" do
      types = for n <- 1..9_999, do: {"field#{n}", [type: :string, format: "^[a-z]+$"]}
      config = config(arg_types: Enum.take(types, 1_000))
      assert_yields("formats", fn -> {:ok, _, _} = Plan.compile(config) end)

      plain = for n <- 1..9_999, do: {"field#{n}", :integer}
      config = config(arg_types: plain)
      assert_yields("types", fn -> {:ok, _, _} = Plan.compile(config) end)
      {:ok, plan, _} = Plan.compile(config)
      request = request(args: Map.new(plain, fn {name, _} -> {name, 1} end))
      assert_yields("convert", fn -> {:ok, _} = ArgumentHandler.convert(plan, request) end)
      enum = for n <- 1..50_000, do: "value#{n}"
      assert_yields("enum", convert(%{"a" => {:enum, enum}}, %{"a" => "none"}))
    end
  end

  describe "100,000 nodes" do
    test "are planned, ordered, chosen from and listed" do
      nodes = for n <- 1..100_000, do: :"n#{n}@scheduler"
      names = Enum.map(nodes, &to_string/1)
      request = request(user_id: "ann")

      for mode <-
            [:random, :hash, :round_robin, :least_busy, {:sticky, "user_id"}] ++
              [{:weighted, %{hd(nodes) => 5}}] do
        config = config(nodes: nodes, choose_node_mode: mode)
        assert_yields("plan #{inspect(mode)}", fn -> {:ok, _, _} = Plan.compile(config) end)
        {:ok, plan, _} = Plan.compile(config)

        assert_yields("pick #{inspect(mode)}", fn ->
          {:ok, _, _} = NodeSelector.pick(plan, request)
        end)

        strings = %{config | nodes: names}

        assert_yields("order #{inspect(mode)}", fn ->
          {:ok, [_ | _]} = NodeSelector.get_nodes(strings, request)
        end)
      end

      assert_yields("statuses", fn -> NodeSelector.node_statuses() end)
      assert_yields("sweep", fn -> NodeSelector.cleanup_sticky_table() end)
      # Another one, as the gateway's tries to connect those that are down.
      selector = Native.node_selector_new(3_600_000, 100_000)
      route = Native.node_selector_route(selector, {"s", "k", "1"}, names, :random)
      for name <- names, do: Native.node_selector_mark(selector, name, :down)

      assert_yields("none up", fn ->
        [_ | _] = Native.node_selector_unavailable(route)
      end)
    end

    test "as 100,000 sticky values are remembered and dropped" do
      config =
        config(nodes: [:n1@scheduler, :n2@scheduler], choose_node_mode: {:sticky, "user_id"})

      {:ok, plan, _} = Plan.compile(config)

      pick = &({:ok, _, _} = NodeSelector.pick(plan, request(user_id: "user#{&1}")))
      for n <- 1..99_000, do: pick.(n)
      # From the middle of this on each one that is new drops another.
      assert_yields("remember", fn -> for n <- 99_000..101_000, do: pick.(n) end)

      selector = Gateway.handle!(:node_selector)
      on_exit(fn -> Native.node_selector_limit(selector, 3_600_000, 100_000) end)
      Native.node_selector_limit(selector, 0, 100_000)
      assert_yields("drop", fn -> NodeSelector.cleanup_sticky_table() end)
      assert {0, _} = Native.node_selector_size(selector)
    end
  end

  describe "10,000 configs" do
    defp batch(version) do
      for n <- 1..10_000 do
        config(
          request_type: "type#{n}",
          version: version,
          nodes: [:n1@scheduler, :n2@scheduler],
          arg_types: %{"id" => :string}
        )
      end
    end

    test "are stored in one batch, listed, counted, replaced and cleared" do
      first = batch("1.0.0")
      second = batch("2.0.0")
      pulled = batch("3.0.0")
      assert_yields("batch", fn -> {:ok, 10_000} = ConfigDb.batch_add(first) end)
      assert_yields("second batch", fn -> {:ok, 10_000} = ConfigDb.batch_add(second) end)
      assert_yields("list", fn -> %{"load" => _} = ConfigDb.get_all_functions() end)
      assert_yields("service", fn -> ConfigDb.get_functions_from_services("load") end)
      assert_yields("status", fn -> %{count: 20_000} = ConfigDb.status() end)
      assert_yields("one more", fn -> :ok = ConfigDb.add(hd(first)) end)
      assert_yields("switch", fn -> ConfigDb.disable("load", "type1", "1.0.0") end)
      assert_yields("delete", fn -> ConfigDb.delete("load", "type2", "1.0.0") end)

      assert_yields("replace", fn ->
        {:ok, _, []} = ConfigDb.replace_service("load", pulled, :pull)
      end)

      assert_yields("clear", fn -> :ok = ConfigDb.clear() end)
      assert ConfigDb.count() == 0
    end

    test "are stored without a reader noticing" do
      plans =
        for {:ok, plan(handle: plan), _} <- Enum.map(batch("1.0.0"), &Plan.compile/1), do: plan

      :ok = ConfigDb.add(config(request_type: "read"))

      writer = fn ->
        receive do
          {:write, reader} ->
            :ok = Native.config_db_store(Gateway.handle!(:config_db), plans, :direct)
            send(reader, :written)
        end
      end

      # All the time, and for a moment each time: a busy machine takes the scheduler away from a
      # process that never rests.
      read = fn read ->
        for _ <- 1..20, do: {:ok, _} = ConfigDb.fetch("load", "read", nil)
        true = ConfigDb.count() in [1, 10_001]

        receive do
          :written -> :ok
        after
          1 -> read.(read)
        end
      end

      reading = fn writer ->
        reader = spawn_link(fn -> read.(read) end)
        send(writer, {:write, self()})
        read.(read)
        send(reader, :written)
      end

      assert_yields("readers", reading, before: fn -> spawn_link(writer) end)
      assert ConfigDb.count() == 10_001
    end

    test "of versions of one function are ordered and resolved" do
      batch = for n <- 1..10_000, do: config(version: "1.#{n}.0")
      assert_yields("batch", fn -> {:ok, 10_000} = ConfigDb.batch_add(batch) end)

      assert_yields("latest", fn ->
        {:ok, %{version: "1.10000.0"}} = ConfigDb.get_latest("load", "t")
      end)

      assert_yields("fetch", fn -> {:ok, _} = ConfigDb.fetch("load", "t", "1.5.0") end)

      assert_yields("unknown", fn ->
        {:error, :not_found} = ConfigDb.fetch("load", "t", "3.0.0")
      end)

      assert_yields("origin", fn -> ConfigDb.origin("load", "t", "1.9999.0") end)
      assert_yields("delete", fn -> ConfigDb.delete("load", "t", "1.1.0") end)
    end
  end

  test "huge terms inside a config are stored and read" do
    huge = Map.new(1..400_000, &{&1, Integer.to_string(&1)})
    config = config(mfa: {Map, :get, [huge]})
    assert_yields("store", fn -> :ok = ConfigDb.add(config) end)
    {:ok, plan} = ConfigDb.fetch("load", "t", nil)
    assert_yields("fetch", fn -> {:ok, _} = ConfigDb.fetch("load", "t", nil) end)
    assert_yields("config", fn -> %FunConfig{} = Plan.config(plan) end)
    assert {:ok, %{mfa: {Map, :get, [^huge]}}} = ConfigDb.get("load", "t")
    assert {:ok, %{mfa: {Map, :get, [^huge]}}} = ConfigDb.get_latest("load", "t")
    assert {:ok, %{mfa: {Map, :get, [^huge]}}} = ConfigDb.resolve("load", "t", nil)
  end

  describe "copies of more than 10,000 words" do
    # Whether an argument of that size is left to a dirty scheduler.
    defp left?(huge) do
      :ok = ConfigDb.add(config(mfa: {Map, :get, [huge]}))
      table = Gateway.handle!(:config_db)
      outcome = Native.config_db_fetch(table, "load", "t", nil)
      {:ok, plan(arguments: [^huge], handle: plan)} = ConfigDb.fetch("load", "t", nil)
      {outcome == :out_of_budget, Native.plan_config(plan) == :out_of_budget}
    end

    test "are left to a dirty scheduler, whatever they are made of" do
      texts = for n <- 1..2_000, do: "a text of some length #{n}"
      nested = Enum.reduce(1..6_000, nil, fn n, inner -> {n, inner} end)

      for huge <- [
            Enum.to_list(1..6_000),
            List.to_tuple(Enum.to_list(1..11_000)),
            Map.new(1..6_000, &{&1, &1}),
            texts,
            nested,
            Enum.reduce(1..6_000, nil, fn n, inner -> [inner | n] end),
            2 ** 1_000_000,
            fn -> texts end
          ] do
        assert left?(huge) == {true, true}
      end

      for small <- [
            Enum.to_list(1..3_000),
            Map.new(1..500, &{&1, &1}),
            List.duplicate(String.duplicate("long", 1_000_000), 500),
            :atom,
            fn -> :ok end
          ] do
        assert left?(small) == {false, false}
      end
    end

    test "of default values and of the values of an enum are left to one, too" do
      items = Enum.to_list(1..20_000)
      type = [type: :any, default_value: items]

      for {type, args, expected} <- [
            {type, %{}, {:ok, [%{"a" => items}]}},
            {{:enum, items}, %{"a" => 0}, :error}
          ] do
        {:ok, plan, _} = Plan.compile(config(arg_types: %{"a" => type}, arg_orders: :map))
        plan(handle: handle) = plan
        assert Native.argument_handler_convert(handle, args) == :out_of_budget
        converted = ArgumentHandler.convert(plan, request(args: args))
        assert converted == expected or elem(converted, 0) == expected
      end
    end
  end
end
