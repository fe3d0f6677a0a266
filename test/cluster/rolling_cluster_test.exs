defmodule PhoenixGenApi.RollingClusterTest do
  # Deployments while requests run: nodes that offer different definitions, and clean stops.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, ConfigDb, Executor, Offers, Service}
  alias PhoenixGenApi.Structs.{Request, Response}
  alias PhoenixGenApi.Test.{Cluster, Functions, Offering}

  import Offering, only: [function: 3, run: 2, run: 3]

  @moduletag :capture_log

  setup do
    Cluster.start_distribution()

    on_exit(&Offering.forget_all/0)

    %{service: "service-#{System.unique_integer([:positive])}"}
  end

  defp nodes(count) do
    peers = Cluster.start_peers(for(_ <- 1..count, do: Offering.options([])))
    {peers, for({_, node} <- peers, do: node)}
  end

  # Takes one argument, of a type that differs.
  defp takes(service, type, fields \\ []) do
    function(
      service,
      "take",
      [mfa: {Functions, :node_and, []}, arg_types: %{"value" => type}] ++ fields
    )
  end

  defp take(service, value, fields \\ []),
    do: run(service, "take", [args: %{"value" => value}] ++ fields)

  describe "nodes that offer different definitions of a function" do
    test "get only what their own definition accepts, and all of them work", %{service: service} do
      {[one, two], [a, b]} = nodes(2)
      {:ok, _} = Offering.offer(one, [takes(service, {:string, 10})])
      {:ok, _} = Offering.offer(two, [takes(service, {:string, 3})])
      Offering.await_nodes(service, [a, b])

      answers = for _ <- 1..200, do: take(service, "longer")
      {good, bad} = Enum.split_with(answers, & &1.success)

      assert Enum.uniq(for(response <- good, do: response.result)) == [[to_string(a), "longer"]] or
               Enum.uniq(for(response <- good, do: response.result)) == [[a, "longer"]]

      assert Enum.uniq(for(response <- bad, do: response.code)) == ["invalid_arguments"]
      # Each with a chance of about a half.
      assert length(good) > 40 and length(bad) > 40
      reached = for _ <- 1..200, uniq: true, do: hd(take(service, "x").result)
      assert Enum.sort(reached) == Enum.sort([a, b])
    end

    test "may differ in the function that is called, and in who may call it", %{service: service} do
      {[one, two], [a, b]} = nodes(2)
      mode = [choose_node_mode: {:hash, "user_id"}]

      {:ok, _} =
        Offering.offer(one, [function(service, "f", [mfa: {Functions, :node_name, []}] ++ mode)])

      {:ok, _} =
        Offering.offer(two, [
          function(
            service,
            "f",
            [mfa: {Functions, :node_and, ["new"]}, check_permission: {:role, ["admin"]}] ++ mode
          )
        ])

      Offering.await_nodes(service, [a, b])

      for n <- 1..40 do
        user = "u#{n}"
        plain = run(service, "f", user_id: user)
        admin = run(service, "f", user_id: user, user_roles: ["admin"])

        case admin.result do
          ^a -> assert plain.result == a
          [^b, "new"] -> assert plain.code == "forbidden"
        end
      end
    end

    test "keep the guarantee of the hash modes", %{service: service} do
      {[one, two, three] = peers, nodes} = nodes(3)
      same = takes(service, :string, choose_node_mode: {:hash, "value"})
      for peer <- peers, do: {:ok, _} = Offering.offer(peer, [same])
      Offering.await_nodes(service, nodes)
      values = for n <- 1..60, do: "v#{n}"
      before = Map.new(values, &{&1, hd(take(service, &1).result)})

      # Another definition on one of them, which moves no key for good.
      Offering.stop(two)
      other = %{same | doc: "another one"}
      {:ok, _} = Offering.offer(two, [other])
      Offering.await_nodes(service, nodes)
      assert Map.new(values, &{&1, hd(take(service, &1).result)}) == before
      assert Offers.Rolling.functions(service) == [{"take", "0.0.0"}]

      for peer <- [one, three] do
        Offering.stop(peer)
        {:ok, _} = Offering.offer(peer, [other])
      end

      Offering.await_nodes(service, nodes)
      assert Map.new(values, &{&1, hd(take(service, &1).result)}) == before
      assert Offers.Rolling.functions(service) == []
    end

    test "retry among those with the definition that was chosen", %{service: service} do
      {[one, two, three], [a, b, c]} = nodes(3)
      failing = [mfa: {Functions, :tell_and_fail, [self()]}, retry: {:all_nodes, 1}]
      {:ok, _} = Offering.offer(one, [function(service, "f", failing)])
      {:ok, _} = Offering.offer(two, [function(service, "f", failing)])
      {:ok, _} = Offering.offer(three, [function(service, "f", failing ++ [doc: "another"])])
      Offering.await_nodes(service, [a, b, c])

      for _ <- 1..8 do
        assert %Response{success: false} = run(service, "f")
        assert MapSet.new(told()) in [MapSet.new([a, b]), MapSet.new([c])]
      end
    end
  end

  defp told do
    receive do
      {:failed, node} -> [node | told()]
    after
      0 -> []
    end
  end

  describe "a clean stop" do
    test "lets the calls end that run, and begins no others", %{service: service} do
      {[one, two], [a, b]} = nodes(2)
      slow = function(service, "slow", mfa: {Functions, :wait_for, [self()]}, timeout: 60_000)
      {:ok, pid} = Offering.offer(one, [slow], drain_ms: 60_000)
      Offering.await_nodes(service, [a])
      caller = Task.async(fn -> run(service, "slow") end)
      assert_receive {:running, function, ^a}, 30_000
      {:ok, _} = Offering.offer(two, [slow])
      Offering.await_nodes(service, [a, b])

      stop = Task.async(fn -> Offering.stop(one) end)
      Offering.await_nodes(service, [b])
      assert %{^a => %{state: :draining}} = Service.nodes(service)
      assert :erpc.call(a, Process, :alive?, [pid])
      send(function, {:return, :done})
      assert %Response{success: true, result: :done} = Task.await(caller, 30_000)
      assert Task.await(stop, 30_000) == :ok
      Await.until(fn -> Map.keys(Service.nodes(service)) == [b] end)
    end

    test "ends calls and streams that take longer, as unavailable", %{service: service} do
      {[one], [a]} = nodes(1)

      functions = [
        function(service, "slow", mfa: {Functions, :wait_for, [self()]}, timeout: 60_000),
        function(service, "stream",
          mfa: {Functions, :wait_for, [self()]},
          timeout: 60_000,
          response_type: :stream
        )
      ]

      {:ok, _} = Offering.offer(one, functions, drain_ms: 100)
      Offering.await_nodes(service, [a])
      caller = Task.async(fn -> run(service, "slow") end)
      assert_receive {:running, function, ^a}, 30_000
      assert %Response{success: true} = run(service, "stream", request_id: "s1")
      assert_receive {:running, streaming, ^a}, 30_000
      assert Offering.stop(one) == :ok

      assert %Response{success: false, code: "unavailable", details: [%{"executed" => "unknown"}]} =
               Task.await(caller, 30_000)

      assert_receive {:stream_response, %Response{success: false, code: "unavailable"}}, 30_000

      for pid <- [function, streaming],
          do: Await.until(fn -> not :erpc.call(a, Process, :alive?, [pid]) end)
    end

    test "leaves the calls of other services on the node alone", %{service: service} do
      {[one], [a]} = nodes(1)
      slow = function(service, "slow", mfa: {Functions, :wait_for, [self()]}, timeout: 60_000)
      {:ok, _} = Offering.offer(one, [slow])
      other = "other-#{service}"
      {:ok, pid} = Offering.offer(one, [function(other, "f", [])], id: :other, drain_ms: 60_000)
      Offering.await_nodes(service, [a])
      Offering.await_nodes(other, [a])
      caller = Task.async(fn -> run(service, "slow") end)
      assert_receive {:running, function, ^a}, 30_000

      # Neither does a crash stop anything.
      Process.exit(pid, :kill)
      Await.until(fn -> run(other, "f").success end)

      # It does not wait for what is not its own.
      assert Offering.stop(one, :other) == :ok
      assert run(other, "f").code == "unavailable"
      send(function, {:return, :done})
      assert %Response{result: :done} = Task.await(caller, 30_000)
    end

    test "has a call that arrives afterwards begun elsewhere", %{service: service} do
      {[one, two], [a, b]} = nodes(2)
      # Its nodes do not follow: the one that stops stays listed.
      :ok = ConfigDb.add(function(service, "f", nodes: [a, b], choose_node_mode: :round_robin))

      for type <- [:async, :stream],
          do:
            :ok =
              ConfigDb.add(
                function(service, "#{type}",
                  nodes: [a, b],
                  choose_node_mode: :round_robin,
                  response_type: type
                )
              )

      :ok =
        ConfigDb.add(
          function(service, "retry", nodes: [a, b], choose_node_mode: :round_robin, retry: 2)
        )

      for peer <- [one, two],
          do: {:ok, _} = Offering.offer(peer, [function("other-#{service}", "g", [])])

      Offering.await_nodes("other-#{service}", [a, b])
      Offering.stop(one)

      for type <- ["f", "retry"], _ <- 1..10 do
        assert %Response{success: true, result: ^b} = run(service, type)
      end

      for n <- 1..10 do
        run(service, "async", request_id: "a#{n}")
        assert_receive {:async_call, %Response{success: true, result: ^b}}, 30_000
        run(service, "stream", request_id: "s#{n}")
        assert_receive {:stream_response, %Response{success: true, result: ^b}}, 30_000
      end

      # Both stop: nobody is left.
      Offering.stop(two)
      assert %Response{code: "unavailable", details: [%{"executed" => "no"}]} = run(service, "f")
      {:ok, _} = Offering.offer(one, [function("other-#{service}", "g", [])])
      Offering.await_nodes("other-#{service}", [a])
      assert %Response{success: true, result: ^a} = run(service, "f")
    end
  end

  test "no request fails while three nodes restart one after the other with changed definitions",
       %{
         service: service
       } do
    {peers, nodes} = nodes(3)
    generation = fn n -> [takes(service, {:string, 10 + n}, doc: "generation #{n}")] end
    for peer <- peers, do: {:ok, _} = Offering.offer(peer, generation.(1))
    Offering.await_nodes(service, nodes)

    {:ok, stop} = Agent.start(fn -> false end)
    callers = for n <- 1..4, do: Task.async(fn -> call_on(service, n, stop, []) end)

    for n <- 2..4, peer <- peers do
      Offering.stop(peer)
      # With a version that is added.
      added = [takes(service, :string, version: "#{n}.0.0")]
      {:ok, _} = Offering.offer(peer, generation.(n) ++ added)
      assert Offering.await(peer, service) == :ok
    end

    Agent.update(stop, fn _ -> true end)
    answers = callers |> Task.await_many(60_000) |> Enum.concat()
    Agent.stop(stop)
    assert Enum.reject(answers, & &1.success) == []
    assert length(answers) > 100
    reached = for response <- answers, uniq: true, do: hd(response.result)
    assert Enum.sort(reached) == Enum.sort(nodes)
    # The one that all offer.
    assert run(service, "take", version: "4.0.0", args: %{"value" => "x"}).success
    assert {:error, :not_found} = ConfigDb.get(service, "take", "2.0.0")
  end

  defp call_on(service, n, stop, answers) do
    request = %Request{
      request_id: "r#{n}",
      service: service,
      request_type: "take",
      args: %{"value" => "x"}
    }

    answers = [Executor.execute!(request) | answers]
    if Agent.get(stop, & &1), do: answers, else: call_on(service, n, stop, answers)
  end
end
