defmodule PhoenixGenApi.Diagnostics.Probe do
  @moduledoc false
  # Asks a component of the gateway, which may be broken: that is when people ask. The question is
  # put in a process of its own, for a limited time, and a crash is an answer.

  alias PhoenixGenApi.SafeInspect

  @timeout_ms 1_000

  @doc "What `fun` returns, or a sentence that says why there is nothing."
  @spec run((-> value), pos_integer()) :: {:ok, value} | {:error, String.t()} when value: term()
  def run(fun, timeout_ms \\ @timeout_ms) do
    {pid, monitor} = spawn_monitor(fn -> exit({__MODULE__, answer(fun)}) end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {__MODULE__, answer}} -> answer
      {:DOWN, ^monitor, :process, ^pid, reason} -> {:error, SafeInspect.inspect(reason)}
    after
      timeout_ms ->
        Process.demonitor(monitor, [:flush])
        Process.exit(pid, :kill)
        {:error, "no answer within #{timeout_ms} ms"}
    end
  end

  defp answer(fun) do
    {:ok, fun.()}
  catch
    :exit, {:noproc, _call} -> {:error, "is not running"}
    # A call that found the process dead or dying.
    :exit, {reason, {GenServer, :call, _}} -> {:error, SafeInspect.inspect(reason)}
    kind, reason -> {:error, SafeInspect.reason(kind, reason)}
  end
end
