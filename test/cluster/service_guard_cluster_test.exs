defmodule PhoenixGenApi.ServiceGuardClusterTest do
  # Guarded service nodes, with this node as the gateway.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, Config, ConfigDb, ConfigPuller, ConfigPusher, Executor}
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.ServiceGuard
  alias PhoenixGenApi.Structs.{FunConfig, Request, ServiceConfig}
  alias PhoenixGenApi.Test.{Cluster, Functions}

  @moduletag :capture_log

  @guarded [client_mode: true, service_guard: true]
  @listings [
    client_mode: true,
    service_guard: [
      listings: [{Books.Directory, :functions, [:gw]}, {Books.Directory, :version}]
    ]
  ]

  setup do
    Cluster.start_distribution()

    on_exit(fn ->
      ConfigPuller.delete(["books", "remote"])
      for type <- ["t", "forged"], do: ConfigDb.delete("remote", type)
      Application.delete_env(:phoenix_gen_api, :gen_api)
      :ok = Config.load()
    end)
  end

  defp fun(node, function, fields \\ []) do
    struct!(
      %FunConfig{
        service: "remote",
        request_type: "t",
        nodes: [node],
        mfa: {Functions, function, []}
      },
      fields
    )
  end

  defp run(config),
    do:
      Executor.execute_with_config!(
        %Request{request_id: "r1", request_type: "t", service: "remote"},
        config
      )

  defp pushed(peer, configs, version \\ "1") do
    {_pid, node} = peer
    push = ConfigPusher.from_service_config("remote", [node], configs, config_version: version)
    {:ok, :accepted} = Cluster.call(peer, ConfigPusher, :push, [node(), push])
  end

  test "a guarded node runs what it has pushed, and refuses a forged config" do
    peer = {_pid, node} = Cluster.start_peer(app: @guarded)
    pushed(peer, [fun(node, :node_name)])

    request = %Request{request_id: "r1", request_type: "t", service: "remote"}
    assert %{success: true, result: ^node} = Executor.execute!(request)
    assert RPC.Capabilities.lookup(node) == true

    :ok =
      ConfigDb.add(
        fun(node, :node_and, mfa: {Functions, :node_and, ["x"]}, request_type: "forged")
      )

    refused = Executor.execute!(%{request | request_type: "forged"})
    assert %{success: false, error: "Internal Server Error", can_retry: false} = refused

    Application.put_env(:phoenix_gen_api, :gen_api, detail_error: true)
    :ok = Config.load()

    assert Executor.execute!(%{request | request_type: "forged"}).error ==
             "Internal Server Error: PhoenixGenApi.Test.Functions.node_and/1 is not registered by node #{node}"
  end

  test "a guarded node checks permission callbacks, and one it refuses denies" do
    peer = {_pid, node} = Cluster.start_peer(app: @guarded)
    permitted = fun(node, :node_name, permission_callback: {Functions, :told, [true, self()]})
    pushed(peer, [permitted])
    assert run(permitted).result == node
    assert_received {:asked, ^node}

    forged = %{permitted | permission_callback: {Functions, :told, [:ok, self()]}}
    assert run(forged).error == "Permission denied"
    refute_received {:asked, _}
  end

  test "a guarded node decides with the callbacks that it has pushed or lists, in either spelling" do
    request = %Request{request_id: "r1", request_type: "t", service: "remote"}
    peer = {_pid, node} = Cluster.start_peer(app: @guarded)

    for {field, version} <- [permission_callback: "1", check_permission: "2"] do
      ask = fn answer ->
        callback = {Functions, :told, [answer, self()]}
        value = if field == :check_permission, do: {:callback, callback}, else: callback
        fun(node, :node_name, [{field, value}, {:version, version <> ".0.0"}])
      end

      pushed(peer, [ask.(true)], version)
      assert %{result: ^node} = Executor.execute!(%{request | version: version <> ".0.0"})
      assert_received {:asked, ^node}

      # Stored on the gateway by hand, with another argument.
      :ok = ConfigDb.delete("remote", "t", version <> ".0.0")
      :ok = ConfigDb.add(ask.(:ok))
      denied = Executor.execute!(%{request | version: version <> ".0.0"})
      assert denied.error == "Permission denied"
      refute_received {:asked, _}
      :ok = ConfigDb.delete("remote", "t", version <> ".0.0")
    end
  end

  test "a guarded node decides with a callback of its listing in a module without functions" do
    node = Cluster.node_name("policy")
    permitted = fun(node, :node_name, check_permission: {:callback, {Map, :has_key?, [:user_id]}})
    listing = {Function, :identity, [{:ok, [permitted]}]}
    {module, function, args} = listing
    Cluster.start_peer(name: node, app: [client_mode: true, service_guard: [listings: [listing]]])

    :ok =
      ConfigPuller.add([
        %ServiceConfig{
          service: "remote",
          nodes: [node],
          module: module,
          function: function,
          args: args
        }
      ])

    request = %Request{request_id: "r1", request_type: "t", service: "remote"}
    Await.until(fn -> ConfigPuller.get_api_list("remote") end)
    assert Executor.execute!(request).result == node

    # Would grant, too.
    forged = %{permitted | check_permission: {:callback, {Map, :has_key?, [:args]}}}
    assert run(forged).error == "Permission denied"
  end

  test "a guarded node can be pulled from by its listing, and from nothing else" do
    {_pid, node} = Cluster.start_peer(app: @listings)

    source = %ServiceConfig{
      service: "books",
      nodes: [node],
      module: Books.Directory,
      function: :functions,
      args: [:gw],
      version_module: Books.Directory,
      version_function: :version
    }

    :ok = ConfigPuller.add([source])
    Await.until(fn -> ConfigPuller.get_api_list("books") end)
    assert ConfigPuller.get_service_version("books") == "7"

    request = %Request{
      request_id: "r1",
      request_type: "find",
      service: "books",
      args: %{"isbn" => "1"}
    }

    assert Executor.execute!(%{request | version: "1.0.0"}).result.isbn == "1"

    :ok =
      ConfigPuller.add([
        %{source | service: "remote", module: Functions, function: :node_and, args: [{:ok, []}]}
      ])

    Await.until(fn -> ConfigPuller.status().failure_count > 0 end)
    assert ConfigPuller.get_api_list("remote") == nil
  end

  test "a guarded node that restarts knows its functions though nobody pulls from it" do
    peer = {_pid, node} = Cluster.start_peer(app: @listings)

    config = %FunConfig{
      service: "books",
      request_type: "t",
      nodes: [node],
      mfa: {Books.Api, :mine, []},
      arg_types: %{"user_id" => :string}
    }

    request = %Request{
      request_id: "r1",
      request_type: "t",
      service: "books",
      args: %{"user_id" => "ann"}
    }

    assert Executor.execute_with_config!(request, config).result == ["ann"]

    Cluster.stop_peer(peer)
    {_pid, ^node} = Cluster.start_peer(name: node, app: @listings)
    Await.until(fn -> Executor.execute_with_config!(request, config).success end)
  end

  test "a node is asked again whether it is guarded after it was gone" do
    peer = {_pid, node} = Cluster.start_peer(app: [client_mode: true])
    assert run(fun(node, :node_name)).result == node
    assert RPC.Capabilities.lookup(node) == true
    Cluster.stop_peer(peer)
    Await.until(fn -> RPC.Capabilities.lookup(node) == :unknown end)

    {_pid, ^node} = Cluster.start_peer(name: node, app: @guarded)
    Await.until(fn -> run(fun(node, :node_name)).error == "Internal Server Error" end)
    assert RPC.Capabilities.lookup(node) == true
  end

  test "an answer about the guard that came over an earlier connection is not remembered" do
    peer = {_pid, node} = Cluster.start_peer(app: @guarded)

    assert {:ok, false} =
             RPC.Capabilities.discover(node, fn _question ->
               Cluster.stop_peer(peer)
               Cluster.start_peer(name: node, app: @guarded)
               {:return, :none}
             end)

    assert RPC.Capabilities.lookup(node) == :unknown
    assert run(fun(node, :node_name)).error == "Internal Server Error"
  end

  test "an answer about the guard that a node took back before it was read is not remembered" do
    {_pid, node} = Cluster.start_peer(app: @guarded)

    assert {:ok, false} =
             RPC.Capabilities.discover(node, fn _question ->
               :ok = :erpc.call(node, RPC.Capabilities, :announce, [])
               # What was sent before has been seen to.
               :erpc.call(node, :sys, :get_state, [{RPC.Capabilities, node()}])
               {:return, :none}
             end)

    assert RPC.Capabilities.lookup(node) == :unknown
    assert run(fun(node, :node_name)).error == "Internal Server Error"
  end

  test "a gateway that hangs while a node's application starts is told when it is back" do
    gateway = {_pid, gateway_node} = Cluster.start_peer(app: [client_mode: false])
    service = {_pid, node} = Cluster.start_peer()
    request = %Request{request_id: "r1", request_type: "t", service: "remote"}
    call = [request, fun(node, :node_name)]
    run = fn -> Cluster.call(gateway, Executor, :execute_with_config!, call) end
    assert run.().result == node
    assert Cluster.call(gateway, RPC.Capabilities, :lookup, [node]) == false

    wake = Cluster.suspend(gateway)
    # More than the connection holds.
    large = String.duplicate("x", 1_000_000)
    to = {:nobody, gateway_node}

    Await.until(fn ->
      Cluster.call(service, :erlang, :send, [to, large, [:nosuspend]]) == :nosuspend
    end)

    for {key, value} <- @guarded do
      :ok = Cluster.call(service, Application, :put_env, [:phoenix_gen_api, key, value])
    end

    {:ok, _} = Cluster.call(service, Application, :ensure_all_started, [:phoenix_gen_api])
    :ok = Cluster.call(service, :logger, :set_primary_config, [:level, :none])
    wake.()
    Await.until(fn -> run.().error == "Internal Server Error" end)
  end

  test "a node whose application starts late says so, and is asked again" do
    peer = {_pid, node} = Cluster.start_peer()
    assert run(fun(node, :node_name)).result == node
    assert RPC.Capabilities.lookup(node) == false

    for {key, value} <- @guarded do
      :ok = Cluster.call(peer, Application, :put_env, [:phoenix_gen_api, key, value])
    end

    {:ok, _} = Cluster.call(peer, Application, :ensure_all_started, [:phoenix_gen_api])
    :ok = Cluster.call(peer, :logger, :set_primary_config, [:level, :none])
    Await.until(fn -> run(fun(node, :node_name)).error == "Internal Server Error" end)
  end

  test "a node without the library is called as ever" do
    {_pid, node} = Cluster.start_peer(code: false)
    assert run(%{fun(node, :x) | mfa: {:lists, :seq, [1, 3]}}).result == [1, 2, 3]
    assert RPC.Capabilities.lookup(node) == false
  end

  test "a gateway asks a node again after the process that remembers the answers has died" do
    {_pid, node} = Cluster.start_peer(app: @guarded)
    assert run(fun(node, :node_name)).error == "Internal Server Error"
    Await.restart(RPC.Capabilities)
    assert run(fun(node, :node_name)).error == "Internal Server Error"
    assert RPC.Capabilities.lookup(node) == true
  end

  describe "the log" do
    test "of a service node has its refusals, with the gateway's name" do
      peer = {_pid, node} = Cluster.start_peer(app: @guarded)
      :ok = Cluster.call(peer, :logger, :remove_handler, [:default])
      :ok = Cluster.call(peer, :logger, :set_primary_config, [:level, :warning])
      :ok = Cluster.call(peer, :logger, :add_handler, [:teller, Functions, %{config: self()}])
      assert run(fun(node, :node_name)).error == "Internal Server Error"

      assert_receive {:logged, ^node, text}, 30_000

      assert text ==
               "service guard: refused a call from #{node()}: " <>
                 "PhoenixGenApi.Test.Functions.node_name/0 is not registered by node #{node}"
    end

    test "of a gateway has what became of a push from elsewhere" do
      peer = {_pid, node} = Cluster.start_peer(app: @guarded)
      :ok = :logger.add_handler(:teller, Functions, %{config: self()})
      on_exit(fn -> :logger.remove_handler(:teller) end)
      pushed(peer, [fun(node, :node_name)])
      here = node()
      assert_receive {:logged, ^here, "push of service remote 1 accepted, 1 functions"}, 30_000
    end
  end

  test "what a guarded node has registered can be seen there" do
    peer = {_pid, node} = Cluster.start_peer(app: @guarded)
    pushed(peer, [fun(node, :node_name)])
    assert Cluster.call(peer, ServiceGuard, :registered, []) == [{Functions, :node_name, 0}]
  end
end
