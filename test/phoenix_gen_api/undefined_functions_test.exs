defmodule PhoenixGenApi.UndefinedFunctionsTest do
  # Functions that configs name and nobody has.
  use PhoenixGenApi.Test.OwnVM

  import ExUnit.CaptureLog

  alias PhoenixGenApi.{ConfigDb, ConfigFailed, ConfigPuller, ConfigPusher}
  alias PhoenixGenApi.{Diagnostics, Executor}
  alias PhoenixGenApi.{Relay, UndefinedFunctions}
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, ServiceConfig}
  alias PhoenixGenApi.Test.{Directory, Functions}

  @moduletag :capture_log

  setup do
    ConfigDb.clear()
    ConfigFailed.clear()
    on_exit(&ConfigDb.clear/0)
  end

  defp config(fields) do
    struct!(
      %FunConfig{service: "s", request_type: "t", nodes: :local, mfa: {NoSuch.Api, :find, []}},
      fields
    )
  end

  defp health, do: Diagnostics.health_check().checks.phoenix_gen_api.config_db

  test "a function of the gateway that is not there is stored, with one warning that names it" do
    log = capture_log(fn -> assert ConfigDb.add(config(arg_types: %{"a" => :num})) == :ok end)
    assert log =~ "[warning] s has functions that #{node()} does not: NoSuch.Api.find/1"
    assert length(String.split(log, "NoSuch.Api.find/1")) == 2

    assert [%{reason: ["undefined_function: NoSuch.Api.find/1"], source: :direct}] =
             ConfigFailed.list()

    assert %{status: :warning, undefined: ["NoSuch.Api.find/1"], reason: reason} = health()
    assert reason =~ "NoSuch.Api.find/1"

    # The error names it too.
    log =
      capture_log(fn ->
        Executor.execute!(Functions.request(service: "s", request_type: "t", args: %{"a" => 1}))
      end)

    assert log =~ "function NoSuch.Api.find/1 is undefined"

    # Once it is there nobody complains.
    assert ConfigDb.add(config(mfa: {String, :upcase, ["x"]})) == :ok
    assert %{status: :ok, undefined: []} = health()
    ConfigDb.add(config([]))
    ConfigDb.delete("s", "t")
    assert %{undefined: []} = health()
  end

  test "the arity is that of the call" do
    for {fields, arity} <- [
          {[], 0},
          {[arg_orders: :map], 0},
          {[arg_types: [{"a", :num}, {"b", :num}]], 2},
          {[arg_types: %{"a" => :num, "b" => :num}, arg_orders: :map], 1},
          {[mfa: {NoSuch.Api, :find, [1, 2]}, request_info: true], 3},
          {[arg_types: :junk], 0}
        ] do
      assert UndefinedFunctions.name(config(fields)) == "NoSuch.Api.find/#{arity}"
    end
  end

  test "those of a batch are named in one line" do
    configs = for n <- 1..20, do: config(request_type: "t#{n}", mfa: {NoSuch.Api, :"f#{n}", []})
    log = capture_log(fn -> assert ConfigDb.batch_add(configs) == {:ok, 20} end)
    assert [line] = log |> String.split("\n") |> Enum.filter(&(&1 =~ "NoSuch.Api"))
    assert line =~ "and 15 more"
    assert ConfigFailed.count() == 20
  end

  test "functions that are there, and those of the relay, are no news" do
    relay = [
      mfa: {Relay, :handle_relay, []},
      arg_types: [{"group_id", :string}, {"message", :any}]
    ]

    log =
      capture_log(fn ->
        assert ConfigDb.add(config(mfa: {String, :upcase, ["x"]})) == :ok
        assert ConfigDb.add(config(relay)) == :ok
        assert ConfigDb.add(config(relay ++ [arg_orders: :map])) == :ok
        # Of other nodes nothing is known here.
        assert ConfigDb.add(config(nodes: [:nobody@nowhere])) == :ok
      end)

    refute log =~ "has functions"
    assert ConfigFailed.count() == 0
  end

  test "those of a pull are named once and recorded each time" do
    {:ok, agent} = Agent.start_link(fn -> %{} end)

    functions = [
      config(
        nodes: [node()],
        request_type: "a",
        mfa: {String, :no_such, []},
        arg_types: %{"x" => :num}
      ),
      config(nodes: [node()], request_type: "b", mfa: {String, :upcase, ["x"]})
    ]

    Agent.update(agent, fn _ -> %{list: fn -> {:ok, functions} end} end)

    source = %ServiceConfig{
      service: "s",
      nodes: [node()],
      module: Directory,
      function: :answer,
      args: [agent, :list]
    }

    on_exit(fn -> ConfigPuller.delete([source]) end)

    PhoenixGenApi.Test.Events.forward([[:phoenix_gen_api, :config, :pull, :stop]], fn _,
                                                                                      _,
                                                                                      meta ->
      {:pulled, meta.service}
    end)

    pulled = fn -> assert_receive {:pulled, "s"} end
    log = capture_log(fn -> ConfigPuller.add([source]) && pulled.() end)
    assert log =~ "a 0.0.0: String.no_such/1 does not exist there"
    assert [%{request_type: "a", source: :pull}] = ConfigFailed.list()
    assert %{undefined: ["String.no_such/1"]} = health()

    refute capture_log(fn -> ConfigPuller.force_pull() && pulled.() end) =~ "no_such"
    assert [%{times: 2}] = ConfigFailed.list()
    Agent.update(agent, fn _ -> %{list: fn -> {:ok, tl(functions)} end} end)
    ConfigPuller.force_pull()
    pulled.()
    assert %{undefined: []} = health()
  end

  test "a pusher refuses to push those of its own node" do
    push = %PushConfig{
      service: "s",
      nodes: [node()],
      config_version: "1",
      fun_configs: [
        config(nodes: [node()]),
        config(nodes: [to_string(node())], request_type: "u", mfa: {String, :no_such, [1]}),
        config(nodes: [:other@h], request_type: "v"),
        config(nodes: [node()], request_type: "w", mfa: {String, :upcase, ["x"]})
      ]
    }

    assert ConfigPusher.push(node(), push) ==
             {:error, {:undefined_functions, ["NoSuch.Api.find/0", "String.no_such/1"]}}

    assert ConfigDb.count() == 0
  end
end
