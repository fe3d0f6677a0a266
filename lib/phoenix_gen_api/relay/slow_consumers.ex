defmodule PhoenixGenApi.Relay.SlowConsumers do
  @moduledoc false
  # Finds recipients that cannot keep up. To look into another process costs as much as several
  # messages to it, so those who send name one recipient of 256, and not too many a second, and
  # this process looks.
  use GenServer

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native

  @recheck_ms 100

  @doc "Has a look at some recipients."
  @spec sample([pid()]) :: :ok
  def sample(pids), do: GenServer.cast(__MODULE__, {:sample, pids})

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    # A look at a process that has just been sent something delays it: after those who are not
    # slow have had their turn.
    Process.flag(:priority, :low)
    Native.relay_set_slow(Gateway.handle!(:relay), [])
    {:ok, MapSet.new()}
  end

  @impl true
  def handle_cast({:sample, pids}, slow) do
    limit = Config.get(:relay, :max_mailbox)
    {:noreply, pids |> Enum.filter(&(waiting(&1) > limit)) |> found(slow)}
  end

  @impl true
  def handle_info(:recheck, slow) do
    caught_up = div(Config.get(:relay, :max_mailbox), 2)
    still = MapSet.filter(slow, &(waiting(&1) > caught_up))
    if MapSet.size(still) > 0, do: schedule_recheck()
    {:noreply, put(still, slow)}
  end

  def handle_info(_other, slow), do: {:noreply, slow}

  defp found([], slow), do: slow

  defp found(pids, slow) do
    case Config.get(:relay, :slow_consumer) do
      # It may trap exits, and would find them behind everything else.
      :disconnect ->
        Enum.each(pids, &Process.exit(&1, :kill))
        slow

      :skip ->
        if MapSet.size(slow) == 0, do: schedule_recheck()
        put(Enum.into(pids, slow), slow)
    end
  end

  defp put(same, same), do: same

  defp put(slow, _before) do
    Native.relay_set_slow(Gateway.handle!(:relay), MapSet.to_list(slow))
    slow
  end

  # A process that has ended waits for nothing.
  defp waiting(pid) do
    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, waiting} -> waiting
      nil -> 0
    end
  end

  defp schedule_recheck, do: Process.send_after(self(), :recheck, @recheck_ms)
end
