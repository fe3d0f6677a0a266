defmodule PhoenixGenApi.StreamClusterTest do
  # Streams between real nodes.
  use PhoenixGenApi.Test.OwnVM

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.{
    Await,
    Executor,
    Gateway,
    Native,
    NodeSelector,
    RPC,
    StreamCall,
    WorkerPool
  }

  alias PhoenixGenApi.StreamCall.Registry
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response, StreamHelper}
  alias PhoenixGenApi.Test.{Options, Streams}
  alias PhoenixGenApi.Test.Cluster

  @moduletag :capture_log

  # Where a stream waits for its receiver, and a producer for its stream.
  @held [StreamCall.Server, RPC.Credit]

  setup_all do
    [{_, a}, {_, b}] = Cluster.start_peers([[], []])
    %{a: a, b: b}
  end

  # Whatever a test did, nothing is left of its streams here.
  setup do
    on_exit(fn ->
      Await.until(fn ->
        Registry.count() == 0 and WorkerPool.status(:stream_pool).busy_workers == 0 and
          in_flight() == 0
      end)
    end)
  end

  defp in_flight do
    for(
      {_name, _status, calls} <- Native.node_selector_statuses(Gateway.handle!(:node_selector)),
      do: calls
    )
    |> Enum.sum()
  end

  defp config(nodes, function, arguments, fields \\ []) do
    struct!(
      %FunConfig{
        service: "remote",
        request_type: "stream",
        nodes: List.wrap(nodes),
        response_type: :stream,
        timeout: :infinity,
        mfa: {Streams, function, arguments}
      },
      fields
    )
  end

  defp helped(nodes, function, arguments, fields \\ []),
    do: config(nodes, function, arguments, [request_info: true] ++ fields)

  defp request, do: %Request{request_id: "r1", request_type: "stream", service: "remote"}

  defp start(config) do
    assert Executor.execute_with_config!(request(), config) ==
             Response.stream_response("r1", :init)

    assert_receive {:stream_started, "r1", pid}, 30_000
    pid
  end

  defp feed(nodes, fields \\ []) do
    pid = start(helped(nodes, :feed, [self()], fields))
    # Not that of another stream, which a node that hung may begin before it hears of its end.
    assert_receive {:function, function, %{stream_pid: ^pid} = out}, 30_000
    {pid, function, out}
  end

  defp frames do
    assert_receive {:stream_response, %Response{} = response}, 30_000

    if response.has_more do
      {results, last} = frames()
      {[response.result | results], last}
    else
      {[], response}
    end
  end

  defp ended, do: Response.stream_end_response("r1")
  defp node_down, do: error("Service temporarily unavailable", true, executed: "unknown")

  defp watch(pids), do: for(pid <- List.wrap(pids), do: {pid, Process.monitor(pid)})

  defp assert_ends(watched) do
    for {pid, monitor} <- watched,
        do: assert_receive({:DOWN, ^monitor, :process, ^pid, _reason}, 30_000)
  end

  test "all items of a stream helper arrive in order", %{a: a} do
    start(helped(a, :count, [5_000, sink()]))
    assert frames() == {Enum.to_list(1..5_000), ended()}
  end

  test "an enumerable is consumed on the node that made it", %{a: a} do
    start(config(a, :squares, [3]))
    assert frames() == {[1, 4, 9], ended()}
    start(config(a, :identity, [{:ok, 1..1_000}]))
    assert frames() == {Enum.to_list(1..1_000), ended()}
    start(config(a, :endless, [self()]))
    assert_receive {:function, producer, nil}, 30_000
    assert node(producer) == a
    assert PhoenixGenApi.stop_stream("r1") == :ok
    assert_receive :cleaned_up, 30_000
    assert {_, last} = frames()
    assert last == ended()
  end

  test "a failing stream ends with one error without details", %{a: a} do
    for how <- [:raise, :exit, :throw, :kill, :result] do
      start(%{config(a, :identity, []) | mfa: {PhoenixGenApi.Test.Functions, :crash, [how]}})
      assert frames() == {[], error("Internal Server Error", false)}
    end

    start(config(a, :no_such, []))
    assert frames() == {[], error("Internal Server Error", false)}
  end

  test "a producer waits for a slow receiver on another node", %{a: a} do
    sink = sink()
    stream = start(helped(a, :count, [10_000, sink]))
    await_held_back(stream, a)
    assert waiting(sink) in 1_000..1_200
    assert frames() == {Enum.to_list(1..10_000), ended()}
    Await.until(fn -> waiting(sink) == 10_000 end)
  end

  test "a producer on a third node waits as well, and may go on when all is over", %{a: a, b: b} do
    {stream, _function, out} = feed(a)
    sink = sink()
    # This process is the receiver, and takes nothing.
    Node.spawn(b, Streams, :count, [5_000, sink, out])
    await_held_back(stream, b)
    assert waiting(sink) in 1_000..1_200
    assert frames() == {Enum.to_list(1..5_000), ended()}
    Await.until(fn -> waiting(sink) == 5_000 end)

    late = for n <- 1..1_000, do: :erpc.call(b, StreamHelper, :send_result, [out, n])
    assert Enum.uniq(late) == [:ok]
  end

  # Counts by the length of its mailbox: in that of a receiver messages would hold a stream up.
  defp sink, do: spawn_link(fn -> receive(do: (:never -> :ok)) end)

  defp waiting(pid), do: pid |> Process.info(:message_queue_len) |> elem(1)

  # The stream keeps what it has, as this process, the receiver, takes nothing; and the producer on
  # that node waits to be told to go on. In this order: from now on nobody tells it.
  defp await_held_back(stream, node) do
    Await.until(fn -> rests_in?(stream, :hold_back) and producer_waits?(node) end)
  end

  defp producer_waits?(node) do
    pids = :erpc.call(node, :erlang, :processes, [])
    Enum.any?(pids, &rests_in?(&1, :ask)) and waiting(self()) > 1_000
  end

  defp rests_in?(pid, function) do
    info = :erpc.call(node(pid), :erlang, :process_info, [pid, [:status, :current_function]])

    match?(
      [status: :waiting, current_function: {module, ^function, _}] when module in @held,
      info
    )
  end

  test "a stop, a timeout and the death of the receiver or of the stream end the function of a stream",
       %{a: a} do
    {pid, function, _out} = feed(a)
    watched = watch(function)
    StreamCall.stop(pid)
    assert_ends(watched)
    assert frames() == {[], ended()}

    {_pid, function, _out} = feed(a, timeout: 1_000)
    assert_ends(watch(function))
    assert frames() == {[], error("Request timed out after 1000ms", true)}

    test = self()

    receiver =
      spawn(fn ->
        Executor.execute_with_config!(request(), helped(a, :feed, [test]))
        receive(do: (:never -> :ok))
      end)

    assert_receive {:function, function, _out}, 30_000
    watched = watch(function)
    Process.exit(receiver, :kill)
    assert_ends(watched)

    {pid, function, _out} = feed(a)
    watched = watch(function)
    Process.exit(pid, :kill)
    assert_ends(watched)
    assert frames() == {[], error("Stream execution failed", false)}
  end

  test "the death of its node ends a stream with one clear error" do
    {_, node} = peer = Cluster.start_peer()
    {_pid, _function, out} = feed(node)
    StreamHelper.send_result(out, 1)
    assert_receive {:stream_response, %Response{result: 1}}, 30_000
    Cluster.stop_peer(peer)
    assert frames() == {[], node_down()}
    refute_received _
  end

  test "the death of its node ends a stream whose function has returned before" do
    {_, node} = peer = Cluster.start_peer()
    start(helped(node, :delegate, [self()]))
    assert_receive {:function, sender, _out}, 30_000
    assert_receive {:function, ^sender, out}, 30_000
    StreamHelper.send_result(out, 1)
    assert_receive {:stream_response, %Response{result: 1}}, 30_000
    Cluster.stop_peer(peer)
    assert frames() == {[], node_down()}
  end

  test "a node killed in the middle of an enumerable gives the items so far and one error" do
    {_, node} = peer = Cluster.start_peer()
    start(config(node, :endless, [self()]))
    assert_receive {:stream_response, %Response{result: 1}}, 30_000
    Cluster.stop_peer(peer)
    assert {results, last} = frames()
    assert last == node_down()
    assert results == Enum.to_list(2..(length(results) + 1)//1)
  end

  test "the death of other nodes does not touch a stream", %{a: a} do
    other = Cluster.start_peer()
    {_pid, _function, out} = feed(a)
    StreamHelper.send_result(out, 1)
    Cluster.stop_peer(other)
    StreamHelper.send_result(out, 2)
    StreamHelper.send_complete(out)
    assert frames() == {[1, 2], ended()}
  end

  test "a lost connection ends a stream on both sides", %{b: b} do
    {_pid, function, _out} = feed(b)
    true = Node.disconnect(b)
    assert frames() == {[], node_down()}
    true = Node.connect(b)
    Await.until(fn -> not :erpc.call(b, Process, :alive?, [function]) end)
    Await.until(fn -> PhoenixGenApi.NodeSelector.node_status(b) == :up end)
  end

  test "a stream starts on the next node when the first cannot be connected", %{a: a} do
    dead = Cluster.node_name("dead")
    first = {PhoenixGenApi.Test.Functions, :choose, [fn _, _ -> [dead, a] end]}
    start(config([dead, a], :squares, [2], choose_node_mode: first))
    assert frames() == {[1, 4], ended()}
  end

  test "a node that hangs does not hold up the end of a stream", %{a: _a} do
    {_, node} = peer = Cluster.start_peer()
    {pid, function, out} = feed(node)
    wake = Cluster.suspend(peer)
    watched = watch(pid)
    StreamHelper.send_result(out, 1)
    StreamCall.stop(pid)
    assert_ends(watched)
    assert frames() == {[1], ended()}
    wake.()
    assert_ends(watch(function))
  end

  test "a node that hangs behind a full connection does not hold up the stream that answers it" do
    {_, node} = peer = Cluster.start_peer()
    sink = sink()
    pid = start(helped(node, :count, [10_000, sink]))
    await_held_back(pid, node)
    sent = waiting(sink) + 1
    # With the last of them its producer has asked. It is answered when this process takes some.
    wake = Cluster.suspend(peer)
    Cluster.fill_connection(node)
    for n <- 1..sent, do: assert_receive({:stream_response, %Response{result: ^n}}, 30_000)
    watched = watch(pid)
    StreamCall.stop(pid)
    assert_ends(watched)
    assert frames() == {[], ended()}
    wake.()
  end

  test "a node that begins no streams is passed over; one where they live out their time is not",
       %{a: a} do
    Options.set(:circuit_breaker, threshold: 2)
    # Time enough to begin.
    for _ <- 1..3, do: start(helped(a, :feed, [self()], timeout: 1_000))
    for _ <- 1..3, do: assert({_results, %{error: "Request timed out after 1000ms"}} = frames())
    assert NodeSelector.circuits() == []

    {_, node} = peer = Cluster.start_peer()
    wake = Cluster.suspend(peer)
    for _ <- 1..2, do: start(helped(node, :feed, [self()], timeout: 100))
    for _ <- 1..2, do: assert({[], %{error: "Request timed out after 100ms"}} = frames())
    assert [%{node: name, state: :open}] = NodeSelector.circuits()
    assert name == Atom.to_string(node)
    start(helped(node, :feed, [self()]))
    assert frames() == {[], error("No service node available", true)}
    start(config([node, a], :squares, [2]))
    assert frames() == {[1, 4], ended()}
    wake.()
  end

  test "a stream that has begun decides for its node, however long it lives" do
    Options.set(:circuit_breaker, threshold: 2, cooldown_ms: 100)
    {_, node} = peer = Cluster.start_peer()
    wake = Cluster.suspend(peer)
    for _ <- 1..2, do: start(helped(node, :feed, [self()], timeout: 100))
    for _ <- 1..2, do: assert({[], %{error: "Request timed out after 100ms"}} = frames())
    wake.()
    Await.until(fn -> match?([%{state: :open, retry_in_ms: 0}], NodeSelector.circuits()) end)
    {probe, function, _out} = feed(node)
    Await.until(fn -> NodeSelector.circuits() == [] end)
    {other, _function, _out} = feed(node)

    # Its end says nothing more, and the loss of its node does.
    StreamCall.stop(probe)
    assert frames() == {[], ended()}
    assert_ends(watch(function))
    assert NodeSelector.circuits() == []
    Cluster.stop_peer(peer)
    assert frames() == {[], node_down()}
    assert_ends(watch(other))
    assert [%{state: :closed, failures: 1}] = NodeSelector.circuits()
  end

  test "a success does not wait for the end of a stream" do
    # Without the successes two failures would be all of the calls.
    Options.set(:circuit_breaker, threshold: 2, failure_rate: 0.7)
    {_, node} = peer = Cluster.start_peer()

    for n <- 1..3 do
      wake = Cluster.suspend(peer)
      start(helped(node, :feed, [self()], timeout: 100))
      assert {[], %{error: "Request timed out after 100ms"}} = frames()
      wake.()
      feed(node)
      assert [%{state: :closed, failures: ^n}] = NodeSelector.circuits()
    end

    Cluster.stop_peer(peer)
    for _ <- 1..3, do: assert(frames() == {[], node_down()})
  end

  test "the death of the gateway ends functions and enumerables", %{a: a} do
    for {config, cleanup?} <- [
          {helped(a, :feed, [self()]), false},
          {config(a, :endless, [self()]), true}
        ] do
      {_, gateway} = peer = Cluster.start_peer(app: [client_mode: false])
      :erpc.call(gateway, Streams, :hold, [request(), config])
      assert_receive {:function, function, _out}, 30_000
      assert node(function) == a
      watched = watch(function)
      Cluster.stop_peer(peer)
      assert_ends(watched)
      if cleanup?, do: assert_receive(:cleaned_up, 30_000)
    end
  end

  test "a guarded node runs only what it has registered" do
    for {guard, expected} <- [
          {true, {[], error("Internal Server Error", false, executed: "no")}},
          {[allow: [Streams]], {[1, 4], ended()}}
        ] do
      {_, node} = Cluster.start_peer(app: [client_mode: true, service_guard: guard])
      start(config(node, :squares, [2]))
      assert frames() == expected
      start(helped(node, :count, [0, sink()]))
      assert elem(frames(), 1) == elem(expected, 1)
    end
  end

  describe "on a node without the library" do
    setup do
      {_, node} = peer = Cluster.start_peer(code: false)
      {Streams, binary, file} = :code.get_object_code(Streams)
      {:module, Streams} = :erpc.call(node, :code, :load_binary, [Streams, file, binary])
      %{bare: node, peer: peer}
    end

    test "lists and ranges are relayed from the gateway, values are values", %{bare: node} do
      start(%{config(node, :identity, []) | mfa: {:lists, :seq, [1, 100]}})
      assert frames() == {Enum.to_list(1..100), ended()}

      for {value, items} <- [{1..3, [1, 2, 3]}, {MapSet.new([1]), [1]}, {{:ok, [1]}, [1]}] do
        start(config(node, :identity, [value]))
        assert frames() == {items, ended()}
      end

      start(config(node, :identity, [%{a: 1}]))
      assert frames() == {[], Response.stream_response("r1", %{a: 1}, false)}
    end

    test "other enumerables cannot be", %{bare: node} do
      start(config(node, :identity, [&:lists.append/2]))
      assert frames() == {[], error("Stream execution failed", false, executed: "yes")}
      start(config(node, :identity, [Date.range(~D[2026-01-01], ~D[2026-01-02])]))
      assert frames() == {[], error("Stream execution failed", false, executed: "yes")}
    end

    test "raw messages work", %{bare: node} do
      start(helped(node, :raw, []))
      assert frames() == {[1, 2], Response.stream_response("r1", 3, false)}
    end

    test "failures are told, and a stop ends the function", %{bare: node} do
      start(config(node, :no_such, []))
      assert frames() == {[], error("Internal Server Error", false)}

      pid = start(helped(node, :raw_and_stay, [self()]))
      assert_receive {:function, function, nil}, 30_000
      watched = watch(function)
      StreamCall.stop(pid)
      assert_ends(watched)
      assert frames() == {[1], ended()}

      pid = start(helped(node, :raw_and_stay, [self()]))
      assert_receive {:function, function, nil}, 30_000
      watched = watch(function)
      Process.exit(pid, :kill)
      assert_ends(watched)
      assert {_, last} = frames()
      assert last == error("Stream execution failed", false)
    end

    test "its death is one error, before and after the function has returned", context do
      start(helped(context.bare, :raw_and_stay, [self()]))
      assert_receive {:function, function, nil}, 30_000
      start(helped(context.bare, :raw_and_stay, [self()]))
      assert_receive {:function, returned, nil}, 30_000
      watched = watch(returned)
      send(returned, :return)
      assert_ends(watched)
      Cluster.stop_peer(context.peer)
      assert {_, one} = frames()
      assert {_, other} = frames()
      assert {one, other} == {node_down(), node_down()}
      assert is_pid(function)
    end
  end
end
