defmodule PhoenixGenApi.WorkerPool.Server do
  @moduledoc false
  # The process of a pool. Tasks go on without it: it gives the pool its name and its life, and
  # does what the native side cannot, which is to kill and to emit the events of the killed.
  #
  # The pool itself is in the registry beside it and outlives its crash. Whatever was left to do
  # then is found by the next server process.
  use GenServer

  alias PhoenixGenApi.Log
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.WorkerPool
  alias PhoenixGenApi.WorkerPool.{Events, Registry}

  # For the last tasks of a pool that is stopped to be gone.
  @kill_ms 1_000

  require Log

  @doc "The pool of that name or process, with its options; nil when there is none."
  @spec find(GenServer.server()) :: Registry.pool() | nil
  def find(pid) when is_pid(pid), do: call(pid)
  def find(name), do: Registry.find(name)

  defp call(pid) do
    GenServer.call(pid, :pool)
  catch
    :exit, _reason -> nil
  end

  @impl true
  def init(%{name: name} = opts) do
    # So that it is asked to stop, and can.
    Process.flag(:trap_exit, true)
    # A node that hangs must not keep it from killing, when it has something to tell there.
    :erlang.process_flag(:async_dist, true)
    {handle, _opts} = pool = find_or_create(name, opts)
    Native.worker_pool_set_server(handle)
    {:ok, handle_events(%{name: name, pool: pool, timer: nil})}
  end

  # One that crashed left its pool behind. With other options it would be another pool.
  defp find_or_create(name, opts) do
    case Registry.find(name) do
      {_handle, ^opts} = pool ->
        pool

      _ ->
        pool = {new(opts), opts}
        :ok = Registry.put(name, pool)
        pool
    end
  end

  defp new(opts) do
    Native.worker_pool_new(
      opts.pool_size,
      opts.max_queue_size,
      opts.circuit_breaker_threshold,
      (opts.circuit_breaker_failure_rate || 0.5) / 1,
      opts.circuit_breaker_cooldown
    )
  end

  @impl true
  def handle_call(:pool, _from, state), do: {:reply, state.pool, state}

  @impl true
  # From the native side, and from its own timer.
  def handle_info({WorkerPool, :work}, state), do: {:noreply, handle_events(state)}
  def handle_info(:work, state), do: {:noreply, handle_events(state)}
  def handle_info({:EXIT, _pid, _reason}, state), do: {:noreply, state}
  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(reason, %{pool: {handle, _opts}} = state)
      when reason in [:normal, :shutdown] or elem(reason, 0) == :shutdown do
    running = Native.worker_pool_stop(handle)
    # First: the time for the rest may not be given.
    Registry.delete(state.name)

    monitors =
      for pid <- running do
        monitor = Process.monitor(pid)
        Process.exit(pid, :kill)
        monitor
      end

    for monitor <- monitors do
      receive do
        {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
      after
        @kill_ms -> :ok
      end
    end

    handle_events(state)
  end

  # Crashed, or its supervisor was killed: another process will come.
  def terminate(_reason, _state), do: :ok

  # Those to be killed are named until they are dead, so none is forgotten in a crash.
  defp handle_events(%{pool: {handle, _opts}} = state) do
    {kill, events, next_ms} = Native.worker_pool_take_work(handle)
    for pid <- kill, do: Process.exit(pid, :kill)
    for item <- events, do: emit(item, state.name)
    if state.timer, do: Process.cancel_timer(state.timer)
    %{state | timer: next_ms && Process.send_after(self(), :work, wait(next_ms))}
  end

  # The longest timer of the VM is some 49 days; it asks again then.
  defp wait(ms), do: min(ms, 0xFFFF_FFFF)

  defp emit({:killed, started, cause, changed}, name) do
    # By whom nobody knows. Otherwise it was its pool, for a reason that is none for a line.
    if cause == nil, do: Log.warning("a task of the pool #{inspect(name)} was killed")
    Events.circuit(name, changed)
    Events.failed(name, started, Events.crash(:exit, cause || :killed))
  end

  defp emit({pid, message}, _name), do: send(pid, message)
end
