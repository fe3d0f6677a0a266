defmodule PhoenixGenApi.Relay.Departures do
  @moduledoc false
  # What follows when processes end that were devices. They are out of the index before this
  # process hears of it; nothing waits for it. Also reclaims memory of the limits on messages.
  use GenServer

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.{Observed, Shard}

  @slice 2_000

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    schedule()
    {:ok, nil}
  end

  @impl true
  # From the native side, by this process's name.
  def handle_info({:left, departures, shared?}, state) do
    for {group, user, true} <- departures do
      if shared?, do: Shard.gone(group, user)
      Observed.left(group, user, :down)
    end

    {:noreply, state}
  end

  def handle_info(:sweep, state) do
    now = System.monotonic_time(:nanosecond)

    if Native.relay_sweep(Gateway.handle!(:relay), now, @slice),
      do: send(self(), :sweep),
      else: schedule()

    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp schedule,
    do: Process.send_after(self(), :sweep, Config.get(:rate_limiter, :cleanup_interval))
end
