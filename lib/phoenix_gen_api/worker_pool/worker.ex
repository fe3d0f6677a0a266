defmodule PhoenixGenApi.WorkerPool.Worker do
  @moduledoc """
  A process that runs tasks one at a time, for those who keep their own workers.

      {:ok, worker} = PhoenixGenApi.WorkerPool.Worker.start_link(pool_name: :reports)
      :ok = PhoenixGenApi.WorkerPool.Worker.execute(worker, fn -> build_report() end)

  After each task the process named `pool_name` gets `{:worker_done, pid}`. The events of a
  task are those of a pool's task. The pools of this library keep no such workers: each of
  their tasks has a process of its own, see `PhoenixGenApi.WorkerPool`.
  """
  use GenServer

  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.WorkerPool.Events

  @doc "Starts a worker. `pool_name:` is the name or pid of the process to be told; required."
  @spec start_link(pool_name: GenServer.server()) :: GenServer.on_start()
  def start_link(opts) do
    opts = Keyword.validate!(opts, [:pool_name])
    GenServer.start_link(__MODULE__, Keyword.fetch!(opts, :pool_name))
  end

  @doc """
  Has the worker run `fun` after what it was given before. `:ok` at once, also when the worker
  is gone. What `fun` raises, throws or exits with ends the task and not the worker.
  """
  @spec execute(GenServer.server(), (-> term())) :: :ok
  def execute(worker, fun) when is_function(fun, 0), do: GenServer.cast(worker, {:execute, fun})

  @impl true
  def init(pool), do: {:ok, pool}

  @impl true
  def handle_cast({:execute, fun}, pool) do
    started = System.monotonic_time()
    Events.started(pool, started)

    try do
      fun.()
    catch
      kind, reason ->
        Events.failed(pool, started, Telemetry.crash_metadata(kind, reason, __STACKTRACE__))
    else
      _result -> Events.stopped(pool, started)
    end

    with dest when dest != nil <- GenServer.whereis(pool), do: send(dest, {:worker_done, self()})
    {:noreply, pool}
  end

  # What a task has left in the mailbox.
  @impl true
  def handle_info(_message, pool), do: {:noreply, pool}
end
