defmodule PhoenixGenApi.WorkerPool do
  @moduledoc """
  Runs tasks in the background, never more than `pool_size` at a time.

  Tasks beyond that wait in a queue of at most `max_queue_size`; then they are refused. The
  application starts `:async_pool` and `:stream_pool`.

      {:ok, _pid} = PhoenixGenApi.WorkerPool.start_link(name: :reports, pool_size: 2)
      :ok = PhoenixGenApi.WorkerPool.execute_async(:reports, fn -> build_report() end)

  A task runs in a process of its own, which the caller spawns; no other process is asked or
  told. A task that waits is a process that waits, with a few kilobytes of its own; it is begun
  by whoever gives its slot back.

  | What dies | What happens |
  |---|---|
  | a task's process | its slot goes to the next; the task counts as failed |
  | the caller | nothing: accepted tasks run |
  | the pool's process | nothing to tasks that were accepted; new ones are `:pool_not_found` until it is restarted, with counters and circuit as they were |
  | the pool, stopped by its supervisor | running tasks are killed, waiting ones never begin |

  ## The circuit

  The circuit opens when at least `circuit_breaker_threshold` tasks failed (raised, exited, were
  killed or timed out) and they are at least `circuit_breaker_failure_rate` of all tasks of the
  last 10 seconds; where there were fewer than 10 tasks, of the last 60. The pool then refuses
  tasks for `circuit_breaker_cooldown` ms and lets one through as a probe: its success closes the
  circuit, its failure opens it again. After one more cool-down without either, the next task is
  the probe. What was accepted before the circuit opened still runs, but says nothing about the
  time after.
  """

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Config.Type
  alias PhoenixGenApi.Explanation
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.WorkerPool.{Events, Registry, Server, Task}

  # {default, type}
  @options [
    pool_size: {10, {:positive, nil}},
    max_queue_size: {1_000, {:non_negative, nil}},
    task_timeout: {30_000, {:or, {:non_negative, "milliseconds"}, {:one_of, [:infinity]}}},
    circuit_breaker_threshold: {5, {:positive, nil}},
    circuit_breaker_cooldown: {60_000, {:non_negative, "milliseconds"}},
    circuit_breaker_failure_rate: {0.5, {:or, {:one_of, [nil]}, :fraction}},
    circuit_breaker_window: {100, {:positive, nil}}
  ]

  # Some 35,000 years; a longer time is not another one.
  @longest_ms 0x3FFF_FFFF_FFFF

  @type refusal :: :queue_full | :circuit_open | :pool_not_found

  # A user may have that many tasks however small the pool is.
  @smallest_share 10

  @doc """
  Starts a pool registered under `name:`.

  | Option | Default | |
  |---|---|---|
  | `pool_size` | 10 | tasks running at a time |
  | `max_queue_size` | 1,000 | tasks waiting at most |
  | `task_timeout` | 30,000 | ms, or `:infinity` |
  | `circuit_breaker_threshold` | 5 | failures that open the circuit |
  | `circuit_breaker_cooldown` | 60,000 | ms that it stays open |
  | `circuit_breaker_failure_rate` | 0.5 | the share of all tasks that they have to be, above 0 and at most 1 |
  | `circuit_breaker_window` | 100 | accepted, without effect |

  A wrong option raises `ArgumentError`. Works in client mode too; `{:error, :not_running}` while
  the application `:phoenix_gen_api` is not started.
  """
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts) do
    defaults = for {key, {default, _type}} <- @options, do: {key, default}
    {name, opts} = opts |> Keyword.validate!([:name | defaults]) |> Keyword.pop!(:name)

    for {key, value} <- opts,
        {_default, type} = @options[key],
        {:error, [{expected, got} | _]} <- [Type.cast(type, value)] do
      raise ArgumentError, "#{key}: expected #{expected}, got #{got}"
    end

    if Registry.running?(),
      do: GenServer.start_link(Server, Map.new([{:name, name} | opts]), name: name),
      else: {:error, :not_running}
  end

  @doc false
  def child_spec(opts),
    do: %{id: Keyword.fetch!(opts, :name), start: {__MODULE__, :start_link, [opts]}}

  @doc """
  Runs `fun` in a process of its own as soon as there is room.

  `timeout:` overrides the pool's `task_timeout` in ms; it counts from now, the wait in the
  queue included, and then the task is killed. A task whose time has passed in the queue does
  not run and counts as failed.
  """
  @spec execute_async(GenServer.name(), (-> term()), timeout: timeout()) ::
          :ok | {:error, refusal()}
  def execute_async(pool, fun, opts \\ []) when is_function(fun, 0) do
    timeout = Keyword.get(opts, :timeout)

    unless timeout in [nil, :infinity] or (is_integer(timeout) and timeout >= 0) do
      raise ArgumentError,
            "timeout must be :infinity or a number of milliseconds, got: #{inspect(timeout)}"
    end

    case Server.find(pool) do
      {handle, %{name: name, task_timeout: default}} ->
        opts = [timeout: milliseconds(timeout || default)]
        with {:ok, _pid} <- admit(name, handle, fun, true, opts), do: :ok

      nil ->
        {:error, :pool_not_found}
    end
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
    case Server.find(pool) do
      {handle, _opts} ->
        {size, busy, queued, circuit, executed, failed} = Native.worker_pool_status(handle)

        %{
          idle_workers: size - busy,
          busy_workers: busy,
          queued_tasks: queued,
          circuit_open: circuit != :closed,
          total_tasks_executed: executed,
          total_tasks_failed: failed
        }

      nil ->
        if pool in Registry.application_pools(), do: Gateway.handle!(:config_db)
        exit({:noproc, {__MODULE__, :status, [pool]}})
    end
  end

  @doc false
  # Explains whether the pool accepts a task of the executor. It does after the cool-down of an
  # open circuit: such a task is no probe and need not wait for one.
  @spec explain(GenServer.name(), String.t()) :: Explanation.t()
  def explain(pool, desc) do
    case Server.find(pool) do
      {handle, opts} ->
        explain(pool, desc, Native.worker_pool_status(handle), opts)

      nil ->
        Explanation.refuses(desc, {:pool, :pool_not_found}, "#{inspect(pool)}: is not running")
    end
  end

  defp explain(pool, desc, {_size, _busy, _queued, :open, _, _}, _opts) do
    because = "the circuit of #{inspect(pool)} is open"
    Explanation.refuses(desc, {:pool, :circuit_open}, because)
  end

  defp explain(_pool, desc, {size, busy, _queued, _circuit, _, _}, _opts) when busy < size,
    do: Explanation.passes(desc, "#{busy} running, #{size - busy} free")

  defp explain(_pool, desc, {_size, busy, queued, _circuit, _, _}, opts) do
    because = "#{busy} running, #{queued} queued"

    if queued < opts.max_queue_size,
      do: Explanation.passes(desc, because),
      else: Explanation.refuses(desc, {:pool, :queue_full}, because)
  end

  @doc false
  # What the executor uses; returns the process of the task. `owner:` ends the task when that
  # process dies, `on_death:` `{pid, message}` is sent if the task does not come to its end. It
  # keeps its own time, and its failures are a function's, so they do not count for the circuit.
  #
  # A task that returns `{:answer, {pid, message} | nil, crash | nil}` has the message sent in
  # the very step in which it ends: that or `on_death` is sent, also when it is killed just
  # then. The crash is that of the function, of which the answer tells.
  #
  # `max_wait: {ms, pid | nil}` is for how long and for whom it waits in the queue. Then it is
  # run at once, outside the pool, and must return an answer without doing any work.
  #
  # `caller:` is a name of which the pool has only so many tasks at a time, see `user_share`.
  # `start_within:` has the calling process wait for a slot, for so many ms; after that the task
  # is as if it had never been submitted. `spawned:` is called with its process before that.
  @spec submit(GenServer.name(), (-> term()),
          owner: pid(),
          on_death: {pid(), term()},
          max_wait: {timeout(), pid() | nil},
          caller: String.t() | {:address, String.t()} | nil,
          start_within: pos_integer(),
          spawned: (pid() -> term())
        ) :: {:ok, pid()} | {:error, refusal() | :user_share | :no_slot}
  def submit(pool, fun, opts) do
    case Server.find(pool) do
      {handle, %{name: name, pool_size: size}} ->
        admit(name, handle, fun, false, with_share(opts, size))

      nil ->
        {:error, :pool_not_found}
    end
  end

  defp with_share(opts, size) do
    case opts[:caller] do
      nil ->
        opts

      caller ->
        {name, prefix} = named(caller)
        share = trunc(size * Config.get(:worker_pool, :user_share))
        [{:share, {name, prefix, max(share, @smallest_share)}} | opts]
    end
  end

  defp named({:address, address}), do: {address, Config.get(:rate_limiter, :ipv6_prefix)}
  defp named(user), do: {user, nil}

  @doc false
  # Ends the wait of a task that was submitted with `max_wait`: it need not wait, whatever it has been told.
  @spec cancel_wait(pid()) :: :ok
  def cancel_wait(pid) do
    send(pid, {__MODULE__, :cancel_wait})
    :ok
  end

  defp admit(pool, handle, fun, counts?, opts) do
    timeout = opts[:timeout]

    case Native.worker_pool_admit(handle, counts?, timeout, opts[:on_death], opts[:share]) do
      :closed ->
        {:error, :pool_not_found}

      :circuit_open ->
        Events.rejected(pool, :circuit_open)
        {:error, :circuit_open}

      refused when refused in [:queue_full, :user_share] ->
        {:error, refused}

      slot ->
        start(slot, pool, fun, counts?, opts)
    end
  end

  defp start(slot, pool, fun, counts?, opts) do
    {timeout, receiver} = opts[:max_wait] || {:infinity, nil}
    within = opts[:start_within]

    if within && Native.worker_pool_waits(slot) do
      starter = :erlang.alias([:reply])
      max_wait = {timeout, receiver, starter}
      slot |> spawn_task(pool, fun, counts?, max_wait, opts) |> await_start(starter, within)
    else
      {:ok, spawn_task(slot, pool, fun, counts?, {timeout, receiver, nil}, opts)}
    end
  end

  defp spawn_task(slot, pool, fun, counts?, max_wait, opts) do
    pid = Task.start(slot, pool, fun, counts?, opts[:owner], max_wait)
    if spawned = opts[:spawned], do: spawned.(pid)
    pid
  end

  # A task that dies meanwhile has been accepted: `on_death` tells.
  defp await_start(pid, starter, within) do
    monitor = Process.monitor(pid)

    started =
      receive do
        {^starter, :started} -> :ok
        {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
      after
        within -> withdraw(pid, monitor, starter)
      end

    Process.demonitor(monitor, [:flush])
    with :ok <- started, do: {:ok, pid}
  end

  # Its turn may come just now.
  defp withdraw(pid, monitor, starter) do
    send(pid, {__MODULE__, :withdraw, starter})

    receive do
      {^starter, :started} -> :ok
      {^starter, :withdrawn} -> {:error, :no_slot}
      {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
    end
  end

  defp milliseconds(:infinity), do: nil
  defp milliseconds(timeout), do: min(timeout, @longest_ms)
end
