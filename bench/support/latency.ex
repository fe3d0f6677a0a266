defmodule Bench.Latency do
  @moduledoc """
  What requests notice of something else that goes on.

  The requests (lookup and three arguments) come in bursts of 50 with a pause of a millisecond
  between them: a process that never pauses is interrupted by the operating system for longer
  than anything measured here.
  """

  alias PhoenixGenApi.{ArgumentHandler, ConfigDb}

  @burst 50
  # Requests are timed in bins of 100 ns; the last bin takes all from 10 ms on.
  @bin 100
  @bins 100_000

  @doc """
  Runs `work` while requests for `Bench.Gateway.config/1` come in one after the other in a
  process of its own. Returns what `work` returns, and `p50`, `p99`, `p999` and `max` of the
  requests in nanoseconds with their `count`.
  """
  def during(work) do
    stop = :atomics.new(1, [])
    bins = :counters.new(@bins, [])
    request = Bench.Gateway.request()
    requester = Task.async(fn -> requests(request, stop, bins, @burst) end)
    result = work.()
    :atomics.put(stop, 1, 1)
    Task.await(requester, :infinity)
    {result, summary(bins)}
  end

  defp requests(request, stop, bins, 0) do
    receive do
    after
      1 -> :ok
    end

    if :atomics.get(stop, 1) == 0, do: requests(request, stop, bins, @burst), else: :ok
  end

  defp requests(request, stop, bins, left) do
    start = :erlang.monotonic_time(:nanosecond)
    {:ok, plan} = ConfigDb.fetch(request.service, request.request_type, nil)
    {:ok, [_, _, _]} = ArgumentHandler.convert(plan, request)
    time = :erlang.monotonic_time(:nanosecond) - start
    :counters.add(bins, min(div(time, @bin) + 1, @bins), 1)
    requests(request, stop, bins, left - 1)
  end

  defp summary(bins) do
    counted = for bin <- 1..@bins, (count = :counters.get(bins, bin)) > 0, do: {bin * @bin, count}
    total = counted |> Enum.map(&elem(&1, 1)) |> Enum.sum()
    at = fn fraction -> reach(counted, total * fraction) end
    {max, _} = List.last(counted)
    %{p50: at.(0.5), p99: at.(0.99), p999: at.(0.999), max: max, count: total}
  end

  defp reach([{ns, count} | rest], wanted) do
    if rest == [] or wanted <= count, do: ns, else: reach(rest, wanted - count)
  end
end
