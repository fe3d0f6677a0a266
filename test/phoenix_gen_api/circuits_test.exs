defmodule PhoenixGenApi.CircuitsTest do
  # The circuit between a function and the gateway itself; of other nodes, see the cluster tests.
  use PhoenixGenApi.Test.OwnVM

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.{Await, Circuits, ConfigDb, Executor, Gateway, Native, NodeSelector, RPC}
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.WorkerPool
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Test.{Events, Functions, Options}

  @moduletag :capture_log

  setup do
    ConfigDb.clear()
    on_exit(&ConfigDb.clear/0)
    # Nothing is left of other tests.
    Options.set(:circuit_breaker, enabled: false)
    Options.set(:circuit_breaker, [])
    change = [:phoenix_gen_api, :worker_pool, :circuit_breaker]
    Events.forward([change ++ [:open], change ++ [:close]], &{List.last(&1), &2, &3})
  end

  defp config(fun, fields) do
    type = "t#{System.unique_integer([:positive])}"
    Functions.config(fun, [request_type: type, timeout: 100] ++ fields)
  end

  # A function that does what it is told, and its config, which is stored.
  defp told(fields \\ []) do
    what = :counters.new(1, [])
    parent = self()

    fun = fn ->
      send(parent, {:called, self()})

      case :counters.get(what, 1) do
        0 -> :well
        1 -> Process.sleep(:infinity)
        2 -> raise "oops"
        3 -> {:error, :r}
        4 -> receive do: ({:return, value} -> value)
      end
    end

    config = config(fun, fields)
    :ok = ConfigDb.add(config)
    steps = [well: 0, hang: 1, raise: 2, error: 3, wait: 4]
    {config, fn step -> :counters.put(what, 1, Keyword.fetch!(steps, step)) end}
  end

  defp run(config), do: Executor.execute!(request(config))
  defp request(config), do: Functions.request(request_type: config.request_type)

  defp timed_out, do: error("Request timed out after 100ms", true)
  defp refused, do: error("No service node available", true)

  defp state(config) do
    Enum.find(NodeSelector.circuits(), &(&1.request_type == config.request_type))
  end

  defp cooled_down(config), do: Await.until(fn -> match?(%{retry_in_ms: 0}, state(config)) end)

  defp called?, do: assert_received({:called, _})

  # Through to an open circuit, with 2 as the threshold.
  defp open(config, tell) do
    tell.(:hang)
    for _ <- 1..2, do: assert(run(config) == timed_out() and called?())
    assert_received {:open, _, _}
    assert run(config) == refused()
    refute_received {:called, _}
  end

  test "five timeouts that are half of the calls open the circuit, and calls are refused at once" do
    {config, tell} = told()
    for _ <- 1..5, do: assert(run(config) == ok(:well))
    tell.(:hang)
    for _ <- 1..4, do: assert(run(config) == timed_out())
    assert %{state: :closed, failures: 4} = state(config)
    refute_received {:open, _, _}
    assert run(config) == timed_out()

    names = %{
      pool_name: nil,
      node: node(),
      service: "test",
      request_type: config.request_type,
      version: "0.0.0",
      consecutive_failures: 5
    }

    assert_received {:open, measurements, ^names}
    assert measurements == %{}
    for _ <- 1..10, do: assert_received({:called, _})
    assert %{state: :open, retry_in_ms: left} = state(config)
    # Times are kept in units of a quarter of a millisecond, and rounded up.
    assert left in 1..30_001

    unavailable = {:all_nodes_unavailable, [{node(), :circuit_open}]}
    assert run(config) == refused()
    assert NodeSelector.get_nodes(config, request(config)) == {:error, unavailable}
    Options.set(:gen_api, detail_error: true)
    assert run(config).error == "No service node available: #{inspect(unavailable)}"
    refute_received _
  end

  test "other versions and functions go on" do
    Options.set(:circuit_breaker, threshold: 2)
    {config, tell} = told()
    open(config, tell)
    other = Functions.config(fn -> :well end, request_type: config.request_type, version: "2.0.0")
    :ok = ConfigDb.add(other)

    assert Executor.execute!(%{request(config) | version: "2.0.0"}) == ok(:well)
    {other, _tell} = told()
    assert run(other) == ok(:well)
    assert NodeSelector.get_nodes(other, request(other)) == {:ok, [node()]}
  end

  test "after the cool-down one call decides" do
    Options.set(:circuit_breaker, threshold: 2, cooldown_ms: 300)
    {config, tell} = told()
    open(config, tell)
    cooled_down(config)

    # It fails: open again, for as long.
    assert run(config) == timed_out()
    called?()
    assert_received {:open, _, %{consecutive_failures: 3}}
    assert run(config) == refused()

    cooled_down(config)
    tell.(:wait)
    probe = Task.async(fn -> run(%{config | timeout: 5_000}) end)
    assert_receive {:called, function}
    assert %{state: :half_open} = state(config)
    # Not before it has answered.
    for _ <- 1..5, do: assert(run(config) == refused())
    send(function, {:return, :well})
    assert Task.await(probe, 60_000) == ok(:well)

    names = %{service: "test", request_type: config.request_type, version: "0.0.0"}
    assert_received {:close, %{}, %{pool_name: nil, node: node} = closed}
    assert {node, Map.take(closed, Map.keys(names))} == {node(), names}
    tell.(:well)
    for _ <- 1..5, do: assert(run(config) == ok(:well) and called?())
    refute_received _
  end

  test "a probe whose caller dies makes way for another" do
    Options.set(:circuit_breaker, threshold: 2, cooldown_ms: 100)
    {config, tell} = told(timeout: :infinity)
    tell.(:hang)
    quick = %{config | timeout: 100}
    for _ <- 1..2, do: Executor.execute_with_config!(request(config), quick)
    assert_received {:open, _, _}
    cooled_down(config)
    for _ <- 1..2, do: called?()

    caller = spawn(fn -> run(config) end)
    assert_receive {:called, function}
    assert run(config) == refused()
    monitor = Process.monitor(function)
    Process.exit(caller, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^function, _}, 2_000
    tell.(:well)
    # Long before the circuit could be forgotten.
    Await.until(fn -> run(config) == ok(:well) end, 500)
    assert_received {:close, _, closed}
    refute Map.has_key?(closed, :reason)
  end

  test "exceptions and error results are answers, unless exceptions are to be counted" do
    {config, tell} = told()

    for step <- [:raise, :error] do
      tell.(step)
      for _ <- 1..10, do: assert(run(config).error == "Internal Server Error")
      assert state(config) == nil
    end

    # They speak for the node as other answers do.
    tell.(:hang)
    for _ <- 1..5, do: run(config)
    assert %{state: :closed, failures: 5} = state(config)

    Options.set(:circuit_breaker, count: [:exception])
    {config, tell} = told()
    tell.(:raise)
    for _ <- 1..5, do: run(config)
    assert_received {:open, _, %{consecutive_failures: 5}}
    assert run(config) == refused()

    # What does not count says nothing.
    {config, tell} = told()
    tell.(:hang)
    for _ <- 1..6, do: assert(run(config) == timed_out())
    tell.(:error)
    for _ <- 1..6, do: assert(run(config).error == "Internal Server Error")
    refute_received {:open, _, _}
  end

  test "the share of failures is what the config says" do
    Options.set(:circuit_breaker, failure_rate: 0.8, count: [:exception])
    {config, tell} = told()

    for step <- [:well, :well | List.duplicate(:raise, 7)], do: tell.(step) && run(config)
    refute_received {:open, _, _}
    run(config)
    assert_received {:open, _, %{consecutive_failures: 8}}
  end

  # `count` calls, each begun and ended as the executor does, without the time they take.
  defp calls(config, caller, result, count) do
    {:ok, plan} = ConfigDb.fetch("test", config.request_type, nil)

    for _ <- 1..count do
      request = Functions.request([request_type: config.request_type] ++ caller)
      {:ok, node, counter} = NodeSelector.pick(plan, request)
      {Circuits.begin_call(counter), node, counter}
    end
    |> Enum.each(fn {handle, node, counter} ->
      assert handle != :circuit_open
      Circuits.end_call(handle, node, counter, result)
    end)
  end

  test "one user with ten parallel timeouts does not stop 140 good requests a second" do
    {config, tell} = told()
    calls(config, [user_id: "ann"], :success, 140)
    tell.(:hang)

    mallory = %{request(config) | user_id: "mallory"}

    1..10
    |> Enum.map(fn _ -> Task.async(fn -> Executor.execute!(mallory) end) end)
    |> Task.await_many(60_000)
    |> Enum.each(&assert(&1.error =~ "timed out"))

    tell.(:well)
    calls(config, [user_id: "ann"], :success, 140)
    assert Executor.execute!(%{request(config) | user_id: "bob"}) == ok(:well)
    refute_received {:open, _, _}
  end

  test "one user or one address opens a circuit for nobody, whatever it fails with" do
    Options.set(:circuit_breaker, count: [:timeout, :exception, :node_down])

    for {one, other} <- [
          {[user_id: "mallory"], [user_id: "ann"]},
          {[user_id: nil, ip_address: "10.0.0.1"], [user_id: nil, ip_address: "10.0.0.2"]},
          {[user_id: "mallory"], [user_id: nil, ip_address: "10.0.0.1"]}
        ] do
      {config, tell} = told()
      calls(config, other, :success, 1)
      tell.(:raise)

      for _ <- 1..10,
          do: Executor.execute!(struct!(request(config), one))

      assert %{state: :closed, failures: 4} = state(config)
      calls(config, one, :failure, 100)
      calls(config, other, :success, 1)
      refute_received {:open, _, _}
      # The node is down for all of them.
      calls(config, one, :lost, 1)
      assert_received {:open, _, %{consecutive_failures: 5}}
    end
  end

  test "anonymous clients with addresses of one network are one caller" do
    addresses = for n <- 1..50, do: "2001:db8::#{Integer.to_string(n, 16)}"
    mapped = ["10.0.0.1", "::ffff:10.0.0.1", "::FFFF:a00:1"]

    for group <- [addresses, mapped] do
      {config, _tell} = told()
      calls(config, [user_id: "ann"], :success, 1)

      for address <- group,
          do: calls(config, [user_id: nil, ip_address: address], :failure, 2)

      assert %{state: :closed, failures: 4} = state(config)
      refute_received {:open, _, _}
    end
  end

  test "how much of an address counts is what the rate limiter goes by" do
    Options.set(:rate_limiter, ipv6_prefix: 128)
    {config, _tell} = told()
    calls(config, [user_id: "ann"], :success, 1)
    for n <- 1..2, do: calls(config, [user_id: nil, ip_address: "2001:db8::#{n}"], :failure, 4)
    assert_received {:open, _, _}
  end

  # Nodes that nobody has heard of, which count as up, and a plan that chooses among them.
  defp nodes(count, fields) do
    n = System.unique_integer([:positive])
    nodes = for i <- 1..count, do: :"n#{i}@circuits#{n}"
    type = "t#{n}"
    fields = [request_type: type, nodes: nodes, choose_node_mode: :random] ++ fields
    :ok = ConfigDb.add(Functions.config(fn -> :well end, fields))
    {:ok, plan} = ConfigDb.fetch("test", type, nil)
    {nodes, plan, Functions.request(request_type: type)}
  end

  # Opens the circuits of these nodes.
  defp lose(plan, request, lost) do
    {:ok, targets} = NodeSelector.candidates(plan, request)

    for {node, counter} <- targets, node in lost, _ <- 1..5 do
      Circuits.end_call(Circuits.begin_call(counter), node, counter, :lost)
    end
  end

  defp reached(plan, request) do
    for _ <- 1..200, uniq: true do
      with {:ok, node, counter} <- NodeSelector.pick(plan, request),
           handle when handle != :circuit_open <- Circuits.begin_call(counter) do
        Circuits.end_call(handle, node, counter, :none)
        node
      end
    end
  end

  test "where fewer than half of the nodes are usable, open circuits are ignored" do
    listed = fn nodes -> {Functions, :run, [fn -> nodes end]} end
    first = {Functions, :choose, [fn nodes, _request -> Enum.shuffle(nodes) end]}

    for dynamic <- [false, true], fields <- [[], [choose_node_mode: first]] do
      {nodes, plan, request} = nodes(10, fields)
      if dynamic, do: :ok = ConfigDb.add(%{Plan.config(plan) | nodes: listed.(nodes)})
      {:ok, plan} = ConfigDb.fetch("test", request.request_type, nil)
      {down, up} = Enum.split(nodes, 3)
      lose(plan, request, down)
      assert Enum.sort(reached(plan, request)) == Enum.sort(up)
      # Five are half of them, four are not.
      lose(plan, request, Enum.take(up, 2))
      assert Enum.sort(reached(plan, request)) == Enum.sort(Enum.drop(up, 2))
      lose(plan, request, Enum.slice(up, 2, 1))
      assert Enum.sort(reached(plan, request)) == Enum.sort(nodes)
      # One that is down stays out.
      NodeSelector.mark(hd(nodes), :down)
      assert Enum.sort(reached(plan, request)) == Enum.sort(tl(nodes))
    end
  end

  test "with one or two nodes an open circuit is heeded" do
    for count <- [1, 2] do
      {nodes, plan, request} = nodes(count, [])
      lose(plan, request, nodes)
      assert [{:error, {:all_nodes_unavailable, all}}] = reached(plan, request)
      assert Enum.sort(all) == Enum.sort(for(node <- nodes, do: {node, :circuit_open}))
    end
  end

  test ":least_busy gives a node that fails at once no more than its share" do
    {[failing | _], plan, request} = nodes(3, choose_node_mode: :least_busy)
    {:ok, node, counter} = NodeSelector.pick(plan, request)
    good = Circuits.begin_call(counter)
    # It takes much longer than the calls below, as long as nothing holds these up.
    for _ <- 1..100_000, do: NodeSelector.pick(plan, request)
    Circuits.end_call(good, node, counter, :success)

    calls =
      for _ <- 1..30 do
        {:ok, node, counter} = NodeSelector.pick(plan, request)
        handle = Circuits.begin_call(counter)
        result = Circuits.classify({:return, {:error, :oops}})
        if node == failing, do: Circuits.end_call(handle, node, counter, result)
        {node, counter, handle}
      end

    # A third, and more only where a busy machine lets failed calls expire meanwhile; without the
    # rule it would be all but one or two.
    assert Enum.count(calls, &match?({^failing, _, _}, &1)) in 10..20
    for {node, counter, handle} <- calls, do: Circuits.end_call(handle, node, counter, :none)
  end

  test "a result that is an error is one for :least_busy, and none for the circuit" do
    failed = Response.error_response("r1", "no")

    for result <- [{:error, :r}, :error, failed, {:ok, failed}, {:what, :ever}],
        do: assert(Circuits.classify({:return, result}) == :error)

    for result <- [:ok, {:ok, 1}, Response.sync_response("r1", 1), %{error: 1}],
        do: assert(Circuits.classify({:return, result}) == :success)
  end

  test "while a user is the only one, all of their failures count" do
    {config, _tell} = told()
    calls(config, [user_id: "ann"], :failure, 5)
    assert_received {:open, _, %{consecutive_failures: 5}}
  end

  test "a probe that is still running after one cool-down does not keep the circuit open" do
    Options.set(:circuit_breaker, threshold: 2, cooldown_ms: 100)
    {config, tell} = told()
    open(config, tell)
    cooled_down(config)
    tell.(:wait)
    slow = Task.async(fn -> run(%{config | timeout: 60_000}) end)
    assert_receive {:called, function}, 10_000
    tell.(:well)
    Await.until(fn -> run(config) == ok(:well) end)
    assert_received {:close, _, _}
    send(function, {:return, :late})
    Task.await(slow, 60_000)
    assert run(config) == ok(:well)
  end

  test "switched off, nothing is refused" do
    Options.set(:circuit_breaker, enabled: false, threshold: 1)
    {config, tell} = told()
    tell.(:hang)
    for _ <- 1..3, do: assert(run(config) == timed_out())
    assert NodeSelector.circuits() == []
    refute_received {:open, _, _}
  end

  test "switching off or other settings close what is open, and say so" do
    Options.set(:circuit_breaker, threshold: 2)
    {config, tell} = told()
    open(config, tell)
    :ok = PhoenixGenApi.reload_config()
    assert run(config) == refused()

    Options.set(:circuit_breaker, threshold: 3)
    type = config.request_type
    assert_received {:close, _, %{request_type: ^type, node: node, reason: :forgotten}}
    assert node == node()
    tell.(:well)
    assert run(config) == ok(:well)
  end

  test "of many calls that fail at once one opens it, and of many that come later one probes" do
    Options.set(:circuit_breaker, threshold: 5, cooldown_ms: 200)
    {config, tell} = told()
    tell.(:hang)

    parallel = fn ->
      Enum.map(1..50, fn _ -> Task.async(fn -> run(config) end) end) |> Task.await_many(60_000)
    end

    assert Enum.uniq(parallel.()) == [timed_out()]
    assert_received {:open, _, %{consecutive_failures: 5}}
    refute_received {:open, _, _}
    for _ <- 1..50, do: called?()

    for _ <- 1..3 do
      cooled_down(config)
      assert Enum.frequencies(parallel.()) == %{timed_out() => 1, refused() => 49}
      assert_received {:open, _, _}
      called?()
    end

    cooled_down(config)
    tell.(:well)
    Await.until(fn -> run(config) == ok(:well) end)
    assert_received {:close, _, _}
    refute_received {:close, _, _}
    refute_received {:open, _, _}
  end

  test "async requests are refused by their message" do
    Options.set(:circuit_breaker, threshold: 2)
    {config, tell} = told(response_type: :async)
    tell.(:hang)

    answered = fn expected ->
      assert run(config) == Response.async_response("r1")
      assert_receive {:async_call, ^expected}
    end

    for _ <- 1..2, do: answered.(timed_out())
    # The answer may come before the call has been counted.
    assert_receive {:open, _, _}
    answered.(refused())
  end

  test "retries of a local function end when its circuit opens" do
    Options.set(:circuit_breaker, threshold: 2)
    {config, tell} = told(retry: 5, retry_on: [:timeout])
    tell.(:hang)
    assert run(config) == timed_out()
    for _ <- 1..2, do: called?()
    refute_received {:called, _}
  end

  test "it outlives every process of the library, and the function's config being stored again" do
    Options.set(:circuit_breaker, threshold: 2)
    {config, tell} = told()
    open(config, tell)

    for name <- [
          NodeSelector.Health,
          RPC.Reaper,
          :async_pool,
          WorkerPool.WorkerPoolSupervisor
        ] do
      Await.restart(name)
    end

    assert run(config) == refused()
    :ok = ConfigDb.add(%{config | timeout: 5_000})
    assert run(config) == refused()
    # Deleted and added again in no time, too.
    :ok = ConfigDb.delete("test", config.request_type)
    :ok = ConfigDb.add(config)
    assert run(config) == refused()
    refute_received _
  end

  test "of functions that are gone nothing is kept for long" do
    Options.set(:circuit_breaker, threshold: 2, cooldown_ms: 20)
    size = fn -> Native.circuits_size(Gateway.handle!(:node_selector)) end
    {before, _bytes} = size.()

    for n <- 1..200 do
      :ok = ConfigDb.add(Functions.config(fn -> :well end, request_type: "gone#{n}", retry: 1))
    end

    {config, tell} = told()
    open(config, tell)
    Circuits.sweep()
    assert {kept, bytes} = size.()
    assert kept in 201..(before + 201)
    assert bytes < 200_000
    ConfigDb.clear()
    tell.(:well)
    type = config.request_type

    Await.until(fn ->
      Circuits.sweep()

      receive do
        {:close, _, %{request_type: ^type, reason: :forgotten}} -> true
      after
        0 -> false
      end
    end)

    # A plan is freed with the last process that has seen it, in whose garbage it may lie.
    Await.until(fn ->
      Enum.each(Process.list(), &:erlang.garbage_collect/1)
      Circuits.sweep()
      elem(size.(), 0) <= before
    end)
  end
end
