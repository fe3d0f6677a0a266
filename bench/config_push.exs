Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)
Code.require_file("support/latency.ex", __DIR__)
Code.require_file("support/nodes.ex", __DIR__)
Code.require_file("../test/support/await.ex", __DIR__)

{:module, _, service, _} =
  defmodule Bench.ConfigPush.Service do
    @moduledoc "What runs on the service node."
    alias PhoenixGenApi.ConfigPusher

    def keep(push), do: :persistent_term.put({__MODULE__, push.service}, push)

    @doc "The answer, and how long it took in nanoseconds."
    def push(gateway, name, version, force?) do
      push = %{:persistent_term.get({__MODULE__, name}) | config_version: version}
      start = :erlang.monotonic_time(:nanosecond)
      answer = ConfigPusher.push(gateway, push, timeout: 30_000, force: force?)
      {answer, :erlang.monotonic_time(:nanosecond) - start}
    end
  end

defmodule Bench.ConfigPush do
  @moduledoc """
  10,000 configs in one push from a service node: how long until they are accepted, by one
  gateway and by three; what requests and the pushes of others notice; what a push costs that
  changes nothing.

  All nodes are on this machine and share its cores. The node of the script is the gateway that
  is pushed to, so that its requests can be timed.
  """

  import Bench.Harness

  alias Bench.ConfigPush.Service
  alias Bench.{Latency, Nodes}
  alias PhoenixGenApi.{Await, ConfigDb, ConfigPusher, ConfigReceiver}

  @configs 10_000
  @rounds 9

  def run(code) do
    Nodes.start_distribution()
    Logger.configure(level: :error)
    service = Nodes.start(client_mode: true)
    {:module, Service} = Nodes.call(service, :code, :load_binary, [Service, ~c"bench", code])
    :ok = ConfigDb.add(Bench.Gateway.config())

    many = prepare(service, "many", @configs)
    few = prepare(service, "few", 10)

    alone = for _ <- 1..@rounds, do: push(service, many)
    alone_few = for _ <- 1..@rounds, do: push(service, few)
    quiet_busy = for round <- 1..@rounds, do: noticed(round, service, many)
    behind = for _ <- 1..@rounds, do: beside(service, many, few)
    nothing = for _ <- 1..@rounds, do: nothing(service, many)
    {small_octets, small_messages} = octets(service, many, false)
    {octets, _} = octets(service, many, true)

    others = for _ <- 1..2, do: Nodes.start(client_mode: false)
    Await.until(fn -> length(PhoenixGenApi.Nodes.gateways()) == 2 end)
    three = for _ <- 1..@rounds, do: agreed(service, many, others)
    three_few = for _ <- 1..@rounds, do: agreed(service, few, others)

    IO.puts(
      "\n#### a request (lookup and three arguments) while nothing, or a push of #{@configs}, goes on\n"
    )

    table(
      ["", "p50", "p99", "p99.9", "longest"],
      for {name, label} <- [quiet: "nothing", busy: "push"] do
        each = fn key -> median_of(quiet_busy, & &1[name][key]) end
        [label | for(key <- [:p50, :p99, :p999, :max], do: ns(each.(key)))]
      end
    )

    caused = for round <- quiet_busy, do: round.busy.p99 - round.quiet.p99
    median = fn times -> {:ns, quantile(times, 0.5)} end
    second = 1_000_000_000

    figures([
      {"#{@configs} configs accepted by one gateway", median.(alone), {:at_most, second}},
      {"10 configs accepted by one gateway", median.(alone_few), nil},
      {"p99 of a request that a push of #{@configs} causes", {:ns, max(0, quantile(caused, 0.5))},
       {:at_most, 1_000_000}},
      {"10 configs of another service accepted meanwhile", median.(behind), {:at_most, second}},
      {"#{@configs} configs on three gateways, all with them", median.(three),
       {:at_most, second}},
      {"the slowest of these", {:ns, Enum.max(three)}, nil},
      {"10 configs on three gateways, all with them", median.(three_few), {:at_most, second}},
      {"a push of #{@configs} that changes nothing", median.(nothing), nil},
      {"octets it sends", small_octets, {:at_most, 1_500}},
      {"packets it sends", small_messages, {:at_most, 4}},
      {"octets of one that does", octets, nil}
    ])
  end

  # The push is kept on the service node: neither building it nor getting it there is measured.
  defp prepare(service, name, count) do
    configs =
      for n <- 1..count, do: Bench.Gateway.config(service: name, request_type: "get_thing_#{n}")

    push = ConfigPusher.from_service_config(name, [:nowhere@nohost], configs, config_version: "0")
    :ok = Nodes.call(service, Service, :keep, [push])
    {name, count}
  end

  # Every push is of a new version, unless it is to change nothing.
  defp push(service, {name, count}, version \\ version()) do
    {{:ok, :accepted}, time} =
      Nodes.call(service, Service, :push, [node(), name, version, false])

    ^count = map_size(ConfigDb.get_functions_from_services(name)[name])
    time
  end

  defp noticed(round, service, many) do
    quiet = fn -> Process.sleep(400) end
    halves = in_turn([quiet: quiet, busy: fn -> push(service, many) end], round)
    for {name, work} <- halves, into: %{}, do: {name, elem(Latency.during(work), 1)}
  end

  # Begun when the large one has just reached the gateway and is being taken in.
  defp beside(service, many, few) do
    large = Task.async(fn -> push(service, many) end)
    Await.until(fn -> :ets.member(PhoenixGenApi.ConfigSync.ServiceLock, elem(many, 0)) end)
    time = push(service, few)
    nil = Task.yield(large, 0)
    Task.await(large, :infinity)
    time
  end

  defp nothing(service, {name, _count}) do
    version = ConfigReceiver.get_all_pushed_services()[name]

    {{:ok, :skipped, :version_matches}, time} =
      Nodes.call(service, Service, :push, [node(), name, version, false])

    time
  end

  # What it takes until all have it is what the pusher waits for; it is checked at once.
  defp agreed(service, {name, count} = what, others) do
    version = version()
    time = push(service, what, version)

    for other <- others do
      %{^name => ^version} = Nodes.call(other, ConfigReceiver, :get_all_pushed_services, [])
      functions = Nodes.call(other, ConfigDb, :get_functions_from_services, [name])
      ^count = map_size(functions[name])
    end

    time
  end

  defp octets(service, {name, _count}, force?) do
    version = ConfigReceiver.get_all_pushed_services()[name]
    before = sent(service)
    {_answer, _time} = Nodes.call(service, Service, :push, [node(), name, version, force?])
    {octets, packets} = sent(service)
    {octets - elem(before, 0), packets - elem(before, 1)}
  end

  defp sent(service) do
    {_, port} =
      List.keyfind(Nodes.call(service, :erlang, :system_info, [:dist_ctrl]), node(), 0)

    {:ok, stats} = Nodes.call(service, :inet, :getstat, [port, [:send_oct, :send_cnt]])
    {stats[:send_oct], stats[:send_cnt]}
  end

  defp version, do: "1.#{System.unique_integer([:positive, :monotonic])}.0"
end

Bench.ConfigPush.run(service)
