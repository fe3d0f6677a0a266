defmodule PhoenixGenApi.TlsClusterTest do
  # What the guide Deployment says about TLS, with its own commands. The peers speak TLS with each
  # other; this node, which does not, talks to them over a connection of its own.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{BootAudit, ConfigDb, ConfigPusher, ConfigReceiver, Executor}
  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.Test.{Cluster, Functions}

  @moduletag :capture_log
  @moduletag :tmp_dir
  if System.find_executable("openssl") == nil, do: @moduletag(skip: "openssl is not installed")

  # The commands of the guide; what follows the comment that names this file.
  defp commands do
    [_, rest] =
      "guides/deployment.md"
      |> File.read!()
      |> String.split("<!-- run by test/cluster/tls_cluster_test.exs -->")

    [_, commands | _] = String.split(rest, ["```sh\n", "```\n"])
    commands
  end

  defp certificates(dir) do
    File.mkdir_p!(dir)
    {output, status} = System.cmd("sh", ["-ec", commands()], cd: dir, stderr_to_stdout: true)
    assert {status, output} == {0, output}
  end

  # A node that is not connected to this one.
  defp start(name, conf, opts \\ []) do
    Cluster.start_distribution()
    node = Cluster.node_name(name)
    cookie = opts[:cookie] || Node.get_cookie()

    {:ok, peer, ^node} =
      :peer.start_link(%{
        name: node |> Atom.to_string() |> String.split("@") |> hd() |> String.to_charlist(),
        host: ~c"127.0.0.1",
        longnames: true,
        connection: {{127, 0, 0, 1}, 0},
        wait_boot: 120_000,
        args:
          [~c"-proto_dist", ~c"inet_tls", ~c"-ssl_dist_optfile", String.to_charlist(conf)] ++
            Cluster.Pool.arguments(true, cookie)
      })

    started = {peer, node}
    :ok = Cluster.call(started, :logger, :set_primary_config, [:level, :none])
    started
  end

  defp app({_, _} = peer, env) do
    for {key, value} <- env,
        do: :ok = Cluster.call(peer, Application, :put_env, [:phoenix_gen_api, key, value])

    {:ok, _} = Cluster.call(peer, Application, :ensure_all_started, [:phoenix_gen_api])
    # Starting Logger has set it again.
    :ok = Cluster.call(peer, :logger, :set_primary_config, [:level, :none])
  end

  defp connects?(peer, {_, node}), do: Cluster.call(peer, Node, :connect, [node])

  test "nodes with certificates of one authority connect, push and call", %{tmp_dir: dir} do
    certificates(dir)
    gateway = {_, gw} = start("gateway", Path.join(dir, "gateway.conf"))
    books = {_, node} = start("books", Path.join(dir, "books.conf"))
    app(gateway, [])
    app(books, client_mode: true, service_guard: true)

    config = %FunConfig{
      service: "remote",
      request_type: "t",
      nodes: [node],
      mfa: {Functions, :node_name, []}
    }

    push = ConfigPusher.from_service_config("remote", [node], [config], config_version: "1")
    assert Cluster.call(books, ConfigPusher, :push, [gw, push]) == {:ok, :accepted}
    assert Cluster.call(gateway, ConfigReceiver, :verify, ["remote", "1"]) == {:ok, :matched}
    assert {:ok, _} = Cluster.call(gateway, ConfigDb, :get, ["remote", "t"])

    request = %Request{request_id: "r1", request_type: "t", service: "remote"}
    assert %{success: true, result: ^node} = Cluster.call(gateway, Executor, :execute!, [request])

    assert %{tls: true, distributed: true} = Cluster.call(gateway, BootAudit, :facts, [])
    refute BootAudit.facts().tls
  end

  test "a node without TLS, the authority's certificate or the cookie is not let in", %{
    tmp_dir: dir
  } do
    own = Path.join(dir, "own")
    other = Path.join(dir, "other")
    for dir <- [own, other], do: certificates(dir)
    books = {_, node} = start("books", Path.join(own, "books.conf"))

    assert Node.connect(node) == false
    refute connects?(start("stranger", Path.join(other, "gateway.conf")), books)
    refute connects?(start("gateway", Path.join(own, "gateway.conf"), cookie: :another), books)
    assert connects?(start("gateway", Path.join(own, "gateway.conf")), books)
  end
end
