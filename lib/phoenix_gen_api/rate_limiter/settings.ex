defmodule PhoenixGenApi.RateLimiter.Settings do
  @moduledoc false
  # The settings in force, limits above all: what can be read back and changed. The native side
  # holds them compiled. The table belongs to the supervisor, so that no crash loses a limit.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.RateLimiter.Limit

  @type t :: %{enabled: boolean(), global: [Limit.t()], api: [Limit.t()]}

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new, do: OwnedTable.new(__MODULE__, [:set, read_concurrency: true])

  @doc "The limits of the application config, put in force."
  @spec load() :: :ok
  def load, do: put(configured())

  @doc "The limits of the application config."
  @spec configured() :: t()
  def configured do
    %{
      enabled: Config.get(:rate_limiter, :enabled),
      global: Config.get(:rate_limiter, :global_limits),
      api: Config.get(:rate_limiter, :api_limits)
    }
  end

  @doc "The limits in force; raises where no gateway runs."
  @spec get() :: t()
  def get do
    _running = Gateway.handle!(:rate_limiter)
    [settings: settings] = :ets.lookup(__MODULE__, :settings)
    settings
  end

  @doc "Puts limits in force, in one step for every request. One caller at a time."
  @spec put(t()) :: :ok
  def put(settings) do
    limiter = Gateway.handle!(:rate_limiter)
    compiled = Enum.map(settings.global ++ settings.api, &compiled/1)
    Native.rate_limiter_fail_open(limiter, Config.get(:rate_limiter, :fail_open))
    Native.rate_limiter_ipv6_prefix(limiter, Config.get(:rate_limiter, :ipv6_prefix))
    Native.rate_limiter_configure(limiter, settings.enabled, compiled)
    :ets.insert(__MODULE__, {:settings, settings})
    :ok
  end

  @doc "Whether a failure may be logged: once a second, whatever the number of requests."
  @spec log?() :: boolean()
  def log? do
    now = System.monotonic_time(:second)

    case :ets.lookup(__MODULE__, :logged_at) do
      [logged_at: ^now] -> false
      _ -> :ets.insert(__MODULE__, {:logged_at, now})
    end
  rescue
    # No gateway, no table: nothing to spare.
    ArgumentError -> true
  end

  defp compiled(limit) do
    scope =
      case limit do
        %{service: service, request_type: type} -> {service, type}
        _ -> :global
      end

    {scope, limit.key, limit.max_requests, limit.window_ms, Map.get(limit, :on_missing, :skip)}
  end
end
