defmodule PhoenixGenApi.WorkerPool.WorkerPoolSupervisor do
  @moduledoc """
  Starts the two pools of the application, `:async_pool` and `:stream_pool`.

  Part of the gateway; their sizes are configured:

      config :phoenix_gen_api, :worker_pool, async_pool_size: 1_000, stream_pool_size: 500

  Pools of your own are started with `PhoenixGenApi.WorkerPool.start_link/1`.
  """
  use Supervisor

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.WorkerPool

  # The pools and the options of their sizes.
  @pools [async_pool: :async_pool_size, stream_pool: :stream_pool_size]

  @shared [
    :max_queue_size,
    :circuit_breaker_threshold,
    :circuit_breaker_cooldown,
    :circuit_breaker_failure_rate,
    :circuit_breaker_window
  ]

  @end_ms 5_000

  @doc false
  @spec pools() :: [atom()]
  def pools, do: Keyword.keys(@pools)

  @doc false
  def start_link(_opts), do: Supervisor.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    shared = for key <- @shared, do: {key, Config.get(:worker_pool, key)}

    for name <- pools(), do: await_end(name)

    children =
      for {name, size} <- @pools do
        {WorkerPool, [name: name, pool_size: Config.get(:worker_pool, size)] ++ shared}
      end

    Supervisor.init(children, strategy: :one_for_one)
  end

  # Pools outlive a supervisor that was killed by a moment. A start that found their names taken
  # would be tried again at once, until the supervisor above gives up and ends the gateway.
  defp await_end(name) do
    if pid = Process.whereis(name) do
      monitor = Process.monitor(pid)

      receive do
        {:DOWN, ^monitor, :process, ^pid, _reason} -> :ok
      after
        @end_ms -> Process.demonitor(monitor, [:flush])
      end
    end
  end
end
