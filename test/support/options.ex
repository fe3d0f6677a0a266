defmodule PhoenixGenApi.Test.Options do
  # Options for one test, in force at once and taken back when it ends.

  import ExUnit.Callbacks, only: [on_exit: 1]

  @app :phoenix_gen_api

  @doc """
  Has the application's pools go on whatever fails in them. Tests that fail on purpose share them, and five
  in ten seconds would open their circuits.
  """
  def open_no_pool_circuits do
    before = Application.get_env(@app, :worker_pool)
    unlimited = Keyword.put(before || [], :circuit_breaker_threshold, 4_294_967_295)
    Application.put_env(@app, :worker_pool, unlimited)
    :ok = PhoenixGenApi.reload_config()
    pools = PhoenixGenApi.WorkerPool.WorkerPoolSupervisor
    :ok = Supervisor.terminate_child(PhoenixGenApi.Supervisor, pools)
    {:ok, _pid} = Supervisor.restart_child(PhoenixGenApi.Supervisor, pools)

    if before,
      do: Application.put_env(@app, :worker_pool, before),
      else: Application.delete_env(@app, :worker_pool)

    :ok = PhoenixGenApi.reload_config()
  end

  @doc "Sets those of a section; `reload` puts them in force."
  def set(section, options, reload \\ &PhoenixGenApi.reload_config/0) do
    before = Application.get_env(@app, section)
    Application.put_env(@app, section, options)
    :ok = reload.()

    on_exit(fn ->
      if before,
        do: Application.put_env(@app, section, before),
        else: Application.delete_env(@app, section)

      :ok = reload.()
    end)
  end
end
