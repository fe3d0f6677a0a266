defmodule PhoenixGenApi.Telemetry.Events do
  @moduledoc false
  # The one list of the events, as data: `PhoenixGenApi.Telemetry` attaches and
  # documents what stands here.

  @type group :: :executor | :rate_limiter | :hooks | :worker_pool | :config | :relay
  @type event :: %{
          name: [atom(), ...],
          group: group(),
          measurements: [atom()],
          metadata: [atom()],
          doc: String.t()
        }

  @request [:request_id, :request_type, :service, :user_id]
  @hook [:module, :function, :type]
  @failure [:kind, :reason, :stacktrace]
  @function [:service, :request_type, :version]

  @start [:system_time, :monotonic_time]
  @stop [:duration_us, :duration, :monotonic_time]

  hooks =
    for hook <- [:before, :after],
        {phase, measurements, metadata, doc} <- [
          {:start, @start, @hook, "a #{hook} hook is called; `type` is `:#{hook}`"},
          {:stop, @stop, @hook, "a #{hook} hook returned"},
          {:exception, @stop, @hook ++ @failure,
           "a #{hook} hook failed; `kind` is `:error` or `:timeout`"}
        ] do
      {:hooks, [:hook, hook, phase], measurements, metadata, doc}
    end

  # {group, name, measurements, metadata, doc}
  events =
    [
      {:executor, [:executor, :request, :start], @start, @request, "a request begins"},
      {:executor, [:executor, :request, :stop], @stop ++ [:queued_us],
       @request ++ [:success, :async, :code, :node, :attempts, :reason],
       "a request was answered; `async` is true for async, stream and none, where the answer is the acknowledgement; `code` and `reason` are `nil` on success; `queued_us` is its time in the queue of a channel"},
      {:executor, [:executor, :request, :exception], @stop ++ [:queued_us],
       @request ++ @failure ++ [:code, :node, :attempts],
       "the last attempt of the function raised, exited or threw (`kind` `:error`, `:exit`, `:throw`)"},
      {:executor, [:executor, :retry], [:attempt, :backoff_ms],
       [:mode, :type, :nodes, :request_id],
       "a call is tried again; `attempt` 1 is the first retry, `mode` `:same_node` or `:all_nodes`, `type` `:local` or `:remote` (with `nodes`)"},
      {:executor, [:executor, :retry, :exhausted], [], [:request_id, :mode, :last_error],
       "no retry is left; also has `reason`: `:attempts`, `:budget` (refused) or `:no_node`"},
      {:rate_limiter, [:rate_limiter, :check], @stop,
       [:request_id, :user_id, :instance, :service, :request_type, :result],
       "limits were checked; `instance` is `nil`, as a request may touch several shards; `result` `:ok`, `:rate_limited` or `:error`"},
      {:rate_limiter, [:rate_limiter, :exceeded], [:retry_after_ms],
       [
         :key,
         :scope,
         :max_requests,
         :current_requests,
         :request_id,
         :user_id,
         :rate_limit_key
       ], "a request was over a limit; `key` is the value, `rate_limit_key` the limit's key"},
      {:rate_limiter, [:rate_limiter, :reset], [], [:key, :scope, :rate_limit_key],
       "the window of one value was reset"},
      {:rate_limiter, [:rate_limiter, :cleanup], @stop ++ [:cleaned_entries],
       [:global_limits_count, :api_limits_count], "expired windows were swept"}
    ] ++
      hooks ++
      [
        {:worker_pool, [:worker_pool, :task, :start], @start, [:pool_name], "a task begins"},
        {:worker_pool, [:worker_pool, :task, :stop], @stop, [:pool_name], "a task ended"},
        {:worker_pool, [:worker_pool, :task, :exception], @stop, [:pool_name | @failure],
         "a task raised, exited or was killed"},
        {:worker_pool, [:worker_pool, :task, :rejected], @start, [:pool_name, :reason],
         "a task was refused; `reason` is `:circuit_open`"},
        {:worker_pool, [:worker_pool, :circuit_breaker, :open], [],
         [:pool_name, :consecutive_failures],
         "a circuit opened; a node's has `pool_name` `nil` and `node`, `service`, `request_type`, `version`"},
        {:worker_pool, [:worker_pool, :circuit_breaker, :close], [], [:pool_name],
         "a circuit closed; metadata as for open; with `reason` `:forgotten` it was not called for long or its settings changed"},
        {:config, [:config, :pull, :start], @start, [:service], "a service is pulled"},
        {:config, [:config, :pull, :stop], @stop ++ [:count], [:service, :version],
         "a pull ended with `count` functions; also has `result`: `:ok`, `:skipped` (same version), `:error` or `:superseded`"},
        {:config, [:config, :push], [:count], [:service, :version],
         "a push with `count` functions was stored; also has `gateway`, the node that accepted it and told the others"},
        {:config, [:config, :add], [], @function, "a function config was stored"},
        {:config, [:config, :batch_add], [:count], [:service],
         "`count` function configs were stored at once, by code or because nodes offer them; `service` is that of the first"},
        {:config, [:config, :delete], [], @function, "a function config was deleted"},
        {:config, [:config, :disable], [], @function, "a function config was disabled"},
        {:config, [:config, :enable], [], @function, "a function config was enabled"},
        {:config, [:config, :clear], [], @function,
         "the table was emptied; all three are `:all`"},
        {:config, [:service, :up], [], [:service, :nodes],
         "a service has its first node; `nodes` are those that are there"},
        {:config, [:service, :down], [], [:service, :nodes],
         "a service has lost its last node, or none of `nodes` can be connected"}
      ]

  # Beyond the table of the documentation, which is fixed.
  extra = [
    {:relay, [:relay, :join], @start, [:group_id, :user_id, :status],
     "a process joined a group; `status` is `:active`, `:pending` or `:muted`"},
    {:relay, [:relay, :leave], @start, [:group_id, :user_id, :reason],
     "a user left a group; `reason` is `:left`, `:down` (their last process ended), `:kicked` or `:banned`"},
    {:relay, [:relay, :publish], @stop ++ [:recipients], [:group_id, :user_id],
     "a message was sent to `recipients` members"},
    {:relay, [:relay, :drop], [:count], [:reason, :group_id],
     "messages that were not delivered; `reason` is `:slow_consumer` or `:slow_gateway`"},
    {:channel, [:channel, :disconnect], @start, [:reason],
     "a connection was closed; `reason` is `:slow_consumer`: its client does not read"}
  ]

  to_event = fn {group, name, measurements, metadata, doc} ->
    %{
      name: [:phoenix_gen_api | name],
      group: group,
      measurements: measurements,
      metadata: metadata,
      doc: doc
    }
  end

  @events Enum.map(events, to_event)
  @extra Enum.map(extra, to_event)

  @doc "Every event, in the order of the documentation."
  @spec all() :: [event()]
  def all, do: @events

  @doc "Events that are not among those."
  @spec extra() :: [event()]
  def extra, do: @extra

  @doc "The names of the events of some groups."
  @spec names([group()]) :: [[atom(), ...]]
  def names(groups), do: for(event <- @events ++ @extra, event.group in groups, do: event.name)

  @doc "Events as a markdown table."
  @spec docs([event()]) :: String.t()
  def docs(events \\ @events) do
    rows =
      for event <- events do
        "| `#{inspect(event.name)}` | #{keys(event.measurements)} | #{keys(event.metadata)} | #{event.doc} |"
      end

    Enum.join(["| Event | Measurements | Metadata | When |", "|---|---|---|---|" | rows], "\n") <>
      "\n"
  end

  @doc "Names of keys as the documentation writes them."
  @spec keys([atom()]) :: String.t()
  def keys([]), do: "–"
  def keys(keys), do: Enum.map_join(keys, ", ", &"`#{&1}`")
end
