defmodule PhoenixGenApi.Gateway do
  @moduledoc false
  # The native instances of the gateway that runs on this node. They are published once, by
  # the supervisor that owns them: their memory goes with it, not with any worker.

  @key __MODULE__

  @type instance ::
          :config_db
          | :built_in
          | :node_selector
          | :rate_limiter
          | :relay
          | :relay_forwarders
          | :connections

  @doc "Publishes the instances. Only at start: a changed persistent term scans every process."
  @spec publish(%{instance() => term()}) :: :ok
  def publish(instances), do: :persistent_term.put(@key, instances)

  @doc "Takes them back."
  @spec retract() :: :ok
  def retract do
    :persistent_term.erase(@key)
    :ok
  end

  @doc "One instance, or that no gateway runs here."
  @spec handle(instance()) :: {:ok, term()} | {:error, :not_running}
  def handle(name) do
    case :persistent_term.get(@key, nil) do
      %{^name => handle} -> {:ok, handle}
      nil -> {:error, :not_running}
    end
  end

  @doc "One instance; raises where no gateway runs."
  @spec handle!(instance()) :: term()
  def handle!(name) do
    case handle(name) do
      {:ok, handle} -> handle
      {:error, :not_running} -> not_running!()
    end
  end

  @doc "What every function does that needs a gateway and returns no errors."
  @spec not_running!() :: no_return()
  def not_running!, do: raise("PhoenixGenApi gateway is not running on this node")
end
