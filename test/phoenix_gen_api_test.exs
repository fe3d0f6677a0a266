defmodule PhoenixGenApiTest do
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Config, NodeSelector}
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  defp put_env(section, value) do
    before = Application.get_env(:phoenix_gen_api, section)
    Application.put_env(:phoenix_gen_api, section, value)

    on_exit(fn ->
      if before,
        do: Application.put_env(:phoenix_gen_api, section, before),
        else: Application.delete_env(:phoenix_gen_api, section)

      :ok = PhoenixGenApi.reload_config()
    end)
  end

  test "a changed config is in force after reload_config" do
    put_env(:gen_api, detail_error: true)
    refute Config.get(:gen_api, :detail_error)
    assert PhoenixGenApi.reload_config() == :ok
    assert Config.get(:gen_api, :detail_error)
  end

  test "a wrong config changes nothing and is answered with sentences" do
    put_env(:gen_api, detail_error: "yes")
    assert {:error, [sentence]} = PhoenixGenApi.reload_config()
    assert sentence =~ "detail_error" and sentence =~ ~s("yes")
    assert Config.get(:gen_api, :detail_error) == false
  end

  test "reload_config changes how many sticky values are remembered" do
    put_env(:node_selector, sticky_max_entries: 1)
    assert PhoenixGenApi.reload_config() == :ok
    # What other tests have left goes with the next cleanup.
    :ok = NodeSelector.cleanup_sticky_table()

    config = %FunConfig{
      service: "sticky",
      request_type: "t",
      nodes: [:a@h1, :b@h1],
      mfa: {Kernel, :self, []},
      choose_node_mode: {:sticky, "k"}
    }

    for value <- ["x", "y", "z"] do
      request = %Request{request_id: "1", args: %{"k" => value}}
      assert {:ok, _node} = NodeSelector.get_node(config, request)
    end

    {:ok, selector} = PhoenixGenApi.Gateway.handle(:node_selector)
    assert {1, _bytes} = PhoenixGenApi.Native.node_selector_size(selector)
  end

  test "telemetry of requests can be attached and detached" do
    parent = self()
    handler = fn event, _measurements, _metadata, _config -> send(parent, event) end
    assert PhoenixGenApi.attach_telemetry("front-door", handler) == :ok
    request = %Request{request_id: "1", service: "nobody", request_type: "nothing"}
    PhoenixGenApi.Executor.execute!(request)
    assert_received [:phoenix_gen_api, :executor, :request, :start]
    assert_received [:phoenix_gen_api, :executor, :request, :stop]
    assert PhoenixGenApi.detach_telemetry("front-door") == :ok
    PhoenixGenApi.Executor.execute!(request)
    refute_received [:phoenix_gen_api, :executor, :request, :start]
  end
end
