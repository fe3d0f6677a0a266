defmodule PhoenixGenApi.CandidateSetTest do
  # Health and load of nodes are the whole gateway's. Functions with `nodes: :service`, whose nodes come and go.
  use ExUnit.Case, async: false

  import PhoenixGenApi.Test.Answers
  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.{
    CandidateSet,
    Circuits,
    ConfigDb,
    Diagnostics,
    Executor,
    NodeSelector,
    Plan,
    ServiceSets
  }

  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.Test.Functions

  @moduletag :capture_log

  setup do
    tag = System.unique_integer([:positive])
    service = "sets#{tag}"
    on_exit(fn -> ConfigDb.remove_service(service) end)
    # In the order of their names.
    nodes = for n <- 1..4, do: :"n#{n}@sets#{tag}"
    %{service: service, nodes: nodes, set: ServiceSets.of_service(service)}
  end

  defp config(service, mode, fields \\ []) do
    struct!(
      %FunConfig{
        service: service,
        request_type: "t#{System.unique_integer([:positive])}",
        nodes: :service,
        choose_node_mode: mode,
        mfa: {Functions, :node_name, []}
      },
      fields
    )
  end

  # As the request path has it.
  defp stored(config) do
    :ok = ConfigDb.add(config)
    {:ok, plan} = ConfigDb.fetch(config.service, config.request_type, config.version)
    plan
  end

  # Under the same name as another one, for which the native side remembers the same.
  defp listed(config, nodes), do: compiled(%{config | nodes: nodes})

  defp compiled(config) do
    {:ok, plan} = Plan.compile_unstored(config)
    plan
  end

  defp request(fields \\ []), do: struct!(%Request{request_id: "r", user_id: "ann"}, fields)

  defp picked(plan, request \\ request()) do
    with {:ok, node, _counter} <- NodeSelector.pick(plan, request), do: node
  end

  defp in_flight(node),
    do: Enum.find_value(NodeSelector.loads(), &if(elem(&1, 0) == node, do: elem(&1, 2)))

  defp modes(nodes) do
    [
      :random,
      :hash,
      :round_robin,
      {:hash, "user_id"},
      {:sticky, "user_id"},
      :least_busy,
      {:weighted, Map.new(nodes, &{&1, 2})},
      {Functions, :choose, [fn nodes, _request -> Enum.reverse(nodes) end]}
    ]
  end

  describe "a set" do
    test "has its members in the order of their names, each once, and at most 1,000", context do
      assert CandidateSet.nodes(context.set) == []
      :ok = CandidateSet.put(context.set, Enum.reverse(context.nodes) ++ context.nodes)
      assert CandidateSet.nodes(context.set) == context.nodes
      many = for n <- 1..1_100, do: :"n#{String.pad_leading("#{n}", 4, "0")}@many"
      :ok = CandidateSet.put(context.set, Enum.reverse(many))
      assert CandidateSet.nodes(context.set) == Enum.take(many, 1_000)
      :ok = CandidateSet.put(context.set, [])
      assert CandidateSet.nodes(context.set) == []
    end

    test "is one for each service, and is made once whoever asks first", context do
      assert ServiceSets.of_service(context.service) == context.set
      assert ServiceSets.find(context.service) == context.set
      assert ServiceSets.find(context.service <> "x") == nil
      asked = fn _ -> ServiceSets.of_service(context.service <> "y") end
      assert [set] = 1..20 |> Task.async_stream(asked) |> Enum.map(&elem(&1, 1)) |> Enum.uniq()
      assert ServiceSets.find(context.service <> "y") == set
    end
  end

  describe "every mode" do
    test "chooses among the members of the moment, with no new plan", context do
      [a, b, c, d] = context.nodes

      for mode <- modes(context.nodes) do
        plan = stored(config(context.service, mode))

        for members <- [[a], [b, c], [a, b, c, d], [d]] do
          :ok = CandidateSet.put(context.set, members)
          assert for(_ <- 1..20, node = picked(plan), node not in members, do: node) == []
          assert {:ok, targets} = NodeSelector.candidates(plan, request())
          assert Enum.sort(for {node, _counter} <- targets, do: node) == members
        end

        :ok = CandidateSet.put(context.set, [])
        assert picked(plan) == {:error, :no_nodes_available}
        assert NodeSelector.candidates(plan, request()) == {:error, :no_nodes_available}
        assert {:ok, ^plan} = ConfigDb.fetch(context.service, Plan.config(plan).request_type, nil)
      end
    end

    test "without a member says so, whatever the key", context do
      for mode <- modes(context.nodes) do
        config = config(context.service, mode)
        plan = stored(config)
        assert picked(plan, request(user_id: nil)) == {:error, :no_nodes_available}
        assert NodeSelector.candidates(plan, %Request{}) == {:error, :no_nodes_available}
        assert NodeSelector.get_nodes(config, request()) == {:error, :no_nodes_available}
        assert NodeSelector.resolve_nodes(config) == {:error, :no_nodes_available}
        assert NodeSelector.resolve_nodes_list(config) == {:error, :no_nodes_available}
      end
    end

    test "says which members are not usable, and why", context do
      [a, b | _] = context.nodes
      :ok = CandidateSet.put(context.set, [b, a])
      :ok = NodeSelector.drain(a)
      :ok = NodeSelector.mark(b, :down)
      on_exit(fn -> NodeSelector.undrain(a) end)

      for mode <- modes(context.nodes) do
        plan = stored(config(context.service, mode))
        assert {:error, {:all_nodes_unavailable, why}} = NodeSelector.pick(plan, request())
        assert Enum.sort(why) == [{a, :draining}, {b, :down}]
      end
    end
  end

  describe "the hash modes" do
    test "agree with a fixed list of the members", context do
      config = config(context.service, {:hash, "user_id"})
      plan = stored(config)

      for members <- [context.nodes, tl(context.nodes), Enum.take_every(context.nodes, 2)] do
        :ok = CandidateSet.put(context.set, members)
        fixed = listed(config, members)

        for n <- 1..50 do
          request = request(user_id: "user#{n}")
          assert picked(plan, request) == picked(fixed, request)
        end
      end
    end

    test "move no value but to a node that comes and from one that goes", context do
      [new | old] = context.nodes
      plan = stored(config(context.service, {:hash, "user_id"}))
      choices = fn -> for n <- 1..200, do: picked(plan, request(user_id: "user#{n}")) end
      :ok = CandidateSet.put(context.set, old)
      before = choices.()
      :ok = CandidateSet.put(context.set, [new | old])
      later = choices.()
      assert new in later
      for {was, is} <- Enum.zip(before, later), do: assert(is in [was, new])
      :ok = CandidateSet.put(context.set, old)
      assert choices.() == before
    end

    test "remember the node of a sticky value while others come and go", context do
      [a, b, c, d] = context.nodes
      plan = stored(config(context.service, {:sticky, "user_id"}))
      :ok = CandidateSet.put(context.set, [c])
      assert picked(plan) == c

      for members <- [[a, c], [a, b, c, d], [c, d]] do
        :ok = CandidateSet.put(context.set, members)
        assert picked(plan) == c
      end

      :ok = CandidateSet.put(context.set, [d])
      assert picked(plan) == d
      # It is the one remembered now.
      :ok = CandidateSet.put(context.set, [c, d])
      assert picked(plan) == d
    end
  end

  test "a rotation goes on where it was, whatever the membership does", context do
    [a, b, c, d] = context.nodes
    plan = stored(config(context.service, :round_robin))
    :ok = CandidateSet.put(context.set, [d, c, b, a])
    assert for(_ <- 1..5, do: picked(plan)) == [a, b, c, d, a]
    # Five turns were taken: the next one is the sixth.
    :ok = CandidateSet.put(context.set, [a, b])
    assert for(_ <- 1..3, do: picked(plan)) == [b, a, b]
  end

  test "weights are those of the members of the moment; one without weighs 1", context do
    [a, b, c, _d] = context.nodes
    plan = stored(config(context.service, {:weighted, %{a => 0, b => 1_000_000}}))
    :ok = CandidateSet.put(context.set, [a])
    assert picked(plan) == {:error, :no_nodes_available}
    :ok = CandidateSet.put(context.set, [a, c])
    assert for(_ <- 1..20, uniq: true, do: picked(plan)) == [c]
    :ok = CandidateSet.put(context.set, [a, b, c])
    chosen = Enum.frequencies(for _ <- 1..1_000, do: picked(plan))
    assert chosen[b] > 900
    refute Map.has_key?(chosen, a)
  end

  test "the least busy member is the one with the fewest calls", context do
    [a, b, c, _d] = context.nodes
    plan(handle: handle) = plan = stored(config(context.service, :least_busy))
    :ok = CandidateSet.put(context.set, [b, c])
    {:ok, first, counter} = NodeSelector.pick(plan, request())
    call = Circuits.begin_call(counter)
    [other] = [b, c] -- [first]
    assert for(_ <- 1..20, uniq: true, do: picked(plan)) == [other]
    # Its call is counted though it has another index now.
    :ok = CandidateSet.put(context.set, [a, b, c])
    second = Circuits.begin_call({handle, elem(counter, 1), nil})
    assert in_flight(first) == 2
    :ok = Circuits.end_call(second, first, counter, :success)
    :ok = Circuits.end_call(call, first, counter, :success)
    assert in_flight(first) == 0
  end

  describe "the place of a node" do
    test "is good after the membership has changed, and for another set with the node", context do
      [a, b, c, d] = context.nodes
      plan = stored(config(context.service, {:hash, "user_id"}))
      other = stored(config(context.service <> "other", :random))
      on_exit(fn -> ConfigDb.remove_service(context.service <> "other") end)
      plan(handle: other_handle) = other
      :ok = CandidateSet.put(ServiceSets.of_service(context.service <> "other"), [a, b, c, d])

      :ok = CandidateSet.put(context.set, [c])
      {:ok, ^c, {_handle, place, nil} = counter} = NodeSelector.pick(plan, request(user_id: 1))
      :ok = CandidateSet.put(context.set, [a, b, c])

      for counter <- [counter, {other_handle, place, nil}] do
        call = Circuits.begin_call(counter)
        assert in_flight(c) == 1
        :ok = Circuits.end_call(call, c, counter, :success)
        assert in_flight(c) == 0
      end
    end

    test "of one that has left is no node's, and its call is not counted", context do
      [a, b | _] = context.nodes
      plan = stored(config(context.service, :random))
      :ok = CandidateSet.put(context.set, [a])
      {:ok, ^a, counter} = NodeSelector.pick(plan, request())
      :ok = CandidateSet.put(context.set, [b])
      call = Circuits.begin_call(counter)
      assert is_reference(call)
      assert {in_flight(a) || 0, in_flight(b)} == {0, 0}
      assert Circuits.end_call(call, a, counter, :lost) == :ok

      assert for(
               %{service: s} = circuit <- NodeSelector.circuits(),
               s == context.service,
               do: circuit
             ) == []
    end

    test "is that of the node the call began with, though it has left by the end", context do
      [a, b | _] = context.nodes
      plan = stored(config(context.service, :random))
      :ok = CandidateSet.put(context.set, [a])
      {:ok, ^a, counter} = NodeSelector.pick(plan, request())
      call = Circuits.begin_call(counter)
      :ok = CandidateSet.put(context.set, [b])
      :ok = Circuits.end_call(call, a, counter, :lost)
      assert in_flight(a) == 0

      named =
        for %{service: s} = circuit <- NodeSelector.circuits(), s == context.service, do: circuit

      assert [%{failures: 1, node: node}] = named
      assert node == Atom.to_string(a)
    end

    test "of any number is refused or means nothing", context do
      plan(handle: handle) = stored(config(context.service, :random))
      :ok = CandidateSet.put(context.set, context.nodes)

      for place <- [0, 1, 2 ** 40, 2 ** 58, 2 ** 64 - 1] do
        assert is_reference(Circuits.begin_call({handle, place, nil}))
      end

      assert_raise ArgumentError, fn -> Circuits.begin_call({handle, 2 ** 64, nil}) end
      assert_raise ArgumentError, fn -> Circuits.begin_call({handle, -1, nil}) end
    end
  end

  describe "a request" do
    test "runs on a member from the next one on", context do
      config = config(context.service, :random)
      :ok = ConfigDb.add(config)

      request =
        request(service: context.service, request_type: config.request_type, request_id: "r1")

      assert Executor.execute!(request) == error("No service node available", true)
      :ok = CandidateSet.put(context.set, [node()])
      assert Executor.execute!(request) == ok(node())
      :ok = CandidateSet.put(context.set, [])
      assert Executor.execute!(request) == error("No service node available", true)
    end

    test "tries the members of the moment again", context do
      {set, self} = {context.set, node()}
      [a | _] = context.nodes
      parent = self()

      # The first attempt takes its own node away and brings the right one.
      fun = fn ->
        send(parent, {:ran, CandidateSet.nodes(set)})
        :ok = CandidateSet.put(set, [self | CandidateSet.nodes(set)])
        raise "again"
      end

      config =
        config(context.service, :round_robin,
          mfa: {Functions, :run, [fun]},
          retry: {:all_nodes, 2}
        )

      :ok = ConfigDb.add(config)

      request =
        request(service: context.service, request_type: config.request_type, request_id: "r1")

      # Passed over as nobody can connect it, which is no attempt.
      :ok = CandidateSet.put(set, [a, self])
      assert %{success: false} = Executor.execute!(request)
      for _ <- 1..3, do: assert_receive({:ran, [_, _]})
      refute_received _
    end

    test "with a config that was not stored runs on the members", context do
      config = config(context.service, {Functions, :choose, [fn [node], _ -> node end]})
      request = request(service: context.service, request_type: "t", request_id: "r1")
      :ok = CandidateSet.put(context.set, [node()])
      assert Executor.execute_with_config!(request, config) == ok(node())

      assert Executor.execute_with_config!(request, %{config | choose_node_mode: :hash}) ==
               ok(node())
    end

    test "whose hook changes the config runs on the members of its function all the same",
         context do
      {:ok, own} = CandidateSet.new()
      :ok = CandidateSet.put(own, [node()])
      hook = fn request, config -> {:ok, request, %{config | timeout: 1_000}} end
      config = config(context.service, :random, before_execute: {Functions, :before, [hook]})

      assert {:ok, %{stored: 1}, []} =
               ConfigDb.replace_service(context.service, [config], :offer,
                 set_of: fn _ -> own end
               )

      request =
        request(service: context.service, request_type: config.request_type, request_id: "r1")

      assert Executor.execute!(request) == ok(node())
      # And not on those of the service, which has none.
      assert CandidateSet.nodes(context.set) == []
    end
  end

  describe "a config with `nodes: :service`" do
    test "stands for the members of the function that is stored under its key", context do
      [a, b | _] = context.nodes
      {:ok, own} = CandidateSet.new()
      :ok = CandidateSet.put(own, [a])
      :ok = CandidateSet.put(context.set, [a, b])
      config = config(context.service, :hash)
      opts = [set_of: fn %FunConfig{} -> own end]
      assert {:ok, _, []} = ConfigDb.replace_service(context.service, [config], :offer, opts)
      assert NodeSelector.get_nodes(config, request()) == {:ok, [a]}
      assert NodeSelector.get_node(config, request()) == {:ok, a}
      assert NodeSelector.resolve_nodes_list(config) == {:ok, [a]}
      assert {:ok, %{nodes: [^a]}} = NodeSelector.resolve_nodes(config)
      # Nothing is stored under this one.
      other = config(context.service, :hash)
      assert {:ok, [_, _]} = NodeSelector.get_nodes(other, request())

      assert NodeSelector.resolve_nodes_list(%{other | service: 1}) ==
               {:error, :no_nodes_available}
    end

    test "that no set belongs to has no node", context do
      opts = [set_of: fn _config -> nil end]
      config = config(context.service, :random)
      assert {:ok, _, []} = ConfigDb.replace_service(context.service, [config], :offer, opts)
      {:ok, plan} = ConfigDb.fetch(context.service, config.request_type, nil)
      :ok = CandidateSet.put(context.set, context.nodes)
      assert picked(plan) == {:error, :no_nodes_available}
      assert NodeSelector.candidates(plan, request()) == {:error, :no_nodes_available}
    end

    test "is shown with its members", context do
      [a, b | _] = context.nodes
      config = config(context.service, :hash)
      :ok = ConfigDb.add(config)
      :ok = CandidateSet.put(context.set, [a, b, node()])
      :ok = NodeSelector.drain(b)
      on_exit(fn -> NodeSelector.undrain(b) end)
      flow = Diagnostics.call_flow(context.service, config.request_type)
      assert Enum.sort(flow.nodes) == Enum.sort([a, b, node()])
      assert flow.reachable_nodes == [node()]
      step = Enum.find(flow.steps, &(&1.phase == :node_selection))
      assert step.desc =~ "2 of 3 nodes that offer the service usable"
    end
  end
end
