defmodule PhoenixGenApi.Relay.Supervisor do
  @moduledoc false
  # The processes of the relay. None of them holds groups: each can be restarted alone.
  use Supervisor

  alias PhoenixGenApi.ProcessNames
  alias PhoenixGenApi.Relay.{Disconnects, Forwarder, Partitions, Peers, Shard, SlowConsumers}

  @doc false
  def start_link(_opts), do: Supervisor.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    ProcessNames.await_free(
      Forwarder.names() ++ [Peers] ++ Shard.names() ++ [Disconnects, SlowConsumers]
    )

    children =
      Partitions.children(Forwarder, Forwarder.count()) ++
        [Peers] ++
        Partitions.children(Shard.Server, Shard.count()) ++ [Disconnects, SlowConsumers]

    Supervisor.init(children, strategy: :one_for_one, max_restarts: 100, max_seconds: 10)
  end
end
