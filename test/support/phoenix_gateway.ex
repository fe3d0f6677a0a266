defmodule PhoenixGenApi.PhoenixGateway do
  @moduledoc false
  # A Phoenix application on real sockets, where Phoenix is installed.
  @compile {:no_warn_undefined, [__MODULE__.Endpoint, Phoenix.PubSub]}

  unless match?({:error, _}, :code.lib_dir(:phoenix)) do
    defmodule ApiChannel do
      @moduledoc false
      use Phoenix.Channel
      use PhoenixGenApi, event: "api", concurrency: 4

      @impl true
      def join("api:" <> _topic, _params, socket), do: {:ok, socket}

      @impl true
      def handle_in("ping", payload, socket), do: {:reply, {:ok, payload}, socket}
    end

    defmodule ChatChannel do
      @moduledoc false
      use Phoenix.Channel
      use PhoenixGenApi, event: "chat"

      @impl true
      def join("chat:" <> room, _params, socket) do
        case PhoenixGenApi.Relay.join_group(room, socket.assigns.user_id, self()) do
          {:ok, status} -> {:ok, %{status: status}, socket}
          {:error, reason} -> {:error, %{reason: to_string(reason)}}
        end
      end
    end

    defmodule UserSocket do
      @moduledoc false
      use Phoenix.Socket

      channel("api:*", ApiChannel)
      channel("chat:*", ChatChannel)

      @impl true
      def connect(%{"user" => user}, socket, info),
        do: {:ok, socket |> assign(:user_id, user) |> PhoenixGenApi.put_client_ip(info)}

      @impl true
      def id(socket), do: "user:" <> socket.assigns.user_id
    end

    defmodule Parsed do
      @moduledoc false
      use Plug.Builder

      plug(Plug.Parsers, parsers: [:urlencoded, :json], pass: ["*/*"], json_decoder: JSON)
      plug(PhoenixGenApi.Plug)
    end

    defmodule Router do
      @moduledoc false
      use Phoenix.Router

      pipeline :identity do
        plug(:assign_user)
      end

      scope "/" do
        pipe_through(:identity)
        forward("/gen_api", PhoenixGenApi.Plug, [])
      end

      scope "/" do
        pipe_through(:identity)
        forward("/parsed", Parsed)
        forward("/open", PhoenixGenApi.Plug, public: true, console: true)
      end

      defp assign_user(conn, _options) do
        case Plug.Conn.get_req_header(conn, "x-user") do
          [user] ->
            roles = Plug.Conn.get_req_header(conn, "x-role")
            conn |> Plug.Conn.assign(:user_id, user) |> Plug.Conn.assign(:user_roles, roles)

          [] ->
            conn
        end
      end
    end

    defmodule Endpoint do
      @moduledoc false
      use Phoenix.Endpoint, otp_app: :phoenix_gen_api

      socket("/socket", UserSocket,
        websocket: [connect_info: [:peer_data], max_frame_size: 4_000_000]
      )

      plug(Router)
    end
  end

  @doc "The web servers that are installed."
  def adapters do
    for {name, adapter, module} <- [
          {"Bandit", Bandit.PhoenixAdapter, Bandit},
          {"Cowboy", Phoenix.Endpoint.Cowboy2Adapter, Plug.Cowboy}
        ],
        Code.ensure_loaded?(module),
        do: {name, adapter}
  end

  @doc """
  Starts it under the test's supervisor, on a port that it returns: with the web server and the
  JSON library that the test's tags name, or says that they are left out.
  """
  def start(%{server: server, json_library: library}) do
    adapters = Map.new(adapters())

    if Map.has_key?(adapters, server) and Code.ensure_loaded?(library) do
      {:ok, start(adapters[server], library)}
    else
      IO.puts("Left out: #{server} with #{inspect(library)}, which are not both installed")
      :not_installed
    end
  end

  @doc "Starts it with that adapter of Phoenix; the port."
  def start(adapter, json_library) do
    before = Application.fetch_env(:phoenix, :json_library)

    ExUnit.Callbacks.on_exit(fn ->
      with :error <- before, do: Application.delete_env(:phoenix, :json_library)
      with {:ok, before} <- before, do: Application.put_env(:phoenix, :json_library, before)
    end)

    Application.put_env(:phoenix, :json_library, json_library)
    {:ok, _started} = Application.ensure_all_started(:phoenix)

    Application.put_env(:phoenix_gen_api, __MODULE__.Endpoint,
      adapter: adapter,
      http: [ip: {127, 0, 0, 1}, port: 0],
      check_origin: false,
      pubsub_server: PhoenixGenApi.PubSub,
      server: true
    )

    ExUnit.Callbacks.start_supervised!({Phoenix.PubSub, name: PhoenixGenApi.PubSub})
    ExUnit.Callbacks.start_supervised!(__MODULE__.Endpoint)
    {:ok, {_address, port}} = __MODULE__.Endpoint.server_info(:http)
    port
  end
end
