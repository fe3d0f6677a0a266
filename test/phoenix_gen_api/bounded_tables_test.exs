defmodule PhoenixGenApi.BoundedTablesTest do
  # What clients and services put into tables is bounded in bytes, however long their texts are and however
  # large the messages that these are parts of.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{ConfigDb, ConfigFailed, ConfigReceiver, RateLimiter, Relay}
  alias PhoenixGenApi.ConfigPuller.Source
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Service.GuardRegistry
  alias PhoenixGenApi.{ServiceGuard, StreamCall}
  alias PhoenixGenApi.Testing
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, Request, ServiceConfig}
  alias PhoenixGenApi.Relay.{Fastlane, Tombstones}

  @moduletag :capture_log

  @mib 1_048_576

  # Every table of the library, and why it cannot take more memory than somebody wants it to.
  @tables %{
    PhoenixGenApi.Cluster => "a row for each connected gateway",
    PhoenixGenApi.Cluster.Scope => "a row for each gateway, of `:pg`",
    PhoenixGenApi.ConfigDb.Changes => "a row for each service whose functions change in a second",
    PhoenixGenApi.ConfigFailed.Store => "1,000 entries and 16 MiB",
    PhoenixGenApi.ConfigPuller.Store =>
      "a row for each service; versions of more than 1 KB are hashed",
    PhoenixGenApi.ConfigSync.PushStore =>
      "a row for each service, 10,000 deleted ones; names of at most 8 KB, pushes of at most 256 MiB, 1,000 joined nodes",
    PhoenixGenApi.ConfigSync.ServiceLock => "a row for each push or pull that is being stored",
    PhoenixGenApi.Contract.Description => "one description of the functions that the gateway has",
    PhoenixGenApi.Decisions.Store =>
      "a row for each function that operators have disabled and each node they have drained; 10,000 that they have let through again",
    PhoenixGenApi.FailureLog.Limit =>
      "1,000 users of at most 64 bytes for each second, for two seconds",
    PhoenixGenApi.Offers.Rolling =>
      "a row for each offered function with several definitions, at most 100,000 of a service",
    PhoenixGenApi.Offers.Store =>
      "of each offered service 1,000 nodes, with contents of at most 256 MiB and 100,000 functions",
    PhoenixGenApi.RPC.Closed => "a row for each function that processes of this node offer",
    PhoenixGenApi.RPC.Guard => "100,000 rows and 64 MiB",
    PhoenixGenApi.RateLimiter.Settings => "what operators configure",
    PhoenixGenApi.Relay.Peers => "a row for each connected gateway",
    PhoenixGenApi.Relay.Tombstones => "50,000 names of at most 1 KB",
    PhoenixGenApi.Service.Scope => "a row for each process that offers a service, of `:pg`",
    PhoenixGenApi.ServiceNodes => "a row for each service",
    PhoenixGenApi.ServiceSets => "10,000 services, with names of at most 8 KB",
    PhoenixGenApi.StreamCall.Registry => "a row for each stream, with an id of at most 1 KB",
    PhoenixGenApi.Testing.Stubs =>
      "only where tests stub functions: a row for each, and its last 10,000 calls",
    PhoenixGenApi.UndefinedFunctions => "a row for each stored function that does not exist",
    PhoenixGenApi.WorkerPool.Registry => "a row for each pool"
  }

  test "every table of the library is listed here with its bound" do
    named = for table <- :ets.all(), is_atom(table), ours?(table), do: table
    assert named -- Map.keys(@tables) == []

    # The guard is off here, and its table is made by the tests of it; that of stubs by the first one.
    assert Map.keys(@tables) -- [RPC.Guard, Testing.Stubs | named] == []
  end

  defp ours?(table), do: String.starts_with?(Atom.to_string(table), "Elixir.PhoenixGenApi.")

  # A part of a large message, as names and ids are that a JSON library or the VM has decoded.
  defp part(size, n \\ 0) do
    message =
      String.duplicate("x", 300_000) <> Integer.to_string(n) <> String.duplicate("y", size)

    binary_part(message, 300_000, size)
  end

  # What a table holds: its own memory and that of the messages whose parts it has.
  defp held(table) do
    binaries = table |> :ets.tab2list() |> referenced() |> Enum.sum()
    :ets.info(table, :memory) * :erlang.system_info(:wordsize) + binaries
  end

  defp referenced(term) when is_binary(term), do: [:binary.referenced_byte_size(term)]
  defp referenced([head | tail]), do: referenced(head) ++ referenced(tail)
  defp referenced(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> referenced()
  defp referenced(%{} = map), do: map |> :maps.to_list() |> referenced()
  defp referenced(_other), do: []

  describe "rejected configs" do
    setup do
      ConfigFailed.clear()
      on_exit(&ConfigFailed.clear/0)
    end

    test "take no more than 16 MiB, and the latest of them are there" do
      reasons = for n <- 1..200, do: part(10_000, n)

      for n <- 1..400 do
        config = %{service: part(2_000, n), request_type: part(300, n), args: [part(60_000, n)]}
        ConfigFailed.record(config, reasons, :push)
      end

      assert held(ConfigFailed.Store) < 20 * @mib
      assert ConfigFailed.count() in 50..400
      assert [%{service: service, reason: reasons}] = ConfigFailed.list(limit: 1)
      assert byte_size(service) == 500
      assert length(reasons) == 101
      assert List.last(reasons) == "and 100 more"
      assert Enum.all?(reasons, &(byte_size(&1) <= 1_000))
    end

    test "of pushes that nobody may make keep no more than the name" do
      Application.put_env(:phoenix_gen_api, :push_token, "secret")
      on_exit(fn -> Application.delete_env(:phoenix_gen_api, :push_token) end)

      for n <- 1..200 do
        push = %PushConfig{
          service: part(500_000, n),
          config_version: part(500_000, n),
          fun_configs: [part(500_000, n)],
          push_token: "wrong"
        }

        assert ConfigReceiver.push(push) == {:error, :invalid_push_token}
      end

      assert ConfigFailed.count() == 200
      assert held(ConfigFailed.Store) < @mib
    end
  end

  describe "names" do
    test "of more than 8,192 bytes are refused wherever they would be kept" do
      long = String.duplicate("é", 4_097)

      config = %FunConfig{
        service: "s",
        request_type: "t",
        nodes: :local,
        mfa: {String, :upcase, []}
      }

      for field <- [:service, :request_type, :version] do
        assert FunConfig.validate_with_details(Map.put(config, field, long)) ==
                 {:error, ["#{field} must have at most 8192 bytes"]}

        assert ConfigDb.add(Map.put(config, field, long)) == {:error, :invalid_config}
        assert {:ok, _} = FunConfig.validate_with_details(Map.put(config, field, part(8_192)))
      end

      # Nothing is registered under them.
      assert ConfigDb.get(long, "t") == {:error, :not_found}
      assert ConfigDb.disable("s", long) == {:error, :not_found}
      assert ConfigDb.resolve("s", "t", long) == {:error, :not_found}
      assert RateLimiter.get_rate_limit_status("ann", {long, "t"}, :user_id) == []
      assert RateLimiter.get_rate_limit_status("ann", :global, long) == []
      assert RateLimiter.check_rate_limit("ann", {"s", long}, :user_id) == :ok

      push = %PushConfig{service: "s", nodes: [:a@h], config_version: "1", fun_configs: [config]}

      assert PushConfig.validate_with_details(%{push | config_version: long}) ==
               {:error, ["config_version must have at most 8192 bytes"]}

      assert {:error, ["service must have at most 8192 bytes" | _]} =
               PushConfig.validate_with_details(%{push | service: long})

      source = %ServiceConfig{service: long, nodes: [:a@h], module: "M", function: "f"}
      assert ServiceConfig.resolve(source) == {:error, ["service must have at most 8192 bytes"]}
    end
  end

  test "the version that a service reports is kept as a hash if it is large" do
    :persistent_term.put(__MODULE__, part(100_000))
    on_exit(fn -> :persistent_term.erase(__MODULE__) end)

    config = %ServiceConfig{
      service: "s",
      nodes: [node()],
      module: List,
      function: :to_tuple,
      args: [[:ok, []]],
      version_module: :persistent_term,
      version_function: :get,
      version_args: [__MODULE__]
    }

    assert {:ok, %{version: {:sha256, <<_::256>>} = version}} = Source.ask(config, nil, 5_000)
    assert Source.ask(config, version, 5_000) == :unchanged
    :persistent_term.put(__MODULE__, part(100_001))
    assert {:ok, %{version: other}} = Source.ask(config, version, 5_000)
    assert other != version
    :persistent_term.put(__MODULE__, %{"v" => 1})
    assert {:ok, %{version: %{"v" => 1}}} = Source.ask(config, version, 5_000)
  end

  test "a guarded service registers no more than 64 MiB" do
    RPC.Guard.new()
    start_supervised!(GuardRegistry)
    large = part(@mib)

    configs =
      for n <- 1..100 do
        %FunConfig{
          service: "shop",
          request_type: "t",
          nodes: [:a@h],
          mfa: {String, :at, [n, large]}
        }
      end

    :ok = ServiceGuard.register(configs)
    registered = :ets.match(RPC.Guard, {{{String, :at, 2}, :_, [:"$1", :_]}, :_})
    assert length(registered) in 60..63
    ServiceGuard.withdraw("shop")
    assert :ets.lookup_element(RPC.Guard, :bytes, 2) == 0
    :ok = ServiceGuard.register([List.last(configs)])
    assert ServiceGuard.registered() == [{String, :at, 2}]
  end

  describe "parts of a payload" do
    test "do not keep it in memory as names and ids of a request" do
      fields =
        for name <- ~w(request_id request_type service user_id device_id version),
            do: {name, part(1_000)}

      payload = Map.new([{"args", %{}}, {"user_roles", [part(100)]} | fields])
      assert {:ok, request} = Request.decode(payload)
      assert request.request_id == part(1_000)
      held = request |> Map.from_struct() |> referenced() |> Enum.sum()
      assert held <= 6_100 + 100
    end

    test "do not keep it as the name of a group that was deleted" do
      before = held(Tombstones)

      for n <- 1..50 do
        id = part(1_000, n)
        :ok = Relay.create_group(id, :public, "ann", self())
        :ok = Relay.delete_group(id)
        on_exit(fn -> Tombstones.delete(id) end)
      end

      assert held(Tombstones) - before < 100_000
    end

    test "do not keep it as the id of a stream" do
      {:ok, %{request_id: id}} =
        Request.decode(%{"request_id" => part(1_000), "request_type" => "t", "service" => "s"})

      key = {self(), id, make_ref()}
      before = held(StreamCall.Registry)
      StreamCall.Registry.enter(key, false)
      assert held(StreamCall.Registry) - before < 10_000
      StreamCall.Registry.leave(key)
    end
  end

  test "a topic that is too long to keep in each group has no lane of its own" do
    socket = %{serializer: __MODULE__, topic: part(3_900), transport_pid: self()}
    :ok = Fastlane.open(socket, "event", JSON)
    assert {_, _, lane} = Fastlane.joining(self())
    assert byte_size(lane) in 3_900..4_096

    Process.delete(Fastlane)
    :ok = Fastlane.open(%{socket | topic: part(4_096)}, "event", JSON)
    assert {_, _, ""} = Fastlane.joining(self())
  end
end
