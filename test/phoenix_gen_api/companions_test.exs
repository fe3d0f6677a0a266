defmodule PhoenixGenApi.CompanionsTest do
  # What libraries that build on this one make of it: function configs and pushes as the Ash extension
  # generates them, nodes by role as ClusterHelper lists them, and wrapped remote functions as EasyRpc
  # has them. Their documented forms, with names of our own.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{Await, ConfigDb, ConfigPuller, ConfigPusher, ConfigReceiver, Executor}
  alias PhoenixGenApi.{JsonConfig, NodeSelector, Plan}
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, Request, Response, ServiceConfig}

  @moduletag :capture_log

  defmodule ClusterHelper do
    # Roles are any terms.
    def get_nodes(:letters), do: [node()]
    def get_nodes({:shard, 1}), do: [node()]
    def get_nodes(_role), do: []
    def get_nodes(scope, role) when is_atom(scope), do: get_nodes(role)
  end

  defmodule Letter do
    # Actions of a resource: with the arguments in a map, and the request behind them.
    def post(args, %Request{} = request), do: {:ok, Map.put(args, "by", request.user_id)}
    def post(sender, text, tags, %Request{}), do: {:ok, [sender, text, tags]}
    def read(%Request{} = request), do: {:ok, [request.request_type]}
    def edit(args, %Request{}), do: {:ok, args}
    def allowed?(%Request{} = request, role), do: role in (request.user_roles || [])
  end

  defmodule Wrapper do
    # Functions of another node under names of this one: results in tuples, or as they are.
    def get_letter(id), do: call(fn -> {:letter, id} end)
    def get_letter!(id), do: %{id: id}
    def clear_all, do: call(fn -> raise "nothing to clear" end)
    def slow, do: {:error, %RuntimeError{message: "rpc: timeout"}}

    defp call(fun) do
      {:letter, id} = fun.()
      {:ok, %{id: id}}
    rescue
      error -> {:error, error}
    end
  end

  defmodule Supporter do
    # As the extension defines it for a domain. The service is that of the test which asks.
    def get_config(service) do
      {:ok, PhoenixGenApi.CompanionsTest.generated(to_string(service))}
    end

    def get_config_version(_gateway), do: {:ok, "0.0.1"}
  end

  setup do
    %{service: "letters-#{System.unique_integer([:positive])}"}
  end

  # The types to which attributes and arguments of actions are mapped, in both forms: with and
  # without nil.
  @types %{
    "sender_id" => :uuid,
    "text" => [type: :string, max_bytes: 5_000, allow_nil?: true],
    "title" => [type: {:string, 255}, allow_nil?: true],
    "note" => :string,
    "count" => [type: :num, default_value: 0, allow_nil?: true],
    "price" => :num,
    "urgent" => [type: :boolean, default_value: false, allow_nil?: true],
    "sent_at" => [type: :datetime, allow_nil?: true],
    "seen_at" => :naive_datetime,
    "meta" => [type: :map, default_value: %{}, allow_nil?: true],
    "style" => [type: :map, max_items: 50],
    "tags" => [type: :list_string, max_items: 1_000, max_item_bytes: 50],
    "copies" => [type: :list_string, max_items: 1_000, max_item_bytes: 50, allow_nil?: true],
    "numbers" => [type: :list_num, max_items: 1_000],
    "parts" => [type: :list, max_items: 1_000, allow_nil?: true],
    "codes" => {:list_string, 1_000, 50},
    "sizes" => {:list_num, 1_000},
    "rest" => {:list, 1_000},
    "extra" => {:map, 50}
  }

  # What a resource has with every default of the extension, and with everything set.
  def generated(service) do
    [
      %FunConfig{
        request_type: "post_letter",
        service: service,
        nodes: {ClusterHelper, :get_nodes, [:letters]},
        choose_node_mode: :random,
        timeout: 10_000,
        mfa: {Letter, :post, []},
        arg_types: %{
          "sender_id" => :string,
          "text" => [type: :string, allow_nil?: true],
          "tags" => [type: :list_string, max_items: 1_000, max_item_bytes: 50, allow_nil?: true]
        },
        arg_orders: :map,
        response_type: :async,
        check_permission: {:arg, "sender_id"},
        request_info: true,
        version: "0.0.1",
        disabled: false,
        retry: nil
      },
      %FunConfig{
        request_type: "post_letter_in_order",
        service: service,
        nodes: {ClusterHelper, :get_nodes, [{:shard, 1}]},
        choose_node_mode: {:hash, "sender_id"},
        timeout: :infinity,
        mfa: {Letter, :post, []},
        arg_types: %{
          "sender_id" => :string,
          "text" => :string,
          "tags" => {:list_string, 1_000, 50}
        },
        arg_orders: ["sender_id", "text", "tags"],
        response_type: :sync,
        check_permission: {:role, ["clerk"]},
        request_info: true,
        version: "0.0.1",
        disabled: false,
        retry: {:all_nodes, 3}
      },
      # A read action takes nothing.
      %FunConfig{
        request_type: "list_letters",
        service: service,
        nodes: {ClusterHelper, :get_nodes, [:default, :letters]},
        choose_node_mode: :round_robin,
        timeout: 5_000,
        mfa: {Letter, :read, []},
        arg_types: %{},
        arg_orders: :map,
        response_type: :sync,
        check_permission: :any_authenticated,
        request_info: true,
        version: "0.0.1",
        disabled: false,
        retry: 2
      },
      # The callback of a section or an action comes in the place of the permission.
      %FunConfig{
        request_type: "edit_letter",
        service: service,
        nodes: [node()],
        choose_node_mode: :hash,
        timeout: 5_000,
        mfa: {Letter, :edit, []},
        arg_types: @types,
        arg_orders: :map,
        response_type: :sync,
        check_permission: {:callback, {Letter, :allowed?, ["clerk"]}},
        request_info: true,
        version: "0.0.1",
        disabled: false,
        retry: {:same_node, 2}
      },
      # A function of its own without arguments.
      %FunConfig{
        request_type: "list_all",
        service: service,
        nodes: [node()],
        choose_node_mode: :random,
        timeout: 5_000,
        mfa: {Letter, :read, []},
        arg_types: nil,
        arg_orders: nil,
        response_type: :sync,
        check_permission: false,
        request_info: true,
        version: "0.0.1",
        disabled: true,
        retry: nil
      }
    ]
  end

  defp run(service, type, args \\ %{}, fields \\ []) do
    request = %Request{request_id: "r1", service: service, request_type: type, args: args}
    Executor.execute!(struct!(request, fields))
  end

  @good %{
    "sender_id" => "123e4567-e89b-12d3-a456-426614174000",
    "note" => "n",
    "price" => 1.5,
    "seen_at" => "2026-01-01T00:00:00",
    "style" => %{"bold" => true},
    "tags" => ["a"],
    "numbers" => [1, 2.5],
    "codes" => ["x"],
    "sizes" => [1],
    "rest" => [1, "a"],
    "extra" => %{"k" => 1}
  }

  describe "the Ash extension" do
    test "generates configs that are valid as they are", %{service: service} do
      for config <- generated(service) do
        assert FunConfig.validate_with_details(config) == {:ok, config}
        assert {:ok, _plan, _stored} = Plan.compile(config)
      end
    end

    test "has functions called with what they expect", %{service: service} do
      assert ConfigDb.batch_add(generated(service)) == {:ok, 5}
      posted = %{"sender_id" => "ann", "text" => "hi"}
      assert %Response{async: true} = run(service, "post_letter", posted, user_id: "ann")
      assert_receive {:async_call, %Response{success: true, result: result}}
      assert result == %{"sender_id" => "ann", "text" => "hi", "tags" => nil, "by" => "ann"}
      assert run(service, "post_letter", posted, user_id: "bob").code == "forbidden"

      in_order = Map.put(posted, "tags", ["t"])
      clerk = [user_id: "ann", user_roles: ["clerk"]]
      response = run(service, "post_letter_in_order", in_order, clerk)
      assert response.result == ["ann", "hi", ["t"]]

      assert run(service, "list_letters", %{}, user_id: "ann").result == ["list_letters"]
      assert run(service, "list_letters", %{"x" => 1}, user_id: "ann").code == "invalid_arguments"
      assert run(service, "list_all").code == "disabled_function"

      assert run(service, "edit_letter", @good).code == "unauthenticated"
      assert run(service, "edit_letter", @good, user_id: "ann").code == "forbidden"
      assert %Response{success: true, result: edited} = run(service, "edit_letter", @good, clerk)
      assert Map.keys(edited) == Map.keys(@types)

      assert %{"count" => 0, "urgent" => false, "meta" => meta, "text" => nil} = edited
      assert meta == %{}
      assert edited["seen_at"] == ~N[2026-01-01 00:00:00]

      long = String.duplicate("x", 51)

      for {name, value} <- [
            {"sender_id", "x"},
            {"text", String.duplicate("x", 5_001)},
            {"title", String.duplicate("x", 256)},
            {"note", nil},
            {"tags", [long]},
            {"codes", [long]},
            {"numbers", ["1"]},
            {"sent_at", "yesterday"}
          ] do
        response = run(service, "edit_letter", Map.put(@good, name, value), clerk)
        assert %Response{code: "invalid_arguments", details: [%{"path" => path} | _]} = response
        assert String.starts_with?(path, name)
      end
    end

    test "pushes, verifies, and is pulled", %{service: service} do
      push =
        struct(PushConfig, %{
          service: service,
          nodes: [node()],
          config_version: "0.0.1",
          fun_configs: generated(service),
          module: Supporter,
          function: :get_config,
          args: [service],
          version_module: Supporter,
          version_function: :get_config_version,
          version_args: []
        })

      assert ConfigPusher.push(node(), push, []) == {:ok, :accepted}
      assert ConfigPusher.push_on_startup(node(), push, []) == {:ok, :skipped, :version_matches}
      assert ConfigPusher.push(node(), push, force: true) == {:ok, :accepted}
      assert ConfigPusher.verify(node(), service, "0.0.1", []) == {:ok, :matched}
      assert ConfigPusher.verify(node(), service, "0.0.2", []) == {:ok, :mismatch, "0.0.1"}
      assert run(service, "list_letters", %{}, user_id: "ann").result == ["list_letters"]

      Await.until(fn -> ConfigPuller.get_service_version(service) end)
      assert "post_letter" in ConfigPuller.get_api_list(service)
      assert ConfigReceiver.delete_pushed_service(service) == :ok
      assert ConfigPuller.get_services()[service] == nil
    end

    test "is pulled by a gateway that lists it by role", %{service: service} do
      source =
        ServiceConfig.from_map(%{
          service: service,
          nodes: {ClusterHelper, :get_nodes, [:letters]},
          module: Supporter,
          function: :get_config,
          args: [service]
        })

      assert ConfigPuller.add([source]) == :ok
      Await.until(fn -> ConfigPuller.get_api_list(service) end)
      types = Enum.map(generated(service), & &1.request_type)
      assert Enum.sort(ConfigPuller.get_api_list(service)) == Enum.sort(types)
      assert ConfigPuller.delete([service]) == :ok
    end

    test "exports sample requests", %{service: service} do
      ConfigDb.batch_add(generated(service))
      samples = JsonConfig.export_service(service, format: :map)

      assert %{"data" => %{"version" => "0.0.1", "args" => args}} =
               samples["post_letter - post_letter"]

      assert args == %{"sender_id" => "", "text" => "", "tags" => ""}
      assert JSON.decode!(JsonConfig.export_service(service, format: :json)) == samples
    end
  end

  describe "ClusterHelper" do
    test "lists the nodes of a function by role, whatever a role is", %{service: service} do
      for {args, nodes} <- [
            {[:letters], {:ok, [node()]}},
            {[{:shard, 1}], {:ok, [node()]}},
            {[:default, :letters], {:ok, [node()]}},
            {["nobody"], {:error, :no_nodes_available}}
          ],
          mode <- [:random, :round_robin, {:hash, "k"}] do
        config = %FunConfig{
          service: service,
          request_type: "list_letters",
          nodes: {ClusterHelper, :get_nodes, args},
          choose_node_mode: mode,
          mfa: {Letter, :read, []},
          request_info: true
        }

        request = %Request{request_id: "r1", args: %{"k" => "v"}}
        assert NodeSelector.get_nodes(config, request) == nodes
        assert ConfigDb.add(config) == :ok
      end
    end
  end

  describe "EasyRpc" do
    test "has functions of other nodes under names of the gateway", %{service: service} do
      for {type, mfa, arg_types} <- [
            {"get_letter", {Wrapper, :get_letter, []}, %{"id" => :num}},
            {"get_letter!", {Wrapper, :get_letter!, []}, %{"id" => :num}},
            {"clear", {Wrapper, :clear_all, []}, nil},
            {"slow", {Wrapper, :slow, []}, nil}
          ] do
        assert ConfigDb.add(%FunConfig{
                 service: service,
                 request_type: type,
                 nodes: :local,
                 mfa: mfa,
                 arg_types: arg_types,
                 retry: 1
               }) == :ok
      end

      assert run(service, "get_letter", %{"id" => 1}).result == %{id: 1}
      assert run(service, "get_letter!", %{"id" => 1}).result == %{id: 1}

      for type <- ["clear", "slow"] do
        assert %Response{error: "Internal Server Error", code: "internal"} = run(service, type)
      end
    end
  end
end
