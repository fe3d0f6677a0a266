defmodule PhoenixGenApi.ConfigReceiverTest do
  # One table per node; the settings are those of the application.
  use PhoenixGenApi.Test.OwnVM

  import ExUnit.CaptureLog

  alias PhoenixGenApi.{
    Await,
    ConfigDb,
    ConfigFailed,
    ConfigPuller,
    ConfigPusher,
    ConfigReceiver,
    Telemetry
  }

  alias PhoenixGenApi.ConfigSync.{Content, Installer, PushStore, ServiceLock}
  alias PhoenixGenApi.ConfigSync.ServiceLock.Recovery
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, ServiceConfig}
  alias PhoenixGenApi.Test.Directory

  @moduletag :capture_log

  @doc false
  def forward(_event, measurements, metadata, pid),
    do: send(pid, {:pushed, measurements, metadata})

  setup do
    event = [:phoenix_gen_api, :config, :push]
    :ok = Telemetry.attach_many(__MODULE__, [event], &__MODULE__.forward/4, self())
    ConfigFailed.clear()

    on_exit(fn ->
      Telemetry.detach_all(__MODULE__)
      for key <- [:push_token, :admin_actions], do: Application.delete_env(:phoenix_gen_api, key)
      for service <- ["shop", "bank"], do: ConfigReceiver.delete_pushed_service(service)
      ConfigPuller.delete(["shop"])
      ConfigDb.delete("shop", "direct")
    end)
  end

  defp fun(type, fields \\ []) do
    struct!(
      %FunConfig{
        service: "shop",
        request_type: type,
        nodes: :local,
        mfa: {String, :upcase, ["x"]}
      },
      fields
    )
  end

  defp push_config(functions, fields \\ []) do
    struct!(
      %PushConfig{
        service: :shop,
        nodes: [node()],
        config_version: "1.0.0",
        fun_configs: functions
      },
      fields
    )
  end

  # Runs it in a process that is killed then, wherever it is; returns after all that was under way.
  defp killed_after(ms, fun) do
    {pid, monitor} = spawn_monitor(fun)

    receive do
    after
      ms -> Process.exit(pid, :kill)
    end

    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
    ServiceLock.run("shop", fn -> :ok end)
  end

  defp stored, do: ConfigDb.get_functions_from_services("shop")["shop"]

  # As a node of the service pushes itself.
  defp from(node, type \\ "a", fields \\ []),
    do: push_config([fun(type, nodes: [node])], [nodes: [node]] ++ fields)

  defp nodes do
    {:ok, %{nodes: nodes}} = ConfigDb.get("shop", "a")
    nodes
  end

  describe "push" do
    test "stores the functions and their version" do
      assert ConfigReceiver.push(push_config([fun("a"), fun("b", service: :shop)])) ==
               {:ok, :accepted}

      assert stored() == %{"a" => ["0.0.0"], "b" => ["0.0.0"]}
      assert ConfigDb.origin("shop", "a", "0.0.0") == :push
      assert_received {:pushed, %{count: 2}, %{service: "shop", version: "1.0.0"}}
      assert ConfigReceiver.get_all_pushed_services() == %{"shop" => "1.0.0"}
      assert %PushConfig{service: "shop"} = ConfigReceiver.get_pushed_config(:shop)
      assert ConfigReceiver.get_pushed_config("bank") == nil

      assert ConfigReceiver.status() == %{status: :ok, count: 1, services: %{"shop" => "1.0.0"}}
    end

    test "takes a map with atom or string keys" do
      map = push_config([fun("a")]) |> Map.from_struct()
      assert ConfigReceiver.push(map) == {:ok, :accepted}
      strings = Map.new(map, fn {key, value} -> {Atom.to_string(key), value} end)
      assert PhoenixGenApi.push_config(strings) == {:ok, :skipped, :version_matches}
      assert PhoenixGenApi.push_config(strings, force: true) == {:ok, :accepted}
    end

    test "of the same version is skipped, whatever is in it, unless forced" do
      ConfigReceiver.push(push_config([fun("a")]))
      other = push_config([fun("b")], service: "shop")
      assert ConfigReceiver.push(other) == {:ok, :skipped, :version_matches}
      assert Map.keys(stored()) == ["a"]
      assert ConfigReceiver.push(other, force: true) == {:ok, :accepted}
      assert Map.keys(stored()) == ["b"]
    end

    test "replaces what was pushed before and leaves alone what was added" do
      :ok = ConfigDb.add(fun("direct"))
      ConfigReceiver.push(push_config([fun("a"), fun("b")]))
      ConfigReceiver.push(push_config([fun("b")], config_version: "2.0.0"))
      assert Map.keys(stored()) == ["b", "direct"]
      assert ConfigReceiver.verify(:shop, "2.0.0") == {:ok, :matched}
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :mismatch, "2.0.0"}
      assert ConfigReceiver.verify("bank", "1") == {:error, :not_found}
    end

    test "stores nothing if anything is wrong, and says and records all of it" do
      ConfigReceiver.push(push_config([fun("a")]))

      there = [nodes: [:shop@h]]

      functions = [
        fun("a", [timeout: 100] ++ there),
        fun("late", timeout: 1, hook_timeout: 0, version: "1.0.0"),
        fun("cmd", mfa: {:os, :cmd, []}),
        fun("twice", there),
        fun("twice", [version: nil] ++ there)
      ]

      push = push_config(functions, config_version: "2.0.0")

      assert {:error, {:validation_failed, reasons}} = ConfigReceiver.push(push, node: :shop@h)

      assert Enum.sort(reasons) == [
               "cmd 0.0.0: mfa not allowed: {:os, :cmd, []}",
               "late 1.0.0: hook_timeout must be a positive integer",
               "late 1.0.0: timeout must be a positive integer between 100 and 300000, or :infinity",
               "twice 0.0.0: is listed more than once"
             ]

      assert {:ok, %{timeout: 5_000}} = ConfigDb.get("shop", "a")
      assert Map.keys(stored()) == ["a"]
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :matched}
      recorded = ConfigFailed.list(source: :push)
      assert Enum.sort(Enum.map(recorded, & &1.request_type)) == ["cmd", "late", "twice"]
      assert Enum.all?(recorded, &(&1.node == :shop@h))

      # Without the repeated one it is the table that finds the same.
      push = push_config(Enum.take(functions, 3), config_version: "2.0.0")
      assert {:error, {:validation_failed, again}} = ConfigReceiver.push(push)
      assert Enum.sort(again) == Enum.sort(reasons) -- ["twice 0.0.0: is listed more than once"]
    end

    test "is refused for what is wrong with the push itself" do
      bad = push_config([fun("a", service: "bank"), fun("b", timeout: 1)], config_version: "")

      assert ConfigReceiver.push(bad) ==
               {:error,
                {:validation_failed,
                 [
                   "config_version must be a non-empty string",
                   "all fun_configs must have the same service name as the push config",
                   "b 0.0.0: timeout must be a positive integer between 100 and 300000, or :infinity"
                 ]}}

      for functions <- [nil, [], [:a], [fun("a") | :improper], %{}] do
        assert {:error, {:validation_failed, [sentence]}} =
                 ConfigReceiver.push(push_config(functions))

        assert sentence == "fun_configs must be a non-empty list of FunConfig structs"
      end

      assert {:error, {:validation_failed, [_ | _]}} = ConfigReceiver.push(%{})
      assert {:error, {:validation_failed, [_ | _]}} = ConfigReceiver.push(%{service: %{}})
      assert stored() == nil
    end

    test "is refused when it is no push at all" do
      for junk <- [nil, 1, "push", [], [service: "shop"], %ServiceConfig{}, {:push, 1}] do
        assert ConfigReceiver.push(junk) == {:error, :invalid_push_config_data}
      end
    end

    test "needs the gateway's token, which nobody sees afterwards" do
      Application.put_env(:phoenix_gen_api, :push_token, "s3cret-token")
      push = push_config([fun("a")])

      for token <- [nil, "", "wrong-token", :atom, 1] do
        assert ConfigReceiver.push(%{push | push_token: token}) == {:error, :invalid_push_token}
      end

      assert ConfigReceiver.push(:junk) == {:error, :invalid_push_token}
      assert [%{service: nil}, %{service: "shop", times: 5}] = ConfigFailed.list()
      ConfigFailed.clear()

      log =
        capture_log(fn ->
          assert ConfigReceiver.push(%{push | push_token: "s3cret-token"}) == {:ok, :accepted}

          bad = %{push | push_token: "s3cret-token", config_version: 5}
          assert {:error, {:validation_failed, _}} = ConfigReceiver.push(bad)
        end)

      assert ConfigReceiver.get_pushed_config("shop").push_token == nil

      for table <- [PushStore, ConfigFailed.Store, ServiceLock, ConfigPuller.Store] do
        refute inspect(:ets.tab2list(table), limit: :infinity, structs: false) =~ "s3cret"
      end

      refute log =~ "s3cret"
      refute inspect(ConfigReceiver.status()) =~ "s3cret"
    end

    test "passes the admin gate before the token" do
      Application.put_env(:phoenix_gen_api, :push_token, "t")
      Application.put_env(:phoenix_gen_api, :admin_actions, [:enable_tracing])
      assert ConfigReceiver.push(push_config([fun("a")])) == {:error, :admin_action_denied}
      Application.put_env(:phoenix_gen_api, :admin_actions, [:push_config])
      assert ConfigReceiver.push(push_config([fun("a")])) == {:error, :invalid_push_token}
    end

    test "leaves a function disabled that an operator disabled" do
      ConfigReceiver.push(push_config([fun("a")]))
      :ok = ConfigDb.disable("shop", "a")
      ConfigReceiver.push(push_config([fun("a")]), force: true)
      assert ConfigDb.get("shop", "a") == {:error, :disabled}
      :ok = ConfigDb.enable("shop", "a")
    end
  end

  describe "a push whose functions are no longer as they were" do
    test "is not matched by the table, and stored again" do
      push = push_config([fun("a"), fun("b")])
      assert ConfigReceiver.push(push) == {:ok, :accepted}
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :matched}

      for change <- [fn -> ConfigDb.delete("shop", "b") end, &ConfigDb.clear/0] do
        change.()
        assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :mismatch, "1.0.0"}
        assert ConfigReceiver.verify("shop", "2.0.0") == {:ok, :mismatch, "1.0.0"}
        assert ConfigPusher.verify(node(), "shop", "1.0.0") == {:ok, :mismatch, "1.0.0"}
        assert ConfigPusher.push(node(), push) == {:ok, :accepted}
        assert ConfigPusher.push(node(), push) == {:ok, :skipped, :version_matches}
        assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :matched}
        assert Map.keys(stored()) == ["a", "b"]
      end
    end

    test "is refused while code of the gateway has added one of them" do
      push = push_config([fun("a"), fun("b")])
      ConfigReceiver.push(push)
      :ok = ConfigDb.add(fun("b", timeout: 1_000))
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :mismatch, "1.0.0"}

      assert {:error, {:validation_failed, ["b 0.0.0: added on this gateway" <> _]}} =
               ConfigReceiver.push(push)

      ConfigDb.delete("shop", "b")
      assert ConfigReceiver.push(push) == {:ok, :accepted}
      assert {:ok, %{timeout: 5_000}} = ConfigDb.get("shop", "b")
    end

    test "is as it was where one is only disabled" do
      push = push_config([fun("a")])
      ConfigReceiver.push(push)
      :ok = ConfigDb.disable("shop", "a")
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :matched}
      assert ConfigReceiver.push(push) == {:ok, :skipped, :version_matches}
      :ok = ConfigDb.enable("shop", "a")
    end
  end

  describe "a push of the same version with other content" do
    setup do: ConfigReceiver.push(push_config([fun("a")])) && :ok

    test "is skipped with a warning on both sides, and not matched until one of the two is pushed" do
      other = push_config([fun("a", timeout: 1_000)])

      log =
        capture_log(fn ->
          assert ConfigPusher.push(node(), other) == {:ok, :skipped, :version_matches}
        end)

      assert log =~ "has other content than the one stored with this version"
      assert log =~ "changes nothing: it has other content as version"
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :mismatch, "1.0.0"}

      # Another node has what is stored.
      assert ConfigReceiver.push(push_config([fun("a")]), node: :b@h) ==
               {:ok, :skipped, :version_matches}

      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :mismatch, "1.0.0"}

      # The same one, now.
      assert ConfigPusher.push(node(), push_config([fun("a")])) ==
               {:ok, :skipped, :version_matches}

      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :matched}
      assert ConfigReceiver.push(other) == {:ok, :skipped, :version_matches}
      assert ConfigReceiver.push(other, force: true) == {:ok, :accepted}
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :matched}
    end

    test "differs by anything but nodes, and not by how a default is written" do
      for other <- [
            push_config([fun("a"), fun("b")]),
            push_config([fun("b")]),
            push_config([fun("a", version: "1.0.0")]),
            push_config([fun("a", nodes: [:b@h])]),
            push_config([fun("a")], module: :lists, function: :reverse)
          ] do
        assert ConfigReceiver.push(other, strict: true) ==
                 {:error, {:version_conflict, "1.0.0"}}
      end

      same = push_config([fun("a", version: nil, service: :shop)], nodes: [:c@h, "b@h"])
      assert ConfigReceiver.push(same, strict: true) == {:ok, :skipped, :version_matches}
      assert Map.keys(stored()) == ["a"]
    end

    test "is refused if the pusher or the gateway is strict" do
      other = push_config([fun("b")])
      conflict = {:error, {:version_conflict, "1.0.0"}}
      assert ConfigPusher.push(node(), other, strict: true) == conflict
      assert ConfigPusher.push(node(), other, strict: true, force: true) == {:ok, :accepted}
      Application.put_env(:phoenix_gen_api, :gen_api, strict: true)
      :ok = PhoenixGenApi.reload_config()

      on_exit(fn ->
        Application.delete_env(:phoenix_gen_api, :gen_api)
        :ok = PhoenixGenApi.reload_config()
      end)

      assert ConfigReceiver.push(push_config([fun("a")])) == conflict
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :mismatch, "1.0.0"}
      assert Map.keys(stored()) == ["b"]
    end
  end

  describe "nodes of a service that push themselves" do
    test "join with the same content, one after the other" do
      assert ConfigReceiver.push(from(:one@nohost)) == {:ok, :accepted}
      assert ConfigReceiver.push(from(:one@nohost)) == {:ok, :skipped, :version_matches}
      assert ConfigPusher.push(node(), from(:two@nohost)) == {:ok, :accepted}
      assert ConfigPusher.push(node(), from("two@nohost")) == {:ok, :skipped, :version_matches}
      assert nodes() == [:one@nohost, :two@nohost]
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :matched}

      # Anything but one node, and the same everywhere.
      for {nodes, of_function} <- [
            {[:one@nohost, :three@nohost], [:three@nohost]},
            {[:three@nohost], [:one@nohost]},
            {[:three@nohost], [:one@nohost, :three@nohost]}
          ] do
        push = push_config([fun("a", nodes: of_function)], nodes: nodes)
        assert ConfigReceiver.push(push) == {:ok, :skipped, :version_matches}
      end

      assert ConfigReceiver.push(from(:four@nohost, "b")) == {:ok, :skipped, :version_matches}
      assert nodes() == [:one@nohost, :two@nohost]
    end

    test "begin anew with another version" do
      for node <- [:one@nohost, :two@nohost], do: ConfigReceiver.push(from(node))
      assert ConfigReceiver.push(from(:two@nohost, "a", config_version: "2")) == {:ok, :accepted}
      assert nodes() == [:two@nohost]
      assert ConfigReceiver.push(from(:one@nohost)) == {:ok, :accepted}
      assert nodes() == [:one@nohost]
    end

    test "join one that lists several" do
      push = push_config([fun("a", nodes: [:one@nohost, :two@nohost])])
      assert ConfigReceiver.push(push) == {:ok, :accepted}
      assert ConfigReceiver.push(from(:two@nohost)) == {:ok, :skipped, :version_matches}
      assert ConfigReceiver.push(from(:three@nohost)) == {:ok, :accepted}
      assert nodes() == [:one@nohost, :two@nohost, :three@nohost]
    end

    test "join by what they offer, without sending their functions" do
      offer = fn node ->
        push = from(node)
        content = {Content.fingerprint(push), Content.single_node(push)}
        ConfigReceiver.offer(%{push | fun_configs: nil}, content: content)
      end

      assert offer.(:one@nohost) == :send
      assert ConfigReceiver.push(from(:one@nohost)) == {:ok, :accepted}
      assert offer.(:one@nohost) == {:ok, :skipped, :version_matches}
      assert offer.(:two@nohost) == {:ok, :accepted}
      assert nodes() == [:one@nohost, :two@nohost]
    end

    test "are asked by the pull that their push wants" do
      source = [module: Directory, function: :without_arguments]
      assert ConfigReceiver.push(from(:one@nohost, "a", source)) == {:ok, :accepted}
      assert ConfigReceiver.push(from(:two@nohost, "a", source)) == {:ok, :accepted}
      assert nodes() == [:one@nohost, :two@nohost]
      assert ConfigPuller.get_services()["shop"].nodes == [:one@nohost, :two@nohost]
    end

    test "have joined after a crash in the middle of it, or have not" do
      ConfigReceiver.push(from(:one@nohost))

      for n <- 1..50 do
        joining = from(:"node#{n}@nohost")
        killed_after(rem(n, 3), fn -> ConfigReceiver.push(joining) end)
        Await.until(fn -> not PushStore.dirty?("shop") end)
        assert ConfigReceiver.get_pushed_config("shop").nodes -- nodes() == []

        assert ConfigReceiver.push(joining) in [
                 {:ok, :accepted},
                 {:ok, :skipped, :version_matches}
               ]

        assert :"node#{n}@nohost" in nodes()
      end
    end
  end

  describe "pushed and pulled" do
    defp source(functions) do
      %ServiceConfig{
        service: "shop",
        nodes: [node()],
        module: :erlang,
        function: :list_to_tuple,
        args: [[:ok, functions]]
      }
    end

    defp pulls(functions) do
      ConfigPuller.add([source(functions)])
      types = for %{request_type: type} <- functions, do: type
      Await.until(fn -> Map.keys(stored() || %{}) == types end)
    end

    test "a service that is pushed is not pulled any more, until an operator says so" do
      pulls([fun("pulled")])
      log = capture_log(fn -> ConfigReceiver.push(push_config([fun("a")])) end)
      assert log =~ "service shop is not pulled any more"
      :ok = ConfigPuller.force_pull()
      # A pull begins only once the process has had its turn.
      :sys.get_state(ConfigPuller)
      assert ConfigPuller.Store.begin("shop") == :error
      assert ConfigPuller.Store.due() == []
      assert ConfigPuller.Store.tried?()
      assert Map.keys(stored()) == ["a"]
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :matched}

      pushed_at = System.system_time(:microsecond)
      pulls([fun("pulled")])
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :mismatch, "1.0.0"}

      # A pusher that only pushes again is older than the operator.
      assert ConfigReceiver.push(push_config([fun("a")]), pushed_at: pushed_at) ==
               {:ok, :skipped, :superseded}

      assert ConfigReceiver.push(push_config([fun("a")])) == {:ok, :accepted}
      assert Map.keys(stored()) == ["a"]

      ConfigReceiver.delete_pushed_service("shop")
      Await.until(fn -> Map.keys(stored() || %{}) == ["pulled"] end)
    end

    test "the pull that a push has asked for belongs to the push" do
      same = [fun("a"), fun("b")]
      lists = &[module: :maps, function: :get, args: [:list, %{list: {:ok, &1}}]]
      push = push_config(same, lists.(same))
      assert ConfigReceiver.push(push) == {:ok, :accepted}
      Await.until(fn -> ConfigPuller.get_api_list("shop") == ["a", "b"] end)
      assert ConfigDb.origin("shop", "a", "0.0.0") == :pull
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :matched}

      # One that lists something else is not what was pushed, and no reason to push again.
      push = push_config(same, [config_version: "2"] ++ lists.([fun("a"), fun("c")]))
      assert ConfigReceiver.push(push) == {:ok, :accepted}
      Await.until(fn -> ConfigPuller.get_api_list("shop") == ["a", "c"] end)
      assert ConfigReceiver.verify("shop", "2") == {:ok, :mismatch, "2"}
      assert ConfigReceiver.push(push) == {:ok, :skipped, :version_matches}
      ConfigDb.delete("shop", "c")
      assert ConfigReceiver.push(push) == {:ok, :accepted}
    end
  end

  describe "a push to be pulled as well" do
    defp pulled(functions, fields) do
      push_config(functions, [module: "lists", function: "reverse", args: [[]]] ++ fields)
    end

    test "registers the service, until one that is not" do
      assert ConfigReceiver.push(pulled([fun("a")], [])) == {:ok, :accepted}
      assert %{"shop" => %{module: :lists, function: :reverse}} = ConfigPuller.get_services()
      assert ConfigReceiver.push(push_config([fun("a")], config_version: "2")) == {:ok, :accepted}
      assert ConfigPuller.get_services() == %{}
    end

    test "must name functions that may be called, and names at all" do
      push = pulled([fun("a")], module: :os, function: :cmd, args: [~c"id"])

      assert {:error, {:validation_failed, ["mfa not allowed: {:os, :cmd}"]}} =
               ConfigReceiver.push(push)

      push = pulled([fun("a")], version_module: :os, version_function: "cmd")

      assert {:error, {:validation_failed, ["mfa not allowed: {:os, :cmd}"]}} =
               ConfigReceiver.push(push)

      assert {:error, {:validation_failed, ["module must be a module name" <> _]}} =
               ConfigReceiver.push(pulled([fun("a")], module: "Not a module"))

      assert ConfigPuller.get_services() == %{}
      assert stored() == nil
    end

    test "is forgotten with delete_pushed_service" do
      ConfigReceiver.push(pulled([fun("a")], []))
      assert ConfigReceiver.delete_pushed_service(:shop) == :ok
      assert ConfigPuller.get_services() == %{}
      assert stored() == nil
      assert ConfigReceiver.verify("shop", "1.0.0") == {:error, :not_found}
      assert ConfigReceiver.delete_pushed_service("shop") == :ok
    end
  end

  test "what is pushed again replaces nothing that was pushed later" do
    {one, two} = {fun("one"), fun("two")}
    push = &ConfigReceiver.push(push_config([&1], config_version: &2), pushed_at: &3)
    offer = &ConfigReceiver.offer(push_config(nil, config_version: &1), pushed_at: &2)
    assert offer.("2.0.0", 100) == :send
    assert push.(one, "2.0.0", 100) == {:ok, :accepted}
    assert offer.("1.0.0", 200) == :send
    assert push.(two, "1.0.0", 200) == {:ok, :accepted}
    assert offer.("2.0.0", 100) == {:ok, :skipped, :superseded}
    assert push.(one, "2.0.0", 100) == {:ok, :skipped, :superseded}
    assert push.(two, "1.0.0", 100) == {:ok, :skipped, :version_matches}
    assert Map.keys(stored()) == ["two"]

    # Pushed, not pushed again.
    assert ConfigReceiver.push(push_config([one], config_version: "2.0.0")) == {:ok, :accepted}
  end

  test "what is pushed again is forced over its own version only" do
    push = fn type, version, at ->
      push = push_config([fun(type)], config_version: version)
      ConfigReceiver.push(push, pushed_at: at, force: true)
    end

    assert push.("new", "2.0.0", 200) == {:ok, :accepted}
    assert push.("old", "1.0.0", 100) == {:ok, :skipped, :superseded}
    assert push.("newer", "2.0.0", 100) == {:ok, :accepted}
    assert Map.keys(stored()) == ["newer"]
  end

  test "an offer is answered as the push would be" do
    offer = push_config(nil)
    assert ConfigReceiver.offer(offer) == :send
    ConfigReceiver.push(push_config([fun("a")]))
    content = {Content.fingerprint(push_config([fun("a")])), nil}
    assert ConfigReceiver.offer(offer, content: content) == {:ok, :skipped, :version_matches}
    # Of an older pusher, and of one with other functions.
    assert ConfigReceiver.offer(offer) == :send
    assert ConfigReceiver.offer(offer, content: {"other", nil}) == :send
    assert ConfigReceiver.offer(offer, content: content, force: true) == :send
    assert ConfigReceiver.offer(%{offer | config_version: "2"}) == :send
    assert ConfigReceiver.offer(5) == {:error, :invalid_push_config_data}
    Application.put_env(:phoenix_gen_api, :push_token, "s3cret")
    assert ConfigReceiver.offer(offer) == {:error, :invalid_push_token}
    Application.put_env(:phoenix_gen_api, :admin_actions, [])
    assert ConfigReceiver.offer(offer) == {:error, :admin_action_denied}
  end

  test "a refused push says everything to the pusher and little to the log" do
    functions = for n <- 1..1_000, do: fun("f#{n}", timeout: 1)

    log =
      capture_log(fn ->
        assert {:error, {:validation_failed, sentences}} =
                 ConfigReceiver.push(push_config(functions))

        assert length(sentences) == 1_000
      end)

    assert log =~ "f1 0.0.0: timeout must be"
    assert log =~ "and 995 more"
    assert byte_size(log) < 2_000
  end

  test "a service that the gateway pulls itself is pulled anew when its push is deleted" do
    service = %ServiceConfig{
      service: "shop",
      nodes: [node()],
      module: Directory,
      function: :hang,
      args: [self()]
    }

    ConfigPuller.add([service])
    assert_receive {:hanging, first}
    ConfigReceiver.push(push_config([fun("a")]))
    ConfigReceiver.delete_pushed_service("shop")
    assert_receive {:hanging, second}
    assert Map.keys(ConfigPuller.get_services()) == ["shop"]
    assert stored() == nil
    ConfigPuller.delete(["shop"])
    for pid <- [first, second], do: Process.exit(pid, :kill)
  end

  describe "at the same time" do
    test "pushes of one service follow each other, another service does not wait" do
      test = self()

      holder =
        spawn_link(fn ->
          ServiceLock.run("shop", fn ->
            send(test, :holding)

            receive do
              :go -> :ok
            end
          end)
        end)

      assert_receive :holding

      waiting =
        for i <- 1..5,
            do:
              Task.async(fn ->
                ConfigReceiver.push(push_config([fun("f#{i}")], config_version: "#{i}"))
              end)

      bank = push_config([fun("a", service: "bank")], service: "bank")
      assert ConfigReceiver.push(bank) == {:ok, :accepted}
      assert stored() == nil
      send(holder, :go)
      assert Enum.uniq(Task.await_many(waiting)) == [{:ok, :accepted}]
      # The functions are those of the version that is remembered.
      version = ConfigReceiver.get_all_pushed_services()["shop"]
      assert Map.keys(stored()) == ["f" <> version]
    end

    test "a crash of the process loses no push, no version and no turn" do
      ConfigReceiver.push(push_config([fun("a")]))
      test = self()

      holder =
        spawn_link(fn ->
          ServiceLock.run("shop", fn ->
            send(test, :holding)

            receive do
              :go -> send(test, :released)
            end
          end)
        end)

      assert_receive :holding

      push =
        Task.async(fn -> ConfigReceiver.push(push_config([fun("b")], config_version: "2")) end)

      Await.restart(ConfigReceiver)
      assert ConfigReceiver.verify("shop", "1.0.0") == {:ok, :matched}
      assert Map.keys(stored()) == ["a"]

      # Whoever had the turn still has it.
      assert Task.yield(push, 50) == nil
      send(holder, :go)
      assert_receive :released
      assert Task.await(push, 60_000) == {:ok, :accepted}
      assert Map.keys(stored()) == ["b"]
    end
  end

  describe "killed at any moment" do
    test "a push is there with its version, or not at all" do
      :rand.seed(:exsss, 7)
      # Each has all its functions under names of its own.
      push = fn version ->
        functions = for n <- 1..150, do: fun("f#{version} #{n}")
        push_config(functions, config_version: "#{version}")
      end

      for n <- 1..500 do
        killed_after(:rand.uniform(8) - 1, fn -> ConfigReceiver.push(push.(n)) end)
        if n == 250, do: ConfigReceiver.delete_pushed_service("shop")
        Await.until(fn -> consistent?(ConfigReceiver.get_pushed_config("shop")) end)
      end
    end

    test "a deletion is done, or not at all" do
      :rand.seed(:exsss, 8)

      for n <- 1..200 do
        ConfigReceiver.push(push_config(for(n <- 1..50, do: fun("f#{n}"))), force: true)
        killed_after(rem(n, 2), fn -> ConfigReceiver.delete_pushed_service("shop") end)
        Await.until(fn -> consistent?(ConfigReceiver.get_pushed_config("shop")) end)
      end
    end

    test "what had changed the functions and not yet said so is undone at once" do
      ConfigReceiver.push(push_config([fun("a")]))
      test = self()

      pid =
        spawn(fn ->
          Recovery.run("shop", fn ->
            {:ok, 1} = Installer.store(%{push_config([fun("b")]) | service: "shop"}, node())
            send(test, :stored)
            Process.exit(self(), :kill)
          end)
        end)

      monitor = Process.monitor(pid)
      assert_receive :stored
      assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
      Await.until(fn -> Map.keys(stored()) == ["a"] end)
    end
  end

  defp consistent?(nil), do: stored() == nil

  defp consistent?(%{fun_configs: functions}),
    do: stored() == Map.new(functions, &{&1.request_type, ["0.0.0"]})

  describe "the pusher, to this node" do
    test "fills in the token and asks for the version" do
      Application.put_env(:phoenix_gen_api, :push_token, "s3cret-token")

      push =
        ConfigPusher.from_service_config("shop", [node()], [fun("a")], config_version: "1.0.0")

      assert push.push_token == nil

      assert ConfigPusher.push(node(), %{push | push_token: "other"}) ==
               {:error, :invalid_push_token}

      assert ConfigPusher.push(node(), push) == {:ok, :accepted}

      assert ConfigPusher.push(node(), %{push | push_token: ""}) ==
               {:ok, :skipped, :version_matches}

      assert ConfigPusher.verify(node(), :shop, "1.0.0") == {:ok, :matched}

      log =
        capture_log(fn ->
          assert ConfigPusher.push_on_startup(node(), push, force: true) == {:ok, :accepted}
          bad = %{push | config_version: nil, push_token: "s3cret-token"}
          assert {:error, {:validation_failed, _}} = ConfigPusher.push_on_startup(node(), bad)
        end)

      assert log =~ "accepted"
      assert log =~ "config_version must be a non-empty string"
      refute log =~ "s3cret"
    end

    test "gives up waiting after the timeout, and the push is stored nevertheless" do
      test = self()

      holder =
        spawn_link(fn ->
          ServiceLock.run("shop", fn ->
            send(test, :holding)

            receive do
              :go -> :ok
            end
          end)
        end)

      assert_receive :holding
      push = push_config([fun("a")])

      assert ConfigPusher.push(node(), push, timeout: 20, force: true) ==
               {:error, {:badrpc, :timeout}}

      send(holder, :go)
      assert_receive {:pushed, %{count: 1}, _}
    end

    test "builds a push config, which needs a version" do
      assert_raise ArgumentError, fn -> ConfigPusher.from_service_config("shop", [], [], []) end

      for version <- [nil, ""] do
        assert_raise ArgumentError, "the option :config_version is required", fn ->
          ConfigPusher.from_service_config("shop", [], [], config_version: version)
        end
      end

      assert %PushConfig{service: :shop, module: Books, args: [1], config_version: "1"} =
               ConfigPusher.from_service_config(:shop, [node()], [fun("a")],
                 config_version: "1",
                 module: Books,
                 function: :list,
                 args: [1]
               )
    end

    test "under a supervisor has a child id for each service, and checks its options" do
      spec = ConfigPusher.child_spec(gateways: [node()], push_config: push_config([fun("a")]))
      assert spec.id == {ConfigPusher, "shop"}
      start_supervised!(spec)
      assert_receive {:pushed, %{count: 1}, %{service: "shop"}}
      assert_raise ArgumentError, fn -> ConfigPusher.start_link(gateways: [node()]) end
    end
  end
end
