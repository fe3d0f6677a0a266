defmodule GatewayWeb.ApiChannel do
  use Phoenix.Channel
  use PhoenixGenApi, event: "api", concurrency: 4

  @impl true
  def join("api:console", _params, socket), do: {:ok, socket}

  # The channel's own events live beside those of the library.
  @impl true
  def handle_in("functions", _params, socket) do
    {:reply, {:ok, %{functions: Gateway.Catalog.functions()}}, socket}
  end
end
