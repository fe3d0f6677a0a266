defmodule PhoenixGenApi.SecurityEntriesTest do
  # Every way in for a function config, times every field that names a function.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, ConfigDb, ConfigFailed, ConfigPuller, ConfigPusher, ConfigReceiver}
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Structs.{FunConfig, Request, ServiceConfig}
  alias PhoenixGenApi.Test.{Directory, Functions}

  @moduletag :capture_log

  @service "guarded"

  # What is forbidden says so if it is called after all.
  defmodule Forbidden do
    @moduledoc false
    def called(pid), do: tell(pid)
    def called(_first, pid), do: tell(pid)
    def called(_first, _second, pid), do: tell(pid)
    def called(_first, _second, _third, pid), do: tell(pid)

    defp tell(pid) do
      send(pid, :forbidden_called)
      [node()]
    end
  end

  setup do
    before = Application.get_env(:phoenix_gen_api, :mfa_allowlist)
    ConfigFailed.clear()

    on_exit(fn ->
      if before,
        do: Application.put_env(:phoenix_gen_api, :mfa_allowlist, before),
        else: Application.delete_env(:phoenix_gen_api, :mfa_allowlist)

      for key <- [:push_token, :admin_actions], do: Application.delete_env(:phoenix_gen_api, key)
      ConfigPuller.delete([@service])
      ConfigDb.delete(@service, "run")
    end)
  end

  # The field, and the function in it for the arguments that the library gives it.
  @fields [
    mfa: :mfa,
    nodes: :mfa,
    choose_node_mode: :mfa,
    permission_callback: :mfa,
    before_execute: :mfa,
    before_execute: :hook,
    after_execute: :mfa,
    after_execute: :hook
  ]

  @entries [:add, :update, :batch_add, :push, :pull, :execute_with_config, :sync_call, :hook]

  # Which list refuses: its setting, and a function that it does not let in.
  @lists [:denylist, :allowlist]

  for entry <- @entries do
    describe "through #{entry}" do
      for {field, form} <- @fields, list <- @lists do
        test "a function in #{field} (as #{form}) that the #{list} forbids is refused, recorded and not stored" do
          allow(unquote(list))
          function = forbidden(unquote(list), unquote(form))
          config = struct!(config(), [{unquote(field), function}])

          assert refused?(unquote(entry), enter(unquote(entry), config), function)
          assert [%{reason: [reason], service: @service} = failed] = ConfigFailed.list()
          assert reason == "mfa not allowed: #{inspect(function)}"
          assert failed.source == source(unquote(entry))
          assert ConfigDb.get_functions_from_services(@service) == %{}
          refute_received :forbidden_called
        end
      end

      test "the same config with what both lists let in is taken" do
        allow(:allowlist)
        refute refused?(unquote(entry), enter(unquote(entry), config()), nil)
        assert ConfigFailed.list() == []
      end
    end
  end

  test "a stored function that the lists forbid by now is not run here" do
    :ok = ConfigDb.add(%{config() | mfa: {Forbidden, :called, [self()]}})
    allow(:allowlist)
    assert Executor.execute!(request()).error == "Internal Server Error"
    refute_received :forbidden_called
  end

  describe "a push" do
    test "with another token is refused, recorded by name and not stored" do
      Application.put_env(:phoenix_gen_api, :push_token, "right")

      for token <- [nil, "", "wrong", :right, ["right"]] do
        ConfigFailed.clear()
        pushed = push_config(config())
        assert ConfigReceiver.push(%{pushed | push_token: token}) == {:error, :invalid_push_token}

        assert [%{service: @service, version: "1", source: :push, config: kept} = entry] =
                 ConfigFailed.list()

        assert entry.reason == ["the push token is not that of the gateway"]
        assert kept == %{service: @service, config_version: "1"}
        assert ConfigDb.get_functions_from_services(@service) == %{}
        assert ConfigReceiver.get_pushed_config(@service) == nil
      end
    end

    test "that the admin gate keeps out is recorded by name and not stored" do
      Application.put_env(:phoenix_gen_api, :admin_actions, [:enable_tracing])
      assert ConfigReceiver.push(push_config(config())) == {:error, :admin_action_denied}
      assert [%{service: @service, reason: [reason]}] = ConfigFailed.list()
      assert reason =~ "admin_actions"
      assert ConfigDb.get_functions_from_services(@service) == %{}
    end

    test "with a function of another service is refused, recorded and not stored" do
      pushed = push_config(%{config() | service: "other"})
      assert {:error, {:validation_failed, [reason]}} = ConfigReceiver.push(pushed)
      assert reason =~ "same service name"
      assert [%{service: @service, source: :push}] = ConfigFailed.list()
      assert ConfigDb.get_functions_from_services([@service, "other"]) == %{}
    end

    test "that is none is recorded" do
      assert ConfigReceiver.push([1 | 2], node: :a@h1) == {:error, :invalid_push_config_data}
      assert [%{service: nil, source: :push, node: :a@h1}] = ConfigFailed.list()
    end

    test "that would be pulled from a forbidden function is refused, recorded and not stored" do
      for {module, function} <- [{:os, :cmd}, {Forbidden, :called}],
          pair <- [[:module, :function], [:version_module, :version_function]] do
        ConfigFailed.clear()
        allow(:allowlist)
        listing = [module: Directory, function: :answer] ++ Enum.zip(pair, [module, function])
        pushed = struct!(push_config(config()), Keyword.new(Map.new(listing)))
        assert {:error, {:validation_failed, [reason]}} = ConfigReceiver.push(pushed)
        assert reason =~ "mfa not allowed"
        assert [%{service: @service, source: :push}] = ConfigFailed.list()
        assert ConfigPuller.get_services() == %{}
        assert ConfigDb.get_functions_from_services(@service) == %{}
      end
    end
  end

  test "a pulled function that names another service does not reach that service" do
    enter(:pull, %{config() | service: "other"})
    assert ConfigDb.get_functions_from_services("other") == %{}
    assert ConfigDb.get_functions_from_services(@service) == %{@service => %{"run" => ["0.0.0"]}}
  end

  defp config do
    %FunConfig{
      service: @service,
      request_type: "run",
      nodes: [node()],
      mfa: {Functions, :node_name, []}
    }
  end

  defp request, do: %Request{request_id: "r1", request_type: "run", service: @service}

  defp allow(:denylist), do: Application.delete_env(:phoenix_gen_api, :mfa_allowlist)

  defp allow(:allowlist),
    do: Application.put_env(:phoenix_gen_api, :mfa_allowlist, [Functions, {Directory, :answer}])

  defp forbidden(:denylist, :mfa), do: {:erlang, :send, [self(), :forbidden_called]}
  defp forbidden(:allowlist, :mfa), do: {Forbidden, :called, [self()]}
  defp forbidden(:denylist, :hook), do: {System, :halt}
  defp forbidden(:allowlist, :hook), do: {Forbidden, :called}

  defp push_config(config),
    do: ConfigPusher.from_service_config(@service, [node()], [config], config_version: "1")

  defp enter(:add, config), do: ConfigDb.add(config)
  defp enter(:update, config), do: ConfigDb.update(config)
  defp enter(:batch_add, config), do: ConfigDb.batch_add([config])
  defp enter(:push, config), do: ConfigReceiver.push(push_config(config))

  defp enter(:pull, config) do
    agent = start_supervised!({Agent, fn -> %{list: fn -> {:ok, [config]} end} end})

    source = %ServiceConfig{
      service: @service,
      nodes: [node()],
      module: Directory,
      function: :answer,
      args: [agent, :list]
    }

    :ok = ConfigPuller.add([source])
    Await.until(fn -> ConfigPuller.get_api_list(@service) end)
  end

  defp enter(:execute_with_config, config), do: Executor.execute_with_config!(request(), config)
  defp enter(:sync_call, config), do: Executor.sync_call(request(), config)

  defp enter(:hook, config) do
    hook = {Functions, :before, [fn request, _config -> {:ok, request, config} end]}
    Executor.execute_with_config!(request(), %{config() | before_execute: hook})
  end

  defp source(:push), do: :push
  defp source(:pull), do: :pull
  defp source(_entry), do: :direct

  defp refused?(entry, answer, function) when entry in [:add, :update],
    do: answer == {:error, {:mfa_not_allowed, function}}

  defp refused?(:batch_add, answer, _function), do: answer == {:error, :all_invalid}
  defp refused?(:push, answer, _function), do: match?({:error, {:validation_failed, [_]}}, answer)
  defp refused?(:pull, answer, _function), do: answer == []
  defp refused?(_executed, answer, _function), do: answer.error == "Internal Server Error"
end
