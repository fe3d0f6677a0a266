defmodule PhoenixGenApi.Diagnostics.Components do
  @moduledoc false
  # The components of a gateway: how each is asked what it is doing, and when that is worrying. A new
  # component is one row here.

  alias PhoenixGenApi.{
    Config,
    ConfigDb,
    ConfigPuller,
    ConfigReceiver,
    Format,
    Gateway,
    Native,
    RateLimiter,
    Relay,
    ServiceNodes,
    UndefinedFunctions,
    WorkerPool
  }

  alias PhoenixGenApi.Diagnostics.Probe
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  @type status :: :ok | :warning | :error
  @type check :: %{required(:status) => status(), optional(atom()) => term()}

  # A queue or a table that is nearly full is news before it is full.
  @nearly 0.9

  @doc "Every check of a gateway, by its name."
  @spec checks() :: %{atom() => check()}
  def checks do
    for {name, check} <- [
          native: &native/0,
          config_db: &config_db/0,
          services: &services/0,
          config_puller: &config_puller/0,
          config_receiver: &config_receiver/0,
          worker_pool_supervisor: fn -> process(WorkerPoolSupervisor) end,
          async_pool: fn -> pool(:async_pool) end,
          stream_pool: fn -> pool(:stream_pool) end,
          rate_limiter: &rate_limiter/0,
          relay: &relay/0,
          supervision_tree: &supervision_tree/0
        ],
        into: %{} do
      case Probe.run(check) do
        {:ok, check} -> {name, check}
        {:error, reason} -> {name, error(reason)}
      end
    end
  end

  @doc "What every component says of itself; `%{error: sentence}` of one that does not answer."
  @spec statuses() :: %{atom() => map()}
  def statuses do
    for {name, module} <- reporting(), into: %{worker_pool: Map.new(pools())} do
      {name, status(fn -> module.status() end)}
    end
  end

  @doc "The same keys for a node without a gateway."
  @spec no_statuses() :: %{atom() => nil}
  def no_statuses, do: Map.new([:worker_pool | Keyword.keys(reporting())], &{&1, nil})

  defp reporting do
    [
      config_db: ConfigDb,
      config_puller: ConfigPuller,
      config_receiver: ConfigReceiver,
      rate_limiter: RateLimiter,
      relay: Relay
    ]
  end

  @doc "The status of every pool of the application."
  @spec pools() :: [{atom(), map()}]
  def pools do
    for pool <- WorkerPoolSupervisor.pools(),
        do: {pool, status(fn -> WorkerPool.status(pool) end)}
  end

  @doc "The worst of several statuses."
  @spec worst([status()]) :: status()
  def worst(statuses) do
    cond do
      :error in statuses -> :error
      :warning in statuses -> :warning
      true -> :ok
    end
  end

  defp status(fun) do
    case Probe.run(fun) do
      {:ok, status} -> status
      {:error, reason} -> %{error: reason}
    end
  end

  defp native do
    with :ok <- Native.status(),
         {:ok, _table} <- Gateway.handle(:config_db) do
      %{status: :ok, file: Native.file()}
    else
      {:error, sentence} when is_binary(sentence) -> error(sentence)
      {:error, :not_running} -> error("no gateway runs on this node")
    end
  end

  defp config_db do
    %{count: count, services: services, memory_bytes: bytes} = ConfigDb.status()
    undefined = UndefinedFunctions.current(&(ConfigDb.get(&1, &2, &3) != {:error, :not_found}))
    figures = %{count: count, services: length(services), memory_bytes: bytes}

    %{status: :ok, undefined: undefined}
    |> Map.merge(figures)
    |> warn(undefined != [], "undefined functions: " <> Format.names(undefined))
  end

  defp services do
    without = ServiceNodes.without()

    %{status: :ok, without_nodes: without}
    |> warn(without != [], "no node: " <> Format.names(without))
  end

  defp config_puller do
    %{services: services, failure_count: failures} = ConfigPuller.status()
    figures = %{services: length(services), failure_count: failures}

    ConfigPuller
    |> process()
    |> Map.merge(figures)
    |> warn(failures > 0, "pulls have failed")
  end

  defp config_receiver,
    do: Map.put(process(ConfigReceiver), :services, ConfigReceiver.status().count)

  defp pool(name) do
    status = WorkerPool.status(name)

    figures =
      Map.take(status, [:idle_workers, :busy_workers, :queued_tasks, :circuit_open])

    %{status: :ok}
    |> Map.merge(figures)
    |> warn(status.circuit_open, "the circuit is open")
    |> warn(status.queued_tasks > 0 and status.idle_workers == 0, "all workers are busy")
    |> warn(
      status.queued_tasks >= @nearly * Config.get(:worker_pool, :max_queue_size),
      "the queue is nearly full"
    )
  end

  defp relay do
    status = Relay.status()

    Relay.Supervisor
    |> process()
    |> Map.merge(status)
    |> warn(status.groups >= @nearly * Config.get(:relay, :max_groups), "groups are nearly full")
  end

  defp rate_limiter do
    status = RateLimiter.status()
    figures = Map.take(status, [:enabled, :keys, :entries, :overflowed, :memory_bytes])

    RateLimiter.Server
    |> process()
    |> Map.merge(figures)
    |> warn(status.entries >= @nearly * Config.get(:rate_limiter, :max_entries), "nearly full")
  end

  defp supervision_tree do
    missing =
      for {id, child, _type, _modules} <- Supervisor.which_children(PhoenixGenApi.Supervisor),
          not is_pid(child),
          do: id

    children = Supervisor.count_children(PhoenixGenApi.Supervisor)

    if missing == [],
      do: %{status: :ok, children: children.active},
      else: error("not running: #{inspect(missing)}")
  end

  # Messages that wait say that the process is stuck; nothing here should ever have many.
  @waiting 1_000

  defp process(name) do
    with pid when is_pid(pid) <- Process.whereis(name),
         [memory: memory, message_queue_len: waiting] <-
           Process.info(pid, [:memory, :message_queue_len]) do
      %{status: :ok, memory_bytes: memory, message_queue_len: waiting}
      |> warn(waiting > @waiting, "does not keep up with its messages")
    else
      nil -> error("is not running")
    end
  end

  defp warn(check, true, reason) when check.status != :error,
    do: Map.merge(check, %{status: :warning, reason: reason})

  defp warn(check, _false, _reason), do: check

  defp error(reason), do: %{status: :error, reason: reason}
end
