defmodule PhoenixGenApi.Test.Options do
  # Options for one test, in force at once and taken back when it ends.

  import ExUnit.Callbacks, only: [on_exit: 1]

  @app :phoenix_gen_api

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
