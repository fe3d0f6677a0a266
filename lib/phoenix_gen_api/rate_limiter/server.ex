defmodule PhoenixGenApi.RateLimiter.Server do
  @moduledoc false
  # Changes of limits, one at a time, and the sweep of expired windows. No check passes here.
  use GenServer

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.RateLimiter.Settings
  alias PhoenixGenApi.Telemetry

  # Windows reclaimed in one slice, between which changes have their turn.
  @slice 2_000

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Puts in force what `fun` makes of the limits."
  @spec change((Settings.t() -> Settings.t())) :: :ok | {:error, :not_running}
  def change(fun) do
    GenServer.call(__MODULE__, {:change, fun}, :infinity)
  catch
    # It was not there, or ended before it answered.
    :exit, {_reason, {GenServer, :call, _}} -> {:error, :not_running}
  end

  @impl true
  def init(_opts) do
    # The one before may have ended between putting limits in force and noting them.
    :ok = Settings.put(Settings.get())
    schedule()
    {:ok, nil}
  end

  @impl true
  def handle_call({:change, fun}, _from, state),
    do: {:reply, Settings.put(fun.(Settings.get())), state}

  @impl true
  def handle_info(:sweep, state), do: sweep(System.monotonic_time(), 0, state)
  def handle_info({:sweep, started, cleaned}, state), do: sweep(started, cleaned, state)
  def handle_info(_other, state), do: {:noreply, state}

  defp sweep(started, cleaned, state) do
    limiter = Gateway.handle!(:rate_limiter)
    now = System.monotonic_time(:nanosecond)
    {reclaimed, more?} = Native.rate_limiter_sweep(limiter, now, @slice)

    if more? do
      send(self(), {:sweep, started, cleaned + reclaimed})
    else
      cleaned(started, cleaned + reclaimed)
      schedule()
    end

    {:noreply, state}
  end

  defp cleaned(started, count) do
    settings = Settings.get()
    measurements = Map.put(Telemetry.stop_measurements(started), :cleaned_entries, count)

    Telemetry.execute([:phoenix_gen_api, :rate_limiter, :cleanup], measurements, %{
      global_limits_count: length(settings.global),
      api_limits_count: length(settings.api)
    })
  end

  defp schedule,
    do: Process.send_after(self(), :sweep, Config.get(:rate_limiter, :cleanup_interval))
end
