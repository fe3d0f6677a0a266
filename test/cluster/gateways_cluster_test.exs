defmodule PhoenixGenApi.GatewaysClusterTest do
  # Who sees which gateways, and what watchers are told.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, Cluster}
  alias PhoenixGenApi.Test.Cluster, as: Nodes

  @moduletag :capture_log

  setup do
    Nodes.start_distribution()
    :ok
  end

  defp start_watched_gateway do
    # Those of other tests have gone.
    Await.until(fn -> Cluster.gateways() == [] end)
    assert Cluster.watch() == []
    gateway = {_peer, name} = Nodes.start_peer(app: [client_mode: false])
    assert_receive {Cluster, :joined, ^name}, 30_000
    gateway
  end

  test "a gateway is seen from its start to its end, and a node in client mode never" do
    gateway = {_peer, name} = start_watched_gateway()
    assert Cluster.gateways() == [name]
    Await.until(fn -> Nodes.call(gateway, Cluster, :gateways, []) == [node()] end)

    client = {_peer, client_name} = Nodes.start_peer(app: [client_mode: true])
    assert Nodes.call(client, Cluster, :gateways, []) == []

    Nodes.stop_peer(gateway)
    assert_receive {Cluster, :left, ^name}, 30_000
    assert Cluster.gateways() == []
    refute_received {Cluster, _, ^client_name}
  end

  test "an application that restarts on a running node leaves and joins" do
    gateway = {_peer, name} = start_watched_gateway()
    assert Nodes.call(gateway, :application, :stop, [:phoenix_gen_api]) == :ok
    assert_receive {Cluster, :left, ^name}, 30_000
    assert Nodes.call(gateway, :application, :start, [:phoenix_gen_api]) == :ok
    assert_receive {Cluster, :joined, ^name}, 30_000
    assert Cluster.gateways() == [name]
  end

  test "a connection that breaks and comes back is a gateway that leaves and joins" do
    {_peer, name} = start_watched_gateway()
    Node.disconnect(name)
    assert_receive {Cluster, :left, ^name}, 30_000
    true = Node.connect(name)
    assert_receive {Cluster, :joined, ^name}, 30_000
  end

  test "a crash of the watching process loses no watcher and no gateway" do
    gateway = {_peer, name} = start_watched_gateway()
    Await.until(fn -> Nodes.call(gateway, Cluster, :gateways, []) == [node()] end)

    kill(Cluster)
    # What may have been missed is caught up with; the watcher is still one.
    assert_receive {Cluster, :joined, ^name}, 30_000
    refute_received {Cluster, :left, ^name}
    assert Nodes.call(gateway, Cluster, :gateways, []) == [node()]

    Nodes.stop_peer(gateway)
    assert_receive {Cluster, :left, ^name}, 30_000
  end

  test "after a crash of the scope every gateway is found again" do
    gateway = {_peer, name} = start_watched_gateway()
    kill(Cluster.Scope)
    assert_receive {Cluster, :joined, ^name}, 30_000
    Await.until(fn -> Nodes.call(gateway, Cluster, :gateways, []) == [node()] end)
  end

  test "a gateway whose new scope is known before the end of its old one is none that has left" do
    gateway = {_peer, name} = start_watched_gateway()
    member = Nodes.call(gateway, Process, :whereis, [PhoenixGenApi.Supervisor])
    # Messages of a new scope may overtake the death of the old one, as nothing orders signals of
    # two processes. For this node another process of the gateway that has the same member is both.
    other = Nodes.call(gateway, :erlang, :spawn, [:timer, :sleep, [:infinity]])
    GenServer.cast(Cluster.Scope, {:sync, other, [gateways: [member]]})
    assert_receive {Cluster, :joined, ^name}, 30_000
    assert times_joined(member) == 2

    Process.exit(other, :kill)
    Await.until(fn -> times_joined(member) == 1 end)
    # Each of them has dealt with what it got before.
    for process <- [Cluster.Scope, Cluster], do: :sys.get_state(process)
    assert Cluster.gateways() == [name]
    refute_received {Cluster, :left, ^name}

    Nodes.stop_peer(gateway)
    assert_receive {Cluster, :left, ^name}, 30_000
    assert Cluster.gateways() == []
  end

  defp times_joined(member),
    do: Enum.count(:pg.get_members(Cluster.Scope, :gateways), &(&1 == member))

  test "the application outlives any number of deaths of the supervisor of both" do
    above = Process.whereis(PhoenixGenApi.Supervisor)

    for _ <- 1..20 do
      {Cluster, pid, :supervisor, _} =
        above |> Supervisor.which_children() |> List.keyfind(Cluster, 0)

      scope = Process.whereis(Cluster.Scope)
      Process.exit(pid, :kill)
      Await.until(fn -> Process.whereis(Cluster.Scope) not in [nil, scope] end)
      Await.until(fn -> Process.whereis(Cluster) != nil end)
    end

    assert Process.whereis(PhoenixGenApi.Supervisor) == above
  end

  test "a process that has ended is no longer a watcher" do
    task = Task.async(&Cluster.watch/0)
    Task.await(task, :infinity)
    Await.until(fn -> :ets.lookup(Cluster, {:watcher, task.pid}) == [] end)
  end

  defp kill(name) do
    pid = Process.whereis(name)
    Process.exit(pid, :kill)
    Await.until(fn -> Process.whereis(name) not in [nil, pid] end)
  end
end
