defmodule PhoenixGenApi.Plug do
  @moduledoc """
  Requests over HTTP in a Plug or Phoenix application; `plug` is an optional dependency.

      # in the router
      scope "/" do
        pipe_through :api_auth
        forward "/gen_api", PhoenixGenApi.Plug, services: ["books"]
      end

      # in the pipeline: whoever the request is from, as the application knows them
      assign(conn, :user_id, current_user.id)

  Options, requests, answers and the meaning of the assigns are those of `PhoenixGenApi.Http`.

  The plug answers every request that reaches it and halts. It reads the body itself, up to `config
  :phoenix_gen_api, :request, max_payload_bytes: 1_000_000`, unless a parser has run before it, as
  `Plug.Parsers` in a Phoenix endpoint: then the parser's limits come first, and it has to parse JSON. An id that
  `Plug.RequestId` has put into the response is the request id.
  """

  alias PhoenixGenApi.Http
  alias PhoenixGenApi.Http.Options

  # An optional dependency. Whoever has a conn to pass has Plug as well, so nothing depends on its presence
  # when this library is compiled.
  @compile {:no_warn_undefined, [Plug.Conn]}

  @type conn :: struct()

  @doc "Checks the options; raises `ArgumentError` for unknown ones and bad values."
  @spec init(keyword()) :: struct()
  def init(options), do: Options.new!(options)

  @doc "Answers the request of a conn."
  @spec call(conn(), struct()) :: conn()
  def call(conn, options) do
    case Http.accept(request(conn), options) do
      {:answer, answer} ->
        send_answer(conn, answer)

      {:call, call} ->
        {body, conn} = body(conn)
        send_answer(conn, Http.call(call, body))
    end
  end

  defp request(conn) do
    %{
      method: conn.method,
      path: path(conn.path_info),
      query: conn.query_string,
      headers: headers(conn),
      # Read when it is wanted.
      body: "",
      assigns: conn.assigns,
      remote_ip: conn.remote_ip,
      conn: conn
    }
  end

  defp path(segments), do: Enum.map(segments, &decoded/1)

  defp decoded(segment) do
    if String.contains?(segment, "%"), do: URI.decode(segment), else: segment
  rescue
    # No function has that name.
    ArgumentError -> segment
  end

  defp headers(%{req_headers: headers, resp_headers: own}) do
    case List.keyfind(own, "x-request-id", 0) do
      nil -> headers
      id -> [id | headers]
    end
  end

  defp body(%{body_params: %{__struct__: Plug.Conn.Unfetched}} = conn) do
    case Plug.Conn.read_body(conn, length: Http.max_bytes()) do
      {:ok, body, conn} -> {body, conn}
      {:more, _part, conn} -> {{:error, :too_large}, conn}
      {:error, _reason} -> {{:error, :unreadable}, conn}
    end
  end

  defp body(conn), do: {{:decoded, conn.body_params}, conn}

  defp send_answer(conn, {status, headers, body}) do
    conn = conn |> Plug.Conn.merge_resp_headers(headers) |> Plug.Conn.halt()

    case body do
      {:full, body} -> Plug.Conn.send_resp(conn, status, body)
      {:stream, chunks} -> send_chunks(Plug.Conn.send_chunked(conn, status), chunks)
    end
  end

  # To halt the enumeration is to end the function.
  defp send_chunks(conn, chunks) do
    Enum.reduce_while(chunks, conn, fn chunk, conn ->
      case Plug.Conn.chunk(conn, chunk) do
        {:ok, conn} -> {:cont, conn}
        {:error, _closed} -> {:halt, conn}
      end
    end)
  end
end
