defmodule PhoenixGenApi.RandomOperationsTest do
  # Clients that do anything at any time, through channels and without, while processes of the
  # library are killed and a node dies and comes back. Requests without channels and what is
  # answered to them: random_requests_test.exs.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, ConfigDb, Executor, NodeSelector, WorkerPool}
  alias PhoenixGenApi.ChannelCase
  alias PhoenixGenApi.StreamCall.Registry
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Test.{Cluster, Leaks, Operations, Options}

  @moduletag :capture_log
  @moduletag timeout: 300_000

  @seed 20_261_121
  @operations 10_000
  @clients 40
  @rounds 4
  @each div(@operations, @clients * @rounds)
  @service "operations"

  # Requests of a client that are not answered to the end; then it waits.
  @most_open 12

  @errors [
    "Internal Server Error",
    "Request timed out after 100ms",
    "Request timed out after 300ms",
    "No service node available",
    "Service temporarily unavailable",
    "Async execution failed",
    "Stream execution failed",
    "Failed to start stream"
  ]

  # Only for what was begun at the moment in which a process was killed.
  @rare ["Async execution failed", "Stream execution failed", "Failed to start stream"]

  test "10,000 random operations give each request one final answer and leave nothing" do
    Options.set(:circuit_breaker, cooldown_ms: 100)
    name = Cluster.node_name("comes_and_goes")
    peer = Cluster.start_peer(name: name)
    Code.ensure_loaded!(Operations)
    recorder = spawn_link(fn -> record(%{}, %{}, []) end)
    types = stored(name, recorder)
    on_exit(&ConfigDb.clear/0)
    Await.until(&idle?/0)
    watch = Leaks.watch()
    done = :counters.new(1, [])

    clients =
      for n <- 1..@clients,
          do: Task.async(fn -> client(n, types, recorder, done, watch) end)

    _peer =
      Enum.reduce(1..@rounds, peer, fn round, peer ->
        for %{pid: pid} <- clients, do: send(pid, :go_on)
        half = div(@operations * (2 * round - 1), 2 * @rounds)
        Await.until(fn -> :counters.get(done, 1) > half end, 60_000)

        for name <- [:async_pool, :stream_pool, Registry, NodeSelector.Health],
            do: Await.restart(name)

        Cluster.stop_peer(peer)
        peer = Cluster.start_peer(name: name)
        Await.until(fn -> NodeSelector.node_status(name) == :up end)
        peer
      end)

    seen = clients |> Task.await_many(:infinity) |> List.flatten() |> Enum.frequencies()

    for kind <- [:sync, :async, :stream, :none, :cancelled, :stopped, :closed, :killed, :direct],
        do: assert(seen[kind] > 50, "#{kind}: #{inspect(seen)}")

    for outcome <- [nil | @errors] -- @rare, do: assert(seen[{:error, outcome}] > 0)

    # Receivers that were killed between the entry of their stream and its start left that.
    send(Registry, :sweep)
    Await.until(&idle?/0)
    Await.until(fn -> ask(recorder, :running) == [] end)
    Process.unlink(recorder)
    Process.exit(recorder, :kill)
    Leaks.assert_none(watch)
  end

  defp idle? do
    for(pool <- [:async_pool, :stream_pool], do: WorkerPool.status(pool))
    |> Enum.all?(&(&1.busy_workers == 0 and &1.queued_tasks == 0)) and Registry.count() == 0
  end

  defp stored(name, recorder) do
    calls = [
      {:quick, [], 6},
      {:hold, [20], 3},
      {:hold, [:infinity], 2},
      {:crash, [], 1},
      {:die, [], 1}
    ]

    streams = [{:items, [3], 4}, {:items, [200], 1}, {:ticks, [], 4}, {:lazily, [100], 1}]

    for {kind, functions, timeout} <- [
          {:sync, calls, 100},
          {:async, calls, 300},
          {:none, calls, 100},
          {:stream, streams ++ calls, 300}
        ],
        {nodes, n} <- Enum.with_index([:local, [name]]),
        {{function, arguments, weight}, f} <- Enum.with_index(functions) do
      config = %FunConfig{
        service: @service,
        request_type: "#{kind}-#{n}-#{f}",
        nodes: nodes,
        response_type: kind,
        request_info: true,
        timeout: timeout,
        mfa: {Operations, function, arguments ++ [recorder]}
      }

      :ok = ConfigDb.add(config)
      List.duplicate({kind, config.request_type}, weight)
    end
    |> List.flatten()
    |> List.to_tuple()
  end

  # Which functions run, by request.
  defp record(running, ids, waiting) do
    receive do
      {:runs, id, pid} ->
        monitor = Process.monitor(pid)
        record(Map.put(running, monitor, id), Map.update(ids, id, 1, &(&1 + 1)), waiting)

      {:DOWN, monitor, :process, _pid, _reason} ->
        {id, running} = Map.pop!(running, monitor)
        ids = if ids[id] == 1, do: Map.delete(ids, id), else: Map.update!(ids, id, &(&1 - 1))
        {told, waiting} = Enum.split_with(waiting, fn {_from, other} -> other == id end)
        unless ids[id], do: for({from, ^id} <- told, do: send(from, {:over, id}))
        record(running, ids, if(ids[id], do: told ++ waiting, else: waiting))

      {:over?, id, from} when is_map_key(ids, id) ->
        record(running, ids, [{from, id} | waiting])

      {:over?, id, from} ->
        send(from, {:over, id})
        record(running, ids, waiting)

      {:running, from} ->
        send(from, {:running, Map.keys(ids)})
        record(running, ids, waiting)
    end
  end

  defp ask(recorder, :running) do
    send(recorder, {:running, self()})
    assert_receive {:running, ids}, 30_000
    ids
  end

  # A client: its channel, and what it still waits for.
  defp client(n, types, recorder, done, watch) do
    :rand.seed(:exsss, {@seed, n, 0})

    state = %{
      n: n,
      types: types,
      recorder: recorder,
      channel: join(),
      # ref => id, or {:cancel, id}
      refs: %{},
      # id => :sync | :none | :async | :stream | {:running, :async | :stream}
      open: %{},
      # those whose channel is gone
      lost: MapSet.new(),
      ended: MapSet.new(),
      seen: []
    }

    state =
      for round <- 1..@rounds,
          :ok = receive(do: (:go_on -> :ok)),
          i <- 1..@each,
          reduce: state do
        state ->
          :counters.add(done, 1, 1)
          state |> take(0) |> room() |> operation("#{round}-#{i}", :rand.uniform(100))
      end

    state = finish(state)
    state = rest(state, watch)
    idle(state.channel, watch)
    Process.exit(state.channel, :kill)
    state.seen
  end

  # What it sends to itself at a time it takes now.
  defp rest(state, watch) do
    Await.until(fn -> Leaks.timers_of(watch, self()) == [] end)
    state = take(state, 0)
    assert Process.info(self(), [:monitors, :messages]) == [monitors: [], messages: []]
    state
  end

  # A channel, and if requests have waited lately its queue, which monitors it and its client.
  defp idle(channel, watch) do
    {:monitored_by, watching} = Process.info(channel, :monitored_by)
    # Native code counts what waits for the channel, and monitors it, too.
    queues = Enum.filter(watching, &(is_pid(&1) and queue?(&1)))
    assert length(queues) <= 1

    # The processes of its last requests may be about to end.
    for {pid, monitored} <- [{channel, []} | Enum.map(queues, &{&1, [channel, self()]})] do
      Await.until(fn ->
        case Process.info(pid, [:monitors, :messages]) do
          # Nothing has waited for a while.
          nil ->
            pid != channel

          [monitors: monitors, messages: messages] ->
            Leaks.timers_of(watch, pid) == [] and messages == [] and
              Enum.sort(monitors) == Enum.sort(for pid <- monitored, do: {:process, pid})
        end
      end)
    end
  end

  defp queue?(pid) do
    with {:dictionary, dictionary} <- Process.info(pid, :dictionary),
         do: dictionary[:"$initial_call"] == {PhoenixGenApi.Channel.Queue, :init, 1}
  end

  defp join do
    socket = %Phoenix.Socket{
      channel: Operations.Api,
      topic: "api:1",
      join_ref: "1",
      serializer: ChannelCase.Verbatim,
      transport_pid: self()
    }

    {:ok, pid} = GenServer.start(ChannelCase.Server, socket)
    pid
  end

  defp room(state) do
    if map_size(state.open) < @most_open, do: state, else: state |> take(60_000) |> room()
  end

  defp operation(state, i, roll) when roll <= 70, do: request(state, i)
  defp operation(state, i, roll) when roll <= 82, do: cancel(state, i)
  defp operation(state, i, roll) when roll <= 88, do: stop(state, i)
  defp operation(state, i, roll) when roll <= 93, do: killed(state, i)
  defp operation(state, i, roll) when roll <= 98, do: direct(state, i)
  defp operation(state, i, _roll), do: close(state, i)

  defp request(state, i) do
    {kind, type} = type(state)
    id = "#{state.n}-#{i}"
    ref = ChannelCase.push_in(state.channel, ChannelCase.payload(@service, type, id))

    %{
      state
      | refs: Map.put(state.refs, ref, id),
        open: Map.put(state.open, id, kind),
        seen: [kind | state.seen]
    }
  end

  defp type(%{types: types}), do: elem(types, :rand.uniform(tuple_size(types)) - 1)

  defp cancel(state, i) do
    case running(state) do
      [] ->
        request(state, i)

      ids ->
        id = Enum.random(ids)
        ref = ChannelCase.push_in(state.channel, %{"request_id" => id, "cancel" => true})
        %{state | refs: Map.put(state.refs, ref, {:cancel, id})}
    end
  end

  defp stop(state, i) do
    case for id <- running(state), state.open[id] == {:running, :stream}, do: id do
      [] ->
        request(state, i)

      ids ->
        id = Enum.random(ids)
        answer = ChannelCase.in_channel(state.channel, fn -> PhoenixGenApi.stop_stream(id) end)
        assert answer in [:ok, {:error, :not_found}]
        %{state | seen: [:stopped | state.seen]}
    end
  end

  defp running(state), do: for({id, {:running, _kind}} <- state.open, do: id)

  # A receiver that dies at any moment.
  defp killed(state, i) do
    {_kind, type} = type(state)
    receiver = spawn(fn -> execute(type, "#{state.n}-#{i}") && receive(do: (:never -> :ok)) end)
    Process.send_after(self(), {:kill, receiver}, :rand.uniform(20))
    %{state | seen: [:killed | state.seen]}
  end

  defp direct(state, i) do
    {_kind, type} = type(state)
    id = "#{state.n}-#{i}"
    client = self()

    spawn_link(fn ->
      first = execute(type, id)
      send(client, {:direct, id, answers(first, id)})
    end)

    open = Map.put(state.open, id, :direct)
    %{state | open: open, seen: [:direct | state.seen]}
  end

  defp execute(type, id) do
    Executor.execute!(%Request{service: @service, request_type: type, request_id: id})
  end

  # How many final answers there were: until the first, and whatever is there by then.
  defp answers(%Response{async: true, has_more: more?}, id) do
    tag = if more?, do: :stream_response, else: :async_call

    receive do
      {^tag, %Response{request_id: ^id, has_more: false}} -> 1 + more(tag)
    after
      60_000 -> 0
    end
  end

  defp answers(_final, _id), do: 1

  defp more(tag) do
    receive do
      {^tag, %Response{has_more: false}} -> 1 + more(tag)
    after
      50 -> 0
    end
  end

  defp close(state, _i) do
    Process.exit(state.channel, :kill)
    lost = for {id, kind} <- state.open, kind != :direct, into: state.lost, do: id

    %{
      state
      | channel: join(),
        lost: lost,
        refs: %{},
        open: Map.filter(state.open, fn {_id, kind} -> kind == :direct end),
        seen: [:closed | state.seen]
    }
  end

  # All that has come, after waiting so long for the first.
  defp take(state, wait) do
    receive do
      {:reply, ref, status, payload} -> state |> reply(ref, status, payload) |> take(0)
      {:push, "api", response} -> state |> push(response) |> take(0)
      {:kill, receiver} -> Process.exit(receiver, :kill) && take(state, wait)
      {:direct, id, answers} -> state |> ended_directly(id, answers) |> take(0)
    after
      wait ->
        assert wait == 0, "no answer to #{inspect(state.open)}"
        state
    end
  end

  defp finish(state) do
    if state.open == %{} and state.refs == %{} do
      # Whatever else is on its way, of those that have ended.
      ChannelCase.in_channel(state.channel)
      for _ <- 1..2, do: take(state, 0)
      take(state, 0)
    else
      state |> take(60_000) |> finish()
    end
  end

  defp ended_directly(state, id, answers) do
    assert answers == 1, "#{id} got #{answers} answers"
    %{state | open: Map.delete(state.open, id)}
  end

  defp reply(state, ref, status, payload) do
    case Map.pop(state.refs, ref) do
      # Of a channel that is gone.
      {nil, _refs} -> state
      {{:cancel, id}, refs} -> cancelled(%{state | refs: refs}, id, payload)
      {id, refs} -> answered(%{state | refs: refs}, id, status, payload)
    end
  end

  # Unless it had ended before, nothing of it runs any more, and an async one says no more.
  defp cancelled(state, id, %{request_id: id, cancelled: true}) do
    send(state.recorder, {:over?, id, self()})
    assert_receive {:over, ^id}, 30_000
    state = %{state | seen: [:cancelled | state.seen]}
    if state.open[id] == {:running, :async}, do: ended(state, id), else: state
  end

  defp cancelled(state, _id, %{cancelled: false}), do: state

  defp answered(state, id, status, payload) do
    case {Map.fetch!(state.open, id), payload} do
      {:none, %{request_id: ^id}} ->
        ended(state, id)

      {kind, %Response{request_id: ^id, async: true} = response} when kind in [:async, :stream] ->
        assert status == :ok and response.has_more == (kind == :stream)
        %{state | open: Map.put(state.open, id, {:running, kind})}

      {_kind, %Response{request_id: ^id, async: false} = response} ->
        state |> told(response) |> ended(id)
    end
  end

  defp push(state, %Response{request_id: id} = response) do
    cond do
      id in state.lost -> state
      response.has_more -> assert_open(state, id, {:running, :stream})
      true -> state |> assert_open(id, :any) |> told(response) |> ended(id)
    end
  end

  defp assert_open(state, id, kind) do
    refute id in state.ended, "#{id}: something came after its end"
    assert {:running, _kind} = state.open[id]
    if kind != :any, do: assert(state.open[id] == kind)
    state
  end

  defp told(state, %Response{error: error}) do
    assert error in [nil | @errors]
    %{state | seen: [{:error, error} | state.seen]}
  end

  defp ended(state, id) do
    refute id in state.ended, "#{id} ended twice"
    %{state | open: Map.delete(state.open, id), ended: MapSet.put(state.ended, id)}
  end
end
