defmodule PhoenixGenApi.RateLimiter.Limit do
  @moduledoc """
  What a rate limit may look like.

      %{key: :user_id, max_requests: 100, window_ms: 60_000}

      %{service: "books", request_type: "buy", key: "isbn", max_requests: 3, window_ms: 1_000}

  A **global** limit counts every request, an **API** limit those of one service and
  request type (all versions).

  | Field | Accepted | Default |
  |---|---|---|
  | `key` | `:user_id`, `:device_id`, `:ip_address`, or a non-empty string of at most 8,192 bytes, as all names: the request argument of that name | required |
  | `max_requests` | integer 0..1_000_000; 0 denies every request | required |
  | `window_ms` | integer 1..2_678_400_000 milliseconds (31 days) | required |
  | `on_missing` | for a request that has no value for `key`: `:skip` this limit, `:deny` the request, or count it in one `:shared` window | `:skip` |
  | `service` | atom or non-empty string | required in an API limit, nowhere else |
  | `request_type` | non-empty string | required in an API limit, nowhere else |

  An unknown field is an error: a misspelt `on_missing` would silently mean `:skip`.
  """

  @fields [:key, :max_requests, :window_ms, :on_missing]
  @api_fields [:service, :request_type | @fields]
  @request_fields [:user_id, :device_id, :ip_address]
  @defaults %{on_missing: :skip}
  @on_missing [:skip, :deny, :shared]
  @max_requests 1_000_000
  @max_window_ms 2_678_400_000

  @typedoc "Which requests a limit counts: all of them, or those of one service and request type."
  @type scope :: :global | :api

  @typedoc "A valid limit; `service` is a string, `on_missing` is there when it was given."
  @type t :: %{
          required(:key) => :user_id | :device_id | :ip_address | String.t(),
          required(:max_requests) => 0..1_000_000,
          required(:window_ms) => 1..2_678_400_000,
          optional(:on_missing) => :skip | :deny | :shared,
          optional(:service) => String.t(),
          optional(:request_type) => String.t()
        }

  @doc """
  Checks one limit and turns its `service` into a string; everything else stays as given.

      iex> PhoenixGenApi.RateLimiter.Limit.validate(
      ...>   %{service: :books, request_type: "buy", key: :user_id, max_requests: 3, window_ms: 1_000},
      ...>   :api
      ...> )
      {:ok, %{service: "books", request_type: "buy", key: :user_id, max_requests: 3, window_ms: 1_000}}

  The error carries the limit as given and a sentence about its first problem.

      iex> PhoenixGenApi.RateLimiter.Limit.validate(%{key: :user_id, max_requests: 3, window_ms: 0}, :global)
      {:error,
       {:invalid_limit, %{key: :user_id, max_requests: 3, window_ms: 0},
        "window_ms must be an integer from 1 to 2678400000 (milliseconds)"}}
  """
  @spec validate(term(), scope()) ::
          {:ok, t()} | {:error, {:invalid_limit, term(), String.t()}}
  def validate(limit, scope) when scope in [:global, :api] do
    case check(limit, scope) do
      :ok -> {:ok, normalise(limit)}
      {:error, reason} -> {:error, {:invalid_limit, limit, reason}}
    end
  end

  defp check(limit, scope) when is_map(limit) and not is_struct(limit) do
    with :ok <- known_fields(limit, scope) do
      given = Map.merge(@defaults, limit)

      Enum.find_value(fields(scope), :ok, fn field ->
        if text = problem(field, given[field]), do: {:error, text}
      end)
    end
  end

  defp check(_limit, _scope), do: {:error, "a limit must be a map"}

  defp known_fields(limit, scope) do
    case Map.keys(limit) -- fields(scope) do
      [] ->
        :ok

      [field | _] when scope == :global and field in [:service, :request_type] ->
        {:error, "#{field} belongs to an API limit (api_limits), not to a global limit"}

      [field | _] ->
        known = Enum.join(fields(scope), ", ")

        {:error,
         "unknown field #{PhoenixGenApi.SafeInspect.inspect(field)}, a limit has #{known}"}
    end
  end

  defp fields(:global), do: @fields
  defp fields(:api), do: @api_fields

  defp problem(:key, key) when key in @request_fields, do: nil

  defp problem(:key, key) do
    if text?(key),
      do: nil,
      else: "key must be :user_id, :device_id, :ip_address or a non-empty string"
  end

  defp problem(:max_requests, n) when is_integer(n) and n in 0..@max_requests, do: nil

  defp problem(:max_requests, _),
    do: "max_requests must be an integer from 0 to #{@max_requests}"

  defp problem(:window_ms, n) when is_integer(n) and n in 1..@max_window_ms, do: nil

  defp problem(:window_ms, _),
    do: "window_ms must be an integer from 1 to #{@max_window_ms} (milliseconds)"

  defp problem(:on_missing, value) when value in @on_missing, do: nil
  defp problem(:on_missing, _), do: "on_missing must be :skip, :deny or :shared"

  defp problem(:service, service) when is_atom(service) and service not in [nil, :""], do: nil

  defp problem(:service, service) do
    if text?(service), do: nil, else: "service must be an atom or a non-empty string"
  end

  defp problem(:request_type, type) do
    if text?(type), do: nil, else: "request_type must be a non-empty string"
  end

  # No name of a function is longer.
  defp text?(value),
    do: is_binary(value) and value != "" and byte_size(value) <= 8_192 and String.valid?(value)

  defp normalise(%{service: service} = limit) when is_atom(service),
    do: %{limit | service: Atom.to_string(service)}

  defp normalise(limit), do: limit
end
