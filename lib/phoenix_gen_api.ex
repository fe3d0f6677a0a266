defmodule PhoenixGenApi do
  @moduledoc """
  Turns a Phoenix application into a dynamic API gateway for an Erlang cluster.

      defmodule MyAppWeb.ApiChannel do
        use Phoenix.Channel
        use PhoenixGenApi, event: "api"

        def join("api:" <> _topic, _params, socket), do: {:ok, socket}
      end

  Clients send requests over the channel. The gateway looks the function up
  (`PhoenixGenApi.ConfigDb`), authorises (`PhoenixGenApi.Permission`) and validates the call
  (`PhoenixGenApi.ArgumentHandler`), picks a node of the cluster
  (`PhoenixGenApi.NodeSelector`), runs the function there and returns the result
  (`PhoenixGenApi.Executor`). Functions are `PhoenixGenApi.Structs.FunConfig` structs, added on
  the gateway, pulled from service nodes (`PhoenixGenApi.ConfigPuller`) or pushed by them
  (`PhoenixGenApi.ConfigPusher`), at any time and without a restart.
  """

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Telemetry

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

  ## Configuration

  @doc """
  Reads the application config again: `:ok`, or `{:error, sentences}` with nothing changed.

  Stored functions keep the defaults they were compiled with, and pools keep their sizes.
  """
  @spec reload_config() :: :ok | {:error, [String.t(), ...]}
  def reload_config do
    with :ok <- Config.reload(), do: NodeSelector.reload()
  end

  ## Telemetry

  @doc """
  Attaches a handler to the start, stop and exception of requests and to the events of the rate
  limiter. See `PhoenixGenApi.Telemetry` for all events.
  """
  @spec attach_telemetry(Telemetry.handler_id(), Telemetry.handler(), term()) ::
          Telemetry.attached()
  defdelegate attach_telemetry(id, fun, config \\ %{}),
    to: Telemetry,
    as: :attach_requests_and_limits

  @doc "Detaches it."
  @spec detach_telemetry(Telemetry.handler_id()) :: :ok
  defdelegate detach_telemetry(id), to: Telemetry, as: :detach_all
end
