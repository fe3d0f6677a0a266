defmodule PhoenixGenApi.Relay.Disconnects do
  @moduledoc false
  # What follows when processes end that were devices: they are taken out of the index, and who
  # has none left leaves. Nothing waits for this process, and nothing is lost with it: what there
  # is to do is kept by the native side until it has been done. Also reclaims memory of the limits
  # on messages.
  use GenServer

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.{Events, Shard}

  # Disconnects that are handled in one go, and windows of limits.
  @batch 1_000
  @slice 2_000

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    # What ended while nobody was there to be told.
    send(self(), :device_exited)
    schedule()
    {:ok, Gateway.handle!(:relay)}
  end

  @impl true
  # From the native side, by this process's name.
  def handle_info(:device_exited, relay) do
    case Native.relay_disconnects(relay, @batch) do
      [] ->
        :ok

      disconnects ->
        for disconnect <- disconnects, do: disconnected(relay, disconnect)

        send(self(), :device_exited)
    end

    {:noreply, relay}
  end

  def handle_info(:sweep, relay) do
    now = System.monotonic_time(:nanosecond)

    if Native.relay_sweep(relay, now, @slice),
      do: send(self(), :sweep),
      else: schedule()

    {:noreply, relay}
  end

  def handle_info(_other, relay), do: {:noreply, relay}

  defp disconnected(relay, {group, user, stays?, elsewhere?}) do
    # Of who has processes elsewhere, the gateway that decides says whether they have left.
    if stays?,
      do: Shard.last_device_gone(group, user, if(elsewhere?, do: :down_here, else: :down))

    # Between the two: with this process one event is lost at most, and none comes twice.
    Native.relay_ack_disconnect(relay)
    unless elsewhere?, do: Events.left(group, user, :down)
  end

  defp schedule,
    do: Process.send_after(self(), :sweep, Config.get(:rate_limiter, :cleanup_interval))
end
