defmodule PhoenixGenApi.Diagnostics.Readiness do
  @moduledoc false
  # Whether this gateway has what it needs to answer: what the other gateways know, and a try at every
  # pull that is configured. Once it was ready it stays so until it stops.

  alias PhoenixGenApi.{Cluster, Config, ConfigPuller, Gateway}
  alias PhoenixGenApi.ConfigSync.{AntiEntropy, PushStore}
  alias PhoenixGenApi.Relay.{Peers, Shard}

  @timeout_ms 1_000

  @spec ready?() :: boolean()
  def ready? do
    if Config.get(:client_mode),
      do: Process.whereis(PhoenixGenApi.Supervisor) != nil,
      else:
        match?({:ok, _table}, Gateway.handle(:config_db)) and (was_ready?() or becomes_ready?())
  rescue
    # A table is gone: it is stopping.
    ArgumentError -> false
  end

  # In this life of the application.
  defp was_ready?, do: :persistent_term.get(__MODULE__, nil) == Peers.boot()

  defp becomes_ready? do
    ready? =
      ConfigPuller.Store.tried?() and has_pushes?(Cluster.gateways()) and Shard.caught_up?()

    if ready?, do: :persistent_term.put(__MODULE__, Peers.boot())
    ready?
  end

  defp has_pushes?([]), do: true

  # One that hangs keeps no other from being ready, unless there is only that one.
  defp has_pushes?(gateways) do
    summary = PushStore.summary(PushStore.stamps())

    answers =
      for {:ok, {:ok, answer}} <- AntiEntropy.ask_all(gateways, {:compare, summary}, @timeout_ms),
          do: answer

    answers != [] and Enum.all?(answers, &(&1 == :same))
  end
end
