defmodule Mix.PhoenixGenApi.Templates do
  @moduledoc false
  # What the generators write, as texts.

  alias Mix.PhoenixGenApi.Project

  @typedoc "A file with its text."
  @type file :: {path :: String.t(), text :: String.t()}

  # As in the formatter configuration of a new Phoenix application.
  @without_parens [
    channel: 2,
    assert_reply: 2,
    assert_reply: 3,
    assert_reply: 4
  ]

  @doc "The channel, its socket, the child that offers functions, and the test of the channel."
  @spec gateway(Project.t()) :: [file()]
  def gateway(project) do
    [
      {"#{project.web_lib}/channels/gen_api_channel.ex", channel(project)},
      {"#{project.web_lib}/channels/gen_api_socket.ex", socket(project)},
      offering(project),
      {"#{project.web_test}/channels/gen_api_channel_test.exs", channel_test(project)}
    ]
    |> formatted()
  end

  @doc "The module of a service, its test, and the child that offers it."
  @spec service(Project.t(), String.t()) :: [file()]
  def service(project, name) do
    formatted([
      {"#{project.lib}/gen_api/#{name}.ex", api(project, name)},
      {"#{project.test}/gen_api/#{name}_test.exs", api_test(project, name)},
      offering(project)
    ])
  end

  @doc "The name of the module of a service."
  @spec api_module(Project.t(), String.t()) :: String.t()
  def api_module(project, name), do: "#{project.base}.GenApi.#{Macro.camelize(name)}"

  defp formatted(files) do
    for {path, text} <- files do
      text = Code.format_string!(text, locals_without_parens: @without_parens)
      {path, IO.iodata_to_binary([text, "\n"])}
    end
  end

  defp offering(%{base: base, app: app, lib: lib}) do
    {"#{lib}/gen_api.ex",
     """
     defmodule #{base}.GenApi do
       @moduledoc \"\"\"
       Offers the functions of this application to every gateway of its cluster.

       Put it last in the supervision tree, so that it stops first: then calls end before what they need does.
       \"\"\"

       # `mix phoenix_gen_api.gen.service NAME` adds modules here.
       @apis []

       # In development, functions that were recompiled are offered at once.
       @watch Application.compile_env(:#{app}, :gen_api_dev, false)

       @doc false
       def child_spec(_opts), do: PhoenixGenApi.Service.child_spec(apis: @apis, watch: @watch)
     end
     """}
  end

  defp channel(%{web: web}) do
    """
    defmodule #{web}.GenApiChannel do
      @moduledoc \"\"\"
      Answers requests of clients: event "api" on a topic such as "api:lobby". Messages of groups arrive as "message".
      \"\"\"

      use Phoenix.Channel
      use PhoenixGenApi, event: "api", concurrency: 10, relay_event: "message"

      @impl true
      def join("api:" <> _topic, _params, socket), do: {:ok, socket}
    end
    """
  end

  defp socket(%{auth: nil, web: web}) do
    """
    defmodule #{web}.GenApiSocket do
      @moduledoc \"\"\"
      Says who a client is. A client proves it by a token that this application has signed:

          token = #{web}.GenApiSocket.sign(user.id)

      Without one it may call only what needs no permission.
      \"\"\"

      use Phoenix.Socket

      channel "api:*", #{web}.GenApiChannel

      @salt "gen_api"
      # Two weeks, in seconds.
      @max_age 1_209_600

      @doc "A token for a client of this user, to be sent as `token` with the socket, or as a bearer token over HTTP."
      def sign(user_id), do: Phoenix.Token.sign(#{web}.Endpoint, @salt, user_id)

      @impl true
      def connect(%{"token" => token}, socket, connect_info) do
        case verify(token) do
          {:ok, user_id} ->
            {:ok, socket |> assign(:user_id, user_id) |> PhoenixGenApi.put_client_ip(connect_info)}

          {:error, _reason} ->
            :error
        end
      end

      def connect(_params, socket, connect_info),
        do: {:ok, PhoenixGenApi.put_client_ip(socket, connect_info)}

      # `#{web}.Endpoint.broadcast("gen_api:" <> user_id, "disconnect", %{})` disconnects a user.
      @impl true
      def id(%{assigns: %{user_id: user_id}}), do: "gen_api:\#{user_id}"
      def id(_socket), do: nil

      @doc "Who sends a request over HTTP, for `PhoenixGenApi.Plug`."
      def identity(conn) do
        with ["Bearer " <> token] <- Plug.Conn.get_req_header(conn, "authorization"),
             {:ok, user_id} <- verify(token) do
          %{user_id: user_id, ip_address: conn.remote_ip}
        else
          _nobody -> %{ip_address: conn.remote_ip}
        end
      end

      defp verify(token), do: Phoenix.Token.verify(#{web}.Endpoint, @salt, token, max_age: @max_age)
    end
    """
  end

  defp socket(%{auth: auth, web: web}) do
    found = if auth.pair, do: "{#{auth.user}, _inserted_at}", else: "%{} = #{auth.user}"

    current =
      case auth.assign do
        {:scope, assign} -> "%{#{assign}: %{#{auth.user}: %{id: id}}}"
        {:user, assign} -> "%{#{assign}: %{id: id}}"
      end

    """
    defmodule #{web}.GenApiSocket do
      @moduledoc \"\"\"
      Says who a client is: the #{auth.user} who is logged in with the session of the page. Nobody is logged in: the client
      may call only what needs no permission.
      \"\"\"

      use Phoenix.Socket

      channel "api:*", #{web}.GenApiChannel

      @impl true
      def connect(_params, socket, connect_info) do
        socket = PhoenixGenApi.put_client_ip(socket, connect_info)

        with %{"#{auth.user}_token" => token} = session <- connect_info[:session],
             #{found} <- #{auth.context}.get_#{auth.user}_by_session_token(token) do
          {:ok, assign(socket, user_id: #{auth.user}.id, session_id: session["live_socket_id"])}
        else
          _nobody -> {:ok, socket}
        end
      end

      # Logging out disconnects this id.
      @impl true
      def id(socket), do: socket.assigns[:session_id]

      @doc "Who sends a request over HTTP, for `PhoenixGenApi.Plug`."
      def identity(conn) do
        case conn.assigns do
          #{current} -> %{user_id: id, ip_address: conn.remote_ip}
          _nobody -> %{ip_address: conn.remote_ip}
        end
      end
    end
    """
  end

  defp channel_test(%{web: web}) do
    """
    defmodule #{web}.GenApiChannelTest do
      use ExUnit.Case, async: true

      import Phoenix.ChannelTest
      import PhoenixGenApi.Testing

      @endpoint #{web}.Endpoint
      @peer %{address: {127, 0, 0, 1}, port: 1, ssl_cert: nil}
      @moduletag :capture_log

      setup do
        {:ok, _reply, socket} =
          #{web}.GenApiSocket
          |> socket("user:1", %{user_id: 1})
          |> subscribe_and_join(#{web}.GenApiChannel, "api:lobby")

        %{socket: socket, service: service("hello")}
      end

      test "answers requests as the user of the socket", %{socket: socket, service: service} do
        stub(service, "hello", fn request -> "hello \#{request.user_id}" end,
          check_permission: :any_authenticated
        )

        ref = push(socket, "api", %{"request_id" => "r1", "service" => service, "request_type" => "hello"})
        assert_reply ref, :ok, %{request_id: "r1", success: true, result: "hello 1"}
      end

      test "denies what needs a user to nobody", %{service: service} do
        stub(service, "hello", "hello", check_permission: :any_authenticated)
        {:ok, socket} = connect(#{web}.GenApiSocket, %{}, connect_info: %{peer_data: @peer})
        {:ok, _reply, socket} = subscribe_and_join(socket, #{web}.GenApiChannel, "api:lobby")

        ref = push(socket, "api", %{"request_id" => "r2", "service" => service, "request_type" => "hello"})
        assert_reply ref, :error, %{request_id: "r2", code: "unauthenticated"}
      end
    end
    """
  end

  defp api(project, name) do
    """
    defmodule #{api_module(project, name)} do
      @moduledoc "The functions of the service #{name}."

      use PhoenixGenApi.Service, service: "#{name}", check_permission: :any_authenticated

      @doc "Greets somebody."
      @api idempotent: true
      @spec hello(name :: String.t()) :: {:ok, %{text: String.t()}}
      def hello(name), do: {:ok, %{text: "Hello, \#{name}!"}}
    end
    """
  end

  defp api_test(project, name) do
    module = api_module(project, name)

    """
    defmodule #{module}Test do
      use ExUnit.Case, async: true

      import PhoenixGenApi.Testing

      @moduletag :capture_log

      setup do
        %{service: service("#{name}", apis: [#{module}])}
      end

      test "hello greets users", %{service: service} do
        assert %{success: true, result: %{text: "Hello, Ann!"}} =
                 call(service, "hello", %{"name" => "Ann"}, user_id: "1")
      end

      test "hello is not for everybody", %{service: service} do
        assert %{code: "unauthenticated"} = call(service, "hello", %{"name" => "Ann"})
      end
    end
    """
  end
end
