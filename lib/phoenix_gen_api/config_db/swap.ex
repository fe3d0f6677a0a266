defmodule PhoenixGenApi.ConfigDb.Swap do
  @moduledoc false
  # Replaces a function for a while, as tests do, and puts back what was there, as it was: a function that was
  # offered or pulled must not come back as one that code on this gateway has added.

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigDb.Changes
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Structs.FunConfig

  @typep key :: {service :: String.t(), request_type :: String.t(), version :: String.t()}

  @typedoc "What a key held."
  @opaque held :: {key(), {Native.handle(), Native.config_origin()} | nil}

  @doc "Stores a config; what its key held before, or the reasons against it."
  @spec put(FunConfig.t()) :: {:ok, held()} | {:error, String.t()}
  def put(config) do
    config = FunConfig.complete(config)
    key = {to_string(config.service), config.request_type, FunConfig.version(config)}
    held = held(key)
    ConfigDb.add!(config)
    {:ok, {key, held}}
  rescue
    error in ArgumentError -> {:error, Exception.message(error)}
  end

  @doc "Puts back what a key held; nothing if the gateway is gone."
  @spec put_back(held()) :: :ok
  def put_back({{service, type, version}, nil}) do
    if match?({:ok, _table}, Gateway.handle(:config_db)),
      do: ConfigDb.delete(service, type, version)

    :ok
  end

  def put_back({{service, _type, _version}, {plan, origin}}) do
    with {:ok, table} <- Gateway.handle(:config_db) do
      Native.config_db_store(table, [plan], origin)
      Changes.mark(service)
    end

    :ok
  end

  # One that is disabled is left to its operator: `delete/3` would end that as well.
  defp held({service, type, version}) do
    with {:ok, table} <- Gateway.handle(:config_db),
         plan when is_reference(plan) <- Native.config_db_get(table, service, type, version) do
      {plan, Native.config_db_origin(table, service, type, version)}
    else
      _nothing -> nil
    end
  end
end
