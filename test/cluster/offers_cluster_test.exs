defmodule PhoenixGenApi.OffersClusterTest do
  # Services that offer themselves, on real nodes, with this node as a gateway.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, Config, ConfigDb, ConfigFailed, ConfigPuller, ConfigPusher}
  alias PhoenixGenApi.{ConfigReceiver, Offers, Service, Telemetry}
  alias PhoenixGenApi.Structs.{PushConfig, Response, ServiceConfig}
  alias PhoenixGenApi.Test.{Cluster, Functions, LogLines, Offering}

  import Offering, only: [function: 2, function: 3, run: 2, run: 3]

  @moduletag :capture_log

  setup do
    Cluster.start_distribution()
    LogLines.forward()
    ConfigFailed.clear()

    on_exit(fn ->
      for key <- [:push_token, :service, :mfa_allowlist, :admin_actions],
          do: Application.delete_env(:phoenix_gen_api, key)

      :ok = Config.load()
      Offering.forget_all()
    end)

    %{service: "service-#{System.unique_integer([:positive])}"}
  end

  defp configure(key, value) do
    Application.put_env(:phoenix_gen_api, key, value)
    :ok = Config.load()
  end

  defp line(text) do
    assert_receive {:logged, level, line, _meta} when is_binary(line), 30_000
    if line =~ text, do: {level, line}, else: line(text)
  end

  test "what a node offers is called there, and is gone from the candidates when it stops", %{
    service: service
  } do
    peer = {_, node} = Offering.start_node()
    assert {:ok, _pid} = Offering.offer(peer, [function(service, "where")])
    assert Offering.await(peer, service) == :ok
    assert %Response{success: true, result: ^node} = run(service, "where")
    assert %{^node => %{functions: 1, state: :up, version: version}} = Service.nodes(service)
    assert version =~ ~r/^[0-9a-f]{8}$/

    assert Offering.stop(peer) == :ok

    assert %Response{success: false, code: "unavailable", details: [%{"executed" => "no"}]} =
             run(service, "where")

    Await.until(fn -> Service.nodes(service) == %{} end)
    # It is not forgotten.
    assert {:ok, %{nodes: :service}} = ConfigDb.get(service, "where")

    {:ok, _pid} = Offering.offer(peer, [function(service, "where")])
    assert Offering.await(peer, service) == :ok
    assert %Response{result: ^node} = run(service, "where")
  end

  test "functions that are new or gone are announced as those that code adds", %{service: service} do
    test = self()

    Telemetry.attach_config(service, fn event, measurements, metadata, _config ->
      send(test, {event, measurements, metadata})
    end)

    on_exit(fn -> Telemetry.detach_all(service) end)
    stored = [:phoenix_gen_api, :config, :batch_add]
    peer = Offering.start_node()

    {:ok, _pid} = Offering.offer(peer, [function(service, "one")])
    assert_receive {^stored, %{count: 1}, %{service: ^service}}, 30_000
    assert Offering.await(peer, service) == :ok

    Offering.stop(peer)
    {:ok, _pid} = Offering.offer(peer, [function(service, "one"), function(service, "two")])
    assert_receive {^stored, %{count: 2}, %{service: ^service}}, 30_000
  end

  test "nodes join and leave without a look at the functions", %{service: service} do
    peers = Cluster.start_peers(for(_ <- 1..3, do: Offering.options([])))
    nodes = for {_, node} <- peers, do: node
    for peer <- peers, do: {:ok, _} = Offering.offer(peer, [function(service, "where")])
    Offering.await_nodes(service, nodes)
    plans = ConfigDb.fetch(service, "where", nil)
    assert Offering.reached(service, "where") == Enum.sort(nodes)

    [gone | rest] = peers
    Cluster.stop_peer(gone)
    Offering.await_nodes(service, for({_, node} <- rest, do: node))
    assert Offering.reached(service, "where") == Enum.sort(for({_, node} <- rest, do: node))
    assert ConfigDb.fetch(service, "where", nil) == plans
  end

  test "a function has only the nodes that offer it, and a call finds them in every mode", %{
    service: service
  } do
    [one, two] = peers = Cluster.start_peers(for(_ <- 1..2, do: Offering.options([])))
    [a, b] = for {_, node} <- peers, do: node

    modes = [
      random: :random,
      round_robin: :round_robin,
      least_busy: :least_busy,
      hash: :hash,
      keyed: {:hash, "user_id"},
      sticky: {:sticky, "user_id"},
      weighted: {:weighted, %{a => 1}},
      custom: {Functions, :first_node, []}
    ]

    configure(:mfa_allowlist, [Functions])

    both =
      for {name, mode} <- modes,
          do: function(service, Atom.to_string(name), choose_node_mode: mode)

    {:ok, _} = Offering.offer(one, [function(service, "only") | both])
    {:ok, _} = Offering.offer(two, both)
    Offering.await_nodes(service, [a, b])
    assert Offering.reached(service, "only") == [a]

    for {name, _mode} <- modes, n <- 1..20 do
      assert %Response{success: true, result: node} =
               run(service, Atom.to_string(name), user_id: "u#{n}", request_id: "r#{n}")

      assert node in [a, b]
    end

    assert Offering.reached(service, "round_robin") == Enum.sort([a, b])
  end

  test "a gateway that starts late has what is offered", %{service: service} do
    peer = {_, node} = Offering.start_node()
    {:ok, _} = Offering.offer(peer, [function(service, "where")])
    late = {_, gateway} = Cluster.start_peer(app: [client_mode: false])
    Cluster.call(late, Node, :connect, [node])

    Await.until(fn -> Map.has_key?(Cluster.call(late, Service, :nodes, [service]), node) end)
    assert %Response{result: ^node} = Cluster.call(late, Offering, :run, [service, "where"])
    Await.until(fn -> Offering.await(peer, service) == :ok end)
    assert gateway in Node.list()
  end

  test "a content is fetched once for all nodes that offer it, and an unchanged one not again", %{
    service: service
  } do
    peers = Cluster.start_peers(for(_ <- 1..3, do: Offering.options([])))
    functions = for n <- 1..5, do: function(service, "f#{n}")
    :erlang.trace_pattern({Offers.Admission, :fetch, 3}, true, [:global])
    :erlang.trace(:new_processes, true, [:call])
    for peer <- peers, do: {:ok, _} = Offering.offer(peer, functions)
    Offering.await_nodes(service, for({_, node} <- peers, do: node))

    Offering.stop(hd(peers))
    {:ok, _} = Offering.offer(hd(peers), functions)
    Offering.await_nodes(service, for({_, node} <- peers, do: node))
    :erlang.trace(:new_processes, false, [:call])
    fetches = for {:trace, _pid, :call, {_, :fetch, [_, ^service, _]}} <- messages(), do: 1
    assert fetches == [1]
  end

  defp messages do
    receive do
      message -> [message | messages()]
    after
      0 -> []
    end
  end

  test "functions that a node no longer offers are forgotten when no other has them", %{
    service: service
  } do
    [one, two] = Cluster.start_peers(for(_ <- 1..2, do: Offering.options([])))
    both = [function(service, "kept"), function(service, "dropped")]
    for peer <- [one, two], do: {:ok, _} = Offering.offer(peer, both)
    Offering.await_nodes(service, [elem(one, 1), elem(two, 1)])

    replace(one, service)
    # The other one still has it.
    assert %Response{success: true} = run(service, "dropped")
    replace(two, service)
    assert %Response{success: false, code: "unknown_function"} = run(service, "dropped")
    assert %Response{success: true} = run(service, "kept")
  end

  defp replace(peer, service) do
    Offering.stop(peer)
    {:ok, _} = Offering.offer(peer, [function(service, "kept")])
    assert Offering.await(peer, service) == :ok
  end

  test "a service without nodes is forgotten after a while", %{service: service} do
    configure(:service, forget_ms: 200)
    peer = Offering.start_node()
    {:ok, _} = Offering.offer(peer, [function(service, "where")])
    assert Offering.await(peer, service) == :ok
    Cluster.stop_peer(peer)
    Await.until(fn -> run(service, "where").code == "unknown_function" end)
    assert ConfigDb.get_functions_from_services(service) == %{}
    Await.until(fn -> Offers.Store.services() == [] end)
    assert :ets.match(Offers.Store, {{:content, service, :_}, :_}) == []
  end

  describe "a node that offers" do
    test "has to know the push token", %{service: service} do
      configure(:push_token, "secret")
      right = {_, node} = Offering.start_node(env: [push_token: "secret"])
      wrong = {_, other} = Offering.start_node(env: [push_token: "guess"])
      none = {_, third} = Offering.start_node()

      for peer <- [right, wrong, none],
          do: {:ok, _} = Offering.offer(peer, [function(service, "where")])

      assert Offering.await(right, service) == :ok
      me = node()

      for {peer, name} <- [{wrong, other}, {none, third}] do
        assert {:error, %{^me => {:refused, [sentence]}}} = Offering.await(peer, service)
        assert sentence == "the push token of #{name} is another one than that of this gateway"
      end

      assert Map.keys(Service.nodes(service)) == [node]
      assert {:warning, line} = line("what node")
      assert line =~ "of service #{service} is refused: the push token of"
    end

    test "has to be one that the gateway accepts", %{service: service} do
      right = {_, node} = Offering.start_node(name: Cluster.node_name("shop"))
      wrong = {_, _} = Offering.start_node(name: Cluster.node_name("other"))
      configure(:service, accept: ["shop-*"])

      for peer <- [right, wrong],
          do: {:ok, _} = Offering.offer(peer, [function(service, "where")])

      assert Offering.await(right, service) == :ok
      assert {:error, %{}} = Offering.await(wrong, service)
      assert Map.keys(Service.nodes(service)) == [node]
    end

    test "must not have its hooks, node functions or mode functions run on the gateway", %{
      service: service
    } do
      peer = {_, _} = Offering.start_node()

      for {field, value} <- [
            before_execute: {Functions, :hook},
            after_execute: {Functions, :hook, []},
            nodes: {Functions, :nodes, []},
            choose_node_mode: {Functions, :first_node, []}
          ] do
        {:ok, _} = Offering.offer(peer, [function(service, "t", [{field, value}])])
        assert {:error, %{}} = error = Offering.await(peer, service)
        assert [{:refused, [sentence]}] = error |> elem(1) |> Map.values()
        assert sentence =~ "would run on the gateway and is not in its :mfa_allowlist"
        Offering.stop(peer)
      end

      assert {:error, :not_found} = ConfigDb.get(service, "t")
    end

    test "passes the gates of a push", %{service: service} do
      peer = {_, _} = Offering.start_node()

      for {functions, reason} <- [
            {[function(service, "t", nodes: :local)], "nodes: :local is not allowed"},
            {[function(service, "t", permission_callback: {:os, :cmd, []})], "mfa not allowed"}
          ] do
        {:ok, _} = Offering.offer(peer, functions)
        assert {:error, reasons} = Offering.await(peer, service)
        assert inspect(reasons) =~ reason
        Offering.stop(peer)
      end

      configure(:admin_actions, [])
      {:ok, _} = Offering.offer(peer, [function(service, "t")])
      assert {:error, reasons} = Offering.await(peer, service)
      assert inspect(reasons) =~ "admin_actions"
      assert {:error, :not_found} = ConfigDb.get(service, "t")
    end

    test "does not take a function that the gateway has added", %{service: service} do
      :ok = ConfigDb.add(function(service, "mine", nodes: :local))
      peer = {_, _} = Offering.start_node()
      {:ok, _} = Offering.offer(peer, [function(service, "mine"), function(service, "other")])
      assert {:error, reasons} = Offering.await(peer, service)
      assert inspect(reasons) =~ "added on this gateway; delete it there first"
      assert {:error, :not_found} = ConfigDb.get(service, "other")
    end

    test "is refused where it has no such function, before it starts", %{service: service} do
      peer = {_, _} = Offering.start_node()

      assert {:error, {:undefined_functions, ["PhoenixGenApi.Test.Functions.missing/0"]}} =
               Offering.offer(peer, [function(service, "t", mfa: {Functions, :missing, []})])

      assert {:error, {:invalid_functions, [sentence]}} =
               Offering.offer(peer, [function(service, "t", timeout: 1)])

      assert sentence =~ "#{service} t 0.0.0: timeout must be"
    end
  end

  test "what is offered comes before what is pushed or pulled", %{service: service} do
    push = %PushConfig{
      service: service,
      nodes: [node()],
      config_version: "1",
      fun_configs: [function(service, "pushed", nodes: [node()])]
    }

    assert ConfigReceiver.push(push) == {:ok, :accepted}
    peer = {_, node} = Offering.start_node()
    {:ok, _} = Offering.offer(peer, [function(service, "where")])
    assert Offering.await(peer, service) == :ok
    # The service has one source at a time.
    assert %{^service => %{"where" => _} = types} = ConfigDb.get_functions_from_services(service)
    assert map_size(types) == 1
    assert ConfigReceiver.verify(service, "1") == {:ok, :mismatch, "1"}

    assert ConfigReceiver.push(push) == {:ok, :skipped, :offered}
    assert {:notice, _} = line("a push of it is ignored")

    ConfigPuller.add([
      %ServiceConfig{
        service: service,
        nodes: [node()],
        module: Functions,
        function: :listing,
        args: [service]
      }
    ])

    assert {:notice, _} = line("a pull of it is ignored")
    assert run(service, "where").result == node
    ConfigPuller.delete([service])

    Offering.stop(peer)
    Await.until(fn -> Offers.Store.up(service) == [] end)
    assert ConfigReceiver.push(push) == {:ok, :accepted}
    assert ConfigReceiver.verify(service, "1") == {:ok, :matched}
    Await.until(fn -> Offers.Store.services() == [] end)
    assert %{^service => %{"pushed" => _}} = ConfigDb.get_functions_from_services(service)
  end

  test "a pusher hears that the service is offered", %{service: service} do
    peer = {_, node} = Offering.start_node()
    {:ok, _} = Offering.offer(peer, [function(service, "where")])
    assert Offering.await(peer, service) == :ok
    functions = [function(service, "where", nodes: [node])]
    push = ConfigPusher.from_service_config(service, [node], functions, config_version: "1")
    assert {:ok, :skipped, :offered} = Cluster.call(peer, ConfigPusher, :push, [node(), push])
  end

  test "no crash of what watches the offers loses one", %{service: service} do
    peer = {_, node} = Offering.start_node()
    {:ok, _} = Offering.offer(peer, [function(service, "where")])
    assert Offering.await(peer, service) == :ok

    for name <- [Offers.Server, Service.Scope] do
      Await.restart(name)
      assert run(service, "where").result == node
    end

    # And what happens afterwards is seen.
    another = {_, other} = Offering.start_node()
    {:ok, _} = Offering.offer(another, [function(service, "where")])
    Offering.await_nodes(service, [node, other])
    Offering.stop(peer)
    Offering.await_nodes(service, [other])
    # The scope there, too.
    Cluster.call(another, Await, :restart, [Service.Scope])
    Await.until(fn -> Offering.await(another, service) == :ok end)
    Offering.await_nodes(service, [other])
  end

  test "a service gains its first node and loses its last one, in a line each", %{
    service: service
  } do
    peer = {_, node} = Offering.start_node()
    {:ok, _} = Offering.offer(peer, [function(service, "where")])
    assert {:info, line} = line("service #{service} has its first node")
    assert line =~ Atom.to_string(node)
    Offering.stop(peer)
    assert {:warning, _} = line("service #{service} has lost its last node")
  end

  test "hidden nodes do not offer", %{service: service} do
    peer = {_, node} = Offering.start_node(connect: false)
    {:ok, _} = Offering.offer(peer, [function(service, "where")])
    true = :net_kernel.hidden_connect_node(node)
    on_exit(fn -> Node.disconnect(node) end)
    # Later, and it is there.
    other = {_, visible} = Offering.start_node()
    {:ok, _} = Offering.offer(other, [function(service, "where")])
    assert Offering.await(other, service) == :ok
    assert Map.keys(Service.nodes(service)) == [visible]
    assert node in Node.list(:hidden)
  end

  test "two sets of nodes may offer one service under one name", %{service: service} do
    [one, two, three] = peers = Cluster.start_peers(for(_ <- 1..3, do: Offering.options([])))
    [a, b, c] = for {_, node} <- peers, do: node
    {:ok, _} = Offering.offer(one, [function(service, "find")])
    {:ok, _} = Offering.offer(two, [function(service, "price")])
    # This one in two pieces.
    {:ok, _} = Offering.offer(three, [function(service, "find")], id: :find)
    {:ok, _} = Offering.offer(three, [function(service, "price")], id: :price)
    Offering.await_nodes(service, [a, b, c])
    Await.until(fn -> Offering.reached(service, "price") == Enum.sort([b, c]) end)
    Await.until(fn -> Offering.reached(service, "find") == Enum.sort([a, c]) end)
    assert %{^c => %{functions: 2}} = Service.nodes(service)

    Offering.stop(three, :price)
    assert Offering.reached(service, "price") == [b]
    assert Offering.reached(service, "find") == Enum.sort([a, c])
    assert %{^c => %{functions: 1, state: :up}} = Service.nodes(service)
  end

  test "one process may offer several services", %{service: service} do
    peer = {_, node} = Offering.start_node()
    services = for n <- 1..3, do: "#{service}-#{n}"
    {:ok, _} = Offering.offer(peer, for(service <- services, do: function(service, "where")))

    for service <- services do
      assert Offering.await(peer, service) == :ok
      assert run(service, "where").result == node
      assert Map.keys(Service.nodes(service)) == [node]
    end

    Offering.stop(peer)
    for service <- services, do: assert(run(service, "where").code == "unavailable")
    for service <- services, do: Await.until(fn -> Service.nodes(service) == %{} end)
  end

  test "ten nodes that join at once are all candidates", %{service: service} do
    peers = Cluster.start_peers(for(_ <- 1..10, do: Offering.options([])))
    functions = for n <- 1..20, do: function(service, "f#{n}", choose_node_mode: :round_robin)

    peers
    |> Enum.map(fn peer -> Task.async(fn -> {:ok, _} = Offering.offer(peer, functions) end) end)
    |> Task.await_many(60_000)

    nodes = for {_, node} <- peers, do: node
    Offering.await_nodes(service, nodes)
    assert Offering.reached(service, "f7", 10) == Enum.sort(nodes)
  end

  test "a node that hangs is a member until its connection is lost, and again when it is back", %{
    service: service
  } do
    peer = {_, node} = Offering.start_node()
    other = {_, b} = Offering.start_node()
    for peer <- [peer, other], do: {:ok, _} = Offering.offer(peer, [function(service, "where")])
    Offering.await_nodes(service, [node, b])
    wake = Cluster.suspend(peer)
    assert Service.nodes(service)[node].state == :up
    Node.disconnect(node)
    Offering.await_nodes(service, [b])
    wake.()
    Node.connect(node)
    Offering.await_nodes(service, [node, b])
  end

  test "a node with another cookie is no member, and one more when it has the right one", %{
    service: service
  } do
    peer = {_, node} = Offering.start_node()
    {:ok, _} = Offering.offer(peer, [function(service, "where")])
    Offering.await_nodes(service, [node])
    Node.set_cookie(node, :wrong)
    on_exit(fn -> Node.set_cookie(node, Cluster.cookie()) end)
    Cluster.call(peer, :erlang, :set_cookie, [node(), :another])
    Node.disconnect(node)
    Offering.await_nodes(service, [])
    assert run(service, "where").code == "unavailable"

    Node.set_cookie(node, Cluster.cookie())
    Cluster.call(peer, :erlang, :set_cookie, [node(), Cluster.cookie()])
    true = Node.connect(node)
    Offering.await_nodes(service, [node])
    assert run(service, "where").result == node
  end

  test "a gateway offers its own functions, also where it has no name", %{service: service} do
    start_supervised!({Service, functions: [function(service, "where")]}, id: :own)
    assert Service.await(service, 30_000) == :ok
    assert run(service, "where").result == node()
    stop_supervised(:own)
    assert run(service, "where").code == "unavailable"

    # Alone, and without distribution.
    {peer, _} = gateway = Cluster.start_peer(app: [client_mode: false], connect: false)
    :ok = :peer.call(peer, :net_kernel, :stop, [])
    assert {:ok, _} = Offering.offer(gateway, [function(service, "where")])
    assert Offering.await(gateway, service) == :ok

    assert %Response{result: :nonode@nohost} =
             Cluster.call(gateway, Offering, :run, [service, "where"])

    # It gets a name.
    name = Cluster.node_name("late")
    {:ok, _} = :peer.call(peer, :net_kernel, :start, [name, %{name_domain: :longnames}])
    :peer.call(peer, :erlang, :set_cookie, [Cluster.cookie()])
    true = Node.connect(name)

    Await.until(fn ->
      match?(%Response{result: ^name}, Cluster.call(gateway, Offering, :run, [service, "where"]))
    end)

    Await.until(fn -> Map.keys(Service.nodes(service)) == [name] end)
  end

  test "a service may be offered to certain gateways only", %{service: service} do
    peer = {_, node} = Offering.start_node()
    other = {_, gateway} = Cluster.start_peer(app: [client_mode: false])
    {:ok, _} = Offering.offer(peer, [function(service, "where")], gateways: [gateway])
    assert Offering.await(peer, service) == :ok
    assert %{^node => _} = Cluster.call(other, Service, :nodes, [service])
    assert {:error, :not_found} = ConfigDb.get(service, "where")
  end

  test "without a gateway `await` says so, and with one that is silent which it is", %{
    service: service
  } do
    peer = Offering.start_node(connect: false)
    {:ok, _} = Offering.offer(peer, [function(service, "where")])
    assert Offering.await(peer, service, 0) == {:error, :no_gateway}
    {_, gateway} = other = Cluster.start_peer(app: [client_mode: false], connect: false)
    {:ok, _} = Offering.offer(peer, [function(service, "b")], gateways: [gateway], id: :two)
    Await.until(fn -> Offering.await(peer, service, 1_000) == :ok end)
    assert Cluster.call(other, Service, :nodes, [service]) |> map_size() == 1
  end

  test "recompiled modules are offered anew", %{service: service} do
    module = Module.concat(__MODULE__, "Watched#{System.unique_integer([:positive])}")
    compile(module, service, "one", "find")
    start_supervised!({Service, apis: [module], watch: true}, id: :watched)
    assert Service.await(service, 30_000) == :ok
    assert run(service, "find").result == "one"

    compile(module, service, "two", "find")
    assert run(service, "find").result == "two"
    compile(module, service, "two", "search")
    Await.until(fn -> run(service, "search").success end)
    Await.until(fn -> run(service, "find").code == "unknown_function" end)
  end

  defp compile(module, service, value, type) do
    Code.put_compiler_option(:ignore_module_conflict, true)

    Code.eval_string("""
    defmodule #{inspect(module)} do
      use PhoenixGenApi.Service, service: #{inspect(service)}
      @api request_type: #{inspect(type)}, arg_types: []
      def find, do: {:ok, #{inspect(value)}}
    end
    """)
  after
    Code.put_compiler_option(:ignore_module_conflict, false)
  end

  test "service_print shows the nodes of services, and where their definitions differ", %{
    service: service
  } do
    [one, two] = peers = Cluster.start_peers(for(_ <- 1..2, do: Offering.options([])))
    {:ok, _} = Offering.offer(one, [function(service, "where")])
    {:ok, _} = Offering.offer(two, [function(service, "where", doc: "another")])
    Offering.await_nodes(service, for({_, node} <- peers, do: node))
    text = ExUnit.CaptureIO.capture_io(&PhoenixGenApi.service_print/0)
    for {_, node} <- peers, do: assert(text =~ Atom.to_string(node))
    assert text =~ "different definitions"
    assert text =~ "where 0.0.0"
    assert {:warning, line} = line("offer different definitions of where 0.0.0")
    assert line =~ service
  end

  test "a push with nodes: :service stands for the node that pushes", %{service: service} do
    peers = Cluster.start_peers(for(_ <- 1..2, do: Offering.options([])))
    functions = [function(service, "where")]
    push = ConfigPusher.from_service_config(service, :service, functions, config_version: "1")

    for peer <- peers do
      assert {:ok, :accepted} = Cluster.call(peer, ConfigPusher, :push, [node(), push])
    end

    assert Offering.reached(service, "where") == Enum.sort(for({_, node} <- peers, do: node))
    assert ConfigReceiver.verify(service, "1") == {:ok, :matched}
    ConfigReceiver.delete_pushed_service(service)
  end

  test "members of a service serve a function that was added with nodes: :service", %{
    service: service
  } do
    peer = {_, node} = Offering.start_node()
    :ok = ConfigDb.add(function(service, "added"))
    assert run(service, "added").code == "unavailable"
    {:ok, _} = Offering.offer(peer, [function(service, "where")])
    Offering.await_nodes(service, [node])
    assert run(service, "added").result == node
  end
end
