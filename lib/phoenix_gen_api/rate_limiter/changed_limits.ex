defmodule PhoenixGenApi.RateLimiter.ChangedLimits do
  @moduledoc false
  # What a change of limits at run time does on one gateway. It holds where it replaces the limits
  # that it has replaced where it was made: who configures a gateway otherwise wants it otherwise.
  @behaviour PhoenixGenApi.Decisions

  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.RateLimiter.{Server, Settings}

  @impl true
  def decided(:limits, change, from) do
    with {:ok, _limiter} <- Gateway.handle(:rate_limiter), do: change(change, from)
  end

  defp change(:configured, _from) do
    with :ok <- Server.change(fn _settings -> Settings.configured() end), do: {:ok, :configured}
  end

  defp change({:limits, settings, replaced}, _from) do
    if replaced == Settings.configured() do
      with :ok <- Server.change(fn _settings -> settings end),
           do: {:ok, {:limits, settings, replaced}}
    else
      {:kept, "other limits are configured here"}
    end
  end

  defp change(change, :here) when is_function(change, 1) do
    with :ok <- Server.change(change), do: {:ok, {:limits, Settings.get(), Settings.configured()}}
  end
end
