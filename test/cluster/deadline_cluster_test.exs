defmodule PhoenixGenApi.DeadlineClusterTest do
  # Deadlines that are over in every state of a request: of every response type, on the gateway, on a
  # node with the library and on one without it.
  use PhoenixGenApi.Test.OwnVM

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.{Await, ConfigDb, Executor, NodeSelector, WorkerPool}
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Test.{Cluster, Functions, Leaks, Options}
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  @moduletag :capture_log

  @types [:sync, :async, :stream, :none]

  # Long enough to come to where it has to be over, also on a machine that does much else.
  @deadline 2_000

  setup_all do
    [{_, a}, {_, b}] = Cluster.start_peers([[app: [client_mode: true]], []])
    %{nodes: [:local, [a], [b]], library: a, bare: b}
  end

  setup do
    Options.set(:retry, budget: :infinity)
  end

  # With a hook that tells what it sees, and would like to change it.
  defp config(nodes, type, mfa, fields) do
    test = self()

    after_hook = fn _request, _config, response ->
      send(test, {:hooked, self(), response})
      Response.sync_response("r1", "changed")
    end

    struct!(
      %FunConfig{
        service: "deadline",
        request_type: "t#{System.unique_integer([:positive])}",
        nodes: nodes,
        mfa: mfa,
        response_type: type,
        timeout: :infinity,
        deadline: @deadline,
        after_execute: {Functions, :finished, [after_hook]}
      },
      fields
    )
  end

  defp waiting, do: {Functions, :wait_for, [self()]}

  defp request(fields \\ []),
    do: struct!(%Request{request_id: "r1", request_type: "t", service: "deadline"}, fields)

  # The answer, whenever it comes.
  defp answer(config, fields \\ []) do
    case Executor.execute_with_config!(request(fields), config) do
      %Response{success: true, async: true} -> later()
      answer -> answer
    end
  end

  defp later do
    receive do
      {:async_call, %Response{async: false} = response} -> response
      {:stream_response, %Response{has_more: false} = response} -> response
    end
  end

  # Every kind of request at once, each in a process of its own, which is the test for it.
  defp each(types, nodes, fun) do
    for(type <- types, nodes <- nodes, do: Task.async(fn -> fun.(type, nodes) end))
    |> Task.await_many(:infinity)
  end

  defp late(executed, ms \\ @deadline),
    do: error("Request timed out after #{ms}ms", true, executed: executed)

  # A request of type :none is acknowledged and answered by nothing.
  defp assert_late(answer, type, executed) do
    if type == :none and answer == {:ok, :none},
      do: :ok,
      else: assert(answer == late(executed), inspect(type))

    expected = late(executed)
    assert_receive {:hooked, hook, ^expected}, 30_000
    assert_ends(hook)
    refute_received {:hooked, _, _}
  end

  defp assert_ends(pid) do
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}, 30_000
  end

  defp running do
    assert_receive {:running, pid, node}, 30_000
    {pid, node}
  end

  # Where a config may be executed.
  defp places(:local), do: [node()]
  defp places(nodes), do: nodes
  defp node_of(nodes), do: hd(places(nodes))

  describe "a deadline that is over" do
    test "in the function kills it", %{nodes: nodes} do
      each(@types, nodes, fn type, nodes ->
        answer = answer(config(nodes, type, waiting(), []))
        {function, node} = running()
        assert node == node_of(nodes)
        assert_ends(function)
        assert_late(answer, type, "unknown")
      end)
    end

    test "in the before hook kills that, and the function is not called", %{nodes: nodes} do
      each(@types, nodes, fn type, nodes ->
        test = self()
        hook = fn _request, _config -> Functions.wait_for(test) end
        config = config(nodes, type, waiting(), before_execute: {Functions, :before, [hook]})
        answer = answer(config)
        {hook, node} = running()
        assert node == node()
        assert_ends(hook)
        assert_late(answer, type, "no")
        refute answer == {:ok, :none}
        refute_received {:running, _, _}
      end)
    end

    test "in the permission callback kills that, on its node", %{
      nodes: nodes,
      library: a,
      bare: b
    } do
      # With two nodes the second one is not asked any more.
      each(@types, nodes ++ [[a, b]], fn type, nodes ->
        callback = {Functions, :told_late, [self()]}
        config = config(nodes, type, waiting(), permission_callback: callback)
        answer = answer(config)
        {callback, node} = running()
        assert node in places(nodes)
        assert_ends(callback)
        assert_late(answer, type, "no")
        refute answer == {:ok, :none}
        refute_received {:running, _, _}
      end)
    end

    test "in a function that names nodes, or chooses one, kills that", %{library: a} do
      for fields <- [
            fn -> [nodes: waiting()] end,
            fn -> [choose_node_mode: chooser(self())] end,
            # Chosen ahead of the permission callback.
            fn -> [nodes: waiting(), permission_callback: {Functions, :told_late, [self()]}] end
          ] do
        each(@types, [[a]], fn type, nodes ->
          answer = answer(config(nodes, type, {Functions, :node_name, []}, fields.()))
          {chooser, node} = running()
          assert node == node()
          assert_ends(chooser)
          assert_late(answer, type, "no")
          refute_received {:running, _, _}
        end)
      end
    end

    test "between attempts ends them, and says that the function ran", %{nodes: nodes} do
      each(@types -- [:stream], nodes, fn type, nodes ->
        mfa = {Functions, :told, [:request, {:error, :again}, self()]}
        answer = answer(config(nodes, type, mfa, retry: 100))
        assert_receive {:asked, node}
        assert node == node_of(nodes)
        assert_late(answer, type, "yes")
        flush()
        refute_receive {:asked, _}, 0
      end)
    end

    test "in a later attempt kills that", %{nodes: nodes} do
      each(@types -- [:stream], nodes, fn type, nodes ->
        test = self()

        feeder =
          Task.async(fn ->
            assert_receive {:running, first, _node}, 30_000
            send(first, {:return, {:error, :again}})
            assert_receive {:running, second, _node}, 30_000
            send(test, {:second, second})
          end)

        mfa = {Functions, :wait_for, [feeder.pid]}
        answer = answer(config(nodes, type, mfa, retry: 3))
        Task.await(feeder, :infinity)
        assert_receive {:second, second}
        assert_ends(second)
        # The first one ran.
        assert_late(answer, type, "yes")
      end)
    end

    test "in the after hook stops that, and it sees the answer", %{nodes: nodes} do
      each(@types -- [:stream], nodes, fn type, nodes ->
        test = self()

        hook = fn _request, _config, response ->
          send(test, {:hooked, self(), response})
          if response.success, do: Functions.hang()
        end

        mfa = {Functions, :node_name, []}
        answer = answer(config(nodes, type, mfa, after_execute: {Functions, :finished, [hook]}))
        assert_receive {:hooked, hook, response}
        assert response == ok(node_of(nodes))
        assert_ends(hook)
        assert_late(answer, type, "yes")
      end)
    end
  end

  defp chooser(test), do: {Functions, :choose, [fn _, _ -> Functions.wait_for(test) end]}

  defp flush do
    receive do
      {:asked, _node} -> flush()
    after
      0 -> :ok
    end
  end

  for {type, name} <- [async: :async_pool, none: :async_pool, stream: :stream_pool] do
    test "a deadline that is over in the queue of a pool keeps a function of type #{type} from being called",
         %{nodes: nodes} do
      {type, name} = {unquote(type), unquote(name)}
      pool(name)
      hold = config(:local, type, waiting(), deadline: nil)
      assert Executor.execute_with_config!(request(), hold)
      {holder, _node} = running()

      each([type], nodes, fn type, nodes ->
        # Not longer than a stream waits for its slot.
        answer = answer(config(nodes, type, waiting(), deadline: 200))
        if type != :none, do: assert(answer == late("no", 200))
        expected = late("no", 200)
        assert_receive {:hooked, _hook, ^expected}, 30_000
        refute_received {:running, _, _}
      end)

      assert Process.alive?(holder)
      Process.exit(holder, :kill)
    end
  end

  test "nothing is left of requests whose time is over", %{nodes: nodes} do
    watch = Leaks.watch()

    each(@types, nodes, fn type, nodes ->
      for fields <- [
            [],
            [before_execute: {Functions, :before, [fn _, _ -> Functions.hang() end]}],
            [permission_callback: {Functions, :told_late, [self()]}],
            [retry: 100, mfa: {Functions, :crash, [:throw]}]
          ] do
        config = config(nodes, type, waiting(), [deadline: 300] ++ fields)
        answer = answer(config)
        assert answer == {:ok, :none} or answer.error =~ "timed out" or type == :stream
        assert_receive {:hooked, _, %Response{success: false}}, 30_000
      end
    end)

    Leaks.assert_none(watch)
    for [node] <- nodes -- [:local], do: Await.until(fn -> Cluster.calls_on(node) == [] end)
  end

  test "a node that hangs does not run the function later" do
    {_, node} = peer = Cluster.start_peer(app: [client_mode: true])
    first = config([node], :sync, {Functions, :node_name, []}, after_execute: nil)
    assert answer(first) == ok(node)
    wake = Cluster.suspend(peer)
    config = config([node], :sync, {Functions, :hang, []}, deadline: nil, after_execute: nil)

    each([:sync, :async, :none, :stream], [[node]], fn type, _nodes ->
      for _ <- 1..6 do
        answer = answer(%{config | response_type: type}, deadline_ms: 400)
        if type != :none, do: assert(answer == late("unknown", 400))
      end
    end)

    Await.until(fn -> WorkerPool.status(:async_pool).busy_workers == 0 end)
    # Clients may be in a hurry.
    assert for(%{state: :open, node: ^node} <- circuits(), do: node) == []
    wake.()
    # What was sent before has been seen to.
    assert :erpc.call(node, :erlang, :node, []) == node
    Await.until(fn -> Cluster.calls_on(node) == [] end)
  end

  # The pool of the application with one slot.
  defp pool(name) do
    :ok = Supervisor.terminate_child(WorkerPoolSupervisor, name)
    start_supervised!({WorkerPool, name: name, pool_size: 1}, id: make_ref())

    on_exit(fn ->
      # The test's own supervisor has ended by now.
      {:ok, _pid} = Supervisor.restart_child(WorkerPoolSupervisor, name)
    end)
  end

  describe "what is left" do
    test "is known to the function and to its tasks, on every node with the library", %{
      library: a
    } do
      for nodes <- [:local, [a]] do
        config = config(nodes, :sync, {Functions, :remaining, []}, fields())
        node = node_of(nodes)
        assert %Response{result: [^node, left, in_task]} = answer(config, deadline_ms: 60_000)
        assert left in 0..60_000
        assert in_task in 0..left
        assert answer(config).result == [node, :infinity, :infinity]
      end
    end

    # A node counts its time from its own start.
    test "is right on a node that has another clock", %{library: a} do
      here = System.monotonic_time(:millisecond)
      assert :erpc.call(a, System, :monotonic_time, [:millisecond]) != here
      config = config([a], :sync, {Functions, :remaining, []}, fields())
      for _ <- 1..20, do: assert(Enum.at(answer(config, deadline_ms: 5_000).result, 1) <= 5_000)
    end

    test "is known to a stream's function by the request of its handle", %{library: a} do
      for nodes <- [:local, [a]] do
        config =
          config(nodes, :stream, {PhoenixGenApi.Test.Streams, :feed, [self()]},
            request_info: true,
            deadline: nil
          )

        assert %Response{async: true} =
                 Executor.execute_with_config!(request(deadline_ms: 60_000), config)

        assert_receive {:function, function, helper}, 30_000
        left = :erpc.call(node(function), Request, :remaining_ms, [helper.request])
        assert left in 0..60_000
        send(function, :return)
      end
    end

    test "is known to a permission callback", %{library: a} do
      for nodes <- [:local, [a]] do
        test = self()

        config =
          config(nodes, :sync, {Functions, :node_name, []},
            deadline: nil,
            after_execute: nil,
            permission_callback: {Functions, :permit_while_time, [test]}
          )

        node = node_of(nodes)
        assert %Response{success: true} = answer(config, deadline_ms: 60_000)
        assert_receive {:left, ^node, left}
        assert left in 0..60_000
      end
    end

    test "bounds the requests that the function makes, also on a service node", %{library: a} do
      # A node that is a gateway too.
      {_, b} = Cluster.start_peer(app: [])
      remaining = config(:local, :sync, {Functions, :remaining, []}, fields())
      plain = [deadline: nil, after_execute: nil]

      for nodes <- [:local, [b]] do
        node = node_of(nodes)
        ask = config(nodes, :sync, {Functions, :ask, [remaining]}, plain)
        assert [^node, [^node, left, left_in_task], nil] = answer(ask, deadline_ms: 60_000).result
        assert left in 0..60_000 and left_in_task in 0..left
        assert answer(ask).result == [node, [node, :infinity, :infinity], nil]

        # The smaller one counts.
        hang = %{remaining | mfa: {Functions, :hang, []}, request_info: false, deadline: 100}
        ask = config(nodes, :sync, {Functions, :ask, [hang]}, plain)

        assert answer(ask, deadline_ms: 60_000).result ==
                 [node, nil, "Request timed out after 100ms"]
      end

      # From here to there, and from there to a third node.
      onwards = %{remaining | nodes: [a]}
      ask = config([b], :sync, {Functions, :ask, [onwards]}, plain)
      assert [^b, [^a, left, _], nil] = answer(ask, deadline_ms: 60_000).result
      assert left in 0..60_000
    end
  end

  defp circuits do
    for circuit <- NodeSelector.circuits(),
        do: %{circuit | node: String.to_existing_atom(circuit.node)}
  end

  defp fields, do: [request_info: true, deadline: nil, after_execute: nil]

  test "a client's deadlines open no circuit, the function's own ones do", %{library: a} do
    own = config([a], :sync, {Functions, :hang, []}, deadline: 100)
    theirs = config([a], :sync, {Functions, :hang, []}, deadline: nil)
    stream = config([a], :stream, {Functions, :hang, []}, deadline: nil)

    for config <- [own, theirs, stream], do: :ok = ConfigDb.add(config)

    each([own, theirs, stream], [:any], fn config, _ ->
      for _ <- 1..6 do
        fields = if config == own, do: [], else: [deadline_ms: 50]

        request =
          request([service: config.service, request_type: config.request_type] ++ fields)

        with %Response{async: true} <- Executor.execute!(request), do: later()
      end
    end)

    circuits = for %{state: :open, node: ^a} = c <- circuits(), do: c.request_type
    assert circuits == [own.request_type]
    assert NodeSelector.node_status(a) == :up
  end

  test "a node that cannot be connected in a client's time is not taken for down" do
    silent = Cluster.silent_node()
    config = config([silent], :sync, {Functions, :hang, []}, deadline: nil)
    assert answer(config, deadline_ms: 300) == late("unknown", 300)
    Await.until(fn -> NodeSelector.node_status(silent) == :up end)
  end
end
