defmodule PhoenixGenApiTest do
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias PhoenixGenApi.{Await, Config, ConfigDb, ConfigFailed, ConfigPuller, NodeSelector}
  alias PhoenixGenApi.RateLimiter
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @moduletag :capture_log

  defp put_env(section, value) do
    before = Application.get_env(:phoenix_gen_api, section)
    Application.put_env(:phoenix_gen_api, section, value)

    on_exit(fn ->
      if before,
        do: Application.put_env(:phoenix_gen_api, section, before),
        else: Application.delete_env(:phoenix_gen_api, section)

      :ok = PhoenixGenApi.reload_config()
    end)
  end

  test "a changed config is in force after reload_config" do
    put_env(:gen_api, detail_error: true)
    refute Config.get(:gen_api, :detail_error)
    assert PhoenixGenApi.reload_config() == :ok
    assert Config.get(:gen_api, :detail_error)
  end

  test "a wrong config changes nothing and is answered with sentences" do
    put_env(:gen_api, detail_error: "yes")
    assert {:error, [sentence]} = PhoenixGenApi.reload_config()
    assert sentence =~ "detail_error" and sentence =~ ~s("yes")
    assert Config.get(:gen_api, :detail_error) == false
  end

  test "a gateway stays one, whatever the config says by now" do
    put_env(:client_mode, true)
    assert PhoenixGenApi.reload_config() == :ok

    assert %{mode: :gateway, checks: %{phoenix_gen_api: %{config_db: _}}} =
             PhoenixGenApi.health_check()
  end

  test "reload_config changes how many sticky values are remembered" do
    put_env(:node_selector, sticky_max_entries: 1)
    assert PhoenixGenApi.reload_config() == :ok
    # What other tests have left goes with the next cleanup.
    :ok = NodeSelector.cleanup_sticky_table()

    config = %FunConfig{
      service: "sticky",
      request_type: "t",
      nodes: [:a@h1, :b@h1],
      mfa: {Kernel, :self, []},
      choose_node_mode: {:sticky, "k"}
    }

    for value <- ["x", "y", "z"] do
      request = %Request{request_id: "1", args: %{"k" => value}}
      assert {:ok, _node} = NodeSelector.get_node(config, request)
    end

    {:ok, selector} = PhoenixGenApi.Gateway.handle(:node_selector)
    assert {1, _bytes} = PhoenixGenApi.Native.node_selector_size(selector)
  end

  describe "reload_config, of rate limits," do
    setup do
      on_exit(fn ->
        RateLimiter.update_config(%{enabled: true, global_limits: [], api_limits: []})
      end)
    end

    @ten %{key: :user_id, max_requests: 10, window_ms: 1_000}
    @one %{key: :device_id, max_requests: 1, window_ms: 1_000}
    @api %{
      service: "books",
      request_type: "buy",
      key: :user_id,
      max_requests: 3,
      window_ms: 60_000
    }

    defp keys(limits), do: Enum.map(limits, & &1.key)

    test "puts in force what the config says now and did not say before" do
      put_env(:rate_limiter,
        enabled: false,
        global_limits: [@ten],
        api_limits: [@api],
        fail_open: false
      )

      assert PhoenixGenApi.reload_config() == :ok

      assert %{global: [%{max_requests: 10}], api: [%{service: "books"}]} =
               RateLimiter.get_configured_limits()

      assert %{enabled: false, fail_open: false} = RateLimiter.status()
    end

    test "counts requests by them at once" do
      put_env(:rate_limiter, global_limits: [@one])
      assert PhoenixGenApi.reload_config() == :ok
      request = %Request{request_id: "1", request_type: "t", service: "s", device_id: "reloaded"}
      assert RateLimiter.check_rate_limit(request) == :ok
      assert {:error, :rate_limited, _} = RateLimiter.check_rate_limit(request)
    end

    test "leaves alone what was changed at run time and not in the config" do
      :ok = RateLimiter.set_global_limits([@one])
      :ok = RateLimiter.update_config(%{enabled: false})
      put_env(:rate_limiter, api_limits: [@api])
      assert PhoenixGenApi.reload_config() == :ok
      assert %{global: global, api: [%{service: "books"}]} = RateLimiter.get_configured_limits()
      assert keys(global) == [:device_id]
      assert RateLimiter.status().enabled == false
    end

    test "takes them off when the config has them no more" do
      put_env(:rate_limiter, global_limits: [@ten])
      :ok = PhoenixGenApi.reload_config()
      Application.put_env(:phoenix_gen_api, :rate_limiter, [])
      assert PhoenixGenApi.reload_config() == :ok
      assert RateLimiter.get_global_limits() == []
    end

    test "changes nothing when anything in the config is wrong" do
      put_env(:rate_limiter, global_limits: [@ten], api_limits: [%{}])
      assert {:error, [sentence]} = PhoenixGenApi.reload_config()
      assert sentence =~ "api_limits"
      assert RateLimiter.get_global_limits() == []
    end
  end

  describe "reload_config, of services," do
    setup do
      on_exit(&delete_services/0)
    end

    defp delete_services, do: ConfigPuller.delete(["late", "early"])

    def listing(type), do: {:ok, [function("late", type)]}

    defp function(service, type) do
      %FunConfig{service: service, request_type: type, nodes: :local, mfa: {String, :trim, []}}
    end

    defp configured(service, type) do
      %{service: service, nodes: [node()], module: __MODULE__, function: :listing, args: [type]}
    end

    defp put_services(services) do
      put_env(:gen_api, service_configs: services)
      # Before the config is put back, which would say that they are configured no more.
      on_exit(&delete_services/0)
      PhoenixGenApi.reload_config()
    end

    test "registers and pulls those that are new" do
      assert put_services([configured("late", "a")]) == :ok
      Await.until(fn -> match?({:ok, _}, ConfigDb.get("late", "a")) end)
      assert Map.keys(ConfigPuller.get_services()) == ["late"]
    end

    test "pulls again those that have changed, and not the others" do
      :ok = put_services([configured("late", "a"), configured(:early, "b")])
      Await.until(fn -> match?({:ok, _}, ConfigDb.get("late", "a")) end)
      Await.until(fn -> ConfigPuller.get_api_list("early") == ["b"] end)

      # What is not pulled again stays away.
      :ok = ConfigDb.delete("early", "b")
      assert put_services([configured("late", "c"), configured(:early, "b")]) == :ok
      Await.until(fn -> match?({:ok, _}, ConfigDb.get("late", "c")) end)
      assert ConfigDb.get("late", "a") == {:error, :not_found}
      assert ConfigDb.get("early", "b") == {:error, :not_found}
    end

    test "does not bring back one that was deleted at run time" do
      :ok = put_services([configured("late", "a")])
      :ok = ConfigPuller.delete(["late"])
      assert PhoenixGenApi.reload_config() == :ok
      assert ConfigPuller.get_services() == %{}
      refute capture_log(fn -> :ok = put_services([]) end) =~ "late"
    end

    test "keeps those that are configured no more, and says so" do
      :ok = put_services([configured("late", "a")])
      Await.until(fn -> match?({:ok, _}, ConfigDb.get("late", "a")) end)
      log = capture_log(fn -> assert put_services([]) == :ok end)
      assert log =~ ~s(service "late" is no longer configured)
      assert Map.keys(ConfigPuller.get_services()) == ["late"]
      assert {:ok, _} = ConfigDb.get("late", "a")
    end

    test "records those that are invalid, and registers the others" do
      ConfigFailed.clear()

      log =
        capture_log(fn -> :ok = put_services([%{service: "bad"}, 5, configured("late", "a")]) end)

      assert log =~ "service config rejected"
      assert Map.keys(ConfigPuller.get_services()) == ["late"]
      assert length(ConfigFailed.list(source: :pull)) == 2
    end
  end

  test "telemetry of requests can be attached and detached" do
    parent = self()
    handler = fn event, _measurements, _metadata, _config -> send(parent, event) end
    assert PhoenixGenApi.attach_telemetry("front-door", handler) == :ok
    request = %Request{request_id: "1", service: "nobody", request_type: "nothing"}
    PhoenixGenApi.Executor.execute!(request)
    assert_received [:phoenix_gen_api, :executor, :request, :start]
    assert_received [:phoenix_gen_api, :executor, :request, :stop]
    assert PhoenixGenApi.detach_telemetry("front-door") == :ok
    PhoenixGenApi.Executor.execute!(request)
    refute_received [:phoenix_gen_api, :executor, :request, :start]
  end
end
