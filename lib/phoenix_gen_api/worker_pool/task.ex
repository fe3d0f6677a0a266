defmodule PhoenixGenApi.WorkerPool.Task do
  @moduledoc false
  # The process of one task: waits for a slot, runs, gives the slot back.

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.WorkerPool
  alias PhoenixGenApi.WorkerPool.Events

  @typedoc "For how many ms a task waits in the queue, and for whom, at most; and who is told of its start."
  @type max_wait :: {timeout(), pid() | nil, starter :: reference() | nil}

  # The longest that the VM can wait in a receive, some 49 days.
  @longest_wait 0xFFFF_FFFF

  @doc "Begins the process of an accepted task. It is not linked: the slot watches it."
  @spec start(reference(), GenServer.name(), (-> term()), boolean(), pid() | nil, max_wait()) ::
          pid()
  def start(slot, pool, fun, counts?, owner, max_wait) do
    callers = [self() | Process.get(:"$callers", [])]
    spawn(__MODULE__, :run, [slot, pool, fun, counts?, owner, max_wait, callers])
  end

  @doc false
  @spec run(
          reference(),
          GenServer.name(),
          (-> term()),
          boolean(),
          pid() | nil,
          max_wait(),
          [pid()]
        ) :: :ok
  def run(slot, pool, fun, counts?, owner, max_wait, callers) do
    Process.put(:"$callers", callers)
    started = System.monotonic_time()

    slot
    |> Native.worker_pool_enter(true, local_owner(owner), started)
    |> entered(slot, pool, fun, counts?, max_wait, started)
  end

  defp entered(:wait, slot, pool, fun, counts?, max_wait, _started),
    do: wait(slot, pool, fun, counts?, max_wait)

  # Also if it has not waited at all: a slot may have become free since it was submitted.
  defp entered(entry, slot, pool, fun, counts?, {_timeout, _receiver, starter}, started) do
    if starter, do: send(starter, {starter, :started})
    proceed(entry, slot, pool, fun, counts?, started)
  end

  defp wait(slot, pool, fun, counts?, {timeout, receiver, starter} = max_wait) do
    # Of one on another node a later monitor could tell later: the task might begin.
    monitor = if receiver && node(receiver) == node(), do: Process.monitor(receiver)

    receive do
      {WorkerPool, :wake} ->
        if monitor, do: Process.demonitor(monitor, [:flush])
        started = System.monotonic_time()

        slot
        |> Native.worker_pool_enter(false, nil, started)
        |> entered(slot, pool, fun, counts?, max_wait, started)

      {:DOWN, ^monitor, :process, ^receiver, _reason} ->
        leave_queue(slot, fun)

      {WorkerPool, :cancel_wait} ->
        leave_queue(slot, fun)

      # Nobody has been told of it.
      {WorkerPool, :withdraw, ^starter} ->
        Native.worker_pool_leave(slot, :answered, nil)
        send(starter, {starter, :withdrawn})
        :ok
    after
      wait_ms(timeout) -> leave_queue(slot, fun)
    end
  end

  defp wait_ms(:infinity), do: :infinity
  defp wait_ms(timeout), do: min(timeout, @longest_wait)

  # It finds out for itself that it is too late, and needs no slot to say so. Until it has, it
  # keeps its place, so that nothing is lost should it be killed.
  defp leave_queue(slot, fun) do
    {:answer, answer, _crash} = fun.()
    Native.worker_pool_leave(slot, :answered, send_if_remote(answer))
    :ok
  end

  defp proceed(:run, slot, pool, fun, counts?, started),
    do: perform(slot, pool, fun, counts?, started)

  defp proceed(:late, slot, pool, _fun, _counts?, started),
    do: refused(slot, pool, :timeout, started)

  defp proceed(:orphan, slot, pool, _fun, _counts?, started),
    do: refused(slot, pool, :owner_died, started)

  defp proceed(:gone, _slot, _pool, _fun, _counts?, _started), do: :ok

  defp refused(slot, pool, reason, started) do
    Events.started(pool, started)
    ended(slot, pool, :failed, Events.crash(:exit, reason), nil, started)
  end

  defp perform(slot, pool, fun, counts?, started) do
    Events.started(pool, started)

    try do
      fun.()
    catch
      kind, reason ->
        crash = Telemetry.crash_metadata(kind, reason, __STACKTRACE__)
        ended(slot, pool, :failed, crash, nil, started)
    else
      {:answer, answer, crash} when not counts? ->
        ended(slot, pool, if(crash, do: :answered, else: :returned), crash, answer, started)

      _result ->
        ended(slot, pool, :returned, nil, nil, started)
    end
  end

  # Whoever is told of the end finds it counted.
  defp ended(slot, pool, how, crash, answer, started) do
    case Native.worker_pool_leave(slot, how, send_if_remote(answer)) do
      # The server tells of it: this process may not live to do so.
      :killed ->
        :ok

      changed ->
        Events.circuit(pool, changed)
        if crash, do: Events.failed(pool, started, crash), else: Events.stopped(pool, started)
    end
  end

  # The native side sends to processes of this node only.
  defp send_if_remote({pid, message}) when node(pid) != node() do
    # The slot is not for waiting until a node that hangs takes it.
    :erlang.process_flag(:async_dist, true)
    send(pid, message)
    nil
  end

  defp send_if_remote(answer), do: answer

  # The native side watches processes of this node only.
  defp local_owner(owner) when is_pid(owner) and node(owner) != node() do
    task = self()
    spawn(fn -> watch(task, owner) end)
    nil
  end

  defp local_owner(owner), do: owner

  defp watch(task, owner) do
    task_monitor = Process.monitor(task)
    owner_monitor = Process.monitor(owner)

    receive do
      {:DOWN, ^task_monitor, :process, _pid, _reason} -> :ok
      {:DOWN, ^owner_monitor, :process, _pid, _reason} -> Process.exit(task, :kill)
    end
  end
end
