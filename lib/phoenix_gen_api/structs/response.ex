defmodule PhoenixGenApi.Structs.Response do
  @moduledoc """
  The envelope of every answer: result, acknowledgement, stream frame, relay message or error.

      iex> alias PhoenixGenApi.Structs.Response
      iex> JSON.encode!(Response.sync_response("r1", %{printed: ~D[1965-08-01]}))
      ~s({"request_id":"r1","success":true,"result":{"printed":"1965-08-01"},"error":null,) <>
        ~s("async":false,"has_more":false,"can_retry":false})

  | Constructor | success | result | error | async | has_more | can_retry |
  |---|---|---|---|---|---|---|
  | `sync_response/2` | true | result | nil | false | false | false |
  | `async_response/1` | true | nil | nil | true | false | false |
  | `stream_response/3` | true | result | nil | true | as given | false |
  | `stream_end_response/1` | true | nil | nil | true | false | false |
  | `error_response/4` | false | nil | error | false | false | as given |

  ## Codes

  A failure has a `code`, for programs, beside its `error`, a text for people. Clients should branch on
  codes only:

  | Code | When |
  |---|---|
  | `invalid_request` | the payload is no request |
  | `unauthenticated` | the request needs a user and has none |
  | `forbidden` | `Permission denied` |
  | `rejected` | a before hook rejected the request |
  | `unknown_function`, `disabled_function` | there is no such function, or it is switched off |
  | `invalid_arguments` | the arguments do not fit their types |
  | `missing_routing_key` | the value that chooses the node is absent or unusable |
  | `error` | the function answered with an error of its own that has no code |
  | `group_not_found`, `not_a_member`, `pending_member`, `muted` | a relay message was not sent |
  | `rate_limited` | over a limit |
  | `internal` | the function raised, or returned an error or something that cannot be sent |
  | `unavailable` | no node, a full queue or pool, an open circuit, a lost connection |
  | `timeout` | out of time |

  Some codes come with `details`, a list of maps:

    * `invalid_arguments`: every problem, at most 20, such as
      `%{"path" => "order.lines[3].qty", "rule" => "max", "limit" => 9}`; see
      `PhoenixGenApi.ArgumentHandler`
    * `rate_limited`: `[%{"retry_after_ms" => 700}]`
    * `unavailable`, `timeout` and `internal`: `[%{"executed" => "no"}]` if nothing was sent to a
      function, `"yes"` if it returned, raised or exited, `"unknown"` otherwise. A request that was not
      executed may be sent again.

  A function's own error response may have a code of its own: 1 to 64 characters of `a-z`, `0-9` and
  `_`. `internal`, `unavailable`, `timeout`, `rate_limited` and `unauthenticated` are the gateway's: it
  replaces them, and malformed ones, with `error`.

  ## What a result may hold

  At any depth: `nil`, booleans, numbers, UTF-8 strings, atoms (they become strings), lists, maps
  with string, atom or number keys, `DateTime`, `NaiveDateTime`, `Date`, `Time` and `Duration`
  (ISO 8601), `URI` and `Version` (strings), `MapSet` (a list), `Decimal` (a string), and every
  struct with an encoder for the JSON library in use.

  Other structs are not dumped, since they may hold secrets. They, tuples, pids, ports,
  references, functions, bitstrings, improper lists and binaries that are not UTF-8 cannot be
  encoded: encoding such a response raises, whereas a channel answers `Internal Server Error`.

  A struct that has its own encoder decides itself about its fields. Under Jason they must then
  be values that Jason knows.

  ## JSON

  `JSON.Encoder` is implemented, and `Jason.Encoder` if Jason is there when this library is
  compiled. The object always has its seven keys, an error also `code`, and `details` where there are any.
  """

  alias PhoenixGenApi.Structs.FieldMap

  @type t :: %__MODULE__{
          request_id: String.t() | nil,
          result: term(),
          success: boolean(),
          error: term(),
          async: boolean(),
          has_more: boolean(),
          can_retry: boolean(),
          code: String.t() | nil,
          details: [map()] | nil
        }

  @typedoc "The fields as a plain map, values untouched."
  @type encoded :: %{
          required(:request_id) => String.t() | nil,
          required(:result) => term(),
          required(:success) => boolean(),
          required(:error) => term(),
          required(:async) => boolean(),
          required(:has_more) => boolean(),
          required(:can_retry) => boolean(),
          optional(:code) => String.t() | nil,
          optional(:details) => [map()]
        }

  defstruct request_id: nil,
            result: nil,
            success: false,
            error: nil,
            async: false,
            has_more: false,
            can_retry: false,
            code: nil,
            details: nil

  @doc "A result that is complete."
  @spec sync_response(String.t() | nil, term()) :: t()
  def sync_response(request_id, result) do
    %__MODULE__{request_id: request_id, success: true, result: result}
  end

  @doc "The acknowledgement of an asynchronous request, whose result follows as another message."
  @spec async_response(String.t() | nil) :: t()
  def async_response(request_id) do
    %__MODULE__{request_id: request_id, success: true, async: true}
  end

  @doc "One frame of a stream; `has_more` (default `true`) is `false` on a last result."
  @spec stream_response(String.t() | nil, term(), boolean()) :: t()
  def stream_response(request_id, result, has_more \\ true) do
    %__MODULE__{
      request_id: request_id,
      success: true,
      result: result,
      async: true,
      has_more: has_more
    }
  end

  @doc "The frame that ends a stream without a result of its own."
  @spec stream_end_response(String.t() | nil) :: t()
  def stream_end_response(request_id) do
    %__MODULE__{request_id: request_id, success: true, async: true}
  end

  @doc """
  A failure. `can_retry` (default `false`) tells the client that the same request may succeed later.

  A function returns one to send an error text of its own; the gateway fills in the request id:

      def buy(_isbn), do: Response.error_response(nil, "Out of stock", false, code: "sold_out")

  Options: `code:` and `details:`, see [Codes](#module-codes).
  """
  @spec error_response(String.t() | nil, term(), boolean(), code: String.t(), details: [map()]) ::
          t()
  def error_response(request_id, error, can_retry \\ false, opts \\ []) do
    %__MODULE__{
      request_id: request_id,
      error: error,
      can_retry: can_retry,
      code: opts[:code],
      details: opts[:details]
    }
  end

  @doc false
  # A response that another version of the library made, with the fields of this one.
  @spec complete(t()) :: t()
  def complete(
        %__MODULE__{
          request_id: _,
          result: _,
          success: _,
          error: _,
          async: _,
          has_more: _,
          can_retry: _,
          code: _,
          details: _
        } = response
      )
      when map_size(response) == 10,
      do: response

  def complete(%__MODULE__{} = response), do: FieldMap.complete(response)

  @doc "Whether the response reports a failure, that is, `success` is `false`."
  @spec error?(t()) :: boolean()
  def error?(%__MODULE__{} = response), do: Map.get(response, :success, false) == false

  @doc "Same as `error?/1`."
  @spec is_error?(t()) :: boolean()
  def is_error?(%__MODULE__{} = response), do: error?(response)

  @doc """
  The response as a plain map with its seven atom keys; an error also has `:code`, and `:details`
  unless they are nil. The values are not converted; the options are ignored.
  """
  @spec encode!(t(), term()) :: encoded()
  def encode!(%__MODULE__{} = response, _opts \\ []) do
    case response |> complete() |> Map.from_struct() do
      %{success: false, details: nil} = fields -> Map.delete(fields, :details)
      %{success: false} = fields -> fields
      fields -> Map.drop(fields, [:code, :details])
    end
  end

  @doc "Like `encode!/2`, with `{:error, :invalid_response}` for anything but a response."
  @spec encode(term(), term()) :: encoded() | {:error, :invalid_response}
  def encode(%__MODULE__{} = response, opts), do: encode!(response, opts)
  def encode(_other, _opts), do: {:error, :invalid_response}
end
