defmodule PhoenixGenApi.OtherVersionsTest do
  # Structs that another version of the library has made: without fields that it does not have,
  # and with fields that this one does not have.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{
    ArgumentHandler,
    ConfigDb,
    ConfigFailed,
    ConfigPuller,
    ConfigPusher,
    ConfigReceiver,
    Executor,
    Hooks,
    JsonConfig,
    NodeSelector,
    Permission,
    Plan,
    RateLimiter,
    Relay,
    Security,
    ServiceGuard,
    StreamCall
  }

  alias PhoenixGenApi.Structs.{
    FunConfig,
    PushConfig,
    Request,
    Response,
    ServiceConfig,
    StreamHelper
  }

  @moduletag :capture_log

  defmodule Api do
    def up(text), do: String.upcase(text)
    def hook(request, config), do: {:ok, Map.delete(request, :version), Map.delete(config, :log)}
    def after_hook(_request, _config, response), do: Map.drop(response, [:code, :details])
    def yes(_request), do: true
  end

  setup do
    %{service: "versions-#{System.unique_integer([:positive])}"}
  end

  # One without each optional field, one without all of them, one with more.
  defp versions(%module{} = struct, required) do
    optional = Map.keys(struct) -- [:__struct__ | required]
    without = for field <- optional, do: Map.delete(struct, field)
    renamed = struct |> Map.delete(hd(optional)) |> Map.put(:renamed, 1)
    all = [struct, Map.drop(struct, optional), Map.put(struct, :tenant, {:not, "JSON"}), renamed]
    for %{__struct__: ^module} = version <- all ++ without, do: version
  end

  defp config(service, fields \\ []) do
    struct!(
      %FunConfig{
        service: service,
        request_type: "up",
        nodes: :local,
        mfa: {Api, :up, []},
        arg_types: %{"text" => :string}
      },
      fields
    )
  end

  defp configs(service, fields \\ []) do
    required = [:service, :request_type, :nodes, :mfa, :arg_types] ++ Keyword.keys(fields)
    versions(config(service, fields), required)
  end

  defp requests(service) do
    request = %Request{
      request_id: "r1",
      request_type: "up",
      service: service,
      args: %{"text" => "a"}
    }

    versions(request, [:request_id, :request_type, :service, :args])
  end

  test "function configs are stored, checked and read", %{service: service} do
    for config <- configs(service) do
      assert FunConfig.valid?(config)
      assert FunConfig.validate_with_details(config) == {:ok, config}
      assert FunConfig.version(config) == "0.0.0"
      assert FunConfig.local_service?(config) and FunConfig.is_local_service?(config)
      assert ConfigDb.add(config) == :ok
      assert ConfigDb.add!(config) == :ok
      assert ConfigDb.update(config) == :ok
      assert ConfigDb.batch_add([config]) == {:ok, 1}
      assert ConfigDb.get(service, "up") == {:ok, config(service, arg_orders: ["text"])}
      assert {:ok, _plan, _config} = Plan.compile(config)
      assert Security.validate_config(config) == :ok
      assert %{reason: ["x"]} = ConfigFailed.record(config, "x", :direct)
      assert {"up - up", %{"data" => %{"version" => "0.0.0"}}} = JsonConfig.export_single(config)
      assert ServiceGuard.register([config]) == :ok
    end
  end

  test "requests and configs go through every stage", %{service: service} do
    :ok = ConfigDb.add(config(service))
    hooked = config(service, before_execute: {Api, :hook}, after_execute: {Api, :after_hook})

    for request <- requests(service) do
      assert %Response{result: "A"} = Executor.execute!(request)
      assert %Response{result: "A"} = Executor.execute_with_timeout!(request, 60_000)
      assert %Response{result: "A"} = Executor.execute_with_config!(request, hooked)
      assert RateLimiter.check_rate_limit(request) == :ok
      assert PhoenixGenApi.inspect_request(request).verdict == :runs
      assert %Response{error: "argument validation failed"} = Relay.handle_relay(request, nil)

      for config <- configs(service) do
        assert %Response{result: "A"} = Executor.execute_with_config!(request, config)
        assert %Response{result: "A"} = Executor.sync_call(request, config)
        assert ArgumentHandler.convert_args!(config, request) == ["a"]
        assert ArgumentHandler.validate_args!(config, request) == :ok
        assert FunConfig.convert_args!(config, request) == ["a"]
        assert Permission.check_permission(request, config)
        assert Permission.check_permission!(request, config) == nil
        assert Permission.check_permission_remote!(request, config) == :ok
        assert FunConfig.check_permission!(request, config) == nil
        assert NodeSelector.get_node!(config, request) == node()
        assert NodeSelector.get_nodes(config, request) == {:ok, [node()]}
        assert FunConfig.get_node(config, request) == {:ok, node()}
        assert {:ok, %{nodes: :local}} = NodeSelector.resolve_nodes(config)
        assert NodeSelector.resolve_nodes_list(config) == {:ok, [node()]}
        assert NodeSelector.choose_node_valid?(config)
        assert {:ok, %Request{}, %FunConfig{}} = Hooks.run_before({Api, :hook}, request, config)
        response = Response.sync_response("r1", 1)
        assert %Response{} = Hooks.run_after({Api, :after_hook}, request, config, response)
      end
    end

    for config <- configs(service, nodes: {Node, :self, []}),
        do: assert({:error, _} = NodeSelector.resolve_nodes_list(config))

    for config <- configs(service, permission_callback: {Api, :yes, []}),
        do: assert(Permission.check_permission(hd(requests(service)), config))
  end

  test "streams take them", %{service: service} do
    for request <- requests(service), config <- configs(service, response_type: :stream) do
      assert {:ok, _pid} = StreamCall.start_link(%{request: request, fun_config: config})
      assert_receive {:stream_response, %Response{result: "A", has_more: false}}
    end
  end

  test "responses that functions and hooks return are answers", %{service: service} do
    made = versions(%{Response.sync_response("x", 1) | error: nil}, [:success, :result])
    failed = versions(Response.error_response("x", "sold out", true), [:error])

    for response <- made ++ failed do
      config = config(service, mfa: {Function, :identity, [response]}, arg_types: nil)
      request = %Request{request_id: "r1", request_type: "up", service: service}
      answer = Executor.sync_call(request, config)
      assert Map.keys(answer) == Map.keys(%Response{})
      assert answer.request_id == "r1"

      assert (answer.success and answer.result == 1) or
               (answer.error == "sold out" and answer.code == "error")

      assert Response.error?(response) == not answer.success
      assert Response.is_error?(response) == not answer.success
      keys = ~w(async can_retry error has_more request_id result success)
      keys = if answer.success, do: keys, else: Enum.sort(["code" | keys])

      assert response |> Response.encode!() |> Map.keys() |> Enum.sort() ==
               Enum.map(keys, &String.to_atom/1)

      assert response |> Response.encode([]) |> Map.keys() |> length() == length(keys)
      assert response |> JSON.encode!() |> JSON.decode!() |> Map.keys() |> Enum.sort() == keys

      if Code.ensure_loaded?(Jason) do
        decoded = JSON.decode!(apply(Jason, :encode!, [response]))
        assert decoded |> Map.keys() |> Enum.sort() == keys
      end

      assert PhoenixGenApi.JsonEncoding.check(response, JSON) == :ok
    end
  end

  test "pushes and services", %{service: service} do
    for config <- configs(service, nodes: [:a@h]) do
      push = %PushConfig{
        service: service,
        nodes: [:a@h],
        config_version: "1",
        fun_configs: [config]
      }

      for push <- versions(push, [:service, :nodes, :config_version, :fun_configs]) do
        assert PushConfig.valid?(push)
        assert PushConfig.validate_with_details(push) == {:ok, push}
        assert PushConfig.to_service_config(push) == nil
      end
    end

    push = %PushConfig{
      service: service,
      nodes: [:a@h],
      config_version: "1",
      fun_configs: [config(service, nodes: [:a@h])]
    }

    for push <- versions(push, [:service, :nodes, :config_version, :fun_configs]) do
      assert ConfigReceiver.push(push, force: true) == {:ok, :accepted}
      assert ConfigPusher.push(node(), push, force: true) == {:ok, :accepted}
      assert ConfigPusher.push_on_startup(node(), push, force: true) == {:ok, :accepted}
      assert ServiceGuard.register(push) == :ok
    end

    source = %ServiceConfig{service: service, nodes: [:a@h], module: Api, function: :yes}

    for source <- versions(source, [:service, :nodes, :module, :function]) do
      assert {:ok, _resolved} = ServiceConfig.resolve(source)
      refute ServiceConfig.version_check_enabled?(source)
      assert ConfigPuller.add([source]) == :ok
      assert ConfigPuller.delete([source]) == :ok
    end

    :ok = ConfigReceiver.delete_pushed_service(service)
  end

  test "helpers of streams" do
    for helper <- versions(%StreamHelper{stream_pid: self(), request_id: "r1"}, [:stream_pid]) do
      assert StreamHelper.send_result(helper, 1) == :ok
      assert StreamHelper.send_last_result(helper, 2) == :ok
      assert StreamHelper.send_complete(helper) == :ok
      assert StreamHelper.send_error(helper, "x") == :ok

      for said <- [{:result, 1}, {:last_result, 2}, :complete, {:error, "x"}],
          do: assert_received(^said)
    end
  end
end
