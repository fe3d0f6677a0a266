defmodule PhoenixGenApi.RetryClusterTest do
  # Retries between real nodes.
  use PhoenixGenApi.Test.OwnVM

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.{Await, Executor, NodeSelector, Telemetry}
  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.Test.{Functions, Options}
  alias PhoenixGenApi.Test.Cluster

  @moduletag :capture_log

  setup_all do
    nodes = for {_, node} <- Cluster.start_peers([[], [], []]), do: node
    %{nodes: nodes}
  end

  setup do
    Options.set(:retry, budget: :infinity)
    parent = self()
    id = "retry_cluster_test"
    event = [:phoenix_gen_api, :executor, :retry]

    Telemetry.attach_many(
      id,
      [event, event ++ [:exhausted]],
      fn event, m, meta, _ ->
        send(parent, {List.last(event), m, meta})
      end,
      nil
    )

    on_exit(fn -> Telemetry.detach_all(id) end)
  end

  defp config(nodes, function, arguments, fields) do
    struct!(
      %FunConfig{
        service: "remote",
        request_type: "t#{System.unique_integer([:positive])}",
        nodes: nodes,
        mfa: {Functions, function, arguments}
      },
      fields
    )
  end

  defp request(fields \\ []),
    do: struct!(%Request{request_id: "r1", request_type: "t", service: "remote"}, fields)

  defp run(config, fields \\ []), do: Executor.execute_with_config!(request(fields), config)

  # The nodes that were asked, in order; each said so.
  defp asked(found \\ []) do
    receive do
      {:asked, node} -> asked([node | found])
    after
      0 -> Enum.reverse(found)
    end
  end

  # The nodes that each of them asked.
  defp at_once(items, fun) do
    items
    |> Enum.map(fn item -> Task.async(fn -> fun.(item) && asked() end) end)
    |> Task.await_many(:infinity)
  end

  # A function that names its node, then fails.
  defp failing(nodes, fields),
    do:
      config(nodes, :told, [{:error, :again}, self()], [request_info: false] ++ fields)
      |> Map.update!(:mfa, fn {m, f, a} -> {m, f, [:request | a]} end)

  defp in_order(nodes), do: {Functions, :choose, [fn _nodes, _request -> nodes end]}

  test "all_nodes asks the candidates in turn and starts over with the first", %{nodes: nodes} do
    config = failing(nodes, retry: {:all_nodes, 3}, choose_node_mode: :hash)
    {:ok, order} = NodeSelector.get_nodes(config, request())
    assert run(config) == error("Internal Server Error")
    assert asked() == order ++ [hd(order)]

    modes = [
      :random,
      :least_busy,
      :round_robin,
      {:weighted, %{hd(nodes) => 5}},
      {:sticky, "user_id"}
    ]

    tried =
      at_once(modes, fn mode ->
        run(failing(nodes, retry: {:all_nodes, 3}, choose_node_mode: mode), user_id: "ann")
      end)

    for {mode, [first, second, third, first_again]} <- Enum.zip(modes, tried) do
      assert Enum.sort([first, second, third]) == Enum.sort(nodes), inspect(mode)
      assert first_again == first, inspect(mode)
    end

    run(%{config | retry: 3, choose_node_mode: in_order(Enum.reverse(nodes))})
    assert asked() == Enum.reverse(nodes) ++ [List.last(nodes)]

    run(%{
      config
      | retry: 3,
        nodes: {Functions, :run, [fn -> nodes end]},
        choose_node_mode: :hash
    })

    assert asked() == order ++ [hd(order)]
  end

  test "a round robin goes on with the next node", %{nodes: [a, b, c] = nodes} do
    config = failing(nodes, retry: 1, choose_node_mode: :round_robin)
    for _ <- 1..3, do: run(config)
    assert asked() == [a, b, c, a, b, c]
  end

  test "same_node asks the node chosen first", %{nodes: nodes} do
    for asked <-
          at_once([:random, :round_robin, :hash], fn mode ->
            run(failing(nodes, retry: {:same_node, 3}, choose_node_mode: mode))
          end) do
      assert [node, node, node, node] = asked
    end
  end

  test "the telemetry events of retries name the nodes", %{nodes: [a, b, c] = nodes} do
    run(failing(nodes, retry: {:all_nodes, 1}, choose_node_mode: in_order(nodes)))
    expected = %{request_id: "r1", mode: :all_nodes, type: :remote, nodes: [b, c, a]}
    assert_received {:retry, %{attempt: 1, backoff_ms: backoff}, ^expected}
    assert backoff in 50..150

    run(failing([a], retry: {:same_node, 1}))
    expected = %{request_id: "r1", mode: :same_node, type: :remote, nodes: [a]}
    assert_received {:retry, %{attempt: 1}, ^expected}

    assert_received {:exhausted, %{},
                     %{mode: :same_node, last_error: ":again", reason: :attempts}}
  end

  defp running do
    assert_receive {:running, pid, node}, 30_000
    {pid, node}
  end

  test "a node that dies during the call gives way to the next one", %{nodes: [a | _]} do
    {_, node} = peer = Cluster.start_peer()
    fields = [retry: 1, choose_node_mode: in_order([node, a]), timeout: :infinity]
    config = config([node, a], :wait_for, [self()], fields)
    call = Task.async(fn -> run(config) end)
    {_function, ^node} = running()
    Cluster.stop_peer(peer)
    {function, ^a} = running()
    send(function, {:return, :done})
    assert Task.await(call, :infinity) == ok(:done)
  end

  test "a lost connection is not retried where retry_on does not list it", %{nodes: [a | _]} do
    {_, node} = peer = Cluster.start_peer()
    fields = [retry: 1, choose_node_mode: in_order([node, a]), retry_on: [:timeout, :exception]]
    config = config([node, a], :wait_for, [self()], fields)
    call = Task.async(fn -> run(config) end)
    running()
    Cluster.stop_peer(peer)

    assert Task.await(call, :infinity) ==
             error("Service temporarily unavailable", true, executed: "unknown")

    refute_received {:retry, _, _}
  end

  test "same_node waits for its node to come back, and for no other", %{nodes: [a | _]} do
    name = Cluster.node_name("again")
    peer = Cluster.start_peer(name: name)
    fields = [retry: {:same_node, 1}, choose_node_mode: in_order([name, a]), timeout: :infinity]
    config = config([name, a], :wait_for, [self()], fields)
    call = Task.async(fn -> run(config) end)
    running()
    Cluster.stop_peer(peer)

    assert Task.await(call, :infinity) ==
             error("Service temporarily unavailable", true, executed: "unknown")

    assert_received {:retry, _, %{nodes: [^name]}}
    assert_received {:exhausted, _, %{last_error: "node down: :noconnection", reason: :attempts}}

    Cluster.start_peer(name: name)
    Await.until(fn -> NodeSelector.node_status(name) == :up end)
    call = Task.async(fn -> run(config) end)
    {_function, ^name} = running()
    # Only the connection is lost.
    true = Node.disconnect(name)
    {function, ^name} = running()
    send(function, {:return, :done})
    assert Task.await(call, :infinity) == ok(:done)
  end

  test "a node that cannot be connected is no attempt", %{nodes: [a, b, _]} do
    [dead, gone] = for _ <- 1..2, do: Cluster.node_name("dead")

    config =
      failing([dead, a, gone, b], retry: 1, choose_node_mode: in_order([dead, a, gone, b]))

    assert run(config) == error("Internal Server Error")
    assert asked() == [a, b]
    for node <- [dead, gone], do: assert(NodeSelector.node_status(node) == :down)
    assert_received {:exhausted, _, %{reason: :attempts}}
  end

  test "without a node left the response is that of the last attempt" do
    {_, node} = peer = Cluster.start_peer()
    config = config([node], :wait_for, [self()], retry: 5, timeout: :infinity)
    call = Task.async(fn -> run(config) end)
    running()
    Cluster.stop_peer(peer)

    assert Task.await(call, :infinity) ==
             error("Service temporarily unavailable", true, executed: "unknown")

    assert_received {:exhausted, _, %{reason: :no_node}}
    # None from the start is no failed attempt.
    assert run(config) == error("No service node available", true)
    refute_received {:exhausted, _, _}
  end

  test "each attempt has the whole timeout, and ends on its node", %{nodes: nodes} do
    config = config(nodes, :wait_for, [self()], retry: 2, retry_on: [:timeout], timeout: 400)
    started = System.monotonic_time(:millisecond)
    assert run(config) == error("Request timed out after 400ms", true)
    assert System.monotonic_time(:millisecond) - started >= 1_200
    functions = for _ <- 1..3, do: running()
    assert functions |> Enum.map(&elem(&1, 1)) |> Enum.sort() == Enum.sort(nodes)

    for {pid, _node} <- functions do
      monitor = Process.monitor(pid)
      assert_receive {:DOWN, ^monitor, :process, ^pid, reason}, 30_000
      assert reason in [:killed, :noproc]
    end
  end
end
