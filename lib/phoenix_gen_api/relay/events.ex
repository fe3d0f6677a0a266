defmodule PhoenixGenApi.Relay.Events do
  @moduledoc false
  # The events of the relay.

  alias PhoenixGenApi.Telemetry

  @event [:phoenix_gen_api, :relay]

  @spec joined(String.t(), String.t(), atom()) :: :ok
  def joined(group, user, status) do
    metadata = %{group_id: group, user_id: user, status: status}
    Telemetry.execute(@event ++ [:join], Telemetry.start_measurements(), metadata)
  end

  @spec left(String.t(), String.t(), :left | :down | :kicked | :banned) :: :ok
  def left(group, user, reason) do
    metadata = %{group_id: group, user_id: user, reason: reason}
    Telemetry.execute(@event ++ [:leave], Telemetry.start_measurements(), metadata)
  end

  @doc "Of the changes that members make to members, those that take somebody out."
  @spec changed(String.t(), atom(), String.t()) :: :ok
  def changed(group, :kick, target), do: left(group, target, :kicked)
  def changed(group, :ban, target), do: left(group, target, :banned)
  def changed(_group, _verb, _target), do: :ok

  @spec dropped(String.t(), :slow_gateway | :slow_consumer, non_neg_integer()) :: :ok
  def dropped(group, reason, count),
    do: Telemetry.execute(@event ++ [:drop], %{count: count}, %{group_id: group, reason: reason})

  @spec published(integer(), String.t(), String.t(), non_neg_integer()) :: :ok
  def published(started, group, user, recipients) do
    measurements = Map.put(Telemetry.stop_measurements(started), :recipients, recipients)
    metadata = %{group_id: group, user_id: user}
    Telemetry.execute(@event ++ [:publish], measurements, metadata)
  end
end
