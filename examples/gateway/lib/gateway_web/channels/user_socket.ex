defmodule GatewayWeb.UserSocket do
  use Phoenix.Socket

  channel "api:*", GatewayWeb.ApiChannel
  channel "chat:*", GatewayWeb.ChatChannel

  # An example believes the name that it is given. An application verifies a token here: the
  # library takes `user_id` from the socket, never from a request.
  @impl true
  def connect(%{"user" => user}, socket, connect_info) when byte_size(user) in 1..40 do
    {:ok, socket |> assign(:user_id, user) |> PhoenixGenApi.put_client_ip(connect_info)}
  end

  def connect(_params, _socket, _connect_info), do: :error

  @impl true
  def id(socket), do: "user:" <> socket.assigns.user_id
end
