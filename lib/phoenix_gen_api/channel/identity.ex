defmodule PhoenixGenApi.Channel.Identity do
  @moduledoc false
  # Who sends a request over a channel: what the socket knows, and the little that a client may
  # say itself. Where the socket says anything of a field, the client has no say in it.

  alias PhoenixGenApi.Channel.Options
  alias PhoenixGenApi.Identity
  alias PhoenixGenApi.Structs.Request
  alias PhoenixGenApi.Log

  require Log

  @fields [:user_id, :user_roles, :device_id, :ip_address]

  @doc "What the assigns of a socket say."
  @spec of(map()) :: Identity.t()
  def of(assigns) do
    %Identity{
      user_id: assigned(:user_id, assigns),
      user_roles: assigned(:user_roles, assigns),
      device_id: assigned(:device_id, assigns),
      ip_address:
        assigned(:ip_address, assigns) || peer(assigns) || peer(Map.get(assigns, :connect_info))
    }
  end

  @doc """
  The payload without what the socket decides.

  Taken out ahead of decoding: what does not count must not make a request invalid either.
  """
  @spec without_claims(term(), map(), Options.t()) :: term()
  def without_claims(payload, assigns, options) when is_map(payload) do
    keys = [:ip_address, "ip_address"]
    keys = if said?(:device_id, assigns), do: [:device_id, "device_id" | keys], else: keys
    keys = if options.override_user_id, do: [:user_id, "user_id" | keys], else: keys

    keys =
      if claims_roles?(options) and not said?(:user_roles, assigns),
        do: keys,
        else: [:user_roles, "user_roles" | keys]

    Map.drop(payload, keys)
  end

  def without_claims(payload, _assigns, _options), do: payload

  @doc "The request as sent by that identity; what is left in it the client may say."
  @spec put(Request.t(), Identity.t(), Options.t()) :: Request.t()
  def put(request, identity, options) do
    %{
      request
      | user_id: if(options.override_user_id, do: identity.user_id, else: request.user_id),
        user_roles: identity.user_roles || request.user_roles,
        device_id: identity.device_id || request.device_id,
        ip_address: identity.ip_address
    }
  end

  @doc """
  Sets `assigns.ip_address` to the address of the peer. Without one it warns once: an endpoint
  has to ask for it, and limits by address count nobody otherwise.
  """
  @spec put_client_ip(socket, term()) :: socket when socket: struct()
  def put_client_ip(socket, connect_info) do
    case peer(connect_info) do
      nil ->
        warn_of_peer_data()
        socket

      address ->
        %{socket | assigns: Map.put(socket.assigns, :ip_address, address)}
    end
  end

  defp warn_of_peer_data do
    unless :persistent_term.get({__MODULE__, :no_peer_data}, false) do
      :persistent_term.put({__MODULE__, :no_peer_data}, true)

      Log.warning(
        "phoenix_gen_api: put_client_ip/2 got no peer data, so requests have no address and limits " <>
          "by :ip_address count nobody; add connect_info: [:peer_data] to the socket of the endpoint"
      )
    end
  end

  defp claims_roles?(options), do: not options.override_user_id and options.trust_client_roles

  defp said?(field, assigns), do: Map.get(assigns, field) != nil

  defp assigned(field, assigns), do: Identity.assigned(field, assigns, &warn/2)

  # Once per channel: the same wrong value comes with every message of a client.
  defp warn(field, value) when field in @fields do
    unless Process.put({__MODULE__, field}, true) do
      Log.warning(
        "phoenix_gen_api: assigns.#{field} must be #{Identity.expected(field)}, got " <>
          "#{Identity.kind(value)}; requests of this channel have none"
      )
    end

    nil
  end

  defp peer(%{peer_data: %{address: address}}) do
    case Identity.read(:ip_address, address) do
      {:ok, address} -> address
      _none -> nil
    end
  end

  defp peer(_no_peer_data), do: nil
end
