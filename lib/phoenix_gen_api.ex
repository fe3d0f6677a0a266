defmodule PhoenixGenApi do
  @moduledoc """
  Turns a Phoenix application into a dynamic API gateway for an Erlang cluster.
  """

  ## Channels

  @doc """
  Makes a channel take requests.

      use PhoenixGenApi, event: "api", concurrency: 4

  The options, and what is added to the module, are described in `PhoenixGenApi.Channel`.
  """
  defmacro __using__(options),
    do: PhoenixGenApi.Channel.Clauses.use_in(options, __MODULE__, :all)

  @doc """
  Remembers the address of the client as `assigns.ip_address`, for limits per address.

      def connect(%{"token" => token}, socket, connect_info) do
        {:ok, socket |> authenticate(token) |> PhoenixGenApi.put_client_ip(connect_info)}
      end

  The endpoint has to provide it: `socket "/socket", …, websocket: [connect_info: [:peer_data]]`.
  Without peer data, or for a peer without an address such as a Unix socket, the socket is
  returned as it is. Behind a proxy the peer is the proxy: assign `:ip_address` yourself then,
  from the header that your proxy, and nobody else, can set.
  """
  @spec put_client_ip(socket, map()) :: socket when socket: struct()
  defdelegate put_client_ip(socket, connect_info), to: PhoenixGenApi.Channel.Identity

  ## Pushed functions

  @doc "See `PhoenixGenApi.ConfigReceiver.push/2`."
  @spec push_config(PhoenixGenApi.Structs.PushConfig.t() | map(), keyword()) ::
          PhoenixGenApi.ConfigReceiver.result()
  defdelegate push_config(push_config, opts \\ []), to: PhoenixGenApi.ConfigReceiver, as: :push

  @doc "See `PhoenixGenApi.ConfigReceiver.verify/2`."
  @spec verify_config(PhoenixGenApi.ConfigReceiver.service(), String.t()) ::
          {:ok, :matched} | {:ok, :mismatch, String.t()} | {:error, :not_found | :not_running}
  defdelegate verify_config(service, version), to: PhoenixGenApi.ConfigReceiver, as: :verify
end
