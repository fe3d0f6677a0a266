defmodule PhoenixGenApi.Contract.BuiltInTest do
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{ConfigDb, ConfigReceiver, Contract, Executor, JsonConfig, RateLimiter}
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, Request}
  alias PhoenixGenApi.Test.{ConfigTable, Options}

  @moduletag :capture_log

  @reserved "service must not be gen_api, which is reserved for functions of the gateway itself"

  setup do
    ConfigTable.use_empty()

    for {type, permission} <- [open: false, known: :any_authenticated, admin: {:role, ["admin"]}] do
      ConfigDb.add!(%FunConfig{
        service: "shop",
        request_type: "#{type}",
        nodes: :local,
        mfa: {String, :length, []},
        check_permission: permission
      })
    end

    :ok
  end

  defp ask(fields \\ []) do
    Executor.execute!(
      struct!(%Request{request_id: "1", service: "gen_api", request_type: "describe"}, fields)
    )
  end

  defp shown(response) do
    assert %{success: true, result: %{"phoenix_gen_api" => "1", "services" => services}} =
             response

    for %{"functions" => functions} <- services, %{"request_type" => type} <- functions, do: type
  end

  test "is no function unless it is configured" do
    assert %{
             success: false,
             code: "unknown_function",
             error: "unsupported function: describe version latest"
           } = ask()
  end

  test "tells every caller what they may call" do
    Options.set(:describe, :public)
    assert shown(ask()) == ["open"]
    assert shown(ask(user_id: "ann")) == ["known", "open"]
    assert shown(ask(user_id: "ann", user_roles: ["admin"])) == ["admin", "known", "open"]
    assert shown(ask(user_id: "ann", args: %{"service" => "shop"})) == ["known", "open"]
    assert shown(ask(user_id: "ann", args: %{"service" => "bank"})) == []
    assert %{code: "invalid_arguments"} = ask(args: %{"all" => true})
    assert ask() |> JSON.encode!() |> JSON.decode!() |> Map.fetch!("result") == ask().result
  end

  test "is kept from callers without an identity, if configured so" do
    Options.set(:describe, :any_authenticated)
    assert %{code: "unauthenticated", error: "Permission denied"} = ask()
    assert shown(ask(user_id: "ann")) == ["known", "open"]
  end

  test "comes and goes with the configuration" do
    Options.set(:describe, :public)
    assert %{success: true} = ask()
    Application.put_env(:phoenix_gen_api, :describe, false)
    :ok = PhoenixGenApi.reload_config()
    assert %{code: "unknown_function"} = ask()
  end

  test "is limited as every function is" do
    Options.set(:describe, :public)
    on_exit(fn -> RateLimiter.update_config(%{api_limits: []}) end)

    limit = %{
      service: "gen_api",
      request_type: "describe",
      key: :user_id,
      max_requests: 1,
      window_ms: 60_000
    }

    :ok = RateLimiter.update_config(%{enabled: true, api_limits: [limit]})
    user = "built_in_#{System.unique_integer([:positive])}"
    assert %{success: true} = ask(user_id: user)
    assert %{code: "rate_limited"} = ask(user_id: user)
  end

  test "runs whatever the lists of functions say, and is in no list of configs" do
    Options.set(:describe, :public)
    Application.put_env(:phoenix_gen_api, :mfa_allowlist, [])
    on_exit(fn -> Application.delete_env(:phoenix_gen_api, :mfa_allowlist) end)
    assert %{success: true} = ask()

    assert ConfigDb.get_all_services() == ["shop"]
    assert JsonConfig.export_all(format: :map) |> map_size() == 3

    assert for(%{"service" => service} <- Contract.describe()["services"], do: service) == [
             "shop"
           ]

    ConfigDb.clear()
    assert shown(ask()) == []
    assert ConfigDb.count() == 0
  end

  describe "its service" do
    @config %FunConfig{
      service: "gen_api",
      request_type: "other",
      nodes: :local,
      mfa: {String, :length, []}
    }

    test "is refused to configs that are added, pulled or pushed" do
      for service <- ["gen_api", :gen_api] do
        config = %{@config | service: service}
        assert FunConfig.validate_with_details(config) == {:error, [@reserved]}
        assert ConfigDb.add(config) == {:error, :invalid_config}
        assert ConfigDb.batch_add([config]) == {:error, :all_invalid}

        push = %PushConfig{
          service: service,
          nodes: [node()],
          config_version: "1",
          fun_configs: [config]
        }

        assert {:error, {:validation_failed, reasons}} = ConfigReceiver.push(push)
        assert inspect(reasons) =~ @reserved
      end

      assert {:ok, %{stored: 0}, [{@config, [@reserved]}]} =
               ConfigDb.replace_service("gen_api", [@config], :pull)

      assert_raise ArgumentError, ~r/#{@reserved}/, fn -> ConfigDb.add!(@config) end
    end

    test "is refused to a module that declares functions" do
      code = """
      defmodule PhoenixGenApi.Contract.BuiltInTest.Declared do
        use PhoenixGenApi.Service, service: "gen_api"
        @api true
        @spec up(text :: String.t()) :: String.t()
        def up(text), do: text
      end
      """

      assert_raise CompileError, ~r/#{@reserved}/, fn ->
        Code.with_diagnostics(fn -> Code.compile_string(code) end)
      end
    end

    test "cannot be had by naming its function, nor the function by another service" do
      mfa = {Contract.BuiltIn, :describe, []}

      for config <- [
            %{@config | mfa: mfa, request_info: true, arg_types: %{"service" => :string}},
            %{@config | service: "shop", mfa: mfa}
          ] do
        assert ConfigDb.add(config) == {:error, {:mfa_not_allowed, mfa}}

        assert %{success: false, code: "internal"} =
                 Executor.execute_with_config!(
                   %Request{request_id: "1", service: "gen_api", request_type: "other"},
                   config
                 )
      end
    end
  end
end
