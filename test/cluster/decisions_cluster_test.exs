defmodule PhoenixGenApi.DecisionsClusterTest do
  # What an operator decides on one gateway holds on all of them.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{Await, ConfigDb, Decisions, NodeSelector, RateLimiter}
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.Test.{Cluster, Gateways}

  @moduletag :capture_log

  @limit %{key: :user_id, max_requests: 7, window_ms: 60_000}

  defp call(gateway, module, function, args), do: Gateways.call(gateway, module, function, args)

  defp add(gateway, type, fields \\ []) do
    config =
      struct!(
        %FunConfig{
          service: "shop",
          request_type: type,
          nodes: :local,
          mfa: {String, :upcase, []}
        },
        fields
      )

    :ok = call(gateway, ConfigDb, :add, [config])
  end

  defp state(gateway, type, version \\ nil),
    do: gateway |> call(ConfigDb, :get, ["shop", type, version]) |> elem(1) |> state()

  defp state(%FunConfig{}), do: :enabled
  defp state(reason), do: reason

  defp await(gateway, expected, fun), do: Await.until(fn -> fun.(gateway) == expected end)
  defp status(gateway, node), do: call(gateway, NodeSelector, :node_status, [node])
  defp limits(gateway), do: call(gateway, RateLimiter, :get_global_limits, [])

  # The server has taken in whatever was sent to it before.
  defp settle(gateways),
    do: for(gateway <- gateways, do: call(gateway, :sys, :get_state, [Decisions.Server]))

  test "a function disabled on one gateway is disabled on the others, and on one that joins" do
    [one, two] = Gateways.start(2)
    for gateway <- [one, two], do: add(gateway, "find")
    :ok = call(one, ConfigDb, :disable, ["shop", "find"])
    assert state(one, "find") == :disabled
    await(two, :disabled, &state(&1, "find"))

    # Here the function comes after the decision.
    joined = Gateways.start_one(Cluster.node_name("joined"))
    Gateways.heal([one, two, joined])
    Await.until(fn -> call(joined, Decisions.Store, :told, []) != [] end)
    settle([joined])
    assert state(joined, "find") == :not_found
    add(joined, "find")
    assert state(joined, "find") == :disabled

    :ok = call(joined, ConfigDb, :enable, ["shop", "find"])
    for gateway <- [one, two, joined], do: await(gateway, :enabled, &state(&1, "find"))
  end

  test "a gateway that restarts is told again, and does not bring back what was taken back" do
    [one, two] = Gateways.start(2)
    for gateway <- [one, two], type <- ["find", "buy"], do: add(gateway, type)
    for type <- ["find", "buy"], do: :ok = call(one, ConfigDb, :disable, ["shop", type])
    await(two, :disabled, &state(&1, "buy"))

    Gateways.cut([one], [two])
    :ok = call(one, ConfigDb, :enable, ["shop", "buy"])
    :ok = call(two, Application, :stop, [:phoenix_gen_api])
    {:ok, _} = call(two, Application, :ensure_all_started, [:phoenix_gen_api])
    for type <- ["find", "buy"], do: add(two, type)
    assert state(two, "find") == :enabled

    Gateways.heal([one, two])
    await(two, :disabled, &state(&1, "find"))
    settle([one, two])
    for gateway <- [one, two], do: assert(state(gateway, "buy") == :enabled)
  end

  test "of decisions made on both sides of a split the gateways keep the same one" do
    [one, two] = gateways = Gateways.start(2)
    for gateway <- gateways, do: add(gateway, "find")
    Gateways.cut([one], [two])
    :ok = call(one, ConfigDb, :disable, ["shop", "find"])
    :ok = call(two, ConfigDb, :disable, ["shop", "find"])
    # Two have a later word than one.
    :ok = call(two, ConfigDb, :enable, ["shop", "find"])
    Gateways.heal(gateways)
    for gateway <- gateways, do: await(gateway, :enabled, &state(&1, "find"))
  end

  test "with local: true a decision holds on one gateway, until a later one for all" do
    [one, two] = gateways = Gateways.start(2)
    for gateway <- gateways, do: add(gateway, "find")
    :ok = call(one, ConfigDb, :disable, ["shop", "find", [local: true]])
    :ok = call(one, NodeSelector, :drain, [:n1@nowhere, [local: true]])
    :ok = call(one, RateLimiter, :set_global_limits, [[@limit], [local: true]])
    # Whatever had been sent to the others would be there before this is.
    add(one, "buy")
    add(two, "buy")
    :ok = call(one, ConfigDb, :disable, ["shop", "buy"])
    await(two, :disabled, &state(&1, "buy"))
    assert state(two, "find") == :enabled
    assert status(two, :n1@nowhere) == :up
    assert limits(two) == []
    assert {state(one, "find"), status(one, :n1@nowhere)} == {:disabled, :draining}
    assert [%{max_requests: 7}] = limits(one)

    :ok = call(two, ConfigDb, :enable, ["shop", "find"])
    await(one, :enabled, &state(&1, "find"))
    here = for {:here, {key, _}} <- call(one, Decisions.Store, :all, []), do: key
    assert Enum.sort(here) == [:limits, {:node, :n1@nowhere}]
  end

  test "a drained node gets no calls from any gateway, until it goes down" do
    [one, two] = gateways = Gateways.start(2)
    {_, node} = worker = Gateways.start_one(Cluster.node_name("worker"))
    Gateways.heal([worker | gateways])
    :ok = call(one, NodeSelector, :drain, [node])
    for gateway <- gateways, do: await(gateway, :draining, &status(&1, node))
    :ok = call(two, NodeSelector, :undrain, [node])
    for gateway <- gateways, do: await(gateway, :up, &status(&1, node))

    :ok = call(two, NodeSelector, :drain, [node])
    await(one, :draining, &status(&1, node))
    Cluster.stop_peer(worker)
    for gateway <- gateways, do: await(gateway, :down, &status(&1, node))
    settle(gateways)

    # Who joins now is not told to drain the node that comes back.
    {:ok, joined} = {:ok, Gateways.start_one(Cluster.node_name("joined"))}
    :ok = call(one, ConfigDb, :disable, ["shop", "unknown"]) |> then(fn _not_found -> :ok end)
    add(one, "find")
    :ok = call(one, ConfigDb, :disable, ["shop", "find"])
    Gateways.heal([one, two, joined])
    Await.until(fn -> call(joined, Decisions.Store, :told, []) != [] end)
    settle([joined])
    assert status(joined, node) == :up
  end

  test "limits changed at run time hold where they replace the same configured ones" do
    [one, two] = gateways = Gateways.start(2)
    other = Cluster.node_name("other")
    own = %{key: :ip_address, max_requests: 1, window_ms: 1_000}
    different = Gateways.start_one(other, rate_limiter: [global_limits: [own]])
    Gateways.heal([different | gateways])

    :ok = call(one, RateLimiter, :add_global_limit, [@limit])

    for gateway <- gateways,
        do: Await.until(fn -> match?([%{key: :user_id}], limits(gateway)) end)

    Await.until(fn -> call(different, Decisions.Store, :told, []) != [] end)
    settle([different])
    assert [%{key: :ip_address}] = limits(different)

    # It may still decide for itself.
    :ok = call(different, RateLimiter, :add_global_limit, [@limit, [local: true]])
    assert [%{key: :ip_address}, %{key: :user_id}] = limits(different)

    :ok = call(two, RateLimiter, :use_configured_limits, [])
    for gateway <- gateways, do: await(gateway, [], &limits/1)
    Await.until(fn -> match?([%{key: :ip_address}], limits(different)) end)
  end

  test "every gateway knows who has decided, and when" do
    before = System.system_time(:millisecond)
    [{_, name} = one, two] = Gateways.start(2)
    for gateway <- [one, two], do: add(gateway, "find", version: "1.0.0")
    :ok = call(one, ConfigDb, :disable, ["shop", "find", "1.0.0"])
    await(two, :disabled, &state(&1, "find", "1.0.0"))
    assert [{:all, at, ^name, "disable shop find 1.0.0"}] = call(two, Decisions, :all, [])
    assert at in before..System.system_time(:millisecond)
  end

  test "what is no decision, or comes from no gateway, changes nothing" do
    [one, {_, other}] = Gateways.start(2)
    add(one, "find")
    key = {:function, "shop", "find", "0.0.0"}
    row = {key, %{value: :disable, stamp: {9, :x@y}, at: 0}}
    pid = call(one, Process, :whereis, [Decisions.Server])
    tell = &call(one, :erlang, :send, [pid, {Decisions.Server, &1, &2, &3}])
    for message <- [{:some, [row]}, {:all, [row]}], do: tell.(1, :x@y, message)
    tell.(2, other, {:some, [row]})

    odd =
      for {key, value} <- [
            {key, :other},
            {key, nil},
            {{:function, :shop, "find", "0.0.0"}, :disable},
            {{:function, "shop"}, :disable},
            {{:node, "n"}, :drain},
            {{:node, :n@h}, :disable},
            {{:pool, :async_pool}, :resize},
            {:limits, {:limits, [], %{}}},
            {{}, :disable},
            {[], 1}
          ],
          do: {key, %{value: value, stamp: {9, :x@y}, at: 0}}

    odd = odd ++ [{key, %{value: :disable, stamp: 9, at: 0}}, {key, :disable}, :nonsense]

    for message <- [{:some, odd}, {:all, odd}, {:some, :nonsense}, {:all, nil}, {:summary, 1}, 1],
        do: tell.(1, other, message)

    settle([one])
    assert call(one, Process, :whereis, [Decisions.Server]) == pid
    assert state(one, "find") == :enabled
    # The way is open to what is one.
    tell.(1, other, {:some, odd ++ [row]})
    settle([one])
    assert state(one, "find") == :disabled
    assert_raise ArgumentError, fn -> ConfigDb.disable("shop", "find", nil, locl: true) end
  end
end
