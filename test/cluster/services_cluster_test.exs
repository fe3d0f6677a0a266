defmodule PhoenixGenApi.ServicesClusterTest do
  # What a gateway says of services whose nodes come, go and cannot be connected, and when it is ready.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, ConfigDb, ConfigFailed, ConfigPuller, ConfigPusher, ConfigReceiver}
  alias PhoenixGenApi.{Diagnostics, Executor, ServiceNodes}
  alias PhoenixGenApi.RPC.Connection
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, Request, ServiceConfig}
  alias PhoenixGenApi.Test.{Cluster, Events, Functions, Gateways, LogLines}

  @moduletag :capture_log

  setup do
    LogLines.forward()
    ConfigFailed.clear()
    on_exit(&ConfigDb.clear/0)
    %{service: "service-#{System.unique_integer([:positive])}"}
  end

  defp config(service, nodes, fields \\ []) do
    struct!(
      %FunConfig{
        service: service,
        request_type: "t",
        nodes: nodes,
        mfa: {Functions, :node_name, []}
      },
      fields
    )
  end

  # The next line with that text.
  defp line(text) do
    assert_receive {:logged, level, line, _meta} when is_binary(line)
    if line =~ text, do: {level, line}, else: line(text)
  end

  defp health, do: Diagnostics.health_check().checks.phoenix_gen_api.services

  test "a service gains its first node and loses its last one, in a line and an event each", %{
    service: service
  } do
    Events.forward(
      for(event <- [:up, :down], do: [:phoenix_gen_api, :service, event]),
      fn event, _measurements, meta -> {List.last(event), meta.service, meta.nodes} end
    )

    {_, first} = one = Cluster.start_peer()
    {_, second} = other = Cluster.start_peer()
    :ok = ConfigDb.add(config(service, [first]))
    assert {:info, gained} = line("service #{service} has its first node")
    assert gained =~ Atom.to_string(first)
    assert_receive {:up, ^service, [^first]}

    # Another one is no news, and neither is the loss of one of two.
    :ok = ConfigDb.add(config(service, [second, first], request_type: "other"))
    Cluster.stop_peer(one)
    Cluster.stop_peer(other)
    assert {:warning, lost} = line("service #{service} has lost its last node")
    # The second, if it has been tried again by now.
    reasons = ["connection_closed", "no node of that name runs on its host"]
    assert Enum.any?(reasons, &(lost =~ "#{first} (#{&1})"))
    assert lost =~ "#{second} (connection_closed)"
    assert_receive {:down, ^service, _nodes}
    assert %{status: :warning, without_nodes: [^service], reason: reason} = health()
    assert reason == "no node: #{service}"

    {_, ^first} = Cluster.start_peer(name: first)
    assert {:info, _line} = line("service #{service} has its first node")
    assert %{status: :ok, without_nodes: []} = health()

    ConfigDb.clear()
    Await.until(fn -> :ets.info(ServiceNodes, :size) == 0 end)
  end

  test "nodes that are lost while the functions of their service change are lost", %{
    service: service
  } do
    {_, node} = peer = Cluster.start_peer()
    :ok = ConfigDb.add(config(service, [node]))
    assert {:info, _line} = line("service #{service} has its first node")
    # It hears of both at once.
    :sys.suspend(ServiceNodes)
    :ok = ConfigDb.add(config(service, [node, :never@nowhere], request_type: "other"))
    Cluster.stop_peer(peer)
    :sys.resume(ServiceNodes)
    assert {:warning, _line} = line("service #{service} has lost its last node")
  end

  test "a node with another cookie is named with the reason, by requests and by pulls", %{
    service: service
  } do
    {_, node} = Cluster.start_peer(connect: false)
    Cluster.start_distribution()
    :erlang.set_cookie(node, :another)
    :ok = ConfigDb.add(config(service, [node]))

    Await.until(fn ->
      Executor.execute!(%Request{request_id: "r1", service: service, request_type: "t"})
      ServiceNodes.without() == [service]
    end)

    assert {:warning, line} = line("service #{service} has no node that can be reached")
    refusal = "it runs, but does not accept this node: are the cookies the same?"
    assert line =~ "#{node} (#{refusal})"

    source = %ServiceConfig{
      service: service <> "-pulled",
      nodes: [node],
      module: Functions,
      function: :node_name
    }

    ConfigPuller.add([source])
    on_exit(fn -> ConfigPuller.delete([source]) end)
    assert {:warning, line} = line("pull of service #{service}-pulled failed")
    assert line =~ "#{node}: not reachable (#{refusal})"
  end

  test "why a node cannot be connected is told by its host" do
    Cluster.start_distribution()

    assert Connection.diagnose(Cluster.node_name("nobody")) ==
             "no node of that name runs on its host"

    assert Connection.diagnose(:nohost) == "its name has no host"
    assert Connection.diagnose(:"a@no-such-host.invalid") =~ "its host"
  end

  test "a function of a push that its node does not have is stored, with a warning", %{
    service: service
  } do
    {_, node} = peer = Cluster.start_peer(app: [client_mode: true])
    missing = config(service, [node], mfa: {Functions, :no_such, []}, request_type: "missing")

    push = %PushConfig{
      service: service,
      nodes: [node],
      config_version: "1",
      fun_configs: [config(service, [node]), missing]
    }

    assert ConfigReceiver.push(push) == {:ok, :accepted}
    assert {:warning, line} = line("#{service} has functions that #{node} does not")
    assert line =~ "PhoenixGenApi.Test.Functions.no_such/0"
    refute line =~ "node_name"

    assert [%{request_type: "missing", reason: ["undefined_function: " <> _], source: :push}] =
             ConfigFailed.list(service: service)

    assert {:ok, _config} = ConfigDb.get(service, "missing")

    # The node itself refuses to push it.
    assert Cluster.call(peer, ConfigPusher, :push, [node(), push]) ==
             {:error, {:undefined_functions, ["PhoenixGenApi.Test.Functions.no_such/0"]}}
  end

  describe "a gateway is ready" do
    defp ready?(gateway), do: Gateways.call(gateway, PhoenixGenApi, :ready?, [])

    test "when it has tried every pull that is configured" do
      Cluster.start_distribution()

      source = %{
        service: "slow",
        nodes: [node()],
        module: Functions,
        function: :wait_for,
        args: [self()]
      }

      env = [gen_api: [service_configs: [source], pull_timeout: 60_000]]
      name = Cluster.node_name("gw")
      gateway = Cluster.start_peer(name: name, app: [client_mode: false] ++ env)
      assert_receive {:running, listing, _node}
      refute ready?(gateway)
      send(listing, {:return, {:error, :not_yet}})
      Await.until(fn -> ready?(gateway) end)

      # What happens later is for health to say.
      Gateways.call(gateway, ConfigPuller, :pull, [])
      assert_receive {:running, _listing, _node}
      assert ready?(gateway)
      :ok = Gateways.call(gateway, Application, :stop, [:phoenix_gen_api])
      refute ready?(gateway)
    end

    test "when it knows what the others know" do
      [first] = Gateways.start(1)
      Await.until(fn -> ready?(first) end)
      {:ok, :accepted} = Gateways.push(first, Gateways.push_config("shop", "1", ["a"]))
      second = Gateways.start_one(Cluster.node_name("gw"))
      Gateways.heal([first, second])
      Await.until(fn -> ready?(second) end)
      assert Gateways.knows(first) == Gateways.knows(second)
    end

    test "on a service node while the application runs" do
      {_, node} = Cluster.start_peer(app: [client_mode: true])
      assert :erpc.call(node, PhoenixGenApi, :ready?, [])
    end
  end
end
