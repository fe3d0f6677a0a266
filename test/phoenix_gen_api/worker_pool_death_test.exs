defmodule PhoenixGenApi.WorkerPoolDeathTest do
  # Who may die, and what becomes of the tasks. Handlers see the pools of the whole node.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, Native, Telemetry, WorkerPool}
  alias PhoenixGenApi.Test.Leaks
  alias PhoenixGenApi.WorkerPool.{Registry, Server}

  @moduletag :capture_log

  setup context do
    parent = self()
    pool = :"#{context.module}_#{System.unique_integer([:positive])}"

    Telemetry.attach_worker_pool(pool, fn [_, _ | event], _measurements, metadata, _ ->
      if metadata.pool_name == pool, do: send(parent, {event, metadata})
    end)

    on_exit(fn -> Telemetry.detach_all(pool) end)
    %{pool: pool}
  end

  defp start(pool, opts),
    do: start_supervised!({WorkerPool, Keyword.merge([name: pool, pool_size: 1], opts)})

  defp task do
    parent = self()

    fn ->
      send(parent, {:running, self()})
      receive(do: (:return -> :ok))
    end
  end

  defp running do
    assert_receive {:running, pid}
    pid
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _}
  end

  # The server of the pool that comes after `pid`.
  defp successor(pool, pid) do
    Await.until(fn ->
      next = Process.whereis(pool)
      (next not in [nil, pid] and match?({_, _}, :sys.get_state(next) && {next, pool})) && next
    end)
  end

  defp busy(pool), do: Map.take(WorkerPool.status(pool), [:busy_workers, :queued_tasks])
  defp idle(pool), do: busy(pool) == %{busy_workers: 0, queued_tasks: 0}

  test "tasks that run and wait outlive the process of their pool", %{pool: pool} do
    server = start(pool, pool_size: 1)

    for _ <- 1..3,
        do: assert({:ok, _pid} = WorkerPool.submit(pool, task(), on_death: {self(), :died}))

    first = running()
    kill(server)
    send(first, :return)
    # It has begun without any server, or beside the new one.
    second = running()
    successor(pool, server)
    assert busy(pool) == %{busy_workers: 1, queued_tasks: 1}
    send(second, :return)
    send(running(), :return)
    assert Await.until(fn -> idle(pool) end)
    assert %{total_tasks_executed: 3, total_tasks_failed: 0} = WorkerPool.status(pool)
    refute_received :died
  end

  test "without its process a pool takes nothing and finishes what it has", %{pool: pool} do
    {:ok, server} =
      Task.async(fn ->
        {:ok, pid} = WorkerPool.start_link(name: pool, pool_size: 1)
        Process.unlink(pid)
        {:ok, pid}
      end)
      |> Task.await(60_000)

    for _ <- 1..2, do: assert(:ok = WorkerPool.execute_async(pool, task()))
    kill(server)
    assert WorkerPool.execute_async(pool, task()) == {:error, :pool_not_found}
    for _ <- 1..2, do: send(running(), :return)
    assert Await.until(fn -> idle(pool) end)
    Registry.delete(pool)
  end

  test "deadlines and orphans are seen to by the next server", %{pool: pool} do
    server = start(pool, pool_size: 2)
    owner = spawn(fn -> Process.sleep(:infinity) end)
    assert :ok = WorkerPool.execute_async(pool, task(), timeout: 50)
    assert {:ok, _pid} = WorkerPool.submit(pool, task(), owner: owner)
    monitors = for _ <- 1..2, do: Process.monitor(running())
    :sys.suspend(server)
    kill(owner)
    refute_receive {:DOWN, _, _, _, _}, 60
    kill(server)
    for monitor <- monitors, do: assert_receive({:DOWN, ^monitor, :process, _, :killed})

    reasons =
      for _ <- 1..2, do: assert_receive({[:task, :exception], %{reason: reason}}) && reason

    assert Enum.sort(reasons) == [":owner_died", ":timeout"]
    assert %{total_tasks_failed: 2} = WorkerPool.status(pool)
  end

  test "the next server waits for no task that is over", %{pool: pool} do
    server = start(pool, pool_size: 2)
    for ms <- [60_000, 70_000], do: :ok = WorkerPool.execute_async(pool, task(), timeout: ms)
    tasks = for _ <- 1..2, do: running()
    Await.until(fn -> :sys.get_state(server).timer end)
    for task <- tasks, do: send(task, :return)
    assert Await.until(fn -> idle(pool) end)
    kill(server)
    assert :sys.get_state(successor(pool, server)).timer == nil
  end

  test "the events of tasks that were killed wait for the next server", %{pool: pool} do
    server = start(pool, [])
    :sys.suspend(server)
    assert :ok = WorkerPool.execute_async(pool, task())
    kill(running())
    assert_received {[:task, :start], _}
    refute_receive {[:task, :exception], _}, 20
    kill(server)
    assert_receive {[:task, :exception], %{kind: :exit, reason: ":killed", stacktrace: []}}
  end

  test "a pool that is stopped kills what runs, begins nothing and says so", %{pool: pool} do
    start(pool, pool_size: 1)

    for n <- 1..3 do
      assert {:ok, _pid} = WorkerPool.submit(pool, task(), on_death: {self(), {:died, n}})
    end

    monitor = Process.monitor(running())
    {handle, _} = Server.find(pool)
    stop_supervised!(pool)
    assert_received {:DOWN, ^monitor, :process, _, :killed}
    for n <- 1..3, do: assert_receive({:died, ^n})
    refute_received {:running, _}
    assert_receive {[:task, :exception], %{reason: ":stopped"}}
    assert WorkerPool.execute_async(pool, task()) == {:error, :pool_not_found}
    assert Await.until(fn -> match?({1, 0, 0, _, _, _}, Native.worker_pool_status(handle)) end)

    # Another one of that name has nothing to do with it.
    start(pool, pool_size: 1)
    assert %{total_tasks_executed: 0} = WorkerPool.status(pool)
    assert :ok = WorkerPool.execute_async(pool, task())
    send(running(), :return)
  end

  test "pools that come and go make the VM scan no process", %{pool: pool} do
    %{count: terms} = :persistent_term.info()
    server = start(pool, [])
    # To replace or erase one that is there would do it.
    assert :persistent_term.info().count == terms
    kill(server)
    successor(pool, server)
    stop_supervised!(pool)
    assert Registry.find(pool) == nil
  end

  test "pools need the application, in whatever mode", %{pool: pool} do
    on_exit(fn ->
      Application.stop(:phoenix_gen_api)
      Application.delete_env(:phoenix_gen_api, :client_mode)
      :ok = Application.start(:phoenix_gen_api)
    end)

    :ok = Application.stop(:phoenix_gen_api)
    assert WorkerPool.start_link(name: pool) == {:error, :not_running}
    assert WorkerPool.execute_async(pool, task()) == {:error, :pool_not_found}

    Application.put_env(:phoenix_gen_api, :client_mode, true)
    :ok = Application.start(:phoenix_gen_api)
    start(pool, [])
    assert :ok = WorkerPool.execute_async(pool, task())
    send(running(), :return)
    stop_supervised!(pool)
  end

  test "a pool that has no time left to stop is gone all the same", %{pool: pool} do
    {:ok, server} = WorkerPool.start_link(name: pool, pool_size: 1)
    Process.unlink(server)
    parent = self()
    handler = fn _event, _, %{pool_name: name}, _ -> if name == pool, do: hang(parent) end

    Telemetry.attach_many(
      {pool, :hangs},
      [[:phoenix_gen_api, :worker_pool, :task, :exception]],
      handler
    )

    on_exit(fn -> Telemetry.detach_all({pool, :hangs}) end)
    assert :ok = WorkerPool.execute_async(pool, task())
    running()
    spawn(fn -> GenServer.stop(server, :shutdown) end)
    assert_receive {:hangs, ^server}
    kill(server)
    assert Registry.find(pool) == nil
  end

  defp hang(parent) do
    send(parent, {:hangs, self()})
    Process.sleep(:infinity)
  end

  test "a task that is killed while it waits is answered, and its place given up", %{pool: pool} do
    start(pool, pool_size: 1, max_queue_size: 1)
    assert :ok = WorkerPool.execute_async(pool, task())
    first = running()
    before = Process.list()
    assert {:ok, _pid} = WorkerPool.submit(pool, task(), on_death: {self(), :died})

    waits = {WorkerPool.Task, :wait, 5}

    waiting =
      Await.until(fn ->
        Enum.find(
          Process.list() -- before,
          &(Process.info(&1, :current_function) == {:current_function, waits})
        )
      end)

    kill(waiting)
    assert_receive :died
    assert busy(pool) == %{busy_workers: 1, queued_tasks: 0}
    assert {:ok, _pid} = WorkerPool.submit(pool, task(), [])
    send(first, :return)
    send(running(), :return)
    assert Await.until(fn -> idle(pool) end)
    assert %{total_tasks_executed: 2} = WorkerPool.status(pool)
  end

  test "a task whose submitter dies runs all the same", %{pool: pool} do
    start(pool, pool_size: 1)
    work = task()

    {submitter, monitor} =
      spawn_monitor(fn -> for _ <- 1..2, do: :ok = WorkerPool.execute_async(pool, work) end)

    assert_receive {:DOWN, ^monitor, :process, ^submitter, :normal}
    for _ <- 1..2, do: send(running(), :return)
    assert Await.until(fn -> idle(pool) end)
  end

  test "a task that ends while it is being killed has its one event all the same", %{pool: pool} do
    server = start(pool, circuit_breaker_threshold: 1)
    # The kill arrives between the two events that the task would emit.
    circuit = [[:phoenix_gen_api, :worker_pool, :circuit_breaker, :open]]

    Telemetry.attach_many({pool, :kills}, circuit, fn _event, _, %{pool_name: name}, _ ->
      if name == pool and self() != Process.whereis(pool), do: Process.exit(self(), :kill)
    end)

    on_exit(fn -> Telemetry.detach_all({pool, :kills}) end)
    {handle, _} = Server.find(pool)
    assert :ok = WorkerPool.execute_async(pool, task(), timeout: 20)
    pid = running()
    :sys.suspend(server)
    assert Await.until(fn -> match?({[^pid], [], nil}, Native.worker_pool_take_work(handle)) end)
    monitor = Process.monitor(pid)
    send(pid, :return)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _}
    :sys.resume(server)
    assert_receive {[:circuit_breaker, :open], %{consecutive_failures: 1}}
    assert_receive {[:task, :exception], %{kind: :exit, reason: ":timeout"}}
    refute_received {[:task, :stop], _}
    assert %{total_tasks_executed: 1, total_tasks_failed: 1} = WorkerPool.status(pool)
  end

  test "the process of a pool is not asked or told of tasks that end in time", %{pool: pool} do
    server = start(pool, pool_size: 4)
    parent = self()
    session = :trace.session_create(:messages, self(), [])
    1 = :trace.process(session, server, true, [:receive])

    for _ <- 1..100 do
      assert :ok = WorkerPool.execute_async(pool, fn -> send(parent, :ran) end)
      assert_receive :ran
      # It finds nothing to do.
      :sys.get_state(server)
    end

    :trace.session_destroy(session)
    {:messages, messages} = Process.info(self(), :messages)
    told = Enum.count(messages, &match?({:trace, ^server, :receive, {WorkerPool, :work}}, &1))
    # To set the timer, once for all of them.
    assert told == 1
  end

  test "a slot whose task was never begun is given back, and the task answered", %{pool: pool} do
    start(pool, pool_size: 1)
    {handle, _} = Server.find(pool)
    parent = self()

    # What is left of a submitter that dies between two lines.
    spawn(fn -> Native.worker_pool_admit(handle, false, nil, {parent, :died}, nil) end)
    assert_receive :died
    assert Await.until(fn -> idle(pool) end)
    assert %{total_tasks_executed: 0} = WorkerPool.status(pool)
  end

  test "an owner is watched only while its task runs", %{pool: pool} do
    start(pool, pool_size: 1)
    {:monitored_by, before} = Process.info(self(), :monitored_by)
    for _ <- 1..3, do: {:ok, _pid} = WorkerPool.submit(pool, task(), owner: self())
    for _ <- 1..3, do: send(running(), :return)
    assert Await.until(fn -> idle(pool) end)
    assert Process.info(self(), :monitored_by) == {:monitored_by, before}
  end

  @operations 10_000

  test "10,000 random submissions and deaths lose no task, answer none twice, leave nothing",
       %{pool: pool} do
    :rand.seed(:exsss, 20_261_120)
    Telemetry.detach_all(pool)
    start(pool, pool_size: 3, max_queue_size: 20)
    {handle, _} = Server.find(pool)
    watch = Leaks.watch()
    {:monitored_by, watched_by} = Process.info(self(), :monitored_by)
    {:monitors, monitors} = Process.info(self(), :monitors)

    state = %{pool: pool, hanging: %{}, accepted: MapSet.new(), ended: %{}}

    state =
      for n <- 1..@operations, reduce: state do
        state -> Enum.random(operations()).(n, state) |> gather(0)
      end

    state = finish(state)
    refute_received {:ended, _}
    refute_received {:died, _}

    for n <- state.accepted,
        do: assert(length(state.ended[n]) == 1, "#{n}: #{inspect(state.ended[n])}")

    for {n, ends} <- state.ended, do: assert(length(ends) == 1, "#{n}: #{inspect(ends)}")
    kinds = state.ended |> Map.values() |> List.flatten() |> Enum.frequencies()
    assert kinds[:ended] > 1_000 and kinds[:died] > 500

    assert Await.until(fn -> idle(pool) end)
    assert {3, 0, 0, :closed, _, _} = Native.worker_pool_status(handle)
    assert {[], [], nil} = Native.worker_pool_take_work(handle)
    assert Process.info(self(), :monitored_by) == {:monitored_by, watched_by}
    assert Process.info(self(), :monitors) == {:monitors, monitors}
    server = Process.whereis(pool)

    assert Process.info(server, [:monitors, :message_queue_len]) == [
             monitors: [],
             message_queue_len: 0
           ]

    # Nothing runs, so it has nothing to look after: not even its own timer is left.
    Leaks.assert_none(watch)
  end

  defp operations do
    List.duplicate(&quick/2, 30) ++
      List.duplicate(&raising/2, 8) ++
      List.duplicate(&hanging/2, 8) ++
      List.duplicate(&abandoned/2, 8) ++
      List.duplicate(&settle/2, 45) ++ [&crash/2]
  end

  defp quick(n, state) do
    parent = self()
    submit(n, state, fn -> {:answer, {parent, {:ended, n}}, nil} end, owner: self())
  end

  defp raising(n, state), do: submit(n, state, fn -> raise "oops" end, [])

  defp hanging(n, state) do
    owner = spawn(fn -> receive(do: (:stop -> :ok)) end)
    state = submit(n, state, hang(n, owner), owner: owner)
    unless n in state.accepted, do: Process.exit(owner, :kill)
    # Some owners are gone before the task begins.
    if :rand.uniform(8) == 1, do: Process.exit(owner, :kill)
    state
  end

  defp hang(n, owner) do
    parent = self()

    fn ->
      send(parent, {:hanging, n, self(), owner})

      receive do
        :return -> {:answer, {parent, {:ended, n}}, nil}
      end
    end
  end

  # The submitter is killed while it submits; nobody knows what was accepted.
  defp abandoned(n, state) do
    parent = self()
    opts = [on_death: {parent, {:died, n}}]

    submitter =
      spawn(fn ->
        WorkerPool.submit(state.pool, fn -> {:answer, {parent, {:ended, n}}, nil} end, opts)
      end)

    for _ <- 1..:rand.uniform(3), do: :erlang.yield()
    Process.exit(submitter, :kill)
    state
  end

  defp submit(n, state, fun, opts) do
    case WorkerPool.submit(state.pool, fun, [on_death: {self(), {:died, n}}] ++ opts) do
      {:ok, _pid} -> update_in(state.accepted, &MapSet.put(&1, n))
      # Time for those in the pool to be seen, and for a server to come back.
      {:error, reason} when reason in [:queue_full, :pool_not_found] -> gather(state, 1)
    end
  end

  defp settle(_n, %{hanging: hanging} = state) when map_size(hanging) == 0, do: state

  defp settle(_n, state) do
    {n, {pid, owner}} = Enum.random(state.hanging)

    case :rand.uniform(4) do
      1 -> Process.exit(pid, :kill) && Process.exit(owner, :kill)
      2 -> Process.exit(owner, :kill)
      # Killed while it answers.
      3 -> send(pid, :return) && :erlang.yield() && Process.exit(pid, :kill)
      4 -> send(pid, :return)
    end

    # Its end is nothing to a task that has ended.
    if :rand.uniform(2) == 1, do: Process.exit(owner, :kill), else: send(owner, :stop)

    %{state | hanging: Map.delete(state.hanging, n)}
  end

  defp crash(_n, state) do
    with pid when is_pid(pid) <- Process.whereis(state.pool), do: Process.exit(pid, :kill)
    state
  end

  defp gather(state, timeout) do
    receive do
      {:hanging, n, pid, owner} -> gather(put_in(state.hanging[n], {pid, owner}), timeout)
      {:ended, n} -> gather(ended(state, n, :ended), timeout)
      {:died, n} -> gather(ended(state, n, :died), timeout)
    after
      timeout -> state
    end
  end

  defp ended(state, n, how),
    do: update_in(state.ended, &Map.update(&1, n, [how], fn ends -> [how | ends] end))

  defp finish(state, left \\ 500) do
    state = gather(state, 10)
    missing = Enum.reject(state.accepted, &Map.has_key?(state.ended, &1))

    cond do
      missing == [] -> gather(state, 100)
      left == 0 -> flunk("never answered: #{inspect(missing)}, #{inspect(busy(state.pool))}")
      true -> finish(Enum.reduce(1..3, state, fn _, state -> settle(0, state) end), left - 1)
    end
  end
end
