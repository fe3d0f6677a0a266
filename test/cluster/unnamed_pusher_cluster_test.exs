defmodule PhoenixGenApi.UnnamedPusherClusterTest do
  # Its VM has no name until the test gives it one.
  use PhoenixGenApi.Test.OwnVM

  import ExUnit.CaptureLog

  alias PhoenixGenApi.{Await, ConfigDb, ConfigPusher, ConfigReceiver}
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig}
  alias PhoenixGenApi.Test.Cluster

  @moduletag :capture_log

  test "a pusher on a node without a name serves its own gateway, and the others once the node has a name" do
    refute Node.alive?()
    name = Cluster.node_name("gw")
    gateway = Cluster.start_peer(name: name, app: [client_mode: false], connect: false)

    push = %PushConfig{
      service: "shop",
      nodes: [node()],
      config_version: "1",
      fun_configs: [
        %FunConfig{
          service: "shop",
          request_type: "say",
          nodes: [node()],
          mfa: {String, :upcase, ["x"]}
        }
      ]
    }

    log =
      capture_log(fn ->
        pusher =
          start_supervised!(
            {ConfigPusher, gateways: [node(), name], push_config: push, retry_interval: 10}
          )

        Await.until(fn -> ConfigReceiver.verify("shop", "1") == {:ok, :matched} end)

        # The other one is tried again and again.
        {_, link, _, _} = pusher |> Supervisor.which_children() |> List.keyfind(name, 0)
        Await.until(fn -> :sys.get_state(link).backoff > 50 end)
        assert ConfigPusher.push(name, push) == {:error, {:badrpc, :noconnection}}
      end)

    assert length(String.split(log, "distribution is off")) == 2
    refute log =~ "failed"
    assert {:ok, %{nodes: [:nonode@nohost]}} = ConfigDb.get("shop", "say")

    node = Cluster.start_distribution()

    for_all = fn fun ->
      Await.until(fn -> fun.(&apply/3) and fun.(&Cluster.call(gateway, &1, &2, &3)) end)
    end

    for_all.(fn call -> call.(ConfigReceiver, :verify, ["shop", "1"]) == {:ok, :matched} end)

    for_all.(fn call ->
      match?({:ok, %{nodes: [^node]}}, call.(ConfigDb, :get, ["shop", "say"]))
    end)
  end
end
