# See README.md; run with bench/run.
Logger.configure(level: :error)

[work, client, _server] =
  for file <- ~w(work.ex client.ex server.ex), do: Code.compile_file(file, __DIR__)

defmodule Bench do
  alias Bench.Client
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Structs.FunConfig

  @pairs 4_000
  @rounds 5
  @slices 15
  @throughput_ms 1_000
  @frames 50_000
  @idle_sockets 1_000

  def run(work, client) do
    client = start_node(:bench_client, client)
    {_peer, service} = start_node(:bench_service, work)
    :persistent_term.put(:bench_service, service)
    true = Node.connect(service)
    port = start_endpoint()
    register("quote", :local)
    register("quote_floor", :local, :infinity)
    register("quote_remote", [service])

    heading()
    latency(client, port)
    throughput(client, port)
    rooms(client, port)
    memory(client, port)
  end

  # A VM of its own, on one core, with these modules.
  defp start_node(name, modules) do
    paths = Enum.flat_map(:code.get_path(), &[~c"-pa", &1])
    name = :"#{name}_#{System.pid()}"

    {:ok, peer, node} =
      :peer.start_link(%{
        name: name,
        host: ~c"127.0.0.1",
        longnames: true,
        connection: :standard_io,
        args: [~c"+S", ~c"1:1", ~c"-setcookie", Atom.to_charlist(Node.get_cookie()) | paths]
      })

    for {module, binary} <- modules do
      {:module, _} = :peer.call(peer, :code, :load_binary, [module, ~c"bench", binary])
    end

    {peer, node}
  end

  defp start_endpoint do
    Application.put_env(:gateway, Bench.Endpoint,
      adapter: Bandit.PhoenixAdapter,
      http: [ip: {127, 0, 0, 1}, port: 0],
      check_origin: false,
      pubsub_server: Gateway.PubSub,
      server: true
    )

    {:ok, _pid} = Bench.Endpoint.start_link()
    {:ok, {_address, port}} = Bench.Endpoint.server_info(:http)
    port
  end

  defp register(type, nodes, timeout \\ 5_000) do
    :ok =
      ConfigDb.add(%FunConfig{
        service: "bench",
        request_type: type,
        nodes: nodes,
        mfa: {Bench.Work, :quote, []},
        timeout: timeout,
        arg_types: [{"item", {:string, 40}}, {"quantity", [type: :integer, min: 1, max: 99]}],
        check_permission: :any_authenticated
      })
  end

  defp request(channel \\ "api", event, type) do
    Client.request(channel, event, %{
      "service" => "bench",
      "request_type" => type,
      "request_id" => "r1",
      "args" => %{"item" => "tea", "quantity" => 3}
    })
  end

  defp on({peer, _node}, function, args), do: :peer.call(peer, Client, function, args, :infinity)

  defp heading do
    version = &(&1 |> Application.spec(:vsn) |> to_string())

    IO.puts("""
    Elixir #{System.version()}, OTP #{System.otp_release()}, Phoenix #{version.(:phoenix)}, \
    Bandit #{version.(:bandit)}, JSON: #{inspect(Phoenix.json_library())}; \
    #{System.schedulers_online()} schedulers; the client is a VM of its own on the same cores.
    """)
  end

  defp latency(client, port) do
    IO.puts("""
    ## One socket, one request at a time

    | | directly, p50 | p99 | through the library, p50 | p99 | added, p50 | added, p99 |
    |---|---|---|---|---|---|---|\
    """)

    for {title, direct, type} <- [
          {"on the gateway", "direct", "quote"},
          {"on another node", "direct_remote", "quote_remote"}
        ] do
      frames = [request(direct, type), request("api", type)]
      same!(client, port, frames)
      rounds = for _ <- 1..@rounds, do: on(client, :latency, [port, frames, @pairs])

      figures =
        for [direct, library] <- rounds do
          [d50, d99, l50, l99] =
            for times <- [direct, library], percent <- [50, 99], do: percentile(times, percent)

          [d50, d99, l50, l99, l50 - d50, l99 - d99]
        end

      cells = figures |> Enum.zip_with(&median/1) |> Enum.map(&"#{round(&1 / 1000)} µs")
      IO.puts("| #{title} | #{Enum.join(cells, " | ")} |")
    end
  end

  defp throughput(client, port) do
    IO.puts("""

    ## Many sockets, each with one request at a time

    The floor is the library's pipeline inside the channel's process, with nothing that could end it.

    | sockets | directly, requests/s | floor, of that | through the library, of that | of the floor |
    |---|---|---|---|---|\
    """)

    frames = [
      request("direct", "quote"),
      request("floor", "quote_floor"),
      request("api", "quote")
    ]

    same!(client, port, frames)

    for sockets <- [100, 1_000] do
      rates = on(client, :throughput, [port, frames, sockets, @slices, @throughput_ms])
      [direct, _floor, _library] = Enum.zip_with(rates, &median/1)

      ratios =
        for of <- [
              fn [d, f, _] -> f / d end,
              fn [d, _, l] -> l / d end,
              fn [_, f, l] -> l / f end
            ],
            do: rates |> Enum.map(of) |> median() |> Float.round(3)

      IO.puts("| #{sockets} | #{round(direct)} | #{Enum.join(ratios, " | ")} |")
    end

    IO.puts("""

    On another node, against a bare `:erpc.call/5` in the channel:

    | sockets | directly, requests/s | through the library, of that |
    |---|---|---|\
    """)

    frames = [request("direct_remote", "quote"), request("api", "quote_remote")]

    for sockets <- [100, 1_000] do
      rates = on(client, :throughput, [port, frames, sockets, @slices, @throughput_ms])
      [direct, _library] = Enum.zip_with(rates, &median/1)
      ratio = rates |> Enum.map(fn [direct, library] -> library / direct end) |> median()
      IO.puts("| #{sockets} | #{round(direct)} | #{Float.round(ratio, 3)} |")
    end
  end

  # Until every socket has read every frame: the client, on the same cores, takes its part in all three.
  defp rooms(client, port) do
    IO.puts("""

    ## Messages of 100 bytes to everybody in a room

    Frames that all sockets have received, per second; the ratio that of each pair.

    | sockets | `Endpoint.broadcast`, frames/s | fastlane, of that | through the channels, of that |
    |---|---|---|---|\
    """)

    text = String.duplicate("x", 100)

    for sockets <- [1_000, 5_000] do
      rooms =
        for way <- ["plain", "fast", "through"] do
          listeners = on(client, :listen, [port, way, sockets])

          if way != "plain" do
            {:ok, %{members: members}} = PhoenixGenApi.Relay.get_group_info(way)
            sender = members |> Map.keys() |> hd()
            :persistent_term.put({Bench.Rooms, way}, {:ok, %{owner: sender}})
          end

          {way, listeners}
        end

      messages = div(@frames, sockets)

      rates =
        for n <- 0..@slices do
          rooms = if rem(n, 2) == 0, do: rooms, else: Enum.reverse(rooms)

          Map.new(rooms, fn {way, listeners} ->
            began = System.monotonic_time()
            for _ <- 1..messages, do: Bench.Rooms.say(way, text)
            :ok = on(client, :heard, [listeners, messages])
            took = System.monotonic_time() - began

            {way,
             sockets * messages / System.convert_time_unit(took, :native, :microsecond) * 1.0e6}
          end)
        end

      # The first one warms up.
      rates = tl(rates)
      plain = rates |> Enum.map(& &1["plain"]) |> median()

      ratios =
        for way <- ["fast", "through"],
            do: rates |> Enum.map(&(&1[way] / &1["plain"])) |> median() |> Float.round(2)

      IO.puts("| #{sockets} | #{round(plain)} | #{Enum.join(ratios, " | ")} |")
      for {_way, {pid, _listeners}} <- rooms, do: on(client, :close, [pid])
      Process.sleep(2_000)
    end
  end

  defp memory(client, port) do
    IO.puts("""

    ## Memory of an idle socket

    That of the processes of #{@idle_sockets} sockets, once they have hibernated, with the binaries that they hold.

    | | processes | memory |
    |---|---|---|\
    """)

    for {title, channel, frame} <- [
          {"a plain channel, joined", "plain", nil},
          {"the library's, joined", "api", nil},
          {"a plain channel, after a request", "plain", request("plain", "direct", "quote")},
          {"the library's, after a request", "api", request("api", "quote")}
        ] do
      {processes, bytes} = per_socket(client, port, channel, frame)
      IO.puts("| #{title} | #{processes} | #{bytes} bytes |")
    end
  end

  defp per_socket(client, port, channel, frame) do
    before = MapSet.new(Process.list())
    pid = on(client, :open, [port, channel, frame, @idle_sockets])
    # Phoenix and the library hibernate after 15 seconds.
    Process.sleep(17_000)
    new = Enum.reject(Process.list(), &(&1 in before))
    bytes = new |> Enum.map(&bytes/1) |> Enum.sum()
    on(client, :close, [pid])
    Process.sleep(2_000)
    {Float.round(length(new) / @idle_sockets, 1), round(bytes / @idle_sockets)}
  end

  # The connection's process does not hibernate; what it holds depends on when it last collected.
  defp bytes(pid) do
    case Process.info(pid, :current_function) do
      {:current_function, {_module, hibernated, _arity}}
      when hibernated in [:hibernate, :loop_hibernate] ->
        :ok

      _awake ->
        :erlang.garbage_collect(pid)
    end

    with [memory: memory, binary: binaries] <- Process.info(pid, [:memory, :binary]) do
      memory + (binaries |> Enum.map(&elem(&1, 1)) |> Enum.sum())
    else
      nil -> 0
    end
  end

  # Both ways must do the work, and give the same answer.
  defp same!(client, port, frames) do
    replies = for frame <- frames, do: on(client, :reply, [port, "api", frame])
    [%{"status" => "ok", "response" => %{"result" => %{"total" => 15}}}] = Enum.uniq(replies)
  end

  defp percentile(times, percent) do
    times |> Enum.sort() |> Enum.at(div(length(times) * percent, 100))
  end

  defp median(numbers), do: percentile(numbers, 50)
end

Bench.run(work, client)
