Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)
Code.require_file("support/latency.ex", __DIR__)

defmodule Bench.Store do
  @moduledoc """
  Storing 10,000 configs at once, and what requests notice of it.

  The requests are those of `Bench.Latency`.
  """

  import Bench.Harness

  alias Bench.Gateway
  alias Bench.Latency
  alias PhoenixGenApi.ConfigDb

  @configs 10_000
  @rounds 9

  def run do
    configs =
      for {service, type} <- Gateway.names(@configs),
          do: Gateway.config(service: service, request_type: type)

    {first, per_config, rss} = sizes(configs)

    # Stored and asked for throughout, in the table that is being written.
    :ok = ConfigDb.add(Gateway.config())
    :erlang.system_monitor(self(), long_schedule: 10)

    rounds =
      [quiet: fn -> quiet() end, busy: fn -> store(configs) end]
      |> in_rounds(@rounds, fn {_name, work} ->
        {{time, _done}, summary} = Latency.during(work)
        {time, Map.put(summary, :long, long_schedules(0))}
      end)

    :erlang.system_monitor(:undefined)
    schedules = fn name -> rounds |> Enum.map(&elem(&1[name], 1).long) |> Enum.sum() end
    times = Enum.map(rounds, &elem(&1.busy, 0))

    IO.puts(
      "\n#### a request (lookup and three arguments) while nothing, or a store of #{@configs}, goes on\n"
    )

    table(
      ["", "p50", "p99", "p99.9", "longest", "requests"],
      for {name, label} <- [quiet: "nothing", busy: "store"] do
        each = fn key -> median_of(rounds, &elem(&1[name], 1)[key]) end

        [
          label,
          ns(each.(:p50)),
          ns(each.(:p99)),
          ns(each.(:p999)),
          ns(each.(:max)),
          each.(:count)
        ]
      end
    )

    p99 = fn name -> median_of(rounds, &elem(&1[name], 1).p99) end
    caused = for round <- rounds, do: elem(round.busy, 1).p99 - elem(round.quiet, 1).p99

    figures([
      {"storing #{@configs} configs, first time", {:ns, first}, nil},
      {"storing them again, requests going on", {:ns, quantile(times, 0.5)}, nil},
      {"per config, by `ConfigDb.status/0`", "#{per_config} bytes", nil},
      {"per config, by the operating system", "#{rss} bytes", nil},
      {"p99 of a request during a store", {:ns, p99.(:busy)}, {:at_most, 1_000_000}},
      {"of which the store caused", {:ns, max(0, quantile(caused, 0.5))}, {:at_most, 1_000_000}},
      {"long_schedule reports (over 10 ms) while nothing goes on", schedules.(:quiet), nil},
      {"long_schedule reports (over 10 ms) during the stores", schedules.(:busy), {:at_most, 0}}
    ])
  end

  defp sizes(configs) do
    :erlang.garbage_collect()
    {bytes, rss} = {ConfigDb.status().memory_bytes, rss()}
    {time, _} = store(configs)
    :erlang.garbage_collect()
    per_config = div(ConfigDb.status().memory_bytes - bytes, @configs)
    {time, per_config, div(rss() - rss, @configs)}
  end

  defp quiet do
    Process.sleep(400)
    {0, :nothing}
  end

  defp store(configs) do
    start = :erlang.monotonic_time(:nanosecond)
    {:ok, @configs} = ConfigDb.batch_add(configs)
    {:erlang.monotonic_time(:nanosecond) - start, :stored}
  end

  defp long_schedules(count) do
    receive do
      {:monitor, _pid, :long_schedule, info} ->
        IO.puts("long_schedule: #{inspect(info)}")
        long_schedules(count + 1)
    after
      0 -> count
    end
  end

  defp rss do
    {kilobytes, 0} = System.cmd("ps", ["-o", "rss=", "-p", System.pid()])
    1_024 * (kilobytes |> String.trim() |> String.to_integer())
  end
end

Bench.Store.run()
