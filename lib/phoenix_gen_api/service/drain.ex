defmodule PhoenixGenApi.Service.Drain do
  @moduledoc false
  # The clean stop of a service, in the process that offers it, which has left its groups:
  #
  #   1. Wait until the gateways have said that no request chooses this node any more, a second at most.
  #   2. Begin no call of these functions. One that is on its way is told so, and its gateway takes the
  #      next candidate, without counting an attempt.
  #   3. Wait until none runs, `drain_ms` at most, and end those that still do: `unavailable`.

  alias PhoenixGenApi.Log
  alias PhoenixGenApi.RPC.{Closed, Server}
  alias PhoenixGenApi.Service.Content

  require Log

  @confirm_ms 1_000

  @type confirmation :: {service :: String.t(), Content.hash(), gateway :: node()}

  @doc "The functions of these configs run here."
  @spec open([PhoenixGenApi.Structs.FunConfig.t()]) :: :ok
  def open(configs), do: Closed.open(names(configs))

  @doc "Stops them. `confirmations` are those that gateways owe."
  @spec run(
          [PhoenixGenApi.Structs.FunConfig.t()],
          atom(),
          [confirmation()],
          non_neg_integer()
        ) :: :ok
  def run(configs, tag, confirmations, drain_ms) do
    names = names(configs)
    await_confirmations(tag, MapSet.new(confirmations), deadline(@confirm_ms))
    Closed.close(names)
    # In one look: what comes later does not begin.
    running = Map.new(Server.running(names), &{Process.monitor(&1), &1})
    left = await_end(running, deadline(drain_ms))

    if map_size(left) > 0 do
      Log.warning(
        "#{map_size(left)} calls of gateways still run after #{drain_ms} ms, and are ended"
      )

      for {_monitor, pid} <- left, do: Server.stop(pid)
    end

    :ok
  end

  defp names(configs),
    do: for(%{mfa: {module, function, _}} <- configs, uniq: true, do: {module, function})

  defp await_confirmations(tag, owed, deadline) do
    if MapSet.size(owed) > 0 do
      receive do
        {^tag, {:left, service, hash, gateway}} ->
          await_confirmations(tag, MapSet.delete(owed, {service, hash, gateway}), deadline)
      after
        left(deadline) -> :ok
      end
    end
  end

  defp await_end(running, _deadline) when map_size(running) == 0, do: running

  defp await_end(running, deadline) do
    receive do
      {:DOWN, monitor, :process, _pid, _reason} when is_map_key(running, monitor) ->
        running |> Map.delete(monitor) |> await_end(deadline)
    after
      left(deadline) -> running
    end
  end

  defp deadline(ms), do: System.monotonic_time(:millisecond) + ms
  defp left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)
end
