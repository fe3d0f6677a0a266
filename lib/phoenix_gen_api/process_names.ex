defmodule PhoenixGenApi.ProcessNames do
  @moduledoc false
  # Names of processes that a supervisor is about to start.

  # Whatever holds a name longer than that is no leftover.
  @end_ms 5_000

  @doc """
  Waits until nobody has these names any more, or five seconds for each.

  What a killed supervisor has started ends a moment after it. A start that found the names
  taken would be tried again at once, until the supervisor above gives up and ends the gateway.
  """
  @spec await_free([atom()]) :: :ok
  def await_free(names), do: Enum.each(names, &await_end(Process.whereis(&1)))

  defp await_end(nil), do: :ok

  defp await_end(pid) do
    monitor = Process.monitor(pid)

    receive do
      {:DOWN, ^monitor, :process, ^pid, _reason} -> :ok
    after
      @end_ms -> Process.demonitor(monitor, [:flush])
    end
  end
end
