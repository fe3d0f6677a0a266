defmodule PhoenixGenApi.ContractTest do
  use ExUnit.Case, async: false

  import PhoenixGenApi.Test.Contracts

  alias PhoenixGenApi.{ArgumentGenerator, ConfigDb, Contract, Permission}
  alias PhoenixGenApi.ArgumentGenerator.Chance
  alias PhoenixGenApi.Structs.Request
  alias PhoenixGenApi.Test.ConfigTable

  @moduletag :capture_log

  doctest PhoenixGenApi.Contract

  setup do
    ConfigTable.use_empty()
  end

  defp add(fields), do: fields |> config() |> ConfigDb.add!()

  defp functions(opts \\ []) do
    for %{"service" => service, "functions" => functions} <- Contract.describe(opts)["services"],
        function <- functions,
        do:
          {service, function["request_type"], function["default_version"],
           Enum.map(function["versions"], & &1["version"])}
  end

  defp only(fields) do
    %{"services" => [%{"functions" => [%{"versions" => [version]}]}]} =
      Contract.describe(functions: [config(fields)])

    version
  end

  describe "a description" do
    test "lists services and functions by name and versions in their order" do
      add(service: "b", request_type: "y", version: "10.0.0")
      add(service: "b", request_type: "y", version: "9.0.0")
      add(service: "b", request_type: "x", version: "beta")
      add(service: :a, request_type: "z")

      assert functions() == [
               {"a", "z", "1.0.0", ["1.0.0"]},
               {"b", "x", "beta", ["beta"]},
               {"b", "y", "10.0.0", ["9.0.0", "10.0.0"]}
             ]
    end

    test "names the version that a request without one gets" do
      for version <- ["0.0.0", "2.0.0", "1.0.0"], do: add(version: version)
      assert functions() == [{"shop", "price", "0.0.0", ["0.0.0", "1.0.0", "2.0.0"]}]

      for disabled <- ["0.0.0", "2.0.0", "1.0.0"] do
        {:ok, %{version: served}} = ConfigDb.get_fast("shop", "price")
        assert [{"shop", "price", ^served, _versions}] = functions()
        ConfigDb.disable("shop", "price", disabled, local: true)
      end

      assert functions() == []
    end

    test "of given functions is that of a gateway that has just these" do
      configs =
        for version <- ["beta", "1.0.0", "2.0.0-rc.1"],
            do: config(version: version, tags: ["t"], result: :string)

      described = Contract.describe(functions: configs)
      ConfigDb.batch_add(configs)
      assert Contract.describe() == described

      unversioned = config(version: nil, disabled: true)
      assert Contract.describe(functions: [unversioned | configs]) == described
    end

    test "of a given function that is invalid raises with the reasons" do
      assert_raise ArgumentError,
                   "shop price is no function config: timeout must be a positive integer between 100 and 300000, or :infinity",
                   fn -> Contract.describe(functions: [config(timeout: 1)]) end
    end

    test "is of the services asked for" do
      for service <- ["a", "b", "c"], do: add(service: service)
      assert [{"b", _, _, _}] = functions(service: :b)
      assert [{"a", _, _, _}, {"c", _, _, _}] = functions(service: ["c", "a", "none"])
      assert functions(service: "none") == []
    end

    test "has no option that it does not know" do
      assert_raise ArgumentError, fn -> Contract.describe(services: "a") end
    end

    test "says how long, for whom, and what for" do
      version =
        only(
          timeout: :infinity,
          response_type: :stream,
          deprecated: "Use prices.",
          idempotent: true,
          tags: ["catalogue"],
          doc: "A price.",
          check_permission: {:arg, :user},
          arg_types: %{"user" => :string}
        )

      assert %{
               "timeout_ms" => nil,
               "response_type" => "stream",
               "deprecated" => "Use prices.",
               "idempotent" => true,
               "tags" => ["catalogue"],
               "doc" => "A price.",
               "permission" => %{"kind" => "owner", "arg" => "user"},
               "result" => nil
             } = version
    end

    test "names every kind of permission" do
      kinds =
        for permission <- [
              false,
              :any_authenticated,
              {:role, [:admin, "support"]},
              {:callback, {String, :length, []}}
            ],
            do: only(check_permission: permission)["permission"]

      assert kinds == [
               %{"kind" => "public"},
               %{"kind" => "authenticated"},
               %{"kind" => "roles", "roles" => ["admin", "support"]},
               %{"kind" => "custom"}
             ]
    end

    test "keeps the order of the arguments" do
      types = [
        {"z", :string},
        {"a", [type: :string, allow_nil?: true]},
        {"m", {:map, [{"y", :num}, {"b", :num}]}}
      ]

      assert %{"x-order" => ["z", "a", "m"], "required" => ["z", "m"], "properties" => properties} =
               only(arg_types: types)["args"]

      assert properties["m"]["x-order"] == ["y", "b"]

      assert only(arg_types: Map.new(types), arg_orders: :map)["args"]["x-order"] == [
               "a",
               "m",
               "z"
             ]

      assert only(arg_types: Map.new(types), arg_orders: ["m", "z", "a"])["args"]["x-order"] == [
               "m",
               "z",
               "a"
             ]

      assert %{"x-order" => [], "properties" => none} = only(arg_types: nil)["args"]
      assert none == %{}
    end

    test "names no node, no module and no function" do
      add(
        nodes: [:"secret_node@10.0.0.7"],
        mfa: {SecretModule, :secret_function, ["secret_argument"]},
        before_execute: {SecretHook, :secret_before},
        permission_callback: {SecretPolicy, :secret_policy, []},
        doc: "Open."
      )

      json = JSON.encode!(Contract.describe())
      assert json =~ "Open."
      refute json =~ ~r/secret|10\.0\.0\.7/i
    end

    defmodule Private do
      @moduledoc false
      use PhoenixGenApi.Service, service: "private", nodes: :local

      @doc "For maintainers."
      @api true
      @spec up(text :: String.t()) :: String.t()
      def up(text), do: text

      @doc "For maintainers."
      @api doc: "For clients."
      @spec down(text :: String.t()) :: String.t()
      def down(text), do: text
    end

    test "has no documentation of a private module, unless that is meant for clients" do
      %{"services" => [%{"functions" => functions}]} =
        Contract.describe(functions: Private.__gen_api__())

      assert for(%{"versions" => [version]} <- functions, do: version["doc"]) == [
               "For clients.",
               nil
             ]
    end

    test "is what JSON makes of it" do
      for {type, n} <-
            Enum.with_index([
              [type: :enum, values: [:asc, "desc", 1], default_value: :asc],
              [type: :datetime, default_value: ~U[2026-01-01 00:00:00Z]],
              [type: :date, default_value: ~D[2026-01-01], allow_nil?: true],
              [type: :map, fields: %{"a" => :time}, default_value: %{"a" => ~T[01:02:03]}],
              [type: :list, items: :float, default_value: [1]],
              [type: :integer, min: 2 ** 70]
            ]),
          do: add(request_type: "t#{n}", arg_types: %{"a" => type})

      described = Contract.describe()
      assert described |> JSON.encode!() |> JSON.decode!() == described
    end

    test "is the same term until a function changes" do
      add([])
      Contract.describe()
      first = Contract.describe()
      assert :erts_debug.same(first["services"], Contract.describe()["services"])

      # Stored again as it was: another state of the table with the same functions.
      add([])
      assert :erts_debug.same(first["services"], Contract.describe()["services"])

      for change <- [
            fn -> add(doc: "Now with a text.") end,
            fn -> add(version: "2.0.0") end,
            fn -> ConfigDb.disable("shop", "price", "2.0.0", local: true) end,
            fn -> ConfigDb.enable("shop", "price", "2.0.0", local: true) end,
            fn -> ConfigDb.replace_service("other", [config(service: "other")], :pull) end,
            fn -> ConfigDb.delete("shop", "price", "1.0.0") end,
            fn -> ConfigDb.clear() end
          ] do
        before = Contract.describe()
        change.()
        assert Contract.describe() != before
      end
    end
  end

  describe "a description as a request" do
    @users [
      %Request{user_id: nil},
      %Request{user_id: ""},
      %Request{user_id: "ann"},
      %Request{user_id: "ann", user_roles: []},
      %Request{user_id: "ann", user_roles: ["buyer"]},
      %Request{user_id: nil, user_roles: ["admin"]},
      %Request{user_id: "ann", user_roles: ["buyer", "admin"]}
    ]

    defp permission do
      Chance.pick([
        [check_permission: false],
        [check_permission: :any_authenticated],
        [
          check_permission:
            {:role, Enum.take_random([:admin, "buyer", "support"], Chance.int(1, 2))}
        ],
        [check_permission: {:arg, "owner"}],
        [
          permission_callback: {String, :length, []},
          check_permission: Chance.pick([false, :any_authenticated])
        ]
      ])
    end

    # What the gateway would say to the best arguments that the caller could send.
    defp may_call?(_request, %{permission_callback: callback}) when callback != nil, do: false

    defp may_call?(request, config),
      do: Permission.check_permission(%{request | args: %{"owner" => request.user_id}}, config)

    test "never shows what it may not call, and all that it may" do
      for seed <- 1..100 do
        ArgumentGenerator.seed(seed)
        ConfigDb.clear()

        configs =
          for type <- ["a", "b", "c"],
              version <- Enum.take_random(["0.0.0", "1.0.0", "2.0.0"], 2) do
            config(
              [request_type: type, version: version, arg_types: %{"owner" => :string}] ++
                permission()
            )
          end

        ConfigDb.batch_add(configs)

        for request <- @users do
          expected =
            for config <- configs,
                may_call?(request, config),
                do: {config.request_type, config.version}

          shown =
            for {"shop", type, _default, versions} <- functions(as: request),
                version <- versions,
                do: {type, version}

          assert Enum.sort(shown) == Enum.sort(expected), "seed #{seed}, #{inspect(request)}"

          for {"shop", type, default, versions} <- functions(as: request) do
            {:ok, %{version: served}} = ConfigDb.get_fast("shop", type)
            assert default == if(served in versions, do: served), "seed #{seed}"
          end
        end
      end
    end

    test "shows functions with a callback only when asked, and runs none" do
      add(permission_callback: {__MODULE__, :ask, [self()]})
      assert functions(as: %Request{user_id: "ann"}) == []

      assert [{"shop", "price", "1.0.0", ["1.0.0"]}] =
               functions(as: %Request{user_id: "ann"}, visible: true)

      refute_received :asked
    end

    def ask(_request, pid), do: send(pid, :asked)
  end

  test "needs a gateway, unless the functions are given" do
    instances = :persistent_term.get(PhoenixGenApi.Gateway)
    on_exit(fn -> PhoenixGenApi.Gateway.publish(instances) end)
    PhoenixGenApi.Gateway.retract()
    assert_raise RuntimeError, ~r/gateway is not running/, fn -> Contract.describe() end
    assert %{"services" => [_shop]} = Contract.describe(functions: [config([])])
  end
end
