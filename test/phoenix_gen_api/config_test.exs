defmodule PhoenixGenApi.ConfigTest do
  # Changes the application environment and what is kept in memory.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.Config

  setup do
    before = Application.get_all_env(:phoenix_gen_api)
    for {key, _} <- before, do: Application.delete_env(:phoenix_gen_api, key)
    :ok = Config.load()

    on_exit(fn ->
      for {key, _} <- Application.get_all_env(:phoenix_gen_api),
          do: Application.delete_env(:phoenix_gen_api, key)

      Application.put_all_env(phoenix_gen_api: before)
      :ok = Config.load()
    end)
  end

  defp put(section, value), do: Application.put_env(:phoenix_gen_api, section, value)

  defp sentence(env) do
    assert {:error, [sentence]} = Config.validate(env)
    sentence
  end

  # Section 15 of the contract, row by row.
  @defaults [
    gen_api: [
      pull_timeout: 5_000,
      pull_interval: 30_000,
      detail_error: false,
      service_configs: [],
      strict: false
    ],
    service: [forget_ms: 3_600_000, accept: :any],
    rate_limiter: [
      enabled: true,
      fail_open: true,
      global_limits: [],
      api_limits: [],
      expose_limits: false,
      instance_count: :auto,
      routing_strategy: :hash,
      timeout: 1_000,
      cleanup_interval: 60_000,
      max_keys: 1_000_000,
      max_entries: 16_000_000,
      ipv6_prefix: 64
    ],
    worker_pool: [
      async_pool_size: 1_000,
      stream_pool_size: 500,
      max_queue_size: 10_000,
      circuit_breaker_threshold: 5,
      circuit_breaker_cooldown: 60_000,
      # beyond the contract, and off
      circuit_breaker_failure_rate: 0.5,
      user_share: 0.2,
      circuit_breaker_window: 100
    ],
    circuit_breaker: [
      enabled: true,
      threshold: 5,
      cooldown_ms: 30_000,
      count: [:timeout, :node_down],
      failure_rate: 0.5,
      rate_window: 100
    ],
    retry: [budget: 0.2, min_per_window: 10],
    argument_handler: [
      string_max_length: 3_000,
      string_max_bytes: nil,
      list_max_items: 1_000,
      map_max_items: 1_000,
      max_nodes: 100_000
    ],
    request: [
      max_payload_bytes: 1_000_000,
      max_field_bytes: 1_024,
      max_digits: 1_024,
      max_result_bytes: 67_108_864
    ],
    channel: [max_client_bytes: 8_388_608, max_connection_requests: 200],
    node_selector: [probe_interval: 5_000, sticky_ttl_ms: 3_600_000, sticky_max_entries: 100_000],
    stream: [max_unacked: 64, start_timeout_ms: 1_000, credit_timeout_ms: 60_000],
    relay: [
      cluster: true,
      sync_timeout: 5_000,
      rejoin_grace_ms: 0,
      max_groups: 100_000,
      max_members: 100_000,
      max_pending: 1_000,
      max_groups_per_user: 1_000,
      max_message_bytes: 1_000_000,
      group_messages_per_second: nil,
      member_messages_per_second: nil,
      max_mailbox: 10_000,
      slow_consumer: :skip
    ],
    log: [level: :info, values: false],
    service_guard: [enabled: false, listings: [], allow: []]
  ]

  describe "get" do
    test "every option has the default of the contract, and there are no others" do
      assert Config.get(:client_mode) == false

      for {section, options} <- @defaults do
        assert Config.get(section) == Map.new(options)
        for {key, default} <- options, do: assert(Config.get(section, key) == default)
      end
    end

    test "the defaults are there when nothing was loaded" do
      :persistent_term.erase(Config)
      assert Config.get(:gen_api, :pull_timeout) == 5_000
      assert Config.get(:client_mode) == false
    end

    test "an option that does not exist raises" do
      assert_raise KeyError, fn -> Config.get(:gen_api, :nothing) end
      assert_raise KeyError, fn -> Config.get(:nothing, :pull_timeout) end
    end

    test "what is read when used is not kept in memory" do
      put(:push_token, "secret")
      assert Config.load() == :ok
      assert_raise KeyError, fn -> Config.get(:push_token) end
      refute inspect(:persistent_term.get(Config)) =~ "secret"
    end
  end

  describe "load and reload" do
    test "take values over, from keyword lists and maps" do
      put(:gen_api, pull_timeout: 7)
      put(:relay, %{cluster: false})
      put(:client_mode, true)
      assert Config.load() == :ok
      assert Config.get(:gen_api, :pull_timeout) == 7
      assert Config.get(:gen_api, :pull_interval) == 30_000
      assert Config.get(:relay, :cluster) == false
      assert Config.get(:client_mode) == true
    end

    test "a change of the environment is seen after reload and not before" do
      put(:gen_api, detail_error: true)
      assert Config.get(:gen_api, :detail_error) == false
      assert Config.reload() == :ok
      assert Config.get(:gen_api, :detail_error) == true
    end

    test "one wrong value leaves everything as it was" do
      put(:gen_api, pull_timeout: 7)
      :ok = Config.load()
      put(:gen_api, pull_timeout: 8, pull_interval: "soon")

      assert Config.reload() ==
               {:error,
                [
                  ~s|config :phoenix_gen_api, :gen_api, pull_interval: expected a positive integer (milliseconds), got "soon"|
                ]}

      assert Config.get(:gen_api, :pull_timeout) == 7
    end

    test "every problem has its sentence" do
      assert {:error, [_, _, _]} =
               Config.validate(gen_api: [pull_timeout: 0, pull_interval: 0], relay: [cluster: 1])
    end

    test "the first of a repeated key counts" do
      assert {:ok, %{gen_api: %{pull_timeout: 1}}} =
               Config.validate(gen_api: [pull_timeout: 1, pull_timeout: 2])
    end
  end

  describe "detail_error" do
    test "may stand at the top level" do
      assert {:ok, %{gen_api: %{detail_error: true}}} = Config.validate(detail_error: true)

      for section <- [[pull_timeout: 1], %{pull_timeout: 1}] do
        assert {:ok, %{gen_api: %{detail_error: true, pull_timeout: 1}}} =
                 Config.validate(detail_error: true, gen_api: section)
      end
    end

    test "the section wins over the top level" do
      assert {:ok, %{gen_api: %{detail_error: false}}} =
               Config.validate(detail_error: true, gen_api: [detail_error: false])
    end

    test "a wrong value at the top level is named" do
      assert sentence(detail_error: "yes") ==
               ~s(config :phoenix_gen_api, :detail_error: expected true or false, got "yes")
    end
  end

  describe "service_guard" do
    defp guard(value) do
      {:ok, values} = Config.validate(service_guard: value)
      values.service_guard
    end

    test "may be true or false as a whole" do
      assert guard(true) == %{enabled: true, listings: [], allow: []}
      assert guard(false) == %{enabled: false, listings: [], allow: []}
      assert guard([]) == %{enabled: false, listings: [], allow: []}
    end

    test "is on when anything of it is set, unless that says otherwise" do
      assert guard(allow: [String]) == %{enabled: true, listings: [], allow: [String]}
      assert %{enabled: true} = guard(%{listings: [{Enum, :map}, {Enum, :map, [1]}]})
      assert %{enabled: false} = guard(enabled: false, allow: [String])
    end

    test "is nothing else" do
      assert sentence(service_guard: :on) ==
               "config :phoenix_gen_api, :service_guard: expected a keyword list or a map, got :on"

      for wrong <- [
            [{Enum, "map"}],
            [{Enum, :map, [1 | 2]}],
            [{Enum, :map, 2}],
            [nil],
            {Enum, :map}
          ],
          do: assert(sentence(service_guard: [listings: wrong]) =~ "listings: expected a list of")
    end
  end

  test "boot_audit is :auto, true or false" do
    assert Config.get(:boot_audit) == :auto

    for value <- [:auto, true, false],
        do: assert({:ok, %{boot_audit: ^value}} = Config.validate(boot_audit: value))

    assert sentence(boot_audit: :prod) ==
             "config :phoenix_gen_api, :boot_audit: expected :auto or true or false, got :prod"
  end

  describe "sentences" do
    test "name the key, what was expected and what was got" do
      assert sentence(gen_api: [pull_timeout: "5s"]) ==
               ~s|config :phoenix_gen_api, :gen_api, pull_timeout: expected a positive integer (milliseconds), got "5s"|

      assert sentence(client_mode: "yes") ==
               ~s(config :phoenix_gen_api, :client_mode: expected true or false, got "yes")
    end

    test "cut what was got at 500 bytes" do
      "config :phoenix_gen_api, :gen_api, pull_timeout: expected a positive integer (milliseconds), got " <>
        got = sentence(gen_api: [pull_timeout: String.duplicate("x", 2_000)])

      assert byte_size(got) == 500
    end

    # {section, key, wrong value, what is expected}
    @ms "a positive integer (milliseconds)"
    @positive "a positive integer"
    @wrong [
      {:gen_api, :pull_timeout, 0, @ms},
      {:gen_api, :pull_interval, nil, @ms},
      {:gen_api, :detail_error, 1, "true or false"},
      {:gen_api, :service_configs, %{}, "a list"},
      {:rate_limiter, :enabled, nil, "true or false"},
      {:rate_limiter, :fail_open, "true", "true or false"},
      {:rate_limiter, :expose_limits, 1, "true or false"},
      {:rate_limiter, :global_limits, %{}, "a list of global limits"},
      {:rate_limiter, :api_limits, [1 | 2], "a list of API limits"},
      {:rate_limiter, :instance_count, 0, ":auto or a positive integer"},
      {:rate_limiter, :routing_strategy, :best, ":hash or :random"},
      {:rate_limiter, :timeout, 0, "a positive integer (milliseconds) or :infinity"},
      {:rate_limiter, :cleanup_interval, 1.5, @ms},
      {:rate_limiter, :max_keys, -1, @positive},
      {:rate_limiter, :max_entries, "1", @positive},
      {:rate_limiter, :ipv6_prefix, 129, "an integer from 0 to 128"},
      {:worker_pool, :async_pool_size, 0, @positive},
      {:worker_pool, :stream_pool_size, 0, @positive},
      {:worker_pool, :max_queue_size, -1, "a non-negative integer"},
      {:worker_pool, :user_share, 2, "a number from 0 to 1"},
      {:worker_pool, :circuit_breaker_threshold, 0, @positive},
      {:worker_pool, :circuit_breaker_cooldown, 0, @ms},
      {:worker_pool, :circuit_breaker_failure_rate, 0, "nil or a number above 0 and at most 1"},
      {:worker_pool, :circuit_breaker_window, 0, @positive},
      {:circuit_breaker, :enabled, nil, "true or false"},
      {:circuit_breaker, :threshold, 0, @positive},
      {:circuit_breaker, :cooldown_ms, 0, @ms},
      {:circuit_breaker, :count, [:raise], "a list of :timeout, :node_down and :exception"},
      {:circuit_breaker, :failure_rate, 1.5, "nil or a number from 0 to 1"},
      {:circuit_breaker, :rate_window, 0, "a positive integer (calls)"},
      {:retry, :budget, -0.1, ":infinity or a number from 0 to 1"},
      {:retry, :min_per_window, -1, "a non-negative integer"},
      {:argument_handler, :string_max_length, 0, "a positive integer (characters)"},
      {:argument_handler, :string_max_bytes, 0, "nil or a positive integer (bytes)"},
      {:argument_handler, :list_max_items, 0, @positive},
      {:argument_handler, :map_max_items, 0, @positive},
      {:argument_handler, :max_nodes, 0, @positive},
      {:request, :max_payload_bytes, 0, "a positive integer (bytes)"},
      {:request, :max_field_bytes, 0, "a positive integer (bytes)"},
      {:request, :max_digits, 0, "a positive integer"},
      {:request, :max_result_bytes, 0, "a positive integer (bytes)"},
      {:channel, :max_client_bytes, 0, "a positive integer (bytes)"},
      {:channel, :max_connection_requests, 0, "a positive integer"},
      {:node_selector, :probe_interval, 0, @ms},
      {:service, :forget_ms, 0, @ms},
      {:service, :accept, ["shop@*", nil], ":any or a list of nodes and patterns of their names"},
      {:gen_api, :strict, "yes", "true or false"},
      {:node_selector, :sticky_ttl_ms, 0, @ms},
      {:node_selector, :sticky_max_entries, 0, @positive},
      {:stream, :max_unacked, 0, @positive},
      {:stream, :start_timeout_ms, 0, @ms},
      {:stream, :credit_timeout_ms, 0, @ms},
      {:relay, :cluster, nil, "true or false"},
      {:relay, :sync_timeout, :infinity, @ms},
      {:relay, :rejoin_grace_ms, -1, "a non-negative integer (milliseconds)"},
      {:relay, :max_groups, 0, @positive},
      {:relay, :max_members, 0, @positive},
      {:relay, :max_pending, -1, "a non-negative integer"},
      {:relay, :max_groups_per_user, 0, @positive},
      {:relay, :max_message_bytes, 0, "a positive integer (bytes)"},
      {:relay, :group_messages_per_second, 0, "nil or a positive integer"},
      {:relay, :member_messages_per_second, "5", "nil or a positive integer"},
      {:relay, :max_mailbox, 0, @positive},
      {:relay, :slow_consumer, :drop, ":skip or :disconnect"},
      {:log, :level, :loud, ":error, :warning, :notice, :info, :debug or false"},
      {:log, :values, nil, "true or false"},
      {:service_guard, :enabled, nil, "true or false"},
      {:service_guard, :listings, [Enum],
       "a list of {module, function} and {module, function, args} tuples"},
      {:service_guard, :allow, [{Enum, :map, []}],
       "a list of modules and {module, function} tuples"}
    ]

    for {section, key, value, expected} <- @wrong do
      test "a wrong #{section} #{key} is an error" do
        section = unquote(section)
        key = unquote(key)
        value = unquote(Macro.escape(value))

        expected =
          "config :phoenix_gen_api, #{inspect(section)}, #{key}: expected #{unquote(expected)}, got #{inspect(value)}"

        assert sentence([{section, [{key, value}]}]) == expected
      end
    end

    test "every option has a row above" do
      assert Enum.sort(for {section, key, _, _} <- @wrong, do: {section, key}) ==
               Enum.sort(
                 for {section, options} <- @defaults, {key, _} <- options, do: {section, key}
               )
    end

    test "an integer no timer takes is an error" do
      assert {:ok, _} = Config.validate(gen_api: [pull_interval: 4_294_967_295])

      assert sentence(gen_api: [pull_interval: 4_294_967_296]) ==
               "config :phoenix_gen_api, :gen_api, pull_interval: expected a positive integer (milliseconds) of at most 4294967295, got 4294967296"
    end

    test "an unknown key of a section is an error" do
      assert sentence(request: [max_payload: 1]) ==
               "config :phoenix_gen_api, :request: expected :max_payload_bytes, :max_field_bytes, :max_digits or :max_result_bytes, got the unknown key :max_payload"

      assert sentence(request: %{"max_field_bytes" => 1}) =~
               ~s(got the unknown key "max_field_bytes")
    end

    test "an unknown section is an error, a module's own is not" do
      assert sentence(rate_limit: []) =~
               ~r/^config :phoenix_gen_api: expected :client_mode, .* or :service_guard, got the unknown key :rate_limit$/

      assert {:ok, _} = Config.validate([{__MODULE__.Endpoint, [secret: 1]}])
    end

    test "a section is a keyword list or a map" do
      for section <- [5, nil, [1], %URI{}, ["a" | "b"]] do
        assert sentence(relay: section) ==
                 "config :phoenix_gen_api, :relay: expected a keyword list or a map, got #{inspect(section)}"
      end

      assert sentence(gen_api: 5, detail_error: true) =~ ":gen_api: expected a keyword list"
    end
  end

  describe "limits" do
    test "are normalised" do
      limit = %{
        service: :books,
        request_type: "buy",
        key: :user_id,
        max_requests: 3,
        window_ms: 60
      }

      assert {:ok, config} = Config.validate(rate_limiter: [api_limits: [limit]])
      assert config.rate_limiter.api_limits == [%{limit | service: "books"}]
    end

    test "each invalid one has its sentence" do
      good = %{key: :user_id, max_requests: 3, window_ms: 60}

      assert {:error, sentences} =
               Config.validate(rate_limiter: [global_limits: [good, %{good | window_ms: 0}, 5]])

      assert sentences == [
               "config :phoenix_gen_api, :rate_limiter, global_limits: expected every limit to be valid (window_ms must be an integer from 1 to 2678400000 (milliseconds)), got #{inspect(%{good | window_ms: 0})}",
               "config :phoenix_gen_api, :rate_limiter, global_limits: expected every limit to be valid (a limit must be a map), got 5"
             ]
    end
  end

  describe "what is read when used" do
    test "service_configs of any content are accepted, the puller judges them" do
      assert {:ok, %{gen_api: %{service_configs: [%{}, [service: "x"], 5]}}} =
               Config.validate(gen_api: [service_configs: [%{}, [service: "x"], 5]])
    end

    test "admin_actions is a list of the known actions" do
      assert {:ok, _} = Config.validate(admin_actions: nil)
      assert {:ok, _} = Config.validate(admin_actions: [:push_config, :enable_tracing])

      assert sentence(admin_actions: [:push]) ==
               "config :phoenix_gen_api, :admin_actions: expected nil or a list of :change_detail_error, :update_rate_limit_config, :push_config, :enable_tracing and :disable_tracing, got [:push]"
    end

    test "check_results is off, log or error" do
      assert {:ok, %{check_results: :off}} = Config.validate([])
      assert {:ok, %{check_results: :error}} = Config.validate(check_results: :error)

      assert sentence(check_results: true) ==
               "config :phoenix_gen_api, :check_results: expected :off, :log or :error, got true"
    end

    test "describe is for nobody, for users or for everyone" do
      for value <- [false, :any_authenticated, :public],
          do: assert({:ok, %{describe: ^value}} = Config.validate(describe: value))

      assert sentence(describe: true) ==
               "config :phoenix_gen_api, :describe: expected false, :any_authenticated or :public, got true"
    end

    test "mfa_allowlist is a list of modules and pairs" do
      assert {:ok, _} = Config.validate(mfa_allowlist: nil)
      assert {:ok, _} = Config.validate(mfa_allowlist: [])
      assert {:ok, _} = Config.validate(mfa_allowlist: [String, {Enum, :map}])

      for wrong <- [String, ["String"], [{Enum, "map"}], [nil], [{Enum, :map, 2}]] do
        assert sentence(mfa_allowlist: wrong) ==
                 "config :phoenix_gen_api, :mfa_allowlist: expected nil or a list of modules and {module, function} tuples, got #{inspect(wrong)}"
      end
    end

    test "push_token is a non-empty string, and never shown" do
      assert {:ok, _} = Config.validate(push_token: "secret")
      assert {:ok, _} = Config.validate(push_token: nil)

      for wrong <- ["", ~c"secret", :secret, {:system, "secret"}] do
        assert sentence(push_token: wrong) ==
                 "config :phoenix_gen_api, :push_token: expected nil or a non-empty string, got a value that is not shown here"
      end
    end
  end

  test "the documentation has a row for every option" do
    rows = Config.docs() |> String.split("\n", trim: true) |> Enum.drop(2)
    assert length(rows) == 7 + length(Enum.flat_map(@defaults, fn {_, options} -> options end))

    assert "| `:gen_api` | `pull_timeout` | a positive integer (milliseconds) | `5_000` | how long each service node may take to answer a pull |" in rows

    for row <- rows, do: assert(length(String.split(row, " | ")) == 5)
  end
end
