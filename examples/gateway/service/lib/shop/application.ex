defmodule Shop.Application do
  @moduledoc false
  use Application

  alias PhoenixGenApi.ConfigPusher

  # Pushes what this service offers to each gateway, now and whenever a gateway comes up.
  @impl true
  def start(_type, _args) do
    pusher =
      {ConfigPusher,
       gateways: Shop.Directory.gateways(), push_config: Shop.Directory.release("1")}

    Supervisor.start_link([pusher], strategy: :one_for_one)
  end
end
