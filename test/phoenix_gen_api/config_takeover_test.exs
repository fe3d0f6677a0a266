defmodule PhoenixGenApi.ConfigTakeoverTest do
  # What a push or a pull may not take over. One table per node; settings of the application change.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias PhoenixGenApi.{Await, ConfigDb, ConfigFailed, ConfigPuller, ConfigReceiver}
  alias PhoenixGenApi.ConfigSync.PushStore
  alias PhoenixGenApi.ConfigSync.ServiceLock.Recovery
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, ServiceConfig}
  alias PhoenixGenApi.Test.Directory

  @moduletag :capture_log

  @local "nodes: :local is not allowed from another node"
  @added "added on this gateway; delete it there first"

  setup do
    ConfigFailed.clear()

    on_exit(fn ->
      Application.delete_env(:phoenix_gen_api, :mfa_allowlist)
      ConfigReceiver.delete_pushed_service("shop")
      ConfigPuller.delete(["shop"])
      for type <- ["say", "other"], do: ConfigDb.delete("shop", type)
    end)
  end

  defp fun(type, fields \\ []) do
    struct!(
      %FunConfig{
        service: "shop",
        request_type: type,
        nodes: [:shop@h],
        mfa: {String, :upcase, ["x"]}
      },
      fields
    )
  end

  defp push(functions, opts, version \\ "1") do
    push = %PushConfig{
      service: "shop",
      nodes: [:shop@h],
      config_version: version,
      fun_configs: functions
    }

    ConfigReceiver.push(push, opts)
  end

  # From this node, as only that one is there to be asked.
  defp pull(functions) do
    agent = start_supervised!({Agent, fn -> %{list: fn -> {:ok, functions} end} end})

    :ok =
      ConfigPuller.add([
        %ServiceConfig{
          service: "shop",
          nodes: [node()],
          module: Directory,
          function: :answer,
          args: [agent, :list]
        }
      ])

    Await.until(fn -> ConfigPuller.get_api_list("shop") end)
  end

  defp stored, do: ConfigDb.get_functions_from_services("shop")["shop"]

  describe "nodes: :local" do
    test "in a push from another node is refused with all of the push" do
      functions = [fun("other"), fun("say", nodes: :local)]

      assert push(functions, node: :shop@h) ==
               {:error, {:validation_failed, ["say 0.0.0: " <> @local]}}

      assert stored() == nil
      assert [%{request_type: "say", reason: [@local], source: :push}] = ConfigFailed.list()
    end

    test "is refused together with everything else that is wrong" do
      functions = [fun("say", nodes: :local, version: "1.0.0"), fun("other", timeout: 1)]

      assert {:error, {:validation_failed, ["config_version" <> _ | reasons]}} =
               push(functions, [node: :shop@h], "")

      assert ["other 0.0.0: timeout" <> _, "say 1.0.0: " <> @local] = Enum.sort(reasons)
    end

    test "in a push of code on this node is stored" do
      assert push([fun("say", nodes: :local)], []) == {:ok, :accepted}
      assert push([fun("say", nodes: :local)], [node: node()], "2") == {:ok, :accepted}
    end

    test "is let in from another node for what the allowlist names, and not for the others" do
      for list <- [[String], [{String, :upcase}]] do
        Application.put_env(:phoenix_gen_api, :mfa_allowlist, list)
        functions = [fun("say", nodes: :local)]
        assert push(functions, [node: :shop@h], inspect(list)) == {:ok, :accepted}
      end

      Application.put_env(:phoenix_gen_api, :mfa_allowlist, [{String, :downcase}])

      assert {:error, {:validation_failed, ["say 0.0.0: mfa not allowed" <> _]}} =
               push([fun("say", nodes: :local)], [node: :shop@h], "3")
    end

    test "is let in from another node for the relay" do
      relay = fun("say", nodes: :local, mfa: {PhoenixGenApi.Relay, :handle_relay, []})
      assert push([relay], node: :shop@h) == {:ok, :accepted}
    end

    test "does not come in through a pull that a push from another node has asked for" do
      push = %PushConfig{
        service: "shop",
        nodes: [node()],
        config_version: "1",
        fun_configs: [fun("other")],
        module: List,
        function: :to_tuple,
        args: [[:ok, [fun("say", nodes: :local), fun("other")]]]
      }

      assert ConfigReceiver.push(push, node: :shop@h) == {:ok, :accepted}
      assert Await.until(fn -> ConfigPuller.get_api_list("shop") end) == ["other"]
      assert stored() == %{"other" => ["0.0.0"]}
      assert [%{request_type: "say", reason: [@local], source: :pull}] = ConfigFailed.list()
    end

    test "of a function that empties the table is refused wherever it comes from" do
      clear = fun("say", nodes: :local, mfa: {ConfigDb, :clear, []})
      sentence = "say 0.0.0: mfa not allowed: {PhoenixGenApi.ConfigDb, :clear, []}"

      for opts <- [[], [node: :shop@h]],
          do: assert({:error, {_, [^sentence]}} = push([clear], opts))

      assert ConfigDb.add(clear) == {:error, {:mfa_not_allowed, {ConfigDb, :clear, []}}}
    end
  end

  describe "a function that code on the gateway has added" do
    test "is not replaced by a push, from wherever, until it is deleted" do
      :ok = ConfigDb.add(fun("say", timeout: 1_000))

      for opts <- [[], [node: :shop@h], [force: true]] do
        assert push([fun("say"), fun("other")], opts) ==
                 {:error, {:validation_failed, ["say 0.0.0: " <> @added]}}
      end

      assert {:ok, %{timeout: 1_000}} = ConfigDb.get("shop", "say")
      assert stored() == %{"say" => ["0.0.0"]}
      assert [%{request_type: "say", reason: [@added], source: :push} | _] = ConfigFailed.list()

      :ok = ConfigDb.delete("shop", "say")
      assert push([fun("say"), fun("other")], node: :shop@h) == {:ok, :accepted}
      assert {:ok, %{timeout: 5_000}} = ConfigDb.get("shop", "say")
    end

    test "keeps its key also against other spellings of it, and leaves other versions free" do
      :ok = ConfigDb.add(fun("say", service: :shop, version: "0.0.0"))

      assert {:error, {:validation_failed, ["say 0.0.0: " <> @added]}} =
               push([fun("say", service: :shop, version: nil)], node: :shop@h)

      assert push([fun("say", version: "1.0.0")], node: :shop@h) == {:ok, :accepted}
      assert stored() == %{"say" => ["0.0.0", "1.0.0"]}
    end

    test "may be one that was pushed, and then stays when the service pushes again" do
      assert push([fun("say"), fun("other")], node: :shop@h) == {:ok, :accepted}
      :ok = ConfigDb.add(fun("say", timeout: 1_000))

      assert {:error, {:validation_failed, ["say 0.0.0: " <> @added]}} =
               push([fun("say")], [node: :shop@h], "2")

      assert {:ok, %{timeout: 1_000}} = ConfigDb.get("shop", "say")
      assert push([fun("other", version: "1.0.0")], [node: :shop@h], "2") == {:ok, :accepted}
      assert stored() == %{"say" => ["0.0.0"], "other" => ["1.0.0"]}
    end

    test "stays when a push whose process was killed is put in order again" do
      assert push([fun("say"), fun("other")], node: :shop@h) == {:ok, :accepted}
      :ok = ConfigDb.add(fun("say", timeout: 1_000))
      ConfigDb.delete("shop", "other")
      PushStore.mark_dirty("shop")
      assert Recovery.run("shop", fn -> :done end) == :done
      assert {:ok, %{timeout: 1_000}} = ConfigDb.get("shop", "say")
      assert {:ok, _config} = ConfigDb.get("shop", "other")
      refute PushStore.dirty?("shop")
    end

    test "is left out of a pull, with a warning, and the others are stored" do
      :ok = ConfigDb.add(fun("say", timeout: 1_000))

      log = capture_log(fn -> assert pull([fun("say"), fun("other")]) == ["other"] end)
      assert log =~ "say 0.0.0 is rejected: " <> @added

      assert {:ok, %{timeout: 1_000}} = ConfigDb.get("shop", "say")
      assert ConfigDb.origin("shop", "other", "0.0.0") == :pull
      assert [%{request_type: "say", reason: [@added], source: :pull}] = ConfigFailed.list()

      :ok = ConfigDb.delete("shop", "say")
      ConfigPuller.pull()
      Await.until(fn -> ConfigDb.origin("shop", "say", "0.0.0") == :pull end)
    end

    test "is never replaced by pushes and pulls that are stored at the same moment" do
      # Many functions, so that there is time between the check of the first one and the writing.
      functions = [fun("say") | for(n <- 1..300, do: fun("other#{n}"))]
      parent = self()

      stores = [
        fn -> ConfigDb.replace_service("shop", functions, :push, strict?: true) end,
        fn -> ConfigDb.replace_service("shop", functions, :pull) end
      ]

      writers =
        for store <- stores do
          spawn_link(fn ->
            for _ <- 1..60, do: send(parent, {:stored, store.()})
            send(parent, {:done, self()})
          end)
        end

      add_until_done(writers, 0)

      for _ <- 1..120 do
        assert_received {:stored, stored}

        case stored do
          {:ok, %{stored: 301}, []} -> :ok
          {:ok, %{stored: 300}, [{%{request_type: "say"}, [@added]}]} -> :ok
          {:error, [{%{request_type: "say"}, [@added]}]} -> :ok
        end
      end

      ConfigDb.remove_service("shop")
    end

    # Adds the function and deletes it again, as often as there is time for.
    defp add_until_done([], rounds), do: assert(rounds > 0)

    defp add_until_done(writers, rounds) do
      :ok = ConfigDb.add(fun("say", timeout: 1_000))

      for _ <- 1..20 do
        assert {:ok, %{timeout: 1_000}} = ConfigDb.get("shop", "say")
        :erlang.yield()
      end

      :ok = ConfigDb.delete("shop", "say")

      receive do
        {:done, writer} -> add_until_done(List.delete(writers, writer), rounds + 1)
      after
        0 -> add_until_done(writers, rounds + 1)
      end
    end

    test "is replaced by code on the gateway" do
      :ok = ConfigDb.add(fun("say", timeout: 1_000))
      assert ConfigDb.update(fun("say")) == :ok
      assert ConfigDb.batch_add([fun("say")]) == {:ok, 1}
    end
  end
end
