defmodule PhoenixGenApi.WorkerPoolTest do
  # Handlers see the pools of the whole node.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Native, Telemetry, WorkerPool}

  @moduletag :capture_log

  # The pool emits an event for each task that has ended before it counts it, and answers
  # status/1 after that.
  setup context do
    parent = self()
    pool = :"#{context.module}_#{System.unique_integer([:positive])}"

    Telemetry.attach_worker_pool(pool, fn [_, _ | event], measurements, metadata, _ ->
      if metadata.pool_name == pool, do: send(parent, {event, measurements, metadata})
    end)

    on_exit(fn -> Telemetry.detach_all(pool) end)
    %{pool: pool}
  end

  defp start(pool, opts \\ []) do
    opts = Keyword.merge([name: pool, pool_size: 2, max_queue_size: 3], opts)
    start_supervised!({WorkerPool, opts})
  end

  # A task that says it runs and waits to be told how to end.
  defp task do
    parent = self()

    fn ->
      send(parent, {:running, self()})

      receive do
        :return -> :ok
        :raise -> raise "oops"
        :throw -> throw(:oops)
        :exit -> exit(:oops)
        :exit_normally -> exit(:normal)
        :linked -> spawn_link(fn -> exit(:oops) end) && Process.sleep(:infinity)
      end
    end
  end

  defp running do
    assert_receive {:running, pid}
    pid
  end

  defp finish(pid, how \\ :return) do
    send(pid, how)
    ended()
  end

  defp ended do
    receive do
      {[:task, :stop], _, _} -> :stop
      {[:task, :exception], _, _} -> :exception
    after
      2_000 -> flunk("no task has ended")
    end
  end

  defp status(pool), do: WorkerPool.status(pool)

  defp fail(pool) do
    assert :ok = WorkerPool.execute_async(pool, fn -> exit(:oops) end)
    assert ended() == :exception
  end

  defp succeed(pool) do
    assert :ok = WorkerPool.execute_async(pool, fn -> :ok end)
    assert ended() == :stop
  end

  test "a new pool is idle", %{pool: pool} do
    start(pool, pool_size: 7)

    assert status(pool) == %{
             idle_workers: 7,
             busy_workers: 0,
             queued_tasks: 0,
             circuit_open: false,
             total_tasks_executed: 0,
             total_tasks_failed: 0
           }
  end

  test "the numbers are exact while tasks run, wait, end and fail", %{pool: pool} do
    start(pool)
    for _ <- 1..4, do: assert(:ok = WorkerPool.execute_async(pool, task()))
    a = running()
    b = running()
    assert %{idle_workers: 0, busy_workers: 2, queued_tasks: 2} = status(pool)
    refute_received {:running, _}

    assert finish(a) == :stop
    c = running()
    assert %{busy_workers: 2, queued_tasks: 1, total_tasks_executed: 1} = status(pool)
    assert finish(b, :raise) == :exception
    d = running()
    assert %{busy_workers: 2, queued_tasks: 0, total_tasks_failed: 1} = status(pool)
    finish(c)
    finish(d)

    assert %{idle_workers: 2, busy_workers: 0, total_tasks_executed: 4, total_tasks_failed: 1} =
             status(pool)
  end

  test "every violent end counts as one failed task", %{pool: pool} do
    start(pool, circuit_breaker_threshold: 100)

    for how <- [:raise, :throw, :exit, :exit_normally, :linked] do
      assert :ok = WorkerPool.execute_async(pool, task())
      assert finish(running(), how) == :exception
    end

    assert :ok = WorkerPool.execute_async(pool, task())
    Process.exit(running(), :kill)
    assert ended() == :exception

    assert :ok = WorkerPool.execute_async(pool, task(), timeout: 20)
    running()
    assert ended() == :exception
    assert %{total_tasks_failed: 7, busy_workers: 0} = status(pool)
  end

  test "the queue is first in, first out", %{pool: pool} do
    start(pool, pool_size: 1, max_queue_size: 10)
    parent = self()
    assert :ok = WorkerPool.execute_async(pool, task())
    first = running()
    for n <- 1..10, do: WorkerPool.execute_async(pool, fn -> send(parent, {:ran, n}) end)
    finish(first)
    for _ <- 1..10, do: ended()
    assert for(_ <- 1..10, do: receive(do: ({:ran, n} -> n))) == Enum.to_list(1..10)
  end

  test "a full queue refuses", %{pool: pool} do
    start(pool)
    for _ <- 1..5, do: assert(:ok = WorkerPool.execute_async(pool, task()))
    assert WorkerPool.execute_async(pool, task()) == {:error, :queue_full}
    finish(running())
    assert WorkerPool.execute_async(pool, fn -> :ok end) == :ok
    assert WorkerPool.execute_async(pool, task()) == {:error, :queue_full}
  end

  test "a pool without a queue refuses as soon as all its workers are busy", %{pool: pool} do
    start(pool, pool_size: 1, max_queue_size: 0)
    assert :ok = WorkerPool.execute_async(pool, task())
    assert WorkerPool.execute_async(pool, task()) == {:error, :queue_full}
    finish(running())
    succeed(pool)
  end

  test "a pool that is not there says so", %{pool: pool} do
    assert WorkerPool.execute_async(pool, fn -> :ok end) == {:error, :pool_not_found}
  end

  test "64 submitters at once never make more than pool_size tasks run", %{pool: pool} do
    start(pool, pool_size: 3, max_queue_size: 100_000)
    running = :counters.new(1, [:atomics])
    ran = :counters.new(1, [:atomics])
    parent = self()

    work = fn ->
      :counters.add(running, 1, 1)
      now = :counters.get(running, 1)
      if now > 3, do: send(parent, {:too_many, now})
      :erlang.yield()
      :counters.add(ran, 1, 1)
      :counters.sub(running, 1, 1)
    end

    1..64
    |> Enum.map(fn _ ->
      Task.async(fn -> for _ <- 1..50, do: :ok = WorkerPool.execute_async(pool, work) end)
    end)
    |> Task.await_many(60_000)

    for _ <- 1..3_200, do: assert(ended() == :stop)
    assert :counters.get(ran, 1) == 3_200
    refute_received {:too_many, _}

    assert %{total_tasks_executed: 3_200, total_tasks_failed: 0, busy_workers: 0, idle_workers: 3} =
             status(pool)
  end

  test "64 submitters at once are refused exactly what does not fit", %{pool: pool} do
    start(pool, pool_size: 4, max_queue_size: 10)
    work = task()

    accepted =
      1..64
      |> Enum.map(fn _ -> Task.async(fn -> WorkerPool.execute_async(pool, work) end) end)
      |> Task.await_many(60_000)
      |> Enum.frequencies()

    assert accepted == %{:ok => 14, {:error, :queue_full} => 50}
    assert %{busy_workers: 4, queued_tasks: 10} = status(pool)
    for _ <- 1..14, do: finish(running())
    assert %{total_tasks_executed: 14, busy_workers: 0, queued_tasks: 0} = status(pool)
  end

  # As `submit/3` with `start_within:` begins one.
  defp begin(pool) do
    {handle, _pool} = WorkerPool.Server.find(pool)
    slot = Native.worker_pool_admit(handle, false, nil, nil, nil)
    starter = :erlang.alias()
    {starter, WorkerPool.Task.start(slot, pool, task(), false, nil, {:infinity, nil, starter})}
  end

  test "whoever waits for a slot is told of the start, however it comes", %{pool: pool} do
    start(pool)
    # A slot was there when the task came to ask for it, though none was when it was submitted.
    started =
      for _ <- 1..2 do
        {starter, task} = begin(pool)
        assert_receive {^starter, :started}
        assert_receive {:running, ^task}
        task
      end

    # It was woken for nothing.
    {starter, task} = begin(pool)
    send(task, {WorkerPool, :wake})
    send(hd(started), :return)
    assert_receive {^starter, :started}
    assert_receive {:running, ^task}
    for task <- [task | tl(started)], do: send(task, :return)
  end

  describe "time" do
    test "ends a task after its own timeout or the pool's, and kills it", %{pool: pool} do
      start(pool, task_timeout: 20)
      assert :ok = WorkerPool.execute_async(pool, task())
      pid = running()
      monitor = Process.monitor(pid)
      assert_receive {:DOWN, ^monitor, :process, ^pid, reason} when reason in [:killed, :noproc]
      assert ended() == :exception

      assert :ok = WorkerPool.execute_async(pool, task(), timeout: 60_000)
      pid = running()
      refute_receive {[:task, :exception], _, _}, 60
      assert finish(pid) == :stop
    end

    test "that passes in the queue is reported, and the task does not run", %{pool: pool} do
      start(pool, pool_size: 1)
      parent = self()
      assert :ok = WorkerPool.execute_async(pool, task())
      first = running()
      late = fn -> send(parent, :late_task_ran) end
      assert :ok = WorkerPool.execute_async(pool, late, timeout: 1)
      assert :ok = WorkerPool.execute_async(pool, late, timeout: 1)
      assert :ok = WorkerPool.execute_async(pool, task())
      refute_receive :passed, 10
      assert finish(first) == :stop
      assert ended() == :exception
      assert ended() == :exception
      finish(running())
      refute_received :late_task_ran
      assert %{total_tasks_failed: 2, queued_tasks: 0, busy_workers: 0} = status(pool)
    end

    test "may be infinite, or longer than the VM can wait", %{pool: pool} do
      start(pool)
      pid = Process.whereis(pool)

      for timeout <- [:infinity, 10 ** 12] do
        assert :ok = WorkerPool.execute_async(pool, fn -> :ok end, timeout: timeout)
        assert ended() == :stop
      end

      assert Process.whereis(pool) == pid
    end

    test "of a wrong type is the caller's mistake and not the pool's end", %{pool: pool} do
      pid = start(pool)

      for junk <- ["5", -1, 1.5, :soon] do
        assert_raise ArgumentError, fn ->
          WorkerPool.execute_async(pool, fn -> :ok end, timeout: junk)
        end
      end

      assert Process.whereis(pool) == pid
    end
  end

  describe "the circuit" do
    setup %{pool: pool} do
      start(pool, circuit_breaker_threshold: 3, circuit_breaker_cooldown: 150)
      :ok
    end

    test "opens when the threshold of failures is half of the tasks and refuses", %{pool: pool} do
      for _ <- 1..4, do: succeed(pool)
      for _ <- 1..3, do: fail(pool)
      refute status(pool).circuit_open
      refute_received {[:circuit_breaker, :open], _, _}
      fail(pool)
      assert status(pool).circuit_open
      assert_received {[:circuit_breaker, :open], _, %{consecutive_failures: 4}}
      assert WorkerPool.execute_async(pool, fn -> :ok end) == {:error, :circuit_open}
      assert_received {[:task, :rejected], %{system_time: _}, %{reason: :circuit_open}}
    end

    defp open(pool) do
      for _ <- 1..3, do: fail(pool)
      assert status(pool).circuit_open
      assert_received {[:circuit_breaker, :open], _, _}
      refute_receive :cooled_down, 160
    end

    test "lets one probe through after the cool-down, whose success closes it", %{pool: pool} do
      open(pool)
      assert :ok = WorkerPool.execute_async(pool, task())
      probe = running()
      assert WorkerPool.execute_async(pool, fn -> :ok end) == {:error, :circuit_open}
      assert status(pool).circuit_open
      assert finish(probe) == :stop
      assert_received {[:circuit_breaker, :close], _, _}
      refute status(pool).circuit_open
      # From here on failures count from zero.
      fail(pool)
      fail(pool)
      refute status(pool).circuit_open
      succeed(pool)
    end

    test "opens again when the probe fails or times out", %{pool: pool} do
      open(pool)
      assert :ok = WorkerPool.execute_async(pool, task())
      assert finish(running(), :raise) == :exception
      assert_receive {[:circuit_breaker, :open], _, _}
      assert WorkerPool.execute_async(pool, fn -> :ok end) == {:error, :circuit_open}

      refute_receive :cooled_down, 160
      assert :ok = WorkerPool.execute_async(pool, task(), timeout: 1)
      running()
      assert ended() == :exception
      assert_receive {[:circuit_breaker, :open], _, _}
      assert status(pool).circuit_open
    end

    test "one of 64 at once is the probe", %{pool: pool} do
      open(pool)
      work = task()

      answers =
        1..64
        |> Enum.map(fn _ -> Task.async(fn -> WorkerPool.execute_async(pool, work) end) end)
        |> Task.await_many(60_000)
        |> Enum.frequencies()

      assert answers == %{:ok => 1, {:error, :circuit_open} => 63}
      finish(running())
      refute status(pool).circuit_open
    end

    test "is opened by tasks that time out", %{pool: pool} do
      for _ <- 1..3 do
        assert :ok = WorkerPool.execute_async(pool, task(), timeout: 1)
        assert ended() == :exception
      end

      assert status(pool).circuit_open
    end

    test "opens at the share of failures that is configured", %{pool: pool} do
      stop_supervised!(pool)

      start(pool,
        circuit_breaker_threshold: 1,
        circuit_breaker_failure_rate: 0.25,
        circuit_breaker_window: 4
      )

      for _ <- 1..4, do: succeed(pool)
      fail(pool)
      refute status(pool).circuit_open
      fail(pool)
      assert status(pool).circuit_open
      assert_received {[:circuit_breaker, :open], _, %{consecutive_failures: 2}}
    end

    test "does not open when one of many tasks after another fails", %{pool: pool} do
      for _ <- 1..5 do
        for _ <- 1..2, do: succeed(pool)
        fail(pool)
      end

      refute status(pool).circuit_open
    end

    test "is not touched by what the executor submits, and refuses it while open", %{pool: pool} do
      for _ <- 1..5 do
        assert {:ok, _pid} = WorkerPool.submit(pool, fn -> exit(:oops) end, [])
        assert ended() == :exception
      end

      refute status(pool).circuit_open
      for _ <- 1..3, do: fail(pool)
      assert WorkerPool.submit(pool, fn -> :ok end, []) == {:error, :circuit_open}
    end
  end

  describe "owners" do
    test "a task ends when its owner dies", %{pool: pool} do
      start(pool)
      owner = spawn(fn -> Process.sleep(:infinity) end)
      assert {:ok, _pid} = WorkerPool.submit(pool, task(), owner: owner)
      pid = running()
      monitor = Process.monitor(pid)
      Process.exit(owner, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
      assert ended() == :exception
      assert %{busy_workers: 0} = status(pool)
    end

    test "a task whose owner has died in the meantime does no harm", %{pool: pool} do
      start(pool, pool_size: 1)
      {owner, monitor} = spawn_monitor(fn -> :ok end)
      assert_receive {:DOWN, ^monitor, :process, ^owner, _}

      assert {:ok, _pid} =
               WorkerPool.submit(pool, fn -> Process.sleep(:infinity) end, owner: owner)

      assert ended() == :exception
      succeed(pool)
    end

    test "a task whose owner dies while it waits is not begun", %{pool: pool} do
      start(pool, pool_size: 1)
      parent = self()
      owner = spawn(fn -> Process.sleep(:infinity) end)
      assert {:ok, _pid} = WorkerPool.submit(pool, task(), [])
      first = running()
      assert {:ok, _pid} = WorkerPool.submit(pool, fn -> send(parent, :begun) end, owner: owner)
      assert {:ok, _pid} = WorkerPool.submit(pool, fn -> :ok end, [])
      monitor = Process.monitor(owner)
      Process.exit(owner, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^owner, _}
      assert finish(first) == :stop
      assert ended() == :stop
      assert %{total_tasks_executed: 2, total_tasks_failed: 0, queued_tasks: 0} = status(pool)
      refute_received :begun
    end

    test "an owner's death is nothing to its tasks that have ended", %{pool: pool} do
      start(pool, pool_size: 1)
      owner = spawn(fn -> Process.sleep(:infinity) end)
      assert {:ok, _pid} = WorkerPool.submit(pool, fn -> :ok end, owner: owner)
      assert ended() == :stop
      assert {:ok, _pid} = WorkerPool.submit(pool, task(), [])
      other = running()
      Process.exit(owner, :kill)
      assert %{busy_workers: 1} = status(pool)
      assert finish(other) == :stop
    end

    test "a task that dies sends what was asked for, one that returns does not", %{pool: pool} do
      start(pool)
      assert {:ok, _pid} = WorkerPool.submit(pool, task(), on_death: {self(), :task_died})
      Process.exit(running(), :kill)
      assert ended() == :exception
      assert_receive :task_died
      assert {:ok, _pid} = WorkerPool.submit(pool, fn -> :ok end, on_death: {self(), :task_died})
      assert ended() == :stop
      refute_received :task_died
    end
  end

  test "messages that are none of its own do not disturb a pool", %{pool: pool} do
    pid = start(pool)
    send(pid, :junk)
    send(pid, {:DOWN, make_ref(), :process, self(), :junk})
    send(pid, {:expired, make_ref()})
    succeed(pool)
    assert Process.whereis(pool) == pid
  end

  test "the application has its two pools, of the sizes in the contract" do
    assert %{idle_workers: 1_000} = WorkerPool.status(:async_pool)
    assert %{idle_workers: 500} = WorkerPool.status(:stream_pool)
  end

  test "an async function that raised is the exception of its task, and nobody's circuit", %{
    pool: pool
  } do
    start(pool, circuit_breaker_threshold: 1)
    parent = self()
    crash = %{kind: :error, reason: "oops", stacktrace: []}
    answered = fn -> {:answer, {parent, :answer}, crash} end
    assert {:ok, _pid} = WorkerPool.submit(pool, answered, on_death: {self(), :task_died})
    assert_receive {[:task, :exception], %{duration_us: _}, %{kind: :error, reason: "oops"}}
    assert %{total_tasks_failed: 1, circuit_open: false} = status(pool)
    assert_received :answer
    refute_received :task_died
    # What the task of a user returns is nobody's business.
    assert :ok = WorkerPool.execute_async(pool, answered)
    assert ended() == :stop
    refute_received :answer
  end

  test "a task knows who called it", %{pool: pool} do
    start(pool)
    parent = self()
    callers = fn -> send(parent, {:callers, Process.get(:"$callers")}) end
    assert :ok = WorkerPool.execute_async(pool, callers)
    assert_receive {:callers, [^parent | _]}
  end

  test "a pool may be named by its process, or through a registry", %{pool: pool} do
    pid = start(pool)
    parent = self()
    assert :ok = WorkerPool.execute_async(pid, fn -> send(parent, :ran) end)
    assert_receive :ran
    # The event has the name all the same.
    assert ended() == :stop
    assert %{idle_workers: 2} = status(pid)
    assert {:error, :pool_not_found} = WorkerPool.execute_async(dead_pid(), fn -> :ok end)

    name = {:global, {pool, :elsewhere}}
    start_supervised!({WorkerPool, name: name})
    assert :ok = WorkerPool.execute_async(name, fn -> send(parent, :ran) end)
    assert_receive :ran
  end

  defp dead_pid do
    {pid, monitor} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _}
    pid
  end

  test "a wrong option is refused with a sentence", %{pool: pool} do
    for {key, value, expected} <- [
          {:pool_size, 0, "pool_size: expected a positive integer, got 0"},
          {:max_queue_size, -1, "max_queue_size: expected a non-negative integer, got -1"},
          {:circuit_breaker_failure_rate, 1.5,
           "circuit_breaker_failure_rate: expected nil or a number above 0 and at most 1, got 1.5"}
        ] do
      assert_raise ArgumentError, expected, fn ->
        WorkerPool.start_link([{:name, pool}, {key, value}])
      end
    end
  end

  test "a pool needs a name and takes no option it does not know", %{pool: pool} do
    assert_raise KeyError, fn -> WorkerPool.start_link(pool_size: 1) end
    assert_raise ArgumentError, fn -> WorkerPool.start_link(name: pool, size: 1) end
  end
end
