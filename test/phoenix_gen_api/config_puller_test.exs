defmodule PhoenixGenApi.ConfigPullerTest do
  # The service nodes here are this node; real ones are in test/cluster.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias PhoenixGenApi.{Await, Config, ConfigDb, ConfigFailed, ConfigPuller, ConfigReceiver}
  alias PhoenixGenApi.ConfigPuller.Store
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, ServiceConfig}
  alias PhoenixGenApi.{Telemetry, Test.Directory}

  @moduletag :capture_log

  @pull [:phoenix_gen_api, :config, :pull]

  @doc false
  def forward(@pull ++ [:start], %{system_time: _}, %{service: service}, pid),
    do: send(pid, {:started, service})

  def forward(@pull ++ [:stop], %{duration_us: _, count: count}, metadata, pid),
    do: send(pid, {:pulled, metadata.service, metadata.result, count})

  setup do
    :ok =
      Telemetry.attach_many(
        __MODULE__,
        [@pull ++ [:start], @pull ++ [:stop]],
        &__MODULE__.forward/4,
        self()
      )

    agent =
      start_supervised!({Agent, fn -> %{list: fn -> {:ok, []} end, version: fn -> "1" end} end})

    settings(pull_timeout: 300)
    ConfigFailed.clear()

    on_exit(fn ->
      Telemetry.detach_all(__MODULE__)
      ConfigPuller.delete(Map.keys(ConfigPuller.get_services()) ++ ["shop"])
      for type <- ["a", "b", "c"], do: ConfigDb.delete("shop", type)
      Application.delete_env(:phoenix_gen_api, :gen_api)
      Config.reload()
    end)

    %{agent: agent}
  end

  defp settings(gen_api) do
    Application.put_env(:phoenix_gen_api, :gen_api, gen_api)
    :ok = Config.reload()
  end

  defp service(agent, fields \\ []) do
    struct!(
      %ServiceConfig{
        service: "shop",
        nodes: [node()],
        module: Directory,
        function: :answer,
        args: [agent, :list]
      },
      fields
    )
  end

  defp versioned(agent) do
    service(agent,
      version_module: Directory,
      version_function: :answer,
      version_args: [agent, :version]
    )
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

  defp answer(agent, key, fun), do: Agent.update(agent, &Map.put(&1, key, fun))
  defp list(agent, functions), do: answer(agent, :list, fn -> {:ok, functions} end)

  defp pulled(result, service \\ "shop") do
    assert_receive {:pulled, ^service, ^result, count}
    count
  end

  defp stored, do: ConfigDb.get_functions_from_services("shop")["shop"]

  describe "add" do
    test "pulls at once, and what was pulled can be asked for", %{agent: agent} do
      list(agent, [fun("b"), fun("a", version: "1.0.0"), fun("a", version: "2.0.0")])
      assert ConfigPuller.get_api_list("shop") == nil
      assert ConfigPuller.add([versioned(agent)]) == :ok
      assert pulled(:ok) == 3
      assert_received {:started, "shop"}
      assert stored() == %{"a" => ["1.0.0", "2.0.0"], "b" => ["0.0.0"]}
      assert ConfigDb.origin("shop", "b", "0.0.0") == :pull
      assert ConfigPuller.get_api_list(:shop) == ["a", "b"]
      assert ConfigPuller.get_service_version("shop") == "1"
      assert ConfigPuller.get_all_versions() == %{"shop" => "1"}
      assert %{"shop" => %ServiceConfig{module: Directory}} = ConfigPuller.get_services()

      assert ConfigPuller.status() == %{
               status: :ok,
               services: ["shop"],
               api_list: %{"shop" => ["a", "b"]},
               service_versions: %{"shop" => "1"},
               failure_count: 0
             }
    end

    test "accepts no services, and refuses what is no ServiceConfig", %{agent: agent} do
      assert ConfigPuller.add([]) == :ok
      assert_raise ArgumentError, fn -> ConfigPuller.add([service(agent), %{service: "x"}]) end
      assert ConfigPuller.get_services() == %{}
    end

    test "skips and records a config that cannot be used" do
      log =
        capture_log(fn -> assert ConfigPuller.add([%ServiceConfig{service: :shop}]) == :ok end)

      assert log =~ "module must be a module name"
      assert [%{service: "shop", source: :pull}] = ConfigFailed.list()
      assert ConfigPuller.get_services() == %{}
    end

    test "takes names as strings", %{agent: agent} do
      list(agent, [fun("a")])

      ConfigPuller.add([
        service(agent,
          service: :shop,
          nodes: [Atom.to_string(node())],
          module: "PhoenixGenApi.Test.Directory",
          function: "answer"
        )
      ])

      assert pulled(:ok) == 1
      assert %{"shop" => %{nodes: [node], module: Directory}} = ConfigPuller.get_services()
      assert node == node()
    end

    test "finds nodes with a function", %{agent: agent} do
      list(agent, [fun("a")])
      ConfigPuller.add([service(agent, nodes: {Enum, :take, [[node()], 1]})])
      assert pulled(:ok) == 1
    end

    test "the same config again keeps the version, another forgets it", %{agent: agent} do
      ConfigPuller.add([versioned(agent)])
      pulled(:ok)
      ConfigPuller.add([versioned(agent)])
      pulled(:skipped)
      ConfigPuller.add([%{versioned(agent) | nodes: [node(), :other@nowhere]}])
      pulled(:ok)
    end
  end

  describe "versions" do
    test "the same is skipped unless forced", %{agent: agent} do
      list(agent, [fun("a")])
      ConfigPuller.add([versioned(agent)])
      pulled(:ok)
      list(agent, [fun("b")])
      assert ConfigPuller.pull() == :ok
      assert pulled(:skipped) == 0
      assert Map.keys(stored()) == ["a"]
      assert ConfigPuller.force_pull() == :ok
      assert pulled(:ok) == 1
      assert Map.keys(stored()) == ["b"]
    end

    test "the same is no reason to skip while something that was pulled is missing", %{
      agent: agent
    } do
      list(agent, [fun("a"), fun("b"), fun("b", timeout: 1, version: "1.0.0")])
      ConfigPuller.add([versioned(agent)])
      pulled(:ok)

      for change <- [fn -> ConfigDb.delete("shop", "b") end, &ConfigDb.clear/0] do
        change.()
        ConfigPuller.pull()
        pulled(:ok)
        assert stored() == %{"a" => ["0.0.0"], "b" => ["0.0.0"]}
        ConfigPuller.pull()
        pulled(:skipped)
      end

      # Not one that the gateway has taken over itself.
      :ok = ConfigDb.add(fun("a"))
      ConfigPuller.pull()
      pulled(:skipped)
    end

    test "is forgotten with a push, whose functions are others", %{agent: agent} do
      list(agent, [fun("a")])
      source = versioned(agent)
      ConfigPuller.add([source])
      pulled(:ok)

      push = %PushConfig{
        service: "shop",
        nodes: [node()],
        config_version: "1",
        fun_configs: [fun("b")]
      }

      assert ConfigReceiver.push(push) == {:ok, :accepted}
      assert Map.keys(stored()) == ["b"]
      ConfigPuller.add([source])
      pulled(:ok)
      assert Map.keys(stored()) == ["a"]

      # One that asks for the same pulling.
      push = struct!(push, source |> Map.from_struct() |> Map.delete(:service))
      assert ConfigReceiver.push(%{push | config_version: "2"}) == {:ok, :accepted}
      pulled(:ok)
      assert Map.keys(stored()) == ["a"]
    end

    test "another one is pulled", %{agent: agent} do
      ConfigPuller.add([versioned(agent)])
      pulled(:ok)
      answer(agent, :version, fn -> "2" end)
      ConfigPuller.pull()
      pulled(:ok)
      assert ConfigPuller.get_service_version("shop") == "2"
    end

    test "that cannot be told is no reason to skip, and is known no more", %{agent: agent} do
      ConfigPuller.add([versioned(agent)])
      pulled(:ok)

      for failing <- [fn -> raise "no" end, fn -> nil end, fn -> {:error, :no} end] do
        answer(agent, :version, failing)
        ConfigPuller.pull()
        pulled(:ok)
        assert ConfigPuller.get_service_version("shop") == nil
      end
    end
  end

  describe "what is listed" do
    test "replaces what was pulled before and leaves alone what was added", %{agent: agent} do
      list(agent, [fun("a"), fun("b")])
      ConfigPuller.add([service(agent)])
      pulled(:ok)
      :ok = ConfigDb.add(fun("c"))
      list(agent, [fun("b")])
      ConfigPuller.pull()
      pulled(:ok)
      assert stored() == %{"b" => ["0.0.0"], "c" => ["0.0.0"]}
      list(agent, [])
      ConfigPuller.pull()
      assert pulled(:ok) == 0
      assert stored() == %{"c" => ["0.0.0"]}
      assert ConfigPuller.get_api_list("shop") == []
    end

    test "but invalid is recorded and keeps its previous config", %{agent: agent} do
      list(agent, [fun("a"), fun("b")])
      ConfigPuller.add([service(agent)])
      pulled(:ok)
      list(agent, [fun("a", timeout: 1), fun("b", mfa: {:os, :cmd, []}), fun("c", mfa: 1), :junk])
      log = capture_log(fn -> ConfigPuller.pull() && pulled(:ok) end)
      assert log =~ "a 0.0.0 is rejected: timeout must be"
      assert stored() == %{"a" => ["0.0.0"], "b" => ["0.0.0"]}
      assert {:ok, %{timeout: 5_000}} = ConfigDb.get("shop", "a")
      assert ConfigPuller.get_api_list("shop") == ["a", "b"]
      assert length(ConfigFailed.list(source: :pull)) == 4

      # Said once, recorded again.
      refute capture_log(fn -> ConfigPuller.pull() && pulled(:ok) end) =~ "rejected"
      assert [%{times: 2}] = ConfigFailed.list(limit: 1)
    end

    test "but not loadable there is recorded and keeps its previous config", %{agent: agent} do
      list(agent, [fun("a", nodes: [node()])])
      ConfigPuller.add([service(agent)])
      pulled(:ok)
      absent = [nodes: [node()], mfa: {Absent.Module, :run, []}]
      list(agent, [fun("a", absent), fun("b", absent), fun("c", absent ++ [nodes: :local])])
      capture_log(fn -> ConfigPuller.pull() && pulled(:ok) end)
      assert {:ok, %{mfa: {String, :upcase, ["x"]}}} = ConfigDb.get("shop", "a")
      # What runs on the gateway needs no module elsewhere.
      assert Map.keys(stored()) == ["a", "c"]

      assert [%{reason: ["module Absent.Module cannot be loaded on" <> _]} | _] =
               ConfigFailed.list()
    end

    test "under another service's name is taken over with a warning", %{agent: agent} do
      list(agent, [fun("a", service: :shop), fun("b", service: "bank")])
      log = capture_log(fn -> ConfigPuller.add([service(agent)]) && pulled(:ok) end)
      assert log =~ ~s(b 0.0.0 names the service "bank", taken over)
      refute log =~ "a 0.0.0"
      assert Map.keys(stored()) == ["a", "b"]
      assert ConfigDb.get_functions_from_services("bank") == %{}
    end

    test "twice counts as listed last, with a warning", %{agent: agent} do
      list(agent, [fun("a", timeout: 100), fun("b"), fun("a", version: nil, timeout: 200)])
      log = capture_log(fn -> ConfigPuller.add([service(agent)]) && assert(pulled(:ok) == 2) end)
      assert log =~ "a 0.0.0 is listed more than once"
      assert {:ok, %{timeout: 200}} = ConfigDb.get("shop", "a")
    end

    test "by a node with other fields in the struct gets the defaults of this one", %{
      agent: agent
    } do
      older = fun("a") |> Map.delete(:hook_timeout) |> Map.put(:gone, 1)
      list(agent, [older])
      ConfigPuller.add([service(agent)])
      assert pulled(:ok) == 1
      assert {:ok, %{hook_timeout: 5_000}} = ConfigDb.get("shop", "a")
    end

    test "and disabled here stays so", %{agent: agent} do
      list(agent, [fun("a")])
      ConfigPuller.add([service(agent)])
      pulled(:ok)
      :ok = ConfigDb.disable("shop", "a")
      ConfigPuller.force_pull()
      pulled(:ok)
      assert ConfigDb.get("shop", "a") == {:error, :disabled}
    end

    test "may be thousands, while others are pulled and questions answered", %{agent: agent} do
      list(agent, for(i <- 1..5_000, do: fun("f#{i}")))
      :persistent_term.put(Directory, self())

      ConfigPuller.add([
        service(agent),
        %{service(agent) | service: "small", function: :without_arguments, args: []}
      ])

      assert pulled(:ok) == 5_000
      pulled(:ok, "small")
      assert length(ConfigPuller.get_api_list("shop")) == 5_000
    end
  end

  describe "the function that lists" do
    test "is called with the gateway's node if it takes one argument more" do
      ConfigPuller.add([service(nil, function: :with_node, args: [:gw, self()])])
      assert_receive {:asked_by, node}
      assert node == node()
      assert pulled(:ok) == 0
    end

    test "is called without arguments if it takes none" do
      :persistent_term.put(Directory, self())
      ConfigPuller.add([service(nil, function: :without_arguments, args: [:gw, 1])])
      assert_receive :asked_without_arguments
      pulled(:ok)
    end

    test "is not called otherwise when it exists but fails to find another" do
      capture_log(fn ->
        ConfigPuller.add([service(nil, function: :calls_nothing, args: [:gw])])
        pulled(:error)
      end)
    end
  end

  describe "a failure" do
    test "of any kind changes nothing and is counted", %{agent: agent} do
      list(agent, [fun("a")])
      ConfigPuller.add([service(agent)])
      pulled(:ok)

      failures = [
        fn -> raise "password" end,
        fn -> exit(:kill) end,
        fn -> throw(:ball) end,
        fn -> Process.exit(self(), :kill) end,
        fn -> {:ok, [fun("b") | :improper]} end,
        fn -> {:ok, %{}} end,
        fn -> [fun("b")] end,
        fn -> Directory.hang(self()) end
      ]

      for {failure, count} <- Enum.with_index(failures, 1) do
        answer(agent, :list, failure)
        log = capture_log(fn -> ConfigPuller.pull() && pulled(:error) end)
        assert log =~ "pull of service shop failed"
        assert ConfigPuller.status().failure_count == count
      end

      assert Map.keys(stored()) == ["a"]
      assert ConfigPuller.get_api_list("shop") == ["a"]
      list(agent, [fun("b")])
      ConfigPuller.pull()
      pulled(:ok)
      assert ConfigPuller.status().failure_count == 0
    end

    test "waits twice as long each time, and 300 seconds at most", %{agent: agent} do
      settings(pull_interval: 40_000)
      answer(agent, :list, fn -> :no end)

      capture_log(fn ->
        ConfigPuller.add([service(agent)])

        for {wait, n} <- Enum.with_index([80_000, 160_000, 300_000, 300_000]) do
          before = System.monotonic_time(:millisecond)
          if n > 0, do: ConfigPuller.pull()
          pulled(:error)
          [{"shop", due}] = Store.due()
          assert due in (before + wait)..(System.monotonic_time(:millisecond) + wait)
        end
      end)
    end

    test "of one node leads to the next", %{agent: agent} do
      list(agent, [fun("a")])
      ConfigPuller.add([service(agent, nodes: [:gone@nowhere, node()])])
      assert pulled(:ok) == 1
    end
  end

  test "services of the configuration are due a second after the start" do
    configured = %{service: "shop", nodes: [node()], module: Directory, function: :answer}
    settings(service_configs: [configured, [service: :shop, nodes: 5], configured])
    started = System.monotonic_time(:millisecond)
    log = capture_log(&ConfigPuller.StaticServices.load/0)
    assert [{"shop", due_at}] = Store.due()
    assert due_at in (started + 1_000)..(System.monotonic_time(:millisecond) + 1_000)
    assert log =~ "service config rejected: nodes must be"
    assert log =~ "service shop is configured twice, the last one counts"
  end

  describe "the process" do
    test "pulls again after the interval, with one timer however often it is told to", %{
      agent: agent
    } do
      settings(pull_interval: 150)
      test = self()
      # Lets the test decide when a pull ends.
      answer(agent, :list, fn ->
        send(test, {:asked, self()})

        receive do
          :go -> {:ok, []}
        end
      end)

      settings(pull_interval: 150, pull_timeout: 60_000)
      ConfigPuller.add([service(agent)])
      assert_receive {:asked, first}
      for _ <- 1..50, do: ConfigPuller.pull()
      send(first, :go)
      # Once for all fifty, then once for the interval.
      for _ <- 1..3 do
        assert_receive {:asked, next}
        refute_received {:asked, _}
        send(next, :go)
      end
    end

    test "answers and pulls others while one service hangs", %{agent: agent} do
      settings(pull_timeout: 60_000)
      ConfigPuller.add([service(nil, service: "slow", function: :hang, args: [self()])])
      assert_receive {:hanging, hanging}
      list(agent, [fun("a")])
      ConfigPuller.add([service(agent)])
      assert pulled(:ok) == 1
      assert %{services: ["shop", "slow"], failure_count: 0} = ConfigPuller.status()

      # A new config does not wait for the old one.
      ConfigPuller.add([%{service(agent) | service: "slow"}])
      assert pulled(:ok, "slow") == 1
      Process.exit(hanging, :kill)
      pulled(:superseded, "slow")
      assert ConfigPuller.status().failure_count == 0
    end

    test "pulls a hundred services at a time, and the next when one has ended", %{agent: agent} do
      settings(pull_timeout: 60_000, pull_interval: 600_000)
      hanging = [module: Directory, function: :hang, args: [self()]]

      :ok =
        ConfigPuller.add(for n <- 1..102, do: service(agent, [service: "slow#{n}"] ++ hanging))

      [first | pids] =
        for _ <- 1..100 do
          assert_receive {:hanging, pid}
          pid
        end

      # Told twice while it waits it is pulled once; the one taken off is not.
      [waiting, taken_off] = Map.keys(ConfigPuller.get_services()) -- pulling()
      :ok = ConfigPuller.add([service(agent, service: "quick")])

      :ok =
        ConfigPuller.add([
          service(agent, service: "quick"),
          service(agent, [service: waiting] ++ hanging)
        ])

      :ok = ConfigPuller.delete([taken_off])
      assert %{status: :ok} = ConfigPuller.status()
      refute_received {:hanging, _pid}
      refute_received {:started, "quick"}

      send(first, :never)
      assert_receive {:started, ^waiting}
      assert_receive {:hanging, next}
      send(next, :never)
      assert pulled(:ok, "quick") == 0
      refute_received {:started, ^taken_off}
      for pid <- pids, do: send(pid, :never)
    end

    # The services of which a pull was announced.
    defp pulling do
      receive do
        {:started, service} -> [service | pulling()]
      after
        0 -> []
      end
    end

    test "does not bring back what was deleted while it was pulled", %{agent: agent} do
      test = self()

      answer(agent, :list, fn ->
        send(test, {:asked, self()})

        receive do
          :go -> {:ok, [fun("a")]}
        end
      end)

      settings(pull_timeout: 60_000)
      ConfigPuller.add([service(agent)])
      assert_receive {:asked, pid}
      assert ConfigPuller.delete(["shop"]) == :ok
      send(pid, :go)
      assert pulled(:superseded) == 0
      assert stored() == nil
      assert ConfigPuller.get_services() == %{}
    end

    test "does not undo a push that came while it was pulled", %{agent: agent} do
      test = self()

      answer(agent, :list, fn ->
        send(test, {:asked, self()})

        receive do
          {:go, list} -> {:ok, list}
        end
      end)

      settings(pull_timeout: 60_000)
      ConfigPuller.add([service(agent)])
      assert_receive {:asked, pid}

      push = %PushConfig{
        service: "shop",
        nodes: [node()],
        config_version: "1",
        fun_configs: [fun("b")]
      }

      assert ConfigReceiver.push(push) == {:ok, :accepted}
      send(pid, {:go, [fun("a")]})
      pulled(:superseded)
      assert Map.keys(stored()) == ["b"]

      # The service is asked anew when an operator says so.
      ConfigPuller.add([service(agent)])
      assert_receive {:asked, pid}
      send(pid, {:go, [fun("a"), fun("c")]})
      pulled(:ok)
      assert Map.keys(stored()) == ["a", "c"]
    end

    test "loses nothing when it is killed, not even the pull under way", %{agent: agent} do
      list(agent, [fun("a")])
      ConfigPuller.add([versioned(agent)])
      pulled(:ok)
      ConfigPuller.add([service(nil, service: "slow", function: :hang, args: [self()])])
      assert_receive {:hanging, hanging}

      Await.restart(ConfigPuller)
      assert ConfigPuller.get_service_version("shop") == "1"
      assert ConfigPuller.status().services == ["shop", "slow"]
      assert Map.keys(stored()) == ["a"]
      ConfigPuller.pull()
      pulled(:skipped)

      capture_log(fn ->
        Process.exit(hanging, :kill)
        assert_receive {:hanging, hanging}
        Process.exit(hanging, :kill)
        pulled(:error, "slow")
      end)
    end

    test "counts a pull that was killed as failed, and ends its events", %{agent: agent} do
      settings(pull_timeout: 60_000)
      ConfigPuller.add([service(nil, service: "slow", function: :hang, args: [self()])])
      assert_receive {:hanging, hanging}
      # The process that waits for it.
      {:monitored_by, [pull]} = Process.info(hanging, :monitored_by)
      capture_log(fn -> Process.exit(pull, :kill) && pulled(:error, "slow") end)
      assert ConfigPuller.status().failure_count == 1
      list(agent, [fun("a")])
      ConfigPuller.add([service(agent)])
      pulled(:ok)
    end

    test "ignores messages that are not its own" do
      pid = Process.whereis(ConfigPuller)
      send(pid, :hello)
      send(pid, {:nodeup, :some@node, []})
      ConfigPuller.pull()
      assert :sys.get_state(pid)
      assert Process.whereis(ConfigPuller) == pid
    end
  end

  describe "delete" do
    test "removes what was pulled and pushed, not what was added", %{agent: agent} do
      list(agent, [fun("a")])
      ConfigPuller.add([service(agent)])
      pulled(:ok)
      :ok = ConfigDb.add(fun("c"))
      assert ConfigPuller.delete([:shop, service(agent), "never_heard_of"]) == :ok
      assert stored() == %{"c" => ["0.0.0"]}
      assert ConfigPuller.get_services() == %{}
      assert ConfigPuller.get_api_list("shop") == nil
      assert ConfigPuller.get_service_version("shop") == nil
      assert_raise ArgumentError, fn -> ConfigPuller.delete([1]) end
    end

    test "lets the same push in again" do
      push = %PushConfig{
        service: "shop",
        nodes: [node()],
        config_version: "1",
        fun_configs: [fun("b")]
      }

      assert ConfigReceiver.push(push) == {:ok, :accepted}
      ConfigPuller.delete(["shop"])
      assert stored() == nil
      assert ConfigReceiver.push(push) == {:ok, :accepted}
      assert Map.keys(stored()) == ["b"]
    end
  end
end
