defmodule PhoenixGenApi.ConfigTakeoverClusterTest do
  # Where configs with `nodes: :local` come from, between real nodes.
  use ExUnit.Case, async: true

  import PhoenixGenApi.Test.Gateways

  alias PhoenixGenApi.{Await, ConfigDb, ConfigFailed, ConfigPuller, ConfigPusher, ConfigReceiver}
  alias PhoenixGenApi.Structs.ServiceConfig
  alias PhoenixGenApi.Test.Cluster

  @moduletag :capture_log

  @local "nodes: :local is not allowed from another node"
  @refused {:error, {:validation_failed, ["say 0.0.0: " <> @local]}}

  defp start_service(gateways) do
    service =
      Cluster.start_peer(app: [client_mode: true], connect: false, name: Cluster.node_name("svc"))

    for {_, name} <- gateways, do: true = call(service, Node, :connect, [name])
    service
  end

  defp local(version \\ "1") do
    push = push_config("shop", version, ["say"])
    %{push | fun_configs: Enum.map(push.fun_configs, &%{&1 | nodes: :local})}
  end

  test "a service cannot push functions that run on the gateway, whether or not it says who it is" do
    [{_, name} = gateway] = start(1)
    service = start_service([gateway])
    assert call(service, ConfigPusher, :push, [name, local()]) == @refused

    for opts <- [[], [node: nil], [node: name]] do
      anonymous = [name, ConfigReceiver, :push, [local(), opts]]
      assert call(service, :erpc, :call, anonymous) == @refused
      assert call(service, :rpc, :call, anonymous) == @refused
    end

    assert types(gateway, "shop") == []
    assert [%{reason: [@local]} | _] = call(gateway, ConfigFailed, :list, [])

    # The gateway's own code may, by every way.
    assert push(gateway, local()) == {:ok, :accepted}
    assert call(gateway, PhoenixGenApi, :push_config, [local("2"), []]) == {:ok, :accepted}
    assert call(gateway, ConfigPusher, :push, [name, local("3")]) == {:ok, :accepted}
  end

  test "a pull leaves out functions that would run on the gateway, unless they are the gateway's own" do
    [{_, name} = gateway] = start(1)
    {_, service_name} = service = start_service([gateway])
    functions = local().fun_configs ++ push_config("shop", "1", ["other"]).fun_configs

    pull = fn from ->
      source = %ServiceConfig{
        service: "shop",
        nodes: [from],
        module: :erlang,
        function: :list_to_tuple,
        args: [[:ok, functions]]
      }

      :ok = call(gateway, ConfigPuller, :add, [[source]])
    end

    true = call(service, :code, :is_loaded, [:erlang]) != false
    pull.(service_name)
    Await.until(fn -> types(gateway, "shop") == ["other"] end)

    Await.until(fn ->
      match?(
        [%{request_type: "say", reason: [@local], node: ^service_name}],
        call(gateway, ConfigFailed, :list, [[source: :pull]])
      )
    end)

    assert call(gateway, ConfigPuller, :get_api_list, ["shop"]) == ["other"]
    pull.(name)
    Await.until(fn -> types(gateway, "shop") == ["other", "say"] end)
  end

  test "functions of one gateway do not run on another, until its own code says so" do
    [{_, a_name} = a, b] = gateways = start(2)
    assert push(a, local()) == {:ok, :accepted}
    assert {types(a, "shop"), types(b, "shop")} == {["say"], []}
    assert [%{node: ^a_name, reason: [@local]}] = call(b, ConfigFailed, :list, [[source: :push]])

    assert push(b, local()) == {:ok, :accepted}
    await_agreement(gateways)
    for gateway <- gateways, do: assert(types(gateway, "shop") == ["say"])

    for gateway <- gateways do
      assert call(gateway, ConfigReceiver, :verify, ["shop", "1"]) == {:ok, :matched}
      assert push(gateway, local()) == {:ok, :skipped, :version_matches}
    end

    # The one that was refused before it came back is the only refusal.
    assert call(a, ConfigFailed, :list, [[source: :push]]) == []
  end

  test "a function added on one gateway stays there, and is replaced on the others" do
    [a, b] = start(2)
    [say] = push_config("shop", "1", ["say"]).fun_configs
    :ok = call(b, ConfigDb, :add, [%{say | timeout: 1_000}])
    assert push(a, push_config("shop", "1", ["say", "other"])) == {:ok, :accepted}
    assert types(a, "shop") == ["other", "say"]
    assert types(b, "shop") == ["say"]
    assert {:ok, %{timeout: 1_000}} = call(b, ConfigDb, :get, ["shop", "say"])
    assert [%{reason: ["added on this gateway" <> _]}] = call(b, ConfigFailed, :list, [])
  end
end
