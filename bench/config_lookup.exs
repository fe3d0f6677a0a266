Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)

defmodule Bench.ConfigLookup do
  @moduledoc "Looking a function up by name, no version given."

  import Bench.Harness

  alias Bench.Gateway
  alias PhoenixGenApi.ConfigDb

  @large 100_000

  def run do
    names = Gateway.names(@large)
    hot = names |> Enum.shuffle() |> Enum.take(10)
    small = Gateway.table(configs(hot))
    large = Gateway.table(configs(names))
    ets = ets(configs(names))

    use_small = fn -> Gateway.use_table(small) end
    use_large = fn -> Gateway.use_table(large) end
    fetch = fn {service, type} -> ConfigDb.fetch(service, type, nil) end
    lookup = fn name -> :ets.lookup(ets, name) end

    use_large.()
    name_found = fn {service, type} -> ConfigDb.resolve(service, type, nil) |> name() end
    assert_same("lookup", name_found, &(lookup.(&1) |> name()), Enum.take(names, 1_000))

    # Names as requests bring them: copies that nobody has looked at before this list.
    hot = copies(hot)
    uniform = names |> Enum.shuffle() |> copies()

    by_size =
      compare([{"10 configs", fetch, use_small}, {"100,000 configs", fetch, use_large}], hot)

    times("ConfigDb.fetch/3 of the same 10 names, in turn", by_size)

    baseline = compare([{"ConfigDb.fetch/3", fetch, use_large}, {":ets.lookup/2", lookup}], hot)
    times("100,000 configs, the same 10 names, against ETS", baseline)

    uniform =
      compare(
        [{"ConfigDb.fetch/3", fetch, use_large}, {":ets.lookup/2", lookup}],
        uniform,
        rounds: 11,
        round_ms: 60
      )

    times("100,000 configs, every name once, in random order", uniform)

    figures([
      {"hot names: 100,000 configs against 10",
       {:times, ratio(by_size, "100,000 configs", "10 configs")}, {:at_most, 1.3}},
      {"hot names: fetch against ETS",
       {:times, ratio(baseline, "ConfigDb.fetch/3", ":ets.lookup/2")}, {:at_most, 0.5}},
      {"random names: fetch against ETS",
       {:times, ratio(uniform, "ConfigDb.fetch/3", ":ets.lookup/2")}, {:at_most, 0.5}},
      {"random names of 100,000 against 10 hot ones of 10",
       {:times,
        result(uniform, "ConfigDb.fetch/3").median / result(by_size, "10 configs").median}, nil}
    ])
  end

  defp configs(names) do
    for {service, type} <- names, do: Gateway.config(service: service, request_type: type)
  end

  defp ets(configs) do
    table = :ets.new(:configs, [:set, :public, read_concurrency: true])
    for config <- configs, do: :ets.insert(table, {{config.service, config.request_type}, config})
    table
  end

  defp copies(names), do: for({a, b} <- names, do: {:binary.copy(a), :binary.copy(b)})

  defp name({:ok, config}), do: {config.service, config.request_type}
  defp name([{name, _config}]), do: name
end

Bench.ConfigLookup.run()
