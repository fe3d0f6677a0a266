defmodule PhoenixGenApi.ConfigDb.Switch do
  @moduledoc false
  # What disabling and enabling a function does on one gateway. A function that another gateway has
  # and this one has not is marked ahead: it may be on its way.
  @behaviour PhoenixGenApi.Decisions

  alias PhoenixGenApi.ConfigDb.Changes
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Telemetry

  @impl true
  def decided({:function, service, request_type, version}, change, from) do
    with {:ok, table} <- Gateway.handle(:config_db) do
      enabled? = change == :enable

      case Native.config_db_switch(table, service, request_type, version, enabled?, from != :here) do
        :not_found when from == :here ->
          {:error, :not_found}

        :changed ->
          Changes.mark(service)

          Telemetry.execute([:phoenix_gen_api, :config, change], %{}, %{
            service: service,
            request_type: request_type,
            version: version
          })

          {:ok, change}

        _unchanged_or_marked_ahead ->
          {:ok, change}
      end
    end
  end
end
