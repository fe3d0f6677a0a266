defmodule PhoenixGenApi.Channel.Identity do
  @moduledoc false
  # Who sends a request: what the socket knows, and the little that a client may say itself.

  alias PhoenixGenApi.Channel.Options
  alias PhoenixGenApi.Structs.Request

  require Logger

  defstruct [:user_id, :user_roles, :device_id, :ip_address]

  @type t :: %__MODULE__{
          user_id: String.t() | nil,
          user_roles: [String.t()] | nil,
          device_id: String.t() | nil,
          ip_address: String.t() | nil
        }

  @doc "What the assigns of a socket say."
  @spec of(map()) :: t()
  def of(assigns) do
    %__MODULE__{
      user_id: user_id(assigns),
      user_roles: roles(Map.get(assigns, :user_roles)),
      device_id: text(Map.get(assigns, :device_id)),
      ip_address: ip_address(assigns)
    }
  end

  @doc """
  The payload without what the socket decides.

  Taken out ahead of decoding: what does not count must not make a request invalid either.
  """
  @spec without_claims(term(), t(), Options.t()) :: term()
  def without_claims(payload, identity, options) when is_map(payload) do
    keys = [:ip_address, "ip_address"]
    keys = if identity.device_id, do: [:device_id, "device_id" | keys], else: keys
    keys = if options.override_user_id, do: [:user_id, "user_id" | keys], else: keys
    Map.drop(payload, keys)
  end

  def without_claims(payload, _identity, _options), do: payload

  @doc "The request as sent by that identity."
  @spec put(Request.t(), t(), Options.t()) :: Request.t()
  def put(request, identity, options) do
    %{
      request
      | user_id: if(options.override_user_id, do: identity.user_id, else: request.user_id),
        user_roles: identity.user_roles || claimed_roles(request, options),
        device_id: identity.device_id || request.device_id,
        ip_address: identity.ip_address
    }
  end

  defp claimed_roles(request, %{override_user_id: false, trust_client_roles: true}),
    do: request.user_roles

  defp claimed_roles(_request, _options), do: nil

  @doc "Sets `assigns.ip_address` to the address of the peer, if there is one."
  @spec put_client_ip(socket, term()) :: socket when socket: struct()
  def put_client_ip(socket, connect_info) do
    case address(peer(connect_info)) do
      nil -> socket
      address -> %{socket | assigns: Map.put(socket.assigns, :ip_address, address)}
    end
  end

  defp user_id(assigns) do
    case Map.get(assigns, :user_id) do
      nil -> nil
      user_id -> text(user_id) || warn(user_id)
    end
  end

  # Once per channel: the same wrong value comes with every message of a client.
  defp warn(user_id) do
    unless Process.put({__MODULE__, :warned}, true) do
      # The value may be anything, a whole user record for example: only its kind is told.
      Logger.warning(
        "phoenix_gen_api: assigns.user_id must be a non-empty string, got #{kind(user_id)}; " <>
          "requests of this channel have no user"
      )
    end

    nil
  end

  defp kind(""), do: "an empty string"
  defp kind(value) when is_integer(value), do: "an integer (use Integer.to_string/1)"
  defp kind(value) when is_atom(value), do: "an atom"
  defp kind(%module{}), do: "a %#{inspect(module)}{}"
  defp kind(value) when is_binary(value), do: "a binary that is not UTF-8"
  defp kind(_value), do: "another term"

  defp roles(roles) when is_list(roles), do: roles(roles, [])
  defp roles(_roles), do: nil

  defp roles([role | rest], kept) when is_atom(role) and role not in [nil, true, false],
    do: roles(rest, [Atom.to_string(role) | kept])

  defp roles([role | rest], kept) when is_binary(role) and role != "",
    do: roles(rest, [role | kept])

  defp roles([_other | rest], kept), do: roles(rest, kept)
  defp roles(_end_of_list, kept), do: Enum.reverse(kept)

  defp ip_address(assigns) do
    address(Map.get(assigns, :ip_address)) || address(peer(assigns)) ||
      address(peer(Map.get(assigns, :connect_info)))
  end

  defp peer(%{peer_data: %{address: address}}), do: address
  defp peer(_no_peer_data), do: nil

  # A Unix socket's peer, for example, is a tuple that is no address.
  defp address(tuple) when is_tuple(tuple) do
    case :inet.ntoa(tuple) do
      {:error, :einval} -> nil
      address -> List.to_string(address)
    end
  end

  defp address(address), do: text(address)

  defp text(text) when is_binary(text) and text != "", do: if(String.valid?(text), do: text)
  defp text(_other), do: nil
end
