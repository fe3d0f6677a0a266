Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)
Code.require_file("support/limiter_baseline.ex", __DIR__)
Code.require_file("support/hammer.ex", __DIR__)

defmodule Bench.RateLimiter do
  @moduledoc """
  One check of the rate limiter: against the best that ETS and `:atomics` can do, at full windows,
  by two processes, under several limits at once; and the memory that it leaves behind.
  """

  import Bench.Harness

  alias Bench.LimiterBaseline
  alias PhoenixGenApi.{Gateway, Native, RateLimiter, Telemetry}

  # Every value is asked for several times in a window and never denied: the windows hold as many
  # requests as the machine is quick.
  @values 100_000
  @max 32
  @window_ms 2_000
  @ms 1_000_000

  def run do
    memory = memory()
    live = live_values()
    hot = hot_values()
    full = full_windows()
    denied = denials()
    scaling = scaling()
    several = several_limits()
    [without, with] = telemetry()

    exact = fastest(live, [ring(), log(), ordered()])
    growing = fastest(live, [log(), ordered()])

    figures(
      [
        {"one check, #{@values} live values, from Elixir", {:ns, median(live, api())},
         {:at_most, 250}},
        {"the same as `check_rate_limit/1` of a request", {:ns, median(live, request())}, nil},
        {"the same, the bare NIF", {:ns, median(live, nif())}, nil},
        {"quickest exact window in ETS or atomics (#{exact}) against one check",
         {:times, ratio(live, exact, api())}, {:at_least, 4}},
        {"quickest whose memory follows its use (#{growing}) against one check",
         {:times, ratio(live, growing, api())}, nil},
        {"one check against a fixed-window counter", {:times, ratio(live, api(), counter())},
         {:at_most, 1.5}},
        {"the same, in a table for one writer", {:times, ratio(live, api(), plain_counter())},
         nil},
        {"10 hot values: one check", {:ns, median(hot, api())}, nil},
        {"10 hot values: one check against a fixed-window counter",
         {:times, ratio(hot, api(), counter())}, nil},
        {"a full window of 2,000 against an empty one",
         {:times, result(full, "full, 2,000").ratio}, {:at_most, 2}},
        {"a full window of 20,000 against an empty one",
         {:times, result(full, "full, 20,000").ratio}, {:at_most, 2}},
        {"denied at a full window of 20,000 against one of 20",
         {:times, result(denied, "denied, 20,000").ratio}, nil},
        {"three limits against one, the bare NIF",
         {:times, ratio(several, "three, NIF", "one, NIF")}, {:at_most, 2.2}},
        {"three limits against one, `check_rate_limit/1`",
         {:times, ratio(several, "three", "one")}, {:at_most, 2.2}},
        {"a check over the bare NIF, no :telemetry", {:ns, over(without)}, {:at_most, 150}},
        {"a check over the bare NIF, :telemetry without a handler", {:ns, over(with)},
         {:at_most, 150}}
      ] ++ hammer(live) ++ scaling ++ memory
    )
  end

  defp hammer(live) do
    fixed =
      for label <- Bench.Hammer.labels() do
        {"#{label}, #{@values} live values, against one check",
         {:times, ratio(live, label, api())}, nil}
      end

    fixed ++ hammer_sliding(Bench.Hammer.sliding(1_000_000, 2_000))
  end

  defp hammer_sliding([]), do: []

  defp hammer_sliding([{label, _check, _sweep} = theirs]) do
    limits([limit(max_requests: 1_000_000)])
    ours = {api(), fn value -> :ok = RateLimiter.check_rate_limit(value, :global, :user_id) end}
    results = compare([ours, theirs], for(n <- 1..100, do: value(n)), rounds: 5, round_ms: 20)
    times("one check, 100 live values, against Hammer's sliding window", results)

    [
      {"#{label}, 100 live values, against one check", {:times, ratio(results, label, api())},
       nil}
    ]
  end

  ## Memory

  defp memory do
    limits([limit(max_requests: 20_000, window_ms: 3_600_000)])
    values = for n <- 1..@values, do: value(n)
    start = held()
    charge(values, 1)
    one = held()
    charge(values, 7)
    eight = held()
    :ok = RateLimiter.clear()
    charge(Enum.take(values, 100), 20_000)
    many = held()
    :ok = RateLimiter.clear()
    per = fn a, b, field, count -> "#{decimal((b[field] - a[field]) / count)} bytes" end
    idle = (one.bytes - start.bytes) / @values
    busy = (eight.bytes - start.bytes) / @values
    baselines(values)

    [
      {"a value of #{byte_size(hd(values))} to #{byte_size(List.last(values))} bytes, 1 request in its window, bytes",
       idle, {:at_most, 160 + byte_size(hd(values))}},
      {"the same, by the operating system", per.(start, one, :rss, @values), nil},
      {"the same with 8 requests, bytes", busy, {:at_most, 160 + byte_size(hd(values))}},
      {"per request in a window of 20,000, bytes", (many.bytes - start.bytes) / (100 * 20_000),
       {:at_most, 8}}
    ]
  end

  defp baselines(values) do
    now = now()

    rows =
      for {label, kind} <- kinds(), kind != :plain_counter, max <- [100, 1_000] do
        limiter = LimiterBaseline.new(kind, max, 3_600_000 * @ms)
        values = Enum.take(values, 10_000)
        held = fn -> LimiterBaseline.bytes(limiter) / 10_000 end

        each = fn ->
          for value <- values, do: :ok = LimiterBaseline.check(limiter, value, now)
        end

        before = held.()
        each.()
        one = held.() - before
        for _ <- 2..8, do: each.()
        [label, max, decimal(one), decimal(held.() - before)]
      end

    IO.puts("\n#### bytes per value of ETS and atomics\n")
    table(["", "limit", "1 request", "8 requests"], rows)
  end

  defp charge(values, times) do
    for _ <- 1..times,
        value <- values,
        do: :ok = RateLimiter.check_rate_limit(value, :global, :user_id)
  end

  defp held do
    :erlang.garbage_collect()
    %{bytes: RateLimiter.status().memory_bytes, rss: rss()}
  end

  defp rss do
    {kilobytes, 0} = System.cmd("ps", ["-o", "rss=", "-p", System.pid()])
    1_024 * (kilobytes |> String.trim() |> String.to_integer())
  end

  ## One check

  defp live_values do
    values = for n <- Enum.shuffle(1..@values), do: value(n)
    limits([limit([])])
    same_decisions()
    results = compare(contestants(), values, rounds: 9, round_ms: 60)
    status = RateLimiter.status()
    times("one check, #{@values} live values, each in turn in random order", results)

    IO.puts(
      "\n#{status.keys} windows with #{decimal(status.entries / status.keys)} requests each\n"
    )

    results
  end

  defp hot_values do
    # So few values are asked for thousands of times in a window, and none may be denied.
    limits([limit(max_requests: 100_000, window_ms: 2)])
    results = compare(contestants(100_000, 2), for(n <- 1..10, do: value(n)))
    times("one check, 10 values, a window of 2 ms", results)
    results
  end

  defp contestants(max \\ @max, window_ms \\ @window_ms) do
    limiter = limiter()
    template = request_of("books", "buy")

    ours = [
      {api(), fn value -> :ok = RateLimiter.check_rate_limit(value, :global, :user_id) end},
      {request(),
       fn value -> :ok = RateLimiter.check_rate_limit(%{template | user_id: value}) end},
      {nif(),
       fn value ->
         :ok = Native.rate_limiter_check_value(limiter, value, :global, :user_id, now())
       end}
    ]

    # The ordered set counts what is in the window: thousands of requests of a hot value.
    theirs =
      for {label, kind} <- kinds(), kind != :ordered or max == @max do
        baseline = LimiterBaseline.new(kind, max, window_ms * @ms)

        {label, fn value -> :ok = LimiterBaseline.check(baseline, value, now()) end,
         fn -> LimiterBaseline.sweep(baseline, now()) end}
      end

    ours ++
      theirs ++
      Bench.Hammer.alternatives(max, window_ms) ++ [{"the clock alone", fn _value -> now() end}]
  end

  # Ours and the exact ones decide alike about the same requests at the same times.
  defp same_decisions do
    limits([limit(max_requests: 5, window_ms: 10)])
    times = Enum.scan(1..2_000, fn _, time -> time + :rand.uniform(3 * @ms) end)

    for {label, kind} <- kinds(), kind in [:ring, :log, :ordered] do
      baseline = LimiterBaseline.new(kind, 5, 10 * @ms)
      :ok = RateLimiter.clear()

      ours = fn time ->
        Native.rate_limiter_check_value(limiter(), "ann", :global, :user_id, time)
      end

      assert_same(label, ours, &LimiterBaseline.check(baseline, "ann", &1), times, fn
        :ok -> :ok
        _denied -> :denied
      end)
    end

    limits([limit([])])
  end

  ## Full windows

  # The clock is the check's own and goes on by a millisecond each time: the window stays as full
  # as it is, and each check drops the oldest request and records another.
  defp full_windows do
    kinds = [{"empty", 2_000, 1}, {"full, 2,000", 2_000, 2_000}, {"full, 20,000", 20_000, 20_000}]

    apis =
      for {label, max, window} <- kinds,
          do: limit(service: "full", request_type: label, max_requests: max, window_ms: window)

    :ok = RateLimiter.update_config(%{enabled: true, global_limits: [], api_limits: apis})
    limiter = limiter()

    alternatives =
      for {label, max, _window} <- kinds do
        scope = {"full", label}
        clock = :atomics.new(1, signed: true)
        :atomics.put(clock, 1, now())

        check = fn value ->
          time = :atomics.add_get(clock, 1, @ms)
          :ok = Native.rate_limiter_check_value(limiter, value, scope, :user_id, time)
        end

        for _ <- 1..max, do: check.("ann")
        time = :atomics.get(clock, 1)
        [{_, current, _, _}] = Native.rate_limiter_status(limiter, "ann", scope, :user_id, time)
        # The one that is added next is the one that fills it.
        ^current = if label == "empty", do: 1, else: max
        {label, check}
      end

    results = compare(alternatives, List.duplicate("ann", 1_000))
    times("one check at an empty and at a full window, the bare NIF", results)
    results
  end

  defp denials do
    sizes = [{"denied, 20", 20}, {"denied, 20,000", 20_000}]

    apis =
      for {label, max} <- sizes,
          do: limit(service: "over", request_type: label, max_requests: max, window_ms: 3_600_000)

    :ok = RateLimiter.update_config(%{enabled: true, global_limits: [], api_limits: apis})

    alternatives =
      for {label, max} <- sizes do
        check = fn value -> RateLimiter.check_rate_limit(value, {"over", label}, :user_id) end
        for _ <- 1..max, do: :ok = check.("ann")
        {label, fn value -> {:error, :rate_limited, _} = check.(value) end}
      end

    results = compare(alternatives, List.duplicate("ann", 1_000))
    times("a denied check, from Elixir", results)
    results
  end

  ## Two processes

  @checks 200_000

  defp scaling do
    limits([limit(max_requests: 1_000_000, window_ms: 1)])
    counter = LimiterBaseline.new(:counter, 1_000_000, @ms)
    ours = fn value -> :ok = RateLimiter.check_rate_limit(value, :global, :user_id) end
    theirs = fn value -> :ok = LimiterBaseline.check(counter, value, now()) end
    many = fn n -> for i <- 1..1_000, do: value(1_000 * n + i) end
    one = fn _n -> List.duplicate("ann", 1_000) end

    runs =
      for {name, check} <- [check: ours, counter: theirs],
          {which, values} <- [one: one, many: many],
          processes <- [1, 2],
          do: {{name, which, processes}, fn -> rate(check, values, processes) end}

    rounds = in_rounds(runs, 11, fn {_name, run} -> run.() end)
    scale = &median_of(rounds, fn round -> round[{&1, &2, 2}] / round[{&1, &2, 1}] end)

    [
      {"two processes, one value: checks a second against one process",
       {:times, scale.(:check, :one)}, nil},
      {"the same, fixed-window counter", {:times, scale.(:counter, :one)}, nil},
      {"two processes, values of their own: against one process", {:times, scale.(:check, :many)},
       nil},
      {"the same, fixed-window counter", {:times, scale.(:counter, :many)}, nil}
    ]
  end

  # Checks a nanosecond, of all processes together.
  defp rate(check, values, processes) do
    tasks =
      for n <- 1..processes do
        values = values.(n)

        Task.async(fn ->
          receive do
            :go -> :ok
          end

          for _ <- 1..div(@checks, length(values)), do: Enum.each(values, check)
        end)
      end

    start = :erlang.monotonic_time(:nanosecond)
    for task <- tasks, do: send(task.pid, :go)
    Task.await_many(tasks, :infinity)
    processes * @checks / (:erlang.monotonic_time(:nanosecond) - start)
  end

  ## Several limits

  defp several_limits do
    # Both windows hold some requests of each of 1,000 users.
    one = [limit(service: "one", request_type: "buy", max_requests: 100_000, window_ms: 20)]

    three = [
      limit(service: "three", request_type: "buy", max_requests: 100_000, window_ms: 20),
      limit(service: "three", request_type: "buy", max_requests: 100_000, window_ms: 40),
      limit(
        service: "three",
        request_type: "buy",
        key: :device_id,
        max_requests: 100_000,
        window_ms: 20
      )
    ]

    :ok = RateLimiter.update_config(%{enabled: true, global_limits: [], api_limits: one ++ three})
    limiter = limiter()
    users = for n <- 1..1_000, do: {value(n), "phone-#{n}"}

    alternatives =
      for service <- ["one", "three"], kind <- [:api, :nif] do
        template = request_of(service, "buy")

        check =
          case kind do
            :api ->
              &RateLimiter.check_rate_limit/1

            :nif ->
              &Native.rate_limiter_check(limiter, &1, service, "buy", :all, now())
          end

        label = if kind == :nif, do: service <> ", NIF", else: service

        {label,
         fn {user, device} -> :ok = check.(%{template | user_id: user, device_id: device}) end}
      end

    results = compare(alternatives, users)
    times("a request under one limit and under three (a user twice, a device)", results)
    results
  end

  ## Telemetry

  defp telemetry do
    if Code.ensure_loaded?(:telemetry) do
      results = over_the_nif("with :telemetry, no handler")
      [results, results]
    else
      without = over_the_nif("without :telemetry")
      # The stand-in of the tests, and the module that looks for it, again: as an application
      # that has the library would compile it.
      Code.put_compiler_option(:ignore_module_conflict, true)
      Code.require_file("test/support/telemetry.ex")
      Code.compile_file("lib/phoenix_gen_api/telemetry.ex")
      Code.compile_file("lib/phoenix_gen_api/rate_limiter.ex")
      with = over_the_nif("with the stand-in of test/support/telemetry.ex, no handler")
      [without, with]
    end
  end

  defp over_the_nif(title) do
    # A handler of something else: the table of handlers is there, as it always is in practice.
    _ = Telemetry.attach_many("bench", [[:bench, :other]], &__MODULE__.handle/4, nil)
    limits([limit(max_requests: 100_000, window_ms: 2)])
    values = for n <- 1..100, do: value(n)

    ours =
      Enum.filter(contestants(1, 1), fn alternative ->
        elem(alternative, 0) in [api(), nif(), "the clock alone"]
      end)

    results = compare(ours, values, rounds: 31)
    times("a check #{title}", results)
    results
  end

  def handle(_event, _measurements, _metadata, _config), do: :ok

  ## What they share

  defp api, do: "check_rate_limit/3"
  defp request, do: "check_rate_limit/1"
  defp nif, do: "the bare NIF"
  defp ring, do: "ring of :atomics"
  defp log, do: "log in ETS"
  defp ordered, do: "ordered set in ETS"
  defp counter, do: ":ets.update_counter/4"
  defp plain_counter, do: counter() <> ", one writer"

  defp kinds do
    [
      {ring(), :ring},
      {log(), :log},
      {ordered(), :ordered},
      {counter(), :counter},
      {plain_counter(), :plain_counter}
    ]
  end

  defp limit(changes),
    do: Map.merge(%{key: :user_id, max_requests: @max, window_ms: @window_ms}, Map.new(changes))

  defp limits(global),
    do: :ok = RateLimiter.update_config(%{enabled: true, global_limits: global, api_limits: []})

  defp request_of(service, type),
    do: Bench.Gateway.request(service: service, request_type: type, user_id: "ann")

  defp limiter, do: Gateway.handle!(:rate_limiter)
  defp now, do: System.monotonic_time(:nanosecond)
  defp value(n), do: "user-#{100_000 + n}"
  defp median(results, label), do: result(results, label).median
  defp over(results), do: max(0, median(results, api()) - median(results, nif()))
  defp fastest(results, labels), do: Enum.min_by(labels, &result(results, &1).ratio)
  defp decimal(number), do: :erlang.float_to_binary(number * 1.0, decimals: 1)
end

Bench.RateLimiter.run()
