defmodule PhoenixGenApi.Diagnostics.ConsoleTest do
  # Prints the state of the node.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias PhoenixGenApi.{ArgumentGenerator, ConfigDb, Diagnostics, NodeSelector, WorkerPool}
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.Test.{ConfigTable, Functions}
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  @service "console"

  setup do
    ConfigTable.use_empty()
  end

  defp store(fields) do
    :ok = ConfigDb.add(Functions.config(fn -> 1 end, [service: @service] ++ fields))
  end

  defp printed(fun) do
    text = capture_io(fn -> assert fun.() == :ok end)
    assert String.ends_with?(text, "\n")
    # The tables; a sentence is as long as it has to be.
    for "  " <> line <- String.split(text, "\n"), do: assert(String.length(line) <= 118, line)
    text
  end

  test "cache_status has a line for each service" do
    store(request_type: "a", version: "1.0.0")
    store(request_type: "a", version: "2.0.0")
    store(request_type: "b")
    text = printed(&PhoenixGenApi.cache_status/0)
    assert text =~ "config table: #{ConfigDb.count()} configs"
    assert text =~ ~r/^  console +2 +3$/m
  end

  test "decisions_print has a line for what was decided" do
    store(request_type: "a", version: "1.0.0")
    :ok = ConfigDb.disable(@service, "a", "1.0.0")
    on_exit(fn -> NodeSelector.undrain(:decided@nowhere) end)
    :ok = NodeSelector.drain(:decided@nowhere, local: true)
    text = printed(&PhoenixGenApi.decisions_print/0)
    assert text =~ ~r/^decisions of operators\n  at +by +on +what/m
    assert text =~ ~r/ #{node()} +all +disable console a 1\.0\.0$/m
    assert text =~ ~r/ #{node()} +here +drain decided@nowhere$/m
  end

  test "pool_status has a line for each pool, also for one that is not there" do
    text = printed(&PhoenixGenApi.pool_status/0)

    assert text =~
             ~r/^  async_pool +0 +#{WorkerPool.status(:async_pool).idle_workers} +0 +closed/m

    :ok = Supervisor.terminate_child(WorkerPoolSupervisor, :stream_pool)
    on_exit(fn -> Supervisor.restart_child(WorkerPoolSupervisor, :stream_pool) end)
    assert printed(&PhoenixGenApi.pool_status/0) =~ ~r/^  stream_pool +- +- +- +is not/m
  end

  test "health_print has every check with its status" do
    text = printed(&PhoenixGenApi.health_print/0)
    for check <- ~w(vm node config_db rate_limiter native), do: assert(text =~ ~r/^  #{check} +/m)
    text = printed(fn -> PhoenixGenApi.health_print(max_memory_bytes: 1) end)
    assert text =~ ~r/^  vm +warning +memory is over max_memory_bytes, /m
  end

  test "stats_print and debug_print have what the data has" do
    text = printed(&PhoenixGenApi.stats_print/0)
    for part <- ["uptime", "config db", "worker pool", "rate limiter"], do: assert(text =~ part)

    # 48 MB, or one of the VM's own processes may be the largest.
    start_supervised!({Agent, fn -> Enum.to_list(1..3_000_000) end})

    text =
      printed(fn ->
        PhoenixGenApi.debug_print(process_limit: 1, include_current_stacktrace: true)
      end)

    for part <- ["largest processes", "native stores", "tracing", ".erl:"],
        do: assert(text =~ part)
  end

  test "call_flow_print shows the stages and the nodes" do
    store(request_type: "a", nodes: [:a@console], choose_node_mode: :hash)
    text = printed(fn -> PhoenixGenApi.call_flow_print(@service, "a") end)
    assert text =~ "console a 0.0.0\n"
    assert text =~ ~r/^  node selection +1 of 1 node usable; :hash$/m
    assert text =~ ~r/^  a@console +up +no +0$/m
    text = printed(fn -> PhoenixGenApi.call_flow_print(@service, "nope", "1") end)
    assert text =~ "no such function is registered"
    # What no request can have in it.
    for odd <- [nil, 5, "", <<255>>, "\e", {:a}, %{}, [1 | 2]],
        do: printed(fn -> PhoenixGenApi.call_flow_print(odd, odd, odd) end)
  end

  test "inspect_print ends with the verdict" do
    store(request_type: "a", check_permission: {:role, ["admin"]})

    sent = %{
      "service" => @service,
      "request_type" => "a",
      "request_id" => "1",
      "user_id" => "ann"
    }

    text = printed(fn -> PhoenixGenApi.inspect_print(sent) end)
    assert text =~ ~r/^  permission +REFUSED +user_id "ann", user_roles nil$/m
    assert text =~ "Refused at permission. The client gets: Permission denied\n"

    text = printed(fn -> PhoenixGenApi.inspect_print(Map.put(sent, "user_roles", ["admin"])) end)
    assert text =~ "The function would be called.\n"

    store(request_type: "a", before_execute: {Functions, :before, [nil]})
    text = printed(fn -> PhoenixGenApi.inspect_print(sent) end)
    assert text =~ "It depends on code of yours: before hook.\n"
    assert printed(fn -> PhoenixGenApi.inspect_print(%{}) end) =~ "not a request"
  end

  test "flows_print and cluster_print have a line for each function and node" do
    store(request_type: "a", nodes: [:a@console])
    store(request_type: "off")
    :ok = ConfigDb.disable(@service, "off")

    assert printed(&PhoenixGenApi.flows_print/0) =~
             ~r/^  console +a +0.0.0 +sync +1 of 1, :random/m

    refute printed(&PhoenixGenApi.flows_print/0) =~ "off"
    text = printed(fn -> PhoenixGenApi.flows_print(include_disabled: true) end)
    assert text =~ ~r/^  console +off .*disabled$/m

    text = printed(&PhoenixGenApi.cluster_print/0)
    assert text =~ ~r/^  a@console +up +no +0 +console$/m
    assert text =~ ~r/^  console +2 +2 +1 +a@console$/m
  end

  # Whatever can be stored can be explained and printed.
  test "no stored config makes any function raise" do
    seed = :os.system_time() |> rem(1_000_000)
    ArgumentGenerator.seed(seed)
    on_exit(fn -> for node <- [:q@props, :"odd name@host"], do: NodeSelector.undrain(node) end)

    for n <- 1..300 do
      declaration = ArgumentGenerator.declaration()
      config = random(n, declaration)

      if ConfigDb.add(config) == :ok do
        try do
          check(config, ArgumentGenerator.args(declaration))
        rescue
          exception ->
            message = Exception.format(:error, exception, __STACKTRACE__)
            flunk("seed #{seed}: #{inspect(config)}\n#{message}")
        end
      end
    end

    # Most of them can be stored, or this tests nothing.
    assert ConfigDb.count() > 200

    for print <- [
          fn -> PhoenixGenApi.flows_print(include_disabled: true) end,
          &PhoenixGenApi.cluster_print/0,
          &PhoenixGenApi.cache_status/0,
          &PhoenixGenApi.debug_print/0
        ],
        do: printed(print)

    assert length(Diagnostics.list_call_flows(include_disabled: true)) == ConfigDb.count()
  end

  defp check(config, args) do
    %{request_type: type, version: version} = config
    flow = Diagnostics.call_flow(@service, type, version)
    assert flow.config || flow.error == :disabled
    sent = %{"service" => @service, "request_type" => type, "request_id" => "1", "args" => args}
    sent = Map.merge(sent, pick([%{}, %{"user_id" => "ann", "user_roles" => ["admin"]}]))
    assert Diagnostics.inspect_request(sent).verdict in [:runs, :refused, :unknown]
    printed(fn -> PhoenixGenApi.call_flow_print(@service, type, version) end)
    printed(fn -> PhoenixGenApi.inspect_print(sent) end)
  end

  defp random(n, declaration) do
    mfas = [
      {Functions, :told, [1, 2, self()]},
      {:"odd module", :"odd name", []},
      {Nowhere, :f, [%{}]}
    ]

    hooks = [nil, {Functions, :before}, {:"odd module", :"odd\nname", [make_ref()]}]

    nodes = [
      :local,
      [node()],
      [:p@props, :q@props, :p@props],
      ["s@props"],
      [:"odd name@host"] | mfas
    ]

    NodeSelector.drain(pick([:q@props, :"odd name@host"]))

    %FunConfig{
      service: @service,
      request_type: "t#{n}" <> pick(["", " ", "\n\e[31m", "é🙂", String.duplicate("x", 500)]),
      version: pick([nil, "1.0.0", "not semantic", "\e", String.duplicate("9", 300)]),
      nodes: pick(nodes),
      choose_node_mode:
        pick([
          :random,
          :round_robin,
          :hash,
          :least_busy,
          {:hash, pick(["age", "user_id", :user_id, "é\n"])},
          {:sticky, "user_id"},
          {:weighted, %{p@props: 0, q@props: 5}},
          {:weighted, [{"s@props", 0}]}
          | mfas
        ]),
      timeout: pick([100, 5_000, 300_000, :infinity]),
      mfa: pick([{String, :upcase, []}, {String, :upcase, [1, 2]} | mfas]),
      arg_types: declaration.arg_types,
      arg_orders: declaration.arg_orders,
      response_type: pick([:sync, :async, :stream, :none]),
      check_permission:
        pick([false, :any_authenticated, {:arg, "age"}, {:arg, :user_id}, {:role, ["admin", :x]}]),
      permission_callback: pick([nil, nil, nil | mfas]),
      request_info: pick([true, false]),
      disabled: pick([false, false, false, true]),
      retry: pick([nil, 1, 2.5, {:same_node, 3}, {:all_nodes, 1}]),
      retry_on: pick([[], [:timeout], [:error_result, :exception, :timeout, :node_down]]),
      before_execute: pick(hooks),
      after_execute: pick(hooks),
      hook_timeout: pick([1, 5_000])
    }
  end

  defp pick(list), do: Enum.random(list)
end
