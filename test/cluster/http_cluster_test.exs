defmodule PhoenixGenApi.HttpClusterTest do
  # HTTP where functions run on other nodes, and where Mix does not run.
  use ExUnit.Case, async: true

  import PhoenixGenApi.Test.HttpRequests

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Http
  alias PhoenixGenApi.Http.Inets
  alias PhoenixGenApi.Test.{Cluster, Functions, Streams}

  @moduletag :capture_log

  setup_all do
    {_peer, node} = peer = Cluster.start_peer()
    on_exit(fn -> Cluster.stop_peer(peer) end)
    %{peer: peer, node: node}
  end

  defp register(node, function, arguments, fields) do
    config = Functions.remote(node, function, arguments, fields)
    :ok = ConfigDb.add(config)
    on_exit(fn -> ConfigDb.delete("remote", config.request_type) end)
    config.request_type
  end

  defp gone(pid) do
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
  end

  test "a function of another node ends with the process that waits for its answer", %{node: node} do
    for response_type <- [:sync, :async] do
      type = register(node, :wait_for, [self()], timeout: :infinity, response_type: response_type)
      caller = spawn(fn -> ask(post("remote", type)) end)
      assert_receive {:running, function, ^node}
      Process.exit(caller, :kill)
      gone(function)
    end
  end

  test "a deadline ends a function of another node", %{node: node} do
    type = register(node, :wait_for, [self()], timeout: :infinity)
    request = post("remote", type, %{}, headers: [{"x-deadline-ms", "1000"}])

    assert {504, _, %{"code" => "timeout", "details" => [%{"executed" => "unknown"}]}} =
             ask(request)

    assert_receive {:running, function, ^node}
    gone(function)
  end

  test "a stream of another node pauses with its reader, and ends with it", %{node: node} do
    mfa = {Streams, :endless, [self()]}
    type = register(node, :hang, [], mfa: mfa, response_type: :stream, timeout: :infinity)
    {200, _headers, {:stream, chunks}} = Http.handle(post("remote", type))
    assert_receive {:function, function, nil}
    assert [chunk | _] = Enum.take(chunks, 3)
    assert chunk =~ "\"result\":1"
    gone(function)
  end

  test "the server of OTP wants to be allowed where Mix does not run", %{peer: peer} do
    start = fn options -> Cluster.call(peer, Inets, :start_link, [options]) end
    assert_raise ArgumentError, ~r/needs allow: true/, fn -> start.([]) end
    assert {:ok, _server} = start.(allow: true)
  end
end
