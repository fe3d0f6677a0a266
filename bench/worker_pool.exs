Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)

defmodule Bench.WorkerPool do
  @moduledoc "What a pool adds to a bare process, 10,000 calls at once, and a breaker's cost."

  import Bench.Harness

  alias Bench.Gateway
  alias PhoenixGenApi.{ConfigDb, Executor, Native, WorkerPool}
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.WorkerPool.Server

  @pool :bench_pool
  @batch 500
  @rounds 41

  def run do
    {:ok, _pid} = WorkerPool.start_link(name: @pool, pool_size: 1_000, max_queue_size: 10_000)
    figures(submitted() ++ at_once() ++ breaker())
  end

  # The caller goes on as soon as it has its answer; what it has begun is waited for untimed.
  defp submitted do
    parent = self()
    died = {parent, {:async_call, Response.error_response("r1", "Async execution failed")}}
    :ok = registered(:async)
    request = Gateway.request(request_type: "async", args: %{"text" => "grace hopper"})

    bare = fn -> spawn(fn -> send(parent, :done) end) end
    send_done = fn -> send(parent, :done) end
    answer = fn -> {:answer, {parent, :done}, nil} end

    ways = [
      {"spawn + send", bare},
      {"execute_async", fn -> :ok = WorkerPool.execute_async(@pool, send_done) end},
      {"as the executor does",
       fn -> {:ok, _pid} = WorkerPool.submit(@pool, answer, owner: parent, on_death: died) end},
      {"execute! of an async request",
       fn -> %Response{success: true, async: true} = Executor.execute!(request) end}
    ]

    acknowledged = rounds(ways, &acknowledged/1)
    answered = rounds(Enum.take(ways, 3), &answered/1)
    show("submitted, until the caller goes on", acknowledged)
    show("submitted, until the message of the task is there", answered)

    [
      {"submit-to-ack, `execute_async` against spawn + send",
       {:times, against_bare(acknowledged, "execute_async")}, {:at_most, 3}},
      {"submit-to-ack as the executor submits, against spawn + send",
       {:times, against_bare(acknowledged, "as the executor does")}, {:at_most, 3}},
      {"submit to the task's message, as the executor submits, against spawn + send",
       {:times, against_bare(answered, "as the executor does")}, {:at_most, 3}},
      {"a whole async request until its acknowledgement, against spawn + send",
       {:times, against_bare(acknowledged, "execute! of an async request")}, nil}
    ]
  end

  # Call by call, or the tasks of the calls before would be timed along.
  defp acknowledged(fun) do
    times =
      for _ <- 1..@batch do
        started = now()
        fun.()
        took = now() - started
        collect(1)
        took
      end

    quantile(times, 0.5)
  end

  defp answered(fun) do
    started = now()

    repeat(@batch, fn ->
      fun.()
      collect(1)
    end)

    (now() - started) / @batch
  end

  defp rounds(ways, measure) do
    in_rounds(ways, @rounds, fn {_label, fun} ->
      :erlang.garbage_collect()
      measure.(fun)
    end)
  end

  defp against_bare(rounds, label),
    do: median_of(rounds, &(&1[label] / &1["spawn + send"]))

  defp show(title, [round | _] = rounds) do
    IO.puts("\n#### #{title}\n")

    table(
      ["", "median", "ratio to spawn + send"],
      for label <- Map.keys(round) do
        median = median_of(rounds, & &1[label])
        [label, ns(median), "#{Float.round(against_bare(rounds, label), 2)}"]
      end
    )
  end

  # 10,000 requests are in the pool before the first function returns.
  defp at_once do
    parent = self()
    before = WorkerPool.status(:async_pool)
    gate = spawn(fn -> gate([]) end)
    running = :counters.new(2, [:atomics])

    :ok =
      ConfigDb.add(
        Gateway.config(
          request_type: "gated",
          nodes: :local,
          mfa: {__MODULE__, :gated, [gate, running]},
          arg_types: %{"n" => :num},
          arg_orders: ["n"],
          timeout: 60_000,
          response_type: :async
        )
      )

    submit = fn n ->
      request = Gateway.request(request_id: "r#{n}", request_type: "gated", args: %{"n" => n})
      %Response{success: true, async: true} = Executor.execute!(request, receiver: parent)
    end

    started = now()
    Enum.each(1..10_000, submit)
    %{busy_workers: 1_000, queued_tasks: 9_000} = WorkerPool.status(:async_pool)
    send(gate, :open)

    answers =
      for _ <- 1..10_000 do
        receive do
          {:async_call, %Response{success: true, request_id: id, result: n}} -> {id, n}
        after
          60_000 -> raise "an answer is missing: #{inspect(WorkerPool.status(:async_pool))}"
        end
      end

    took = now() - started
    right = Enum.sort(answers) == Enum.sort(for n <- 1..10_000, do: {"r#{n}", n})
    right || raise "not every request has its answer"
    idle(:async_pool)
    status = WorkerPool.status(:async_pool)
    executed = status.total_tasks_executed - before.total_tasks_executed
    failed = status.total_tasks_failed - before.total_tasks_failed

    [
      {"10,000 calls at once at 1,000 slots, all answered after", {:ns, took}, nil},
      {"counted as executed", executed, {:at_least, 10_000}},
      {"counted as failed", failed, {:at_most, 0}},
      {"most functions at one time", :counters.get(running, 2), {:at_most, 1_000}}
    ]
  end

  @doc false
  def gated(n, gate, running) do
    :counters.add(running, 1, 1)
    busy = :counters.get(running, 1)
    if busy > :counters.get(running, 2), do: :counters.put(running, 2, busy)
    send(gate, {:wait, self()})
    receive(do: (:open -> :ok))
    :counters.sub(running, 1, 1)
    n
  end

  defp gate(waiting) do
    receive do
      {:wait, pid} -> gate([pid | waiting])
      :open -> Enum.each(waiting, &send(&1, :open)) && opened()
    end
  end

  defp opened do
    receive do
      {:wait, pid} -> send(pid, :open) && opened()
    end
  end

  # The same admission and end, counted for the breaker and not: the difference is the breaker.
  defp breaker do
    {plain, _} = pool(:bench_plain, [])
    {rate, _} = pool(:bench_rate, circuit_breaker_failure_rate: 0.5)

    results =
      compare(
        [
          {"not counted", fn handle -> admitted(elem(handle, 0), false) end},
          {"counted", fn handle -> admitted(elem(handle, 0), true) end},
          {"counted, with a failure rate", fn handle -> admitted(elem(handle, 1), true) end}
        ],
        [{plain, rate}]
      )

    times("a task admitted, begun and ended, without a process", results)
    cost = &(result(results, &1).median - result(results, "not counted").median)

    [
      {"a breaker's check and update", {:ns, max(cost.("counted"), 0.0)}, {:at_most, 100}},
      {"with a failure rate", {:ns, max(cost.("counted, with a failure rate"), 0.0)},
       {:at_most, 100}}
    ]
  end

  defp pool(name, opts) do
    {:ok, _pid} = WorkerPool.start_link([name: name] ++ opts)
    Server.find(name)
  end

  defp admitted(handle, counted?) do
    slot = Native.worker_pool_admit(handle, counted?, nil, nil, nil)
    :run = Native.worker_pool_enter(slot, false, nil, 0)
    Native.worker_pool_leave(slot, :returned, nil)
  end

  defp registered(type) do
    ConfigDb.add(
      Gateway.config(
        request_type: "async",
        nodes: :local,
        mfa: {String, :upcase, []},
        choose_node_mode: :random,
        arg_types: %{"text" => :string},
        arg_orders: ["text"],
        response_type: type
      )
    )
  end

  defp repeat(0, _fun), do: :ok

  defp repeat(n, fun) do
    fun.()
    repeat(n - 1, fun)
  end

  defp collect(0), do: :ok

  defp collect(n) do
    receive do
      :done -> collect(n - 1)
      {:async_call, %Response{success: true}} -> collect(n - 1)
    after
      10_000 -> raise "a message is missing"
    end
  end

  defp idle(pool) do
    if WorkerPool.status(pool).busy_workers > 0 do
      :erlang.yield()
      idle(pool)
    end
  end

  defp now, do: :erlang.monotonic_time(:nanosecond)
end

Bench.WorkerPool.run()
