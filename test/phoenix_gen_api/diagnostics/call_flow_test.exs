defmodule PhoenixGenApi.Diagnostics.CallFlowTest do
  # Functions and limits are those of the node.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, Config, ConfigDb, Diagnostics, Executor, NodeSelector}
  alias PhoenixGenApi.{RateLimiter, WorkerPool}
  alias PhoenixGenApi.Structs.Request
  alias PhoenixGenApi.Test.Functions
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  @moduletag :capture_log

  @service "flow"

  @phases [
    :decode,
    :config_lookup,
    :rate_limit,
    :before_hook,
    :permission,
    :arguments,
    :worker_pool,
    :node_selection,
    :call,
    :after_hook,
    :response
  ]

  setup do
    before = RateLimiter.get_configured_limits()

    on_exit(fn ->
      for type <- ["run", "other"],
          version <- [nil, "1.0.0", "2.0.0"],
          do: ConfigDb.delete(@service, type, version)

      RateLimiter.update_config(%{
        enabled: true,
        global_limits: before.global,
        api_limits: before.api
      })
    end)
  end

  # Whatever runs says so.
  defp store(fields \\ []) do
    me = self()
    fields = [service: @service, request_type: "run"] ++ fields
    :ok = ConfigDb.add(Functions.config(fn -> send(me, :called) end, fields))
  end

  defp request(fields \\ %{}) do
    Map.merge(
      %{"service" => @service, "request_type" => "run", "request_id" => "r1", "user_id" => "ann"},
      fields
    )
  end

  defp step(flow, phase), do: Enum.find(flow.steps, &(&1.phase == phase))
  defp limit(fields), do: Map.merge(%{key: :user_id, max_requests: 3, window_ms: 60_000}, fields)
  defp limit_this(fields), do: limit(Map.merge(%{service: @service, request_type: "run"}, fields))

  defp limits(global, api),
    do: :ok = RateLimiter.update_config(%{global_limits: global, api_limits: api})

  describe "call_flow" do
    test "has the fields of the config and the steps in the order of the pipeline" do
      hook = {Functions, :before, [nil]}
      types = %{"isbn" => :string}

      store(
        before_execute: hook,
        retry: 2,
        arg_types: types,
        check_permission: {:role, ["admin"]}
      )

      flow = Diagnostics.call_flow(@service, "run")

      assert %{
               service: @service,
               request_type: "run",
               version: "0.0.0",
               local?: true,
               response_type: :sync,
               choose_node_mode: :random,
               timeout: 5_000,
               rate_limit: %{global: [], api: []},
               permission: %{strategy: :role, description: "one of the roles admin"},
               hooks: %{before: ^hook, after: nil, timeout: 5_000},
               retry: {:all_nodes, 2},
               mfa: {Functions, :run, [_]}
             } = flow

      assert {:ok, flow.config} == ConfigDb.get(@service, "run")
      assert Enum.map(flow.steps, & &1.phase) == @phases
      for step <- flow.steps, do: assert(is_binary(step.desc) and step.desc != "")
      assert step(flow, :arguments).desc == "isbn"
      assert step(flow, :call).desc =~ "PhoenixGenApi.Test.Functions.run/2, at most 5 s"
      assert step(flow, :call).desc =~ "again up to 2 times on the next nodes"

      assert {flow.nodes, flow.reachable_nodes, flow.unreachable_nodes} ==
               {[node()], [node()], []}
    end

    test "resolves a version as a request does, and takes a service as an atom" do
      store(version: "1.0.0")
      store(version: "2.0.0")
      assert Diagnostics.call_flow(:flow, "run").version == "2.0.0"
      assert Diagnostics.call_flow(@service, "run", "1.0.0").version == "1.0.0"
    end

    test "of a function that is not there has no config, an error and the steps so far" do
      assert %{config: nil, error: :not_found, steps: steps} = Diagnostics.call_flow("no", "one")
      assert Enum.map(steps, & &1.phase) == [:decode, :config_lookup]

      store()
      :ok = ConfigDb.disable(@service, "run")
      assert %{config: nil, error: :disabled} = Diagnostics.call_flow(@service, "run")
      # What no request can have in it.
      for odd <- [nil, 5, "", <<255>>, {:a}, %{}] do
        assert %{config: nil, error: :not_found} = Diagnostics.call_flow(odd, odd, odd)
      end
    end

    test "lists the limits that apply, and none while the limiter is off" do
      store()
      other = limit(%{service: @service, request_type: "other"})
      limits([limit(%{key: :device_id})], [limit_this(%{}), other])
      flow = Diagnostics.call_flow(@service, "run")
      assert flow.rate_limit == %{global: [limit(%{key: :device_id})], api: [limit_this(%{})]}
      assert step(flow, :rate_limit).desc =~ "all functions, 3 in 60 s by device_id"
      assert step(flow, :rate_limit).desc =~ "this function, 3 in 60 s by user_id"

      :ok = RateLimiter.update_config(%{enabled: false})
      assert Diagnostics.call_flow(@service, "run").rate_limit == %{global: [], api: []}
    end

    test "tells nodes that are connected from those that are not, and what selection thinks" do
      store(nodes: [:a@flow, :b@flow, node()])
      :ok = NodeSelector.drain(:b@flow)
      flow = Diagnostics.call_flow(@service, "run")
      NodeSelector.undrain(:b@flow)
      assert flow.nodes == [:a@flow, :b@flow, node()]
      assert {flow.reachable_nodes, flow.unreachable_nodes} == {[node()], [:a@flow, :b@flow]}
      assert [%{status: :up}, %{status: :draining}, %{status: :up}] = flow.node_statuses
      assert step(flow, :node_selection).desc =~ "2 of 3 nodes usable"
    end

    test "knows of no node that offers a service" do
      store(nodes: :service)
      flow = Diagnostics.call_flow(@service, "run")
      assert {flow.nodes, flow.reachable_nodes, flow.unreachable_nodes} == {[], [], []}
      assert step(flow, :node_selection).desc == "no node offers the service; :random"
    end

    test "does not ask the function that lists nodes" do
      mfa = {Functions, :told, [:x, [node()], self()]}
      store(nodes: mfa)
      flow = Diagnostics.call_flow(@service, "run")
      assert {flow.nodes, flow.reachable_nodes, flow.unreachable_nodes} == {mfa, [], []}
      assert step(flow, :node_selection).desc =~ "Functions.told lists them"
      refute_received {:asked, _}
    end
  end

  describe "list_call_flows" do
    test "has every function and version, disabled ones when asked" do
      store(version: "1.0.0")
      store(version: "2.0.0")
      :ok = ConfigDb.disable(@service, "run", "1.0.0")
      own = &for(%{service: @service} = flow <- &1, do: {flow.version, flow.config != nil})
      assert own.(Diagnostics.list_call_flows()) == [{"2.0.0", true}]

      assert own.(Diagnostics.list_call_flows(include_disabled: true)) ==
               [{"1.0.0", false}, {"2.0.0", true}]
    end
  end

  describe "inspect_request" do
    test "of a request that would run passes everywhere and runs nothing" do
      store(check_permission: :any_authenticated)
      flow = Diagnostics.inspect_request(request())
      assert %{verdict: :runs, refused_by: nil, client_gets: nil, unknown: []} = flow
      assert %{request_id: "r1", user_id: "ann", args: %{}} = flow.request
      assert Enum.map(flow.steps, & &1.phase) == @phases
      assert Enum.uniq(Enum.map(flow.steps, & &1.decision)) -- [:passes, :none] == []
      refute_received :called
    end

    test "takes a request, and any map with atom keys" do
      store()
      atoms = %{service: :flow, request_type: "run", request_id: "1"}
      assert %{verdict: :runs} = Diagnostics.inspect_request(atoms)
      request = Functions.request(service: @service)
      assert %{verdict: :runs, request: ^request} = Diagnostics.inspect_request(request)
    end

    test "needs no more than the service and the request type" do
      store()

      for bare <- [
            %{service: @service, request_type: "run"},
            %{"service" => @service, "request_type" => "run", "request_id" => nil},
            %Request{service: @service, request_type: "run"}
          ] do
        assert %{verdict: :runs, service: @service} = Diagnostics.inspect_request(bare)
      end

      unknown = Diagnostics.inspect_request(%{service: @service, request_type: "none"})
      assert unknown.client_gets == "unsupported function: none version latest"
      assert Diagnostics.inspect_request(%{request_type: "run"}).client_gets =~ "service"
    end

    test "says what is wrong with a payload that is no request" do
      for payload <- [%{}, %{"args" => 5}, %{"request_id" => %{}}] do
        flow = Diagnostics.inspect_request(payload)
        assert %{verdict: :refused, refused_by: :decode, request: nil, config: nil} = flow
        assert Executor.execute_params(payload).error == flow.client_gets
      end

      assert %{refused_by: :decode, request: nil} = Diagnostics.inspect_request([1])
    end

    test "the refusal of every stage is what the client would get" do
      types = %{"isbn" => :string}

      for {phase, fields, sent} <- [
            {:config_lookup, [], %{"request_type" => "none"}},
            {:config_lookup, [], %{"version" => "9"}},
            {:permission, [check_permission: :any_authenticated], %{"user_id" => nil}},
            {:permission, [check_permission: {:role, ["admin"]}], %{}},
            {:permission, [check_permission: {:arg, "isbn"}, arg_types: types],
             %{"args" => %{"isbn" => "bob"}}},
            {:arguments, [arg_types: types], %{"args" => %{"isbn" => 5}}},
            {:arguments, [], %{"args" => %{"more" => 5}}},
            {:node_selection, [nodes: [:a@flow], choose_node_mode: {:hash, "key"}], %{}},
            {:node_selection, [nodes: [:drained@flow]], %{}},
            {:node_selection, [nodes: [:a@flow], choose_node_mode: {:weighted, %{a@flow: 0}}],
             %{}},
            {:call, [mfa: {String, :no_such_function, []}], %{}}
          ] do
        store(fields)
        NodeSelector.drain(:drained@flow)
        flow = Diagnostics.inspect_request(request(sent))
        assert {flow.verdict, flow.refused_by} == {:refused, phase}
        assert Executor.execute_params(request(sent)).error == flow.client_gets
        assert step(flow, phase).decision == :refuses
        NodeSelector.undrain(:drained@flow)
      end

      refute_received :called
    end

    test "nodes that cannot be chosen are named with what is wrong with them" do
      store(nodes: [:drained@flow])
      NodeSelector.drain(:drained@flow)
      step = request() |> Diagnostics.inspect_request() |> step(:node_selection)
      NodeSelector.undrain(:drained@flow)
      assert step.because == "drained@flow is draining"
    end

    test "a disabled function is refused at the lookup" do
      store()
      :ok = ConfigDb.disable(@service, "run")
      flow = Diagnostics.inspect_request(request())
      assert %{refused_by: :config_lookup, error: :disabled} = flow
      assert flow.client_gets == "disabled function: run version latest"
    end

    test "limits show their counts, and which one refuses" do
      store(arg_types: %{"isbn" => :string})
      limits([limit(%{key: :device_id, on_missing: :skip})], [limit_this(%{max_requests: 2})])
      scope = {@service, "run"}
      sent = request(%{"args" => %{"isbn" => "1"}})

      :ok = RateLimiter.check_rate_limit("ann", scope, :user_id)
      step = sent |> Diagnostics.inspect_request() |> step(:rate_limit)
      assert step.decision == :passes
      assert step.because =~ "device_id: no value, skipped"
      assert step.because =~ "user_id: 1 used, 1 left"

      :ok = RateLimiter.check_rate_limit("ann", scope, :user_id)
      flow = Diagnostics.inspect_request(sent)
      assert %{verdict: :refused, refused_by: :rate_limit} = flow
      assert flow.client_gets =~ "Rate limit exceeded. Please retry after"
      assert step(flow, :rate_limit).because =~ "2 used, none left"

      limits([], [limit_this(%{key: "isbn", max_requests: 0})])
      assert %{refused_by: :rate_limit} = Diagnostics.inspect_request(sent)
      limits([], [limit_this(%{key: "other", on_missing: :deny})])
      assert %{refused_by: :rate_limit} = Diagnostics.inspect_request(sent)
      limits([], [limit_this(%{key: "other", on_missing: :shared})])
      assert %{verdict: :runs} = Diagnostics.inspect_request(sent)
    end

    test "what only code of the user's can tell is unknown, and is not run" do
      me = self()
      asked = {Functions, :told, [true, me]}

      before =
        {Functions, :before,
         [fn request, config -> send(me, :hook) && {:ok, request, config} end]}

      for {phase, fields} <- [
            before_hook: [before_execute: before],
            permission: [permission_callback: asked],
            node_selection: [nodes: asked],
            node_selection: [nodes: [node()], choose_node_mode: asked]
          ] do
        store(fields)
        flow = Diagnostics.inspect_request(request())
        assert %{verdict: :unknown, unknown: [^phase]} = flow
        assert step(flow, phase).because =~ "is not run here"
      end

      refute_received _
    end

    test "a pool with room passes, and a sync request needs none" do
      store(response_type: :async)

      assert %{decision: :passes} =
               request() |> Diagnostics.inspect_request() |> step(:worker_pool)

      store(response_type: :sync)
      assert %{decision: :none} = request() |> Diagnostics.inspect_request() |> step(:worker_pool)
    end

    test "a pool whose circuit is open, that is full or not there refuses" do
      store(response_type: :async)
      pool = :async_pool
      :ok = Supervisor.terminate_child(WorkerPoolSupervisor, pool)
      on_exit(fn -> Supervisor.restart_child(WorkerPoolSupervisor, pool) end)
      refused = fn -> request() |> Diagnostics.inspect_request() |> step(:worker_pool) end
      assert %{decision: :refuses, because: ":async_pool: " <> _} = refused.()

      start_supervised!({WorkerPool, name: pool, circuit_breaker_threshold: 1})
      fail = fn -> WorkerPool.execute_async(pool, fn -> raise "boom" end) end
      Await.until(fn -> fail.() == {:error, :circuit_open} end)
      assert %{decision: :refuses, because: "the circuit of :async_pool is open"} = refused.()
      assert refused.().client_gets == Executor.execute_params(request()).error
      stop_supervised!(pool)

      # After the cool-down it lets requests through, though no probe has closed it.
      start_supervised!(
        {WorkerPool, name: pool, circuit_breaker_threshold: 1, circuit_breaker_cooldown: 0}
      )

      :ok = fail.()
      Await.until(fn -> WorkerPool.status(pool).circuit_open end)
      assert %{decision: :passes} = refused.()
      assert Executor.execute_params(request()).success
      stop_supervised!(pool)

      size = Config.get(:worker_pool, :max_queue_size)
      start_supervised!({WorkerPool, name: pool, pool_size: 1, max_queue_size: size})
      me = self()
      :ok = WorkerPool.execute_async(pool, fn -> Functions.wait_for(me) end)
      assert_receive {:running, task, _node}
      assert %{decision: :passes, because: "1 running, 0 queued"} = refused.()
      for _ <- 1..size, do: :ok = WorkerPool.execute_async(pool, fn -> :ok end)
      assert %{decision: :refuses, client_gets: text} = refused.()
      assert text == Executor.execute_params(request()).error
      send(task, {:return, :ok})
    end

    test "the candidates of hash modes are in the order of node selection" do
      nodes = [:a@h1, :b@h1, :c@h1]
      store(nodes: nodes, choose_node_mode: {:hash, "user_id"})

      step =
        request(%{"user_id" => "7"}) |> Diagnostics.inspect_request() |> step(:node_selection)

      # A vector of the contract.
      assert step.candidates == [:c@h1, :a@h1, :b@h1]

      store(nodes: nodes, choose_node_mode: {:weighted, %{a@h1: 0}})
      step = request() |> Diagnostics.inspect_request() |> step(:node_selection)
      assert step.candidates == [:b@h1, :c@h1]
    end
  end

  test "explaining changes nothing: no limit, cursor, sticky value, calls in flight or tasks" do
    nodes = [:a@h1, :b@h1, :c@h1]
    limits([limit(%{})], [limit_this(%{key: "k"})])
    store(nodes: nodes, choose_node_mode: :round_robin, response_type: :async)
    config = fn type -> elem(ConfigDb.get(@service, type), 1) end
    request = Functions.request(service: @service, user_id: "ann", args: %{"k" => "v"})

    sticky = [service: @service, request_type: "other", nodes: nodes]

    :ok =
      ConfigDb.add(Functions.config(fn -> 1 end, [choose_node_mode: {:sticky, "k"}] ++ sticky))

    state = fn ->
      %{
        limits: RateLimiter.get_rate_limit_status("ann", :global, :user_id),
        argument: RateLimiter.get_rate_limit_status("v", {@service, "run"}, "k"),
        limiter: Map.take(RateLimiter.status(), [:keys, :entries]),
        sticky: NodeSelector.size().sticky_entries,
        # Nodes that nobody names any more are forgotten meanwhile.
        loads:
          for({node, _, _} = load <- NodeSelector.loads(), node in nodes, do: load) |> Enum.sort(),
        pool: WorkerPool.status(:async_pool)
      }
    end

    # Nothing is left for a sweep to reclaim.
    :ok = RateLimiter.clear()
    NodeSelector.reset_round_robin()
    # One turn: the next one is that of the second node.
    {:ok, :a@h1} = NodeSelector.get_node(config.("run"), request)
    before = state.()

    for _ <- 1..10 do
      for type <- ["run", "other"] do
        Diagnostics.call_flow(@service, type)
        Diagnostics.inspect_request(%{request | request_type: type})
        Diagnostics.inspect_request(%{request | request_type: type, args: %{"k" => "new"}})
      end

      Diagnostics.list_call_flows()
      Diagnostics.cluster_view()
      Diagnostics.health_check()
      Diagnostics.statistics()
      Diagnostics.debug_report()
    end

    assert state.() == before
    assert {:ok, :b@h1} = NodeSelector.get_node(config.("run"), request)
    refute_received _
  end
end
