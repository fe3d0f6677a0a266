Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/nodes.ex", __DIR__)
Code.require_file("../test/support/await.ex", __DIR__)

{:module, _, shop, _} =
  defmodule Bench.Services.Shop do
    @moduledoc "An application of a service node: its `Service` is the last child of what starts last."
    use Application

    alias PhoenixGenApi.Executor
    alias PhoenixGenApi.Service
    alias PhoenixGenApi.Structs.{FunConfig, Request}

    @impl true
    def start(_type, []) do
      children = [{Service, functions: Application.fetch_env!(:bench_shop, :functions)}]
      Supervisor.start_link(children, strategy: :one_for_one)
    end

    @doc "Starts the application; when that was, in microseconds of the clock of this machine."
    def start_app(functions) do
      :application.load(
        {:application, :bench_shop,
         [mod: {__MODULE__, []}, applications: [:kernel, :stdlib, :phoenix_gen_api], modules: []]}
      )

      Application.put_env(:bench_shop, :functions, functions)
      at = System.os_time(:microsecond)
      :ok = Application.start(:bench_shop)
      at
    end

    def stop_app, do: Application.stop(:bench_shop)

    def function(service, type, fields \\ []) do
      struct!(
        %FunConfig{
          service: service,
          request_type: type,
          nodes: :service,
          mfa: {__MODULE__, :work, []},
          arg_types: %{"id" => [type: :integer, min: 0]}
        },
        fields
      )
    end

    # A query.
    def work(id) do
      Process.sleep(5)
      {:ok, id}
    end

    @doc "On a gateway: when the first request succeeded."
    def first_success(service, type) do
      request = %Request{
        request_id: "r",
        service: service,
        request_type: type,
        args: %{"id" => 1}
      }

      if Executor.execute!(request).success do
        System.os_time(:microsecond)
      else
        Process.sleep(1)
        first_success(service, type)
      end
    end
  end

