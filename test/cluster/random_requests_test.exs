defmodule PhoenixGenApi.RandomRequestsTest do
  # Requests of every kind with every outcome, on two nodes, one of which dies and comes back.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, ConfigDb, Executor, NodeSelector, RPC}
  alias PhoenixGenApi.WorkerPool
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Test.{Cluster, Functions, Leaks, Options}

  @moduletag :capture_log
  @moduletag timeout: 300_000

  @seed 20_261_120
  @requests 10_000
  @workers 50
  @rounds 4

  # How often, and what a client may then be told. Lost connections, open circuits and nodes that
  # are down come on top of each.
  @outcomes [
    {:node_name, [], 60, nil},
    {:crash, [:raise], 5, "Internal Server Error"},
    {:crash, [:exit], 5, "Internal Server Error"},
    {:crash, [:throw], 5, "Internal Server Error"},
    {:crash, [:kill], 5, "Internal Server Error"},
    {:crash, [:result], 5, "Internal Server Error"},
    {:crash, [:malformed], 5, "Unexpected execution result"},
    {:hang, [], 10, "Request timed out after 100ms"}
  ]

  @anytime [
    "No service node available",
    "Service temporarily unavailable",
    "Request timed out after 100ms"
  ]

  test "10,000 random requests on nodes that come and go get one answer each and leave nothing" do
    Options.set(:circuit_breaker, cooldown_ms: 100)
    # One where the library runs, and one that has its code alone.
    {_, stays} = Cluster.start_peer(app: [client_mode: true])
    name = Cluster.node_name("comes_and_goes")
    peer = Cluster.start_peer(name: name)
    types = stored([stays, name])
    on_exit(&ConfigDb.clear/0)
    Await.until(&idle?/0)
    watch = Leaks.watch()
    sent = :counters.new(1, [])
    workers = for n <- 1..@workers, do: Task.async(fn -> work(n, types, sent, watch) end)

    # Each round begins with the node up, and loses it halfway.
    _peer =
      Enum.reduce(1..@rounds, peer, fn round, peer ->
        for %{pid: pid} <- workers, do: send(pid, :go_on)

        Await.until(fn ->
          :counters.get(sent, 1) > div(@requests * (2 * round - 1), 2 * @rounds)
        end)

        restart(peer, name)
      end)

    answers = workers |> Task.await_many(:infinity) |> List.flatten()

    assert length(answers) == @requests
    assert_every_kind(answers)

    # Nothing is in flight, waiting or half done, here or there.
    Await.until(&idle?/0)
    for node <- [stays, name], do: Await.until(fn -> Cluster.calls_on(node) == [] end)
    assert {0, _revoked} = :erpc.call(stays, RPC.Server, :size, [])
    Leaks.assert_none(watch)
  end

  defp stored(nodes) do
    kinds =
      for response_type <- [:sync, :async, :none],
          mode <- [:random, :round_robin, :hash, :least_busy],
          nodes <- [nodes, :local],
          do: [response_type: response_type, choose_node_mode: mode, nodes: nodes]

    retried = for kind <- kinds, do: kind ++ [retry: 1, retry_on: [:node_down, :exception]]

    for {kind, k} <- Enum.with_index(kinds ++ retried),
        {{function, arguments, weight, text}, o} <- Enum.with_index(@outcomes) do
      config =
        struct!(
          %FunConfig{
            service: "random",
            request_type: "#{k}-#{o}",
            mfa: {Functions, function, arguments},
            timeout: 100
          },
          kind
        )

      :ok = ConfigDb.add(config)
      {config.request_type, kind[:response_type], weight, text}
    end
  end

  defp restart(peer, name) do
    Cluster.stop_peer(peer)
    peer = Cluster.start_peer(name: name)
    Await.until(fn -> NodeSelector.node_status(name) == :up end)
    peer
  end

  # The answers to so many requests of one process, which ends as empty-handed as it began.
  defp work(n, types, sent, watch) do
    :rand.seed(:exsss, {@seed, n, 0})

    weighted =
      Enum.flat_map(types, fn {_, _, weight, _} = type -> List.duplicate(type, weight) end)

    drawn = List.to_tuple(weighted)

    answered =
      for round <- 1..@rounds,
          :ok = receive(do: (:go_on -> :ok)),
          i <- 1..div(@requests, @rounds * @workers),
          into: %{} do
        :counters.add(sent, 1, 1)
        {type, response_type, _, text} = elem(drawn, :rand.uniform(tuple_size(drawn)) - 1)

        request = %Request{
          request_id: "#{n}-#{round}-#{i}",
          service: "random",
          request_type: type
        }

        {request.request_id, {response_type, text, execute(request)}}
      end

    pending =
      for {id, {:async, _, %Response{async: true}}} <- answered, into: MapSet.new(), do: id

    later = later(pending, %{})
    Await.until(&idle?/0, 60_000)
    assert Process.info(self(), :messages) == {:messages, []}
    assert Process.info(self(), :monitors) == {:monitors, []}
    assert Leaks.timers_of(watch, self()) == []

    for {id, {response_type, text, first}} <- answered do
      answer = Map.get(later, id, first)
      assert_possible(id, response_type, text, answer)
      {response_type, answer}
    end
  end

  defp execute(request) do
    if :rand.uniform(10) == 1,
      do: Executor.execute_with_timeout!(request, 30_000),
      else: Executor.execute!(request)
  end

  # One message for each, and no second one.
  defp later(pending, answers) do
    if MapSet.size(pending) == 0 do
      answers
    else
      assert_receive {:async_call, %Response{request_id: id} = response}, 30_000
      assert id in pending, "#{id} is answered twice or was never asked"
      later(MapSet.delete(pending, id), Map.put(answers, id, response))
    end
  end

  defp assert_possible(_id, :none, _text, {:ok, :none}), do: :ok

  defp assert_possible(id, type, text, %Response{request_id: id, async: false} = answer)
       when type in [:sync, :async] do
    case answer do
      %{success: true, error: nil} -> assert text == nil
      %{success: false, error: error} -> assert error in [text | @anytime]
    end
  end

  # So that it is known to have been a test of everything.
  defp assert_every_kind(answers) do
    seen = for {_type, %Response{error: error}} <- answers, uniq: true, do: error
    expected = [nil, "Internal Server Error", "Unexpected execution result"] ++ @anytime
    assert expected -- seen == []
    for type <- [:sync, :async, :none], do: assert(List.keymember?(answers, type, 0))
  end

  defp idle? do
    status = WorkerPool.status(:async_pool)
    status.busy_workers == 0 and status.queued_tasks == 0
  end
end
