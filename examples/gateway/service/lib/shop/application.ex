defmodule Shop.Application do
  @moduledoc false
  use Application

  alias PhoenixGenApi.Service

  # Offers the functions to the gateways. Last: what stops first are the requests.
  @impl true
  def start(_type, _args) do
    children = [
      {Service, [apis: [Shop.Releases]] ++ Shop.Releases.gateways()},
      Shop.Releases.child("1")
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Shop.Supervisor)
  end
end
