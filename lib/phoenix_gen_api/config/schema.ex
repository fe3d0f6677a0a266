defmodule PhoenixGenApi.Config.Schema do
  @moduledoc false
  # The one description of every application option. Defaults, validation and the
  # documentation are all read from here.

  alias PhoenixGenApi.Config.Type

  @typedoc "An option; `:cached` says whether its value is kept in memory from the start on."
  @type option :: %{
          key: atom(),
          type: Type.t(),
          default: term(),
          doc: String.t(),
          cached: boolean()
        }

  @ms "milliseconds"
  @bytes "bytes"
  @unlimited {:one_of, [nil]}

  # {key, type, default, doc}
  @sections [
    gen_api: [
      {:pull_timeout, {:positive, @ms}, 5_000,
       "how long each service node may take to answer a pull"},
      {:pull_interval, {:positive, @ms}, 30_000, "time between two rounds of pulling"},
      {:detail_error, :boolean, false,
       "append the reason to error texts; also read from the top level, where the section wins"},
      {:service_configs, :list, [],
       "the services to pull from: maps, keyword lists or `ServiceConfig` structs; an invalid one is logged, recorded and skipped"},
      {:strict, :boolean, false,
       "refuse a push that has the version of the one before and other content; otherwise it is skipped with a warning"}
    ],
    service: [
      {:forget_ms, {:positive, @ms}, 3_600_000,
       "how long a function is kept after the last node that offers it has left, and a node that has joined a service by a push of its own after it disconnected"},
      {:accept, {:or, {:one_of, [:any]}, :node_patterns}, :any,
       "the nodes that may offer services: names, of which `*` stands for any part"}
    ],
    rate_limiter: [
      {:enabled, :boolean, true, "`false` lets every request pass"},
      {:fail_open, :boolean, true,
       "whether a request passes when the limiter itself cannot decide"},
      {:global_limits, {:limits, :global}, [], "limits that count every request"},
      {:api_limits, {:limits, :api}, [], "limits of one service and request type"},
      {:expose_limits, :boolean, false,
       "put `limit`, `remaining` and `retry_after_ms` into the `result` of a denial"},
      {:instance_count, {:or, {:one_of, [:auto]}, {:positive, nil}}, :auto,
       "number of internal shards; `:auto` is one per online scheduler"},
      {:routing_strategy, {:one_of, [:hash, :random]}, :hash, "accepted, changes no result"},
      {:timeout, {:or, {:positive, @ms}, {:one_of, [:infinity]}}, 1_000,
       "accepted, without effect"},
      {:cleanup_interval, {:positive, @ms}, 60_000, "time between two sweeps of expired windows"},
      {:max_keys, {:positive, nil}, 1_000_000, "live windows per limit at most"},
      {:max_entries, {:positive, nil}, 16_000_000, "recorded requests of all limits at most"},
      {:ipv6_prefix, {:integer, 0, 128}, 64,
       "bits of an IPv6 address that count: addresses with the same first ones are one client"}
    ],
    worker_pool: [
      {:async_pool_size, {:positive, nil}, 1_000, "async and `:none` requests running at a time"},
      {:stream_pool_size, {:positive, nil}, 500, "streams running at a time"},
      {:max_queue_size, {:non_negative, nil}, 10_000, "tasks waiting per pool at most"},
      {:circuit_breaker_threshold, {:positive, nil}, 5,
       "failed tasks that open a pool's circuit"},
      {:circuit_breaker_cooldown, {:positive, @ms}, 60_000,
       "time an open pool circuit waits before its probe"},
      {:circuit_breaker_failure_rate, {:or, {:one_of, [nil]}, :fraction}, 0.5,
       "the share of all tasks of the last 10 seconds that these failures have to be; `nil` is 0.5"},
      {:user_share, :share, 0.2,
       "the share of a pool that the requests of one user may have at a time, 10 tasks at least; by address for anonymous ones"},
      {:circuit_breaker_window, {:positive, nil}, 100, "accepted, without effect"}
    ],
    circuit_breaker: [
      {:enabled, :boolean, true, "whether failing nodes are skipped, per function"},
      {:threshold, {:positive, nil}, 5,
       "failed calls that open the circuit between a function and a node"},
      {:cooldown_ms, {:positive, @ms}, 30_000, "time an open circuit waits before its probe"},
      {:count, {:list_of, [:timeout, :node_down, :exception]}, [:timeout, :node_down],
       "what counts as a failure"},
      {:failure_rate, {:or, {:one_of, [nil]}, :share}, 0.5,
       "the share of all calls of the last 10 seconds that these failures have to be, of the last 60 while there were fewer than 10 calls; `nil` is 0.5"},
      {:rate_window, {:positive, "calls"}, 100, "accepted, without effect"}
    ],
    retry: [
      {:budget, {:or, {:one_of, [:infinity]}, :share}, 0.2,
       "retries per request of a function, over 10 seconds; `:infinity` is no such limit"},
      {:min_per_window, {:non_negative, nil}, 10,
       "retries of a function that are allowed in 10 seconds however few its requests are"}
    ],
    argument_handler: [
      {:string_max_length, {:positive, "characters"}, 3_000,
       "length of a string argument without a `max_length` of its own"},
      {:string_max_bytes, {:or, {:one_of, [nil]}, {:positive, @bytes}}, nil,
       "size of a string argument without a `max_bytes` of its own; `nil` is no such limit"},
      {:list_max_items, {:positive, nil}, 1_000,
       "items of a list argument without a `max_items` of its own"},
      {:map_max_items, {:positive, nil}, 1_000,
       "entries of a map argument without a `max_items` of its own"},
      {:max_nodes, {:positive, nil}, 100_000, "values in all arguments of a request together"}
    ],
    request: [
      {:max_payload_bytes, {:positive, @bytes}, 1_000_000, "size of a request payload"},
      {:max_field_bytes, {:positive, @bytes}, 1_024, "size of each string field of a request"},
      {:max_digits, {:positive, nil}, 1_024,
       "decimal digits of an integer in arguments, relay messages and results"},
      {:max_result_bytes, {:positive, @bytes}, 67_108_864,
       "size of a result in JSON; of one above 8,388,608 the log warns"}
    ],
    channel: [
      {:max_client_bytes, {:positive, @bytes}, 8_388_608,
       "bytes waiting for one connection, above which its requests wait, its streams pause and relay messages to it are skipped; above four times as many it is closed"},
      {:max_connection_requests, {:positive, nil}, 200,
       "unfinished requests of one connection, over all its channels"}
    ],
    node_selector: [
      {:probe_interval, {:positive, @ms}, 5_000,
       "time between two probes of a node that is down"},
      {:sticky_ttl_ms, {:positive, @ms}, 3_600_000, "life of a sticky entry after its last use"},
      {:sticky_max_entries, {:positive, nil}, 100_000,
       "sticky entries at most; the least recently used are dropped"}
    ],
    stream: [
      {:max_unacked, {:positive, nil}, 64,
       "items that each producer of a stream may be ahead of its receiver"},
      {:start_timeout_ms, {:positive, @ms}, 1_000,
       "how long a request waits for a slot of `:stream_pool` before it is refused"},
      {:credit_timeout_ms, {:positive, @ms}, 60_000,
       "how long a stream whose client grants credit may be without any before it ends"}
    ],
    relay: [
      {:cluster, :boolean, true, "whether connected gateways form one relay"},
      {:sync_timeout, {:positive, @ms}, 5_000,
       "how long a change waits for the other gateways; it spreads in the background afterwards"},
      {:rejoin_grace_ms, {:non_negative, @ms}, 0,
       "time in which an accepted member may reconnect without being accepted again"},
      {:max_groups, {:positive, nil}, 100_000, "groups at most"},
      {:max_members, {:positive, nil}, 100_000, "members of a group, remembered ones included"},
      {:max_pending, {:non_negative, nil}, 1_000, "pending members of a group"},
      {:max_groups_per_user, {:positive, nil}, 1_000,
       "groups that know a user, remembered memberships included"},
      {:max_message_bytes, {:positive, @bytes}, 1_000_000, "size of a message"},
      {:group_messages_per_second, {:or, @unlimited, {:positive, nil}}, nil,
       "messages of all members of a group in any second; `nil` is no such limit"},
      {:member_messages_per_second, {:or, @unlimited, {:positive, nil}}, nil,
       "messages of a member in each group in any second; `nil` is no such limit"},
      {:max_mailbox, {:positive, nil}, 10_000,
       "messages waiting for a recipient that count as too slow"},
      {:slow_consumer, {:one_of, [:skip, :disconnect]}, :skip,
       "what becomes of a recipient that is too slow: it gets nothing until it has caught up by half, or it is ended"}
    ],
    log: [
      {:level, {:one_of, [:error, :warning, :notice, :info, :debug, false]}, :info,
       "from which level on failed requests are logged, `false` for none; `log` of a `FunConfig` wins"},
      {:values, :boolean, false,
       "log the messages of exceptions that quote values, such as `MatchError` and `KeyError`; otherwise these are only named"}
    ],
    service_guard: [
      {:enabled, :boolean, false,
       "whether this node runs for gateways only what it has registered; `true` for the whole section is short for this, and any other key of the section means it"},
      {:listings, :mfas, [],
       "the functions that gateways pull from; what they list is registered"},
      {:allow, :mfa_names, [], "what else gateways may call"}
    ]
  ]

  @admin_actions [
    :change_detail_error,
    :update_rate_limit_config,
    :push_config,
    :enable_tracing,
    :disable_tracing
  ]

  @unset {:one_of, [nil]}

  # {key, type, default, cached?, doc}; these have no sub-keys.
  @top_level [
    {:client_mode, :boolean, false, true,
     "`true` on a service node: no supervision tree, no state"},
    {:boot_audit, {:or, {:one_of, [:auto]}, :boolean}, :auto, true,
     "log insecure settings at start; `:auto` is in a release only"},
    {:check_results, {:one_of, [:off, :log, :error]}, :off, true,
     "whether what a function returns is checked against its `result`: `:log` warns, `:error` also answers `internal`"},
    {:describe, {:one_of, [false, :any_authenticated, :public]}, false, true,
     "for whom the gateway answers `gen_api` `describe` with the functions that the caller may call"},
    {:admin_actions, {:or, @unset, {:list_of, @admin_actions}}, nil, false,
     "the administrative actions that are allowed; read when used"},
    {:push_token, {:or, @unset, :secret}, nil, false,
     "the token that pushes must carry; read when used"},
    {:mfa_allowlist, {:or, @unset, :mfa_names}, nil, false,
     "what function configs may name; `nil` is everything that is not denied, `[]` nothing; read when used"}
  ]

  @doc "Every section with its options, in the order of the documentation."
  @spec sections() :: [{atom(), [option()]}]
  def sections do
    for {section, options} <- @sections do
      {section,
       for {key, type, default, doc} <- options do
         %{key: key, type: type, default: default, doc: doc, cached: true}
       end}
    end
  end

  @doc "The options that stand directly under `:phoenix_gen_api`."
  @spec top_level() :: [option()]
  def top_level do
    for {key, type, default, cached, doc} <- @top_level do
      %{key: key, type: type, default: default, doc: doc, cached: cached}
    end
  end

  @doc "The cached values when nothing is configured, as `%{section => %{key => value}}`."
  @spec defaults() :: map()
  def defaults do
    top = for %{key: key, default: default, cached: true} <- top_level(), do: {key, default}

    sections =
      for {section, options} <- sections() do
        {section, Map.new(options, &{&1.key, &1.default})}
      end

    Map.new(top ++ sections)
  end

  @doc "All options as a markdown table."
  @spec docs() :: String.t()
  def docs do
    top = for option <- top_level(), do: row(option.key, nil, option)

    nested =
      for {section, options} <- sections(),
          option <- options,
          do: row(section, option.key, option)

    Enum.join(
      [
        "| Key | Sub-key | Accepted | Default | Meaning |",
        "|---|---|---|---|---|" | top ++ nested
      ],
      "\n"
    ) <> "\n"
  end

  defp row(key, sub_key, %{type: type, default: default, doc: doc}) do
    sub_key = if sub_key, do: "`#{sub_key}`", else: "–"
    "| `#{inspect(key)}` | #{sub_key} | #{Type.describe(type)} | `#{number(default)}` | #{doc} |"
  end

  defp number(n) when is_integer(n) do
    n
    |> Integer.digits()
    |> Enum.reverse()
    |> Enum.chunk_every(3)
    |> Enum.map_join("_", &Enum.join/1)
    |> String.reverse()
  end

  defp number(value), do: inspect(value)
end
