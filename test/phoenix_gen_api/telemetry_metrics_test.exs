defmodule PhoenixGenApi.TelemetryMetricsTest do
  # Functions are stored in the one table.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{ConfigDb, Telemetry}
  alias PhoenixGenApi.Telemetry.{Events, Metrics}
  alias PhoenixGenApi.Test.Functions

  # Keys that events have beyond their documented metadata.
  @extra [:result, :node, :service, :request_type]

  test "every metric is of an event of the catalogue, of a measurement and tags that it has" do
    metrics = Telemetry.metrics()
    assert length(metrics) > 15

    for metric <- metrics do
      event = Enum.find(Events.all(), &(&1.name == metric.event_name))
      assert event, "no event #{inspect(metric.event_name)}"
      assert metric.tags -- (event.metadata ++ @extra) == [], inspect(metric.name)

      measurements = Map.new(event.measurements, &{&1, 5})
      value = value(metric.measurement, measurements)
      assert is_number(value), inspect(metric.name)
      assert is_binary(metric.description)
    end
  end

  defp value(measurement, measurements) when is_function(measurement),
    do: measurement.(measurements)

  defp value(measurement, measurements), do: measurements[measurement]

  test "no two metrics share a name" do
    names = for metric <- Telemetry.metrics(), do: {metric.name, metric.__struct__}
    assert names == Enum.uniq(names)
  end

  test "durations are in milliseconds and have buckets" do
    metrics = for %{unit: :millisecond} = metric <- Telemetry.metrics(), do: metric
    assert [_ | _] = metrics

    for metric <- metrics do
      duration = System.convert_time_unit(1_500, :millisecond, :native)
      assert_in_delta metric.measurement.(%{duration: duration}), 1_500, 0.001
      buckets = metric.reporter_options[:buckets]
      assert buckets == Enum.sort(buckets) and length(buckets) > 5
    end
  end

  test "requests have summaries by code, on a page of their own" do
    summaries =
      for %Elixir.Telemetry.Metrics.Summary{} = summary <- Telemetry.metrics(), do: summary

    assert Enum.map(summaries, & &1.tags) |> Enum.uniq() == [[:service, :request_type, :code]]

    for metric <- Telemetry.metrics(),
        do: assert("GenApi " <> _page = metric.reporter_options[:nav])

    [summary | _] = summaries
    failed = %{service: "s", request_type: "t", code: "timeout"}
    assert %{code: "timeout"} = summary.tag_values.(failed)
    assert %{code: "ok"} = summary.tag_values.(%{failed | code: nil})
  end

  test "a counter counts one for each event" do
    counters =
      for %Elixir.Telemetry.Metrics.Counter{} = counter <- Telemetry.metrics(), do: counter

    assert [_ | _] = counters
    for counter <- counters, do: assert(counter.measurement.(%{}) == 1)
  end

  test "no user, id or text is a tag" do
    for %{tags: tags, event_name: event} <- Telemetry.metrics() do
      # The reason of a rejection is one of few atoms; everywhere else it is a text.
      allowed =
        if event == [:phoenix_gen_api, :worker_pool, :task, :rejected], do: [:reason], else: []

      texts = [:user_id, :request_id, :key, :reason, :last_error, :stacktrace] -- allowed
      assert tags -- texts == tags
    end
  end

  test "functions that are not registered share one tag" do
    :ok = ConfigDb.add(Functions.config(fn -> 1 end, service: "metrics", request_type: "known"))
    on_exit(fn -> ConfigDb.delete("metrics", "known") end)
    metric = Enum.find(Telemetry.metrics(), &(:success in &1.tags))
    tags = &(%{service: &1, request_type: &2, success: true} |> metric.tag_values.())

    assert %{service: "metrics", request_type: "known", success: true} = tags.("metrics", "known")
    assert %{service: "unknown", request_type: "unknown"} = tags.("metrics", "made up")
    assert %{service: "unknown", request_type: "unknown"} = tags.(5, %{})

    :ok = ConfigDb.disable("metrics", "known")
    assert %{service: "metrics", request_type: "known"} = tags.("metrics", "known")
  end

  test "the circuits of pools and of nodes have the same tags" do
    metric = Enum.find(Telemetry.metrics(), &(:pool_name in &1.tags and :node in &1.tags))
    pool = metric.tag_values.(%{pool_name: :async_pool, consecutive_failures: 5})

    node =
      metric.tag_values.(%{
        pool_name: nil,
        node: :a@h,
        service: "s",
        request_type: "t",
        version: "1"
      })

    assert metric.tags -- Map.keys(pool) == []
    assert metric.tags -- Map.keys(node) == []
    assert node.node == :a@h
  end

  test "without the library there is an error instead of metrics" do
    source =
      Metrics.module_info(:compile)[:source]
      |> File.read!()
      |> String.replace(
        "defmodule PhoenixGenApi.Telemetry.Metrics",
        "defmodule #{__MODULE__}.Absent"
      )
      |> String.replace(
        "ensure_compiled(Elixir.Telemetry.Metrics)",
        "ensure_compiled(:no_metrics)"
      )

    [{absent, _}] = Code.compile_string(source)
    assert absent.all() == {:error, :telemetry_metrics_not_available}
    assert absent.docs() == Metrics.docs()
  end
end
