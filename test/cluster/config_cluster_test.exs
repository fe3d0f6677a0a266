defmodule PhoenixGenApi.ConfigClusterTest do
  # Pull and push between real nodes.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, ConfigDb, ConfigFailed, ConfigPuller, ConfigPusher}
  alias PhoenixGenApi.{ConfigReceiver, NodeSelector, Telemetry}
  alias PhoenixGenApi.Structs.{FunConfig, ServiceConfig}
  alias PhoenixGenApi.Test.{Cluster, Directory}

  @moduletag :capture_log

  @pull_stop [:phoenix_gen_api, :config, :pull, :stop]

  @doc false
  def forward(event, measurements, metadata, pid),
    do: send(pid, {:event, event, measurements, metadata})

  defp due(nodes) do
    %FunConfig{
      service: "loans",
      request_type: "due",
      nodes: nodes,
      mfa: {Books.Api, :find, []},
      arg_types: %{"isbn" => :string}
    }
  end

  defp books(nodes) do
    %ServiceConfig{
      service: "books",
      nodes: nodes,
      module: Books.Directory,
      function: :functions,
      args: [:gw],
      version_module: Books.Directory,
      version_function: :version
    }
  end

  defp on({_peer, node}, module, function, args), do: :erpc.call(node, module, function, args)

  # This node is a gateway too, and has what others were pushed.
  setup do
    on_exit(fn -> ConfigPuller.delete(["books", "loans"]) end)
  end

  describe "the acceptance script" do
    test "functions are registered by pull, push and hand as rules R1 to R10 say" do
      gateway_name = Cluster.node_name("gw")
      books_name = Cluster.node_name("books")
      books = Cluster.start_peer(name: books_name, app: [client_mode: true])

      gateway =
        Cluster.start_peer(
          name: gateway_name,
          app: [
            gen_api: [
              pull_interval: 2_000,
              service_configs: [
                %{
                  service: "books",
                  nodes: [Atom.to_string(books_name)],
                  module: "Books.Directory",
                  function: "functions",
                  args: [:gw],
                  version_module: Books.Directory,
                  version_function: :version,
                  version_args: []
                },
                [service: "no_nodes", module: "A", function: "b"],
                5
              ]
            ]
          ]
        )

      gw = &on(gateway, &1, &2, &3)

      # R1
      Await.until(fn -> gw.(ConfigDb, :get_all_functions, []) != %{} end)
      functions = gw.(ConfigDb, :get_all_functions, [])["books"]
      assert functions["find"] == ["1.0.0", "2.0.0"]
      assert map_size(functions) == 10

      # What is wrong in the config is recorded and stops nothing else.
      assert gw.(ConfigFailed, :summary, []).pull == 2
      assert gw.(ConfigPuller, :get_services, []) |> Map.keys() == ["books"]

      # R2
      Await.until(fn -> gw.(ConfigPuller, :get_service_version, ["books"]) end)
      assert gw.(ConfigPuller, :get_service_version, ["books"]) == "7"
      assert length(gw.(ConfigPuller, :get_api_list, [:books])) == 10

      # R3, R4: from the books node
      push = fn fun_configs, version, opts ->
        args = [:loans, [books_name], fun_configs, [config_version: version]]
        pc = on(books, ConfigPusher, :from_service_config, args)
        on(books, ConfigPusher, :push_on_startup, [gateway_name, pc, opts])
      end

      f = due([books_name])
      assert push.([f], "1.0.0", []) == {:ok, :accepted}
      assert push.([f], "1.0.0", []) == {:ok, :skipped, :version_matches}
      assert push.([f], "1.0.0", force: true) == {:ok, :accepted}

      # R5
      verify = &gw.(PhoenixGenApi, :verify_config, [&1, &2])
      assert verify.("loans", "1.0.0") == {:ok, :matched}
      assert verify.("loans", "2") == {:ok, :mismatch, "1.0.0"}
      assert verify.("none", "1") == {:error, :not_found}
      assert on(books, ConfigPusher, :verify, [gateway_name, :loans, "1.0.0"]) == {:ok, :matched}

      # R6
      assert {:error, {:validation_failed, [reason]}} =
               push.([f, %{f | request_type: "late", timeout: 1}], "2.0.0", [])

      assert reason =~ "late 0.0.0: timeout must be"
      assert verify.("loans", "1.0.0") == {:ok, :matched}
      assert gw.(ConfigDb, :get, ["loans", "late"]) == {:error, :not_found}
      assert [%{node: ^books_name}] = gw.(ConfigFailed, :list, [[source: :push]])

      # R7
      up = %FunConfig{
        service: :util,
        request_type: "up",
        nodes: :local,
        mfa: {String, :upcase, []},
        arg_types: %{"text" => {:string, 5}}
      }

      assert gw.(ConfigDb, :add, [up]) == :ok

      assert {:ok, %FunConfig{version: "0.0.0", arg_orders: ["text"]}} =
               gw.(ConfigDb, :get, ["util", "up"])

      # R8
      two = %{up | request_type: "two", arg_types: %{"a" => :string, "b" => :string}}
      assert gw.(ConfigDb, :add, [two]) == {:error, :invalid_config}
      assert [%{reason: ["arg_orders is required" <> _]} | _] = gw.(ConfigFailed, :list, [[]])

      # R9
      os = %{up | nodes: {:os, :cmd, [~c"id"]}}
      assert {:error, {:mfa_not_allowed, _}} = gw.(ConfigDb, :add, [os])

      # R10
      assert gw.(ConfigDb, :disable, ["books", "find", "2.0.0"]) == :ok

      # Gone until a pull brings it back.
      assert gw.(ConfigDb, :delete, ["books", "buy"]) == :ok
      assert gw.(ConfigPuller, :force_pull, []) == :ok
      Await.until(fn -> match?({:ok, _}, gw.(ConfigDb, :get, ["books", "buy"])) end)
      assert gw.(ConfigDb, :get, ["books", "find", "2.0.0"]) == {:error, :disabled}
      assert gw.(ConfigDb, :enable, ["books", "find", "2.0.0"]) == :ok
      assert {:ok, _} = gw.(ConfigDb, :get, ["books", "find", "2.0.0"])
    end
  end

  describe "with this node as the gateway" do
    setup do
      Cluster.start_distribution()
      :ok = Telemetry.attach_many(__MODULE__, [@pull_stop], &__MODULE__.forward/4, self())

      on_exit(fn -> Telemetry.detach_all(__MODULE__) end)
    end

    test "a node that is down at first is pulled as soon as it comes up" do
      name = Cluster.node_name("books")
      :ok = ConfigPuller.add([books([name])])
      assert_receive {:event, _, %{count: 0}, %{service: "books", result: :error}}, 30_000
      assert ConfigPuller.status().failure_count == 1

      # The next try is a minute away.
      Cluster.start_peer(name: name)
      assert_receive {:event, _, %{count: 11}, %{service: "books", result: :ok}}, 30_000
      assert ConfigPuller.status().failure_count == 0
      assert {:ok, %{nodes: [^name]}} = ConfigDb.get("books", "find", "1.0.0")
    end

    test "a node that restarts is asked for its version again" do
      books = {_peer, name} = Cluster.start_peer()
      :ok = ConfigPuller.add([books([name])])
      assert_receive {:event, _, %{count: 11}, %{result: :ok}}, 30_000
      Cluster.stop_peer(books)
      assert {:ok, _} = ConfigDb.get("books", "find", "1.0.0")

      Cluster.start_peer(name: name)
      assert_receive {:event, _, %{count: 0}, %{result: :skipped}}, 30_000
    end

    test "a pull asks the next node when the first is gone" do
      {_peer, name} = Cluster.start_peer()
      :ok = ConfigPuller.add([books([Cluster.node_name("gone"), name])])
      assert_receive {:event, _, %{count: 11}, %{result: :ok}}, 30_000
    end

    test "a plain OTP node can be pulled from, and its modules are checked there" do
      {_peer, name} = Cluster.start_peer(code: false)
      loadable = %{due([name]) | mfa: {:lists, :reverse, []}}
      absent = %{due([name]) | request_type: "absent"}

      :ok =
        ConfigPuller.add([
          %ServiceConfig{
            service: :loans,
            nodes: [name],
            module: :maps,
            function: :get,
            args: [:list, %{list: {:ok, [loadable, absent]}}]
          }
        ])

      assert_receive {:event, _, %{count: 1}, %{service: "loans", result: :ok}}, 30_000
      assert ConfigPuller.get_api_list("loans") == ["due"]

      assert [%{request_type: "absent", node: ^name, reason: [reason]}] =
               ConfigFailed.list(service: "loans", limit: 1)

      assert reason == "module Books.Api cannot be loaded on #{name}: :nofile"
    end

    test "a node that dies during a pull counts as a failed pull" do
      books = {_peer, name} = Cluster.start_peer()

      :ok =
        ConfigPuller.add([
          %{
            books([name])
            | module: Directory,
              function: :hang,
              args: [self()],
              version_module: nil
          }
        ])

      assert_receive {:hanging, _pid}, 30_000
      Cluster.stop_peer(books)
      assert_receive {:event, _, %{count: 0}, %{service: "books", result: :error}}, 30_000
    end

    test "drain takes the calling node out of the choice, undrain puts it back" do
      books = {_peer, name} = Cluster.start_peer(app: [client_mode: true])
      :ok = ConfigDb.add(due([name]))
      assert on(books, ConfigPusher, :drain, [node()]) == :ok
      assert NodeSelector.node_status(name) == :draining
      assert on(books, ConfigPusher, :undrain, [node()]) == :ok
      assert NodeSelector.node_status(name) == :up
      gone = Cluster.node_name("gone")
      assert on(books, ConfigPusher, :drain, [gone]) == {:error, {:badrpc, :noconnection}}
      ConfigDb.delete("loans", "due")
    end

    test "a push to a gateway that cannot be reached returns badrpc" do
      gone = Cluster.node_name("gone")

      pc =
        ConfigPusher.from_service_config("loans", [node()], [due([node()])], config_version: "1")

      assert ConfigPusher.push(gone, pc) == {:error, {:badrpc, :noconnection}}
      assert ConfigPusher.verify(gone, "loans", "1") == {:error, {:badrpc, :noconnection}}

      opts = [retries: 2, retry_interval: 1]
      assert ConfigPusher.push_on_startup(gone, pc, opts) == {:error, {:badrpc, :noconnection}}

      {_peer, plain} = Cluster.start_peer(code: false)
      assert ConfigPusher.push(plain, pc) == {:error, {:badrpc, :undef}}
    end

    test "a node in client mode refuses a push" do
      {_peer, client} = Cluster.start_peer(app: [client_mode: true])

      pc =
        ConfigPusher.from_service_config("loans", [node()], [due([node()])], config_version: "1")

      assert ConfigPusher.push(client, pc) == {:error, :not_running}
    end

    test "a supervised pusher serves gateways that start later, and again after a restart" do
      name = Cluster.node_name("gw")

      pc =
        ConfigPusher.from_service_config("loans", [node()], [due([node()])], config_version: "1")

      opts = [gateways: [name, node()], push_config: pc, retry_interval: 100]
      start_supervised!({ConfigPusher, opts})

      # The other gateway does not wait for the one that is not there.
      Await.until(fn -> ConfigReceiver.verify("loans", "1") == {:ok, :matched} end)

      gateway = Cluster.start_peer(name: name, app: [client_mode: false])

      Await.until(fn ->
        on(gateway, ConfigReceiver, :verify, ["loans", "1"]) == {:ok, :matched}
      end)

      Cluster.stop_peer(gateway)

      gateway = Cluster.start_peer(name: name, app: [client_mode: false])

      Await.until(fn ->
        on(gateway, ConfigReceiver, :verify, ["loans", "1"]) == {:ok, :matched}
      end)
    end

    test "a push with module and function is pulled as well" do
      books = {_peer, name} = Cluster.start_peer(app: [client_mode: true])
      only = [hd(on(books, Books.Directory, :list, []))]

      pc =
        ConfigPusher.from_service_config("books", [Atom.to_string(name)], only,
          config_version: "1",
          module: "Books.Directory",
          function: "functions",
          args: [:gw]
        )

      assert on(books, ConfigPusher, :push, [node(), pc]) == {:ok, :accepted}
      assert_receive {:event, _, %{count: 11}, %{service: "books", result: :ok}}, 30_000
      assert ConfigPuller.get_services()["books"].nodes == [name]
      assert ConfigReceiver.delete_pushed_service(:books) == :ok
      assert ConfigPuller.get_services() == %{}
      assert ConfigDb.get_functions_from_services("books") == %{}
    end
  end
end
