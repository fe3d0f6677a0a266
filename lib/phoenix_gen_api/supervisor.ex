defmodule PhoenixGenApi.Supervisor do
  @moduledoc false
  # Owns the native instances and the tables, so that no worker's crash loses them. Its
  # children are independent of each other: each is restarted alone.
  use Supervisor

  alias PhoenixGenApi.Channel
  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.Cluster
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.ConfigPuller
  alias PhoenixGenApi.ConfigReceiver
  alias PhoenixGenApi.ConfigSync
  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Decisions
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Offers
  alias PhoenixGenApi.RateLimiter
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Service
  alias PhoenixGenApi.ServiceNodes
  alias PhoenixGenApi.ServiceSets
  alias PhoenixGenApi.StreamCall
  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.UndefinedFunctions
  alias PhoenixGenApi.WorkerPool

  @spec start_link(client_mode: boolean()) :: Supervisor.on_start()
  def start_link(opts), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(client_mode: true) do
    # The application may have pools of its own.
    WorkerPool.Registry.new()
    Supervisor.init(serving(), strategy: :one_for_one)
  end

  def init(client_mode: false) do
    WorkerPool.Registry.new()
    Cluster.new()
    ConfigDb.Changes.new()
    Decisions.Store.new()
    ConfigFailed.new()
    FailureLog.Limit.new()
    ServiceNodes.new()
    Offers.new()
    ServiceSets.new()
    UndefinedFunctions.new()
    ConfigPuller.new()
    ConfigReceiver.new()
    Contract.Description.new()
    RateLimiter.Settings.new()
    StreamCall.Registry.new()
    Relay.Peers.new()
    Relay.Tombstones.new()
    ttl = Config.get(:node_selector, :sticky_ttl_ms)
    entries = Config.get(:node_selector, :sticky_max_entries)

    Gateway.publish(%{
      config_db: Native.config_db_new(),
      built_in: Native.config_db_new(),
      connections: Native.client_connection_new(),
      node_selector: Native.node_selector_new(ttl, entries),
      rate_limiter:
        Native.rate_limiter_new(
          RateLimiter.shards(Config.get(:rate_limiter, :instance_count)),
          Config.get(:rate_limiter, :max_keys),
          Config.get(:rate_limiter, :max_entries)
        ),
      relay: Relay.new(),
      relay_forwarders: Relay.Forwarder.counters()
    })

    Telemetry.Metrics.label_by(&ConfigDb.registered?/2)
    RateLimiter.Settings.load()
    Circuits.reload()
    Relay.reload()
    Contract.BuiltIn.load()

    children = [
      RPC.Capabilities,
      ConfigFailed,
      FailureLog.Limit,
      NodeSelector.Health,
      ServiceNodes,
      RPC.Reaper,
      Channel.Watchdog,
      RateLimiter.Server,
      StreamCall.Registry,
      Relay.Supervisor,
      WorkerPool.WorkerPoolSupervisor,
      {Decisions.Server,
       %{
         function: ConfigDb.Switch,
         node: NodeSelector.Drain,
         limits: RateLimiter.ChangedLimits
       }},
      ConfigReceiver,
      ConfigSync.Replicator,
      ConfigSync.NodeExpiry,
      ConfigPuller,
      Offers,
      # Last: other gateways turn to this one as soon as they see it.
      {Cluster, self()}
    ]

    Supervisor.init(serving() ++ children,
      strategy: :one_for_one,
      max_restarts: 100,
      max_seconds: 10
    )
  end

  # What this node needs to run functions for gateways.
  defp serving do
    guard = guard()
    RPC.Closed.new()
    RPC.Server.setup()
    # A gateway that asked this node before has got another answer.
    RPC.Capabilities.announce()
    guard
  end

  # If it wants to decide what it runs.
  defp guard do
    if Config.get(:service_guard, :enabled) do
      RPC.Guard.new()
      [Service.GuardRegistry]
    else
      []
    end
  end
end
