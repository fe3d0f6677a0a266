defmodule PhoenixGenApi.Http.Answer do
  @moduledoc false
  # Statuses, headers and bodies of answers.

  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Http.Options
  alias PhoenixGenApi.HttpStatus
  alias PhoenixGenApi.JsonEncoding.Reply
  alias PhoenixGenApi.Structs.Response

  @type t ::
          {status :: pos_integer(), [{String.t(), String.t()}],
           {:full, iodata()} | {:stream, Enumerable.t()}}

  # Of a function's own codes, and of wrong arguments.
  @unprocessable 422

  @doc "The answer that a response is."
  @spec of(Response.t() | {:ok, :none}, String.t() | nil, Options.t(), module(), [
          {String.t(), String.t()}
        ]) ::
          t()
  def of(response, id, options, library, more \\ [])

  def of({:ok, :none}, id, _options, library, more),
    do: full(202, id, encode(%{"request_id" => id}, library), more)

  def of(%Response{success: true} = response, id, _options, library, more),
    do: full(200, id, encode(response, library), more)

  def of(%Response{} = response, id, options, library, more) do
    status = status(response.code, options)
    more = more ++ challenge(status, options) ++ limits(response)
    full(status, id, encode(response, library), more)
  end

  @doc "A complete answer of that media type."
  @spec full(pos_integer(), String.t() | nil, iodata(), [{String.t(), String.t()}], String.t()) ::
          t()
  def full(status, id, body, more, content_type \\ "application/json"),
    do: {status, headers(content_type, id, more), {:full, body}}

  @doc "An answer whose frames come one after the other."
  @spec stream(String.t(), :events | :lines, Enumerable.t()) :: t()
  def stream(id, format, frames) do
    content_type =
      case format do
        :events -> "text/event-stream"
        :lines -> "application/x-ndjson"
      end

    # The second one tells proxies of that family to pass each frame on at once.
    {200, headers(content_type, id, [{"x-accel-buffering", "no"}]), {:stream, frames}}
  end

  defp headers(content_type, id, more) do
    headers = [
      {"content-type", content_type},
      {"cache-control", "no-store"},
      {"x-content-type-options", "nosniff"} | more
    ]

    if id, do: [{"x-request-id", id} | headers], else: headers
  end

  @doc "The status of a code."
  @spec status(String.t() | nil, Options.t()) :: pos_integer()
  def status(code, %{statuses: own}) do
    HttpStatus.of(code) || Map.get(own, code, @unprocessable)
  end

  @doc """
  JSON, by the library that Phoenix encodes with. That the response can be encoded has been checked, but an
  encoder of the application has the last word.
  """
  @spec encode(term(), module()) :: iodata()
  def encode(payload, library) do
    library.encode_to_iodata!(payload)
  catch
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      library.encode_to_iodata!(Reply.not_encodable(payload))
  end

  defp challenge(401, %{www_authenticate: challenge}) when challenge != nil,
    do: [{"www-authenticate", challenge}]

  defp challenge(_status, _options), do: []

  defp limits(%{code: "rate_limited", details: [%{"retry_after_ms" => ms} = details | _]})
       when is_integer(ms) do
    seconds = Integer.to_string(div(ms + 999, 1_000))

    case details do
      %{"limit" => limit, "remaining" => remaining} ->
        [
          {"retry-after", seconds},
          {"ratelimit-limit", Integer.to_string(limit)},
          {"ratelimit-remaining", Integer.to_string(remaining)},
          {"ratelimit-reset", seconds}
        ]

      _not_exposed ->
        [{"retry-after", seconds}]
    end
  end

  defp limits(_response), do: []
end
