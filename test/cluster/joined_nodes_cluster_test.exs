defmodule PhoenixGenApi.JoinedNodesClusterTest do
  # Nodes of a service that each push themselves, to several gateways.
  use ExUnit.Case, async: true

  import PhoenixGenApi.Test.Gateways

  alias PhoenixGenApi.{Await, ConfigDb, ConfigPusher, ConfigReceiver, ConfigSync}
  alias PhoenixGenApi.ConfigSync.{JoinedNodes, PushStore}
  alias PhoenixGenApi.Test.Cluster

  @moduletag :capture_log

  defp start_service(gateways, name \\ Cluster.node_name("svc")) do
    service = Cluster.start_peer(app: [client_mode: true], connect: false, name: name)
    for {_, name} <- gateways, do: true = call(service, Node, :connect, [name])
    service
  end

  # As the node itself would push it.
  defp of(node, version \\ "1", types \\ ["say"]) do
    push = push_config("shop", version, types, nodes: [node])
    %{push | fun_configs: Enum.map(push.fun_configs, &%{&1 | nodes: [node]})}
  end

  defp push_from({_, name} = service, {_, gateway}, opts \\ []) do
    opts = [timeout: 60_000] ++ opts
    call(service, ConfigPusher, :push, [gateway, of(name), opts])
  end

  defp nodes(gateway, type \\ "say") do
    case call(gateway, ConfigDb, :get, ["shop", type]) do
      {:ok, %{nodes: nodes}} -> Enum.sort(nodes)
      {:error, :not_found} -> nil
    end
  end

  defp verify(gateway, version \\ "1"),
    do: call(gateway, ConfigReceiver, :verify, ["shop", version])

  test "each node that pushes the same with its own name joins on every gateway" do
    [a, b] = gateways = start(2)
    [one, two] = services = for _ <- 1..2, do: start_service(gateways)
    names = Enum.sort(for {_, name} <- services, do: name)

    assert push_from(one, a) == {:ok, :accepted}
    assert push_from(two, b) == {:ok, :accepted}
    for gateway <- gateways, do: assert(nodes(gateway) == names)

    for service <- services, gateway <- gateways do
      assert push_from(service, gateway) == {:ok, :skipped, :version_matches}
      assert verify(gateway) == {:ok, :matched}
      assert Enum.sort(call(gateway, ConfigReceiver, :get_pushed_config, ["shop"]).nodes) == names
    end

    # By force, too.
    assert push_from(one, a, force: true) == {:ok, :accepted}
    for gateway <- gateways, do: assert(nodes(gateway) == names)

    # One that starts later, or anew.
    c = start_one(Cluster.node_name("gw3"))
    heal([a, b, c])
    Await.until(fn -> nodes(c) == names end)
    :ok = call(b, :application, :stop, [:phoenix_gen_api])
    :ok = call(b, :application, :start, [:phoenix_gen_api])
    Await.until(fn -> nodes(b) == names end)
  end

  test "any number of nodes that push at once through all gateways have all joined" do
    gateways = start(3)
    names = for n <- 10..29, do: :"node#{n}@nohost"

    names
    |> Enum.zip(Stream.cycle(gateways))
    |> Enum.map(fn {name, gateway} -> Task.async(fn -> push(gateway, of(name)) end) end)
    |> Task.await_many(:infinity)
    |> Enum.each(&assert &1 == {:ok, :accepted})

    for gateway <- gateways, do: Await.until(fn -> nodes(gateway) == names end)
  end

  test "nodes that have joined on both sides of a split are on all gateways afterwards" do
    [a, b] = gateways = start(2)
    assert push(a, of(:one@nohost)) == {:ok, :accepted}
    cut([a], [b])
    assert push(a, of(:two@nohost)) == {:ok, :accepted}
    assert push(b, of(:three@nohost)) == {:ok, :accepted}
    assert nodes(a) == [:one@nohost, :two@nohost]
    heal(gateways)

    for gateway <- gateways,
        do: Await.until(fn -> nodes(gateway) == [:one@nohost, :three@nohost, :two@nohost] end)
  end

  test "gateways agree on the nodes after splits, pushes and deletions in any order" do
    seed = String.to_integer(System.get_env("JOIN_SEED") || "#{:rand.uniform(1_000_000)}")
    :rand.seed(:exsss, seed)
    gateways = start(3)

    Enum.reduce(1..80, false, fn step, split? ->
      context = "JOIN_SEED=#{seed}, step #{step}"

      case :rand.uniform(10) do
        1 when not split? ->
          {left, right} = gateways |> Enum.shuffle() |> Enum.split(1)
          cut(left, right)
          true

        2 ->
          heal(gateways)
          agree(gateways, context)
          false

        3 ->
          :ok = call(Enum.random(gateways), ConfigReceiver, :delete_pushed_service, ["shop"])
          split?

        _ ->
          node = :"node#{:rand.uniform(5)}@nohost"
          pushed = of(node, Enum.random(["1", "2"]))
          answer = push(Enum.random(gateways), pushed)
          assert answer in [{:ok, :accepted}, {:ok, :skipped, :version_matches}], context
          if not split?, do: for(gateway <- gateways, do: assert(node in nodes(gateway), context))
          split?
      end
    end)

    heal(gateways)
    agree(gateways, "JOIN_SEED=#{seed}")
  end

  defp agree(gateways, context) do
    state = &{versions(&1), nodes(&1), call(&1, JoinedNodes, :rows, [])}
    Await.until(fn -> match?([_], gateways |> Enum.map(state) |> Enum.uniq()) end)
  rescue
    error ->
      flunk("#{context}: #{Exception.message(error)}: #{inspect(Enum.map(gateways, &nodes/1))}")
  end

  test "a node that joins undoes no rollback and no deletion that was made elsewhere" do
    [a, b] = gateways = start(2)
    assert push(a, of(:one@nohost, "2")) == {:ok, :accepted}
    cut([a], [b])
    assert push(a, of(:one@nohost, "1", ["old"])) == {:ok, :accepted}
    assert push(b, of(:two@nohost, "2")) == {:ok, :accepted}
    heal(gateways)
    assert {%{"shop" => "1"}, _, _} = await_agreement(gateways)
    for gateway <- gateways, do: assert(nodes(gateway, "old") == [:one@nohost])

    cut([a], [b])
    :ok = call(a, ConfigReceiver, :delete_pushed_service, ["shop"])
    assert push(b, of(:two@nohost, "1", ["old"])) == {:ok, :accepted}
    heal(gateways)
    assert {%{}, functions, _} = await_agreement(gateways)
    assert functions == %{}
    for gateway <- gateways, do: assert(call(gateway, JoinedNodes, :rows, []) == %{})
  end

  test "a node that has joined leaves the functions some time after it disconnected, and may come back" do
    [a, b] = gateways = start(2, service: [forget_ms: 300])
    one = {_, one_name} = start_service(gateways)
    two = {_, two_name} = start_service(gateways)
    both = Enum.sort([one_name, two_name])
    assert push_from(one, a) == {:ok, :accepted}
    assert push_from(two, a) == {:ok, :accepted}
    Cluster.stop_peer(one)
    Cluster.stop_peer(two)

    for gateway <- gateways do
      # The one that the push itself lists stays.
      Await.until(fn -> nodes(gateway) == [one_name] end)
      assert verify(gateway) == {:ok, :matched}
    end

    # What one gateway has forgotten does not come back from another.
    cut([a], [b])
    heal(gateways)
    for gateway <- gateways, do: assert(nodes(gateway) == [one_name])

    two = start_service(gateways, two_name)
    assert push_from(two, b) == {:ok, :accepted}
    for gateway <- gateways, do: assert(nodes(gateway) == both)

    # One that was never seen.
    assert push(a, of(:nowhere@nohost)) == {:ok, :accepted}
    for gateway <- gateways, do: Await.until(fn -> nodes(gateway) == both end)
  end

  test "a crash of the process that forgets nodes makes no difference but in time" do
    [a] = start(1, service: [forget_ms: 300])
    assert push(a, of(:one@nohost)) == {:ok, :accepted}
    old = call(a, Process, :whereis, [ConfigSync.NodeExpiry])
    assert push(a, of(:two@nohost)) == {:ok, :accepted}
    call(a, Process, :exit, [old, :kill])
    Await.until(fn -> nodes(a) == [:one@nohost] end)
  end

  test "what is deleted on one gateway comes back there with the next push, and stays on the others" do
    [a, b] = start(2)
    assert push(a, of(:one@nohost)) == {:ok, :accepted}
    assert push(a, of(:two@nohost)) == {:ok, :accepted}
    :ok = call(a, ConfigDb, :clear, [])
    assert verify(a) == {:ok, :mismatch, "1"}
    assert verify(b) == {:ok, :matched}

    # Nothing but a push to it.
    assert push(b, of(:three@nohost)) == {:ok, :accepted}
    assert nodes(a) == nil
    assert push(a, of(:two@nohost)) == {:ok, :accepted}

    for gateway <- [a, b] do
      assert nodes(gateway) == [:one@nohost, :three@nohost, :two@nohost]
      assert verify(gateway) == {:ok, :matched}
    end
  end

  test "a gateway of an older version takes the pushes, and hears nothing of nodes that join" do
    [a, b] = start(2)

    older = """
    defmodule PhoenixGenApi.ConfigSync.AntiEntropy do
      def answer(1, _from, {:accept, service, vector}) do
        :persistent_term.put(:accepted, {service, length(vector.live)})
        {:ok, :ok}
      end

      def answer(1, _from, {:compare, _summary}), do: {:ok, :same}
      def answer(1, _from, _other), do: {:error, :unknown_request}
      def run(_node), do: :ok
    end
    """

    call(b, Code, :put_compiler_option, [:ignore_module_conflict, true])
    call(b, Code, :compile_string, [older])
    assert push(a, of(:one@nohost)) == {:ok, :accepted}
    assert call(b, :persistent_term, :get, [:accepted]) == {"shop", 1}
    assert push(a, of(:two@nohost)) == {:ok, :accepted}
    assert nodes(a) == [:one@nohost, :two@nohost]
    assert call(a, ConfigSync.AntiEntropy, :run, [elem(b, 1)]) == :ok
    assert call(a, PushStore, :all_behind, []) == []
    Cluster.stop_peer(b)
  end
end
