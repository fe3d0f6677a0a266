defmodule PhoenixGenApi.ConfigFailed do
  @moduledoc """
  The function and service configs that were rejected, and why.

      PhoenixGenApi.ConfigFailed.list(source: :push, limit: 1)
      #=> [%{service: "books", request_type: "find", version: "1.0.0", source: :push,
      #=>    reason: ["timeout must be a positive integer between 100 and 300000, or :infinity"], ...}]

  At most 1000 entries and 16 MiB are kept, each entry for 24 hours; when the log is full the oldest
  is dropped. The same failure again renews its entry and counts it in `times`. Push tokens
  are never kept.

  Except `record/4`, every function raises `RuntimeError` where the gateway does not run.
  """

  alias PhoenixGenApi.ConfigFailed.Store
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.SafeInspect

  @store Store
  @sources [:pull, :push, :offer, :direct]
  @max_config_bytes 65_536
  # A config has some twenty fields, each with a sentence that names what is wrong.
  @max_reasons 100
  @max_reason_bytes 1_000

  @typedoc "Where the rejected config came from; `:direct` is a call on the gateway."
  @type source :: :pull | :push | :offer | :direct

  @typedoc """
  One failure.

  `config` is the rejected config as a map without its tokens; one larger than 64 KB is
  cut to `%{truncated: true}`. `reason` has at most 100 sentences of 1,000 bytes. `version` is a function's version, or the `config_version`
  of a push. Times are Unix milliseconds; `inserted_at_ms` is that of the latest repeat.
  """
  @type entry :: %{
          id: String.t(),
          service: String.t() | nil,
          request_type: String.t() | nil,
          version: String.t() | nil,
          source: source(),
          node: node() | nil,
          reason: [String.t()],
          config: map(),
          inserted_at_ms: integer(),
          expires_at_ms: integer(),
          times: pos_integer()
        }

  @doc false
  # Called by the supervisor of the application, which thereby owns the table.
  @spec new() :: :ok
  def new, do: Store.new(@store)

  @doc false
  @spec child_spec(term()) :: Supervisor.child_spec()
  def child_spec(_options), do: Store.child_spec(name: @store)

  @doc """
  Records a rejected config and returns the entry.

  `config` is a struct, a map or a keyword list, `reason` one reason or a list of them; a
  reason that is not a string is inspected, an exception gives its message. `node` is the
  node that the config came from. Where the gateway does not run the entry is returned
  without being stored.
  """
  @spec record(map() | keyword() | term(), term() | [term()], source(), node() | nil) :: entry()
  def record(config, reason, source, node \\ nil) when source in @sources and is_atom(node) do
    now = System.system_time(:millisecond)
    entry = entry(config, reason, source, node, now)

    case Store.put(@store, entry, now) do
      {:ok, stored} -> stored
      {:error, :not_running} -> entry
    end
  end

  @doc """
  The recorded failures.

  Options: `:source` (`:pull`, `:push`, `:offer` or `:direct`) and `:service` (atom or string) select
  entries, `:limit` (100) is how many are returned at most, `:order` is `:newest_first`
  (default) or `:oldest_first`.
  """
  @spec list(keyword()) :: [entry()]
  def list(options \\ []) do
    options =
      Keyword.validate!(options, source: nil, service: nil, limit: 100, order: :newest_first)

    service = options[:service] && to_string(options[:service])

    entries()
    |> order(options[:order])
    |> Stream.filter(&(options[:source] in [nil, &1.source]))
    |> Stream.filter(&(service in [nil, &1.service]))
    |> Enum.take(options[:limit])
  end

  defp order(entries, :oldest_first), do: entries
  defp order(entries, :newest_first), do: Enum.reverse(entries)

  @doc "How many failures are recorded."
  @spec count() :: non_neg_integer()
  def count, do: running!(Store.count(@store, System.system_time(:millisecond)))

  @doc """
  The failures in numbers.

  `oldest` and `newest` are the times of the oldest and newest entry in Unix milliseconds,
  `nil` when there is none.
  """
  @spec summary() :: %{
          total: non_neg_integer(),
          pull: non_neg_integer(),
          push: non_neg_integer(),
          offer: non_neg_integer(),
          direct: non_neg_integer(),
          by_service: %{(String.t() | nil) => pos_integer()},
          oldest: integer() | nil,
          newest: integer() | nil
        }
  def summary do
    entries = entries()
    by_source = Enum.frequencies_by(entries, & &1.source)

    %{
      total: length(entries),
      pull: Map.get(by_source, :pull, 0),
      push: Map.get(by_source, :push, 0),
      offer: Map.get(by_source, :offer, 0),
      direct: Map.get(by_source, :direct, 0),
      by_service: Enum.frequencies_by(entries, & &1.service),
      oldest: time(List.first(entries)),
      newest: time(List.last(entries))
    }
  end

  defp time(nil), do: nil
  defp time(entry), do: entry.inserted_at_ms

  @doc "Removes the expired entries and returns how many they were. Also runs by itself."
  @spec cleanup() :: non_neg_integer()
  def cleanup, do: running!(Store.cleanup(@store, System.system_time(:millisecond)))

  @doc "Removes all entries."
  @spec clear() :: :ok
  def clear, do: running!(Store.clear(@store))

  @doc false
  @spec entry(term(), term(), source(), node() | nil, integer()) :: entry()
  def entry(config, reason, source, node, now) do
    config = to_map(config)
    type = name(field(config, :request_type))

    %{
      id: Base.encode16(:crypto.strong_rand_bytes(8), case: :lower),
      service: name(field(config, :service)),
      request_type: type,
      version: version(config, type),
      source: source,
      node: node,
      reason: reason |> List.wrap() |> reasons(),
      config: config |> bounded() |> without_tokens(),
      inserted_at_ms: now,
      expires_at_ms: now + Store.lifetime_ms(),
      times: 1
    }
  end

  defp entries, do: running!(Store.entries(@store, System.system_time(:millisecond)))

  defp running!({:ok, result}), do: result

  defp running!({:error, :not_running}), do: Gateway.not_running!()

  defp to_map(config) when is_struct(config), do: Map.from_struct(config)
  defp to_map(config) when is_map(config), do: config

  defp to_map(config) do
    if Keyword.keyword?(config), do: Map.new(config), else: %{value: SafeInspect.inspect(config)}
  end

  # A push may come as a map with string keys.
  defp field(config, key), do: Map.get(config, key) || Map.get(config, Atom.to_string(key))

  # An unversioned function is 0.0.0; a service or a push has no request type.
  defp version(config, type) do
    name(field(config, :version) || field(config, :config_version)) || (type && "0.0.0")
  end

  defp name(nil), do: nil
  defp name(name) when is_binary(name), do: SafeInspect.truncate(name)
  defp name(name) when is_atom(name), do: Atom.to_string(name)
  defp name(name), do: SafeInspect.inspect(name)

  defp reasons(reasons) do
    {kept, more} = Enum.split(reasons, @max_reasons)
    more = if more == [], do: [], else: ["and #{length(more)} more"]
    Enum.map(kept, &text/1) ++ more
  end

  defp text(reason) when is_binary(reason), do: SafeInspect.truncate(reason, @max_reason_bytes)
  defp text(reason) when is_exception(reason), do: SafeInspect.reason(:error, reason)
  defp text(reason), do: reason |> without_tokens() |> SafeInspect.inspect()

  # `:maps.map/2` keeps structs what they are.
  defp without_tokens(%{} = map) do
    :maps.map(
      fn
        key, _token when key in [:push_token, "push_token"] -> nil
        _key, value -> without_tokens(value)
      end,
      map
    )
  end

  defp without_tokens([head | tail]), do: [without_tokens(head) | without_tokens(tail)]

  defp without_tokens({key, _token}) when key in [:push_token, "push_token"], do: {key, nil}

  defp without_tokens(tuple) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> without_tokens() |> List.to_tuple()

  defp without_tokens(other), do: other

  # A thousand entries must not hold a thousand huge schemas.
  defp bounded(config) do
    if :erlang.external_size(config) > @max_config_bytes, do: %{truncated: true}, else: config
  end
end
