defmodule PhoenixGenApi.TelemetryEmittedTest do
  # Every event, as the library really emits it, against the catalogue.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{ConfigDb, ConfigPuller, ConfigReceiver, Executor, RateLimiter}
  alias PhoenixGenApi.{Telemetry, WorkerPool}
  alias PhoenixGenApi.Structs.{PushConfig, ServiceConfig}
  alias PhoenixGenApi.Telemetry.Events
  alias PhoenixGenApi.Test.{ConfigTable, Directory, Functions}

  @moduletag :capture_log

  @service "emitted"

  setup do
    :ok = Telemetry.attach_all(__MODULE__, &__MODULE__.forward/4, self())
    before = RateLimiter.get_configured_limits()

    on_exit(fn ->
      Telemetry.detach_all(__MODULE__)
      ConfigPuller.delete([@service])
      ConfigReceiver.delete_pushed_service(@service)
      for type <- ["run", "limited", "crash"], do: ConfigDb.delete(@service, type)
      RateLimiter.update_config(%{global_limits: before.global, api_limits: before.api})
    end)
  end

  @doc false
  def forward([:phoenix_gen_api | event], measurements, metadata, pid),
    do: send(pid, {:event, event, measurements, metadata})

  # Takes the event out of the mailbox; it has every key that the catalogue promises.
  defp emitted(event, with \\ %{}) do
    assert_receive {:event, ^event, measurements, metadata}, 30_000, inspect(event)

    if Map.take(metadata, Map.keys(with)) == with do
      promised = Enum.find(Events.all(), &(&1.name == [:phoenix_gen_api | event]))
      assert promised.measurements -- Map.keys(measurements) == [], inspect(event)
      assert promised.metadata -- Map.keys(metadata) == [], inspect(event)
      {measurements, metadata}
    else
      emitted(event, with)
    end
  end

  defp store(type, fun, fields \\ []) do
    fields = [service: @service, request_type: type] ++ fields
    :ok = ConfigDb.add(Functions.config(fun, fields))
  end

  defp run(type), do: Executor.execute!(request(type))

  defp request(type),
    do: Functions.request(service: @service, request_type: type, user_id: "ann")

  test "requests" do
    store("run", fn -> 1 end)
    store("crash", fn -> raise "boom" end)
    about = %{service: @service, request_id: "r1", user_id: "ann"}

    run("run")
    {start, _} = emitted([:executor, :request, :start], about)
    {stop, metadata} = emitted([:executor, :request, :stop], about)
    assert %{success: true, async: false} = metadata
    assert stop.monotonic_time == start.monotonic_time + stop.duration
    refute_received {:event, [:executor | _], _, _}

    run("crash")
    emitted([:executor, :request, :start], about)
    {_, metadata} = emitted([:executor, :request, :exception], about)
    assert %{kind: :error, reason: "boom", stacktrace: [_ | _]} = metadata
    refute_received {:event, [:executor | _], _, _}
  end

  test "a request that is ended by its timeout stops too" do
    store("run", fn -> Functions.wait_for(self()) end)
    response = Executor.execute_with_timeout!(request("run"), 20)
    assert response.error == "Request timed out after 20ms"
    emitted([:executor, :request, :start], %{service: @service})
    {_, metadata} = emitted([:executor, :request, :stop], %{service: @service})
    assert %{success: false, async: false, request_id: "r1", user_id: "ann"} = metadata

    store("crash", fn -> raise "boom" end)
    Executor.execute_with_timeout!(request("crash"), 1_000)
    emitted([:executor, :request, :start], %{service: @service})
    emitted([:executor, :request, :exception], %{kind: :error, reason: "boom"})
    refute_received {:event, [:executor | _], _, _}
  end

  test "async requests end with their acknowledgement, and their work is a task" do
    store("run", fn -> 1 end, response_type: :async)
    run("run")
    {_, metadata} = emitted([:executor, :request, :stop], %{service: @service})
    assert %{success: true, async: true} = metadata
    emitted([:worker_pool, :task, :start], %{pool_name: :async_pool})
    emitted([:worker_pool, :task, :stop], %{pool_name: :async_pool})
  end

  test "limits" do
    limit = %{service: @service, request_type: "limited", key: :user_id}
    limit = Map.merge(limit, %{max_requests: 1, window_ms: 60_000})
    :ok = RateLimiter.update_config(%{api_limits: [limit]})
    store("limited", fn -> 1 end)

    run("limited")
    emitted([:rate_limiter, :check], %{result: :ok, service: @service, user_id: "ann"})
    run("limited")
    emitted([:rate_limiter, :check], %{result: :rate_limited})
    {measurements, metadata} = emitted([:rate_limiter, :exceeded])
    assert measurements.retry_after_ms in 1..60_000
    scope = {@service, "limited"}
    assert %{key: "ann", rate_limit_key: :user_id, scope: ^scope, max_requests: 1} = metadata

    {:error, :rate_limited, _} = RateLimiter.check_rate_limit("ann", scope, :user_id)
    emitted([:rate_limiter, :exceeded], %{request_id: nil})

    :ok = RateLimiter.reset_rate_limit("ann", scope, :user_id)
    emitted([:rate_limiter, :reset], %{key: "ann", scope: scope, rate_limit_key: :user_id})

    send(RateLimiter.Server, :sweep)
    emitted([:rate_limiter, :cleanup], %{global_limits_count: 0, api_limits_count: 1})
  end

  test "hooks" do
    pass = fn request, config -> {:ok, request, config} end
    keep = fn _request, _config, response -> response end
    crash = fn _request, _config, _response -> raise "boom" end

    hooks = [
      before_execute: {Functions, :before, [pass]},
      after_execute: {Functions, :finished, [keep]}
    ]

    store("run", fn -> 1 end, hooks)
    run("run")

    for {type, function} <- [before: :before, after: :finished], phase <- [:start, :stop] do
      emitted([:hook, type, phase], %{module: Functions, function: function, type: type})
    end

    store("run", fn -> 1 end, after_execute: {Functions, :finished, [crash]})
    run("run")
    emitted([:hook, :after, :exception], %{kind: :error, reason: "boom", type: :after})

    late = {Functions, :told_late, [self()]}
    store("run", fn -> 1 end, before_execute: late, hook_timeout: 10)
    run("run")
    emitted([:hook, :before, :exception], %{kind: :error, type: :before})
  end

  test "a hook that takes too long is a timeout" do
    late = fn _request, _config -> Functions.wait_for(self()) end
    store("run", fn -> 1 end, before_execute: {Functions, :before, [late]}, hook_timeout: 10)
    run("run")
    emitted([:hook, :before, :exception], %{kind: :timeout, reason: "hook timed out after 10ms"})
  end

  test "pools and their circuits" do
    pool = :telemetry_emitted
    options = [pool_size: 1, circuit_breaker_threshold: 1, circuit_breaker_cooldown: 1]
    start_supervised!({WorkerPool, [name: pool] ++ options})

    :ok = WorkerPool.execute_async(pool, fn -> raise "boom" end)
    about = %{pool_name: pool}
    emitted([:worker_pool, :task, :start], about)
    {_, metadata} = emitted([:worker_pool, :task, :exception], about)
    assert %{kind: :error, reason: "boom"} = metadata
    emitted([:worker_pool, :circuit_breaker, :open], %{pool_name: pool, consecutive_failures: 1})

    PhoenixGenApi.Await.until(fn -> WorkerPool.execute_async(pool, fn -> 1 end) == :ok end)
    emitted([:worker_pool, :circuit_breaker, :close], about)
  end

  test "a task that an open circuit refuses" do
    pool = :telemetry_refused
    start_supervised!({WorkerPool, name: pool, circuit_breaker_threshold: 1})
    :ok = WorkerPool.execute_async(pool, fn -> raise "boom" end)
    emitted([:worker_pool, :circuit_breaker, :open], %{pool_name: pool})
    assert WorkerPool.execute_async(pool, fn -> 1 end) == {:error, :circuit_open}
    emitted([:worker_pool, :task, :rejected], %{pool_name: pool, reason: :circuit_open})
  end

  test "the table" do
    key = %{service: @service, request_type: "run", version: "0.0.0"}
    config = Functions.config(fn -> 1 end, service: @service, request_type: "run")

    :ok = ConfigDb.add(config)
    emitted([:config, :add], key)
    :ok = ConfigDb.disable(@service, "run")
    emitted([:config, :disable], key)
    :ok = ConfigDb.enable(@service, "run")
    emitted([:config, :enable], key)
    :ok = ConfigDb.delete(@service, "run")
    emitted([:config, :delete], key)
    {:ok, 1} = ConfigDb.batch_add([config])
    assert {%{count: 1}, _} = emitted([:config, :batch_add], %{service: @service})

    :ok = ConfigDb.enable(@service, "run")
    :ok = ConfigDb.delete(@service, "other")
    refute_received {:event, [:config | _], _, _}
  end

  test "clearing" do
    ConfigTable.use_empty()
    :ok = ConfigDb.clear()
    refute_received {:event, [:config, :clear], _, _}
    store("run", fn -> 1 end)
    :ok = ConfigDb.clear()
    emitted([:config, :clear], %{service: :all, request_type: :all, version: :all})
  end

  test "pulls and pushes" do
    config = Functions.config(fn -> 1 end, service: @service, request_type: "run")
    agent = start_supervised!({Agent, fn -> %{list: fn -> {:ok, [config]} end} end})

    ConfigPuller.add([
      %ServiceConfig{
        service: @service,
        nodes: [node()],
        module: Directory,
        function: :answer,
        args: [agent, :list]
      }
    ])

    emitted([:config, :pull, :start], %{service: @service})
    {measurements, _} = emitted([:config, :pull, :stop], %{service: @service})
    assert measurements.count == 1

    push = %PushConfig{
      service: @service,
      nodes: [node()],
      config_version: "7",
      fun_configs: [%{config | mfa: {String, :upcase, []}}]
    }

    assert {:ok, :accepted} = PhoenixGenApi.push_config(push)
    assert {%{count: 1}, _} = emitted([:config, :push], %{service: @service, version: "7"})
  end
end
