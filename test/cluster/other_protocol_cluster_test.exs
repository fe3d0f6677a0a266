defmodule PhoenixGenApi.OtherProtocolClusterTest do
  # Nodes whose version of the library speaks other protocols: its modules with other numbers.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, ConfigDb, ConfigPusher, ConfigReceiver, Decisions, Executor}
  alias PhoenixGenApi.{NodeSelector, RPC, ServiceGuard, StreamCall}
  alias PhoenixGenApi.ConfigSync.Replicator
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, Request, Response}
  alias PhoenixGenApi.Test.{Cluster, Functions, Gateways, Streams}

  @moduletag :capture_log

  @lib Path.expand("../../lib/phoenix_gen_api", __DIR__)
  @calls ["rpc/server.ex", "rpc/producer.ex"]

  setup do
    Cluster.start_distribution()
    :ok
  end

  # Before it is asked anything. Its VM is of no more use.
  defp upgrade({_pid, _node} = peer, files) do
    on_exit(fn -> Cluster.stop_peer(peer) end)
    Cluster.call(peer, Code, :put_compiler_option, [:ignore_module_conflict, true])

    for file <- files do
      source = File.read!(Path.join(@lib, file))
      other = Regex.replace(~r/@(protocols?) (\[?)1(\]?)\n/, source, "@\\1 \\g{2}2\\3\n")
      assert other != source
      [_module | _] = Cluster.call(peer, Code, :compile_string, [other, file])
    end

    peer
  end

  defp service(app) do
    {_pid, node} = peer = upgrade(Cluster.start_peer(app: [client_mode: true] ++ app), @calls)
    {peer, node}
  end

  # Has a node write its log to a file: it must not connect to the node of the test, a gateway.
  defp log_to_file({_pid, node} = peer, dir) do
    file = Path.join(dir, Atom.to_string(node))
    config = %{config: %{file: String.to_charlist(file)}, level: :warning}
    :ok = Cluster.call(peer, :logger, :set_primary_config, [:level, :warning])
    :ok = Cluster.call(peer, :logger, :add_handler, [:to_file, :logger_std_h, config])
    on_exit(fn -> Cluster.call(peer, :logger, :remove_handler, [:to_file]) end)
    {peer, file}
  end

  # How often a text stands in the log of a node.
  defp logged({peer, file}, text) do
    :ok = Cluster.call(peer, :logger_std_h, :filesync, [:to_file])
    length(String.split(File.read!(file), text)) - 1
  end

  defp tell_here do
    :ok = :logger.add_handler(:teller, Functions, %{config: self()})
    on_exit(fn -> :logger.remove_handler(:teller) end)
  end

  defp fun(node, mfa, fields \\ []) do
    struct!(
      %FunConfig{
        service: "remote",
        request_type: "t",
        nodes: [node],
        timeout: 60_000,
        mfa: mfa
      },
      fields
    )
  end

  @request %Request{request_id: "r1", request_type: "t", service: "remote"}

  defp run(config), do: Executor.execute_with_config!(@request, config)

  defp frames(config) do
    {:ok, _pid} = StreamCall.start_link(%{request: @request, fun_config: config})
    frames_of("r1")
  end

  defp frames_of(id) do
    receive do
      {:stream_response, %Response{request_id: ^id, has_more: true, result: item}} ->
        [item | frames_of(id)]

      {:stream_response, %Response{request_id: ^id} = last} ->
        [last]
    end
  end

  # Whatever else is logged meanwhile.
  defp await_line(text) do
    assert_receive {:logged, _node, line}
    if line =~ text, do: line, else: await_line(text)
  end

  defp lines(node, text) do
    receive do
      {:logged, ^node, line} -> if(line =~ text, do: 1, else: 0) + lines(node, text)
    after
      0 -> 0
    end
  end

  describe "a service node whose calls begin otherwise" do
    setup do
      tell_here()
      {peer, node} = service([])
      %{peer: peer, node: node}
    end

    test "serves calls, callbacks and failures, which is logged once", %{node: node} do
      permitted = [permission_callback: {Functions, :told, [true, self()]}]
      config = fun(node, {Functions, :node_name, []}, permitted)
      for _ <- 1..3, do: assert(%{success: true, result: ^node} = run(config))
      assert_received {:asked, ^node}

      assert run(%{config | permission_callback: {Functions, :told, [false, self()]}}).error ==
               "Permission denied"

      assert %{code: "internal"} = run(fun(node, {Functions, :crash, [:raise]}))
      assert %{code: "internal"} = run(fun(node, {Functions, :crash, [:kill]}))
      assert RPC.Capabilities.lookup(node) == :other

      :sys.get_state(RPC.Capabilities)
      assert lines(node(), "node #{node} runs another version of the library") == 1
    end

    test "has a call ended that nobody waits for any more", %{node: node} do
      config = fun(node, {Functions, :wait_for, [self()]}, timeout: 2_000)
      assert run(config).code == "timeout"
      assert_receive {:running, pid, ^node}
      monitor = Process.monitor(pid)
      assert_receive {:DOWN, ^monitor, :process, ^pid, _killed}
      Await.until(fn -> Cluster.calls_on(node) == [] end)
    end

    test "serves streams of both kinds, also as the first thing it is asked for", %{node: node} do
      stream = [response_type: :stream, request_info: true]
      squares = fun(node, {Streams, :squares, [3]}, response_type: :stream)
      assert [1, 4, 9, %Response{success: true}] = frames(squares)
      assert RPC.Capabilities.lookup(node) == :unknown
      count = fun(node, {Streams, :count, [2, self()]}, stream)
      assert [1, 2, %Response{success: true}] = frames(count)

      :sys.get_state(RPC.Capabilities)
      assert lines(node(), "node #{node} runs another version of the library") == 1
    end
  end

  test "a node that answers what this version does not know is called as one of another protocol" do
    for {answer, remembered} <- [
          {{:ok, 1}, true},
          {:none, false},
          {{:ok, 7}, :other},
          {{:error, [2, 3]}, :other},
          {true, :other},
          {{:ok, 1, :compressed}, :other}
        ] do
      assert RPC.Capabilities.discover(:a@h1, fn _question -> {:return, answer} end) ==
               {:ok, remembered}
    end

    send(RPC.Capabilities, {:invalidate, :a@h1})
    Await.until(fn -> RPC.Capabilities.lookup(:a@h1) == :unknown end)
  end

  test "a node agrees on the highest protocol in common, and says its own without one" do
    assert RPC.Server.agree([1]) == {:ok, 1}
    assert RPC.Server.agree([3, 1, 2]) == {:ok, 1}
    assert RPC.Server.agree([2, 3]) == {:error, [1]}
    assert RPC.Server.agree([]) == {:error, [1]}
    assert RPC.Producer.watchdog(2, %{of: :another_version}) == {:error, {:protocol, 1}}
  end

  test "a guarded node of another protocol runs what it has registered, and nothing else" do
    {peer, node} = service(service_guard: true)
    registered = fun(node, {Functions, :node_name, []})
    stream = fun(node, {Streams, :squares, [2]}, response_type: :stream)
    :ok = Cluster.call(peer, ServiceGuard, :register, [[registered, stream]])

    assert [1, 4, %Response{success: true}] = frames(stream)
    assert [%Response{code: "internal"}] = frames(%{stream | mfa: {Streams, :squares, [3]}})
    assert run(registered).result == node
    assert RPC.Capabilities.lookup(node) == :other
    assert %{code: "internal"} = run(fun(node, {Functions, :node_and, [1]}))
  end

  describe "gateways of another protocol" do
    @describetag :tmp_dir

    defp started(file, dir) do
      [_a, b] = gateways = for n <- 1..2, do: Gateways.start_one(Cluster.node_name("gw#{n}"))
      upgrade(b, [file])
      logs = for gateway <- gateways, do: log_to_file(gateway, dir)
      Gateways.heal(gateways)
      Enum.zip(gateways, logs)
    end

    test "keep what is pushed to each, say so once, and go on taking pushes", %{tmp_dir: dir} do
      [one, two] = started("config_sync/anti_entropy.ex", dir)

      for {{{_, name} = gateway, log}, {{_, other}, _}} <- [{one, two}, {two, one}] do
        for version <- ["1", "2", "3"] do
          push = Gateways.push_config("of-#{name}", version, ["f"])
          assert Gateways.push(gateway, push) == {:ok, :accepted}
        end

        said = "gateway #{other} runs another version of the library, which exchanges pushes"
        Await.until(fn -> logged(log, said) == 1 end)

        # What was to be exchanged was tried meanwhile, and is again.
        for _ <- 1..3 do
          Cluster.call(gateway, Process, :send, [Replicator, :round, []])
          Await.until(fn -> idle?(gateway) end)
        end

        assert logged(log, said) == 1
        assert logged(log, "could not be compared") == 0
      end

      for {{{_, name} = gateway, _log}, {{_, other}, _}} <- [{one, two}, {two, one}] do
        pushed = Gateways.call(gateway, ConfigReceiver, :get_all_pushed_services, [])
        assert pushed["of-#{name}"] == "3"
        refute is_map_key(pushed, "of-#{other}")
      end
    end

    defp idle?(gateway) do
      peers = Cluster.call(gateway, :sys, :get_state, [Replicator])
      Enum.all?(peers, fn {_node, peer} -> peer.running == nil end)
    end

    test "keep the decisions of each, and say so once", %{tmp_dir: dir} do
      [one, two] = started("decisions/server.ex", dir)

      for {{gateway, log}, {{_, other} = from, _}} <- [{one, two}, {two, one}] do
        for _ <- 1..2, do: :ok = Gateways.call(from, NodeSelector, :drain, [:gone@nowhere])
        # What that has sent is there by the time of its answer.
        {_, name} = gateway
        Gateways.call(from, :erpc, :call, [name, :sys, :get_state, [Decisions.Server]])
        said = "gateway #{other} runs another version of the library, which exchanges decisions"
        Await.until(fn -> logged(log, said) == 1 end)
        assert Gateways.call(from, NodeSelector, :node_status, [:gone@nowhere]) == :draining
        assert Gateways.call(gateway, NodeSelector, :node_status, [:gone@nowhere]) == :up
        :ok = Gateways.call(from, NodeSelector, :undrain, [:gone@nowhere])
      end
    end
  end

  describe "a pusher" do
    test "says what it does not understand of a newer gateway's answer, and goes on" do
      tell_here()
      {_pid, gateway} = peer = Cluster.start_peer()
      on_exit(fn -> Cluster.stop_peer(peer) end)
      Cluster.call(peer, Code, :put_compiler_option, [:ignore_module_conflict, true])

      newer = """
      defmodule PhoenixGenApi.ConfigReceiver do
        def offer(_push, _opts), do: {:ok, :skipped, :offered}
        def push(_push, _opts), do: {:ok, :skipped, :offered}
      end
      """

      [_module] = Cluster.call(peer, Code, :compile_string, [newer])

      push = %PushConfig{
        service: "remote",
        nodes: [node()],
        config_version: "1",
        fun_configs: [fun(node(), {Functions, :node_name, []})]
      }

      for opts <- [[], [force: true]] do
        assert ConfigPusher.push(gateway, push, opts) == {:ok, :skipped, :offered}
      end

      start_supervised!({ConfigPusher, gateways: [gateway], push_config: push})
      line = await_line("push of service \"remote\" \"1\" to #{gateway} was answered")
      assert line =~ ":offered"
    end

    test "pushes to a gateway that cannot be asked with an offer" do
      {_pid, gateway} = peer = Cluster.start_peer()
      on_exit(fn -> Cluster.stop_peer(peer) end)
      Cluster.call(peer, Code, :put_compiler_option, [:ignore_module_conflict, true])
      older = "defmodule PhoenixGenApi.ConfigReceiver do def push(_, _), do: {:ok, :accepted} end"
      [_module] = Cluster.call(peer, Code, :compile_string, [older])

      push = %PushConfig{
        service: "remote",
        nodes: [node()],
        config_version: "1",
        fun_configs: [fun(node(), {Functions, :node_name, []})]
      }

      assert ConfigPusher.push(gateway, push) == {:ok, :accepted}
      assert ConfigDb.get("remote", "t") == {:error, :not_found}
    end
  end
end
