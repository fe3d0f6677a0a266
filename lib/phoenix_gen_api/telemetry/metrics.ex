defmodule PhoenixGenApi.Telemetry.Metrics do
  @moduledoc false
  # The metrics that can be made of the events, as data, and as definitions of the library
  # `Telemetry.Metrics` where the application has it.

  alias PhoenixGenApi.Telemetry.Events

  @available match?({:module, _module}, Code.ensure_compiled(Elixir.Telemetry.Metrics))

  @function [:service, :request_type]
  @hook [:module, :function]

  # {kind, event, measurement, tags, description}; a counter counts events and has none.
  @metrics [
    {:distribution, [:executor, :request, :stop], :duration, @function ++ [:success],
     "time to the response, or to the acknowledgement of async work"},
    {:summary, [:executor, :request, :stop], :duration, @function ++ [:code],
     "the same by code, `ok` where there is none"},
    {:summary, [:executor, :request, :stop], :queued_us, @function ++ [:code],
     "microseconds in the queue of a channel"},
    {:summary, [:executor, :request, :exception], :duration, @function ++ [:code],
     "time to the answer of requests whose function raised, exited or threw"},
    {:counter, [:executor, :request, :exception], nil, @function,
     "requests whose function raised, exited or threw"},
    {:counter, [:executor, :retry], nil, [:mode, :type], "calls tried again"},
    {:counter, [:executor, :retry, :exhausted], nil, [:mode], "calls given up after retries"},
    {:counter, [:rate_limiter, :check], nil, @function ++ [:result], "checks of rate limits"},
    {:counter, [:rate_limiter, :exceeded], nil, [:rate_limit_key], "requests over a limit"},
    {:sum, [:rate_limiter, :cleanup], :cleaned_entries, [], "windows reclaimed"},
    {:distribution, [:hook, :before, :stop], :duration, @hook, "time of before hooks"},
    {:counter, [:hook, :before, :exception], nil, @hook ++ [:kind], "before hooks that failed"},
    {:distribution, [:hook, :after, :stop], :duration, @hook, "time of after hooks"},
    {:counter, [:hook, :after, :exception], nil, @hook ++ [:kind], "after hooks that failed"},
    {:distribution, [:worker_pool, :task, :stop], :duration, [:pool_name], "time of tasks"},
    {:counter, [:worker_pool, :task, :exception], nil, [:pool_name], "tasks that failed"},
    {:counter, [:worker_pool, :task, :rejected], nil, [:pool_name, :reason], "tasks refused"},
    {:counter, [:worker_pool, :circuit_breaker, :open], nil, [:pool_name, :node | @function],
     "circuits that opened, of a pool or of a node and function"},
    {:counter, [:worker_pool, :circuit_breaker, :close], nil, [:pool_name, :node | @function],
     "circuits that closed"},
    {:distribution, [:config, :pull, :stop], :duration, [:service, :result], "time of pulls"},
    {:last_value, [:config, :pull, :stop], :count, [:service], "functions of the last pull"},
    {:counter, [:config, :push], nil, [:service], "pushes accepted"}
  ]

  @doc "The definitions, or that there is nothing to define them with."
  @spec all() :: [struct()] | {:error, :telemetry_metrics_not_available}
  if @available do
    # Milliseconds: from a function that does next to nothing to one that nobody waits for.
    @buckets [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000]

    # The pages of LiveDashboard, by the first part of the event.
    @pages %{
      executor: "GenApi requests",
      rate_limiter: "GenApi limits",
      hook: "GenApi hooks",
      worker_pool: "GenApi pools",
      config: "GenApi services"
    }

    def all, do: Enum.map(@metrics, &define/1)

    defp define({kind, [part | _] = event, measurement, tags, description}) do
      event = [:phoenix_gen_api | event]
      name = event ++ [measurement || :count]

      options = [
        event_name: event,
        measurement: measurement || (&__MODULE__.one/1),
        tags: tags,
        tag_values: &__MODULE__.tag_values/1,
        description: description,
        reporter_options: [nav: @pages[part]] ++ buckets(measurement)
      ]

      apply(Elixir.Telemetry.Metrics, kind, [name, options ++ unit(measurement)])
    end

    defp buckets(:duration), do: [buckets: @buckets]
    defp buckets(_measurement), do: []

    defp unit(:duration), do: [unit: {:native, :millisecond}]
    defp unit(:queued_us), do: [unit: :microsecond]
    defp unit(_measurement), do: []
  else
    def all, do: {:error, :telemetry_metrics_not_available}
  end

  @doc "What each event counts."
  @spec one(map()) :: 1
  def one(_measurements), do: 1

  @doc """
  Has `registered?` say whether a function of that service and request type is registered.

  Set by the supervisor that owns the table of functions: metrics know nothing of that table.
  """
  @spec label_by((term(), term() -> boolean())) :: :ok
  def label_by(registered?) when is_function(registered?, 2),
    do: :persistent_term.put(__MODULE__, registered?)

  @doc """
  The metadata with tags that have few values. A request names functions that a client has
  made up, and every new name would be a time series for ever.
  """
  @spec tag_values(map()) :: map()
  def tag_values(%{service: service, request_type: type} = metadata) do
    metadata = Map.merge(metadata, %{node: metadata[:node], code: metadata[:code] || "ok"})

    if registered?(service, type),
      do: metadata,
      else: %{metadata | service: "unknown", request_type: "unknown"}
  end

  # The circuit of a pool is of no node and no function.
  def tag_values(%{pool_name: _name} = metadata),
    do: Map.merge(%{node: nil, service: nil, request_type: nil}, metadata)

  def tag_values(metadata), do: metadata

  # Where no gateway has ever run nothing is registered.
  defp registered?(service, type) do
    with registered? when registered? != nil <- :persistent_term.get(__MODULE__, nil),
         do: registered?.(service, type)
  end

  @doc "All metrics as a markdown table."
  @spec docs() :: String.t()
  def docs do
    rows =
      for {kind, event, measurement, tags, description} <- @metrics do
        name = Enum.join([:phoenix_gen_api | event] ++ [measurement || :count], ".")
        "| `#{name}` | #{kind} | #{Events.keys(tags)} | #{description} |"
      end

    Enum.join(["| Metric | Kind | Tags | Of |", "|---|---|---|---|" | rows], "\n") <> "\n"
  end
end