defmodule Bench.Services do
  @moduledoc """
  How long until what a node offers can be called, what an unchanged offer costs, and requests
  that fail while the nodes of a service restart one after the other.

  All nodes are on this machine and share its cores. The node of the script is one of three gateways.
  """

  import Bench.Harness

  alias Bench.Nodes
  alias Bench.Services.Shop
  alias PhoenixGenApi.{Await, Executor, Service}
  alias PhoenixGenApi.Structs.Request

  @rounds 40
  @many 1_000
  # Requests in a second.
  @rate 500

  def run(code) do
    Nodes.start_distribution()
    Logger.configure(level: :error)
    others = for _ <- 1..2, do: start([client_mode: false], code)
    shop = start([client_mode: true], code)
    for {_, node} <- others, do: true = Nodes.call(shop, Node, :connect, [node])

    # The first one loads the code of it on all four nodes, which a release has done at its start.
    [cold | first] = for n <- 0..@rounds, do: first_request(shop, others, "first-#{n}", 1)
    many = for n <- 1..7, do: first_request(shop, others, "many-#{n}", @many)
    {fetched, announced} = octets(shop)

    figures([
      {"from the start of the child to the first request on the last of three gateways, the first time in these VMs",
       {:ns, 1_000 * Enum.max(cold)}, nil},
      {"the same afterwards, median of #{3 * @rounds}",
       {:ns, 1_000 * quantile(Enum.concat(first), 0.5)}, nil},
      {"the same, 99th percentile", {:ns, 1_000 * quantile(Enum.concat(first), 0.99)},
       {:at_most, 100_000_000}},
      {"#{@many} functions on three gateways, from the start to the last one, median of 7",
       {:ns, 1_000 * quantile(Enum.map(many, &Enum.max/1), 0.5)}, {:at_most, 1_000_000_000}},
      {"octets of #{@many} functions that a gateway does not know", fetched, nil},
      {"octets of an offer that it knows", announced, {:at_most, div(fetched, 10)}}
    ])

    deployments(code)
  end

  defp start(env, code) do
    one = Nodes.start(env)
    {:module, Shop} = Nodes.call(one, :code, :load_binary, [Shop, ~c"bench", code])
    one
  end

  # Microseconds until each gateway has had a success.
  defp first_request(shop, others, service, count) do
    functions = for n <- 1..count, do: Shop.function(service, "f#{n}")
    last = "f#{count}"

    waiting =
      [Task.async(Shop, :first_success, [service, last])] ++
        for peer <- others,
            do: Task.async(fn -> Nodes.call(peer, Shop, :first_success, [service, last]) end)

    at = Nodes.call(shop, Shop, :start_app, [functions])
    times = for time <- Task.await_many(waiting, 60_000), do: time - at
    Nodes.call(shop, Shop, :stop_app, [])
    times
  end

  defp octets({_, node} = shop) do
    functions = for n <- 1..@many, do: Shop.function("octets", "f#{n}")

    octets =
      for _ <- 1..2 do
        before = sent(shop)
        Nodes.call(shop, Shop, :start_app, [functions])
        Await.until(fn -> match?(%{^node => %{state: :up}}, Service.nodes("octets")) end)
        octets = sent(shop) - before
        Nodes.call(shop, Shop, :stop_app, [])
        Await.until(fn -> Service.nodes("octets") == %{} end)
        octets
      end

    List.to_tuple(octets)
  end

  # Over the connection of the two, read here: to ask there would count.
  defp sent({_, node}) do
    {_, port} = List.keyfind(:erlang.system_info(:dist_ctrl), node, 0)
    {:ok, stats} = :inet.getstat(port, [:recv_oct])
    stats[:recv_oct]
  end

  ## Deployments

  defp deployments(code) do
    nodes = for _ <- 1..3, do: deploy(code, 1)
    for node <- nodes, do: Await.until(fn -> up?(node) end)

    {nodes, changed} = under_load("f", fn -> replace_each(nodes, code, 2) end)
    {nodes, added} = under_load("f", fn -> replace_each(nodes, code, 3) end)
    {nodes, killed} = under_load("f", fn -> kill_each(nodes, code) end)
    {_nodes, retried} = under_load("retried", fn -> kill_each(nodes, code) end)

    rows = [
      {"SIGTERM to each in turn, with a changed definition", changed},
      {"SIGTERM to each in turn, with an added version", added},
      {"kill -9 of each in turn", killed},
      {"kill -9 of each in turn, functions with `retry: 2`", retried}
    ]

    IO.puts("")

    table(
      ["three nodes, #{@rate} requests in a second", "requests", "failed", "failed otherwise"],
      for {label, {all, failed, otherwise}} <- rows do
        [label, "#{all}", "#{failed}", "#{otherwise}"]
      end
    )

    IO.puts("\n\"failed otherwise\": not `unavailable` with `executed: \"unknown\"`.")
  end

  defp generation(n) do
    id = [type: :integer, min: 0, max: 1_000_000 + n]

    [
      Shop.function("shop", "f", arg_types: %{"id" => id}),
      Shop.function("shop", "retried", retry: 2)
    ] ++ if(n >= 3, do: [Shop.function("shop", "f", version: "2.0.0")], else: [])
  end

  defp deploy(code, n) do
    peer = start([client_mode: true], code)
    Nodes.call(peer, Shop, :start_app, [generation(n)])
    peer
  end

  # As Kubernetes does: a new one, and then the end of an old one.
  defp replace_each(peers, code, n) do
    for old <- peers do
      new = deploy(code, n)
      Await.until(fn -> up?(new) end)
      signal(old, "TERM")
      new
    end
  end

  defp kill_each(peers, code) do
    for old <- peers do
      signal(old, "KILL")
      new = deploy(code, 3)
      Await.until(fn -> up?(new) end)
      new
    end
  end

  defp up?({_, node}), do: match?(%{^node => %{state: :up}}, Service.nodes("shop"))

  defp signal({_, node} = peer, signal) do
    pid = peer |> Nodes.call(:os, :getpid, []) |> to_string()
    {_, 0} = System.cmd("kill", ["-#{signal}", pid])
    Await.until(fn -> node not in Node.list() end)
  end

  # Requests come at their time, whatever became of those before.
  defp under_load(type, work) do
    {:ok, answers} = Agent.start(fn -> [] end)
    source = spawn(fn -> send_on(type, System.monotonic_time(:microsecond), 0, answers) end)
    result = work.()
    Process.sleep(500)
    Process.exit(source, :kill)
    # The last ones.
    Process.sleep(6_000)
    all = Agent.get(answers, & &1)
    Agent.stop(answers)
    failed = Enum.reject(all, & &1.success)
    unknown = [%{"executed" => "unknown"}]
    otherwise = Enum.reject(failed, &(&1.code == "unavailable" and &1.details == unknown))
    if otherwise != [], do: IO.inspect(Enum.frequencies_by(otherwise, &{&1.code, &1.details}))
    {result, {length(all), length(failed), length(otherwise)}}
  end

  defp send_on(type, start, n, answers) do
    due = start + div(n * 1_000_000, @rate)
    wait = div(due - System.monotonic_time(:microsecond), 1_000)
    if wait > 0, do: Process.sleep(wait)

    spawn(fn ->
      request = %Request{
        request_id: "r#{n}",
        service: "shop",
        request_type: type,
        args: %{"id" => n}
      }

      answer = Executor.execute!(request)
      Agent.update(answers, &[answer | &1])
    end)

    send_on(type, start, n + 1, answers)
  end
end

Bench.Services.run(shop)
