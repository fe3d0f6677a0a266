defmodule PhoenixGenApi.TelemetryTest do
  # Handlers see the events of the whole node.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.Telemetry.Events

  doctest Telemetry

  @request [:request_id, :request_type, :service, :user_id]
  @failure [:kind, :reason, :stacktrace]
  @hook [:module, :function, :type]
  @function [:service, :request_type, :version]
  @exceeded [:key, :scope, :max_requests, :current_requests, :request_id, :user_id] ++
              [:rate_limit_key]
  @check [:request_id, :user_id, :instance, :service, :request_type, :result]

  # Section 12 of the contract, row by row: {event, measurements, metadata}
  @table [
    {[:executor, :request, :start], [:system_time], @request},
    {[:executor, :request, :stop], [:duration_us, :queued_us],
     @request ++ [:success, :async, :code, :node, :attempts, :reason]},
    {[:executor, :request, :exception], [:duration_us, :queued_us],
     @request ++ @failure ++ [:code, :node, :attempts]},
    {[:executor, :retry], [:attempt, :backoff_ms], [:mode, :type, :nodes, :request_id]},
    {[:executor, :retry, :exhausted], [], [:request_id, :mode, :last_error]},
    {[:rate_limiter, :check], [:duration_us], @check},
    {[:rate_limiter, :exceeded], [:retry_after_ms], @exceeded},
    {[:rate_limiter, :reset], [], [:key, :scope, :rate_limit_key]},
    {[:rate_limiter, :cleanup], [:duration_us, :cleaned_entries],
     [:global_limits_count, :api_limits_count]},
    {[:hook, :before, :start], [:system_time], @hook},
    {[:hook, :before, :stop], [:duration_us], @hook},
    {[:hook, :before, :exception], [:duration_us], @hook ++ @failure},
    {[:hook, :after, :start], [:system_time], @hook},
    {[:hook, :after, :stop], [:duration_us], @hook},
    {[:hook, :after, :exception], [:duration_us], @hook ++ @failure},
    {[:worker_pool, :task, :start], [:system_time], [:pool_name]},
    {[:worker_pool, :task, :stop], [:duration_us], [:pool_name]},
    {[:worker_pool, :task, :exception], [:duration_us], [:pool_name | @failure]},
    {[:worker_pool, :task, :rejected], [:system_time], [:pool_name, :reason]},
    {[:worker_pool, :circuit_breaker, :open], [], [:pool_name, :consecutive_failures]},
    {[:worker_pool, :circuit_breaker, :close], [], [:pool_name]},
    {[:config, :pull, :start], [:system_time], [:service]},
    {[:config, :pull, :stop], [:duration_us, :count], [:service, :version]},
    {[:config, :push], [:count], [:service, :version]},
    {[:config, :add], [], @function},
    {[:config, :batch_add], [:count], [:service]},
    {[:config, :delete], [], @function},
    {[:config, :disable], [], @function},
    {[:config, :enable], [], @function},
    {[:config, :clear], [], @function},
    # What came after those 30.
    {[:service, :up], [], [:service, :nodes]},
    {[:service, :down], [], [:service, :nodes]}
  ]

  setup context do
    id = "#{context.test}"
    on_exit(fn -> Telemetry.detach_all(id) end)
    %{id: id}
  end

  @doc false
  def forward(event, measurements, metadata, pid),
    do: send(pid, {:event, event, measurements, metadata})

  @doc false
  def forward_again(event, measurements, metadata, pid),
    do: send(pid, {:again, event, measurements, metadata})

  @doc false
  def crash(_event, _measurements, _metadata, pid) do
    send(pid, :crashing)
    raise "handler failed"
  end

  defp attached(id),
    do: for(%{id: ^id, event_name: event} <- :telemetry.list_handlers([]), do: event)

  defp events(range), do: Enum.slice(Telemetry.list_events(), range)

  describe "the list of events" do
    test "has the 30 events of the contract in their order, and then the others" do
      assert Telemetry.list_events() == for({name, _, _} <- @table, do: [:phoenix_gen_api | name])
      assert length(Telemetry.list_events()) == 32
    end

    test "has the measurements and metadata of the contract" do
      for {{name, measurements, metadata}, event} <- Enum.zip(@table, Events.all()) do
        assert event.name == [:phoenix_gen_api | name]
        assert measurements -- event.measurements == []
        assert Enum.sort(event.metadata) == Enum.sort(metadata)
      end
    end

    test "has duration and monotonic_time beside duration_us, monotonic_time beside system_time" do
      for %{measurements: keys} <- Events.all() do
        if :duration_us in keys, do: assert([:duration, :monotonic_time] -- keys == [])
        if :system_time in keys, do: assert(:monotonic_time in keys)
      end
    end

    test "is documented with one row per event" do
      rows = Telemetry.docs() |> String.split("\n", trim: true) |> Enum.drop(2)
      assert length(rows) == 32
      for row <- rows, do: assert(length(String.split(row, " | ")) == 4)
    end
  end

  describe "attaching" do
    test "each function attaches its events", %{id: id} do
      for {attach, expected} <- [
            {&Telemetry.attach_all/3, events(0..31)},
            {&Telemetry.attach_executor/3, events(0..4)},
            {&Telemetry.attach_rate_limiter/3, events(5..8)},
            {&Telemetry.attach_hooks/3, events(9..14)},
            {&Telemetry.attach_worker_pool/3, events(15..20)},
            {&Telemetry.attach_config/3, events(21..31)},
            {&Telemetry.attach_requests/3, events(0..2)},
            {&Telemetry.attach_requests_and_limits/3, events(0..2) ++ events(5..8)}
          ] do
        assert attach.(id, &__MODULE__.forward/4, self()) == :ok
        assert Enum.sort(attached(id)) == Enum.sort(expected)
        assert Telemetry.detach_all(id) == :ok
        assert attached(id) == []
      end
    end

    test "the handler's config is an empty map unless given", %{id: id} do
      :ok = Telemetry.attach_config(id, &__MODULE__.forward/4)
      assert [%{config: %{}} | _] = Enum.filter(:telemetry.list_handlers([]), &(&1.id == id))
    end

    test "attach_many takes any events", %{id: id} do
      assert Telemetry.attach_many(id, [[:my, :event]], &__MODULE__.forward/4, self()) == :ok
      Telemetry.execute([:my, :event], %{n: 1}, %{a: 2})
      assert_received {:event, [:my, :event], %{n: 1}, %{a: 2}}
    end

    test "repeated attaching and detaching is :ok and delivers once", %{id: id} do
      for _ <- 1..2, do: assert(Telemetry.attach_all(id, &__MODULE__.forward/4, self()) == :ok)
      Telemetry.execute([:phoenix_gen_api, :config, :add], %{}, %{service: "s"})
      assert_received {:event, [:phoenix_gen_api, :config, :add], %{}, %{service: "s"}}
      refute_received {:event, _, _, _}
      for _ <- 1..2, do: assert(Telemetry.detach_all(id) == :ok)
    end

    test "the same handler attached to two groups has the events of both", %{id: id} do
      :ok = Telemetry.attach_executor(id, &__MODULE__.forward/4, self())
      :ok = Telemetry.attach_hooks(id, &__MODULE__.forward/4, self())
      assert Enum.sort(attached(id)) == Enum.sort(events(0..4) ++ events(9..14))
    end

    test "another function under the same id replaces the handler", %{id: id} do
      :ok = Telemetry.attach_config(id, &__MODULE__.forward/4, self())
      :ok = Telemetry.attach_config(id, &__MODULE__.forward_again/4, self())
      Telemetry.execute([:phoenix_gen_api, :config, :clear], %{}, %{})
      assert_received {:again, _, _, _}
      refute_received {:event, _, _, _}
    end
  end

  describe "emitting" do
    test "execute without a handler is :ok" do
      assert Telemetry.execute([:phoenix_gen_api, :config, :clear], %{}, %{}) == :ok
    end

    test "a raising handler affects nothing but itself", %{id: id} do
      event = [:phoenix_gen_api, :config, :add]
      other = id <> " other"
      :ok = Telemetry.attach_config(id, &__MODULE__.crash/4, self())
      :ok = Telemetry.attach_config(other, &__MODULE__.forward/4, self())

      log = capture_log(fn -> assert Telemetry.execute(event, %{}, %{}) == :ok end)

      assert log =~ "handler failed"
      assert_received :crashing
      assert_received {:event, ^event, %{}, %{}}
      assert attached(id) == []
      assert Telemetry.execute(event, %{}, %{}) == :ok
      refute_received :crashing
      Telemetry.detach_all(other)
    end

    test "the measurements of a start and a stop have their companions" do
      assert %{system_time: _, monotonic_time: 5} = Telemetry.start_measurements(5)

      took = System.convert_time_unit(1_500, :microsecond, :native)

      assert Telemetry.stop_measurements(5, 5 + took) ==
               %{duration: took, duration_us: 1_500, monotonic_time: 5 + took}
    end

    test "the system time of a start is that of the clock" do
      before = System.system_time()
      %{system_time: time} = Telemetry.start_measurements()
      assert time in before..System.system_time()
    end
  end

  describe "span" do
    setup %{id: id} do
      events = for phase <- [:start, :stop, :exception], do: [:my, :work, phase]
      :ok = Telemetry.attach_many(id, events, &__MODULE__.forward/4, self())
    end

    test "returns the result between a start and a stop" do
      assert Telemetry.span([:my, :work], %{a: 1}, fn -> {:done, %{b: 2}} end) == :done

      assert_received {:event, [:my, :work, :start], start, %{a: 1, telemetry_span_context: ref}}
      assert_received {:event, [:my, :work, :stop], stop, %{b: 2, telemetry_span_context: ^ref}}
      assert Enum.sort(Map.keys(start)) == [:monotonic_time, :system_time]
      assert Enum.sort(Map.keys(stop)) == [:duration, :duration_us, :monotonic_time]
      assert stop.monotonic_time == start.monotonic_time + stop.duration
      refute_received {:event, _, _, _}
    end

    test "takes further measurements" do
      assert Telemetry.span([:my, :work], %{}, fn -> {:done, %{count: 3}, %{}} end) == :done
      assert_received {:event, [:my, :work, :stop], %{count: 3, duration_us: _}, _}
    end

    test "a raise, exit or throw gives one exception event and goes on" do
      for {kind, fun, reason} <- [
            {:error, fn -> raise "boom" end, "boom"},
            {:exit, fn -> exit(:gone) end, ":gone"},
            {:throw, fn -> throw(:ball) end, ":ball"}
          ] do
        assert {^kind, _} =
                 (try do
                    Telemetry.span([:my, :work], %{a: 1}, fun)
                  catch
                    kind, reason -> {kind, reason}
                  end)

        assert_received {:event, [:my, :work, :start], _, _}
        assert_received {:event, [:my, :work, :exception], %{duration_us: _}, metadata}
        assert %{a: 1, kind: ^kind, reason: ^reason, stacktrace: [_ | _]} = metadata
        refute_received {:event, _, _, _}
      end
    end
  end

  describe "the default logger" do
    @id "phoenix-gen-api-default-logger"
    @event [:phoenix_gen_api, :executor, :request, :exception]

    setup do
      level = Logger.level()
      Logger.configure(level: :debug)

      on_exit(fn ->
        Logger.configure(level: level)
        Telemetry.detach_default_logger()
      end)
    end

    test "attaches to all events at level debug, and detaches" do
      for _ <- 1..2, do: assert(Telemetry.attach_default_logger() == :ok)
      assert length(attached(@id)) == 32

      log =
        capture_log(fn ->
          Telemetry.execute(
            @event,
            %{duration_us: 12, duration: 12_000, monotonic_time: 1},
            %{request_id: "r1", reason: "no row", stacktrace: [{:m, :f, 1, []}]}
          )
        end)

      assert log =~ "[debug] [phoenix_gen_api] executor.request.exception duration_us=12"
      assert log =~ ~s(request_id="r1")
      assert log =~ ~s(reason="no row")
      refute log =~ "stacktrace"

      for _ <- 1..2, do: assert(Telemetry.detach_default_logger() == :ok)
      assert attached(@id) == []
    end

    test "takes a level, and keeps reasons out above debug" do
      assert Telemetry.attach_default_logger(:info) == :ok

      log =
        capture_log(fn ->
          Telemetry.execute(@event, %{}, %{request_id: "r1", reason: "no row", last_error: "x"})
        end)

      assert log =~ ~s([info] [phoenix_gen_api] executor.request.exception request_id="r1")
      refute log =~ "no row"
      refute log =~ "last_error"
    end

    test "keeps the argument that a limit counts by out above debug, but not a user" do
      event = [:phoenix_gen_api, :rate_limiter, :exceeded]
      argument = %{key: "978-0441", rate_limit_key: "isbn"}
      user = %{key: "ann", rate_limit_key: :user_id}

      logged = fn level, metadata ->
        capture_log(fn -> Telemetry.default_logger(event, %{}, metadata, %{level: level}) end)
      end

      refute logged.(:info, argument) =~ "978-0441"
      assert logged.(:info, argument) =~ ~s(rate_limit_key="isbn")
      assert logged.(:debug, argument) =~ "978-0441"
      assert logged.(:info, user) =~ ~s(key="ann")
    end

    test "takes an id, or both as options", %{id: id} do
      assert Telemetry.attach_default_logger(id) == :ok
      assert length(attached(id)) == 32
      assert Telemetry.detach_default_logger(id) == :ok
      assert attached(id) == []

      assert Telemetry.attach_default_logger(id: id, level: :warning) == :ok

      assert [%{config: %{level: :warning}} | _] =
               Enum.filter(:telemetry.list_handlers([]), &(&1.id == id))
    end

    test "a level that Logger does not know is an error" do
      assert_raise ArgumentError, "expected a Logger level, got :loud", fn ->
        Telemetry.attach_default_logger(:loud)
      end
    end

    test "is a handler for any config and event" do
      assert capture_log(fn -> Telemetry.default_logger([:other], %{n: 1}, %{}, nil) end) =~
               "[debug] [phoenix_gen_api] other n=1"
    end
  end
end
