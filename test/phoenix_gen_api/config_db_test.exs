defmodule PhoenixGenApi.ConfigDbTest do
  # Empties the table and takes the gateway away.
  use PhoenixGenApi.Test.OwnVM

  import PhoenixGenApi.Test.Answers
  import ExUnit.CaptureLog

  alias PhoenixGenApi.{
    Await,
    ConfigDb,
    ConfigFailed,
    Executor,
    Gateway,
    NodeSelector,
    Telemetry,
    WorkerPool
  }

  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.Test.Functions

  @moduletag :capture_log

  setup do
    ConfigDb.clear()
    ConfigFailed.clear()
    on_exit(&ConfigDb.clear/0)
  end

  defp config(fields \\ []) do
    struct!(
      %FunConfig{service: "s", request_type: "t", nodes: :local, mfa: {String, :upcase, ["x"]}},
      fields
    )
  end

  defp add(versions) do
    for version <- versions, do: assert(:ok = ConfigDb.add(config(version: version)))
  end

  defp replace(config, origin), do: ConfigDb.replace_service("s", [config], origin)

  defp version({:ok, %FunConfig{version: version}}), do: version
  defp version(error), do: error

  describe "add" do
    test "stores the normalised config under its key" do
      assert ConfigDb.add(config(service: :s, version: nil, retry: 2)) == :ok
      assert {:ok, %FunConfig{service: "s", version: "0.0.0"} = stored} = ConfigDb.get("s", "t")
      assert stored.retry == {:all_nodes, 2}
      assert ConfigDb.get(:s, "t", "0.0.0") == {:ok, stored}
      assert ConfigDb.get("s", "t", nil) == {:ok, stored}
    end

    test "replaces an existing entry and leaves the other versions" do
      add(["1.0.0", "2.0.0"])
      assert ConfigDb.add(config(version: "1.0.0", timeout: 100)) == :ok
      assert {:ok, %{timeout: 100}} = ConfigDb.get("s", "t", "1.0.0")
      assert {:ok, %{timeout: 5_000}} = ConfigDb.get("s", "t", "2.0.0")
      assert ConfigDb.count() == 2
    end

    test "logs and records every reason of an invalid config and stores nothing" do
      log =
        capture_log(fn ->
          assert ConfigDb.add(config(timeout: 1, disabled: 1)) == {:error, :invalid_config}
        end)

      assert log =~ "timeout must be a positive integer"
      assert log =~ "disabled must be a boolean"
      assert [%{source: :direct, reason: [_, _], request_type: "t"}] = ConfigFailed.list([])
      assert ConfigDb.count() == 0
    end

    test "leaves the entry that an invalid config would have replaced" do
      add(["1.0.0"])
      assert {:error, :invalid_config} = ConfigDb.add(config(version: "1.0.0", timeout: 1))
      assert {:ok, %{timeout: 5_000}} = ConfigDb.get("s", "t", "1.0.0")
    end

    test "refuses what is no function config" do
      for junk <- [nil, 5, "config", %{}, [], self(), %Request{}] do
        assert ConfigDb.add(junk) == {:error, :invalid_config}
      end
    end

    test "checks every mfa field against the gate" do
      denied = {:os, :cmd, [~c"id"]}

      for field <-
            [:mfa, :nodes, :choose_node_mode, :permission_callback] ++
              [:before_execute, :after_execute] do
        assert ConfigDb.add(config([{field, denied}])) == {:error, {:mfa_not_allowed, denied}}
        assert ConfigDb.update(config([{field, denied}])) == {:error, {:mfa_not_allowed, denied}}
        assert ConfigDb.batch_add([config([{field, denied}])]) == {:error, :all_invalid}
      end

      assert ConfigDb.add(config(before_execute: {System, :halt})) ==
               {:error, {:mfa_not_allowed, {System, :halt}}}

      assert ConfigDb.count() == 0
      assert ConfigFailed.count() > 0
    end

    test "honours the allowlist as it is now" do
      Application.put_env(:phoenix_gen_api, :mfa_allowlist, [{String, :downcase}])
      on_exit(fn -> Application.delete_env(:phoenix_gen_api, :mfa_allowlist) end)

      assert {:error, {:mfa_not_allowed, {String, :upcase, ["x"]}}} = ConfigDb.add(config())
      assert :ok = ConfigDb.add(config(mfa: {String, :downcase, []}))
    end

    test "update does the same" do
      assert ConfigDb.update(config(service: :s)) == :ok
      assert {:ok, %{service: "s"}} = ConfigDb.get("s", "t")
      assert ConfigDb.update(config(timeout: 1)) == {:error, :invalid_config}
    end
  end

  describe "batch_add" do
    test "stores the valid ones, records the others and counts" do
      configs = [
        config(request_type: "a"),
        config(request_type: "b", timeout: 1),
        config(request_type: "c"),
        :junk
      ]

      assert ConfigDb.batch_add(configs) == {:ok, 2}
      assert ConfigDb.get_all_functions() == %{"s" => %{"a" => ["0.0.0"], "c" => ["0.0.0"]}}
      assert Enum.any?(ConfigFailed.list([]), &(&1.request_type == "b"))
    end

    test "of nothing valid is an error" do
      assert ConfigDb.batch_add([]) == {:error, :all_invalid}
      assert ConfigDb.batch_add([config(timeout: 1)]) == {:error, :all_invalid}
      assert ConfigDb.batch_add([1, nil]) == {:error, :all_invalid}
    end

    test "keeps the last of two entries with one key" do
      assert {:ok, _} = ConfigDb.batch_add([config(timeout: 100), config(timeout: 200)])
      assert {:ok, %{timeout: 200}} = ConfigDb.get("s", "t")
    end

    test "becomes visible at once to concurrent readers" do
      # Both functions always carry the same timeout, which only grows: what is read between
      # two reads of the other function lies between them.
      batch = fn n ->
        for type <- ["first", "last"], do: config(request_type: type, timeout: 100 + n)
      end

      assert {:ok, 2} = ConfigDb.batch_add(batch.(0))
      parent = self()

      readers =
        for _ <- 1..4 do
          Task.async(fn ->
            send(parent, :reading)

            Stream.repeatedly(fn ->
              [before, between, later] =
                for type <- ["first", "last", "first"] do
                  {:ok, %{timeout: timeout}} = ConfigDb.get_fast("s", type)
                  timeout
                end

              true = before <= between and between <= later
              before
            end)
            |> Enum.find(&(&1 == 400))
          end)
        end

      for _ <- readers, do: assert_receive(:reading)
      for n <- 1..300, do: assert({:ok, 2} = ConfigDb.batch_add(batch.(n)))
      assert Task.await_many(readers, 30_000) == [400, 400, 400, 400]
    end

    test "is listed whole or not at all" do
      batch = for n <- 1..200, do: config(request_type: "t#{n}")
      parent = self()

      reader =
        Task.async(fn ->
          send(parent, :reading)

          Stream.repeatedly(fn -> ConfigDb.get_functions_from_services("s") end)
          |> Enum.find(fn
            all when all == %{} -> false
            %{"s" => types} -> map_size(types) == 200 or throw({:part, map_size(types)})
          end)
        end)

      assert_receive :reading
      assert ConfigDb.batch_add(batch) == {:ok, 200}
      assert %{"s" => _} = Task.await(reader, 60_000)
    end
  end

  describe "delete, disable and enable" do
    test "delete is :ok also for what is not there" do
      add(["1.0.0"])
      assert ConfigDb.delete("s", "t", "2.0.0") == :ok
      assert ConfigDb.count() == 1
      assert ConfigDb.delete(:s, "t", "1.0.0") == :ok
      assert ConfigDb.count() == 0
      assert ConfigDb.get("s", "t", "1.0.0") == {:error, :not_found}
    end

    test "the version left out is the unversioned one" do
      add(["0.0.0", "1.0.0"])
      assert ConfigDb.disable("s", "t") == :ok
      assert ConfigDb.get("s", "t") == {:error, :disabled}
      assert ConfigDb.enable("s", "t") == :ok
      assert version(ConfigDb.get("s", "t")) == "0.0.0"
      assert ConfigDb.delete("s", "t") == :ok
      assert ConfigDb.get_all_functions() == %{"s" => %{"t" => ["1.0.0"]}}
    end

    test "of an unknown key says so" do
      for switch <- [&ConfigDb.disable/3, &ConfigDb.enable/3] do
        assert switch.("s", "t", "1.0.0") == {:error, :not_found}
      end
    end

    test "what is probably not meant is a warning, once" do
      nodes = [:a@h, :b@h, :a@h, :shop, true]

      doubtful =
        config(nodes: nodes, choose_node_mode: {:weighted, %{:a@h => 2, :c@h => 1, "d@h" => 1}})

      for store <- [&ConfigDb.add/1, &ConfigDb.batch_add([&1]), &replace(&1, :pull)] do
        ConfigDb.clear()
        log = capture_log(fn -> store.(doubtful) end)
        assert log =~ "s t 0.0.0: nodes are listed more than once: a@h"
        assert log =~ "s t 0.0.0: nodes without a host, which no node has as its name: shop; true"
        assert log =~ "s t 0.0.0: weights of nodes that are not listed: c@h; d@h"
        assert capture_log(fn -> store.(doubtful) end) == ""
        assert capture_log(fn -> store.(%{doubtful | timeout: 200}) end) =~ "more than once"
      end

      ConfigDb.clear()
      fine = config(nodes: [:a@h, "b@h"], choose_node_mode: {:weighted, [a@h: 1]})
      assert capture_log(fn -> ConfigDb.add(fine) end) == ""
    end

    test "versions that are not semantic beside ones that are are a warning, when they come" do
      add = fn versions -> capture_log(fn -> add(versions) end) end
      assert add.(["v1", "2024"]) == ""
      assert add.(["1.0.0"]) =~ "s t 1.0.0: version v1 is not a semantic version"
      assert add.(["1.0.0", "2.0.0"]) == ""

      assert add.(["v2"]) =~
               "s t v2: version v2 is not a semantic version, so it sorts below 2.0.0"

      ConfigDb.clear()
      both = [config(version: "1.0.0"), config(version: "one")]
      pull = fn -> capture_log(fn -> ConfigDb.replace_service("s", both, :pull) end) end
      assert pull.() =~ "version one is not a semantic version, so it sorts below 1.0.0"
      assert pull.() == ""
    end

    test "add! stores a config, or raises with all reasons" do
      assert ConfigDb.add!(config(version: "1.0.0")) == :ok
      assert {:ok, _} = ConfigDb.get("s", "t", "1.0.0")

      message =
        "s t is rejected: timeout must be a positive integer between 100 and 300000, or :infinity; " <>
          "hook_timeout must be a positive integer"

      assert_raise ArgumentError, message, fn ->
        ConfigDb.add!(config(timeout: 1, hook_timeout: 0))
      end

      assert_raise ArgumentError, ~r/mfa not allowed: {:os, :cmd, \[\]}/, fn ->
        ConfigDb.add!(config(mfa: {:os, :cmd, []}))
      end

      assert_raise ArgumentError, ~r/must be a %FunConfig{} struct/, fn ->
        ConfigDb.add!(:none)
      end

      assert ConfigDb.get("s", "t") == {:error, :not_found}
      assert [_, _, _] = PhoenixGenApi.ConfigFailed.list(source: :direct, limit: 3)
    end

    test "a disabled mark survives storing the version again" do
      {:ok, _, []} = ConfigDb.replace_service("s", [config(version: "1.0.0")], :pull)
      assert :ok = ConfigDb.disable("s", "t", "1.0.0")
      {:ok, _, []} = ConfigDb.replace_service("s", [config(version: "1.0.0")], :pull)
      {:ok, _, []} = ConfigDb.replace_service("s", [config(version: "1.0.0")], :push)
      add(["1.0.0"])
      assert {:ok, 1} = ConfigDb.batch_add([config(version: "1.0.0")])
      assert ConfigDb.get("s", "t", "1.0.0") == {:error, :disabled}
      assert ConfigDb.enable("s", "t", "1.0.0") == :ok
      assert version(ConfigDb.get("s", "t", "1.0.0")) == "1.0.0"
    end

    test "a disabled mark ends with delete and with clear" do
      for remove <- [fn -> ConfigDb.delete("s", "t", "1.0.0") end, &ConfigDb.clear/0] do
        add(["1.0.0"])
        assert :ok = ConfigDb.disable("s", "t", "1.0.0")
        assert remove.() == :ok
        add(["1.0.0"])
        assert version(ConfigDb.get("s", "t", "1.0.0")) == "1.0.0"
      end
    end

    test "enable holds for a config that disables itself until it is stored again" do
      disabled = config(version: "1.0.0", disabled: true)
      assert :ok = ConfigDb.add(disabled)
      assert ConfigDb.get("s", "t", "1.0.0") == {:error, :disabled}
      assert ConfigDb.enable("s", "t", "1.0.0") == :ok
      assert version(ConfigDb.get("s", "t", "1.0.0")) == "1.0.0"
      assert :ok = ConfigDb.add(disabled)
      assert ConfigDb.get("s", "t", "1.0.0") == {:error, :disabled}
    end

    test "a mark that a config disables itself under outlives a config that does not" do
      assert :ok = ConfigDb.add(config(disabled: true))
      assert :ok = ConfigDb.add(config(disabled: false))
      assert {:ok, _} = ConfigDb.get("s", "t")
    end
  end

  describe "version resolution" do
    test "without a version the unversioned config wins while it is enabled" do
      add(["0.0.0", "1.0.0", "2.0.0"])
      assert version(ConfigDb.resolve("s", "t", nil)) == "0.0.0"
      assert version(ConfigDb.get_fast("s", "t")) == "0.0.0"
      ConfigDb.disable("s", "t")
      assert version(ConfigDb.resolve("s", "t", nil)) == "2.0.0"
      ConfigDb.disable("s", "t", "2.0.0")
      assert version(ConfigDb.get_fast("s", "t")) == "1.0.0"
      ConfigDb.disable("s", "t", "1.0.0")
      assert ConfigDb.resolve("s", "t", nil) == {:error, :disabled}
      assert ConfigDb.get_fast("s", "t") == {:error, :disabled}
      ConfigDb.clear()
      assert ConfigDb.resolve("s", "t", nil) == {:error, :not_found}
    end

    test "an explicit 0.0.0 is the unversioned config if registered, else as none sent" do
      add(["0.0.0", "1.0.0"])
      ConfigDb.disable("s", "t")
      assert ConfigDb.resolve("s", "t", "0.0.0") == {:error, :disabled}
      ConfigDb.delete("s", "t")
      assert version(ConfigDb.resolve("s", "t", "0.0.0")) == "1.0.0"
      ConfigDb.disable("s", "t", "1.0.0")
      assert ConfigDb.resolve("s", "t", "0.0.0") == {:error, :disabled}
      ConfigDb.delete("s", "t", "1.0.0")
      assert ConfigDb.resolve("s", "t", "0.0.0") == {:error, :not_found}
    end

    test "any other version is exact" do
      add(["0.0.0", "1.0.0"])
      assert version(ConfigDb.resolve("s", "t", "1.0.0")) == "1.0.0"
      assert ConfigDb.resolve("s", "t", "1.0") == {:error, :not_found}
      assert ConfigDb.resolve("s", "t", "") == {:error, :not_found}
      ConfigDb.disable("s", "t", "1.0.0")
      assert ConfigDb.resolve("s", "t", "1.0.0") == {:error, :disabled}
    end

    test "get_latest is the highest enabled version, the unversioned one being 0.0.0" do
      assert ConfigDb.get_latest("s", "t") == {:error, :not_found}
      add(["0.0.0", "0.0.0-rc.1", "0.0.1", "0.9.0"])
      assert version(ConfigDb.get_latest("s", "t")) == "0.9.0"
      ConfigDb.disable("s", "t", "0.9.0")
      assert version(ConfigDb.get_latest(:s, "t")) == "0.0.1"
      ConfigDb.disable("s", "t", "0.0.1")
      assert version(ConfigDb.get_latest("s", "t")) == "0.0.0"
      ConfigDb.disable("s", "t")
      assert version(ConfigDb.get_latest("s", "t")) == "0.0.0-rc.1"
      ConfigDb.disable("s", "t", "0.0.0-rc.1")
      assert ConfigDb.get_latest("s", "t") == {:error, :not_found}
    end

    test "get and get_latest never raise" do
      add(["1.0.0"])

      for junk <- [nil, :t, 5, "", <<255>>, <<1::3>>, {}, [], %{}, self()] do
        assert ConfigDb.get_latest("s", junk) == {:error, :not_found}
        assert ConfigDb.get_latest(junk, "t") == {:error, :not_found}
        assert ConfigDb.get_fast(junk, "t") == {:error, :not_found}
        assert ConfigDb.get_fast("s", junk) == {:error, :not_found}
        assert ConfigDb.get(junk, "t", "1.0.0") == {:error, :not_found}
        assert ConfigDb.get("s", junk, "1.0.0") == {:error, :not_found}
        assert ConfigDb.resolve("s", junk, "1.0.0") == {:error, :not_found}
        if junk != nil, do: assert(ConfigDb.get("s", "t", junk) == {:error, :not_found})
        if junk != nil, do: assert(ConfigDb.resolve("s", "t", junk) == {:error, :not_found})
      end
    end

    test "versions are listed ascending: others naturally, then semantic ones" do
      ascending =
        ~w(a v2 v10 v10b 0.0.0 1.0.0-alpha 1.0.0-alpha.2 1.0.0-alpha.10 1.0.0-beta) ++
          ~w(1.0.0 1.0.0+2 1.0.0+10 1.2.0 1.10.0 10.0.0)

      add(Enum.shuffle(ascending))
      assert ConfigDb.get_all_functions() == %{"s" => %{"t" => ascending}}
      assert version(ConfigDb.get_latest("s", "t")) == "10.0.0"
    end

    test "the order of semantic versions is that of Version.compare" do
      :rand.seed(:exsss, 7)
      part = fn -> Enum.random(["0", "1", "2", "9", "10", "123456789012"]) end

      pre = fn ->
        Enum.random(["", "", "-a", "-a.1", "-a.10", "-a.b", "-1", "-2", "-10", "-1.a"])
      end

      versions =
        Enum.uniq(for _ <- 1..300, do: "#{part.()}.#{part.()}.#{part.()}#{pre.()}")

      add(versions)
      %{"s" => %{"t" => listed}} = ConfigDb.get_all_functions()
      assert Enum.sort(listed) == Enum.sort(versions)

      for [a, b] <- Enum.chunk_every(listed, 2, 1, :discard) do
        assert Version.compare(a, b) == :lt, "#{a} is listed before #{b}"
      end
    end
  end

  describe "listing" do
    test "includes disabled entries, by service and for several" do
      for {service, type} <- [{"s1", "a"}, {"s1", "b"}, {"s2", "a"}, {"s3", "a"}],
          do: ConfigDb.add(config(service: service, request_type: type))

      ConfigDb.disable("s1", "a")
      one = %{"a" => ["0.0.0"], "b" => ["0.0.0"]}
      two = %{"a" => ["0.0.0"]}
      assert ConfigDb.get_all_functions() == %{"s1" => one, "s2" => two, "s3" => two}
      assert ConfigDb.get_functions_from_services("s1") == %{"s1" => one}
      assert ConfigDb.get_functions_from_services(:s2) == %{"s2" => two}
      assert ConfigDb.get_functions_from_services([:s1, "s3"]) == %{"s1" => one, "s3" => two}
      assert ConfigDb.get_functions_from_services(["none"]) == %{}
      assert ConfigDb.get_functions_from_services([]) == %{}
      assert Enum.sort(ConfigDb.get_all_services()) == ["s1", "s2", "s3"]
      assert ConfigDb.count() == 4
    end

    test "forgets a service with its last function" do
      add(["1.0.0"])
      ConfigDb.delete("s", "t", "1.0.0")
      assert ConfigDb.get_all_functions() == %{}
      assert ConfigDb.get_all_services() == []
    end

    test "status counts entries, services and bytes" do
      assert %{status: :ok, count: 0, services: [], memory_bytes: empty} = ConfigDb.status()
      for n <- 1..100, do: ConfigDb.add(config(request_type: "t#{n}"))
      assert %{status: :ok, count: 100, services: ["s"], memory_bytes: full} = ConfigDb.status()
      assert full > empty + 100 * 100
      ConfigDb.clear()
      assert %{count: 0, memory_bytes: again} = ConfigDb.status()
      assert again < full
    end

    test "an offer replaces what was pulled or pushed, and is replaced by what comes later" do
      opts = [set_of: fn _config -> nil end]
      :ok = ConfigDb.add(config(request_type: "direct"))

      for {origin, removed} <- [push: 0, offer: 1, offer: 1, pull: 1, offer: 1, push: 1] do
        type = "t#{System.unique_integer([:positive])}"
        configs = [config(request_type: type)]
        opts = if origin == :offer, do: opts, else: []

        assert {:ok, %{stored: 1, removed: ^removed}, []} =
                 ConfigDb.replace_service("s", configs, origin, opts)

        assert ConfigDb.origin("s", type, "0.0.0") == origin
        assert %{"s" => types} = ConfigDb.get_all_functions()
        assert Map.keys(types) == ["direct", type]
      end
    end

    test "which versions are ineligible changes at once, and with the functions" do
      configs = for version <- ["1.0.0", "2.0.0"], do: config(version: version)
      opts = [ineligible: [{"t", "2.0.0"}]]
      assert {:ok, %{stored: 2}, []} = ConfigDb.replace_service("s", configs, :offer, opts)
      assert {:ok, %{version: "1.0.0"}} = ConfigDb.get_fast("s", "t")
      assert {:ok, %{version: "2.0.0"}} = ConfigDb.get("s", "t", "2.0.0")
      assert {:ok, %{version: "2.0.0"}} = ConfigDb.resolve("s", "t", "2.0.0")
      assert ConfigDb.set_ineligible("s", [{"t", "1.0.0"}])
      refute ConfigDb.set_ineligible("s", [{"t", "1.0.0"}])
      assert {:ok, %{version: "2.0.0"}} = ConfigDb.get_fast("s", "t")
      assert ConfigDb.set_ineligible("s", [{"t", "1.0.0"}, {"t", "2.0.0"}])
      assert {:ok, %{version: "2.0.0"}} = ConfigDb.get_fast("s", "t")
      :ok = ConfigDb.disable("s", "t", "2.0.0")
      assert {:ok, %{version: "1.0.0"}} = ConfigDb.get_fast("s", "t")
      :ok = ConfigDb.enable("s", "t", "2.0.0")
      assert ConfigDb.set_ineligible("s", [{"t", "2.0.0"}])
      # An operator's word comes first.
      :ok = ConfigDb.disable("s", "t", "1.0.0")
      assert {:ok, %{version: "2.0.0"}} = ConfigDb.get_fast("s", "t")
      :ok = ConfigDb.enable("s", "t", "1.0.0")
      assert {:ok, _, []} = ConfigDb.replace_service("s", configs, :offer)
      assert {:ok, %{version: "2.0.0"}} = ConfigDb.get_fast("s", "t")
    end

    test "remembers where an entry came from, and only pull and push prune theirs" do
      assert :ok = ConfigDb.add(config(request_type: "direct"))

      {:ok, %{stored: 1}, []} =
        ConfigDb.replace_service("s", [config(request_type: "pull")], :pull)

      assert ConfigDb.origin("s", "direct", "0.0.0") == :direct
      assert ConfigDb.origin("s", "pull", "0.0.0") == :pull

      {:ok, %{stored: 1, removed: 1}, []} =
        ConfigDb.replace_service("s", [config(request_type: "push")], :push)

      assert ConfigDb.origin("s", "push", "0.0.0") == :push
      assert ConfigDb.origin("s", "pull", "0.0.0") == nil

      assert ConfigDb.get_all_functions() ==
               %{"s" => %{"direct" => ["0.0.0"], "push" => ["0.0.0"]}}
    end
  end

  describe "the table" do
    test "is right under 16 writers and readers on one handle" do
      tasks =
        for w <- 1..16 do
          Task.async(fn ->
            for n <- 1..50 do
              type = "t#{w}-#{n}"
              :ok = ConfigDb.add(config(request_type: type, timeout: 100 + n))
              {:ok, %{timeout: timeout}} = ConfigDb.get_fast("s", type)
              ^timeout = 100 + n
              :ok = ConfigDb.disable("s", type)
              {:error, :disabled} = ConfigDb.get_fast("s", type)
              :ok = ConfigDb.enable("s", type)
              if rem(n, 2) == 0, do: :ok = ConfigDb.delete("s", type)
            end
          end)
        end

      Task.await_many(tasks, 30_000)
      assert ConfigDb.count() == 16 * 25
      %{"s" => types} = ConfigDb.get_all_functions()
      assert map_size(types) == 16 * 25
    end

    test "survives the death of every process under the supervisor" do
      add(["1.0.0"])
      ConfigDb.disable("s", "t", "1.0.0")
      add(["2.0.0"])
      {:error, :invalid_config} = ConfigDb.add(config(timeout: 1))
      supervisor = Process.whereis(PhoenixGenApi.Supervisor)

      for pid <- descendants(supervisor) do
        monitor = Process.monitor(pid)
        Process.exit(pid, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^pid, _}
        assert version(ConfigDb.get_fast("s", "t")) == "2.0.0"
      end

      assert Await.until(fn ->
               Enum.all?(
                 Supervisor.which_children(supervisor),
                 fn {_, pid, _, _} -> is_pid(pid) and Process.alive?(pid) end
               ) and Process.whereis(:async_pool) != nil
             end)

      assert Process.whereis(PhoenixGenApi.Supervisor) == supervisor
      assert ConfigDb.get("s", "t", "1.0.0") == {:error, :disabled}
      assert ConfigDb.count() == 2
      assert ConfigFailed.count() == 1
    end

    test "keeps answering while its readers' configs outlive it" do
      add(["1.0.0"])
      {:ok, plan} = ConfigDb.fetch("s", "t", nil)
      ConfigDb.clear()
      :erlang.garbage_collect()
      assert PhoenixGenApi.Plan.config(plan).version == "1.0.0"
    end
  end

  test "versions are compared as resolution orders them" do
    ascending = ["a2", "a10", "v1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "1.0.0+b1", "1.10.0"]

    for {a, i} <- Enum.with_index(ascending), {b, j} <- Enum.with_index(ascending) do
      assert ConfigDb.compare_versions(a, b) ==
               if(i < j, do: :lt, else: if(i > j, do: :gt, else: :eq))
    end
  end

  defp descendants(supervisor) do
    for {_, pid, type, _} <- Supervisor.which_children(supervisor),
        is_pid(pid),
        found <- if(type == :supervisor, do: descendants(pid), else: []) ++ [pid],
        do: found
  end

  describe "where no gateway runs" do
    setup do
      handles =
        for name <- [:config_db, :node_selector], into: %{}, do: {name, Gateway.handle!(name)}

      all = :persistent_term.get(Gateway)
      assert Map.take(all, Map.keys(handles)) == handles
      on_exit(fn -> Gateway.publish(all) end)
      Gateway.retract()
    end

    test "functions that return errors say :not_running" do
      for result <- [
            ConfigDb.add(config()),
            ConfigDb.update(config()),
            ConfigDb.batch_add([config()]),
            ConfigDb.batch_add([]),
            ConfigDb.disable("s", "t"),
            ConfigDb.enable("s", "t"),
            ConfigDb.get("s", "t"),
            ConfigDb.get_latest("s", "t"),
            ConfigDb.get_fast("s", "t"),
            ConfigDb.resolve("s", "t", nil)
          ],
          do: assert(result == {:error, :not_running})
    end

    test "the others raise the contract's sentence" do
      for fun <- [
            fn -> ConfigDb.delete("s", "t") end,
            &ConfigDb.get_all_functions/0,
            fn -> ConfigDb.get_functions_from_services("s") end,
            &ConfigDb.get_all_services/0,
            &ConfigDb.count/0,
            &ConfigDb.clear/0,
            &ConfigDb.status/0
          ] do
        assert_raise RuntimeError, "PhoenixGenApi gateway is not running on this node", fun
      end
    end

    test "so do the other modules, whatever else they would raise" do
      request = %Request{request_id: "r", service: "s", request_type: "t"}
      config = config(nodes: [:nobody@h])
      :ok = Supervisor.terminate_child(WorkerPool.WorkerPoolSupervisor, :async_pool)

      on_exit(fn ->
        {:ok, _pool} = Supervisor.restart_child(WorkerPool.WorkerPoolSupervisor, :async_pool)
      end)

      for fun <- [
            fn -> NodeSelector.get_node!(config, request) end,
            fn -> WorkerPool.status(:async_pool) end
          ] do
        assert_raise RuntimeError, "PhoenixGenApi gateway is not running on this node", fun
      end

      # A pool of one's own has nothing to do with the gateway.
      assert {:noproc, _} = catch_exit(WorkerPool.status(:no_such_pool))
    end

    test "the executor answers that the service is unavailable, whatever runs the function" do
      request = %Request{request_id: "r", service: "s", request_type: "t"}

      expected = error("Service temporarily unavailable", true, id: "r")
      assert Executor.execute!(request) == expected
      assert Executor.execute_with_timeout!(request, 1_000) == expected
      params = %{"request_id" => "r", "service" => "s", "request_type" => "t"}
      assert Executor.execute_params(params) == expected

      for nodes <- [:local, [:nobody@h], {Functions, :run, [fn -> [] end]}],
          type <- [:sync, :async, :none] do
        config = config(nodes: nodes, response_type: type, mfa: {String, :upcase, ["x"]})
        assert Executor.execute_with_config!(request, config) == expected
        assert Executor.sync_call(request, config) == expected
      end
    end

    test "validation of configs still works" do
      assert FunConfig.valid?(config())
      assert {:error, [_]} = FunConfig.validate_with_details(config(timeout: 1))
    end
  end

  test "events announce what changed and nothing else" do
    id = "config_db_test"
    parent = self()

    Telemetry.attach_config(id, fn event, measurements, metadata, _ ->
      send(parent, {List.last(event), measurements, metadata})
    end)

    on_exit(fn -> Telemetry.detach_all(id) end)
    key = %{service: "s", request_type: "t", version: "1.0.0"}

    add(["1.0.0"])
    assert_receive {:add, _, ^key}
    ConfigDb.disable("s", "t", "1.0.0")
    assert_receive {:disable, _, ^key}
    ConfigDb.disable("s", "t", "1.0.0")
    ConfigDb.enable("s", "t", "1.0.0")
    assert_receive {:enable, _, ^key}
    ConfigDb.enable("s", "t", "1.0.0")
    ConfigDb.delete("s", "t", "1.0.0")
    assert_receive {:delete, _, ^key}
    ConfigDb.delete("s", "t", "1.0.0")
    ConfigDb.add(config(timeout: 1))
    ConfigDb.clear()
    ConfigDb.batch_add([config(request_type: "a"), config(timeout: 1), config()])
    assert_receive {:batch_add, %{count: 2}, %{service: "s"}}
    ConfigDb.clear()
    assert_receive {:clear, _, %{service: :all, request_type: :all, version: :all}}
    ConfigDb.clear()
    refute_received _
  end
end
