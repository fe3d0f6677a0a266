defmodule PhoenixGenApi.DiagnosticsClusterTest do
  # Real nodes: a service that comes and goes, and one in client mode.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias PhoenixGenApi.{Await, ConfigDb, Diagnostics}
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.Test.Cluster

  @moduletag :capture_log
  @moduletag timeout: 120_000

  test "a call flow tells a connected node from one that is gone" do
    {_peer, node} = peer = Cluster.start_peer()

    :ok =
      ConfigDb.add(%FunConfig{
        service: "far",
        request_type: "up",
        nodes: [node],
        mfa: {String, :upcase, []},
        arg_types: %{"text" => :string}
      })

    on_exit(fn -> ConfigDb.delete("far", "up") end)
    sent = %{service: "far", request_type: "up", request_id: "1", args: %{"text" => "a"}}

    assert %{reachable_nodes: [^node], unreachable_nodes: []} = Diagnostics.call_flow("far", "up")
    assert %{verdict: :runs} = Diagnostics.inspect_request(sent)
    assert Diagnostics.health_check().checks.node.status == :ok
    assert node in Diagnostics.cluster_view().connected_nodes
    assert PhoenixGenApi.Executor.execute_params(sent).result == "A"

    :ok = Cluster.stop_peer(peer)
    Await.until(fn -> PhoenixGenApi.NodeSelector.node_status(node) == :down end)
    flow = Diagnostics.call_flow("far", "up")
    assert %{reachable_nodes: [], unreachable_nodes: [^node]} = flow
    flow = Diagnostics.inspect_request(sent)
    assert %{verdict: :refused, refused_by: :node_selection} = flow
    assert flow.client_gets == PhoenixGenApi.Executor.execute_params(sent).error

    assert [%{status: :down, connected?: false, services: ["far"]}] =
             for(%{node: ^node} = seen <- Diagnostics.cluster_view().nodes, do: seen)
  end

  test "a node in client mode reports its health, figures and traces without a gateway" do
    peer = Cluster.start_peer(app: [client_mode: true, admin_actions: [:enable_tracing]])
    call = &Cluster.call(peer, Diagnostics, &1, &2)

    assert %{status: :ok, mode: :client, checks: %{phoenix_gen_api: gateway}} =
             call.(:health_check, [])

    assert gateway == %{status: :ok, mode: :client}
    assert %{phoenix_gen_api: %{client_mode: true, config_db: nil}} = call.(:statistics, [])
    assert %{native: native, processes: [_ | _]} = call.(:debug_report, [])
    assert native == %{}
    assert %{config: nil, error: :not_running} = call.(:call_flow, ["far", "up"])
    sent = %{service: "far", request_type: "up", request_id: "1"}
    assert %{verdict: :refused, error: :not_running} = call.(:inspect_request, [sent])
    assert call.(:list_call_flows, []) == []
    assert %{mode: :client, services: services} = call.(:cluster_view, [])
    assert services == %{}
    assert {:ok, %{traced: _}} = call.(:trace_processes, [:code_server])

    for {print, arguments} <- [
          cache_status: [],
          pool_status: [],
          health_print: [],
          stats_print: [],
          debug_print: [],
          cluster_print: [],
          flows_print: [],
          call_flow_print: ["far", "up"],
          inspect_print: [sent]
        ] do
      # What runs there by way of :erpc prints here.
      {_peer, node} = peer
      text = capture_io(fn -> assert :erpc.call(node, PhoenixGenApi, print, arguments) == :ok end)
      assert text != ""
    end
  end
end
