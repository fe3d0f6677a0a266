defmodule PhoenixGenApi.DiagnosticsTest do
  # Asks the gateway of the node, and breaks parts of it.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias PhoenixGenApi.{Await, Config, ConfigDb, ConfigPuller, ConfigReceiver, Diagnostics}
  alias PhoenixGenApi.Structs.PushConfig
  alias PhoenixGenApi.Test.Functions
  alias PhoenixGenApi.WorkerPool
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  doctest Diagnostics

  @moduletag :capture_log

  @checks [
    :native,
    :config_db,
    :config_puller,
    :config_receiver,
    :worker_pool_supervisor,
    :async_pool,
    :stream_pool,
    :rate_limiter,
    :supervision_tree
  ]

  # What other modules have left.
  setup do
    ConfigDb.clear()
    :ok
  end

  defp put_env(key, value) do
    before = Application.fetch_env(:phoenix_gen_api, key)
    Application.put_env(:phoenix_gen_api, key, value)
    :ok = Config.load()

    on_exit(fn ->
      case before do
        {:ok, value} -> Application.put_env(:phoenix_gen_api, key, value)
        :error -> Application.delete_env(:phoenix_gen_api, key)
      end

      :ok = Config.load()
    end)
  end

  defp gateway_check(name), do: Diagnostics.health_check().checks.phoenix_gen_api[name]

  describe "health_check" do
    test "checks the VM, the node and every part of the gateway" do
      health = Diagnostics.health_check()
      assert health.node == node()
      assert_in_delta health.checked_at_ms, System.system_time(:millisecond), 5_000
      assert %{vm: %{status: :ok}, node: %{}, phoenix_gen_api: gateway} = health.checks
      assert %{status: :ok, mode: :gateway} = gateway
      for check <- @checks, do: assert({check, :ok} == {check, gateway[check].status})
    end

    test "a node that is not distributed is a warning, and the status is the worst" do
      health = Diagnostics.health_check()
      assert health.checks.node.status == if(Node.alive?(), do: :ok, else: :warning)
      assert health.status == health.checks.node.status
    end

    test "memory over the limit is a warning" do
      assert %{status: :warning, reason: reason} =
               Diagnostics.health_check(max_memory_bytes: 1).checks.vm

      assert reason =~ "max_memory_bytes"
      assert Diagnostics.health_check(max_memory_bytes: 1).status == :warning
      enough = 1_000_000_000_000
      assert Diagnostics.health_check(max_memory_bytes: enough).checks.vm.status == :ok
    end

    test "a pool that does not answer keeps nobody waiting" do
      pid = Process.whereis(:async_pool)
      suspend(pid)
      # Answers although nobody wakes the pool up meanwhile.
      health = Diagnostics.health_check()
      :sys.resume(pid)

      # A pool that has no process to ask cannot be stopped from answering.
      check = health.checks.phoenix_gen_api.async_pool
      assert check.status == :ok or check.reason =~ "no answer"
      assert gateway_check(:async_pool).status == :ok
    end

    defp suspend(pid) do
      :ok = :sys.suspend(pid)
      on_exit(fn -> if Process.alive?(pid), do: :sys.resume(pid) end)
    end

    test "a suspended puller does not keep anybody waiting" do
      pid = Process.whereis(ConfigPuller)
      suspend(pid)
      assert gateway_check(:config_puller).status == :ok
      :sys.resume(pid)
    end

    test "a process that is not there is an error" do
      pid = Process.whereis(ConfigPuller)
      # Nobody is found under the name while it is taken away.
      Process.unregister(ConfigPuller)
      health = Diagnostics.health_check()
      Process.register(pid, ConfigPuller)

      assert %{status: :error, reason: "is not running"} =
               health.checks.phoenix_gen_api.config_puller

      assert health.status == :error
    end

    test "a child that is missing is an error of the tree" do
      id = ConfigPuller
      :ok = Supervisor.terminate_child(PhoenixGenApi.Supervisor, id)
      health = Diagnostics.health_check()
      {:ok, _pid} = Supervisor.restart_child(PhoenixGenApi.Supervisor, id)

      assert %{status: :error, reason: reason} = health.checks.phoenix_gen_api.supervision_tree
      assert reason =~ "ConfigPuller"
      assert gateway_check(:supervision_tree).status == :ok
    end

    test "an open circuit of a pool is a warning" do
      # A pool of the test's own takes the place of the application's.
      pool = :stream_pool
      :ok = Supervisor.terminate_child(WorkerPoolSupervisor, pool)
      on_exit(fn -> Supervisor.restart_child(WorkerPoolSupervisor, pool) end)
      start_supervised!({WorkerPool, name: pool, circuit_breaker_threshold: 1})
      assert gateway_check(pool).status == :ok

      fail = fn -> WorkerPool.execute_async(pool, fn -> raise "boom" end) end
      Await.until(fn -> fail.() == {:error, :circuit_open} end)
      assert %{status: :warning, reason: "the circuit is open"} = gateway_check(pool)
      stop_supervised!(pool)
    end

    test "in client mode there is nothing to check of the gateway" do
      put_env(:client_mode, true)
      health = Diagnostics.health_check()
      assert health.checks.phoenix_gen_api == %{status: :ok, mode: :client}
      assert %{status: _, mode: :client} = health
    end

    test "an option that does not exist is an error" do
      assert_raise ArgumentError, fn -> Diagnostics.health_check(memory: 1) end
    end
  end

  describe "statistics" do
    test "has the figures of the VM and the status of every part" do
      statistics = Diagnostics.statistics()
      assert %{node: node, collected_at_ms: _, vm: vm, phoenix_gen_api: gateway} = statistics
      assert node == node()
      assert %{memory: %{total: total}, processes: processes, uptime_ms: _} = vm
      assert total > 0 and processes > 0

      assert %{
               client_mode: false,
               config_db: %{status: :ok, count: _},
               config_puller: %{status: :ok},
               config_receiver: %{status: :ok},
               rate_limiter: %{status: :ok},
               relay: %{groups: _, members: _, local_pids: _, gateways: _},
               worker_pool: %{async_pool: %{busy_workers: _}, stream_pool: %{busy_workers: _}},
               telemetry_events: 32
             } = gateway
    end

    test "in client mode the parts are nil" do
      put_env(:client_mode, true)
      gateway = Diagnostics.statistics().phoenix_gen_api

      assert %{client_mode: true, telemetry_events: 32, config_db: nil, worker_pool: nil} =
               gateway
    end
  end

  describe "debug_report" do
    test "has the largest processes, at most as many as asked for" do
      report = Diagnostics.debug_report()
      assert %{node: _, collected_at_ms: _, native: _, trace: %{trace_control_word: _}} = report
      assert length(report.processes) in 1..20

      sizes = for %{memory_bytes: bytes} <- report.processes, do: bytes
      # They go on working while they are looked at.
      assert hd(sizes) * 2 > Enum.max(sizes)
      assert [_, _, _] = Diagnostics.debug_report(process_limit: 3).processes
      assert [] = Diagnostics.debug_report(process_limit: 0).processes
    end

    test "has stacktraces only when they are asked for, and never arguments" do
      for process <- Diagnostics.debug_report().processes,
          do: refute(Map.has_key?(process, :current_stacktrace))

      traces =
        for process <- Diagnostics.debug_report(include_current_stacktrace: true).processes,
            entry <- process.current_stacktrace,
            do: entry

      assert [_ | _] = traces
      for {_m, _f, arity, _location} <- traces, do: assert(is_integer(arity))
    end

    test "has entries and bytes of every native store" do
      native = Diagnostics.debug_report().native
      assert Enum.sort(Map.keys(native)) == [:config_db, :node_selector, :rate_limiter, :relay]
      for {_, store} <- native, do: assert(%{entries: n, memory_bytes: b} = store) && n >= 0 && b
      assert native.config_db.entries == ConfigDb.count()
    end

    test "in client mode there are no stores" do
      put_env(:client_mode, true)
      assert Diagnostics.debug_report().native == %{}
    end
  end

  describe "cluster_view" do
    setup do
      on_exit(fn ->
        for type <- ["fixed", "dynamic", "off"], do: ConfigDb.delete("view", type)
      end)
    end

    test "says which nodes serve what" do
      fun = fn -> 1 end
      own = [service: "view", request_type: "fixed", nodes: [:a@view, node()]]
      :ok = ConfigDb.add(Functions.config(fun, own))
      dynamic = {Functions, :told, [:x, [node()], self()]}
      own = [service: "view", request_type: "dynamic", nodes: dynamic]
      :ok = ConfigDb.add(Functions.config(fun, own))
      :ok = ConfigDb.add(Functions.config(fun, service: "view", request_type: "off"))
      :ok = ConfigDb.disable("view", "off")

      view = Diagnostics.cluster_view()

      assert %{functions: 3, versions: 3, disabled: 1, dynamic?: true, nodes: nodes} =
               view.services["view"]

      assert Enum.sort(nodes) == Enum.sort([:a@view, node()])
      assert view.node == node() and view.distributed? == Node.alive?()

      assert [%{status: :up, connected?: false, in_flight: 0, services: ["view"]}] =
               for(%{node: :a@view} = entry <- view.nodes, do: entry)

      assert [%{connected?: true}] = for(%{node: n} = entry <- view.nodes, n == node(), do: entry)
      # The function that lists nodes was not asked.
      refute_received {:asked, _}
    end
  end

  describe "the modules of the library" do
    defp calls do
      {:ok, modules} = :application.get_key(:phoenix_gen_api, :modules)

      for module <- modules,
          to_string(module.module_info(:compile)[:source]) =~ "/lib/phoenix_gen_api",
          {:ok, {_, imports: called}} = :beam_lib.chunks(:code.which(module), [:imports]),
          {called, function, _arity} <- called,
          do: {module, called, function}
    end

    defp diagnostics?(module), do: inspect(module) =~ ~r/^PhoenixGenApi\.Diagnostics\b/

    test "do not call diagnostics, except the front door" do
      calls = for {from, to, _} <- calls(), diagnostics?(to), not diagnostics?(from), do: from
      assert Enum.uniq(calls) == [PhoenixGenApi]
    end

    test "print nothing, except by the table printer" do
      printing = for {from, IO, function} <- calls(), function in [:write, :puts], do: from
      assert Enum.uniq(printing) == [PhoenixGenApi.TablePrinter]
    end
  end

  test "no push token is in any result, nor in what is printed" do
    put_env(:push_token, "t0ken-of-the-gateway")
    on_exit(fn -> ConfigReceiver.delete_pushed_service("secret") end)

    push = %PushConfig{
      service: "secret",
      nodes: [node()],
      config_version: "1",
      push_token: "t0ken-of-the-gateway",
      fun_configs: [
        %PhoenixGenApi.Structs.FunConfig{
          service: "secret",
          request_type: "t",
          nodes: [node()],
          mfa: {String, :upcase, []}
        }
      ]
    }

    assert {:ok, :accepted} = PhoenixGenApi.push_config(push)

    results = [
      PhoenixGenApi.health_check(),
      PhoenixGenApi.statistics(),
      PhoenixGenApi.debug_report(include_current_stacktrace: true, process_limit: 1_000),
      PhoenixGenApi.call_flow("secret", "t"),
      PhoenixGenApi.list_call_flows(),
      PhoenixGenApi.cluster_view(),
      PhoenixGenApi.trace_status()
    ]

    text = inspect(results, limit: :infinity, printable_limit: :infinity)
    assert text =~ "secret"
    refute text =~ "t0ken"

    printed =
      capture_io(fn ->
        PhoenixGenApi.health_print()
        PhoenixGenApi.stats_print()
        PhoenixGenApi.debug_print(process_limit: 1_000)
        PhoenixGenApi.call_flow_print("secret", "t")
        PhoenixGenApi.flows_print()
        PhoenixGenApi.cluster_print()
        PhoenixGenApi.cache_status()
        PhoenixGenApi.pool_status()
      end)

    assert printed =~ "secret"
    refute printed =~ "t0ken"
  end
end
