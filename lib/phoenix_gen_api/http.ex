defmodule PhoenixGenApi.Http do
  @moduledoc """
  Requests over HTTP: for webhooks, servers, scripts and `curl`.

      curl localhost:4000/gen_api/books/find -H 'content-type: application/json' -d '{"isbn": "9780441"}'

  A Phoenix application forwards a path to `PhoenixGenApi.Plug`, which takes the options below. The guide
  [HTTP](http.md) has recipes.

  ## Requests and answers

  | Request | Answer |
  |---|---|
  | `POST /:service/:request_type`; the body is a JSON object with the arguments, an empty one stands for `{}` | the `PhoenixGenApi.Structs.Response` as JSON. An `:async` function is answered with its result, a `:none` function with 202 and the request id |
  | the same for a stream | with `accept: text/event-stream` server-sent events, otherwise one line of JSON for each frame. The acknowledgement is not sent; a failure before it is an ordinary answer |
  | `GET /openapi.json` | the OpenAPI document, if the functions may be described |
  | `GET /` | the console, with `console: true` |

  | Request header | Meaning |
  |---|---|
  | `x-request-id` | the request id, visible ASCII of at most 1,024 bytes; without one the gateway makes one |
  | `accept-version` | the version of the function |
  | `x-deadline-ms` | the deadline of the whole request, in milliseconds |

  Answers carry `x-request-id`; those with 401 `www-authenticate`; those with 429 `retry-after`, in seconds,
  and with `config :phoenix_gen_api, :rate_limiter, expose_limits: true` also `ratelimit-limit`,
  `ratelimit-remaining` and `ratelimit-reset`.

  ## Statuses

  | Status | Codes |
  |---|---|
  | 200, 202 | success; a `:none` function |
  | 400 | `invalid_request` |
  | 401 | `unauthenticated` |
  | 403 | `forbidden`, `rejected`, `not_a_member`, `pending_member`, `muted` |
  | 404 | `unknown_function`, `disabled_function`, `not_found`, `group_not_found` |
  | 405, 413, 415 | `method_not_allowed`, `payload_too_large`, `unsupported_media_type` |
  | 409 | `duplicate_request_id` |
  | 422 | `invalid_arguments`, `missing_routing_key`, `error`, and a function's own codes unless `statuses` says otherwise |
  | 429 | `rate_limited` |
  | 500, 503, 504 | `internal`, `unavailable`, `timeout` |

  ## Options

  | Option | Default | Meaning |
  |---|---|---|
  | `public` | `false` | admit requests without a user id; otherwise they are `unauthenticated` |
  | `services` | `nil` | the services that can be reached, strings or atoms; `nil` for all |
  | `identity` | `nil` | `{module, function}`, called with the conn: a map or keyword list of `user_id`, `user_roles`, `device_id` and `ip_address`, or `nil`. It takes the place of the assigns |
  | `statuses` | `%{}` | statuses of a function's own codes, such as `%{"sold_out" => 409}` |
  | `cross_site` | `false` | admit requests that a browser makes for another site |
  | `console` | `false` | serve the console |
  | `www_authenticate` | `"Bearer"` | the header of that name with 401; `nil` for none |

  Unknown options and bad values raise `ArgumentError`.

  ## Identity

  `assigns.user_id`, `assigns.user_roles`, `assigns.device_id` and `assigns.ip_address` are read as they are of
  a socket, see `PhoenixGenApi.Channel`; without the last one the address is `remote_ip`. Nothing in the path, the
  query, the headers or the body says who the client is.

  **Warning:** with `public: true` anyone who reaches the path calls every function whose `check_permission`
  lets them. List what they may call in `services`.

  ## Streams

  A stream is as fast as its client reads: while frames wait, the function pauses. It ends when the client is
  gone, which is noticed at the next frame or, after 15 seconds without one, when a comment (a space, between lines) is
  written. A client that takes nothing for a minute loses its stream.
  """

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Http.{Answer, Body, Call, Headers, Options, Page, Runner, Sender}
  alias PhoenixGenApi.JsonEncoding
  alias PhoenixGenApi.Structs.Request

  @typedoc """
  A request, whichever server has received it: an upper-case method, decoded segments of the path, headers with
  lower-case names, and the body as it came or, as `{:decoded, term}`, as a parser has left it.
  """
  @type request :: %{
          required(:method) => String.t(),
          required(:path) => [String.t()],
          required(:query) => String.t(),
          required(:headers) => [{String.t(), String.t()}],
          required(:body) => binary() | {:decoded, term()},
          required(:assigns) => map(),
          required(:remote_ip) => :inet.ip_address() | String.t() | nil,
          optional(:conn) => term()
        }

  @typedoc "A status, headers, and a body that is complete or an enumerable of chunks."
  @type answer ::
          {status :: pos_integer(), headers :: [{String.t(), String.t()}],
           {:full, iodata()} | {:stream, Enumerable.t()}}

  @typedoc "Options, or what `PhoenixGenApi.Plug.init/1` has made of them."
  @type options :: keyword() | struct()

  @doc """
  Handles a request in the calling process, which may serve many.

  Whoever gets a `{:stream, enumerable}` enumerates it once, in any process of this node. The function of the stream
  ends when the enumeration is halted, or when its process or the caller that never began it dies.
  """
  @spec handle(request(), options()) :: answer()
  def handle(request, options \\ []) do
    case accept(request, options) do
      {:call, call} -> call(call, request.body)
      {:answer, answer} -> answer
    end
  end

  @doc false
  # What can be said ahead of reading a body: an answer, or a call that wants one.
  @spec accept(request(), options()) :: {:call, Call.t()} | {:answer, answer()}
  def accept(request, options) do
    options = Options.new!(options)

    call = %Call{
      options: options,
      library: JsonEncoding.library(),
      id: id(request.headers),
      identity: Sender.nobody(request)
    }

    route(request, call)
  end

  defp route(%{headers: headers} = request, %{options: options} = call) do
    if Headers.cross_site?(headers) and not options.cross_site,
      do: refused(call, :cross_site),
      else: find(request, call)
  catch
    kind, reason ->
      # A function of the application's, or a bug.
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      refused(call, :request_not_decoded)
  end

  defp find(%{method: method, path: path} = request, call) do
    case {Page.find(path, call.options), method} do
      {nil, "POST"} -> function(path, request, call)
      {nil, _method} when length(path) == 2 -> refused(call, {:method, "POST"})
      {nil, _method} -> refused(call, :not_found)
      {page, get} when get in ["GET", "HEAD"] -> page(page, request, call)
      {_page, _method} -> refused(call, {:method, "GET, HEAD"})
    end
  end

  defp page(page, request, call) do
    with {:ok, call} <- identified(request, call) do
      case Page.answer(page, call) do
        nil -> refused(call, :not_found)
        answer -> {:answer, answer}
      end
    end
  end

  defp function([service, type], %{headers: headers} = request, call) do
    call = %{call | service: service, request_type: type, headers: headers}

    with {:ok, call} <- identified(request, call),
         :ok <- reachable(call),
         :ok <- content_type(headers, call),
         :ok <- content_length(headers, call) do
      {:call, call}
    end
  end

  defp function(_path, _request, call), do: refused(call, :not_found)

  defp identified(request, %{options: options} = call) do
    call = %{call | identity: Sender.identity(request, options, call.identity)}

    if call.identity.user_id == nil and not options.public,
      do: refused(call, :unauthenticated),
      else: {:ok, call}
  end

  # Nobody learns of other functions.
  defp reachable(%{options: %{services: nil}}), do: :ok

  defp reachable(%{options: %{services: services}, service: service} = call) do
    if service in services,
      do: :ok,
      else:
        charged(
          call,
          {:not_found, call.request_type, Headers.get(call.headers, "accept-version")}
        )
  end

  # Forms of other sites cannot say that they are JSON, and always say what they are.
  defp content_type(headers, call) do
    if json?(Headers.get(headers, "content-type"), headers) and
         Headers.get(headers, "content-encoding") in [nil, "identity"],
       do: :ok,
       else: charged(call, :content_type)
  end

  # A body need not say its length; what is read tells.
  defp json?(nil, headers), do: Headers.get(headers, "content-length") in [nil, "0"]
  defp json?(content_type, _headers), do: Headers.json?(content_type)

  defp content_length(headers, call) do
    with length when length != nil <- Headers.get(headers, "content-length"),
         {bytes, ""} <- Integer.parse(binary_part(length, 0, min(byte_size(length), 20))),
         true <- bytes > max_bytes() do
      charged(call, :too_large)
    else
      _fits -> :ok
    end
  end

  @doc false
  # The largest body that is read, in bytes.
  @spec max_bytes() :: pos_integer()
  def max_bytes, do: Config.get(:request, :max_payload_bytes)

  @doc false
  # A call that has its body; the reason where it could not be read.
  @spec call(Call.t(), binary() | {:decoded, term()} | {:error, :too_large | :unreadable}) ::
          answer()
  def call(call, body) do
    with {:ok, args} <- arguments(body, call),
         {:ok, request} <- Request.decode(payload(call, args)) do
      run(request, call)
    else
      {:error, %{__exception__: true} = error} -> invalid(call, error)
      {:answer, answer} -> answer
    end
  catch
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      failed(call, :request_not_decoded)
  end

  defp arguments(body, call) when is_binary(body) do
    cond do
      byte_size(body) > max_bytes() ->
        charged(call, :too_large)

      body != "" and Headers.get(call.headers, "content-type") == nil ->
        charged(call, :content_type)

      true ->
        Body.decode(body, call.library)
    end
  end

  defp arguments({:decoded, term}, call) do
    if :erlang.external_size(term) > max_bytes(),
      do: charged(call, :too_large),
      else: Body.decoded(term)
  end

  defp arguments({:error, :too_large}, call), do: charged(call, :too_large)
  defp arguments({:error, :unreadable}, call), do: charged(call, :unreadable)

  # The same checks as of a channel's message.
  defp payload(%{headers: headers} = call, args) do
    %{
      "service" => call.service,
      "request_type" => call.request_type,
      "request_id" => call.id,
      "version" => Headers.get(headers, "accept-version"),
      "deadline_ms" => deadline(Headers.get(headers, "x-deadline-ms")),
      "args" => args
    }
  end

  defp deadline(nil), do: nil

  # As many digits as the largest deadline that makes a difference has, and more.
  defp deadline(text) when byte_size(text) <= 20 do
    case Integer.parse(text) do
      {ms, ""} -> ms
      _other -> text
    end
  end

  defp deadline(text), do: text

  defp run(request, %{identity: identity} = call) do
    %{service: service, request_type: type, version: version} = request
    Runner.run(call, by(request, identity), ConfigDb.fetch(service, type, version))
  end

  defp by(request, identity) do
    %{
      request
      | user_id: identity.user_id,
        user_roles: identity.user_roles,
        device_id: identity.device_id,
        ip_address: identity.ip_address
    }
  end

  defp invalid(call, error) do
    {:answer, answer} = charged(call, {:invalid_request, error})
    answer
  end

  # What is no request counts against the limits of who sends it all the same.
  defp charged(call, failure) do
    case Executor.charge_sender(about(call)) do
      :ok -> refused(call, failure)
      {:error, limited} -> refused(call, limited)
    end
  end

  defp refused(call, failure), do: {:answer, failed(call, failure)}

  defp failed(call, {:method, allow}),
    do: failed(call, http("method_not_allowed", "Method not allowed"), [{"allow", allow}])

  defp failed(call, :not_found), do: failed(call, http("not_found", "Not found"), [])

  defp failed(call, :cross_site),
    do: failed(call, http("forbidden", "Requests of other sites are not allowed"), [])

  defp failed(call, :content_type) do
    text = "The content type must be application/json"
    failed(call, http("unsupported_media_type", text), [])
  end

  defp failed(call, :too_large) do
    text = "The body exceeds the maximum size of #{max_bytes()} bytes"
    failed(call, http("payload_too_large", text), [])
  end

  defp failed(call, :unreadable),
    do: failed(call, http("invalid_request", "Invalid request: the body did not arrive"), [])

  defp failed(call, failure), do: failed(call, failure, [])

  defp failed(call, failure, headers) do
    id = Call.header_id(call)
    FailureLog.log(failure, FailureLog.about(about(call)))

    Answer.of(
      ErrorResponse.build(id, failure),
      id,
      call.options,
      call.library,
      headers
    )
  end

  defp http(code, text), do: {:http, code, text}

  defp about(call) do
    %Request{
      request_id: Call.header_id(call),
      service: call.service,
      request_type: call.request_type
    }
    |> by(call.identity)
  end

  defp id(headers) do
    case Headers.get(headers, "x-request-id") do
      none when none in [nil, ""] -> new_id()
      # It comes back in a header of the answer.
      id -> if Headers.safe?(id), do: id, else: :invalid
    end
  end

  # No two are alike in a cluster. Nobody has to be unable to guess one, and random bytes of the system take longer
  # than all the rest that is done here.
  defp new_id do
    id = <<
      System.system_time(:nanosecond)::64,
      :erlang.phash2({node(), self()}, 4_294_967_296)::32,
      :erlang.unique_integer([:positive])::32
    >>

    Base.url_encode64(id, padding: false)
  end
end
