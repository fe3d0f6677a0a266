defmodule PhoenixGenApi.DoctorClusterTest do
  # Faults in real nodes, found from this one as a gateway and by the task.
  use PhoenixGenApi.Test.OwnVM

  alias Mix.Tasks.PhoenixGenApi.Doctor, as: Task
  alias PhoenixGenApi.{Await, Config, ConfigDb, ConfigFailed, Doctor, Offers}
  alias PhoenixGenApi.Doctor.Connection
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.Test.{Cluster, Offering}

  import Offering, only: [function: 2, function: 3]

  @moduletag :capture_log

  setup do
    Cluster.start_distribution()
    {:ok, _started} = Application.ensure_all_started(:mix)
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)

    on_exit(fn ->
      Mix.shell(shell)
      for key <- [:push_token, :gen_api], do: Application.delete_env(:phoenix_gen_api, key)
      :ok = Config.load()
      # The nodes of the test are gone, and with their services nothing begins the next one.
      Await.until(fn -> Enum.all?(Offers.Store.services(), &(Offers.Store.up(&1) == [])) end)
      for service <- Offers.Store.services(), do: Offers.Sources.superseded(service)
      Await.until(fn -> Offers.Store.services() == [] end)
      ConfigDb.clear()
      ConfigFailed.clear()
    end)

    %{service: "doctor-#{System.unique_integer([:positive])}"}
  end

  defp ids(findings, node),
    do: for(%{id: id, node: ^node} <- findings, do: id)

  defp named(node) do
    [short, host] = node |> Atom.to_string() |> String.split("@")
    {short, host}
  end

  test "faults of running nodes are found, each on its node", %{service: service} do
    token = "a token that nobody may see"
    Application.put_env(:phoenix_gen_api, :push_token, token)
    {_, node} = peer = Offering.start_node(env: [push_token: "another " <> token])

    assert {:ok, _pid} = Offering.offer(peer, [function(service, "where")])
    assert {:error, %{}} = Offering.await(peer, service)

    # A function that the node does not have, and a node that there is not.
    missing = %FunConfig{
      service: service,
      request_type: "missing",
      nodes: [node],
      mfa: {Nowhere, :find, []}
    }

    gone = %{missing | request_type: "gone", nodes: [:"gone@127.0.0.1"]}
    {:ok, 2} = ConfigDb.batch_add([missing, gone])

    findings = Doctor.examine()
    refute :no_answer in ids(findings, node), inspect(findings)
    assert :undefined_functions in ids(findings, node)
    assert :refused_offer in ids(findings, node)
    assert :unreachable in ids(findings, node())
    assert :push_token in ids(findings, nil)
    assert :no_tls in ids(findings, node)
    assert :guard_off in ids(findings, node)

    text = Enum.map_join(findings, &Doctor.format/1)
    assert text =~ "Nowhere.find/0"
    assert text =~ "gone@127.0.0.1"
    refute text =~ token
  end

  test "different definitions of a function are found", %{service: service} do
    peers = Cluster.start_peers([Offering.options([]), Offering.options([])])

    for {peer, timeout} <- Enum.zip(peers, [1_000, 2_000]) do
      {:ok, _pid} = Offering.offer(peer, [function(service, "where", timeout: timeout)])
      assert Offering.await(peer, service) == :ok
    end

    Await.until(fn -> :differing_definitions in ids(Doctor.examine(), node()) end)
  end

  test "what stands in the way of a connection is named" do
    assert [%{id: :name}] = Connection.findings("shop")
    assert [%{id: :name_kind}] = Connection.findings("shop@host")
    assert [%{id: :host}] = Connection.findings("shop@no.such.host.invalid")
    assert [%{id: :epmd}] = Connection.findings("shop@127.111.111.111") |> epmd()
    assert [%{id: :not_registered, what: what}] = Connection.findings("nobody@127.0.0.1")
    assert what =~ node() |> named() |> elem(0) or what =~ "more"

    {_, node} = Cluster.start_peer(connect: false)
    Node.set_cookie(node, :wrong)
    assert [%{id: :cookie}] = Connection.findings(Atom.to_string(node))
    Node.set_cookie(node, Node.get_cookie())
    assert Connection.findings(Atom.to_string(node)) == []
  end

  # Where epmd listens on all addresses of the loopback network, it answers there, too.
  defp epmd([%{id: :not_registered} = finding]), do: [%{finding | id: :epmd}]
  defp epmd(findings), do: findings

  test "the task examines a node, and its exit status says whether there are errors" do
    {_, node} = Cluster.start_peer(app: [])
    name = Atom.to_string(node)
    # Warnings alone are no failure, unless they are to be one.
    assert Enum.all?(:erpc.call(node, Doctor, :examine, []), &(&1.level == :warning))
    assert Task.run(["--node", name]) == :ok
    assert catch_exit(Task.run(["--node", name, "--strict"])) == {:shutdown, 1}
    assert catch_exit(Task.run(["--node", "nobody@127.0.0.1"])) == {:shutdown, 1}
    assert_raise Mix.Error, ~r/unexpected: x --nodes/, fn -> Task.run(["--nodes", "x"]) end
  end
end
