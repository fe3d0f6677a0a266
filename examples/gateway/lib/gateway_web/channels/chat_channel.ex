defmodule GatewayWeb.ChatChannel do
  use Phoenix.Channel
  use PhoenixGenApi, event: "chat", relay_event: "message"

  alias PhoenixGenApi.Relay

  @impl true
  def join("chat:" <> group, _params, socket) do
    case Relay.join_group(group, socket.assigns.user_id, self()) do
      {:ok, status} -> {:ok, %{status: status}, socket}
      {:error, reason} -> {:error, %{reason: reason}}
    end
  end
end
