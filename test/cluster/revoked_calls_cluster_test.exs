defmodule PhoenixGenApi.RevokedCallsClusterTest do
  # Callers that stop waiting before they have heard which process their function is.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, Executor, StreamCall, WorkerPool}
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.StreamCall.Registry
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Test.{Cluster, Functions, Options, Streams}

  @moduletag :capture_log

  # Where the library runs, where there is only its code, and where there is none of it.
  @kinds [library: [app: [client_mode: true]], code: [], bare: [code: false]]

  # So many timeouts would close the node to the next call.
  setup do
    Options.set(:circuit_breaker, threshold: 10_000)
  end

  defp started(kind) do
    {_pid, node} = peer = Cluster.start_peer(@kinds[kind])
    # What is sent from now on is the call itself.
    first = config(node, {:lists, :seq, [1, 2]}, timeout: 30_000)
    assert %Response{success: true, result: [1, 2]} = run(first)
    assert RPC.Capabilities.lookup(node) == (kind == :library)
    {peer, node}
  end

  defp config(node, mfa, fields \\ []) do
    struct!(
      %FunConfig{service: "remote", request_type: "t", nodes: [node], timeout: 200, mfa: mfa},
      fields
    )
  end

  defp endless(node, fields \\ []), do: config(node, {:timer, :sleep, [:infinity]}, fields)

  # It sleeps for the first item of its list.
  defp large(node) do
    arguments = [&:timer.sleep/1, [:infinity, String.duplicate("x", 600_000)]]
    config(node, {:lists, :foreach, arguments})
  end

  defp run(config) do
    request = %Request{request_id: "r1", request_type: "t", service: "remote"}
    Executor.execute_with_config!(request, config)
  end

  defp assert_timed_out(%Response{error: error}),
    do: assert(error == "Request timed out after 200ms")

  defp assert_nothing_runs(node) do
    # What was sent before has been seen to.
    assert :erpc.call(node, :erlang, :node, []) == node
    Await.until(fn -> Cluster.calls_on(node) == [] end)
    Await.until(fn -> proxies() == [] end)
  end

  defp proxies do
    for pid <- Process.list(),
        Process.info(pid, :initial_call) == {:initial_call, {RPC.Proxy, :run, 6}},
        do: pid
  end

  # Callers that have sent their request, and have no answer.
  defp waiting(config, count) do
    callers = for _ <- 1..count, do: spawn(fn -> run(%{config | timeout: :infinity}) end)
    for pid <- callers, do: Await.until(fn -> waits_in?(pid, RPC.Client) end)
    callers
  end

  defp waits_in?(pid, module) do
    info = Process.info(pid, [:status, :current_function])
    match?([status: :waiting, current_function: {^module, _, _}], info)
  end

  defp killed(pids) do
    for pid <- pids, do: Process.exit(pid, :kill)
    Await.until(fn -> not Enum.any?(pids, &Process.alive?/1) end)
  end

  for {kind, _options} <- @kinds do
    describe "on a node of the kind #{kind}" do
      @describetag kind: kind

      test "a running function is counted among the calls on its node", %{kind: kind} do
        {_peer, node} = started(kind)
        caller = spawn(fn -> run(endless(node, timeout: :infinity)) end)
        Await.until(fn -> Cluster.calls_on(node) != [] end)
        killed([caller])
        assert_nothing_runs(node)
      end

      test "a function whose call timed out while the node hung does not run on", %{kind: kind} do
        {peer, node} = started(kind)
        wake = Cluster.suspend(peer)
        for _ <- 1..5, do: assert_timed_out(run(endless(node)))
        wake.()
        assert_nothing_runs(node)
      end

      test "a function whose caller was killed while the node hung does not run on", context do
        {peer, node} = started(context.kind)
        wake = Cluster.suspend(peer)
        node |> endless() |> waiting(5) |> killed()
        wake.()
        assert_nothing_runs(node)
      end

      test "a call in fragments, over a connection that is full, does not run on", %{kind: kind} do
        {peer, node} = started(kind)
        wake = Cluster.suspend(peer)
        callers = waiting(large(node), 10)
        calls = for _ <- 1..40, do: Task.async(fn -> run(large(node)) end)
        for response <- Task.await_many(calls, :infinity), do: assert_timed_out(response)
        killed(callers)
        wake.()
        assert_nothing_runs(node)
      end
    end
  end

  describe "on a node that is busy" do
    # It says at once that there is a process, and lets it run when it gets to it.
    test "a function whose call timed out does not run on" do
      {_peer, node} = started(:library)
      :erpc.cast(node, Functions, :occupy, [self(), 1_000])
      assert_receive {:occupied, ^node}, 30_000
      for _ <- 1..5, do: assert_timed_out(run(endless(node)))
      assert_nothing_runs(node)
    end
  end

  test "a permission callback whose call timed out while the node hung does not run on" do
    {peer, node} = started(:library)
    wake = Cluster.suspend(peer)
    callback = {Functions, :told_late, [self()]}
    late = endless(node, permission_callback: callback, hook_timeout: 200)
    assert %Response{error: "Service temporarily unavailable"} = run(late)
    wake.()
    assert_nothing_runs(node)
  end

  test "the function of a stream that ended while its node hung does not run on" do
    {peer, node} = started(:library)
    wake = Cluster.suspend(peer)

    for mfa <- [{Streams, :endless, [self()]}, {Functions, :wait_for, [self()]}],
        do: run(config(node, mfa, response_type: :stream))

    for _ <- 1..2, do: assert_receive({:stream_response, %Response{has_more: false}}, 30_000)
    wake.()
    assert_nothing_runs(node)
  end

  test "a stream's function on a node without the library ends with its proxy's order" do
    {peer, node} = started(:bare)
    wake = Cluster.suspend(peer)
    mark = make_ref()
    {proxy, monitor} = RPC.Proxy.start(node, mark, {:timer, :sleep, [:infinity]}, :begun)
    RPC.Proxy.cancel(proxy, mark)
    wake.()
    assert_receive {:DOWN, ^monitor, :process, ^proxy, :normal}, 30_000
    assert_nothing_runs(node)
    refute_received :begun

    {proxy, monitor} = RPC.Proxy.start(node, mark, {:timer, :sleep, [:infinity]}, :begun)
    assert_receive :begun, 30_000
    assert [_function] = Cluster.calls_on(node)
    RPC.Proxy.cancel(proxy, mark)
    assert_receive {:DOWN, ^monitor, :process, ^proxy, :normal}, 30_000
    assert_nothing_runs(node)
  end

  test "a stream's proxy keeps no arguments while the function runs" do
    {_peer, node} = started(:bare)
    mark = make_ref()
    arguments = [&:timer.sleep/1, [:infinity | Enum.to_list(1..100_000)]]
    {proxy, monitor} = RPC.Proxy.start(node, mark, {:lists, :foreach, arguments}, :begun)
    assert_receive :begun, 30_000
    assert {:total_heap_size, words} = Process.info(proxy, :total_heap_size)
    assert words < 10_000
    RPC.Proxy.cancel(proxy, mark)
    assert_receive {:DOWN, ^monitor, :process, ^proxy, :normal}, 30_000
    assert_nothing_runs(node)
  end

  test "a proxy ends when the connection is lost before the node has answered" do
    {peer, node} = started(:bare)
    wake = Cluster.suspend(peer)
    assert_timed_out(run(endless(node)))
    assert [proxy] = proxies()
    monitor = Process.monitor(proxy)
    Node.disconnect(node)
    assert_receive {:DOWN, ^monitor, :process, ^proxy, :normal}, 30_000
    wake.()
  end

  test "a call that comes after it was revoked does not begin, however large it is" do
    {_peer, node} = started(:library)
    key = RPC.Client.key()
    assert :erpc.call(node, RPC.Server, :revoke, [key]) == :ok
    assert :erpc.call(node, RPC.Server, :size, []) == {0, 1}

    arguments = [
      [self()],
      nil,
      :erlang,
      :send,
      [self(), {:began, String.duplicate("x", 600_000)}]
    ]

    request = :erlang.spawn_request(node, RPC.Server, :run, [key | arguments], [:monitor])
    assert_receive {:spawn_reply, ^request, :ok, pid}, 30_000
    assert_receive {:DOWN, ^request, :process, ^pid, :normal}, 30_000
    refute_received {:began, _text}
    assert :erpc.call(node, RPC.Server, :size, []) == {0, 0}
  end

  test "a node knows which functions run until they end, however they do" do
    {_peer, node} = started(:library)
    sizes = fn -> :erpc.call(node, RPC.Server, :size, []) end
    callers = for _ <- 1..3, do: spawn(fn -> run(endless(node, timeout: :infinity)) end)
    Await.until(fn -> sizes.() == {3, 0} end)
    node |> Cluster.calls_on() |> hd() |> Process.exit(:kill)
    Await.until(fn -> sizes.() == {2, 0} end)
    killed(callers)
    Await.until(fn -> sizes.() == {0, 0} end)

    for how <- [:raise, :exit, :throw, :kill, :result],
        do: run(config(node, {Functions, :crash, [how]}))

    assert_timed_out(run(endless(node)))
    Await.until(fn -> sizes.() == {0, 0} end)
  end

  test "an application that stops and starts again on the node loses no call" do
    {peer, node} = started(:library)
    caller = spawn(fn -> run(endless(node, timeout: :infinity)) end)
    Await.until(fn -> Cluster.calls_on(node) != [] end)
    :ok = Cluster.call(peer, :application, :stop, [:phoenix_gen_api])
    :ok = Cluster.call(peer, :application, :start, [:phoenix_gen_api])
    assert :erpc.call(node, RPC.Server, :size, []) == {1, 0}
    killed([caller])
    Await.until(fn -> :erpc.call(node, RPC.Server, :size, []) == {0, 0} end)
  end

  test "the server of a pool is not held up by a node that hangs" do
    {peer, node} = started(:library)
    far = Node.spawn(node, :timer, :sleep, [:infinity])
    {:ok, _pid} = start_supervised({WorkerPool, name: :held_up, pool_size: 2})
    wake = Cluster.suspend(peer)
    Cluster.fill_connection(node)
    test = self()
    hang = fn -> send(test, :runs) && receive(do: (:never -> :ok)) end
    {:ok, lost} = WorkerPool.submit(:held_up, hang, on_death: {far, :died})
    assert_receive :runs, 30_000
    killed([lost])
    # The server has told of that by now, or tries to.
    :ok = WorkerPool.execute_async(:held_up, hang, timeout: 50)
    Await.until(fn -> WorkerPool.status(:held_up).total_tasks_failed == 2 end)
    assert WorkerPool.status(:held_up).busy_workers == 0
    wake.()
  end

  test "the table of streams is not held up by a node that hangs" do
    {peer, node} = started(:library)
    far = Node.spawn(node, :timer, :sleep, [:infinity])
    config = config(node(), {Functions, :wait_for, [self()]}, response_type: :stream)
    request = %Request{request_id: "r1", request_type: "t", service: "remote"}

    starter =
      spawn(fn ->
        args = %{request: request, fun_config: %{config | timeout: :infinity}, receiver: far}
        {:ok, _pid} = StreamCall.start_link(args)
        receive(do: (:never -> :ok))
      end)

    Await.until(fn -> Registry.count() == 1 end)
    wake = Cluster.suspend(peer)
    Cluster.fill_connection(node)
    killed([starter])
    Await.until(fn -> Registry.count() == 0 end)
    assert :sys.get_state(Registry) == %{}
    wake.()
  end

  test "the reaper is not held up by a node that hangs" do
    {hanging, node} = started(:library)
    {_peer, other} = started(:library)
    wake = Cluster.suspend(hanging)
    # The connection is full of what nobody waits for.
    node |> large() |> waiting(40) |> killed()
    caller = spawn(fn -> run(endless(other, timeout: :infinity)) end)
    Await.until(fn -> Cluster.calls_on(other) != [] end)
    killed([caller])
    assert_nothing_runs(other)

    assert Process.info(Process.whereis(RPC.Reaper), :message_queue_len) ==
             {:message_queue_len, 0}

    wake.()
    assert_nothing_runs(node)
  end
end
