defmodule PhoenixGenApi.ServiceGuardTest do
  # One guard per node; the settings are those of the application.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias PhoenixGenApi.{Config, ConfigPusher, ServiceGuard}
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.RPC.Guard
  alias PhoenixGenApi.Service.GuardRegistry
  alias PhoenixGenApi.ServiceGuard.Refused
  alias PhoenixGenApi.Structs.{FunConfig, Request, StreamHelper}

  @moduletag :capture_log

  # Functions of a service, and how it lists them.
  defmodule Shop do
    @moduledoc false
    def find(id), do: {:found, id}
    def find(id, branch), do: {:found, id, branch}
    def find(id, branch, request), do: {:found, id, branch, request}
    def permit(_request, role), do: role == "admin"
    def secret, do: :secret
    def list(pid), do: listed(pid)
    def list(pid, _gateway), do: listed(pid)
    def list_for(gateway) when gateway == node(), do: {:ok, :persistent_term.get(__MODULE__)}
    def version, do: "1"

    defp listed(pid) do
      send(pid, :listed)
      {:ok, :persistent_term.get(__MODULE__)}
    end
  end

  setup do
    on_exit(fn ->
      Application.delete_env(:phoenix_gen_api, :service_guard)
      :ok = Config.load()
      :persistent_term.erase(Shop)
    end)
  end

  defp guard(options \\ true) do
    Application.put_env(:phoenix_gen_api, :service_guard, options)
    :ok = Config.load()
    Guard.new()
    start_supervised!(GuardRegistry)
    :ok
  end

  defp fun(fields \\ []) do
    struct!(
      %FunConfig{
        service: "shop",
        request_type: "find",
        nodes: [node()],
        mfa: {Shop, :find, []},
        arg_types: %{"id" => :string}
      },
      fields
    )
  end

  # What a gateway gets for a call that begins as it begins there.
  defp call(function, args, module \\ Shop) do
    result = make_ref()
    {pid, monitor} = spawn_monitor(Guard, :execute_call, [result, module, function, args])
    assert_receive {:DOWN, ^monitor, :process, ^pid, outcome}

    case outcome do
      {^result, :return, value} -> {:ok, value}
      {^result, :error, %Refused{}, []} -> :refused
      {^result, :error, reason, _stack} -> {:error, reason}
    end
  end

  describe "a guarded node" do
    setup do: guard()

    test "runs what it has registered, and nothing else" do
      assert call(:find, ["1"]) == :refused
      :ok = ServiceGuard.register([fun()])
      assert call(:find, ["1"]) == {:ok, {:found, "1"}}
      assert call(:secret, []) == :refused
      assert call(:find, ["1", "main"]) == :refused
      assert call(:find, []) == :refused
      assert call(:cmd, [~c"id"], :os) == :refused
      assert ServiceGuard.registered() == [{Shop, :find, 1}]
    end

    test "runs a function only with the arguments that its config fixes" do
      :ok = ServiceGuard.register([fun(mfa: {Shop, :find, ["main"]})])
      assert call(:find, ["1", "main"]) == {:ok, {:found, "1", "main"}}
      assert call(:find, ["1", "vault"]) == :refused
      assert call(:find, ["main", "1"]) == :refused
    end

    test "knows the request behind the fixed arguments" do
      :ok = ServiceGuard.register([fun(mfa: {Shop, :find, ["main"]}, request_info: true)])

      for last <- [%Request{request_id: "r1"}, %StreamHelper{request_id: "r1"}] do
        assert call(:find, ["1", "main", last]) == {:ok, {:found, "1", "main", last}}
        assert call(:find, ["1", "vault", last]) == :refused
      end

      assert call(:find, ["1", "main", "no request"]) == :refused
    end

    test "counts the arguments as the config gives them" do
      for {fields, arity} <- [
            {[arg_types: nil], 0},
            {[arg_types: [{"a", :any}, {"b", :any}]], 2},
            {[arg_types: %{"a" => :any, "b" => :any}, arg_orders: :map], 1},
            {[arg_types: nil, mfa: {Shop, :find, [1, 2]}], 2},
            {[arg_types: nil, request_info: true], 1}
          ] do
        ServiceGuard.withdraw("shop")
        :ok = ServiceGuard.register([fun(fields)])
        assert ServiceGuard.registered() == [{Shop, :find, arity}]
      end
    end

    test "runs several registrations of one function side by side" do
      :ok =
        ServiceGuard.register([fun(mfa: {Shop, :find, ["a"]}), fun(mfa: {Shop, :find, ["b"]})])

      for branch <- ["a", "b"], do: assert({:ok, _} = call(:find, ["1", branch]))
      assert call(:find, ["1", "c"]) == :refused
    end

    test "looks a function up in the same time whatever many have its name" do
      configs = for n <- 1..5_000, do: fun(mfa: {Shop, :find, [n]})
      :ok = ServiceGuard.register(configs)
      assert ServiceGuard.registered() == [{Shop, :find, 2}]

      for branch <- [1, 5_000, :none] do
        {:reductions, before} = Process.info(self(), :reductions)
        permitted = Guard.permit(Shop, :find, ["1", branch])
        {:reductions, later} = Process.info(self(), :reductions)
        assert permitted == if(branch == :none, do: :unknown, else: :ok)
        assert later - before < 1_000
      end
    end

    test "takes no more than 100,000 registrations, and says so once" do
      configs = fn numbers -> for n <- numbers, do: fun(mfa: {Shop, :find, [n]}) end
      :ok = ServiceGuard.register([fun(service: "other")])

      log =
        capture_log(fn ->
          for numbers <- [1..60_000, 60_001..120_000],
              do: ServiceGuard.register(configs.(numbers))
        end)

      assert [_, _] = String.split(log, "no more are taken")
      assert :ets.info(Guard, :size) in 100_000..100_010
      assert call(:find, ["1", 60_000]) == {:ok, {:found, "1", 60_000}}
      assert call(:find, ["1", 120_000]) == :refused

      ServiceGuard.withdraw("shop")
      assert ServiceGuard.registered() == [{Shop, :find, 1}]
      assert call(:find, ["1", 60_000]) == :refused
      :ok = ServiceGuard.register(configs.([120_000]))
      assert call(:find, ["1", 120_000]) == {:ok, {:found, "1", 120_000}}
    end

    test "withdraws one of two services that have registered the same" do
      :ok = ServiceGuard.register([fun(), fun(service: "other")])
      ServiceGuard.withdraw("shop")
      assert call(:find, ["1"]) == {:ok, {:found, "1"}}
      ServiceGuard.withdraw("other")
      assert call(:find, ["1"]) == :refused
      assert ServiceGuard.registered() == []
    end

    test "runs a registered permission callback, in either spelling, with its own arguments only" do
      mfa = {Shop, :permit, ["admin"]}

      for fields <- [[permission_callback: mfa], [check_permission: {:callback, mfa}]] do
        assert call(:permit, [%Request{}, "admin"]) == :refused
        :ok = ServiceGuard.register([fun(fields)])
        assert ServiceGuard.registered() == [{Shop, :find, 1}, {Shop, :permit, 2}]
        assert call(:permit, [%Request{}, "admin"]) == {:ok, true}
        assert call(:permit, [%Request{}, "guest"]) == :refused
        assert call(:permit, [%Request{}]) == :refused
        ServiceGuard.withdraw("shop")
      end

      # Of a function of the gateway: it is asked there.
      :ok = ServiceGuard.register([fun(nodes: :local, check_permission: {:callback, mfa})])
      assert call(:permit, [%Request{}, "admin"]) == :refused
    end

    test "registers only the permission callback that decides" do
      :ok =
        ServiceGuard.register([
          fun(
            permission_callback: {Shop, :permit, ["admin"]},
            check_permission: {:callback, {Shop, :permit, ["guest"]}}
          )
        ])

      assert call(:permit, [%Request{}, "admin"]) == {:ok, true}
      assert call(:permit, [%Request{}, "guest"]) == :refused
    end

    test "registers configs that another version of the library has made" do
      full = fun(permission_callback: {Shop, :permit, ["admin"]})
      bare = fun(check_permission: {:callback, {Shop, :permit, ["guest"]}})
      required = [:__struct__, :service, :request_type, :nodes, :mfa, :arg_types]
      optional = Map.keys(full) -- [:permission_callback | required]
      others = for field <- optional, do: Map.delete(full, field)
      bare = Map.take(bare, [:check_permission | required])

      for version <- [Map.drop(full, optional), Map.put(full, :tenant, 1) | others] do
        :ok = ServiceGuard.register([version])
        assert ServiceGuard.registered() == [{Shop, :find, 1}, {Shop, :permit, 2}]
        assert call(:permit, [%Request{}, "admin"]) == {:ok, true}
        ServiceGuard.withdraw("shop")
      end

      pid = Process.whereis(GuardRegistry)
      :ok = Guard.write({:listed, [bare]})
      assert Process.whereis(GuardRegistry) == pid
      assert call(:permit, [%Request{}, "guest"]) == {:ok, false}
    end

    test "registers nothing of functions that run on the gateway, nor of junk" do
      junk = [nil, 5, %{}, %FunConfig{}, fun(mfa: {Shop, :find, :no_list}), fun(arg_types: 5)]
      assert ServiceGuard.register([fun(nodes: :local) | junk]) == :ok
      assert ServiceGuard.registered() == []
    end

    test "registers what is pushed before it is pushed, with the function to pull from" do
      push =
        ConfigPusher.from_service_config(:shop, [node()], [fun()],
          config_version: "1",
          module: inspect(Shop),
          function: "list",
          args: [self()],
          version_module: Shop,
          version_function: :version
        )

      :persistent_term.put(Shop, [])
      assert {:error, {:badrpc, :noconnection}} = ConfigPusher.push(:nobody@nowhere, push)
      assert call(:find, ["1"]) == {:ok, {:found, "1"}}
      assert call(:list, [self()]) == {:ok, {:ok, []}}
      assert call(:version, []) == {:ok, "1"}
      assert call(:secret, []) == :refused
    end

    test "forgets a service that is withdrawn, and no other" do
      :ok =
        ServiceGuard.register([
          fun(),
          fun(service: "other", mfa: {Shop, :secret, []}, arg_types: nil)
        ])

      assert ServiceGuard.withdraw(:shop) == :ok
      assert call(:find, ["1"]) == :refused
      assert call(:secret, []) == {:ok, :secret}
    end

    test "keeps what is registered when its process dies" do
      :ok = ServiceGuard.register([fun()])
      pid = Process.whereis(GuardRegistry)
      monitor = Process.monitor(pid)
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^monitor, _, _, _}
      assert call(:find, ["1"]) == {:ok, {:found, "1"}}
    end

    test "keeps its process when a listing returns lists that are none" do
      :persistent_term.put(Shop, [
        fun(arg_types: [{"id", :string} | :improper]),
        fun(mfa: {Shop, :find, ["main" | :improper]}),
        fun(permission_callback: {Shop, :secret, [1 | 2]})
      ])

      pid = Process.whereis(GuardRegistry)
      :ok = Guard.write({:listed, :persistent_term.get(Shop)})
      assert Process.whereis(GuardRegistry) == pid
      assert ServiceGuard.registered() == [{Shop, :find, 1}]
    end

    test "passes on what the function raises" do
      :ok = ServiceGuard.register([fun(mfa: {:erlang, :error, [:oops]}, arg_types: nil)])
      assert call(:error, [:oops], :erlang) == {:error, :oops}
    end

    test "logs refusals, one line a second, without the arguments" do
      log =
        capture_log(fn -> for _ <- 1..20, do: assert(call(:secret, ["hunter2"]) == :refused) end)

      lines = length(String.split(log, "service guard: refused")) - 1
      assert lines in 1..2

      assert log =~
               "refused a call from #{node()}: #{inspect(Shop)}.secret/1 is not registered by node #{node()}"

      refute log =~ "hunter2"
    end

    test "says of a check what a call would be told" do
      :ok = ServiceGuard.register([fun()])
      assert Guard.check(Shop, :find, ["1"]) == :ok
      assert {:error, %Refused{arity: 0} = refused} = Guard.check(Shop, :secret, [])

      assert Exception.message(refused) ==
               "#{inspect(Shop)}.secret/0 is not registered by node #{node()}"
    end
  end

  describe "a declared listing" do
    test "is asked by the node itself when something unknown is called, once a second" do
      :persistent_term.put(Shop, [fun()])
      guard(listings: [{Shop, :list, [self()]}])
      assert call(:find, ["1"]) == {:ok, {:found, "1"}}
      assert_received :listed

      for _ <- 1..5, do: assert(call(:secret, []) == :refused)
      refute_received :listed
    end

    test "that takes the gateway's node as well is given this one" do
      :persistent_term.put(Shop, [fun()])
      guard(listings: [{Shop, :list_for}])
      assert call(:find, ["1"]) == {:ok, {:found, "1"}}
    end

    test "may be pulled from in the ways that a gateway does, and what it says is registered" do
      :persistent_term.put(Shop, [fun()])
      guard(listings: [{Shop, :list, [self()]}, {Shop, :version}])
      assert {:ok, {:ok, [_]}} = call(:list, [self()])
      assert {:ok, {:ok, [_]}} = call(:list, [self(), :gw@h1])
      assert call(:version, []) == {:ok, "1"}
      assert ServiceGuard.registered() == [{Shop, :find, 1}]

      assert call(:list, [spawn(fn -> :ok end)]) == :refused
      assert call(:list, [self(), "no node"]) == :refused
      assert call(:ensure_modules_loaded, [[Shop]], :code) == {:ok, :ok}
      assert call(:ensure_modules_loaded, [[Shop, :os]], :code) == :refused
    end

    test "that fails or lies registers nothing" do
      guard(listings: [{Shop, :list, [self()]}, {Nowhere, :list}, {Shop, :absent}])

      for lie <- [:no_list, [1 | 2], [nil], nil] do
        :persistent_term.put(Shop, lie)
        assert {:ok, {:ok, ^lie}} = call(:list, [self()])
      end

      :persistent_term.erase(Shop)
      assert call(:find, ["1"]) == :refused
      assert ServiceGuard.registered() == []
    end
  end

  test "what is allowed by name needs no registration" do
    guard(allow: [{Shop, :secret}, String])
    assert call(:secret, []) == {:ok, :secret}
    assert call(:upcase, ["a"], String) == {:ok, "A"}
    assert call(:find, ["1"]) == :refused
  end

  describe "whether a node is guarded" do
    test "is what its configuration says, also before the application runs" do
      refute ServiceGuard.guarded?()
      :persistent_term.erase(Config)

      for {setting, guarded?} <- [
            {true, true},
            {false, false},
            {[], false},
            {[allow: [Shop]], true},
            {%{listings: []}, true},
            {[enabled: false, allow: [Shop]], false},
            {"wrong", true},
            {[1 | 2], true}
          ] do
        Application.put_env(:phoenix_gen_api, :service_guard, setting)
        assert {setting, ServiceGuard.guarded?()} == {setting, guarded?}
      end
    end

    test "does not follow a change of its configuration, which would refuse every call" do
      Application.put_env(:phoenix_gen_api, :service_guard, listings: [{Shop, :version}])
      refute ServiceGuard.guarded?()
      assert PhoenixGenApi.reload_config() == :ok
      refute ServiceGuard.guarded?()
      assert Guard.check(Shop, :secret, []) == :ok
      assert Config.get(:service_guard) == %{enabled: false, listings: [], allow: []}
    end

    test "and then it runs nothing for gateways" do
      :persistent_term.erase(Config)
      Application.put_env(:phoenix_gen_api, :service_guard, true)
      assert ServiceGuard.register([fun()]) == :ok
      assert call(:find, ["1"]) == :refused
      assert {:error, %Refused{}} = Guard.check(Shop, :find, ["1"])
    end

    test "makes no difference to a check where there is no guard" do
      assert Guard.check(Shop, :secret, []) == :ok
      assert ServiceGuard.registered() == []
      assert ServiceGuard.withdraw("shop") == :ok
    end

    test "is forgotten when the process that forgets is gone" do
      :persistent_term.put({RPC.Capabilities, :gone@h1}, false)
      assert RPC.Capabilities.lookup(:gone@h1) == false
      :ok = Supervisor.terminate_child(PhoenixGenApi.Supervisor, RPC.Capabilities)
      assert RPC.Capabilities.lookup(:gone@h1) == :unknown
      assert ask(node(), {:return, :none}) == {:ok, false}
      assert RPC.Capabilities.lookup(node()) == :unknown

      :persistent_term.put({RPC.Capabilities, :gone@h1}, false)
      {:ok, _pid} = Supervisor.restart_child(PhoenixGenApi.Supervisor, RPC.Capabilities)
      assert RPC.Capabilities.lookup(:gone@h1) == :unknown
    end

    test "is unknown when the answer is none, and nothing was sent" do
      assert ask(:a@h1, {:node_down, :noconnection}) == :not_connected

      for outcome <- [:timeout, :unreachable, :not_connected, {:raised, :exit, :x, []}],
          do: assert(ask(:a@h1, outcome) == outcome)
    end

    defp ask(node, outcome) do
      RPC.Capabilities.discover(node, fn question ->
        assert question == {RPC.Server, :agree, [RPC.Server.protocols()]}
        outcome
      end)
    end
  end
end
