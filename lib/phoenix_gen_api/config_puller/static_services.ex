defmodule PhoenixGenApi.ConfigPuller.StaticServices do
  @moduledoc false
  # The services that the application config names, and how a config that somebody wrote
  # becomes one that can be pulled.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.ConfigPuller.Store
  alias PhoenixGenApi.ConfigSync.PushStore
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.ServiceConfig
  alias PhoenixGenApi.Log

  require Log

  @first_pull_ms 1_000

  @doc "Registers them when the gateway starts; they are due a second later."
  @spec load() :: :ok
  def load do
    due_at = System.monotonic_time(:millisecond) + @first_pull_ms

    for config <- Config.get(:gen_api, :service_configs), resolved <- read(config) do
      if Store.fetch(resolved.service) != :error,
        do: Log.warning("service #{resolved.service} is configured twice, the last one counts")

      Store.register(resolved, :operator, due_at, true)
      # A push may have come before.
      if PushStore.version(resolved.service), do: Store.shadow(resolved.service)
    end

    :ok
  end

  @doc "Registers those that were not in `before`, due at once. Nothing is taken off."
  @spec reload([term()]) :: :ok
  def reload(before) do
    with {:ok, _table} <- Gateway.handle(:config_db) do
      configured = Config.get(:gen_api, :service_configs)

      for config <- configured -- before,
          resolved <- read(config),
          do: Store.register_and_pull(resolved, :operator)

      for name <- names(before) -- names(configured), Store.fetch(name) != :error do
        Log.notice(
          "service #{SafeInspect.inspect(name)} is no longer configured, and is pulled until it is deleted"
        )
      end
    end

    :ok
  end

  @doc "The config with its names resolved; what is wrong with it is logged and recorded."
  @spec resolve(ServiceConfig.t()) :: [ServiceConfig.t()]
  def resolve(config) do
    case ServiceConfig.resolve(config) do
      {:ok, config} -> [config]
      {:error, sentences} -> reject(config, sentences)
    end
  end

  defp read(config) do
    case written(config) do
      [config] ->
        resolve(config)

      [] ->
        reject(config, ["a service config must be a map, a keyword list or a ServiceConfig"])
    end
  end

  defp written(%ServiceConfig{} = config), do: [config]

  defp written(config) do
    if (is_map(config) and not is_struct(config)) or Keyword.keyword?(config),
      do: [ServiceConfig.from_map(config)],
      else: []
  end

  defp reject(config, sentences) do
    ConfigFailed.record(config, sentences, :pull)
    Log.error("service config rejected: " <> Enum.join(sentences, "; "))
    []
  end

  defp names(configs) do
    for config <- configs,
        %{service: name} <- written(config),
        is_binary(name) or is_atom(name),
        uniq: true,
        do: to_string(name)
  end
end
