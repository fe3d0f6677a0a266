defmodule PhoenixGenApi.Relay.Supervisor do
  @moduledoc false
  # The processes of the relay. None of them holds groups: each can be restarted alone.
  use Supervisor

  @end_ms 5_000

  alias PhoenixGenApi.Relay.{Backlog, Departures, Link, Peers, Shard}

  @doc false
  def start_link(_opts), do: Supervisor.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    for name <- Link.names() ++ [Peers] ++ Shard.names() ++ [Departures, Backlog],
        do: await_end(name)

    children = Link.children() ++ [Peers] ++ Shard.children() ++ [Departures, Backlog]
    Supervisor.init(children, strategy: :one_for_one, max_restarts: 100, max_seconds: 10)
  end

  # They outlive a supervisor that was killed by a moment. A start that found their names taken
  # would be tried again at once, until the supervisor above gives up and ends the gateway.
  defp await_end(name) do
    if pid = Process.whereis(name) do
      monitor = Process.monitor(pid)

      receive do
        {:DOWN, ^monitor, :process, ^pid, _reason} -> :ok
      after
        @end_ms -> Process.demonitor(monitor, [:flush])
      end
    end
  end
end
