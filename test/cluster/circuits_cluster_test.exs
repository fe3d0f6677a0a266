defmodule PhoenixGenApi.CircuitsClusterTest do
  # Circuits between functions and real nodes that hang, die and come back.
  use PhoenixGenApi.Test.OwnVM

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.{Await, Circuits, ConfigDb, Executor, NodeSelector, Telemetry}
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Test.{Functions, Options}
  alias PhoenixGenApi.Test.Cluster

  @moduletag :capture_log

  setup_all do
    {_peer, well} = Cluster.start_peer()
    %{well: well}
  end

  setup do
    # As good as never: tests end it themselves, see `cool_down/1`.
    Options.set(:circuit_breaker, threshold: 3, cooldown_ms: 3_600_000)
    parent = self()
    id = "circuits_cluster_test"
    change = [:phoenix_gen_api, :worker_pool, :circuit_breaker]
    tell = fn event, _, meta, _ -> send(parent, {List.last(event), meta.node}) end
    Telemetry.attach_many(id, [change ++ [:open], change ++ [:close]], tell)

    on_exit(fn ->
      Telemetry.detach_all(id)
      ConfigDb.clear()
    end)
  end

  # Stored, as circuits of functions that nobody holds may be forgotten.
  defp config(nodes, function, arguments, fields \\ []) do
    config =
      struct!(
        %FunConfig{
          service: "remote",
          request_type: "t#{System.unique_integer([:positive])}",
          nodes: nodes,
          mfa: {Functions, function, arguments},
          timeout: 60_000
        },
        fields
      )

    :ok = ConfigDb.add(config)
    config
  end

  # Calls of that function no longer wait for their node, or do again. Its circuits stay as they are.
  defp hurry(config), do: :ok = ConfigDb.add(%{config | timeout: 200})
  defp take_time(config), do: :ok = ConfigDb.add(config)

  defp request(config, fields \\ []) do
    fields = [request_type: config.request_type] ++ fields
    struct!(%Request{request_id: "r1", service: "remote", user_id: "ann"}, fields)
  end

  defp run(config, fields \\ []), do: Executor.execute!(request(config, fields))
  defp timed_out, do: error("Request timed out after 200ms", true)
  defp refused, do: error("No service node available", true)

  # What was sent to the node and has run there.
  defp asked(found \\ []) do
    receive do
      {:asked, node} -> asked([node | found])
    after
      0 -> found
    end
  end

  defp circuit(config),
    do: Enum.find(NodeSelector.circuits(), %{}, &(&1.request_type == config.request_type))

  defp state(config), do: circuit(config)[:state]
  defp cool_down(node), do: Circuits.probe_now(node)

  # Each config with a request that the hash modes send to the node of the test.
  defp at_once(configs, numbers, fun) do
    Enum.zip(configs, numbers)
    |> Enum.map(fn {config, n} ->
      Task.async(fn -> fun.(config, request_id: "r#{n}", user_id: "u#{n}") end)
    end)
    |> Task.await_many(:infinity)
  end

  test "a node that hangs is sent no more than the threshold, and one call per cool-down" do
    {_, node} = peer = Cluster.start_peer()
    config = config([node], :told, [:well, self()], mfa: {Functions, :told, [:r, :well, self()]})
    assert run(config) == ok(:well)
    assert asked() == [node]

    wake = Cluster.suspend(peer)
    hurry(config)
    for _ <- 1..3, do: assert(run(config) == timed_out())
    assert_received {:open, ^node}
    # None of them waits for the node, or it would time out.
    for _ <- 1..100, do: assert(run(config) == refused())

    cool_down(node)
    for expected <- [timed_out(), refused(), refused()], do: assert(run(config) == expected)
    assert_received {:open, ^node}
    assert asked() == []

    wake.()
    take_time(config)
    cool_down(node)
    assert run(config) == ok(:well)
    assert_received {:close, ^node}
    for _ <- 1..20, do: assert(run(config) == ok(:well))
    # The node is gone when all it has sent has come.
    Cluster.stop_peer(peer)
    # And up to four before: the three and the probe, unless it heard first that they are over.
    assert length(asked()) in 21..25
    refute_received _
  end

  test "other nodes take over from one that hangs, in every mode of node selection", %{well: well} do
    {_, node} = peer = Cluster.start_peer()
    nodes = [node, well]
    both = fn -> nodes end

    configs =
      [
        [],
        [choose_node_mode: :round_robin],
        [choose_node_mode: :hash],
        [choose_node_mode: {:hash, "user_id"}],
        [choose_node_mode: {:sticky, :user_id}],
        [choose_node_mode: :least_busy],
        [choose_node_mode: {:weighted, %{node => 100}}],
        [choose_node_mode: {Functions, :choose, [fn nodes, _request -> nodes end]}],
        [nodes: {Functions, :run, [both]}, choose_node_mode: :random],
        [nodes: {Functions, :run, [both]}, choose_node_mode: :hash]
      ]
      |> Enum.map(&config(nodes, :node_name, [], [choose_node_mode: :random] ++ &1))

    # A request that the hash modes send to the node that will hang.
    prefers = fn config ->
      Enum.find(1..1_000, fn n ->
        sent = request(config, request_id: "r#{n}", user_id: "u#{n}")
        match?({:ok, [^node | _]}, NodeSelector.get_nodes(config, sent))
      end)
    end

    numbers = for config <- configs, do: prefers.(config)
    wake = Cluster.suspend(peer)

    at_once(configs, numbers, fn config, sent ->
      hurry(config)
      Await.until(fn -> run(config, sent) && state(config) == :open end)
      take_time(config)
      mode = inspect({config.nodes, config.choose_node_mode})
      for _ <- 1..10, do: assert(%Response{result: ^well} = run(config, sent), mode)
      assert {:ok, [^well]} = NodeSelector.get_nodes(config, request(config, sent))
    end)

    for _ <- configs, do: assert_received({:open, ^node})
    refute_received {:open, _}
    wake.()
    cool_down(node)

    at_once(configs, numbers, fn config, sent ->
      # A sticky value stays with the node that took over; others bring the first one back.
      Await.until(fn ->
        n = System.unique_integer([:positive])
        run(config, request_id: "r#{n}", user_id: "u#{n}")
        state(config) == nil
      end)

      # The hash modes return with the node.
      if config.choose_node_mode in [:hash, {:hash, "user_id"}] do
        for _ <- 1..5, do: assert(%Response{result: ^node} = run(config, sent))
      end
    end)

    for _ <- configs, do: assert_received({:close, ^node})
    refute_received {:close, _}
  end

  test "calls that lose their node open its circuit, a node that is merely down does not" do
    name = Cluster.node_name("back")
    peer = Cluster.start_peer(name: name)
    config = config([name], :wait_for, [self()], timeout: :infinity)
    calls = for _ <- 1..3, do: Task.async(fn -> run(config) end)
    for _ <- 1..3, do: assert_receive({:running, _pid, ^name}, 30_000)
    Cluster.stop_peer(peer)
    lost = error("Service temporarily unavailable", true, executed: "unknown")
    assert Task.await_many(calls, :infinity) == [lost, lost, lost]
    assert_received {:open, ^name}

    assert {:error, {:all_nodes_unavailable, [{^name, :down}]}} =
             NodeSelector.get_nodes(config, request(config))

    # Not another one opens, however often it is found to be down.
    other = config([name], :node_name, [])
    for _ <- 1..5, do: assert(run(other) == refused())
    Cluster.start_peer(name: name)
    Await.until(fn -> NodeSelector.node_status(name) == :up end)
    assert run(other) == ok(name)
    # Nobody has to wait for that when the node is back.
    Await.until(fn -> circuit(config)[:retry_in_ms] == 0 end)
    probe = Task.async(fn -> run(config) end)
    assert_receive {:running, function, ^name}, 30_000
    assert run(config) == refused()
    send(function, {:return, :well})
    assert Task.await(probe, :infinity) == ok(:well)
    assert_received {:close, ^name}
  end

  test "a node that comes back is probed at once by a single call" do
    name = Cluster.node_name("restarted")
    peer = Cluster.start_peer(name: name)
    config = config([name], :wait_for, [self()], timeout: :infinity)
    # More than the threshold are lost in the outage.
    calls = for _ <- 1..10, do: Task.async(fn -> run(config) end)
    for _ <- 1..10, do: assert_receive({:running, _pid, ^name}, 30_000)
    Cluster.stop_peer(peer)
    for %{success: false, can_retry: true} <- Task.await_many(calls, :infinity), do: :ok
    assert_received {:open, ^name}
    for _ <- 1..5, do: assert(run(config) == refused())

    Cluster.start_peer(name: name)
    Await.until(fn -> circuit(config)[:retry_in_ms] == 0 end)
    probe = Task.async(fn -> run(config) end)
    assert_receive {:running, function, ^name}, 30_000
    assert run(config) == refused()
    send(function, {:return, :well})
    assert Task.await(probe, :infinity) == ok(:well)
    assert_received {:close, ^name}
  end

  test "a probe whose caller is killed is released for the next call" do
    {_, node} = peer = Cluster.start_peer()
    config = config([node], :node_name, [])
    wake = Cluster.suspend(peer)
    hurry(config)
    for _ <- 1..3, do: assert(run(config) == timed_out())
    take_time(config)
    cool_down(node)
    probe = spawn(fn -> run(config) end)
    Await.until(fn -> state(config) == :half_open end)
    Process.exit(probe, :kill)
    wake.()
    # Long before the circuit could be forgotten.
    Await.until(fn -> run(config) == ok(node) end)
    assert_received {:close, ^node}
  end

  test "a permission callback is not asked on a node whose circuit is open", %{well: well} do
    {_, node} = peer = Cluster.start_peer()
    callback = {Functions, :told, [true, self()]}
    nodes = [node, well]

    config =
      config(nodes, :node_name, [], permission_callback: callback, choose_node_mode: :round_robin)

    wake = Cluster.suspend(peer)
    hurry(%{config | permission_callback: nil})
    Await.until(fn -> run(config) && state(config) == :open end)
    take_time(config)
    for _ <- 1..10, do: assert(run(config) == ok(well))
    assert asked() == List.duplicate(well, 10)
    wake.()
  end

  test "a node that hangs in its permission callback opens its circuit", %{well: well} do
    {_, node} = peer = Cluster.start_peer()
    callback = {Functions, :told, [true, self()]}

    config =
      config([node, well], :node_name, [],
        permission_callback: callback,
        hook_timeout: 200,
        choose_node_mode: {Functions, :choose, [fn nodes, _request -> nodes end]}
      )

    wake = Cluster.suspend(peer)
    Await.until(fn -> run(config) == ok(well) && state(config) == :open end)
    assert_received {:open, ^node}
    asked()
    # From now on nobody waits for it.
    for _ <- 1..5, do: assert(run(config) == ok(well))
    assert asked() == List.duplicate(well, 5)
    wake.()
  end

  test "a node whose circuit opens while its permission callback runs gives way to another", %{
    well: well
  } do
    {_, node} = peer = Cluster.start_peer()
    options = [choose_node_mode: {Functions, :choose, [fn nodes, _request -> nodes end]}]
    config = config([node, well], :node_name, [], options)

    asking = %{
      config
      | permission_callback: {Functions, :told_late, [self()]},
        hook_timeout: 60_000
    }

    call = Task.async(fn -> Executor.execute_with_config!(request(config), asking) end)
    assert_receive {:running, callback, ^node}, 30_000
    wake = Cluster.suspend(peer)
    hurry(config)
    for _ <- 1..3, do: run(config)
    assert_received {:open, ^node}
    wake.()
    send(callback, {:return, true})
    assert Task.await(call, :infinity) == ok(well)
  end

  test "retries go to nodes whose circuit is closed", %{well: well} do
    {_, node} = peer = Cluster.start_peer()
    fields = [retry: {:all_nodes, 1}, retry_on: [:timeout], choose_node_mode: :round_robin]
    # Enough for the node that is well.
    fields = [timeout: 1_000] ++ fields
    config = config([node, well], :node_name, [], fields)
    wake = Cluster.suspend(peer)
    for _ <- 1..12, do: assert(run(config) == ok(well))
    assert_received {:open, ^node}
    wake.()
  end
end
