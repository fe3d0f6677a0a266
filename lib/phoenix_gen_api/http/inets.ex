defmodule PhoenixGenApi.Http.Inets do
  @moduledoc false
  # Requests over HTTP on the web server of OTP: for the console, demos and machines without packages. It is
  # no server for production: it binds the loopback interface only, and answers only those who ask for it by
  # a name of that. So no page of another site gets anything here, not even with a name of its own that
  # resolves to this machine.
  #
  #     {PhoenixGenApi.Http.Inets, port: 4040, identity: %{user_id: "ann"}, console: true}
  #
  # Options are those of `PhoenixGenApi.Http`, but `identity` is a map of `user_id` and `user_roles`: every request is
  # from that user. The console may send another one in a header, which no page of another site can send. And
  # `port:` (0: one that is free) and `allow: true` where Mix does not run.

  alias PhoenixGenApi.Http
  alias PhoenixGenApi.Http.{Headers, Options}
  alias PhoenixGenApi.Identity
  alias PhoenixGenApi.JsonEncoding

  require Record

  # The one of inets/include/httpd.hrl, which is part of its interface; Mix hides the file.
  Record.defrecordp(:mod, [
    :init_data,
    :data,
    :socket_type,
    :socket,
    :config_db,
    :method,
    :absolute_uri,
    :request_uri,
    :http_version,
    :request_line,
    :parsed_header,
    :entity_body,
    :connection
  ])

  # An application of OTP, which a release need not have.
  @compile {:no_warn_undefined, [:inets, :httpd, :httpd_socket, :httpd_util]}

  @loopback {127, 0, 0, 1}
  @config :phoenix_gen_api_http
  @identity_header "x-gen-api-identity"

  # How slowly a client may send its request.
  @headers_s 15
  @bytes_per_s 100
  @max_clients 1_500
  @max_header_bytes 16_384

  @doc "The server as a child of a supervisor."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options),
    do: %{id: __MODULE__, start: {__MODULE__, :start_link, [options]}, type: :supervisor}

  @doc "Starts the server, linked to the caller."
  @spec start_link(keyword()) :: {:ok, pid()} | {:error, term()}
  def start_link(options) do
    {own, options} = Keyword.split(options, [:port, :allow, :identity, :timing])
    identity = Map.new(Keyword.get(own, :identity) || %{})
    # Raises for what is none.
    Identity.new!(identity)

    if not (own[:allow] == true or mix?()) do
      raise ArgumentError,
            "PhoenixGenApi.Http.Inets is for development; where Mix does not run it needs allow: true"
    end

    ensure_inets()
    # Tests shorten some.
    server = {struct!(Options.new!(options), [local: true] ++ (own[:timing] || [])), identity}
    :inets.start(:httpd, config(own[:port] || 0, server), :stand_alone)
  end

  @doc "The port of a server."
  @spec port(pid()) :: :inet.port_number()
  def port(server) do
    # A server of one's own is not known to :httpd.info/2.
    [port] =
      for {{:httpd_instance_sup, _ip, port, _profile}, _pid, _type, _modules} <-
            Supervisor.which_children(server),
          do: port

    port
  end

  defp mix?, do: List.keymember?(Application.started_applications(), :mix, 0)

  # Mix hides the applications of OTP that a project does not name.
  defp ensure_inets do
    if not Code.ensure_loaded?(:inets) and mix?(), do: apply(Mix, :ensure_application!, [:inets])
    {:ok, _started} = Application.ensure_all_started(:inets)
  end

  defp config(port, server) do
    # Nothing is read there, but it has to be a directory.
    root = String.to_charlist(System.tmp_dir!())

    [
      {:port, port},
      {:bind_address, @loopback},
      {:server_name, ~c"localhost"},
      {:server_root, root},
      {:document_root, root},
      {:modules, [__MODULE__]},
      {:server_tokens, :none},
      {:ipfamily, :inet},
      {:max_clients, @max_clients},
      {:max_body_size, Http.max_bytes()},
      {:max_header_size, @max_header_bytes},
      {:keep_alive_timeout, @headers_s},
      {:minimum_bytes_per_second, @bytes_per_s},
      {@config, server}
    ]
  end

  @doc false
  # The callback of httpd, in the process of the connection.
  @spec unquote(:do)(tuple()) :: {:proceed, list()}
  def unquote(:do)(mod() = mod) do
    {options, identity} = :httpd_util.lookup(mod(mod, :config_db), @config)
    request = request(mod)

    {status, headers, body} =
      if from_here?(request.headers, mod),
        do: Http.handle(%{request | assigns: assigns(request, options, identity)}, options),
        else: refusal()

    {:proceed,
     [{:response, {:already_sent, status, answer(mod, request, status, headers, body)}}]}
  end

  defp request(mod) do
    {path, query} = mod |> mod(:request_uri) |> binary() |> uri()

    %{
      method: mod |> mod(:method) |> binary(),
      path: path,
      query: query,
      headers: for({name, value} <- mod(mod, :parsed_header), do: {binary(name), binary(value)}),
      body: mod |> mod(:entity_body) |> body(),
      assigns: %{},
      remote_ip: @loopback
    }
  end

  defp uri(uri) do
    [path | query] = String.split(uri, "?", parts: 2)
    segments = for segment <- String.split(path, "/", trim: true), do: decoded(segment)
    {segments, Enum.join(query)}
  end

  defp decoded(segment) do
    URI.decode(segment)
  rescue
    ArgumentError -> segment
  end

  defp body(nil), do: ""
  defp body(body), do: binary(body)

  defp binary(text) when is_list(text), do: :erlang.iolist_to_binary(text)
  defp binary(text), do: text

  # A page of another site may reach this address, under its own name or by a request that needs no
  # permission. Its browser says so.
  defp from_here?(headers, mod) do
    hosts = hosts(mod)
    origin = Headers.get(headers, "origin")

    Headers.get(headers, "host") in hosts and
      (origin == nil or origin in Enum.map(hosts, &("http://" <> &1)))
  end

  defp hosts(mod) do
    {_ip, port} = mod |> mod(:socket) |> sockname()
    for name <- ["127.0.0.1", "localhost", "[::1]"], do: "#{name}:#{port}"
  end

  defp sockname(socket) do
    case :inet.sockname(socket) do
      {:ok, {ip, port}} -> {ip, port}
      # It is closed already.
      {:error, _reason} -> {@loopback, 0}
    end
  end

  defp assigns(%{headers: headers}, %{console: true}, identity) do
    with json when json != nil <- Headers.get(headers, @identity_header),
         {:ok, %{} = said} <- JsonEncoding.library().decode(json) do
      %{user_id: said["user_id"], user_roles: said["user_roles"]}
    else
      _none -> identity
    end
  end

  defp assigns(_request, _options, identity), do: identity

  defp refusal do
    body =
      ~s({"success":false,"code":"forbidden","error":"Only for this machine, by its own name"})

    {403, [{"content-type", "application/json"}], {:full, body}}
  end

  # Written by hand: the server's own functions know neither all statuses nor other headers.
  defp answer(mod, request, status, headers, {:full, body}) do
    length = {"content-length", Integer.to_string(IO.iodata_length(body))}
    body = if request.method == "HEAD", do: [], else: body
    write(mod, [head(mod, status, [length | headers]), body])
    IO.iodata_length(body)
  end

  defp answer(mod, _request, status, headers, {:stream, chunks}) do
    chunked? = mod(mod, :http_version) == ~c"HTTP/1.1"
    headers = if chunked?, do: [{"transfer-encoding", "chunked"} | headers], else: headers
    write(mod, head(mod, status, headers))

    over =
      Enum.reduce_while(chunks, :ok, fn chunk, :ok ->
        case write(mod, if(chunked?, do: encoded(chunk), else: chunk)) do
          :ok -> {:cont, :ok}
          _closed -> {:halt, :closed}
        end
      end)

    if chunked? and over == :ok, do: write(mod, "0\r\n\r\n")
    0
  end

  defp encoded(chunk),
    do: [Integer.to_string(IO.iodata_length(chunk), 16), "\r\n", chunk, "\r\n"]

  defp head(mod, status, headers) do
    connection = if mod(mod, :connection), do: "keep-alive", else: "close"

    [
      ["HTTP/1.1 ", Integer.to_string(status), ?\s, reason(status), "\r\n"],
      for({name, value} <- headers, do: [name, ": ", value, "\r\n"]),
      ["connection: ", connection, "\r\n\r\n"]
    ]
  end

  defp write(mod, bytes),
    do: :httpd_socket.deliver(mod(mod, :socket_type), mod(mod, :socket), bytes)

  @reasons %{
    200 => "OK",
    202 => "Accepted",
    400 => "Bad Request",
    401 => "Unauthorized",
    403 => "Forbidden",
    404 => "Not Found",
    405 => "Method Not Allowed",
    409 => "Conflict",
    413 => "Content Too Large",
    415 => "Unsupported Media Type",
    422 => "Unprocessable Content",
    429 => "Too Many Requests",
    500 => "Internal Server Error",
    503 => "Service Unavailable",
    504 => "Gateway Timeout"
  }

  defp reason(status), do: Map.get(@reasons, status, "Other")
end
