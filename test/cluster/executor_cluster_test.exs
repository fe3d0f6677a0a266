defmodule PhoenixGenApi.ExecutorClusterTest do
  # Calls between real nodes.
  use PhoenixGenApi.Test.OwnVM

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.{Await, ConfigDb, Executor, Gateway, Native, NodeSelector, Permission}
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Test.{Cluster, Functions, Leaks}

  @moduletag :capture_log

  # One where the library runs, and one that has its code alone.
  setup_all do
    [{_, a}, {_, b}] = Cluster.start_peers([[app: [client_mode: true]], []])
    %{a: a, b: b}
  end

  # Whatever a test did, no call is left in flight.
  setup do
    on_exit(fn -> Await.until(fn -> in_flight() == %{} end) end)
  end

  defp in_flight do
    for {name, _status, calls} when calls > 0 <-
          Native.node_selector_statuses(Gateway.handle!(:node_selector)),
        into: %{},
        do: {String.to_atom(name), calls}
  end

  defp config(nodes, function, arguments, fields \\ []) do
    struct!(
      %FunConfig{
        service: "remote",
        request_type: "t#{System.unique_integer([:positive])}",
        nodes: List.wrap(nodes),
        mfa: {Functions, function, arguments}
      },
      fields
    )
  end

  defp request(fields \\ []),
    do: struct!(%Request{request_id: "r1", request_type: "t", service: "remote"}, fields)

  defp run(config, fields \\ []), do: Executor.execute_with_config!(request(fields), config)

  defp running do
    assert_receive {:running, pid, node}, 30_000
    assert node(pid) == node
    pid
  end

  defp assert_ends(pid) do
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, reason}, 30_000
    assert reason in [:killed, :noproc]
  end

  defp nothing_left(fun) do
    {:monitors, monitors} = Process.info(self(), :monitors)
    {:links, links} = Process.info(self(), :links)
    result = fun.()
    assert {:messages, []} = Process.info(self(), :messages)
    assert {:monitors, ^monitors} = Process.info(self(), :monitors)
    assert {:links, ^links} = Process.info(self(), :links)
    result
  end

  # A candidate list that is tried in this order.
  defp in_order(nodes), do: {Functions, :choose, [fn _nodes, _request -> nodes end]}

  test "a function runs on its node, with the converted arguments, its own and the request", %{
    a: a
  } do
    config = config(a, :node_and, [], arg_types: %{"n" => :integer})
    assert nothing_left(fn -> run(config, args: %{"n" => 5}) end) == ok([a, 5])
    assert run(config(a, :node_name, [])) == ok(a)

    info = config(a, :node_and, [], request_info: true)
    sent = request(user_id: "ann", args: %{})
    assert Executor.execute_with_config!(sent, info) == ok([a, sent])
    assert Executor.sync_call(request(), config(a, :node_name, [])) == ok(a)
  end

  test "async and none calls run on their node too", %{a: a} do
    assert run(config(a, :node_name, [], response_type: :async)) == Response.async_response("r1")
    assert_receive {:async_call, response}, 30_000
    assert response == ok(a)

    config = config(a, :wait_for, [self()], response_type: :none, timeout: :infinity)
    assert run(config) == {:ok, :none}
    pid = running()
    assert node(pid) == a
    send(pid, {:return, :done})
    assert_ends_any(pid)
    refute_received _
  end

  defp assert_ends_any(pid) do
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}, 30_000
  end

  test "exceptions, exits and throws on a node become internal errors without details", %{a: a} do
    for how <- [:raise, :error, :exit, :normal, :throw, :kill, :result] do
      response = nothing_left(fn -> run(config(a, :crash, [how])) end)
      assert response == error("Internal Server Error"), inspect(how)
    end

    assert run(config(a, :crash, [:malformed])) == error("Unexpected execution result")
  end

  test "calls of undefined functions become internal errors", %{a: a} do
    for mfa <- [{Functions, :no_such, []}, {NoSuchModule, :f, []}, {Functions, :node_name, [1]}] do
      config = %{config(a, :node_name, []) | mfa: mfa}
      assert nothing_left(fn -> run(config) end) == error("Internal Server Error")
    end

    many = %{config(a, :node_name, []) | mfa: {Functions, :node_name, Enum.to_list(1..300)}}
    assert nothing_left(fn -> run(many) end) == error("Internal Server Error")
  end

  test "a function that takes too long is killed on its node", %{a: a, b: b} do
    for node <- [a, b] do
      # Time enough for the function to begin.
      config = config(node, :wait_for, [self()], timeout: 500)

      assert run(config) == error("Request timed out after 500ms", true)
      assert_ends(running())
      refute_received _
    end
  end

  test "a function whose caller is killed is killed on its node", %{a: a, b: b} do
    parent = self()

    for node <- [a, b],
        call <- [
          fn config -> Executor.execute_with_config!(request(), config) end,
          fn config -> Executor.sync_call(request(), config) end
        ] do
      config = config(node, :wait_for, [parent], timeout: :infinity)
      caller = spawn(fn -> call.(config) end)
      function = running()
      assert in_flight() == %{node => 1}
      Process.exit(caller, :kill)
      assert_ends(function)
    end
  end

  test "async work ends on its node when the receiver dies", %{a: a} do
    receiver = spawn(fn -> Process.sleep(:infinity) end)
    config = config(a, :wait_for, [self()], response_type: :async, timeout: :infinity)
    :ok = ConfigDb.add(config)
    on_exit(fn -> ConfigDb.delete("remote", config.request_type) end)
    sent = request(request_type: config.request_type)
    assert %Response{async: true} = Executor.execute!(sent, receiver: receiver)
    function = running()
    runs = {:initial_call, {PhoenixGenApi.WorkerPool.Task, :run, 7}}
    assert Enum.any?(Process.list(), &(Process.info(&1, :initial_call) == runs))
    Process.exit(receiver, :kill)
    assert_ends(function)
  end

  test "execute_with_timeout! ends the work on its node", %{a: a} do
    config = config(a, :wait_for, [self()], timeout: :infinity)
    :ok = ConfigDb.add(config)
    on_exit(fn -> ConfigDb.delete("remote", config.request_type) end)

    assert Executor.execute_with_timeout!(request(request_type: config.request_type), 500) ==
             error("Request timed out after 500ms", true)

    assert_ends(running())
    refute_received _
  end

  test "a node that dies during the call is a temporary failure, and then down" do
    {_, node} = peer = Cluster.start_peer()
    config = config(node, :wait_for, [self()], timeout: :infinity)
    call = Task.async(fn -> nothing_left(fn -> run(config) end) end)
    running()
    Cluster.stop_peer(peer)

    assert Task.await(call, :infinity) ==
             error("Service temporarily unavailable", true, executed: "unknown")

    Await.until(fn -> NodeSelector.node_status(node) == :down end)
    assert run(config) == error("No service node available", true)
  end

  test "a lost connection is a temporary failure; the next probe brings the node back", %{b: b} do
    config = config(b, :wait_for, [self()], timeout: :infinity)
    call = Task.async(fn -> nothing_left(fn -> run(config) end) end)
    function = running()
    true = Node.disconnect(b)

    assert Task.await(call, :infinity) ==
             error("Service temporarily unavailable", true, executed: "unknown")

    Await.until(fn -> NodeSelector.node_status(b) == :down end)
    assert run(config(b, :node_name, [])) == error("No service node available", true)

    send(NodeSelector.Health, :probe)
    Await.until(fn -> NodeSelector.node_status(b) == :up end)
    assert run(config(b, :node_name, [])) == ok(b)
    # Nobody could reach it to kill it.
    Process.exit(function, :kill)
  end

  test "a node that cannot be connected gives way to the next candidate", %{a: a} do
    for mode <- [:custom, :round_robin, :hash] do
      dead = Cluster.node_name("dead")

      {mode, sent} =
        case mode do
          :custom -> {in_order([dead, a]), request()}
          :round_robin -> {:round_robin, request()}
          :hash -> {:hash, first_for(dead, a)}
        end

      config = config([dead, a], :node_name, [], choose_node_mode: mode)
      assert NodeSelector.node_status(dead) == :up
      response = nothing_left(fn -> Executor.execute_with_config!(sent, config) end)
      assert %Response{success: true, result: ^a} = response
      assert NodeSelector.node_status(dead) == :down
      # From now on it is passed over.
      for _ <- 1..5,
          do: assert(%Response{result: ^a} = Executor.execute_with_config!(sent, config))
    end
  end

  # A request that the hash sends to `first`.
  defp first_for(first, other) do
    config = %FunConfig{service: "s", request_type: "t", nodes: [first, other]}

    Stream.iterate(1, &(&1 + 1))
    |> Stream.map(&request(request_id: "id#{&1}"))
    |> Enum.find(
      &(NodeSelector.get_node(%{config | choose_node_mode: :hash}, &1) == {:ok, first})
    )
  end

  test "a call fails when none of its nodes can be connected" do
    dead = for _ <- 1..3, do: Cluster.node_name("dead")
    config = config(dead, :node_name, [])
    unavailable = error("No service node available", true)
    assert nothing_left(fn -> run(config) end) == unavailable
    for node <- dead, do: assert(NodeSelector.node_status(node) == :down)
    assert nothing_left(fn -> run(config) end) == unavailable

    assert {:error, {:all_nodes_unavailable, all}} = NodeSelector.get_nodes(config, request())
    assert Enum.sort(all) == Enum.sort(for node <- dead, do: {node, :down})

    assert run(%{config | response_type: :async}) == Response.async_response("r1")
    assert_receive {:async_call, ^unavailable}, 30_000
  end

  test "a node that comes back is used again" do
    name = Cluster.node_name("back")
    config = config(name, :node_name, [])
    assert run(config) == error("No service node available", true)

    peer = Cluster.start_peer(name: name)
    Await.until(fn -> NodeSelector.node_status(name) == :up end)
    assert run(config) == ok(name)
    Cluster.stop_peer(peer)
    Await.until(fn -> NodeSelector.node_status(name) == :down end)
    assert run(config) == error("No service node available", true)

    # Nothing connects to it but a probe.
    Cluster.start_peer(name: name, connect: false)
    send(NodeSelector.Health, :probe)
    Await.until(fn -> NodeSelector.node_status(name) == :up end)
    assert run(config) == ok(name)
  end

  test "a draining node that restarts is no longer draining" do
    name = Cluster.node_name("drained")
    peer = Cluster.start_peer(name: name)
    config = config(name, :node_name, [])
    assert run(config) == ok(name)
    :ok = NodeSelector.drain(name)
    assert run(config) == error("No service node available", true)
    Cluster.stop_peer(peer)
    Await.until(fn -> NodeSelector.node_status(name) == :down end)
    Cluster.start_peer(name: name)
    Await.until(fn -> NodeSelector.node_status(name) == :up end)
    assert run(config) == ok(name)
  end

  test "a call in flight ends as usual on a node that drains", %{a: a, b: b} do
    config = config(a, :wait_for, [self()], timeout: :infinity)
    call = Task.async(fn -> run(config) end)
    function = running()
    :ok = NodeSelector.drain(a)
    assert run(config([a, b], :node_name, [])) == ok(b)
    send(function, {:return, :done})
    assert Task.await(call, :infinity) == ok(:done)
    :ok = NodeSelector.undrain(a)
  end

  test "a call that may have been made is not made again on another node", %{a: a} do
    {_, node} = peer = Cluster.start_peer()
    # It has said whether it is guarded: what is sent next is the call itself.
    assert run(config(node, :node_name, [])) == ok(node)
    wake = Cluster.suspend(peer)

    config =
      config([node, a], :node_name, [], choose_node_mode: in_order([node, a]), timeout: :infinity)

    call = Task.async(fn -> nothing_left(fn -> run(config) end) end)
    # It has been sent, and the node has not said that it began.
    Await.until(fn -> waits_in?(call.pid, PhoenixGenApi.RPC.Client) end)
    true = Node.disconnect(node)

    assert Task.await(call, :infinity) ==
             error("Service temporarily unavailable", true, executed: "unknown")

    wake.()
  end

  defp waits_in?(pid, module) do
    info = Process.info(pid, [:status, :current_function])
    match?([status: :waiting, current_function: {^module, _, _}], info)
  end

  test "a node that lets nobody in costs one request the timeout, and is then down", %{a: a} do
    silent = Cluster.silent_node()
    fields = [choose_node_mode: in_order([silent, a]), timeout: 200]
    config = config([silent, a], :node_name, [], fields)
    assert NodeSelector.node_status(silent) == :up
    assert nothing_left(fn -> run(config) end) == error("Request timed out after 200ms", true)
    assert NodeSelector.node_status(silent) == :down
    assert run(%{config | timeout: 30_000}) == ok(a)
  end

  test "hosts that let nobody in keep no probe from bringing another node back" do
    silent = for _ <- 1..5, do: Cluster.silent_node()
    {_, node} = Cluster.start_peer()

    # Known to node selection as long as a config names them.
    for {node, n} <- Enum.with_index([node | silent]) do
      config = %{config(node, :node_name, []) | service: "silent", request_type: "t#{n}"}
      :ok = PhoenixGenApi.ConfigDb.add(config)
      NodeSelector.mark(node, :down)
    end

    send(NodeSelector.Health, :probe)
    # One after another, these five would take half a minute.
    Await.until(fn -> NodeSelector.node_status(node) == :up end, 20_000)
    for host <- silent, do: assert(NodeSelector.node_status(host) == :down)
    for n <- 0..5, do: PhoenixGenApi.ConfigDb.delete("silent", "t#{n}")
  end

  test "timeouts hold when the connection to a node that hangs is full" do
    {_, node} = peer = Cluster.start_peer()
    wake = Cluster.suspend(peer)
    large = config(node, :node_and, [String.duplicate("x", 600_000)], timeout: 200)

    # Far more than the buffers of the connection hold.
    calls = for _ <- 1..40, do: Task.async(fn -> nothing_left(fn -> run(large) end) end)

    for response <- Task.await_many(calls, :infinity),
        do: assert(response == error("Request timed out after 200ms", true))

    wake.()
  end

  test "a node that hangs costs the timeout and leaves nothing behind" do
    {_, node} = peer = Cluster.start_peer()
    wake = Cluster.suspend(peer)
    config = config(node, :node_name, [], timeout: 200)
    timed_out = error("Request timed out after 200ms", true)
    for _ <- 1..3, do: assert(nothing_left(fn -> run(config) end) == timed_out)
    assert in_flight() == %{}
    wake.()
    assert run(%{config | timeout: 30_000}) == ok(node)
    assert {:messages, []} = Process.info(self(), :messages)
  end

  describe "a permission callback" do
    test "runs on the node that then runs the function", %{a: a, b: b} do
      config =
        config([a, b], :node_name, [], permission_callback: {Functions, :told, [true, self()]})

      nodes =
        for _ <- 1..30 do
          assert %Response{success: true, result: node} = run(config)
          assert_received {:asked, ^node}
          node
        end

      assert Enum.sort(Enum.uniq(nodes)) == Enum.sort([a, b])
      refute_received _
    end

    test "denies from there", %{a: a} do
      for answer <- [false, nil, {:ok, true}] do
        config =
          config(a, :node_name, [], permission_callback: {Functions, :told, [answer, self()]})

        assert run(config) == error("Permission denied")
        assert_received {:asked, ^a}
        refute Permission.check_permission(request(), config)
        assert_received {:asked, ^a}
      end

      for mfa <- [{Functions, :no_such, []}, {Functions, :told, [:raise]}] do
        assert run(config(a, :node_name, [], permission_callback: mfa)) ==
                 error("Permission denied")
      end
    end

    test "that takes too long is no denial, and is killed there", %{a: a} do
      slow = {Functions, :told_late, [self()]}
      config = config(a, :node_name, [], permission_callback: slow, hook_timeout: 500)
      assert run(config) == error("Service temporarily unavailable", true)
      assert_ends(running())
      refute_received _
    end

    test "is asked on the next candidate where the first does not answer or is lost", %{a: a} do
      {_, hung} = peer = Cluster.start_peer()
      wake = Cluster.suspend(peer)
      {_, lost} = dying = Cluster.start_peer()

      config =
        config([hung, lost, a], :node_name, [],
          choose_node_mode: in_order([hung, lost, a]),
          permission_callback: {Functions, :told_late, [self()]},
          hook_timeout: 5_000
        )

      call = Task.async(fn -> run(config) end)
      assert_receive {:running, _callback, ^lost}, 30_000
      Cluster.stop_peer(dying)
      assert_receive {:running, callback, ^a}, 30_000
      send(callback, {:return, true})
      assert Task.await(call, :infinity) == ok(a)
      wake.()
    end

    test "is asked on the next candidate where the first cannot be connected", %{a: a} do
      dead = Cluster.node_name("dead")
      callback = {Functions, :told, [true, self()]}

      config =
        config([dead, a], :node_name, [],
          choose_node_mode: in_order([dead, a]),
          permission_callback: callback
        )

      assert run(config) == ok(a)
      assert_received {:asked, ^a}
      assert NodeSelector.node_status(dead) == :down

      # Without any, the text is that of node selection and not a denial.
      alone = config(Cluster.node_name("dead"), :node_name, [], permission_callback: callback)
      assert run(alone) == error("No service node available", true)
      refute_received _
    end

    test "is asked on the next candidate where the first lets nobody in", %{a: a} do
      silent = Cluster.silent_node()

      config =
        config([silent, a], :node_name, [],
          choose_node_mode: in_order([silent, a]),
          permission_callback: {Functions, :told, [true, self()]},
          hook_timeout: 1_000
        )

      assert run(config) == ok(a)
      assert_received {:asked, ^a}
      assert NodeSelector.node_status(silent) == :down
    end

    test "can be asked on a node of one's choice", %{b: b} do
      config =
        config(:local, :node_name, [], permission_callback: {Functions, :told, [true, self()]})

      config = %{config | nodes: :local}
      assert Permission.check_permission_remote!(request(), config, b) == :ok
      assert_received {:asked, ^b}
    end
  end

  test "a function has the request as Logger metadata where the library runs, and logs there", %{
    a: a
  } do
    config = config(a, :log_metadata, [self()])
    assert %Response{success: true} = run(config, user_id: "ann")
    assert_receive {:metadata, ^a, metadata, leader}
    assert metadata == %{request_id: "r1", user_id: "ann", service: "remote", request_type: "t"}
    # Of another node the log takes no lines.
    assert node(leader) == a
  end

  test "a function knows its callers where the library runs", %{a: a, b: b} do
    Process.put(:"$callers", [self()])
    me = self()
    assert RPC.call(a, Functions, :callers, [], 5_000) == {:return, {a, [me, me]}}
    assert RPC.call(b, Functions, :callers, [], 5_000) == {:return, {b, nil}}
  end

  test "a function that returns leaves what it has linked itself with alone", %{a: a} do
    assert %Response{success: true, result: [pid]} = run(config(a, :linked, [:returned]))
    assert alive?(pid)
    Process.exit(pid, :kill)

    assert {:raised, :exit, {:linked, pid}, []} =
             RPC.call(a, Functions, :linked, [:failed], 5_000)

    Await.until(fn -> not alive?(pid) end)
  end

  defp alive?(pid), do: :erpc.call(node(pid), :erlang, :is_process_alive, [pid])

  test "least_busy prefers the idle node", %{a: a, b: b} do
    busy = config(a, :wait_for, [self()], timeout: :infinity)
    call = Task.async(fn -> run(busy) end)
    function = running()
    assert in_flight() == %{a => 1}
    config = config([a, b], :node_name, [], choose_node_mode: :least_busy)
    for _ <- 1..20, do: assert(run(config) == ok(b))
    send(function, {:return, :done})
    assert Task.await(call, :infinity) == ok(:done)
    assert in_flight() == %{}
    nodes = for _ <- 1..60, do: run(config).result
    assert Enum.sort(Enum.uniq(nodes)) == Enum.sort([a, b])
  end

  test "calls in flight are counted one by one and return to zero", %{a: a, b: b} do
    config = config(a, :wait_for, [self()], timeout: :infinity)
    calls = for _ <- 1..20, do: Task.async(fn -> run(config) end)
    functions = for _ <- 1..20, do: running()
    assert in_flight() == %{a => 20}
    {returned, killed} = Enum.split(functions, 10)
    for pid <- returned, do: send(pid, {:return, :done})
    for pid <- killed, do: Process.exit(pid, :kill)
    results = calls |> Task.await_many(:infinity) |> Enum.frequencies()
    assert results == %{ok(:done) => 10, error("Internal Server Error") => 10}
    assert in_flight() == %{}
    assert run(config(b, :crash, [:exit])).error == "Internal Server Error"
    assert in_flight() == %{}
  end

  test "a node with nothing but Erlang runs functions" do
    {_, node} = Cluster.start_peer(code: false)
    assert :erpc.call(node, :code, :which, [String]) == :non_existing

    config = config(node, :node_name, [], arg_types: %{"list" => {:list, :num}})
    reverse = %{config | mfa: {:lists, :reverse, []}}
    sent = [args: %{"list" => [1, 2, 3]}]
    assert nothing_left(fn -> run(reverse, sent) end) == ok([3, 2, 1])

    for {mfa, text} <- [
          {{:lists, :no_such, []}, "Internal Server Error"},
          {{:no_such, :f, []}, "Internal Server Error"},
          {{:lists, :nth, [5]}, "Internal Server Error"},
          {{Functions, :node_and, []}, "Internal Server Error"},
          {{:string, :take, [~c"a"]}, "Unexpected execution result"}
        ] do
      assert nothing_left(fn -> run(%{config | mfa: mfa}, sent) end) == error(text)
    end

    whole = config(node, :node_name, [], request_info: true)
    get = %{whole | mfa: {:maps, :get, [:user_id]}}
    assert run(get, user_id: "ann") == ok("ann")

    slow = %{whole | mfa: {:timer, :sleep, [:infinity]}, request_info: false, timeout: 100}
    assert nothing_left(fn -> run(slow) end) == error("Request timed out after 100ms", true)
    Await.until(fn -> sleeping(node) == [] end)
  end

  defp sleeping(node) do
    for pid <- :erpc.call(node, :erlang, :processes, []),
        {:current_function, {:timer, :sleep, 1}} ==
          :erpc.call(node, :erlang, :process_info, [pid, :current_function]),
        do: pid
  end

  test "two gateways agree on the hash modes", %{a: a, b: b} do
    {_, gateway} = Cluster.start_peer(app: [client_mode: false])
    config = config([a, b, node(), gateway], :node_name, [], choose_node_mode: {:hash, :user_id})

    for n <- 1..50 do
      sent = request(user_id: "user#{n}")

      assert NodeSelector.get_nodes(config, sent) ==
               :erpc.call(gateway, NodeSelector, :get_nodes, [config, sent])
    end
  end

  test "1,000 calls with random outcomes from 16 processes leave nothing anywhere", %{a: a, b: b} do
    :rand.seed(:exsss, 42)
    outcomes = [:raise, :error, :exit, :normal, :throw, :kill, :result, :malformed]
    watch = Leaks.watch()

    work =
      for _ <- 1..1_000 do
        if :rand.uniform(2) == 1,
          do: {:node_name, []},
          else: {:crash, [Enum.random(outcomes)]}
      end

    1..16
    |> Enum.map(fn _ ->
      Task.async(fn ->
        for {function, arguments} <- Enum.take_random(work, 63) do
          config = config([a, b], function, arguments, choose_node_mode: :least_busy)

          case {function, nothing_left(fn -> run(config) end)} do
            {:node_name, %Response{success: true, result: node}} -> assert node in [a, b]
            {:crash, %Response{success: false, error: text}} -> assert text =~ ~r/^(Int|Unex)/
          end
        end
      end)
    end)
    |> Task.await_many(:infinity)

    assert in_flight() == %{}
    for node <- [a, b], do: Await.until(fn -> Cluster.calls_on(node) == [] end)
    Leaks.assert_none(watch)
  end
end
