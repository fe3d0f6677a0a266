defmodule PhoenixGenApi.Relay.FanOut do
  @moduledoc false
  # A message to the devices on this gateway, sent by the calling process: those that one process sends arrive in its order.

  alias PhoenixGenApi.ClientConnection
  alias PhoenixGenApi.Config
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
  def send_all(group, fan, lanes, response) do
    messages = response |> then(&Fastlane.messages(lanes, &1)) |> sized()
    send_slice(handles(), group, fan, messages, 0)
  end

  # Counting what each connection is sent costs as much as a small message. Of those the number
  # that waits is bounded, and so their bytes.
  defp sized(messages) do
    worth_counting = div(ClientConnection.soft(), Config.get(:relay, :max_mailbox))

    for {lane, message} <- messages do
      bytes = Fastlane.bytes(message)
      {lane, message, if(bytes > worth_counting, do: bytes, else: 0)}
    end
  end

  defp handles,
    do: {Gateway.handle!(:relay), Gateway.handle!(:connections), ClientConnection.soft()}

  # In slices: between two of them the scheduler may turn to others.
  defp send_slice({relay, connections, soft} = handles, group, fan, messages, dropped) do
    {more?, slow, sample, full} = Native.relay_send(relay, connections, fan, messages, soft)
    if sample != [], do: SlowConsumers.sample(sample)
    dropped = dropped + slow + Enum.count(full, &(not sent?(&1, messages)))

    cond do
      more? -> send_slice(handles, group, fan, messages, dropped)
      dropped > 0 -> Events.dropped(group, :slow_consumer, dropped)
      true -> :ok
    end
  end

  # As many bytes as it may have were sent since somebody looked at it.
  defp sent?({transport, lane}, messages) do
    connection = ClientConnection.open(transport)

    if ClientConnection.room?(connection) do
      {^lane, message, bytes} = List.keyfind(messages, lane, 0)
      ClientConnection.sent(connection, bytes)
      send(transport, message)
      true
    else
      false
    end
  end
end
