defmodule PhoenixGenApi.RateLimiter do
  @moduledoc """
  Sliding-window rate limits, exact and native.

      config :phoenix_gen_api, :rate_limiter,
        global_limits: [%{key: :user_id, max_requests: 1_000, window_ms: 60_000}],
        api_limits: [
          %{service: "books", request_type: "buy", key: :user_id, max_requests: 3, window_ms: 60_000}
        ]

  For every limit and value, at most `max_requests` requests are admitted in any interval as long
  as the window, whatever the number of concurrent callers, and a request is denied only if
  admitting it would break that. A request denied by one limit consumes nothing of any other, and
  a denied request is not counted. The fields of a limit are described in
  `PhoenixGenApi.RateLimiter.Limit`, the rest in the guide *Rate limiting*.

  Settings count per gateway. They can be changed at any time and take effect at once; a limit that
  keeps its scope, key and window keeps its counts. A request to which no limit applies pays
  nothing.

  With `config :phoenix_gen_api, :admin_actions` set and lacking `:update_rate_limit_config`, the
  functions that change limits or forget requests return `{:error, :admin_action_denied}`.
  """

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Decisions
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.RateLimiter.{Limit, Server, Settings, Verdict}
  alias PhoenixGenApi.Security
  alias PhoenixGenApi.Structs.Request
  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.Log

  require Log

  @typedoc "All requests, or those of one service and request type (a service may be an atom)."
  @type scope :: :global | {String.t() | atom(), String.t()}
  @type key :: :user_id | :device_id | :ip_address | String.t()

  @typedoc """
  Which limit denied: `key` is the value counted by (`nil` if there was none), `rate_limit_key` the
  limit's key; `retry_after_ms` the time until this request could be admitted.
  """
  @type details :: %{
          key: term(),
          rate_limit_key: key(),
          max_requests: non_neg_integer(),
          current_requests: non_neg_integer(),
          window_ms: pos_integer(),
          retry_after_ms: pos_integer(),
          scope: :global | {String.t(), String.t()}
        }

  @type decision ::
          :ok
          | {:error, :rate_limited, details()}
          | {:error, :rate_limiter_error, %{message: String.t()}}
  @type refusal ::
          {:error, :admin_action_denied | :not_running | {:invalid_limit, term(), String.t()}}

  @event [:phoenix_gen_api, :rate_limiter]

  @doc """
  Charges a request to all global limits and to the limits of its service and type: to all of
  them or, when one denies, to none. Of several that deny the one with the longest
  `retry_after_ms` is reported.

  Requests on their way through the gateway are charged in two steps, see the guide *Rate
  limiting*.
  """
  @spec check_rate_limit(Request.t()) :: decision()
  def check_rate_limit(%Request{} = request) do
    with :more <- request |> Request.complete() |> charge(:all), do: :ok
  end

  @doc false
  # The limits of one group; `:more` when limits of the other one apply too.
  @spec charge(Request.t(), Native.limit_group()) :: decision() | :more
  def charge(%Request{service: service, request_type: type} = request, group) do
    started = System.monotonic_time()

    outcome =
      case Gateway.handle(:rate_limiter) do
        {:ok, limiter} ->
          now = nanoseconds(started)
          Native.rate_limiter_check(limiter, request, text(service), text(type), group, now)

        {:error, :not_running} ->
          :not_running
      end

    decision = Verdict.of(outcome, started, request.request_id, request.user_id, {service, type})
    # A request that passes because there was no room is still charged to the other group.
    if outcome == :overflow and decision == :ok, do: :more, else: decision
  end

  @doc """
  Charges one value to the limits of one scope and key only; `:ok` when there are none.

      RateLimiter.check_rate_limit("ann", {"books", "buy"}, :user_id)
  """
  @spec check_rate_limit(term(), scope(), key()) :: decision()
  def check_rate_limit(value, scope, key) do
    started = System.monotonic_time()

    outcome =
      with {:ok, limiter} <- Gateway.handle(:rate_limiter),
           {:ok, scope} <- limit(scope, key) do
        Native.rate_limiter_check_value(limiter, value, scope, key, nanoseconds(started))
      else
        {:error, :not_running} -> :not_running
        :none -> :ok
      end

    Verdict.of(outcome, started, nil, if(key == :user_id, do: value), scope)
  end

  @doc "What each limit of one scope and key says of a value; charges nothing."
  @spec get_rate_limit_status(term(), scope(), key()) :: [
          %{
            key: term(),
            max_requests: non_neg_integer(),
            current_requests: non_neg_integer(),
            window_ms: pos_integer(),
            remaining: non_neg_integer(),
            scope: :global | {String.t(), String.t()}
          }
        ]
  def get_rate_limit_status(value, scope, key) do
    limiter = limiter!()

    for {:ok, scope} <- [limit(scope, key)],
        {max, current, window, remaining} <-
          Native.rate_limiter_status(limiter, value, scope, key, nanoseconds()) do
      %{
        key: value,
        max_requests: max,
        current_requests: current,
        window_ms: window,
        remaining: remaining,
        scope: scope
      }
    end
  end

  @doc "Forgets the requests of a value under the limits of one scope and key."
  @spec reset_rate_limit(term(), scope(), key()) :: :ok | refusal()
  def reset_rate_limit(value, scope, key) do
    with :ok <- gate(),
         {:ok, limiter} <- Gateway.handle(:rate_limiter) do
      with {:ok, scope} <- limit(scope, key) do
        Native.rate_limiter_reset(limiter, value, scope, key)
        metadata = %{key: value, scope: scope, rate_limit_key: key}
        Telemetry.execute(@event ++ [:reset], %{}, metadata)
      end

      :ok
    end
  end

  @doc "The limits in force."
  @spec get_configured_limits() :: %{global: [Limit.t()], api: [Limit.t()]}
  def get_configured_limits do
    %{global: global, api: api} = Settings.get()
    %{global: global, api: api}
  end

  @doc "The global limits in force."
  @spec get_global_limits() :: [Limit.t()]
  def get_global_limits, do: Settings.get().global

  @doc "Replaces all global limits. The option is that of `update_config/2`."
  @spec set_global_limits([map()], keyword()) :: :ok | refusal()
  def set_global_limits(limits, opts \\ []) when is_list(limits),
    do: update_config(%{global_limits: limits}, opts)

  @doc "Adds a global limit; it replaces those with the same key. The option is that of `update_config/2`."
  @spec add_global_limit(map(), keyword()) :: :ok | refusal()
  def add_global_limit(limit, opts \\ []) do
    with :ok <- gate(),
         {:ok, valid} <- Limit.validate(limit, :global) do
      decide(opts, fn settings ->
        %{settings | global: Enum.reject(settings.global, &(&1.key == valid.key)) ++ [valid]}
      end)
    end
  end

  @doc "Removes the global limits with that key, if there are any. The option is that of `update_config/2`."
  @spec remove_global_limit(key(), keyword()) :: :ok | refusal()
  def remove_global_limit(key, opts \\ []) do
    with :ok <- gate() do
      decide(opts, fn settings ->
        %{settings | global: Enum.reject(settings.global, &(&1.key == key))}
      end)
    end
  end

  @doc """
  Changes `:enabled`, `:global_limits` and `:api_limits`, those that the map has, in one step.
  With an invalid limit, or with another key (`{:error, {:unknown_key, key}}`), nothing changes.

  That holds on every connected gateway, and on those that join later, in place of the limits
  that are configured here: a gateway that is configured otherwise keeps its own and logs a
  warning. With the option `local: true` it holds on this gateway alone.
  `use_configured_limits/1` takes it back.
  """
  @spec update_config(map(), keyword()) :: :ok | refusal() | {:error, {:unknown_key, term()}}
  def update_config(%{} = config, opts \\ []) do
    with :ok <- gate(),
         :ok <- known_keys(config),
         {:ok, global} <- valid(config[:global_limits], :global),
         {:ok, api} <- valid(config[:api_limits], :api) do
      enabled = config[:enabled]

      decide(opts, fn settings ->
        %{
          enabled: if(is_boolean(enabled), do: enabled, else: settings.enabled),
          global: global || settings.global,
          api: api || settings.api
        }
      end)
    end
  end

  @doc """
  Goes back to the configured limits, on all gateways to those of each. The option is that of
  `update_config/2`.
  """
  @spec use_configured_limits(keyword()) :: :ok | refusal()
  def use_configured_limits(opts \\ []) do
    with :ok <- gate(), do: decide(opts, :configured)
  end

  @doc "Forgets all requests and keeps the limits."
  @spec clear() :: :ok | refusal()
  def clear do
    with :ok <- gate(),
         {:ok, limiter} <- Gateway.handle(:rate_limiter) do
      Native.rate_limiter_clear(limiter)
      :ok
    end
  end

  @doc """
  What the limiter holds. `keys` are windows and `entries` recorded requests, expired ones that
  were not reclaimed yet included; `overflowed` counts requests for which there was no room;
  `global_limits` and `api_limits` are numbers.
  """
  @spec status() :: map()
  def status do
    settings = Settings.get()
    {keys, entries, overflowed, bytes} = Native.rate_limiter_stats(limiter!())

    %{
      status: :ok,
      enabled: settings.enabled,
      fail_open: Config.get(:rate_limiter, :fail_open),
      global_limits: length(settings.global),
      api_limits: length(settings.api),
      instance_count: instance_count(),
      routing_strategy: routing_strategy(),
      keys: keys,
      entries: entries,
      overflowed: overflowed,
      memory_bytes: bytes
    }
  end

  @doc "The number of internal shards. It changes no result."
  @spec instance_count() :: pos_integer()
  def instance_count, do: shards(Config.get(:rate_limiter, :instance_count))

  @doc "Accepted for compatibility: a value always lives in one shard."
  @spec routing_strategy() :: :hash | :random
  def routing_strategy, do: Config.get(:rate_limiter, :routing_strategy)

  @doc "Attaches a handler to the limiter's events."
  @spec attach_telemetry(Telemetry.handler_id(), Telemetry.handler(), term()) ::
          Telemetry.attached()
  defdelegate attach_telemetry(id, fun, config \\ %{}), to: Telemetry, as: :attach_rate_limiter

  @doc "Detaches the handler of that id. `:ok`, also when there is none."
  @spec detach_telemetry(Telemetry.handler_id()) :: :ok
  defdelegate detach_telemetry(id), to: Telemetry, as: :detach_all

  @doc false
  # Takes over what the config says now and did not say in `before`. No gate: whoever writes the
  # config decides about the gate, too.
  @spec reload(map()) :: :ok
  def reload(before) do
    config = Config.get(:rate_limiter)

    changed =
      for {key, field} <- [enabled: :enabled, global_limits: :global, api_limits: :api],
          config[key] != before[key],
          into: %{},
          do: {field, config[key]}

    # Also puts `fail_open` in force, which is read from memory.
    with {:error, :not_running} <- change(&Map.merge(&1, changed)), do: :ok
  end

  @doc false
  @spec shards(:auto | pos_integer()) :: pos_integer()
  def shards(:auto), do: System.schedulers_online()
  def shards(count), do: count

  # A misspelt key would otherwise pass for a change.
  defp known_keys(config) do
    case Map.keys(config) -- [:enabled, :global_limits, :api_limits] do
      [] -> :ok
      [key | _] -> {:error, {:unknown_key, key}}
    end
  end

  defp valid(nil, _scope), do: {:ok, nil}

  defp valid(limits, scope) when is_list(limits) do
    Enum.reduce_while(limits, {:ok, []}, fn limit, {:ok, valid} ->
      case Limit.validate(limit, scope) do
        {:ok, limit} -> {:cont, {:ok, valid ++ [limit]}}
        error -> {:halt, error}
      end
    end)
  end

  defp valid(other, _scope), do: {:error, {:invalid_limit, other, "limits must be a list"}}

  defp decide(opts, change), do: Decisions.decide(:limits, change, opts)

  defp change(fun) do
    with {:ok, _limiter} <- Gateway.handle(:rate_limiter), do: Server.change(fun)
  end

  defp gate, do: Security.gate(:update_rate_limit_config)

  # What no limit can have is no error: there is just no limit to charge.
  defp limit(scope, key)
       when key in [:user_id, :device_id, :ip_address] or (is_binary(key) and key != "") do
    with true <- is_atom(key) or name?(key),
         {:ok, scope} <- scope(scope) do
      {:ok, scope}
    else
      _ -> :none
    end
  end

  defp limit(_scope, _key), do: :none

  defp scope(:global), do: {:ok, :global}

  defp scope({service, type}) when is_atom(service) and service != nil,
    do: scope({Atom.to_string(service), type})

  defp scope({service, type}) when is_binary(service) and is_binary(type) do
    if name?(service) and name?(type), do: {:ok, {service, type}}, else: :none
  end

  defp scope(_other), do: :none

  # No limit has a longer one.
  defp name?(text), do: byte_size(text) <= 8_192 and String.valid?(text)

  # A hand-made request may hold anything; no limit has such a name.
  defp text(text) when is_binary(text), do: text
  defp text(name) when is_atom(name), do: Atom.to_string(name)
  defp text(_other), do: ""

  defp limiter!, do: Gateway.handle!(:rate_limiter)

  # Known when compiled, like the native library: converting at run time takes 45 ns.
  @ns_per_native div(1_000_000_000, System.convert_time_unit(1, :second, :native))

  defp nanoseconds(native \\ System.monotonic_time()), do: native * @ns_per_native
end
