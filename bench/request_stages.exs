Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)
Code.require_file("support/baseline.ex", __DIR__)

defmodule Bench.RequestStages do
  @moduledoc "Lookup, permission, three arguments and one of ten nodes: what a request pays."

  import Bench.Harness

  alias Bench.{Gateway, Baseline}
  alias PhoenixGenApi.{ArgumentHandler, ConfigDb, NodeSelector}
  alias PhoenixGenApi.Structs.Request

  def run do
    configs = for {service, type} <- Gateway.names(1_000), do: config(service, type, :hash)

    random =
      for {service, type} <- Gateway.names(1_000), do: config(service, "any_" <> type, :random)

    {:ok, 2_000} = ConfigDb.batch_add(configs ++ random)

    plan = Baseline.plan(&Baseline.three_scalars/1, Gateway.nodes(10))

    for config <- configs ++ random,
        do: Baseline.store(config.service, config.request_type, nil, plan)

    by_hash = configs |> Enum.take_random(100) |> Enum.map(&request/1)
    at_random = random |> Enum.take_random(100) |> Enum.map(&request/1)

    assert_same("by hash", &library/1, &by_hash/1, by_hash, &shape/1)
    assert_same("at random", &library/1, &at_random/1, at_random, &shape/1)
    refusals()

    ets = ets(configs, plan)
    assert_same("by hash, ETS", &by_hash/1, &by_hash_ets(ets, &1), by_hash)

    hash =
      compare(
        [
          {"library", &library/1},
          {"BEAM only", &by_hash/1},
          {"BEAM only, table in ETS", &by_hash_ets(ets, &1)}
        ],
        by_hash
      )

    times("all four stages, `:hash`", hash)
    random = compare([{"library", &library/1}, {"BEAM only", &at_random/1}], at_random)
    times("all four stages, `:random`", random)

    stages(hd(by_hash), hd(at_random))

    figures([
      {"four stages, `:hash`", {:ns, result(hash, "library").median}, {:at_most, 600}},
      {"four stages, `:hash`, against BEAM only", {:times, ratio(hash, "library", "BEAM only")},
       {:at_most, 0.7}},
      {"four stages, `:hash`, against BEAM only with the table in ETS",
       {:times, ratio(hash, "library", "BEAM only, table in ETS")}, nil},
      {"four stages, `:random`, against BEAM only",
       {:times, ratio(random, "library", "BEAM only")}, {:at_most, 1.3}}
    ])
  end

  defp config(service, type, mode),
    do: Gateway.config(service: service, request_type: type, choose_node_mode: mode)

  defp request(config) do
    id = Base.encode16(:crypto.strong_rand_bytes(16), case: :lower)

    Gateway.request(
      request_id: id,
      service: :binary.copy(config.service),
      request_type: :binary.copy(config.request_type)
    )
  end

  defp library(%Request{service: service, request_type: type, version: version} = request) do
    with {:ok, plan} <- ConfigDb.fetch(service, type, version),
         true <- permitted?(plan, request),
         {:ok, arguments} <- ArgumentHandler.convert(plan, request),
         {:ok, node, counted} <- NodeSelector.pick(plan, request) do
      {:ok, plan, arguments, node, counted}
    end
  end

  # The permission stage of the library.
  defp permitted?(_plan, request), do: is_binary(request.user_id) and request.user_id != ""

  defp by_hash(%Request{service: service, request_type: type, version: version} = request) do
    with {:ok, plan} <- Baseline.fetch(service, type, version),
         true <- Baseline.permitted?(request),
         {:ok, arguments} <- Baseline.convert(plan, request),
         {:ok, node, counted} <- Baseline.pick_by_hash(plan, request) do
      {:ok, plan, arguments, node, counted}
    end
  end

  # A table that can be changed while requests run.
  defp ets(configs, plan) do
    table = :ets.new(:plans, [:set, :public, read_concurrency: true])

    for config <- configs,
        do: :ets.insert(table, {{config.service, config.request_type, nil}, plan})

    table
  end

  defp by_hash_ets(
         table,
         %Request{service: service, request_type: type, version: version} = request
       ) do
    with [{_name, plan}] <- :ets.lookup(table, {service, type, version}),
         true <- Baseline.permitted?(request),
         {:ok, arguments} <- Baseline.convert(plan, request),
         {:ok, node, counted} <- Baseline.pick_by_hash(plan, request) do
      {:ok, plan, arguments, node, counted}
    end
  end

  defp at_random(%Request{service: service, request_type: type, version: version} = request) do
    with {:ok, plan} <- Baseline.fetch(service, type, version),
         true <- Baseline.permitted?(request),
         {:ok, arguments} <- Baseline.convert(plan, request),
         {:ok, node, counted} <- Baseline.pick_at_random(plan, request) do
      {:ok, plan, arguments, node, counted}
    end
  end

  # The two hash differently, so that the nodes themselves need not be the same.
  defp shape({:ok, _plan, arguments, node, _counted}), do: {arguments, node in Gateway.nodes(10)}
  defp shape(other), do: other

  # Neither side is quick because it looks away.
  defp refusals do
    {:ok, plan} = ConfigDb.fetch("service_1", "get_thing_1", nil)
    good = Gateway.request().args

    for args <- [
          %{good | "age" => 151},
          %{good | "name" => <<255>>},
          %{good | "active" => nil},
          Map.put(good, "x", 1),
          Map.delete(good, "age")
        ] do
      {:error, _} = ArgumentHandler.convert(plan, Gateway.request(args: args))
      {:error, _} = Baseline.three_scalars(args)
    end

    {:error, :not_found} = ConfigDb.fetch("service_1", "no_such", nil)
    {:error, :not_found} = Baseline.fetch("service_1", "no_such", nil)
    false = permitted?(plan, Gateway.request(user_id: nil))
    false = Baseline.permitted?(Gateway.request(user_id: nil))
  end

  defp stages(by_hash, at_random) do
    {:ok, plan} = ConfigDb.fetch(by_hash.service, by_hash.request_type, nil)
    {:ok, random} = ConfigDb.fetch(at_random.service, at_random.request_type, nil)
    {:ok, own} = Baseline.fetch(by_hash.service, by_hash.request_type, nil)

    stage = fn title, a, b ->
      times(title, compare([{"library", a}, {"BEAM only", b}], [by_hash]))
    end

    stage.(
      "lookup alone",
      &ConfigDb.fetch(&1.service, &1.request_type, nil),
      &Baseline.fetch(&1.service, &1.request_type, nil)
    )

    stage.("permission alone", &permitted?(plan, &1), &Baseline.permitted?/1)

    stage.(
      "three arguments alone",
      &ArgumentHandler.convert(plan, &1),
      &Baseline.convert(own, &1)
    )

    stage.(
      "one of ten nodes by `:hash` alone",
      &NodeSelector.pick(plan, &1),
      &Baseline.pick_by_hash(own, &1)
    )

    stage.(
      "one of ten nodes by `:random` alone",
      &NodeSelector.pick(random, &1),
      &Baseline.pick_at_random(own, &1)
    )
  end
end

Bench.RequestStages.run()
