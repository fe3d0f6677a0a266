Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)
Code.require_file("support/baseline.ex", __DIR__)

defmodule Bench.NodeSelection do
  @moduledoc "Choosing one node, in every mode, and what moves when a node is added."

  import Bench.Harness

  alias Bench.{Gateway, Baseline}
  alias PhoenixGenApi.NodeSelector

  @keys 200_000

  def run do
    requests = for _ <- 1..100, do: request()
    sizes = for count <- [10, 100, 1_000], do: {count, by_hash(count, requests)}
    modes(requests)
    {moved, ideal} = moved()

    {10, ten} = hd(sizes)

    figures([
      {"rendezvous among 10, a key of 32 bytes", {:ns, result(ten, "NodeSelector.pick/2").median},
       {:at_most, 100}},
      {"rendezvous among 10, against BEAM only",
       {:times, ratio(ten, "NodeSelector.pick/2", "BEAM only")}, nil},
      {"keys moved when an 11th node is added, ideal #{ideal}", moved, nil},
      {"off the ideal, of all keys", {:percent, abs(moved - ideal) * 100 / @keys}, {:at_most, 1}},
      {"off the ideal, of the ideal", {:percent, abs(moved - ideal) * 100 / ideal}, {:at_most, 1}}
    ])
  end

  defp request do
    id = Base.encode16(:crypto.strong_rand_bytes(16), case: :lower)
    Gateway.request(request_id: id, args: %{"key" => "k" <> binary_part(id, 0, 10)})
  end

  defp by_hash(count, requests) do
    plan = plan(count, :hash)
    own = Baseline.plan(nil, Gateway.nodes(count))

    results =
      compare(
        [
          {"NodeSelector.pick/2", &NodeSelector.pick(plan, &1)},
          {"BEAM only", &Baseline.pick_by_hash(own, &1)}
        ],
        requests
      )

    times("`:hash` among #{count} nodes", results)
    results
  end

  defp modes(requests) do
    nodes = Gateway.nodes(10)
    own = Baseline.plan(nil, nodes)
    cursor = :atomics.new(1, signed: false)
    busy = :atomics.new(10, [])
    sticky = :ets.new(:sticky, [:set, :public, read_concurrency: true])
    weights = Map.new(Enum.with_index(nodes, 1))

    bounds =
      weights
      |> Map.take(nodes)
      |> then(&for node <- nodes, do: &1[node])
      |> Enum.scan(&+/2)
      |> List.to_tuple()

    for {mode, baseline} <- [
          {:random, &Baseline.pick_at_random(own, &1)},
          {:round_robin, fn _ -> Baseline.pick_in_turn(own, cursor) end},
          {{:hash, "key"},
           fn %{args: %{"key" => key}} -> Baseline.pick_by_hash(own, %{request_id: key}) end},
          {{:sticky, "key"}, &Baseline.pick_sticky(own, &1, sticky)},
          {:least_busy, fn _ -> Baseline.pick_least_busy(own, busy) end},
          {{:weighted, weights}, fn _ -> Baseline.pick_weighted(own, bounds) end}
        ] do
      plan = plan(10, mode)
      pick = &NodeSelector.pick(plan, &1)
      for request <- requests, do: {:ok, _node, _counted} = pick.(request)
      for request <- requests, do: {:ok, _node, _index} = baseline.(request)

      name =
        if is_tuple(mode) and elem(mode, 0) == :weighted,
          do: "{:weighted, 1 to 10}",
          else: inspect(mode)

      times(
        "`#{name}` among 10 nodes",
        compare([{"library", pick}, {"BEAM only", baseline}], requests)
      )
    end
  end

  # How many of the keys go elsewhere once there is one node more; only to it, and 1 of 11.
  defp moved do
    {before, later} = {plan(10, :hash), plan(11, :hash)}
    added = List.last(Gateway.nodes(11))

    moved =
      Enum.count(1..@keys, fn n ->
        request = Gateway.request(request_id: "request-#{n}")
        {:ok, was, _} = NodeSelector.pick(before, request)
        {:ok, is, _} = NodeSelector.pick(later, request)
        (is == was or is == added) || raise "a key moved between nodes that were there before"
        is != was
      end)

    {moved, round(@keys / 11)}
  end

  defp plan(count, mode) do
    Gateway.plan(
      Gateway.config(
        request_type: "pick_#{count}_#{:erlang.phash2(mode)}",
        nodes: Gateway.nodes(count),
        choose_node_mode: mode
      )
    )
  end
end

Bench.NodeSelection.run()
