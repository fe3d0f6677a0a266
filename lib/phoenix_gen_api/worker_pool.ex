defmodule PhoenixGenApi.WorkerPool do
  @moduledoc """
  Runs tasks in the background, never more than `pool_size` at a time.

  Tasks beyond that wait in a queue of at most `max_queue_size`; then they are refused. The
  application starts `:async_pool` and `:stream_pool`.

      {:ok, _pid} = PhoenixGenApi.WorkerPool.start_link(name: :reports, pool_size: 2)
      :ok = PhoenixGenApi.WorkerPool.execute_async(:reports, fn -> build_report() end)

  After `circuit_breaker_threshold` failed tasks in a row (raised, exited, killed or timed out)
  the pool refuses tasks for `circuit_breaker_cooldown` ms, then lets one through as a probe:
  its success closes the circuit, its failure opens it again.
  """
  use GenServer

  alias PhoenixGenApi.Excerpt
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  @defaults [
    pool_size: 10,
    max_queue_size: 1_000,
    task_timeout: 30_000,
    circuit_breaker_threshold: 5,
    circuit_breaker_cooldown: 60_000
  ]

  @type refusal :: :queue_full | :circuit_open | :pool_not_found

  @doc """
  Starts a pool registered under `name:`.

  Options: `pool_size` (10), `max_queue_size` (1,000), `task_timeout` (30,000 ms),
  `circuit_breaker_threshold` (5), `circuit_breaker_cooldown` (60,000 ms).
  """
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts) do
    opts = Keyword.validate!(opts, [:name | @defaults])
    GenServer.start_link(__MODULE__, opts, name: Keyword.fetch!(opts, :name))
  end

  @doc false
  def child_spec(opts),
    do: %{id: Keyword.fetch!(opts, :name), start: {__MODULE__, :start_link, [opts]}}

  @doc """
  Runs `fun` in a process of its own as soon as there is room.

  `timeout:` overrides the pool's `task_timeout` in ms; it counts from now, the wait in the
  queue included. A task whose time has passed in the queue does not run and counts as failed.
  """
  @spec execute_async(GenServer.name(), (-> term()), timeout: timeout()) ::
          :ok | {:error, refusal()}
  def execute_async(pool, fun, opts \\ []) when is_function(fun, 0) do
    timeout = Keyword.get(opts, :timeout)

    unless timeout in [nil, :infinity] or (is_integer(timeout) and timeout >= 0) do
      raise ArgumentError,
            "timeout must be :infinity or a number of milliseconds, got: #{inspect(timeout)}"
    end

    submit(pool, fun, counts?: true, timeout: timeout)
  end

  @doc """
  What the pool is doing and has done.

  For the pools of the application raises `RuntimeError` where no gateway runs.
  """
  @spec status(GenServer.name()) :: %{
          idle_workers: non_neg_integer(),
          busy_workers: non_neg_integer(),
          queued_tasks: non_neg_integer(),
          circuit_open: boolean(),
          total_tasks_executed: non_neg_integer(),
          total_tasks_failed: non_neg_integer()
        }
  def status(pool) do
    GenServer.call(pool, :status)
  catch
    :exit, {:noproc, _call} = reason ->
      if pool in WorkerPoolSupervisor.pools(), do: Gateway.handle!(:config_db)
      exit(reason)
  end

  @doc false
  # What the executor uses. `owner:` ends the task when that process dies, `on_death:`
  # `{pid, message}` is sent if the task's process dies; its failures are a function's, so
  # they do not count for the circuit, and it keeps its own time.
  @spec submit(GenServer.name(), (-> term()), keyword()) :: :ok | {:error, refusal()}
  def submit(pool, fun, opts) do
    task = %{
      fun: fun,
      timeout: if(opts[:counts?], do: opts[:timeout], else: :infinity),
      counts?: Keyword.get(opts, :counts?, false),
      owner: opts[:owner],
      on_death: opts[:on_death]
    }

    GenServer.call(pool, {:submit, task}, :infinity)
  catch
    # It is not there, or died before it answered.
    :exit, {_reason, {GenServer, :call, _}} -> {:error, :pool_not_found}
  end

  @impl true
  def init(opts) do
    {:ok,
     %{
       name: opts[:name],
       opts: Map.new(opts),
       # monitor => {pid, task, timer, owner monitor, started}
       running: %{},
       queue: :queue.new(),
       # owner monitor => task monitor
       owners: %{},
       executed: 0,
       failed: 0,
       consecutive: 0,
       # :closed | {:open, until} | {:probing, monitor}
       circuit: :closed
     }}
  end

  @impl true
  def handle_call({:submit, task}, _from, state) do
    task = %{task | timeout: task.timeout || state.opts.task_timeout}

    case admit(task, state) do
      {:run, state} -> {:reply, :ok, start(Map.put(task, :due, due(task)), state)}
      :queue -> {:reply, :ok, enqueue(Map.put(task, :due, due(task)), state)}
      {:refuse, reason} -> {:reply, {:error, reason}, refused(reason, state)}
    end
  end

  def handle_call(:status, _from, state) do
    busy = map_size(state.running)

    status = %{
      idle_workers: state.opts.pool_size - busy,
      busy_workers: busy,
      queued_tasks: :queue.len(state.queue),
      circuit_open: state.circuit != :closed,
      total_tasks_executed: state.executed,
      total_tasks_failed: state.failed
    }

    {:reply, status, state}
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, reason}, state) do
    case state do
      %{running: %{^monitor => worker}} -> {:noreply, ended(monitor, worker, reason, state)}
      %{owners: %{^monitor => task}} -> {:noreply, orphaned(task, monitor, state)}
      _ -> {:noreply, state}
    end
  end

  def handle_info({:expired, monitor}, state) do
    with %{running: %{^monitor => worker}} <- state, do: Process.exit(worker.pid, :kill)
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp admit(%{counts?: true}, %{circuit: {:open, until}} = state) do
    cond do
      now() < until -> {:refuse, :circuit_open}
      map_size(state.running) < state.opts.pool_size -> {:run, %{state | circuit: :half_open}}
      true -> {:refuse, :circuit_open}
    end
  end

  defp admit(%{counts?: false}, %{circuit: {:open, until}} = state) do
    if now() < until, do: {:refuse, :circuit_open}, else: room(state)
  end

  defp admit(%{counts?: true}, %{circuit: {:probing, _}}), do: {:refuse, :circuit_open}
  defp admit(_task, state), do: room(state)

  defp room(state) do
    cond do
      map_size(state.running) < state.opts.pool_size -> {:run, state}
      :queue.len(state.queue) < state.opts.max_queue_size -> :queue
      true -> {:refuse, :queue_full}
    end
  end

  defp refused(:circuit_open, state) do
    emit([:task, :rejected], Telemetry.start_measurements(), %{
      pool_name: state.name,
      reason: :circuit_open
    })

    state
  end

  defp refused(_reason, state), do: state

  defp enqueue(task, state), do: %{state | queue: :queue.in(task, state.queue)}

  defp start(task, state) do
    started = System.monotonic_time()
    emit([:task, :start], Telemetry.start_measurements(started), %{pool_name: state.name})
    {pid, monitor} = spawn_monitor(fn -> run(task.fun) end)
    owner = task.owner && Process.monitor(task.owner)
    worker = %{pid: pid, task: task, owner: owner, started: started, timer: timer(task, monitor)}
    owners = if owner, do: Map.put(state.owners, owner, monitor), else: state.owners
    circuit = if state.circuit == :half_open, do: {:probing, monitor}, else: state.circuit
    %{state | running: Map.put(state.running, monitor, worker), owners: owners, circuit: circuit}
  end

  # What a task raises is its outcome, not a crash to be reported by the VM.
  defp run(fun) do
    fun.()
  catch
    kind, reason -> exit({:task_failed, kind, Excerpt.reason(kind, reason), __STACKTRACE__})
  end

  defp due(%{timeout: :infinity}), do: :infinity
  defp due(%{timeout: timeout}), do: now() + timeout

  defp timer(%{due: :infinity}, _monitor), do: nil

  defp timer(%{due: due}, monitor),
    do: Process.send_after(self(), {:expired, monitor}, max(due - now(), 0))

  defp ended(monitor, worker, reason, state) do
    if worker.timer, do: Process.cancel_timer(worker.timer)
    if worker.owner, do: Process.demonitor(worker.owner, [:flush])
    report(worker, reason, state)

    state = %{
      state
      | running: Map.delete(state.running, monitor),
        owners: Map.delete(state.owners, worker.owner)
    }

    state |> count(worker.task, reason, monitor) |> next()
  end

  defp count(state, task, reason, monitor) do
    failed = if reason == :normal, do: 0, else: 1
    state = %{state | executed: state.executed + 1, failed: state.failed + failed}
    circuit(state, task, reason, monitor)
  end

  defp report(worker, :normal, state) do
    measurements = Telemetry.stop_measurements(worker.started)
    emit([:task, :stop], measurements, %{pool_name: state.name})
  end

  defp report(worker, reason, state) do
    with {pid, message} <- worker.task.on_death, do: send(pid, message)
    {kind, text, stack} = cause(reason)

    emit([:task, :exception], Telemetry.stop_measurements(worker.started), %{
      pool_name: state.name,
      kind: kind,
      reason: text,
      stacktrace: stack
    })
  end

  defp cause({:task_failed, kind, text, stack}), do: {kind, text, stack}
  defp cause(reason), do: {:exit, Excerpt.inspect(reason), []}

  defp circuit(state, %{counts?: false}, _reason, _monitor), do: state

  defp circuit(state, _task, :normal, monitor) do
    if state.circuit == {:probing, monitor},
      do: emit([:circuit_breaker, :close], %{}, %{pool_name: state.name})

    circuit = if state.circuit == {:probing, monitor}, do: :closed, else: state.circuit
    %{state | consecutive: 0, circuit: circuit}
  end

  defp circuit(state, _task, _reason, monitor) do
    state = %{state | consecutive: state.consecutive + 1}
    failed_probe? = state.circuit == {:probing, monitor}
    over? = state.consecutive >= state.opts.circuit_breaker_threshold

    if failed_probe? or (state.circuit == :closed and over?) do
      metadata = %{pool_name: state.name, consecutive_failures: state.consecutive}
      emit([:circuit_breaker, :open], %{}, metadata)
      %{state | circuit: {:open, now() + state.opts.circuit_breaker_cooldown}}
    else
      state
    end
  end

  defp next(state) do
    with true <- map_size(state.running) < state.opts.pool_size,
         {{:value, task}, queue} <- :queue.out(state.queue) do
      state = %{state | queue: queue}

      cond do
        abandoned?(task) -> next(state)
        expired?(task) -> state |> expire(task) |> next()
        true -> start(task, state)
      end
    else
      _ -> state
    end
  end

  # Its owner died while it waited: begun, it would call a function only to be killed. Of an
  # owner on another node the monitor of a running task tells.
  defp abandoned?(%{owner: owner}),
    do: is_pid(owner) and node(owner) == node() and not Process.alive?(owner)

  # The executor's tasks have no time here: they report their own timeout.
  defp expired?(%{due: due}), do: due != :infinity and due <= now()

  defp expire(state, task) do
    started = System.monotonic_time()
    emit([:task, :start], Telemetry.start_measurements(started), %{pool_name: state.name})
    report(%{task: task, started: started}, :timeout, state)
    count(state, task, :timeout, nil)
  end

  defp orphaned(monitor, owner, state) do
    with %{^monitor => worker} <- state.running, do: Process.exit(worker.pid, :kill)
    %{state | owners: Map.delete(state.owners, owner)}
  end

  defp emit(event, measurements, metadata),
    do: Telemetry.execute([:phoenix_gen_api, :worker_pool | event], measurements, metadata)

  defp now, do: System.monotonic_time(:millisecond)
end
