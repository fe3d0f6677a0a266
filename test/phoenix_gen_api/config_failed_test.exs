defmodule PhoenixGenApi.ConfigFailedTest do
  # One log per node.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.Structs.FunConfig

  @day_ms 24 * 60 * 60 * 1000
  @config %FunConfig{service: "books", request_type: "find", version: "1.0.0", timeout: 1}

  describe "with the log" do
    # Uses the one of the running gateway, or its own where the application starts none.
    setup do
      ConfigFailed.new()
      if GenServer.whereis(ConfigFailed.Store) == nil, do: start_supervised!(ConfigFailed)
      ConfigFailed.clear()

      on_exit(fn ->
        if :ets.whereis(ConfigFailed.Store) != :undefined, do: ConfigFailed.clear()
      end)
    end

    test "record returns the entry that list shows" do
      before = System.system_time(:millisecond)
      entry = ConfigFailed.record(@config, "timeout is wrong", :push, :books@h)

      assert %{
               id: id,
               service: "books",
               request_type: "find",
               version: "1.0.0",
               source: :push,
               node: :books@h,
               reason: ["timeout is wrong"],
               config: config,
               inserted_at_ms: at,
               expires_at_ms: expires,
               times: 1
             } = entry

      assert is_binary(id) and id != ""
      assert config == Map.from_struct(@config)
      assert at in before..System.system_time(:millisecond)
      assert expires == at + @day_ms
      assert ConfigFailed.list() == [entry]
      assert ConfigFailed.list([]) == [entry]
    end

    test "the node is nil unless given" do
      assert %{node: nil} = ConfigFailed.record(@config, "x", :direct)
    end

    test "list selects by source and service" do
      a = ConfigFailed.record(%{service: "a"}, "x", :pull)
      b = ConfigFailed.record(%{service: "b"}, "x", :push)
      c = ConfigFailed.record(%{service: "b"}, "x", :pull)

      assert ConfigFailed.list(source: :pull) == [c, a]
      assert ConfigFailed.list(source: :direct) == []
      assert ConfigFailed.list(service: "b") == [c, b]
      assert ConfigFailed.list(service: :b) == [c, b]
      assert ConfigFailed.list(service: "b", source: :push) == [b]
    end

    test "list returns 100 entries, newest first, unless told otherwise" do
      entries = for n <- 1..101, do: ConfigFailed.record(%{service: "s#{n}"}, "x", :pull)

      assert ConfigFailed.list() == entries |> Enum.reverse() |> Enum.take(100)
      assert ConfigFailed.list(limit: 2, order: :oldest_first) == Enum.take(entries, 2)
      assert length(ConfigFailed.list(limit: 1000)) == 101
      assert ConfigFailed.list(limit: 0) == []
    end

    test "the limit counts what was selected" do
      a = ConfigFailed.record(%{service: "a"}, "x", :pull)
      ConfigFailed.record(%{service: "b"}, "x", :pull)
      assert ConfigFailed.list(service: "a", limit: 1) == [a]
    end

    test "summary counts by source and service" do
      assert ConfigFailed.summary() ==
               %{
                 total: 0,
                 pull: 0,
                 push: 0,
                 offer: 0,
                 direct: 0,
                 by_service: %{},
                 oldest: nil,
                 newest: nil
               }

      first = ConfigFailed.record(%{service: "a"}, "x", :pull)
      ConfigFailed.record(%{service: :a}, "y", :push)
      last = ConfigFailed.record(%{service: "b"}, "x", :direct)

      assert ConfigFailed.summary() == %{
               total: 3,
               pull: 1,
               push: 1,
               offer: 0,
               direct: 1,
               by_service: %{"a" => 2, "b" => 1},
               oldest: first.inserted_at_ms,
               newest: last.inserted_at_ms
             }
    end

    test "the same failure again renews its entry" do
      first = ConfigFailed.record(@config, ["a", "b"], :push)
      ConfigFailed.record(%{service: "other"}, "x", :push)
      again = ConfigFailed.record(@config, ["a", "b"], :push)

      assert again.times == 2
      assert again.id == first.id
      assert again.inserted_at_ms >= first.inserted_at_ms
      assert ConfigFailed.count() == 2
      assert hd(ConfigFailed.list()) == again
    end

    test "another reason, source, node or version is another failure" do
      ConfigFailed.record(@config, "a", :push, :n1@h)
      ConfigFailed.record(@config, "b", :push, :n1@h)
      ConfigFailed.record(@config, "a", :pull, :n1@h)
      ConfigFailed.record(@config, "a", :push, :n2@h)
      ConfigFailed.record(%{@config | version: "2"}, "a", :push, :n1@h)
      assert ConfigFailed.count() == 5
    end

    test "concurrent repeats are all counted" do
      1..16
      |> Enum.map(fn _ ->
        Task.async(fn -> for _ <- 1..50, do: ConfigFailed.record(@config, "x", :push) end)
      end)
      |> Task.await_many(60_000)

      assert [%{times: 800}] = ConfigFailed.list()
    end

    test "concurrent writers keep exactly 1000 entries" do
      1..16
      |> Enum.map(fn t ->
        Task.async(fn ->
          for n <- 1..100, do: ConfigFailed.record(%{service: "s#{t}_#{n}"}, "x", :pull)
        end)
      end)
      |> Task.await_many(60_000)

      assert ConfigFailed.count() == 1000
      assert length(ConfigFailed.list(limit: 5000)) == 1000
    end

    test "clear and cleanup" do
      ConfigFailed.record(@config, "x", :push)
      assert ConfigFailed.cleanup() == 0
      assert ConfigFailed.count() == 1
      assert ConfigFailed.clear() == :ok
      assert ConfigFailed.count() == 0
      assert ConfigFailed.list() == []
    end

    test "no token is kept, wherever it stands" do
      secret = "s3cret"

      for config <- [
            %{service: "a", push_token: secret},
            %{"service" => "a", "push_token" => secret},
            [service: "a", push_token: secret],
            %{service: "a", nested: [%{deep: {:ok, %{push_token: secret}}}]},
            %{service: "a", options: [push_token: secret]}
          ] do
        entry = ConfigFailed.record(config, ["bad", {:invalid, config}], :push)
        assert entry.service == "a"
        refute inspect(entry, limit: :infinity) =~ secret
      end

      rows = :erlang.term_to_binary(:ets.tab2list(ConfigFailed.Store))
      assert :binary.match(rows, secret) == :nomatch
    end
  end

  describe "an entry" do
    defp entry(config, reason \\ "x"), do: ConfigFailed.entry(config, reason, :pull, nil, 1_000)

    test "expires 24 hours after the failure" do
      assert %{inserted_at_ms: 1_000, expires_at_ms: 86_401_000} = entry(@config)
    end

    test "takes names from atom and string keys, and services as strings" do
      assert %{service: "a", request_type: "t", version: "1"} =
               entry(%{"service" => "a", "request_type" => "t", "version" => "1"})

      assert %{service: "a"} = entry(%{service: :a})
    end

    test "an unversioned function has version 0.0.0, a push its config version, a service none" do
      assert %{version: "0.0.0"} = entry(%{@config | version: nil})
      assert %{version: "7", request_type: nil} = entry(%{service: "a", config_version: "7"})
      assert %{version: nil} = entry(%{service: "a"})
    end

    test "survives any field value" do
      assert %{service: "%{a: 1}", request_type: "[1]", version: "5"} =
               entry(%{service: %{a: 1}, request_type: [1], version: 5})

      assert %{service: nil, config: %{value: "5"}} = entry(5)
      assert %{service: nil, config: %{value: "[1 | 2]"}} = entry([1 | 2])
      assert %{service: "a", config: %{args: [1 | 2]}} = entry(%{service: "a", args: [1 | 2]})
    end

    test "keeps what structs inside the config are" do
      regex = ~r/a/

      assert %{config: %{arg_types: %{"a" => [format: ^regex]}}} =
               entry(%{@config | arg_types: %{"a" => [format: regex]}})
    end

    test "has its reasons as strings" do
      assert entry(@config, "a").reason == ["a"]
      assert entry(@config, ["a", "b"]).reason == ["a", "b"]
      assert entry(@config, :timeout).reason == [":timeout"]

      assert entry(@config, {:mfa_not_allowed, {:os, :cmd, []}}).reason ==
               ["{:mfa_not_allowed, {:os, :cmd, []}}"]

      assert entry(@config, %RuntimeError{message: "boom"}).reason == ["boom"]
      assert [long] = entry(@config, {String.duplicate("x", 5_000)}).reason
      assert byte_size(long) == 500
    end

    test "does not hold a huge config" do
      assert %{service: "a", config: %{truncated: true}} =
               entry(%{service: "a", args: List.duplicate("abc", 100_000)})
    end
  end

  describe "where the gateway does not run" do
    setup do
      running? = List.keymember?(Application.started_applications(), :phoenix_gen_api, 0)
      capture_log(fn -> Application.stop(:phoenix_gen_api) end)

      if running?,
        do: on_exit(fn -> {:ok, _} = Application.ensure_all_started(:phoenix_gen_api) end)

      :ok
    end

    test "record returns the entry without storing it" do
      assert %{service: "books", reason: ["x"], times: 1} =
               ConfigFailed.record(@config, "x", :direct)
    end

    test "everything else raises" do
      for fun <- [
            fn -> ConfigFailed.list([]) end,
            fn -> ConfigFailed.count() end,
            fn -> ConfigFailed.summary() end,
            fn -> ConfigFailed.cleanup() end,
            fn -> ConfigFailed.clear() end
          ] do
        assert_raise RuntimeError, "PhoenixGenApi gateway is not running on this node", fun
      end
    end
  end
end
