defmodule PhoenixGenApi.WorkerPool.WorkerPoolSupervisor do
  @moduledoc """
  Starts the two pools of the application, `:async_pool` and `:stream_pool`.

  Part of the gateway; their sizes are configured:

      config :phoenix_gen_api, :worker_pool, async_pool_size: 1_000, stream_pool_size: 500

  Pools of your own are started with `PhoenixGenApi.WorkerPool.start_link/1`.
  """
  use Supervisor

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ProcessNames
  alias PhoenixGenApi.WorkerPool
  alias PhoenixGenApi.WorkerPool.Registry

  @sizes %{async_pool: :async_pool_size, stream_pool: :stream_pool_size}

  @shared [
    :max_queue_size,
    :circuit_breaker_threshold,
    :circuit_breaker_cooldown,
    :circuit_breaker_failure_rate,
    :circuit_breaker_window
  ]

  @doc false
  @spec pools() :: [atom()]
  defdelegate pools, to: Registry, as: :application_pools

  @doc false
  def start_link(_opts), do: Supervisor.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    shared = for key <- @shared, do: {key, Config.get(:worker_pool, key)}

    ProcessNames.await_free(pools())

    children =
      for name <- pools() do
        {WorkerPool, [name: name, pool_size: Config.get(:worker_pool, @sizes[name])] ++ shared}
      end

    Supervisor.init(children, strategy: :one_for_one)
  end
end
