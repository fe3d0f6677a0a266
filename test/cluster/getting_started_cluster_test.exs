defmodule PhoenixGenApi.GettingStartedClusterTest do
  # The service of guides/getting_started.md on two nodes, through the changes that the guide makes to it,
  # with this node as the gateway.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, ConfigDb, DocBlocks, Offers, Service}
  alias PhoenixGenApi.Test.{Cluster, Offering}

  import Offering, only: [run: 3]

  @moduletag :capture_log

  @service "warehouse"
  # As in the guide, whose module does not exist here.
  @api Module.concat([:Warehouse, :Stock])

  setup do
    Cluster.start_distribution()

    on_exit(fn ->
      Await.until(fn -> Offers.Store.up(@service) == [] end)
      for service <- Offers.Store.services(), do: Offers.Sources.superseded(service)
      Await.until(fn -> Offers.Store.services() == [] end)
      ConfigDb.clear()
    end)

    [first, changed, versions] =
      for %{code: "defmodule Warehouse.Stock" <> _ = code} <-
            DocBlocks.blocks(File.read!("guides/getting_started.md")),
          do: code

    %{first: first, changed: changed, versions: versions}
  end

  # What a restart does: the clean stop, then the new code and the offer.
  defp redeploy(peer, code) do
    :ok = Offering.stop(peer)
    deploy(peer, code)
  end

  defp deploy(peer, code) do
    Cluster.call(peer, Code, :put_compiler_option, [:ignore_module_conflict, true])
    {{:module, @api, _binary, _last}, _} = Cluster.call(peer, Code, :eval_string, [code])
    child = %{Service.child_spec(apis: [@api]) | id: :offer}
    {:ok, _pid} = Cluster.call(peer, Offering, :start_child, [child])
    :ok = Offering.await(peer, @service)
  end

  defp answers(args, version) do
    responses = for _ <- 1..8, do: run(@service, "stock", args: args, version: version)
    for response <- responses, do: assert(response.success, inspect(response))
    responses |> Enum.map(& &1.result) |> Enum.uniq() |> Enum.sort()
  end

  test "a second node, a second instance, a changed function and a new version", guide do
    [a, b] = peers = Cluster.start_peers(for(_ <- 1..2, do: Offering.options([])))
    [node_a, node_b] = for {_, node} <- peers, do: node
    tea = %{item: "tea", pieces: 12}

    deploy(a, guide.first)
    assert answers(%{"item" => "tea"}, nil) == [Map.put(tea, :node, node_a)]

    deploy(b, guide.first)
    both = Enum.sort(for node <- [node_a, node_b], do: Map.put(tea, :node, node))
    assert answers(%{"item" => "tea"}, nil) == both

    redeploy(b, guide.changed)
    moved = Map.merge(tea, %{place: "Hanoi", node: node_b})
    assert answers(%{"item" => "tea"}, nil) == Enum.sort([Map.put(tea, :node, node_a), moved])

    redeploy(a, guide.changed)
    redeploy(b, guide.versions)
    both = Enum.sort([moved, %{moved | node: node_a}])
    assert answers(%{"item" => "tea"}, "1.0.0") == both

    # Half of the nodes have it, and it is the default.
    several = %{pieces: %{"tea" => 12, "coffee" => 7}, node: node_b}
    assert answers(%{"items" => ["tea", "coffee"]}, nil) == [several]

    redeploy(a, guide.versions)
    both = Enum.sort([several, %{several | node: node_a}])
    assert answers(%{"items" => ["tea", "coffee"]}, "2.0.0") == both

    for peer <- peers, do: Cluster.stop_peer(peer)
  end
end
