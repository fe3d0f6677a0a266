defmodule PhoenixGenApi.NodeSelectorTest do
  # Nodes, cursors and sticky values are the whole gateway's.
  use ExUnit.Case, async: false

  import Bitwise

  alias PhoenixGenApi.{Await, ConfigDb, Executor, Gateway, Native, NodeSelector}
  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.Test.Functions

  @moduletag :capture_log

  @abc [:a@h1, :b@h1, :c@h1]
  @vectors "../../native/gen_api_core/tests/vectors/rendezvous.json"
           |> Path.expand(__DIR__)
           |> File.read!()
           |> JSON.decode!()

  # A request type of its own for each config: cursors and sticky values are per function.
  defp config(nodes, mode, fields \\ []) do
    struct!(
      %FunConfig{
        service: "nodes",
        request_type: "t#{System.unique_integer([:positive])}",
        nodes: nodes,
        choose_node_mode: mode,
        mfa: {String, :upcase, []}
      },
      fields
    )
  end

  defp request(fields \\ []),
    do: struct!(%Request{request_id: "r", request_type: "t", service: "nodes"}, fields)

  defp fresh(count) do
    tag = System.unique_integer([:positive])
    for n <- 1..count, do: :"n#{n}@fresh#{tag}"
  end

  # What happens to a node that nothing has named yet is not remembered.
  defp down(node) do
    :ok = NodeSelector.drain(node)
    NodeSelector.mark(node, :down)
    on_exit(fn -> NodeSelector.mark(node, :up) end)
  end

  defp drain(node) do
    :ok = NodeSelector.drain(node)
    on_exit(fn -> NodeSelector.undrain(node) end)
  end

  defp nodes!(config, request) do
    assert {:ok, nodes} = NodeSelector.get_nodes(config, request)
    nodes
  end

  defp node!(config, request), do: hd(nodes!(config, request))

  # The published hash, written down once more.
  @mask 0xFFFF_FFFF_FFFF_FFFF
  defp fnv(bytes) do
    for <<byte <- bytes>>, reduce: 0xCBF2_9CE4_8422_2325 do
      hash -> bxor(hash, byte) * 0x100_0000_01B3 &&& @mask
    end
  end

  defp mix(z) do
    z = bxor(z, z >>> 30) * 0xBF58_476D_1CE4_E5B9 &&& @mask
    z = bxor(z, z >>> 27) * 0x94D0_49BB_1331_11EB &&& @mask
    bxor(z, z >>> 31)
  end

  defp score(key, node), do: mix(bxor(fnv(key), mix_name(node)))
  defp mix_name(node), do: mix(fnv(to_string(node)))
  defp rendezvous(key, nodes), do: Enum.sort_by(nodes, &{-score(key, &1), to_string(&1)})

  describe "the published hash" do
    test "orders the nodes as the table of the contract says" do
      for {key, order} <- [
            {"user_1", [:a@h1, :b@h1, :c@h1]},
            {"req_42", [:a@h1, :b@h1, :c@h1]},
            {"7", [:c@h1, :a@h1, :b@h1]}
          ],
          listed <- [@abc, Enum.reverse(@abc), Enum.map(@abc, &to_string/1)] do
        shown = fn nodes -> Enum.map(nodes, &to_string/1) end

        assert shown.(nodes!(config(listed, :hash), request(request_id: key))) == shown.(order)

        keyed = config(listed, {:hash, "k"})
        assert shown.(nodes!(keyed, request(args: %{"k" => key}))) == shown.(order)
        sticky = config(listed, {:sticky, "k"})
        assert shown.(nodes!(sticky, request(args: %{"k" => key}))) == shown.(order)
      end

      assert score("user_1", :a@h1) == 0xAA6B8EAA1C155824
      assert score("7", :c@h1) == 0xAD0D38CBDA2B0AFF
    end

    test "agrees with every golden vector" do
      assert [_ | _] = @vectors["cases"]

      for %{"key" => key, "order" => order, "scores" => scores} <- @vectors["cases"] do
        for {name, score} <- scores, do: assert(score(key, name) == String.to_integer(score, 16))
        assert rendezvous(key, Map.keys(scores)) == order

        if key != "" do
          listed = Enum.shuffle(order)
          assert nodes!(config(listed, {:hash, "k"}), request(args: %{"k" => key})) == order
        end
      end
    end

    test "decides for random keys and nodes as its definition does" do
      :rand.seed(:exsss, 11)

      for n <- 1..300 do
        nodes = for i <- 1..(rem(n, 40) + 1), do: "n#{i * n}@host#{rem(i, 7)}.example"
        key = Base.encode64(:rand.bytes(1 + rem(n, 50)))
        found = nodes!(config(nodes, :hash), request(request_id: key))
        assert found == rendezvous(key, nodes)
      end
    end

    test "moves only the keys of a node that comes or goes" do
      nodes = for n <- 1..10, do: :"n#{n}@move"
      keys = for n <- 1..2_000, do: "key#{n}"
      owner = fn nodes, key -> node!(config(nodes, :hash), request(request_id: key)) end
      ten = Map.new(keys, &{&1, owner.(nodes, &1)})
      nine = Map.new(keys, &{&1, owner.(tl(nodes), &1)})

      for key <- keys do
        if ten[key] == hd(nodes),
          do: assert(nine[key] != hd(nodes)),
          else: assert(nine[key] == ten[key])
      end

      moved = Enum.count(keys, &(ten[&1] != nine[&1]))
      # 200 expected; ten standard deviations.
      assert_in_delta moved, 200, 135
    end

    test "a key whose node is out goes to the next in its own order and returns with it" do
      nodes = fresh(5)
      config = config(nodes, {:hash, :user_id})
      request = request(user_id: "ann")
      [first, second | rest] = nodes!(config, request)
      assert [first, second | rest] == rendezvous("ann", nodes)
      down(first)
      assert nodes!(config, request) == [second | rest]
      drain(second)
      assert nodes!(config, request) == rest
      NodeSelector.mark(first, :up)
      assert nodes!(config, request) == [first | rest]
      NodeSelector.undrain(second)
      assert nodes!(config, request) == [first, second | rest]
    end
  end

  describe "a routing value" do
    test "is the argument, else the request's field of that name" do
      nodes = fresh(8)

      for {field, value} <- [
            user_id: "u",
            device_id: "d",
            request_id: "i",
            request_type: "ty",
            service: "sv",
            version: "v",
            ip_address: "10.0.0.1"
          ] do
        config = config(nodes, {:hash, to_string(field)})
        assert nodes!(config, request([{field, value}])) == rendezvous(value, nodes)
        both = request([{field, value}, {:args, %{to_string(field) => "argument"}}])
        assert nodes!(config, both) == rendezvous("argument", nodes)
      end
    end

    test "counts as its text: integers, floats, booleans and atoms" do
      nodes = fresh(8)
      config = config(nodes, {:hash, "k"})

      for {value, text} <- [
            {7, "7"},
            {-7, "-7"},
            {10 ** 60, to_string(10 ** 60)},
            {-(2 ** 63), "-9223372036854775808"},
            {2 ** 63, "9223372036854775808"},
            {1.5, "1.5"},
            {1.0e22, Float.to_string(1.0e22)},
            {-0.0, "-0.0"},
            {0.1, "0.1"},
            {true, "true"},
            {false, "false"},
            {:admin, "admin"},
            {"é", "é"},
            {<<255, 0>>, <<255, 0>>}
          ],
          mode <- [:hash, :sticky] do
        config = %{config | choose_node_mode: {mode, "k"}}
        request = request(args: %{"k" => value})
        assert nodes!(config, request) == rendezvous(text, nodes), inspect(value)
        assert stored_node(config, request) == hd(rendezvous(text, nodes))
      end
    end

    test "that is absent, nil or empty is not found" do
      for mode <- [:hash, :sticky],
          {key, request} <- [
            {"k", request()},
            {"k", request(args: %{"k" => ""})},
            {"k", request(args: %{"k" => nil})},
            {"k", request(args: nil)},
            {"k", request(args: "junk")},
            {"k", request(args: [{"k", 1}])},
            {"user_id", request(user_id: nil)},
            {"user_id", request(user_id: "")},
            {"user_roles", request(user_roles: ["admin"])},
            {"args", request(args: %{})}
          ] do
        config = config(fresh(2), {mode, key})
        assert NodeSelector.get_nodes(config, request) == {:error, {:hash_key_not_found, key}}
        assert NodeSelector.get_node(config, request) == {:error, {:hash_key_not_found, key}}
        assert stored_node(config, request) == {:hash_key_not_found, key}
      end
    end

    test "that is a list, a map or nothing of JSON is invalid" do
      for mode <- [:hash, :sticky],
          value <- [[], [1], ~c"text", %{}, %{"a" => 1}, ~D[2026-01-01], {1}, self()] do
        config = config(fresh(2), {mode, "k"})
        request = request(args: %{"k" => value})
        assert NodeSelector.get_nodes(config, request) == {:error, {:invalid_hash_key, "k"}}
        assert stored_node(config, request) == {:invalid_hash_key, "k"}
      end
    end

    test "of a hand-made request without an id is missing for :hash" do
      assert {:error, {:hash_key_not_found, _}} =
               NodeSelector.get_nodes(config(fresh(2), :hash), request(request_id: nil))

      assert {:error, {:invalid_hash_key, _}} =
               NodeSelector.get_nodes(config(fresh(2), :hash), request(request_id: %{}))
    end

    test "may be named by an atom in a config that was not stored" do
      nodes = fresh(4)
      request = request(user_id: "ann")
      assert nodes!(config(nodes, {:hash, :user_id}), request) == rendezvous("ann", nodes)
      assert nodes!(config(nodes, {:sticky, :user_id}), request) == rendezvous("ann", nodes)

      assert NodeSelector.get_nodes(config(nodes, {:hash, :k}), request) in [
               {:error, {:hash_key_not_found, "k"}},
               {:error, {:hash_key_not_found, :k}}
             ]
    end
  end

  # What the request path chooses for the stored config.
  defp stored_node(config, request) do
    assert :ok = ConfigDb.add(config)
    {:ok, plan} = ConfigDb.fetch("nodes", config.request_type, nil)
    ConfigDb.delete("nodes", config.request_type)

    case NodeSelector.pick(plan, request) do
      {:ok, node, {_handle, _index, _caller}} -> node
      {:error, reason} -> reason
    end
  end

  test "a routing value longer than a normal scheduler hashes chooses the same nodes" do
    nodes = fresh(5)
    config = config(nodes, {:hash, "k"})

    for length <- [16_384, 16_385, 300_000] do
      key = String.duplicate("k", length)
      request = request(args: %{"k" => key})
      assert nodes!(config, request) == rendezvous(key, nodes)
      assert stored_node(config, request) == hd(rendezvous(key, nodes))
    end
  end

  describe ":random" do
    test "makes every order equally likely" do
      config = config(fresh(3), :random)
      counts = Enum.frequencies(for _ <- 1..6_000, do: nodes!(config, request()))
      assert map_size(counts) == 6
      # 1,000 expected, standard deviation 29; six of them.
      for {_order, count} <- counts, do: assert_in_delta(count, 1_000, 174)
    end

    test "draws stored nodes equally often, also past a node that is down" do
      [out | up] = nodes = fresh(4)
      down(out)
      config = config(nodes, :random)
      assert :ok = ConfigDb.add(config)
      {:ok, plan} = ConfigDb.fetch("nodes", config.request_type, nil)
      ConfigDb.delete("nodes", config.request_type)

      counts =
        Enum.frequencies(for _ <- 1..6_000, do: elem(NodeSelector.pick(plan, request()), 1))

      assert Enum.sort(Map.keys(counts)) == Enum.sort(up)
      # 2,000 expected, standard deviation 37; six of them.
      for {_node, count} <- counts, do: assert_in_delta(count, 2_000, 220)
    end
  end

  describe ":round_robin" do
    test "visits each usable node once per round, in the order they are listed" do
      [a, b, c] = nodes = fresh(3)
      config = config(nodes, :round_robin)
      seen = for _ <- 1..6, do: node!(config, request())
      assert seen == [a, b, c, a, b, c]
      assert nodes!(config, request()) == [a, b, c]
      assert nodes!(config, request()) == [b, c, a]
    end

    test "visits the usable ones only" do
      [a, b, c, d] = nodes = fresh(4)
      config = config(nodes, :round_robin)
      down(b)
      drain(d)
      seen = for _ <- 1..6, do: node!(config, request())
      assert Enum.frequencies(seen) == %{a => 3, c => 3}
      assert Enum.at(seen, 0) == Enum.at(seen, 2)
    end

    test "has one cursor per function, shared by all processes" do
      nodes = fresh(5)
      config = config(nodes, :round_robin)
      other = config(nodes, :round_robin)

      picked =
        1..16
        |> Enum.map(fn _ ->
          Task.async(fn -> for _ <- 1..125, do: node!(config, request()) end)
        end)
        |> Task.await_many(60_000)
        |> Enum.concat()

      assert Enum.frequencies(picked) == Map.new(nodes, &{&1, 400})
      assert node!(other, request()) == hd(nodes)
    end

    test "goes on in the same place when the config is stored again" do
      [a, b, c] = nodes = fresh(3)
      config = config(nodes, :round_robin)
      assert stored_node(config, request()) == a
      assert stored_node(config, request()) == b
      assert node!(config, request()) == c
    end

    test "starts over after a reset" do
      nodes = fresh(3)
      config = config(nodes, :round_robin)
      node!(config, request())
      assert NodeSelector.reset_round_robin() == :ok
      assert nodes!(config, request()) == nodes
    end
  end

  describe "{:sticky, key}" do
    # A value whose best node changes when `added` joins `nodes`.
    defp value_for(nodes, added) do
      Enum.find(
        Stream.map(Stream.iterate(1, &(&1 + 1)), &"value#{&1}"),
        &(hd(rendezvous(&1, [added | nodes])) == added)
      )
    end

    test "keeps the node when others are added" do
      [added | nodes] = fresh(4)
      value = value_for(nodes, added)
      request = request(args: %{"k" => value})
      config = config(nodes, {:sticky, "k"})
      [first | rest] = nodes!(config, request)
      assert [first | rest] == rendezvous(value, nodes)

      more = %{config | nodes: [added | nodes]}
      assert nodes!(more, request) == [first, added | rest]
      assert hd(rendezvous(value, more.nodes)) == added
    end

    test "replaces a node that is unusable or no longer listed, and keeps the new one" do
      nodes = fresh(4)
      request = request(args: %{"k" => "v"})
      [first, second, third | _] = rendezvous("v", nodes)

      config = config(nodes, {:sticky, "k"})
      assert node!(config, request) == first
      down(first)
      assert node!(config, request) == second
      NodeSelector.mark(first, :up)
      assert node!(config, request) == second

      unlisted = %{config | nodes: nodes -- [second]}
      assert node!(unlisted, request) == first
      assert node!(%{config | nodes: [third]}, request) == third
      assert node!(config, request) == third
    end

    test "remembers per function and value" do
      [added | nodes] = fresh(4)
      value = value_for(nodes, added)
      request = request(args: %{"k" => value})
      config = config(nodes, {:sticky, "k"})
      old = node!(config, request)

      more = [added | nodes]
      assert node!(config(more, {:sticky, "k"}), request) == added
      assert node!(%{config | nodes: more, version: "2.0.0"}, request) == added
      assert node!(%{config | nodes: more}, request) == old
    end

    test "is remembered by the request path and by get_nodes alike" do
      [added | nodes] = fresh(4)
      value = value_for(nodes, added)
      request = request(args: %{"k" => value})
      config = config(nodes, {:sticky, "k"})
      old = stored_node(config, request)
      assert node!(%{config | nodes: [added | nodes]}, request) == old
      assert stored_node(%{config | nodes: [added | nodes]}, request) == old
    end

    test "all processes that ask at once get one node" do
      config = config(fresh(10), {:sticky, "k"})
      request = request(args: %{"k" => "shared"})

      found =
        1..32
        |> Enum.map(fn _ -> Task.async(fn -> node!(config, request) end) end)
        |> Task.await_many(60_000)

      assert [_one] = Enum.uniq(found)
    end

    test "of 2,000 values of 200 kB keeps no more than of short ones" do
      selector = Gateway.handle!(:node_selector)
      config = config(fresh(3), {:sticky, "k"})
      {before, bytes_before} = Native.node_selector_size(selector)
      long = String.duplicate("x", 200_000)

      for n <- 1..2_000,
          do:
            assert(
              {:ok, [_ | _]} =
                NodeSelector.get_nodes(config, request(args: %{"k" => long <> "#{n}"}))
            )

      {entries, bytes} = Native.node_selector_size(selector)
      assert entries - before == 2_000
      assert (bytes - bytes_before) / 2_000 < 400
    end

    test "remembers a long value, and tells it from others" do
      [added | nodes] = fresh(4)
      config = config(nodes, {:sticky, "k"})
      values = for n <- 1..50, do: String.duplicate("x", 100_000) <> "#{n}"
      first = for value <- values, do: node!(config, request(args: %{"k" => value}))
      wider = %{config | nodes: [added | nodes]}
      assert for(value <- values, do: node!(wider, request(args: %{"k" => value}))) == first
      other = for n <- 1..50, do: String.duplicate("x", 100_000) <> "other#{n}"
      assert Enum.any?(other, &(node!(wider, request(args: %{"k" => &1})) == added))
    end

    test "forgets after its time to live and beyond its limit" do
      selector = Gateway.handle!(:node_selector)
      on_exit(fn -> Native.node_selector_limit(selector, 3_600_000, 100_000) end)

      [added | nodes] = fresh(4)
      value = value_for(nodes, added)
      request = request(args: %{"k" => value})
      config = config(nodes, {:sticky, "k"})
      old = node!(config, request)

      Native.node_selector_limit(selector, 1, 100_000)
      refute_receive :two_milliseconds, 2
      assert node!(%{config | nodes: [added | nodes]}, request) == added
      assert added != old

      refute_receive :two_milliseconds, 2
      assert NodeSelector.cleanup_sticky_table() == :ok
      assert {0, _bytes} = Native.node_selector_size(selector)

      Native.node_selector_limit(selector, 3_600_000, 50)
      for n <- 1..500, do: node!(config, request(args: %{"k" => "other#{n}"}))
      assert {entries, _bytes} = Native.node_selector_size(selector)
      assert entries in 1..50
    end
  end

  describe ":least_busy" do
    test "prefers the node with fewest calls in flight, whatever function they are of" do
      [idle] = fresh(1)
      config = config([node(), idle], :least_busy)
      parent = self()
      busy = config([node()], :random, mfa: {Functions, :wait_for, [parent]})

      call =
        Task.async(fn ->
          Executor.execute_with_config!(request(request_type: busy.request_type), busy)
        end)

      assert_receive {:running, function, _}
      for _ <- 1..50, do: assert(nodes!(config, request()) == [idle, node()])
      for _ <- 1..50, do: assert(stored_node(config, request()) == idle)
      send(function, {:return, :done})
      assert Task.await(call, 60_000).success

      seen = for _ <- 1..200, do: node!(config, request())
      assert Enum.sort(Enum.uniq(seen)) == Enum.sort([idle, node()])
    end

    test "breaks ties at random" do
      nodes = fresh(2)
      config = config(nodes, :least_busy)
      counts = Enum.frequencies(for _ <- 1..2_000, do: node!(config, request()))
      # 1,000 expected, standard deviation 22; six of them.
      for node <- nodes, do: assert_in_delta(counts[node], 1_000, 134)
    end
  end

  describe "{:weighted, weights}" do
    test "draws in proportion, unlisted nodes weighing one" do
      [a, b, c] = nodes = fresh(3)

      for weights <- [%{a => 6, b => 3}, [{a, 6}, {b, 3}], %{to_string(a) => 6, b => 3}] do
        config = config(nodes, {:weighted, weights})
        counts = Enum.frequencies(for _ <- 1..4_000, do: node!(config, request()))
        # 2,400, 1,200 and 400 expected; six standard deviations of at most 31.
        assert_in_delta counts[a], 2_400, 186
        assert_in_delta counts[b], 1_200, 186
        assert_in_delta counts[c], 400, 120
      end
    end

    test "never chooses weight 0, not even as the last resort" do
      [zero, one] = nodes = fresh(2)
      config = config(nodes, {:weighted, %{zero => 0}})
      for _ <- 1..100, do: assert(nodes!(config, request()) == [one])
      for _ <- 1..100, do: assert(stored_node(config, request()) == one)

      none = config([zero], {:weighted, %{zero => 0}})
      assert NodeSelector.get_nodes(none, request()) == {:error, :no_nodes_available}
      assert stored_node(none, request()) == :no_nodes_available
    end

    test "goes on with the usable ones" do
      [a, b] = nodes = fresh(2)
      down(a)
      config = config(nodes, {:weighted, %{a => 1_000_000, b => 1}})
      for _ <- 1..50, do: assert(nodes!(config, request()) == [b])
      down(b)
      assert {:error, {:all_nodes_unavailable, _}} = NodeSelector.get_nodes(config, request())
    end
  end

  describe "{module, function, args}" do
    defp strategy(nodes, fun, fields \\ []),
      do: config(nodes, {Functions, :choose, [fun]}, fields)

    test "is asked with the nodes and the request, and gives a node or a list" do
      [a, b, c] = nodes = fresh(3)
      request = request(user_id: "ann")
      parent = self()

      choose = fn nodes, request ->
        send(parent, {:asked, nodes, request})
        List.last(nodes)
      end

      assert nodes!(strategy(nodes, choose), request) == [c]
      assert_received {:asked, ^nodes, ^request}
      assert nodes!(strategy(nodes, fn _, _ -> [b, a] end), request) == [b, a]
      assert stored_node(strategy(nodes, fn _, _ -> [b, a] end), request) == b
    end

    test "that fails or names a node outside the list is a failed resolution" do
      nodes = fresh(2)
      parent = self()

      hang = fn _, _ ->
        send(parent, {:hanging, self()})
        Process.sleep(:infinity)
      end

      for choose <- [
            fn _, _ -> raise "hunter2" end,
            fn _, _ -> exit(:normal) end,
            fn _, _ -> throw(:away) end,
            fn _, _ -> Process.exit(self(), :kill) end,
            fn _, _ -> :elsewhere@h end,
            fn _, _ -> ["elsewhere@h"] end,
            fn [a | _], _ -> [a, :elsewhere@h] end,
            fn [a | _], _ -> [a | :improper] end,
            fn _, _ -> nil end,
            fn _, _ -> 5 end,
            fn _, _ -> {:ok, hd(nodes)} end,
            fn _, _ -> [nil] end,
            fn _, _ -> %{} end,
            hang
          ] do
        config = strategy(nodes, choose, hook_timeout: 50)

        assert {:error, {:dynamic_node_resolution_failed, _}} =
                 NodeSelector.get_nodes(config, request())

        assert {:dynamic_node_resolution_failed, _} = stored_node(config, request())
      end

      for _ <- 1..2 do
        assert_received {:hanging, pid}
        monitor = Process.monitor(pid)
        assert_receive {:DOWN, ^monitor, :process, ^pid, _}
      end
    end

    test "passes over nodes that are down or draining" do
      [a, b] = nodes = fresh(2)
      config = strategy(nodes, fn nodes, _ -> nodes end)
      # Nodes are known once a config that names them is stored.
      assert stored_node(config(nodes, :random), request()) in nodes
      drain(a)
      assert nodes!(config, request()) == [b]
      drain(b)

      assert NodeSelector.get_nodes(config, request()) ==
               {:error, {:all_nodes_unavailable, [{a, :draining}, {b, :draining}]}}
    end

    test "that is not defined is a failed resolution" do
      config = config(fresh(1), {NoSuchModule, :choose, []})

      assert {:error, {:dynamic_node_resolution_failed, %UndefinedFunctionError{}}} =
               NodeSelector.get_nodes(config, request())
    end
  end

  describe "dynamic nodes" do
    defp dynamic(fun, fields \\ []), do: config({Functions, :run, [fun]}, :hash, fields)

    test "are asked for at every request" do
      nodes = fresh(3)
      config = dynamic(fn -> nodes end)
      assert NodeSelector.resolve_nodes_list(config) == {:ok, nodes}
      assert NodeSelector.resolve_nodes(config) == {:ok, %{config | nodes: nodes}}
      assert nodes!(config, request(request_id: "x")) == rendezvous("x", nodes)
      assert stored_node(config, request(request_id: "x")) == hd(rendezvous("x", nodes))

      counter = :counters.new(1, [])

      counting = fn ->
        :counters.add(counter, 1, 1)
        nodes
      end

      for _ <- 1..3, do: nodes!(dynamic(counting), request())
      assert :counters.get(counter, 1) == 3
    end

    test "given as strings become atoms only if those exist" do
      [known] = fresh(1)
      strange = "strange#{System.unique_integer([:positive])}@h"
      long = String.duplicate("n", 300)

      config = dynamic(fn -> [strange, to_string(known), long] end)
      assert NodeSelector.resolve_nodes_list(config) == {:ok, [known]}

      assert NodeSelector.resolve_nodes_list(dynamic(fn -> [strange] end)) in [
               {:error, :no_nodes_available}
             ]

      assert_raise ArgumentError, fn -> String.to_existing_atom(strange) end
    end

    test "that fail, hang or are no list of nodes are a failed resolution" do
      parent = self()

      hang = fn ->
        send(parent, {:hanging, self()})
        Process.sleep(:infinity)
      end

      for fun <- [
            fn -> raise "x" end,
            fn -> exit(:x) end,
            fn -> throw(:x) end,
            fn -> Process.exit(self(), :kill) end,
            fn -> :node@h end,
            fn -> {:ok, [:node@h]} end,
            fn -> nil end,
            fn -> %{} end,
            fn -> [1] end,
            fn -> [nil] end,
            fn -> [:a@h | :b@h] end,
            fn -> [<<255>>] end,
            hang
          ] do
        config = dynamic(fun, hook_timeout: 50)

        for result <- [
              NodeSelector.resolve_nodes_list(config),
              NodeSelector.resolve_nodes(config),
              NodeSelector.get_nodes(config, request()),
              NodeSelector.get_node(config, request())
            ] do
          assert {:error, {:dynamic_node_resolution_failed, _}} = result
        end
      end

      assert_received {:hanging, pid}
      refute Process.alive?(pid)
    end

    test "may be an empty list, which is no node" do
      assert NodeSelector.get_nodes(dynamic(fn -> [] end), request()) ==
               {:error, :no_nodes_available}
    end

    test "may have the longest hook timeout that a config can have" do
      nodes = fresh(1)
      config = dynamic(fn -> nodes end, hook_timeout: 10 ** 12)
      assert NodeSelector.resolve_nodes_list(config) == {:ok, nodes}
      refute_received _
    end
  end

  describe "configs that were not stored" do
    test "get string nodes back as strings, and no atom is made of them" do
      names = for n <- 1..3, do: "string#{n}x#{System.unique_integer([:positive])}@h"

      for mode <- [:random, :hash, :round_robin, {:sticky, "request_id"}, :least_busy] do
        assert Enum.sort(nodes!(config(names, mode), request())) == Enum.sort(names)
      end

      assert NodeSelector.resolve_nodes_list(config(names, :hash)) == {:ok, names}
      for name <- names, do: assert_raise(ArgumentError, fn -> String.to_existing_atom(name) end)
    end

    test "leave the statuses of all other nodes readable" do
      name = "unheard#{System.unique_integer([:positive])}@h"
      route = nodes!(config([name], :random), request())
      assert route == [name]
      [known] = fresh(1)
      drain(known)
      assert %{^known => :draining} = NodeSelector.node_statuses()
    end

    test "with a wrong mode or wrong nodes say so" do
      for mode <- [nil, :sticky, "random", {:hash, nil}, {:weighted, []}, {:x, 1}, 5, %{}] do
        assert NodeSelector.get_nodes(config([:a@h1], mode), request()) ==
                 {:error, {:invalid_choose_node_mode, mode}}

        refute NodeSelector.choose_node_valid?(config([:a@h1], mode))
      end

      for nodes <- [nil, "a@h1", :a@h1, [1], [nil], [:a@h1 | :b], {1, 2, 3}, %{}, [<<255>>]] do
        for result <- [
              NodeSelector.get_nodes(config(nodes, :random), request()),
              NodeSelector.resolve_nodes(config(nodes, :random)),
              NodeSelector.resolve_nodes_list(config(nodes, :random))
            ] do
          assert result == {:error, {:invalid_nodes_configuration, nodes}}
        end
      end

      assert NodeSelector.get_nodes(config([], :random), request()) ==
               {:error, :no_nodes_available}
    end

    test "may list a node twice; it is one candidate" do
      for mode <- [:random, :round_robin, :hash] do
        config = config([:a@h1, :b@h1, :a@h1], mode)
        assert Enum.sort(nodes!(config, request())) == [:a@h1, :b@h1]
      end
    end
  end

  describe "the functions" do
    test "local configs have this node" do
      config = config(:local, :hash)
      assert NodeSelector.get_nodes(config, request()) == {:ok, [node()]}
      assert NodeSelector.get_node(config, request()) == {:ok, node()}
      assert NodeSelector.resolve_nodes_list(config) == {:ok, [node()]}
      assert {:ok, _} = NodeSelector.resolve_nodes(config)
    end

    test "get_node! gives the node or raises" do
      assert NodeSelector.get_node!(config([:a@h1], :random), request()) == :a@h1

      assert_raise RuntimeError, fn ->
        NodeSelector.get_node!(config([], :random), request())
      end
    end

    test "choose_node_valid? accepts every documented mode" do
      for mode <-
            [:random, :hash, {:hash, "k"}, :round_robin, {:sticky, "k"}, :least_busy] ++
              [{:weighted, %{a@h1: 1}}, {Mod, :fun, []}] do
        assert NodeSelector.choose_node_valid?(config([:a@h1], mode))
      end
    end

    test "calculate_backoff doubles, jitters by half and stops at the maximum" do
      for attempt <- 1..12, _ <- 1..50 do
        exponential = 100 * 2 ** (attempt - 1)
        backoff = NodeSelector.calculate_backoff(attempt)
        assert is_integer(backoff)
        assert backoff >= min(5_000, div(exponential, 2))
        assert backoff <= min(5_000, div(exponential * 3, 2))
      end

      assert NodeSelector.calculate_backoff(10_000) == 5_000
      assert NodeSelector.calculate_backoff(1, base: 10, max: 3) == 3
      many = for _ <- 1..200, do: NodeSelector.calculate_backoff(1, base: 1_000, max: 10_000)
      assert Enum.min(many) < 700 and Enum.max(many) > 1_300
      assert length(Enum.uniq(many)) > 50
    end

    test "drain takes a node out of every mode until undrain" do
      [a, b] = nodes = fresh(2)

      modes =
        [:random, :hash, {:hash, "request_id"}, :round_robin, {:sticky, "request_id"}] ++
          [:least_busy, {:weighted, %{a => 5, b => 1}}, {Functions, :choose, [fn n, _ -> n end]}]

      drain(a)
      assert NodeSelector.node_status(a) == :draining

      for mode <- modes do
        assert nodes!(config(nodes, mode), request()) == [b]
        assert stored_node(config(nodes, mode), request()) == b
      end

      assert NodeSelector.undrain(a) == :ok
      assert NodeSelector.node_status(a) == :up
      for mode <- modes, do: assert(a in nodes!(config(nodes, mode), request()))
    end

    test "all nodes out names each with its reason, in the order they are listed" do
      [a, b] = nodes = fresh(2)
      config = config(nodes, :random)
      assert stored_node(config, request()) in nodes
      drain(b)
      down(a)
      expected = {:all_nodes_unavailable, [{a, :down}, {b, :draining}]}

      for mode <- [:random, :hash, :round_robin, :least_busy, {:sticky, "request_id"}] do
        config = config(nodes, mode)
        assert :ok = ConfigDb.add(config)
        assert NodeSelector.get_nodes(config, request()) == {:error, expected}
        assert stored_node(config, request()) == expected
      end
    after
      for {"nodes", types} <- ConfigDb.get_functions_from_services("nodes"),
          {type, _} <- types,
          do: ConfigDb.delete("nodes", type)
    end

    test "a node that goes down and comes back is no longer draining" do
      [a] = fresh(1)
      drain(a)
      NodeSelector.mark(a, :down)
      assert NodeSelector.node_status(a) == :down
      NodeSelector.mark(a, :up)
      assert NodeSelector.node_status(a) == :up
    end

    test "a drained node that no config names stays drained" do
      [a] = fresh(1)
      drain(a)
      NodeSelector.cleanup_sticky_table()
      assert NodeSelector.node_status(a) == :draining
      assert NodeSelector.node_statuses()[a] == :draining
    end

    test "a node never heard of is up" do
      assert NodeSelector.node_status(:never_heard_of@nowhere) == :up
      refute Map.has_key?(NodeSelector.node_statuses(), :never_heard_of@nowhere)
    end

    test "events of distribution mark nodes, and restarting their watcher loses none" do
      [a] = nodes = fresh(1)
      config = config(nodes, :random)
      assert :ok = ConfigDb.add(config)
      on_exit(fn -> ConfigDb.delete("nodes", config.request_type) end)
      health = Process.whereis(NodeSelector.Health)
      send(health, {:nodedown, a, []})
      :sys.get_state(health)
      assert NodeSelector.node_statuses()[a] == :down
      monitor = Process.monitor(health)
      Process.exit(health, :kill)
      assert_receive {:DOWN, ^monitor, :process, _, _}
      assert NodeSelector.node_status(a) == :down

      assert Await.until(fn ->
               Process.whereis(NodeSelector.Health) not in [nil, health]
             end)

      health = Process.whereis(NodeSelector.Health)
      send(health, :junk)
      send(health, {:nodeup, a, []})
      :sys.get_state(health)
      assert NodeSelector.node_status(a) == :up
    end

    test "nodes that are down are probed 32 at a time, skipping those that came back meanwhile" do
      nodes = fresh(100)
      config = config(nodes, :random)
      assert :ok = ConfigDb.add(config)
      on_exit(fn -> ConfigDb.delete("nodes", config.request_type) end)
      for node <- nodes, do: NodeSelector.mark(node, :down)
      test = self()
      running = :counters.new(1, [])

      connect = fn node ->
        :counters.add(running, 1, 1)
        send(test, {:probed, node, self()})
        receive do: (:go_on -> :counters.sub(running, 1, 1))
      end

      round = Task.async(fn -> NodeSelector.Health.probe(test, connect) end)

      first =
        for _ <- 1..32 do
          assert_receive {:probed, node, prober}
          {node, prober}
        end

      # Other tests may have left nodes that are down.
      first_nodes = for {node, _} <- first, do: node
      [last | back] = nodes -- first_nodes
      for node <- back, do: NodeSelector.mark(node, :up)
      assert :counters.get(running, 1) == 32
      for {_, prober} <- first, do: send(prober, :go_on)

      probed = go_on(round, fn -> assert :counters.get(running, 1) <= 32 end)
      assert last in probed
      assert probed -- back == probed
    end
  end

  # Lets a round of probes end; the nodes that it has probed meanwhile.
  defp go_on(%Task{ref: ref} = round, check, probed \\ []) do
    receive do
      {:probed, node, prober} ->
        check.()
        send(prober, :go_on)
        go_on(round, check, [node | probed])

      {^ref, :ok} ->
        probed
    end
  end
end
