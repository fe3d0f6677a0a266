defmodule PhoenixGenApi.NativeTest do
  # Measures the memory of the whole VM.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, Gateway, Native, NativeArguments, Plan}
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @moduletag :capture_log

  # What is no stub.
  @others [file: 0, load: 0, status: 0]

  defp stubs, do: Native.__info__(:functions) -- @others

  defp schema do
    [{:ok, schema}] = Native.argument_handler_compile([{[], false}], 32, 100_000)
    schema
  end

  defp plan(selector, fields \\ %{}) do
    spec = %{
      service: "s",
      request_type: "t",
      version: "0.0.0",
      disabled: false,
      schema: schema(),
      result: nil,
      module: String,
      function: :upcase,
      arguments: [],
      timeout: 5_000,
      response_type: :sync,
      permission: false,
      flags: 0,
      nodes: [:n1@native, :n2@native],
      mode: :round_robin,
      config: %FunConfig{service: "s", request_type: "t"},
      term_bytes: 100
    }

    [plan] = Native.plan_new(selector, nil, [Map.merge(spec, fields)])
    plan
  end

  defp handle(plan), do: elem(plan, 1)

  defp limiter do
    limiter = Native.rate_limiter_new(2, 100, 1_000)
    :ok = Native.rate_limiter_configure(limiter, true, [{:global, :user_id, 2, 1_000, :shared}])
    limiter
  end

  # Runs in a process that then ends, so that its heap holds nothing any more.
  defp aside(fun) do
    {pid, monitor} = spawn_monitor(fun)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}, 60_000
  end

  test "every stub is a loaded NIF and every NIF has a stub" do
    assert Native.status() == :ok
    assert File.exists?(Native.file())
    assert Enum.sort(Native.module_info(:nifs)) == Enum.sort(stubs())
    assert length(stubs()) > 30
  end

  test "NIFs are named after the module that owns them" do
    modules =
      ~w(argument_handler_ plan_ candidate_set_ config_db_ node_selector_ rate_limiter_ executor_ rpc_server_ circuits_ channel_requests_ client_connection_ json_encoding_ worker_pool_ relay_)

    for {name, _arity} <- stubs(), do: assert(String.starts_with?("#{name}", modules), "#{name}")
  end

  describe "arguments of wrong types" do
    defp junk do
      [
        nil,
        true,
        :atom,
        :up,
        -1,
        0,
        1,
        2 ** 32,
        2 ** 64,
        10 ** 400,
        1.5,
        "",
        "text",
        <<255>>,
        <<1::3>>,
        [],
        [1],
        [1 | 2],
        ["a", "b"],
        [nil],
        {},
        {:a, 1},
        {:hash, "k"},
        {:weighted, %{"a" => -1}},
        %{},
        %{service: "s"},
        self(),
        make_ref(),
        fn -> 1 end,
        ~D[2026-01-01],
        String.duplicate("x", 100_000),
        Enum.to_list(1..5_000),
        deep(5_000)
      ]
    end

    defp deep(0), do: []
    defp deep(n), do: [deep(n - 1)]

    defp handles do
      selector = Native.node_selector_new(1_000, 10)
      plan = plan(selector)

      [
        Native.config_db_new(),
        selector,
        handle(plan),
        plan,
        schema(),
        Native.node_selector_route(selector, {"s", "k", "1"}, ["a", "b"], :random),
        Native.executor_begin(nil, 0, nil),
        limiter(),
        pool(),
        slot(pool())
      ]
    end

    defp pool(size \\ 2) do
      pool = Native.worker_pool_new(size, 2, 5, 0.5, 1_000)
      :ok = Native.worker_pool_set_server(pool)
      pool
    end

    defp slot(pool) do
      slot = Native.worker_pool_admit(pool, true, 60_000, {self(), :died}, nil)
      true = is_reference(slot)
      slot
    end

    defp call(name, arguments) do
      apply(Native, name, arguments)
      :returned
    rescue
      ArgumentError -> :refused
      other -> other
    catch
      kind, reason -> {kind, reason}
    end

    test "every NIF is listed with what it takes" do
      listed = for {name, kinds} <- NativeArguments.signatures(), do: {name, length(kinds)}
      assert listed |> Enum.uniq() |> Enum.sort() == Enum.sort(stubs())
    end

    test "what is right is taken" do
      handles = NativeArguments.handles()

      for {name, kinds} <- NativeArguments.signatures() do
        arguments = Enum.map(kinds, &NativeArguments.example(&1, handles))
        assert call(name, arguments) == :returned, "#{name}(#{inspect(arguments)})"
      end
    end

    test "what is wrong, in any position and at any depth, raises ArgumentError" do
      handles = NativeArguments.handles()

      taken =
        for {name, kinds} <- NativeArguments.signatures(),
            arguments = Enum.map(kinds, &NativeArguments.example(&1, handles)),
            {kind, at} <- Enum.with_index(kinds),
            wrong <- NativeArguments.wrong(kind, handles),
            outcome = call(name, List.replace_at(arguments, at, wrong)),
            outcome != :refused,
            into: %{},
            do: {{name, at, outcome}, wrong}

      assert taken == %{}
    end

    test "raise ArgumentError in every position and never end the VM" do
      handles = handles()

      for {name, arity} <- stubs(), arity > 0, term <- junk() ++ handles do
        assert call(name, List.duplicate(term, arity)) in [:refused, :returned]
      end

      # With a handle where most have one.
      for {name, arity} <- stubs(), arity > 1, handle <- handles, term <- junk() do
        assert call(name, [handle | List.duplicate(term, arity - 1)]) in [:refused, :returned]
      end
    end

    test "are refused in 50,000 random combinations" do
      :rand.seed(:exsss, 5)
      terms = junk() ++ handles() ++ handles()
      many = Enum.filter(stubs(), fn {_name, arity} -> arity > 0 end)

      outcomes =
        Enum.frequencies(
          for _ <- 1..50_000 do
            {name, arity} = Enum.random(many)
            call(name, for(_ <- 1..arity, do: Enum.random(terms)))
          end
        )

      assert outcomes.refused > 10_000
    end

    test "handles of one kind are not taken for those of another" do
      handles = handles()
      [table, selector, plan, _record, _schema, route, call, limiter, pool, slot] = handles

      for {name, right, arguments} <- [
            {:config_db_count, table, []},
            {:config_db_fetch, table, ["s", "t", nil]},
            {:node_selector_statuses, selector, []},
            {:node_selector_size, selector, []},
            {:plan_config, plan, []},
            {:executor_end, call, []},
            {:rate_limiter_stats, limiter, []},
            {:worker_pool_status, pool, []},
            {:worker_pool_leave, slot, [:returned, nil]},
            {:rate_limiter_check_value, limiter, ["ann", :global, :user_id, 0]}
          ] do
        assert call(name, [right | arguments]) == :returned

        for wrong <- [make_ref() | handles] -- [right] do
          assert call(name, [wrong | arguments]) == :refused, "#{name}"
        end
      end

      # A plan and a route can both be routed by.
      for routed <- [plan, route] do
        assert call(:node_selector_pick, [routed, %Request{}]) == :returned
      end

      assert call(:node_selector_pick, [table, %Request{}]) == :refused
      assert call(:executor_begin, [handle(plan(selector, %{nodes: nil})), 0, nil]) == :refused
    end
  end

  describe "instances" do
    test "of the table know nothing of each other" do
      selector = Native.node_selector_new(1_000, 10)
      [one, two] = for _ <- 1..2, do: Native.config_db_new()
      assert Native.config_db_store(one, [handle(plan(selector))], :direct) == :ok
      assert Native.config_db_count(one) == 1
      assert Native.config_db_count(two) == 0
      assert Native.config_db_fetch(two, "s", "t", nil) == :not_found
      assert Native.config_db_store(two, [handle(plan(selector))], :pull) == :ok
      assert Native.config_db_switch(one, "s", "t", "0.0.0", false, false) == :changed
      assert Native.config_db_fetch(one, "s", "t", nil) == :disabled
      assert elem(Native.config_db_fetch(two, "s", "t", nil), 0) == :plan
      assert Native.config_db_origin(one, "s", "t", "0.0.0") == :direct
      assert Native.config_db_origin(two, "s", "t", "0.0.0") == :pull
      assert Native.config_db_clear(one) == 1
      assert Native.config_db_count(two) == 1
      assert Native.config_db_count(Gateway.handle!(:config_db)) >= 0

      refute Native.config_db_fetch(Gateway.handle!(:config_db), "s", "t", nil) ==
               Native.config_db_fetch(two, "s", "t", nil)
    end

    test "of node selection know nothing of each other" do
      [one, two] = for _ <- 1..2, do: Native.node_selector_new(60_000, 100)
      plans = for selector <- [one, two], do: handle(plan(selector))
      request = %Request{request_id: "r", args: %{"k" => "v"}}
      [plan_one, plan_two] = plans

      assert {:n1@native, 0} = Native.node_selector_pick(plan_one, request)
      assert {:n2@native, 1} = Native.node_selector_pick(plan_one, request)
      assert {:n1@native, 0} = Native.node_selector_pick(plan_two, request)

      assert Native.node_selector_mark(one, "n1@native", :down)
      assert Native.node_selector_status(one, "n1@native") == :down
      assert Native.node_selector_status(two, "n1@native") == :up

      sticky = Native.node_selector_route(one, {"s", "f", "1"}, ["a", "b"], {:sticky, "k"})
      assert [_, _] = Native.node_selector_order(sticky, request)
      assert {1, _} = Native.node_selector_size(one)
      assert {0, _} = Native.node_selector_size(two)

      call = Native.executor_begin(plan_one, 1, nil)

      in_flight = fn selector ->
        for({_, _, n} <- Native.node_selector_statuses(selector), do: n)
      end

      assert Enum.sum(in_flight.(one)) == 1
      assert Enum.sum(in_flight.(two)) == 0
      Native.executor_end(call)
      Native.executor_end(call)
      assert Enum.sum(in_flight.(one)) == 0
    end

    test "of a set of nodes serve the plans that refer to them, and their own selector" do
      [one, two] = for _ <- 1..2, do: Native.node_selector_new(60_000, 100)
      [set, other] = for _ <- 1..2, do: Native.candidate_set_new(one)
      mode = {:weighted, %{"n2@native" => 0}}
      [plan, weighted] = for m <- [:round_robin, mode], do: plan(one, %{nodes: set, mode: m})
      request = %Request{request_id: "r"}
      assert Native.node_selector_pick(handle(plan), request) == :none
      assert Native.node_selector_order(handle(plan), request) == []
      assert Native.node_selector_unavailable(handle(plan)) == :no_nodes
      assert Native.candidate_set_put(set, [:n2@native, :n1@native, :n2@native]) == :ok
      assert Native.candidate_set_nodes(set) == [:n1@native, :n2@native]
      assert Native.candidate_set_nodes(other) == []

      assert {:n1@native, first} = Native.node_selector_pick(handle(plan), request)
      assert {:n2@native, second} = Native.node_selector_pick(handle(plan), request)

      assert Native.node_selector_order(handle(plan), request) ==
               [{:n1@native, first}, {:n2@native, second}]

      assert {:n1@native, ^first} = Native.node_selector_pick(handle(weighted), request)
      assert Native.node_selector_mark(one, "n1@native", :down)
      assert Native.node_selector_unavailable(handle(plan)) == [{:n1@native, :down}]
      refute Native.node_selector_mark(two, "n1@native", :down)
      assert Native.plan_candidate_set(handle(plan)) == set
      assert Native.plan_candidate_set(handle(plan(one))) == nil

      table = Native.config_db_new()
      :ok = Native.config_db_store(table, [handle(plan)], :offer)
      assert Native.config_db_origin(table, "s", "t", "0.0.0") == :offer
      assert Native.candidate_set_of_function(table, "s", "t", "0.0.0") == set
      :changed = Native.config_db_switch(table, "s", "t", "0.0.0", false, false)
      assert Native.candidate_set_of_function(table, "s", "t", "0.0.0") == set
      assert Native.candidate_set_of_function(table, "s", "t", "1.0.0") == nil
      assert Native.candidate_set_of_function(table, "s", "u", "0.0.0") == nil
    end

    test "of the rate limiter know nothing of each other" do
      [one, two] = for _ <- 1..2, do: limiter()
      check = &Native.rate_limiter_check_value(&1, "ann", :global, :user_id, 0)
      assert for(_ <- 1..2, do: check.(one)) == [:ok, :ok]
      assert {:limited, :global, :user_id, "ann", 2, 2, 1_000, 1_000} = check.(one)
      assert check.(two) == :ok
      assert Native.rate_limiter_clear(one) == 1
      assert check.(one) == :ok
      assert [{2, 1, 1_000, 1}] = Native.rate_limiter_status(two, "ann", :global, :user_id, 0)
      :ok = Native.rate_limiter_configure(one, true, [])
      assert Native.rate_limiter_status(one, "ann", :global, :user_id, 0) == []
      assert [_] = Native.rate_limiter_status(two, "ann", :global, :user_id, 0)
    end

    test "are used by 16 processes at once" do
      table = Native.config_db_new()
      selector = Native.node_selector_new(60_000, 1_000)

      1..16
      |> Enum.map(fn w ->
        Task.async(fn ->
          for n <- 1..100 do
            plan = plan(selector, %{request_type: "t#{w}-#{n}", mode: {:sticky, "request_id"}})
            :ok = Native.config_db_store(table, [handle(plan)], :direct)
            found = Native.config_db_fetch(table, "s", "t#{w}-#{n}", nil)
            sent = %Request{request_id: "#{n}"}
            {node, index} = Native.node_selector_pick(handle(found), sent)
            call = Native.executor_begin(handle(found), index, nil)
            {^node, ^index} = Native.node_selector_pick(handle(found), sent)
            Native.executor_end(call)
          end
        end)
      end)
      |> Task.await_many(60_000)

      assert Native.config_db_count(table) == 1_600
      assert Enum.all?(Native.node_selector_statuses(selector), &(elem(&1, 2) == 0))
      assert {1_000, _} = Native.node_selector_size(selector)
    end
  end

  describe "what is dropped is freed" do
    # Nodes are forgotten by a sweep once nothing refers to them any more, which shows whether
    # what referred to them is gone. A heap is freed some time after its process was heard to
    # be dead.
    defp known(selector) do
      Native.node_selector_sweep(selector, 100_000)
      length(Native.node_selector_statuses(selector))
    end

    test "plans, with their process or when a table lets go of them" do
      selector = Native.node_selector_new(60_000, 100)
      table = Native.config_db_new()

      aside(fn ->
        kept = plan(selector)
        2 = known(selector)
        true = is_reference(handle(kept))
      end)

      assert Await.until(fn -> known(selector) == 0 end)

      aside(fn -> :ok = Native.config_db_store(table, [handle(plan(selector))], :direct) end)
      assert Await.until(fn -> known(selector) == 2 end)

      aside(fn ->
        Native.config_db_store(table, [handle(plan(selector, %{nodes: [:n3@native]}))], :direct)
      end)

      assert Await.until(fn -> known(selector) == 1 end)
      assert Native.config_db_clear(table) == 1
      assert Await.until(fn -> known(selector) == 0 end)
    end

    test "tables with what they hold" do
      selector = Native.node_selector_new(60_000, 100)

      aside(fn ->
        table = Native.config_db_new()
        :ok = Native.config_db_store(table, [handle(plan(selector))], :direct)
        2 = known(selector)
      end)

      assert Await.until(fn -> known(selector) == 0 end)
    end

    test "a plan that a reader still holds lives on without its table" do
      selector = Native.node_selector_new(60_000, 100)
      table = Native.config_db_new()
      aside(fn -> :ok = Native.config_db_store(table, [handle(plan(selector))], :direct) end)
      found = Native.config_db_fetch(table, "s", "t", nil)
      Native.config_db_clear(table)
      assert Await.until(fn -> known(selector) == 2 end)
      assert Native.plan_config(handle(found)) == %FunConfig{service: "s", request_type: "t"}
    end

    test "calls, whose node is then idle again" do
      selector = Native.node_selector_new(60_000, 100)
      held = plan(selector)

      aside(fn ->
        for _ <- 1..10, do: Native.executor_begin(handle(held), 0, nil)
        calls = for _ <- 1..10, do: Native.executor_begin(handle(held), 0, nil)
        true = Enum.any?(Native.node_selector_statuses(selector), &(elem(&1, 2) >= 10))
        true = Enum.all?(calls, &is_reference/1)
      end)

      assert Enum.all?(Native.node_selector_statuses(selector), &(elem(&1, 2) == 0))
    end

    test "a call hands the process that runs the function to the reaper, unless it has ended" do
      parent = self()
      [kept, killed] = for _ <- 1..2, do: spawn(fn -> Process.sleep(:infinity) end)
      monitor = Process.monitor(killed)

      aside(fn ->
        ended = Native.executor_begin(nil, 0, nil)
        Native.executor_set_process(ended, kept)
        Native.executor_end(ended)
        Native.executor_set_process(Native.executor_begin(nil, 0, nil), killed)
        send(parent, :watched)
      end)

      assert_receive :watched
      assert_receive {:DOWN, ^monitor, :process, ^killed, :killed}
      assert Process.alive?(kept)
      Process.exit(kept, :kill)
    end

    @tag skip: if(not File.exists?("/proc/self/statm"), do: "reads /proc")
    test "50,000 plans, tables, selectors, routes, calls, pools and slots leave no memory behind" do
      make = fn count ->
        aside(fn ->
          config = %FunConfig{
            service: "leak",
            request_type: "t",
            nodes: [:n1@native, :n2@native],
            choose_node_mode: {:hash, "k"},
            mfa: {String, :upcase, [String.duplicate("x", 500)]},
            arg_types: [
              {"k", :string},
              {"list", {:list, :num}},
              {"f", [type: :string, format: "a+"]}
            ]
          }

          pool = pool(2 * count)

          for _ <- 1..count do
            table = Native.config_db_new()
            selector = Native.node_selector_new(60_000, 100)
            plan = plan(selector, %{config: config, arguments: [String.duplicate("y", 500)]})
            :ok = Native.config_db_store(table, [handle(plan)], :direct)
            Native.node_selector_route(selector, {"s", "k", "1"}, ["a", "b"], :hash)
            Native.executor_begin(handle(plan), 0, nil)
            Native.worker_pool_new(2, 2, 5, 0.5, 1_000)
            _given_back = slot(pool)
            used = slot(pool)
            :run = Native.worker_pool_enter(used, true, self(), 0)
            Native.worker_pool_leave(used, :returned, nil)
          end

          for _ <- 1..div(count, 20), do: {:ok, _, _} = Plan.compile(config)
        end)
      end

      # Allocators keep what they got in the first rounds; a leak grows in every one, by 10 MB
      # if it is a kilobyte for each.
      grown =
        for _round <- 1..5 do
          before = resident()
          make.(10_000)
          resident() - before
        end

      assert grown |> Enum.drop(1) |> Enum.min() < 2_000_000, inspect(grown)
    end
  end

  defp resident do
    [_, pages | _] = "/proc/self/statm" |> File.read!() |> String.split()
    String.to_integer(pages) * 4_096
  end
end
