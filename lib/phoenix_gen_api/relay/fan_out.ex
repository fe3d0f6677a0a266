defmodule PhoenixGenApi.Relay.FanOut do
  @moduledoc false
  # A message to the devices on this gateway, sent by the calling process: those that one process sends arrive in its order.

  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.{Events, Fastlane, SlowConsumers}
  alias PhoenixGenApi.Structs.Response

  @doc "How many members a group has that get messages, on all gateways."
  @spec recipient_count(String.t()) :: non_neg_integer()
  def recipient_count(group) do
    case Native.relay_fan_out(Gateway.handle!(:relay), group) do
      {audience, _fan, _lanes, _remote} -> audience
      _reason -> 0
    end
  end

  @doc "A message from another gateway."
  @spec deliver(String.t(), Response.t()) :: :ok
  def deliver(group, response) do
    case Native.relay_fan_out(Gateway.handle!(:relay), group) do
      {_audience, fan, lanes, _remote} -> send_all(group, fan, lanes, response)
      # Deleted on its way.
      _reason -> :ok
    end
  end

  @doc "Sends it to the devices that the native side has named, as each lane of theirs wants it."
  @spec send_all(String.t(), term(), term(), Response.t()) :: :ok
  def send_all(group, fan, lanes, response),
    do: send_slice(Gateway.handle!(:relay), group, fan, Fastlane.messages(lanes, response), 0)

  # In slices: between two of them the scheduler may turn to others.
  defp send_slice(relay, group, fan, messages, dropped) do
    {more?, slow, sample} = Native.relay_send(relay, fan, messages)
    if sample != [], do: SlowConsumers.sample(sample)

    cond do
      more? -> send_slice(relay, group, fan, messages, dropped + slow)
      dropped + slow > 0 -> Events.dropped(group, :slow_consumer, dropped + slow)
      true -> :ok
    end
  end
end
