defmodule PhoenixGenApi.WorkerPool.Events do
  @moduledoc false
  # What a pool tells of its tasks and of its circuit.

  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Telemetry

  @typedoc "What the end of a task did to the circuit."
  @type change :: nil | :closed | {:opened, pos_integer()}
  @type crash :: %{kind: atom(), reason: String.t(), stacktrace: Exception.stacktrace()}

  @spec started(GenServer.name(), integer()) :: :ok
  def started(pool, at),
    do: emit([:task, :start], Telemetry.start_measurements(at), %{pool_name: pool})

  @spec stopped(GenServer.name(), integer()) :: :ok
  def stopped(pool, started),
    do: emit([:task, :stop], Telemetry.stop_measurements(started), %{pool_name: pool})

  @spec failed(GenServer.name(), integer(), crash()) :: :ok
  def failed(pool, started, crash) do
    metadata = Map.put(crash, :pool_name, pool)
    emit([:task, :exception], Telemetry.stop_measurements(started), metadata)
  end

  @spec rejected(GenServer.name(), :circuit_open) :: :ok
  def rejected(pool, reason) do
    metadata = %{pool_name: pool, reason: reason}
    emit([:task, :rejected], Telemetry.start_measurements(), metadata)
  end

  @spec circuit(GenServer.name(), change()) :: :ok
  def circuit(_pool, nil), do: :ok
  def circuit(pool, :closed), do: emit([:circuit_breaker, :close], %{}, %{pool_name: pool})

  def circuit(pool, {:opened, failures}) do
    metadata = %{pool_name: pool, consecutive_failures: failures}
    emit([:circuit_breaker, :open], %{}, metadata)
  end

  @doc "The end of a task that raised nothing itself."
  @spec crash(:exit, term()) :: crash()
  def crash(kind, reason), do: %{kind: kind, reason: SafeInspect.inspect(reason), stacktrace: []}

  defp emit(event, measurements, metadata),
    do: Telemetry.execute([:phoenix_gen_api, :worker_pool | event], measurements, metadata)
end
