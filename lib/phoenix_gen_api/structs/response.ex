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
  | `error_response/3` | false | nil | error | false | false | as given |

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
  compiled. The object always has all seven keys.
  """

  @type t :: %__MODULE__{
          request_id: String.t() | nil,
          result: term(),
          success: boolean(),
          error: term(),
          async: boolean(),
          has_more: boolean(),
          can_retry: boolean()
        }

  @typedoc "The seven fields as a plain map, values untouched."
  @type encoded :: %{
          request_id: String.t() | nil,
          result: term(),
          success: boolean(),
          error: term(),
          async: boolean(),
          has_more: boolean(),
          can_retry: boolean()
        }

  defstruct request_id: nil,
            result: nil,
            success: false,
            error: nil,
            async: false,
            has_more: false,
            can_retry: false

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

      def buy(_isbn), do: Response.error_response(nil, "Out of stock")
  """
  @spec error_response(String.t() | nil, term(), boolean()) :: t()
  def error_response(request_id, error, can_retry \\ false) do
    %__MODULE__{request_id: request_id, error: error, can_retry: can_retry}
  end

  @doc "Whether the response reports a failure, that is, `success` is `false`."
  @spec error?(t()) :: boolean()
  def error?(%__MODULE__{success: success}), do: success == false

  @doc "Same as `error?/1`."
  @spec is_error?(t()) :: boolean()
  def is_error?(%__MODULE__{} = response), do: error?(response)

  @doc """
  The response as a plain map with its seven atom keys. The values are not converted; the
  options are ignored.
  """
  @spec encode!(t(), term()) :: encoded()
  def encode!(response, opts \\ [])
  def encode!(%__MODULE__{} = response, _opts), do: Map.from_struct(response)

  @doc "Like `encode!/2`, with `{:error, :invalid_response}` for anything but a response."
  @spec encode(term(), term()) :: encoded() | {:error, :invalid_response}
  def encode(%__MODULE__{} = response, opts), do: encode!(response, opts)
  def encode(_other, _opts), do: {:error, :invalid_response}
end
