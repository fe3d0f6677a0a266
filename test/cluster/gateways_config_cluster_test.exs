defmodule PhoenixGenApi.GatewaysConfigClusterTest do
  # What several gateways share of pushed configs.
  use ExUnit.Case, async: true

  import PhoenixGenApi.Test.Gateways

  alias PhoenixGenApi.{Await, ConfigDb, ConfigFailed, ConfigPuller, ConfigPusher, ConfigReceiver}
  alias PhoenixGenApi.ConfigSync.{AntiEntropy, Content, PushStore, Replicator, VersionVector}
  alias PhoenixGenApi.Test.Cluster

  @moduletag :capture_log

  # Not connected to the node of the test: no gateway, and on one side of a split only.
  defp start_service(gateways) do
    service =
      Cluster.start_peer(app: [client_mode: true], connect: false, name: Cluster.node_name("svc"))

    for {_, name} <- gateways, do: true = call(service, Node, :connect, [name])
    service
  end

  defp push_from(service, {_, gateway}, push_config, opts \\ []),
    do: call(service, ConfigPusher, :push, [gateway, push_config, [timeout: 60_000] ++ opts])

  test "a push is on every gateway when it is answered, so the one that got it may die" do
    [a, b, c] = gateways = start(3)
    service = start_service(gateways)
    types = for n <- 1..50, do: "f#{n}"
    assert push_from(service, a, push_config("shop", "1.0.0", types)) == {:ok, :accepted}
    Cluster.stop_peer(a)

    for gateway <- [b, c] do
      assert versions(gateway) == %{"shop" => "1.0.0"}
      assert types(gateway, "shop") == Enum.sort(types)
      assert call(gateway, ConfigDb, :origin, ["shop", "f1", "0.0.0"]) == :push
    end

    assert push_from(service, b, push_config("shop", "1.0.0", types)) ==
             {:ok, :skipped, :version_matches}

    await_agreement([b, c])
  end

  test "a push replaces an earlier one on every gateway, whatever their versions and wherever they came in" do
    [a, b, c] = gateways = start(3)
    assert push(a, push_config("shop", "2.0.0", ["new"])) == {:ok, :accepted}
    assert push(b, push_config("shop", "1.0.0", ["old"])) == {:ok, :accepted}

    for gateway <- gateways,
        do: assert({versions(gateway), types(gateway, "shop")} == {%{"shop" => "1.0.0"}, ["old"]})

    assert push(c, push_config("shop", "1.0.0", ["forced"]), force: true) == {:ok, :accepted}
    for gateway <- gateways, do: assert(types(gateway, "shop") == ["forced"])
  end

  test "two services that push at once through different gateways are both on all of them" do
    [a, b, c] = gateways = start(3)

    [{a, "shop"}, {b, "bank"}, {c, "post"}]
    |> Enum.map(fn {gateway, service} ->
      Task.async(fn ->
        push(gateway, push_config(service, "1", for(n <- 1..200, do: "f#{n}")))
      end)
    end)
    |> Task.await_many(:infinity)
    |> Enum.each(&assert &1 == {:ok, :accepted})

    for gateway <- gateways do
      assert versions(gateway) == %{"shop" => "1", "bank" => "1", "post" => "1"}
      assert length(types(gateway, "bank")) == 200
    end

    await_agreement(gateways)
  end

  test "one service that pushes the same to all gateways at once ends with one config" do
    gateways = start(3)
    push_config = push_config("shop", "1", ["f"])

    results =
      gateways
      |> Enum.map(fn gateway -> Task.async(fn -> push(gateway, push_config) end) end)
      |> Task.await_many(:infinity)

    assert {:ok, :accepted} in results

    for result <- results,
        do: assert(result in [{:ok, :accepted}, {:ok, :skipped, :version_matches}])

    {%{"shop" => "1"}, %{"shop" => %{"f" => ["0.0.0"]}}, _} = await_agreement(gateways)
  end

  test "any number of pushes of one service through all gateways at once end the same on all" do
    gateways = start(3)

    for _round <- 1..5 do
      # Some of them are alike.
      for n <- 1..8, gateway <- gateways do
        push_config = push_config("shop", "#{rem(n, 3)}.0.0", ["f#{rem(n, 4)}"])
        Task.async(fn -> push(gateway, push_config, force: true) end)
      end
      |> Task.await_many(:infinity)
      |> Enum.each(&assert &1 == {:ok, :accepted})

      {%{"shop" => version}, %{"shop" => _}, _} = await_agreement(gateways)

      [held] =
        for gateway <- gateways,
            uniq: true,
            do: call(gateway, ConfigReceiver, :get_pushed_config, ["shop"])

      assert held.config_version == version
      assert [%{request_type: type}] = held.fun_configs
      for gateway <- gateways, do: assert(types(gateway, "shop") == [type])
    end
  end

  test "after a split the higher version is on both sides, then the newer push of equal ones" do
    [a, b] = gateways = start(2)
    push(a, push_config("shop", "1.0.0", ["before"]))
    push(a, push_config("bank", "1.0.0", ["before"]))
    cut([a], [b])
    # Lower, but later and twice.
    push(a, push_config("shop", "1.10.0", ["higher"]))
    push(b, push_config("shop", "1.9.0", ["x"]))
    push(b, push_config("shop", "1.9.1", ["lower"]))
    push(a, push_config("bank", "2.0.0", ["older"]))
    push(b, push_config("bank", "2.0.0", ["newer"]))
    assert {types(a, "shop"), types(b, "shop")} == {["higher"], ["lower"]}

    heal(gateways)
    {versions, functions, _} = await_agreement(gateways)
    assert versions == %{"shop" => "1.10.0", "bank" => "2.0.0"}
    assert functions == %{"shop" => %{"higher" => ["0.0.0"]}, "bank" => %{"newer" => ["0.0.0"]}}

    # Which has seen both: a rollback.
    push(b, push_config("shop", "1.0.0", ["before"]))
    for gateway <- gateways, do: assert(types(gateway, "shop") == ["before"])
  end

  test "a service deleted on one gateway is deleted on all, and none that was away brings it back" do
    [a, b, c] = gateways = start(3)
    push(a, push_config("shop", "1", ["f"]))
    push(a, push_config("bank", "1", ["f"]))
    cut([a, b], [c])
    assert call(b, ConfigReceiver, :delete_pushed_service, ["shop"]) == :ok
    assert call(a, ConfigPuller, :delete, [[:bank]]) == :ok
    for gateway <- [a, b], do: assert({versions(gateway), types(gateway, "shop")} == {%{}, []})
    assert types(c, "shop") == ["f"]

    heal(gateways)
    assert {%{}, functions, _} = await_agreement(gateways)
    assert functions == %{}

    assert push(c, push_config("shop", "1", ["f"])) == {:ok, :accepted}
    for gateway <- gateways, do: assert(types(gateway, "shop") == ["f"])
  end

  test "a push that another side of a split made stays when this side deletes" do
    [a, b] = gateways = start(2)
    push(a, push_config("shop", "2", ["f"]))
    cut([a], [b])
    call(a, ConfigReceiver, :delete_pushed_service, ["shop"])
    push(b, push_config("shop", "1", ["g"]))
    heal(gateways)
    assert {%{"shop" => "1"}, %{"shop" => %{"g" => _}}, _} = await_agreement(gateways)
  end

  test "a gateway that starts, or whose application alone starts anew, has everything at once" do
    [a, b] = gateways = start(2)
    for n <- 1..20, do: push(a, push_config("s#{n}", "1", ["f"]))
    third = start_one(Cluster.node_name("gw3"))
    heal([third | gateways])
    {versions, _, _} = await_agreement([third | gateways])
    assert map_size(versions) == 20

    call(b, :application, :stop, [:phoenix_gen_api])
    push(a, push_config("s1", "2", ["g"]))
    call(b, :application, :start, [:phoenix_gen_api])
    {versions, functions, _} = await_agreement([third | gateways])
    assert {versions["s1"], Map.keys(functions["s1"])} == {"2", ["g"]}
  end

  test "a service pushed with a module is pulled by every gateway until it is pushed without one" do
    gateways = [a, b] = start(2)
    service = {_, name} = start_service(gateways)
    only = [hd(call(service, Books.Directory, :list, []))]

    push_config =
      ConfigPusher.from_service_config("books", [name], only,
        config_version: "1",
        module: "Books.Directory",
        function: "functions",
        args: [:gw]
      )

    assert push_from(service, a, push_config) == {:ok, :accepted}
    for gateway <- gateways, do: Await.until(fn -> length(types(gateway, "books")) == 10 end)

    assert push_from(service, b, %{push_config | config_version: "2", module: nil}) ==
             {:ok, :accepted}

    for gateway <- gateways do
      assert call(gateway, ConfigPuller, :get_services, []) == %{}
      assert types(gateway, "books") == ["find"]
    end
  end

  test "each gateway goes by its own rules; one that refuses keeps what it had and hands on what it got" do
    [a] = start(1)
    b = start_one(Cluster.node_name("gw2"), mfa_allowlist: [{String, :upcase}])
    heal([a, b])
    push(a, push_config("shop", "1", ["f"]))
    push = push_config("shop", "2", ["g"])

    foreign = %{
      push
      | fun_configs: Enum.map(push.fun_configs, &%{&1 | mfa: {String, :downcase, []}})
    }

    assert push(a, foreign) == {:ok, :accepted}
    assert {types(a, "shop"), types(b, "shop")} == {["g"], ["f"]}
    assert {versions(a), versions(b)} == {%{"shop" => "2"}, %{"shop" => "1"}}
    assert call(b, ConfigReceiver, :get_pushed_config, ["shop"]).config_version == "1"
    assert [failed] = call(b, ConfigFailed, :list, [[source: :push]])
    assert %{node: from, request_type: "g", reason: ["mfa not allowed" <> _]} = failed
    assert from == elem(a, 1)

    Cluster.stop_peer(a)
    c = start_one(Cluster.node_name("gw3"))
    heal([b, c])
    Await.until(fn -> types(c, "shop") == ["g"] end)

    # Seen once is enough, also when more is heard of the service.
    d = start_one(Cluster.node_name("gw4"))
    push(d, push_config("shop", "0.1", ["loser"]))
    heal([b, c, d])
    Await.until(fn -> call(b, PushStore, :stamps, []) == call(d, PushStore, :stamps, []) end)
    assert [%{times: 1}] = call(b, ConfigFailed, :list, [[source: :push]])
    assert {types(b, "shop"), types(d, "shop")} == {["f"], ["g"]}

    assert push(c, push_config("shop", "3", ["h"])) == {:ok, :accepted}
    assert {types(b, "shop"), types(c, "shop")} == {["h"], ["h"]}
  end

  test "a rollback pushed through a gateway that refused the newer version reaches every gateway" do
    [a] = start(1)
    b = start_one(Cluster.node_name("gw2"), mfa_allowlist: [{String, :upcase}])
    heal([a, b])
    first = push_config("shop", "1", ["f"])
    assert push(a, first) == {:ok, :accepted}
    foreign = push_config("shop", "2", ["g"], [], {String, :downcase, []})
    assert push(a, foreign) == {:ok, :accepted}
    assert {types(a, "shop"), types(b, "shop")} == {["g"], ["f"]}

    assert {:error, {:validation_failed, _}} = push(b, foreign)
    # Not by who only pushes again what was pushed before that.
    assert push(b, first, pushed_at: 1) == {:ok, :skipped, :superseded}
    assert push(b, first) == {:ok, :accepted}
    assert {types(a, "shop"), types(b, "shop")} == {["f"], ["f"]}
  end

  test "a push repeated to a gateway that knows nothing yet does not undo a rollback" do
    [a, b] = gateways = start(2)
    push(a, push_config("shop", "2.0.0", ["new"]))
    pushed_at = System.system_time(:microsecond)
    push(a, push_config("shop", "1.0.0", ["old"]))
    cut([a], [b])
    call(b, :application, :stop, [:phoenix_gen_api])
    call(b, :application, :start, [:phoenix_gen_api])
    # By a node of the service that has not been rolled back yet.
    again = push_config("shop", "2.0.0", ["new"])
    assert push(b, again, pushed_at: pushed_at) == {:ok, :accepted}
    heal(gateways)
    assert {%{"shop" => "1.0.0"}, %{"shop" => %{"old" => _}}, _} = await_agreement(gateways)
  end

  test "a push that has lost a conflict does not win by being repeated" do
    [a, b] = gateways = start(2)
    cut([a], [b])
    assert push(b, push_config("shop", "2.0.0", ["winner"])) == {:ok, :accepted}
    loser = push_config("shop", "1.0.0", ["loser"])
    assert push(a, loser) == {:ok, :accepted}
    pushed_at = System.system_time(:microsecond)
    heal(gateways)
    assert {%{"shop" => "2.0.0"}, _, _} = await_agreement(gateways)

    for gateway <- gateways,
        do: assert(push(gateway, loser, pushed_at: pushed_at) == {:ok, :skipped, :superseded})

    assert push(a, loser) == {:ok, :accepted}
    for gateway <- gateways, do: assert(versions(gateway) == %{"shop" => "1.0.0"})
  end

  test "a gateway that stops accepts only pushes that the others have" do
    [a, b] = start(2)
    service = start_service([a, b])

    for n <- 1..4 do
      push_config = push_config("s#{n}", "1", for(f <- 1..4_000, do: "f#{f}"))
      task = Task.async(fn -> push_from(service, a, push_config) end)

      Await.until(fn ->
        locked? = call(a, :ets, :member, [PhoenixGenApi.ConfigSync.ServiceLock, "s#{n}"])
        # It may be over before anybody has looked.
        locked? or not Process.alive?(task.pid)
      end)

      # The first thing to end when it stops; with some luck in the middle of the push.
      above = PhoenixGenApi.Supervisor
      :ok = call(a, Supervisor, :terminate_child, [above, PhoenixGenApi.Cluster])
      if rem(n, 2) == 0, do: call(a, :application, :stop, [:phoenix_gen_api])
      result = Task.await(task, :infinity)
      call(a, :application, :stop, [:phoenix_gen_api])

      if result == {:ok, :accepted},
        do: assert(versions(b)["s#{n}"] == "1"),
        else: assert({:error, _} = result)

      call(a, :application, :start, [:phoenix_gen_api])
      await_membership([a, b])
    end
  end

  test "a push is skipped only once the others have what was pushed before" do
    [a, b] = start(2)
    push_config = push_config("shop", "1", ["f"])
    # No turns on the other gateway for a while.
    :ok = call(b, :sys, :suspend, [ConfigReceiver])
    first = Task.async(fn -> push(a, push_config) end)
    Await.until(fn -> versions(a) == %{"shop" => "1"} end)
    second = Task.async(fn -> push(a, push_config) end)
    content = {Content.fingerprint(push_config), Content.single_node(push_config)}
    offer = [push_config, [content: content]]
    offered = Task.async(fn -> call(a, ConfigReceiver, :offer, offer) end)
    for task <- [second, offered], do: assert(Task.yield(task, 100) == nil)
    :ok = call(b, :sys, :resume, [ConfigReceiver])
    assert Task.await(second, :infinity) == {:ok, :skipped, :version_matches}
    assert versions(b) == %{"shop" => "1"}
    assert Task.await(first, :infinity) == {:ok, :accepted}
    assert Task.await(offered, :infinity) == {:ok, :skipped, :version_matches}
    assert call(a, :ets, :match, [PushStore, {{:replicating, :_}, :_}]) == []
  end

  test "a service that cannot be taken over does not block the others" do
    [a, b] = gateways = start(2)
    cut([a], [b])
    services = for n <- 1..40, do: "s#{n}"
    for service <- services, do: push(a, push_config(service, "1", ["f"]))

    for service <- ["s1", "s20", "s40"] do
      %{live: [%{digest: digest}]} = call(a, PushStore, :entry, [service]).vector
      call(a, :ets, :insert, [PushStore, {{:content, service, digest}, "junk"}])
    end

    heal(gateways)
    expected = Map.new(services -- ["s1", "s20", "s40"], &{&1, "1"})
    Await.until(fn -> versions(b) == expected end)
    # Each is tried again.
    push(a, push_config("s20", "2", ["f"]))
    assert versions(b)["s20"] == "2"
  end

  test "pushes that were replaced or deleted meanwhile are not fetched" do
    [a, b] = gateways = start(2)
    for service <- ["shop", "bank"], do: push(a, push_config(service, "1", ["f"]))
    cut([a], [b])
    assert push(a, push_config("shop", "2", ["g"])) == {:ok, :accepted}
    :ok = call(a, ConfigReceiver, :delete_pushed_service, ["bank"])
    # Who asks for it does not get it.
    call(b, :ets, :match_delete, [PushStore, {{:content, :_, :_}, :_}])
    heal(gateways)
    assert {%{"shop" => "2"}, %{"shop" => %{"g" => _}}, _} = await_agreement(gateways)
  end

  test "a push that another version of the library has stored gets the fields of this one" do
    [a, b] = gateways = start(2)
    cut([a], [b])
    assert push(a, push_config("shop", "1", ["f"])) == {:ok, :accepted}
    %{live: [%{digest: digest}]} = call(a, PushStore, :entry, ["shop"]).vector
    {:ok, content} = call(a, PushStore, :content, ["shop", digest])

    other =
      content |> :erlang.binary_to_term() |> Map.delete(:version_args) |> Map.put(:later, 1)

    row = {{:content, "shop", digest}, :erlang.term_to_binary(other)}
    call(a, :ets, :insert, [PushStore, row])
    heal(gateways)
    Await.until(fn -> versions(b) == %{"shop" => "1"} end)
    assert %{version_args: []} = call(b, ConfigReceiver, :get_pushed_config, ["shop"])
  end

  test "a node that is no gateway, or one that speaks otherwise, is turned away" do
    [a] = start(1)
    push(a, push_config("shop", "1", ["f"]))
    rogue = {_, name} = Cluster.start_peer(app: [client_mode: true], connect: false)
    true = call(rogue, Node, :connect, [elem(a, 1)])

    vector = VersionVector.push(VersionVector.new(), {name, 1}, 1, "9.0.0", "digest")

    for request <- [
          {:accept, "shop", vector},
          {:accept, "bank", VersionVector.new()},
          {:compare, ""},
          {:content, "shop", "digest"}
        ] do
      args = [elem(a, 1), AntiEntropy, :answer, [1, name, request]]
      assert call(rogue, :erpc, :call, args) == {:error, :not_a_gateway}
    end

    assert versions(a) == %{"shop" => "1"}
    b = {_, other} = start_one(Cluster.node_name("gw2"))
    heal([a, b])
    assert call(a, AntiEntropy, :answer, [2, other, {:compare, ""}]) == {:error, {:protocol, 1}}
    assert call(a, AntiEntropy, :answer, [1, other, :dance]) == {:error, :unknown_request}
  end

  test "no gateway stores the token of a push" do
    [a] = start(1, push_token: "s3cret-token")
    b = start_one(Cluster.node_name("gw2"), push_token: "another-s3cret")
    heal([a, b])
    push_config = push_config("shop", "1", ["f"], push_token: "s3cret-token")
    assert push(b, push_config) == {:error, :invalid_push_token}
    assert push(a, push_config) == {:ok, :accepted}
    assert types(b, "shop") == ["f"]

    for gateway <- [a, b] do
      rows = call(gateway, :ets, :tab2list, [PushStore])
      assert length(rows) >= 3
      refute :erlang.term_to_binary(rows) =~ "s3cret"
    end
  end

  test "a gateway that hangs delays one push and no more, and catches up when it wakes" do
    [a, b, c] = gateways = start(3)
    wake = Cluster.suspend(c)
    {first, {:ok, :accepted}} = :timer.tc(fn -> push(a, push_config("shop", "0", ["f"])) end)

    {others, _} =
      :timer.tc(fn ->
        for n <- 1..10,
            do: {:ok, :accepted} = push(a, push_config("shop", "#{n}", ["g#{n}"]))
      end)

    # If each of them waited as the first one did, they would take ten times as long.
    assert others < 3 * first
    assert types(b, "shop") == ["g10"]
    assert call(a, PushStore, :all_behind, []) == [elem(c, 1)]
    wake.()
    {%{"shop" => "10"}, _, _} = await_agreement(gateways)
    Await.until(fn -> call(a, PushStore, :all_behind, []) == [] end)
  end

  test "crashes of the processes that keep gateways in step lose nothing" do
    [a, b] = gateways = start(2)
    push(a, push_config("shop", "1", ["f"]))

    for name <- [Replicator, PhoenixGenApi.Cluster, ConfigReceiver, PhoenixGenApi.Cluster.Scope] do
      old = call(b, Process, :whereis, [name])
      call(b, Process, :exit, [old, :kill])
      Await.until(fn -> call(b, Process, :whereis, [name]) not in [nil, old] end)
      assert types(b, "shop") == ["f"]
      await_membership(gateways)
    end

    cut([a], [b])
    push(a, push_config("shop", "2", ["g"]))
    heal(gateways)
    assert {%{"shop" => "2"}, _, _} = await_agreement(gateways)
  end

  test "a service node that dies while it pushes leaves all of the push or nothing" do
    [a, _b] = gateways = start(2)

    for n <- 1..5 do
      service = start_service([a])
      types = for f <- 1..2_000, do: "f#{f}"
      test = self()

      spawn(fn ->
        send(test, :pushing)
        catch_exit(push_from(service, a, push_config("s#{n}", "1", types)))
      end)

      assert_receive :pushing, 30_000
      delay = n * 10

      receive do
      after
        delay -> :peer.stop(elem(service, 0))
      end
    end

    {versions, functions, _} = await_agreement(gateways)

    for n <- 1..5, service = "s#{n}" do
      assert map_size(Map.get(functions, service, %{})) in [0, 2_000]
      assert Map.has_key?(versions, service) == Map.has_key?(functions, service)
    end
  end

  test "services that answer wrongly or hang do not block others" do
    # It may hang all the time that the test has.
    [a] = gateways = start(1, gen_api: [pull_timeout: 600_000])
    service = {_, name} = start_service(gateways)

    lies = [
      junk: {:maps, :get, [:x, %{x: {:ok, Enum.to_list(1..100_000)}}]},
      shape: {:maps, :get, [:x, %{x: :yes}]},
      improper: {:maps, :get, [:x, %{x: {:ok, [1 | 2]}}]},
      raises: {:erlang, :error, [:password]},
      exits: {:erlang, :exit, [:kill]},
      hangs: {:timer, :sleep, [:infinity]}
    ]

    call(a, ConfigPuller, :add, [
      for {service, {module, function, args}} <- lies do
        %PhoenixGenApi.Structs.ServiceConfig{
          service: service,
          nodes: [name],
          module: module,
          function: function,
          args: args
        }
      end
    ])

    # Whoever waits for the one that hangs, waits in vain.
    Await.until(fn -> hanging(service) != [] end)
    assert push_from(service, a, push_config("shop", "1", ["f"])) == {:ok, :accepted}
    assert hanging(service) != []

    liar = push_config("liar", "1", ["f"])

    for wrong <- [
          [1 | 2],
          Enum.to_list(1..20_000),
          %{},
          "f",
          List.duplicate(hd(liar.fun_configs), 3)
        ] do
      assert {:error, {:validation_failed, [_ | _]}} =
               push_from(service, a, %{liar | fun_configs: wrong}, force: true)
    end

    Await.until(fn -> call(a, ConfigPuller, :status, []).failure_count >= 4 end)
    assert versions(a) == %{"shop" => "1"}
    assert Map.keys(call(a, ConfigDb, :get_all_functions, [])) == ["shop"]
  end

  defp hanging(service) do
    for pid <- call(service, :erlang, :processes, []),
        {:current_function, {:timer, :sleep, 1}} ==
          call(service, :erlang, :process_info, [pid, :current_function]),
        do: pid
  end

  describe "gateways that know the same" do
    test "tell each other so in one small message" do
      [a, {_, b} = other] = start(2)
      for n <- 1..50, do: push(a, push_config("s#{n}", "1", for(f <- 1..100, do: "f#{f}")))
      stamps = call(a, PushStore, :stamps, [])
      asked = [1, elem(a, 1), {:compare, PushStore.summary(stamps)}]
      assert call(other, AntiEntropy, :answer, asked) == {:ok, :same}
      {octets, messages} = cost(a, b, fn -> assert call(a, AntiEntropy, :run, [b]) == :ok end)
      assert octets < 1_000
      assert messages <= 2
    end
  end

  describe "a pusher" do
    test "that changes nothing sends one small message" do
      [a] = start(1)
      service = start_service([a])
      push_config = push_config("shop", "1", for(f <- 1..5_000, do: "f#{f}"))
      assert push_from(service, a, push_config) == {:ok, :accepted}

      {octets, messages} =
        cost(service, elem(a, 1), fn ->
          assert push_from(service, a, push_config) == {:ok, :skipped, :version_matches}
        end)

      assert octets < 1_500
      assert messages <= 2
    end

    test "under a supervisor pushes once at start, and again when the application alone starts anew" do
      [{_, name} = a] = start(1)
      service = start_service([])
      # Forced, so that every push is a new one.
      link = start_pusher(service, name, push_config("shop", "1", ["f"]), force: true)
      await_pushed(service, link)
      [%{dot: first}] = live(a)
      assert call(service, :sys, :get_state, [link]).monitor != nil
      assert [%{dot: ^first}] = live(a)

      restart(a)
      Await.until(fn -> match?([_], live(a)) end)
      await_pushed(service, link)
      assert [%{dot: second}] = live(a)
      assert second != first
    end

    test "under a supervisor does not push an old config again over what came later" do
      [{_, name} = a] = start(1)

      pushers =
        for version <- ["1", "2"] do
          service = start_service([])
          link = start_pusher(service, name, push_config("shop", version, ["f" <> version]))
          await_pushed(service, link)
          {service, link}
        end

      assert versions(a) == %{"shop" => "2"}

      # They race, and either may come first.
      for _ <- 1..5 do
        restart(a)
        Await.until(fn -> versions(a) == %{"shop" => "2"} end)
        for {service, link} <- pushers, do: await_pushed(service, link)
        assert versions(a) == %{"shop" => "2"}
      end

      [{service, link}, _] = pushers
      %{monitor: before} = call(service, :sys, :get_state, [link])
      call(service, Node, :disconnect, [name])
      # It connects again by itself, perhaps sooner than this process looks.
      Await.until(fn ->
        call(service, :sys, :get_state, [link]).monitor not in [nil, before]
      end)

      assert versions(a) == %{"shop" => "2"}
    end
  end

  defp start_pusher(service, gateway, push_config, opts \\ []) do
    opts = [gateways: [gateway], push_config: push_config, retry_interval: 50] ++ opts
    spec = ConfigPusher.child_spec(opts)
    {:ok, pusher} = call(service, Supervisor, :start_child, [:kernel_safe_sup, spec])
    children = call(service, Supervisor, :which_children, [pusher])
    {^gateway, link, _, _} = List.keyfind(children, gateway, 0)
    link
  end

  # It watches a gateway that it has pushed to.
  defp await_pushed(service, link),
    do: Await.until(fn -> call(service, :sys, :get_state, [link]).monitor != nil end)

  defp restart(gateway) do
    :ok = call(gateway, :application, :stop, [:phoenix_gen_api])
    :ok = call(gateway, :application, :start, [:phoenix_gen_api])
  end

  defp live(gateway), do: call(gateway, PushStore, :entry, ["shop"]).vector.live

  # The octets and packets that one node sends another. The least of some, as the runtime's own
  # messages may come in between.
  defp cost(from, to, fun) do
    for _ <- 1..5 do
      {octets, packets} = sent(from, to)
      fun.()
      {now, packets_now} = sent(from, to)
      {now - octets, packets_now - packets}
    end
    |> Enum.min()
  end

  defp sent(from, to) do
    {^to, port} = from |> call(:erlang, :system_info, [:dist_ctrl]) |> List.keyfind(to, 0)
    {:ok, stats} = call(from, :inet, :getstat, [port, [:send_oct, :send_cnt]])
    {stats[:send_oct], stats[:send_cnt]}
  end
end
