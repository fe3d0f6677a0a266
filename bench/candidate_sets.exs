Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)

defmodule Bench.CandidateSets do
  @moduledoc """
  Functions with `nodes: :service` against the same with a fixed list of the same nodes, in every mode: a node
  chosen and a call counted on it, and whole requests.
  """

  import Bench.Harness

  alias Bench.Gateway
  alias PhoenixGenApi.{CandidateSet, Circuits, Executor, NodeSelector, ServiceSets}
  alias PhoenixGenApi.Structs.Response

  @rounds [rounds: 41, round_ms: 20]

  def run do
    figures = for count <- [3, 100], mode <- modes(), do: compare_both(count, mode)
    figures(List.flatten(figures) ++ [changes()])
  end

  defp modes,
    do: [:random, :round_robin, :hash, {:hash, "key"}, {:sticky, "key"}, :least_busy, :weighted]

  defp compare_both(count, mode) do
    [chosen(count, mode), executed(count, mode)]
  end

  # Every node up, many keys.
  defp chosen(count, mode) do
    nodes = Gateway.nodes(count)
    weights = Map.new(Enum.with_index(nodes, 1))
    {list, set} = plans(nodes, mode, weights, "chosen")

    requests =
      for n <- 1..100, do: Gateway.request(request_id: "r#{n}", args: %{"key" => "k#{n}"})

    called = fn plan ->
      fn request ->
        {:ok, node, counter} = NodeSelector.pick(plan, request)
        counter |> Circuits.begin_call() |> Circuits.end_call(node, counter, :success)
      end
    end

    if mode in [:hash, {:hash, "key"}, {:sticky, "key"}] do
      node = fn plan -> fn request -> elem(NodeSelector.pick(plan, request), 1) end end
      assert_same("#{inspect(mode)}", node.(list), node.(set), requests)
    end

    results = compare([{"list", called.(list)}, {"set", called.(set)}], requests, @rounds)
    times("`#{inspect(mode)}` among #{count} nodes: one chosen, a call begun and ended", results)
    figure("#{inspect(mode)} among #{count}, chosen and counted", results)
  end

  # All requests run on this node, as the others are draining, weigh nothing or are none of the key's.
  defp executed(count, mode) do
    others = for n <- 2..count, do: :"other#{n}@10.0.0.#{n}"
    nodes = [node() | others]
    weights = Map.new(others, &{&1, 0})
    config = fn nodes -> config(nodes, mode, weights, "executed#{count}") end
    drained? = mode in [:random, :round_robin, :least_busy]

    for {type, set?} <- [{"list", false}, {"set", true}] do
      store(%{config.(nodes) | request_type: type}, set?, nodes)
    end

    if drained?, do: for(other <- others, do: :ok = NodeSelector.drain(other, local: true))
    key = own_key(nodes)

    request = fn type ->
      Gateway.request(
        service: "executed#{count}",
        request_type: type,
        request_id: key,
        args: %{"key" => key}
      )
    end

    {list, set} = {request.("list"), request.("set")}
    execute = fn request -> fn _ -> %Response{success: true} = Executor.execute!(request) end end
    alternatives = [{"list", execute.(list)}, {"set", execute.(set)}]
    results = compare(alternatives, [:once], @rounds)
    times("`#{inspect(mode)}` among #{count} nodes: `Executor.execute!/1`, here", results)
    if drained?, do: for(other <- others, do: :ok = NodeSelector.undrain(other, local: true))
    figure("#{inspect(mode)} among #{count}, executed", results)
  end

  defp own_key(nodes) do
    plan = Gateway.plan(Gateway.config(service: "keys", nodes: nodes, choose_node_mode: :hash))
    keys = Stream.map(1..100_000, &"key#{&1}")

    Enum.find(keys, fn key ->
      match?(
        {:ok, node, _} when node == node(),
        NodeSelector.pick(plan, Gateway.request(request_id: key))
      )
    end)
  end

  defp plans(nodes, mode, weights, service) do
    config = config(nodes, mode, weights, "#{service}#{length(nodes)}")
    type = "#{:erlang.phash2(mode)}"

    {store(%{config | request_type: "list" <> type}, false, nodes),
     store(%{config | request_type: "set" <> type}, true, nodes)}
  end

  defp config(nodes, mode, weights, service) do
    Gateway.config(
      service: service,
      nodes: nodes,
      choose_node_mode: if(mode == :weighted, do: {:weighted, weights}, else: mode),
      mfa: {String, :upcase, []},
      arg_types: %{"key" => :string},
      arg_orders: ["key"],
      check_permission: false
    )
  end

  defp store(config, false, _nodes), do: Gateway.plan(config)

  defp store(config, true, nodes) do
    :ok = CandidateSet.put(ServiceSets.of_service(config.service), nodes)
    Gateway.plan(%{config | nodes: :service})
  end

  defp changes do
    {:ok, set} = CandidateSet.new()
    nodes = Gateway.nodes(100)

    results =
      compare(
        [{"put", fn nodes -> CandidateSet.put(set, nodes) end}],
        [nodes, tl(nodes)],
        @rounds
      )

    times("a change of 100 members", results)
    {"a change of 100 members", {:ns, result(results, "put").median}, nil}
  end

  defp figure(text, results),
    do: {text <> ", set against list", {:times, ratio(results, "set", "list")}, {:at_most, 1.05}}
end

Bench.CandidateSets.run()
