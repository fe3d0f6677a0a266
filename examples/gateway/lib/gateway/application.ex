defmodule Gateway.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    children = [
      {Phoenix.PubSub, name: Gateway.PubSub},
      Gateway.Lobby,
      GatewayWeb.Endpoint
    ]

    with {:ok, supervisor} <- Supervisor.start_link(children, strategy: :one_for_one) do
      Gateway.Catalog.announce_changes()
      {:ok, supervisor}
    end
  end
end
