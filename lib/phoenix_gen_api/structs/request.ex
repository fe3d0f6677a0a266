defmodule PhoenixGenApi.Structs.Request do
  @moduledoc """
  One request, decoded from what a client sent.

      iex> {:ok, request} =
      ...>   PhoenixGenApi.Structs.Request.decode(%{
      ...>     "request_id" => "r1",
      ...>     "request_type" => "find",
      ...>     "service" => "books",
      ...>     "args" => %{"isbn" => "9780441"}
      ...>   })
      iex> {request.service, request.args, request.version}
      {"books", %{"isbn" => "9780441"}, nil}

  | Field | Type when decoded | Default |
  |---|---|---|
  | `request_id`, `request_type` | non-empty string, required | `nil` |
  | `service` | non-empty string, required; Elixir callers may give an atom | `nil` |
  | `args` | map; `nil` or missing reads as `%{}` | `%{}` |
  | `user_id`, `device_id`, `ip_address` | string or `nil` | `nil` |
  | `user_roles` | a list's non-empty strings; anything else reads as `nil` | `nil` |
  | `version` | string or `nil`; `""` reads as `nil` | `nil` |
  | `deadline_ms` | positive integer or `nil`: the ms that the client gives the whole request; more than 3,600,000 reads as that. Code may also give 0, and `:infinity` for none | `nil` |
  | `credit` | an integer from 1 to 1,000 or `nil`: how many items a stream may send before its client grants more | `nil` |
  | `expires_at` | never decoded: the gateway sets it for a request with a deadline, see `remaining_ms/1` | `nil` |

  A string is a valid UTF-8 binary of at most `max_field_bytes` bytes (`config
  :phoenix_gen_api, :request`, default 1024). A whole payload may take `max_payload_bytes`
  (default 1,000,000), measured by `:erlang.external_size/1`.

  ## Trust

  Decoding is neutral: every known field is kept, `user_id` and `user_roles` included, whoever
  sent it. Channels that `use PhoenixGenApi`, and `PhoenixGenApi.Executor.execute_params/2`,
  remove what a client must not decide; code that decodes by itself has to do the same.
  """

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Errors.DecodeError
  alias PhoenixGenApi.Integers
  alias PhoenixGenApi.Explanation
  alias PhoenixGenApi.Format
  alias PhoenixGenApi.Structs.FieldMap

  @type t :: %__MODULE__{
          request_id: String.t() | nil,
          request_type: String.t() | nil,
          service: String.t() | atom(),
          args: map(),
          user_id: String.t() | nil,
          device_id: String.t() | nil,
          ip_address: String.t() | nil,
          user_roles: [String.t()] | nil,
          version: String.t() | nil,
          deadline_ms: timeout() | nil,
          credit: 1..1_000 | nil,
          expires_at: {node(), integer()} | nil
        }

  defstruct request_id: nil,
            request_type: nil,
            service: nil,
            args: %{},
            user_id: nil,
            device_id: nil,
            ip_address: nil,
            user_roles: nil,
            version: nil,
            deadline_ms: nil,
            credit: nil,
            expires_at: nil

  # The order in which an error lists missing fields, and the one in which it lists wrong ones.
  @required [:request_type, :request_id, :service]
  @fields [
    :request_id,
    :request_type,
    :service,
    :args,
    :user_id,
    :device_id,
    :ip_address,
    :version,
    :deadline_ms,
    :credit
  ]

  @max_deadline_ms 3_600_000
  @max_credit 1_000

  defguardp is_text(value, max) when is_binary(value) and byte_size(value) <= max
  defguardp is_service_atom(value) when is_atom(value) and value not in [nil, true, false]

  # Looked up by name rather than by walking the payload, which may have any number of keys. The
  # atom key wins: only code on this side can have put it there, so `Map.put(params, :user_id, id)`
  # must not lose to what the client sent.
  defmacrop field(payload, name) do
    quote do
      case unquote(payload) do
        %{unquote(name) => value} -> value
        %{unquote(Atom.to_string(name)) => value} -> value
        _absent -> nil
      end
    end
  end

  @doc """
  Decodes a map with string or atom keys, or raises `PhoenixGenApi.Errors.DecodeError`.

  See `decode/1`.
  """
  @spec decode!(term()) :: t()
  def decode!(payload) do
    case decode(payload) do
      {:ok, request} -> request
      {:error, error} -> raise error
    end
  end

  @doc """
  Decodes a map with string or atom keys; other keys are ignored, and no atom is ever created.
  Where a field is given under both, the atom key counts.

  Any term may be passed. The first of these that applies is the error:

  | Failure | `code` | `message` |
  |---|---|---|
  | not a map | `:invalid_payload` | `Request payload must be a map` |
  | payload too large | `:invalid_payload` | `Request payload exceeds maximum size of N bytes (got M bytes)` |
  | required fields `nil`, missing or `""` | `:missing_field` | `Missing required fields: request_type, request_id, service` (the missing ones) |
  | wrong type | `:invalid_payload` | `Invalid fields: request_id must be a string, args must be a map` (the wrong ones) |
  | an integer of more than `max_digits` (1,024) digits in `args` | `:invalid_payload` | `Invalid fields: args has an integer of more than 1024 digits` |
  | string field too long | `:invalid_payload` | `Invalid fields: request_id exceeds 1024 bytes` (in one list with the row above) |
  | anything else | `:invalid_payload` | `Malformed request payload`, the exception in `details` |
  """
  @spec decode(term()) :: {:ok, t()} | {:error, DecodeError.t()}
  def decode(payload) when is_map(payload) do
    limit = max_payload_bytes()
    size = :erlang.external_size(payload)

    if size <= limit do
      decode_fields(payload, size)
    else
      invalid("Request payload exceeds maximum size of #{limit} bytes (got #{size} bytes)")
    end
  rescue
    exception ->
      {:error, DecodeError.exception(:invalid_payload, "Malformed request payload", exception)}
  end

  def decode(_payload), do: invalid("Request payload must be a map")

  @doc """
  The largest payload accepted, in bytes of the external term format: `config :phoenix_gen_api,
  :request, max_payload_bytes: 1_000_000`.
  """
  @spec max_payload_bytes() :: pos_integer()
  def max_payload_bytes, do: Config.get(:request, :max_payload_bytes)

  @doc """
  How many milliseconds are left for a request, 0 or more; `:infinity` if it has no deadline.

  A function with `request_info: true` asks with the request that it gets, in its own process or in
  a task, to begin nothing that it cannot finish:

      def report(%Request{} = request) do
        if Request.remaining_ms(request) > 2_000, do: full_report(), else: summary()
      end

  In comparisons `:infinity` is greater than any number. The moment is kept in the time of the node to
  which the gateway has given the request. If the function sends the request on to another node, the
  answer there is `:infinity`.
  """
  @spec remaining_ms(t()) :: non_neg_integer() | :infinity
  def remaining_ms(%__MODULE__{expires_at: {node, at}}) when node == node(),
    do: max(at - System.monotonic_time(:millisecond), 0)

  def remaining_ms(%__MODULE__{}), do: :infinity

  @doc false
  @spec max_deadline_ms() :: pos_integer()
  def max_deadline_ms, do: @max_deadline_ms

  @doc false
  # A request that another version of the library made, with the fields of this one.
  @spec complete(t()) :: t()
  def complete(
        %__MODULE__{
          request_id: _,
          request_type: _,
          service: _,
          args: _,
          user_id: _,
          device_id: _,
          ip_address: _,
          user_roles: _,
          version: _,
          deadline_ms: _,
          credit: _,
          expires_at: _
        } = request
      ),
      do: request

  def complete(%__MODULE__{} = request), do: FieldMap.complete(request)

  @doc false
  # Explains a result of `decode/1`; `nil` stands for any request.
  @spec explain({:ok, t()} | {:error, DecodeError.t()} | nil) :: Explanation.t()
  def explain({:error, error}) do
    failure = {:invalid_request, error}
    Explanation.refuses("the payload is no request", failure, Exception.message(error))
  end

  def explain(_decoded),
    do: Explanation.passes("a payload of at most #{Format.bytes(max_payload_bytes())}")

  defp decode_fields(payload, size) do
    request = %__MODULE__{
      request_id: own(field(payload, :request_id)),
      request_type: own(field(payload, :request_type)),
      service: service(own(field(payload, :service))),
      args: args(field(payload, :args)),
      user_id: own(field(payload, :user_id)),
      device_id: own(field(payload, :device_id)),
      ip_address: own(field(payload, :ip_address)),
      user_roles: roles(field(payload, :user_roles)),
      version: version(own(field(payload, :version))),
      deadline_ms: capped(field(payload, :deadline_ms)),
      credit: field(payload, :credit)
    }

    max = Config.get(:request, :max_field_bytes)

    if required?(request.request_id, max) and required?(request.request_type, max) and
         required?(request.service, max) and args?(request.args) and
         optional?(request.user_id, max) and optional?(request.device_id, max) and
         optional?(request.ip_address, max) and optional?(request.version, max) and
         deadline?(request.deadline_ms) and credit?(request.credit) do
      short_integers(request, size)
    else
      explain(request, max)
    end
  end

  # Whatever becomes of the arguments: an integer of a million digits takes seconds to write.
  defp short_integers(request, size) do
    max = Config.get(:request, :max_digits)

    if Integers.all_short?(request.args, size, max),
      do: {:ok, request},
      else: invalid("Invalid fields: args has an integer of more than #{max} digits")
  end

  # What JSON libraries decode is a part of the payload, all of which stays in memory for as long as
  # the part does. Ids and names outlive their request, and those of up to 64 bytes are copied anyway.
  defp own(text) when is_binary(text) and byte_size(text) > 64 do
    if :binary.referenced_byte_size(text) > 2 * byte_size(text),
      do: :binary.copy(text),
      else: text
  end

  defp own(other), do: other

  defp service(service) when is_service_atom(service), do: Atom.to_string(service)
  defp service(service), do: service

  # Some JSON encoders write an empty map as an empty list.
  defp args(none) when none in [nil, []], do: %{}
  defp args(args), do: args

  defp version(""), do: nil
  defp version(version), do: version

  defp capped(ms) when is_integer(ms), do: min(ms, @max_deadline_ms)
  defp capped(other), do: other

  defp roles([_ | _] = roles), do: roles(roles, [])
  defp roles([]), do: []
  defp roles(_roles), do: nil

  defp roles([role | rest], kept) when is_binary(role) and role != "",
    do: roles(rest, [own(role) | kept])

  defp roles([_other | rest], kept), do: roles(rest, kept)
  defp roles([], kept), do: Enum.reverse(kept)
  defp roles(_improper_tail, _kept), do: nil

  defp required?(value, max), do: is_text(value, max) and value != "" and utf8?(value)

  defp optional?(nil, _max), do: true
  defp optional?(value, max), do: is_text(value, max) and utf8?(value)

  defp deadline?(ms), do: ms == nil or (is_integer(ms) and ms > 0)

  defp credit?(credit), do: credit == nil or (is_integer(credit) and credit in 1..@max_credit)

  defp args?(args), do: is_non_struct_map(args)

  # These texts come back in responses and messages, which can only carry UTF-8.
  defp utf8?(value), do: String.valid?(value, :fast_ascii)

  defp explain(request, max) do
    case for name <- @required, Map.fetch!(request, name) in [nil, ""], do: Atom.to_string(name) do
      [] ->
        wrong = for name <- @fields, text = wrong(name, Map.fetch!(request, name), max), do: text
        invalid("Invalid fields: " <> Enum.join(wrong, ", "))

      missing ->
        message = "Missing required fields: " <> Enum.join(missing, ", ")
        {:error, DecodeError.exception(:missing_field, message)}
    end
  end

  defp wrong(:args, args, _max), do: if(not args?(args), do: "args must be a map")

  defp wrong(:deadline_ms, ms, _max),
    do: if(not deadline?(ms), do: "deadline_ms must be a positive integer")

  defp wrong(:credit, credit, _max),
    do: if(not credit?(credit), do: "credit must be an integer from 1 to #{@max_credit}")

  defp wrong(_name, nil, _max), do: nil

  defp wrong(name, value, max) when is_binary(value) and byte_size(value) > max,
    do: "#{name} exceeds #{max} bytes"

  defp wrong(name, value, _max) do
    if not (is_binary(value) and utf8?(value)), do: "#{name} must be a string"
  end

  defp invalid(message), do: {:error, DecodeError.exception(:invalid_payload, message)}
end
