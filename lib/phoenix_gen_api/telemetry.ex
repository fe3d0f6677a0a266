defmodule PhoenixGenApi.Telemetry do
  @moduledoc """
  The events that the library emits through [`:telemetry`](https://hexdocs.pm/telemetry).

      PhoenixGenApi.Telemetry.attach_executor("my-app-requests", &MyApp.Metrics.handle/4)

      def handle([:phoenix_gen_api, :executor, :request, :stop], %{duration_us: us}, meta, _config) do
        MyApp.Metrics.observe(meta.service, meta.request_type, us)
      end

  Handlers run in the process that emits the event, so they should be quick. One that
  raises is logged and detached by `:telemetry`, and affects no request. How to use them, and what they
  cost, is in the guide *Telemetry*.

  `duration_us` are microseconds, `duration`, `monotonic_time` and `system_time` native
  time units (`System.convert_time_unit/3`). Each start has exactly one stop or exception, but
  for a request whose caller is killed while it runs: whoever is killed emits nothing.
  `reason` and `last_error` are strings. Keys may be added to events, none are removed.

  `:telemetry` is an optional dependency, found when the library is compiled. Without it no
  event is emitted, and the attach functions return `{:error, :telemetry_not_available}`.

  ## Metrics

  `metrics/0` has the definitions for the reporters of
  [`Telemetry.Metrics`](https://hexdocs.pm/telemetry_metrics): Prometheus, StatsD,
  Phoenix LiveDashboard and others.

  ## Handler ids

  An id names one handler. Attaching again under an id adds the events when the function
  and its config are the same, and replaces the handler otherwise. `detach_all/1` removes
  whatever the id has.

  ## Events

  #{PhoenixGenApi.Telemetry.Events.docs()}
  Not among those of `list_events/0` and `attach_all/3`, but attached by functions of their own:

  #{PhoenixGenApi.Telemetry.Events.docs(PhoenixGenApi.Telemetry.Events.extra())}
  """

  alias PhoenixGenApi.Log
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Telemetry.Events

  @available match?({:module, _module}, Code.ensure_compiled(:telemetry))

  @logger_id "phoenix-gen-api-default-logger"
  # Known when compiled, like the native library: converting at run time takes 45 ns.
  @native_per_us System.convert_time_unit(1, :microsecond, :native)

  @levels [:emergency, :alert, :critical, :error, :warning, :notice, :info, :debug]

  # What the failure of a function or hook says may come from user data.
  @debug_only [:reason, :last_error]
  # What a limit on an argument counts by is one; these say by which limit.
  @request_fields [:user_id, :device_id, :ip_address]

  @typedoc "Identifies a handler; any term, unique among all handlers of the node."
  @type handler_id :: term()

  @typedoc "Called with the event's name, its measurements, its metadata and the handler's config."
  @type handler :: ([atom(), ...], map(), map(), term() -> term())

  @type attached :: :ok | {:error, :telemetry_not_available}

  @doc """
  The names of all events, in the order of the table above.

      iex> hd(PhoenixGenApi.Telemetry.list_events())
      [:phoenix_gen_api, :executor, :request, :start]
  """
  @spec list_events() :: [[atom(), ...]]
  def list_events, do: Enum.map(Events.all(), & &1.name)

  @doc "Whether `:telemetry` was there when the library was compiled, and events are emitted."
  @spec available?() :: boolean()
  def available?, do: @available

  @doc "All events with their measurements and metadata as a markdown table."
  @spec docs() :: String.t()
  defdelegate docs, to: Events

  @doc "Attaches a handler to all events."
  @spec attach_all(handler_id(), handler(), term()) :: attached()
  def attach_all(id, fun, config \\ %{}), do: attach_many(id, list_events(), fun, config)

  @doc "Attaches a handler to the events of requests and their retries."
  @spec attach_executor(handler_id(), handler(), term()) :: attached()
  def attach_executor(id, fun, config \\ %{}), do: attach_groups(id, [:executor], fun, config)

  @doc "Attaches a handler to the events of the rate limiter."
  @spec attach_rate_limiter(handler_id(), handler(), term()) :: attached()
  def attach_rate_limiter(id, fun, config \\ %{}),
    do: attach_groups(id, [:rate_limiter], fun, config)

  @doc "Attaches a handler to the events of before and after hooks."
  @spec attach_hooks(handler_id(), handler(), term()) :: attached()
  def attach_hooks(id, fun, config \\ %{}), do: attach_groups(id, [:hooks], fun, config)

  @doc "Attaches a handler to the events of the worker pools and the circuit breakers."
  @spec attach_worker_pool(handler_id(), handler(), term()) :: attached()
  def attach_worker_pool(id, fun, config \\ %{}),
    do: attach_groups(id, [:worker_pool], fun, config)

  @doc "Attaches a handler to the events of pulls, pushes and the config table."
  @spec attach_config(handler_id(), handler(), term()) :: attached()
  def attach_config(id, fun, config \\ %{}), do: attach_groups(id, [:config], fun, config)

  @doc "Attaches a handler to the events of the relay."
  @spec attach_relay(handler_id(), handler(), term()) :: attached()
  def attach_relay(id, fun, config \\ %{}), do: attach_groups(id, [:relay], fun, config)

  @doc "Attaches a handler to the start, stop and exception of requests."
  @spec attach_requests(handler_id(), handler(), term()) :: attached()
  def attach_requests(id, fun, config \\ %{}),
    do: attach_many(id, request_events(), fun, config)

  @doc "Attaches a handler to the start, stop and exception of requests and to the rate limiter's events."
  @spec attach_requests_and_limits(handler_id(), handler(), term()) :: attached()
  def attach_requests_and_limits(id, fun, config \\ %{}),
    do: attach_many(id, request_events() ++ Events.names([:rate_limiter]), fun, config)

  defp request_events do
    for phase <- [:start, :stop, :exception], do: [:phoenix_gen_api, :executor, :request, phase]
  end

  defp attach_groups(id, groups, fun, config),
    do: attach_many(id, Events.names(groups), fun, config)

  @doc "Attaches the logger of `default_logger/4` under its id `#{@logger_id}` at level `:debug`."
  @spec attach_default_logger() :: attached()
  def attach_default_logger, do: attach_default_logger([])

  @doc """
  Attaches the logger of `default_logger/4`.

  Takes a `Logger` level, a handler id (a string), or the options `:level` (`:debug`) and
  `:id` (`"#{@logger_id}"`).
  """
  @spec attach_default_logger(Logger.level() | String.t() | keyword()) :: attached()
  def attach_default_logger(level) when is_atom(level),
    do: attach_default_logger(level: level)

  def attach_default_logger(id) when is_binary(id), do: attach_default_logger(id: id)

  def attach_default_logger(options) do
    options = Keyword.validate!(options, id: @logger_id, level: :debug)
    level = options[:level]

    if level not in @levels do
      raise ArgumentError, "expected a Logger level, got #{SafeInspect.inspect(level)}"
    end

    attach_all(options[:id], &__MODULE__.default_logger/4, %{level: level})
  end

  @doc "Detaches the default logger, or the one that was attached under `id`."
  @spec detach_default_logger(handler_id()) :: :ok
  def detach_default_logger(id \\ @logger_id), do: detach_all(id)

  @doc """
  A handler that logs one line per event, at the `:level` of its config (default `:debug`).

      [phoenix_gen_api] executor.request.stop duration_us=812 request_id="r1" service="books" …

  Stacktraces are left out. Reasons and last errors, which may quote user data, are logged
  at level `:debug` only.
  """
  @spec default_logger([atom(), ...], map(), map(), term()) :: :ok
  def default_logger(event, measurements, metadata, config) do
    level = if is_map(config), do: Map.get(config, :level, :debug), else: :debug
    Log.at(level, fn -> line(event, measurements, metadata, level) end)
  end

  defp line(event, measurements, metadata, level) do
    name = event |> List.delete(:phoenix_gen_api) |> Enum.join(".")
    hidden = if level == :debug, do: [], else: @debug_only ++ argument(metadata)

    fields =
      Map.drop(measurements, [:duration, :monotonic_time, :system_time])
      |> Enum.concat(Map.drop(metadata, [:stacktrace, :telemetry_span_context | hidden]))
      |> Enum.map(fn {key, value} ->
        [?\s, to_string(key), ?=, SafeInspect.inspect(value, 100)]
      end)

    ["[phoenix_gen_api] ", name | fields]
  end

  defp argument(%{rate_limit_key: key}) when key not in @request_fields, do: [:key]
  defp argument(_metadata), do: []

  @doc """
  Metrics of the library for the reporters of `Telemetry.Metrics`, as they are listed in the
  guide *Telemetry*.

      children = [{TelemetryMetricsPrometheus, metrics: PhoenixGenApi.Telemetry.metrics()}]

  Tags are only what has few values: services, request types, outcomes, pools, never users or
  ids. A function that is not registered counts as `"unknown"`, because its name is whatever a
  client has sent. Durations are in milliseconds, with buckets for the reporters that want them.

  Without `:telemetry_metrics`, an optional dependency that is found when the library is
  compiled, the result is `{:error, :telemetry_metrics_not_available}`.
  """
  @spec metrics() :: [struct()] | {:error, :telemetry_metrics_not_available}
  defdelegate metrics, to: PhoenixGenApi.Telemetry.Metrics, as: :all

  @doc false
  # What comes with `system_time`, and with `duration_us`.
  @spec start_measurements(integer()) :: %{system_time: integer(), monotonic_time: integer()}
  def start_measurements(now \\ System.monotonic_time()) do
    # The system's time by definition, for a fraction of the price of reading the clock again.
    %{system_time: now + System.time_offset(), monotonic_time: now}
  end

  @doc false
  @spec stop_measurements(integer(), integer()) :: %{
          duration: integer(),
          duration_us: integer(),
          monotonic_time: integer()
        }
  def stop_measurements(started_at, now \\ System.monotonic_time()) do
    duration = now - started_at

    %{
      duration: duration,
      duration_us: div(duration, @native_per_us),
      monotonic_time: now
    }
  end

  @doc false
  # What comes with the exception of anything.
  @spec crash_metadata(:error | :exit | :throw, term(), Exception.stacktrace()) :: map()
  def crash_metadata(kind, reason, stack),
    do: %{kind: kind, reason: SafeInspect.reason(kind, reason, stack), stacktrace: stack}

  if @available do
    @doc "Attaches a handler to a list of events, of this library or any other."
    @spec attach_many(handler_id(), [[atom(), ...]], handler(), term()) :: attached()
    def attach_many(id, events, fun, config \\ %{})
        when is_list(events) and is_function(fun, 4) do
      with {:error, :already_exists} <- :telemetry.attach_many(id, events, fun, config) do
        attach_again(id, events, fun, config)
      end
    end

    defp attach_again(id, events, fun, config) do
      kept =
        for %{id: ^id, event_name: name, function: ^fun, config: ^config} <-
              :telemetry.list_handlers([]),
            do: name

      if events -- kept == [] do
        :ok
      else
        :telemetry.detach(id)
        attach_many(id, Enum.uniq(kept ++ events), fun, config)
      end
    end

    @doc "Detaches the handler of an id from everything. `:ok` also when there is none."
    @spec detach_all(handler_id()) :: :ok
    def detach_all(id) do
      _ = :telemetry.detach(id)
      :ok
    end

    @doc "Emits an event."
    @spec execute([atom(), ...], map(), map()) :: :ok
    def execute(event, measurements, metadata \\ %{}),
      do: :telemetry.execute(event, measurements, metadata)
  else
    def attach_many(_id, events, fun, _config \\ %{})
        when is_list(events) and is_function(fun, 4),
        do: {:error, :telemetry_not_available}

    def detach_all(_id), do: :ok

    def execute(_event, _measurements, _metadata \\ %{}), do: :ok
  end

  @doc """
  Runs `fun` between the events `prefix ++ [:start]` and `prefix ++ [:stop]`, or
  `prefix ++ [:exception]` when it raises, exits or throws, which it then goes on doing.

  As with `:telemetry.span/3` the function returns `{result, stop_metadata}` or
  `{result, extra_measurements, stop_metadata}`, and the span returns `result`. The
  metadata of all events share a `telemetry_span_context`; an exception's has that of the
  start, and `kind`, `reason` (string) and `stacktrace`.

      PhoenixGenApi.Telemetry.span([:my_app, :import], %{file: file}, fn ->
        {import(file), %{file: file}}
      end)
  """
  @spec span([atom(), ...], map(), (-> {result, map()} | {result, map(), map()})) :: result
        when result: term()
  def span(prefix, metadata, fun) when is_function(fun, 0) do
    started_at = System.monotonic_time()
    context = Map.get_lazy(metadata, :telemetry_span_context, &make_ref/0)
    metadata = Map.put(metadata, :telemetry_span_context, context)
    execute(prefix ++ [:start], start_measurements(started_at), metadata)

    try do
      case fun.() do
        {result, stop_metadata} -> {result, %{}, stop_metadata}
        {_result, _measurements, _stop_metadata} = returned -> returned
      end
    catch
      kind, reason ->
        failed = Map.merge(metadata, crash_metadata(kind, reason, __STACKTRACE__))
        execute(prefix ++ [:exception], stop_measurements(started_at), failed)

        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      {result, measurements, stop_metadata} ->
        execute(
          prefix ++ [:stop],
          Map.merge(measurements, stop_measurements(started_at)),
          Map.put_new(stop_metadata, :telemetry_span_context, context)
        )

        result
    end
  end
end
