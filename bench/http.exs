Code.require_file("support/harness.ex", __DIR__)
client = Code.require_file("support/http.ex", __DIR__)

defmodule Bench.Http do
  @moduledoc """
  Requests over HTTP with Bandit, against a bare plug that reads the same body and answers the same; then what
  open streams take, and how soon the function of a client that is gone ends.

  The client is a VM of its own, with one connection to each of the two, that asks one after the other.
  """

  import Bench.Harness

  alias Bench.Http.{Client, Server}
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Structs.{FunConfig, StreamHelper}

  @compile {:no_warn_undefined, Server}

  @rounds 61
  @requests 400
  @streams 1_000
  @dropped 100

  def run(compiled) do
    if Code.ensure_loaded?(Server),
      do: measure(List.keyfind(compiled, Client, 0)),
      else: IO.puts("\nNothing to measure: Bandit is not installed (MIX_ENV=test has it).")
  end

  defp measure({Client, code}) do
    with_room_for_streams()
    # As in a release.
    :ok = :phoenix_gen_api |> Application.spec(:modules) |> Code.ensure_all_loaded()
    :logger.set_primary_config(:level, :error)
    register()
    port = Server.start()
    {:ok, peer, _node} = :peer.start(%{connection: :standard_io, args: paths()})
    {:module, _} = :peer.call(peer, :code, :load_binary, [Client, ~c"http.ex", code])

    processor()
    latencies(peer, port)
    memory = streams(peer, port)
    drops(peer, port)
    figures([{"memory of one open stream of events, server side, KB", memory, nil}])
  end

  # One user has all of them.
  defp with_room_for_streams do
    :ok = Application.stop(:phoenix_gen_api)

    Application.put_env(:phoenix_gen_api, :worker_pool,
      stream_pool_size: 2 * @streams,
      user_share: 1.0
    )

    {:ok, _} = Application.ensure_all_started(:phoenix_gen_api)
  end

  defp paths, do: for(path <- :code.get_path(), do: [~c"-pa", path]) |> Enum.concat()

  defp register do
    functions = [
      %FunConfig{
        request_type: "price",
        mfa: {Server, :price, []},
        arg_types: [{"item", :string}, {"quantity", :integer}]
      },
      %FunConfig{
        request_type: "feed",
        mfa: {__MODULE__, :feed, [self()]},
        response_type: :stream,
        request_info: true,
        timeout: :infinity
      }
    ]

    for config <- functions, do: :ok = ConfigDb.add(%{config | service: "bench", nodes: :local})
  end

  @doc "Tells who it is, and waits."
  def feed(bench, %StreamHelper{} = out) do
    StreamHelper.send_result(out, "first")
    send(bench, {:feeding, self(), out})

    receive do
      :never -> :ok
    end
  end

  # -- the plugs alone

  # What they take of the processor, without a server, a socket and a client, which take ten times as much. In short turns, of
  # which the quickest tenth is what counts: in the others something else ran on these cores.
  defp processor do
    options = PhoenixGenApi.Plug.init([])
    alternatives = [{"bare plug", "bare"}, {"PhoenixGenApi.Plug", "gen_api"}]

    rounds =
      Task.async(fn ->
        in_rounds(alternatives, 1_001, fn {_name, path} -> turn(path, options, 40) end)
      end)
      |> Task.await(:infinity)

    [bare, own] =
      for {name, _path} <- alternatives, do: rounds |> Enum.map(& &1[name]) |> quantile(0.1)

    IO.puts("\n#### One request through each plug, with nothing around it\n")
    table(["", "quickest tenth"], [["bare plug", us(bare)], ["PhoenixGenApi.Plug", us(own)]])
    figures([{"added to one request through the plug, µs", (own - bare) / 1_000, {:at_most, 20}}])
  end

  defp turn(path, options, count) do
    began = :erlang.monotonic_time(:nanosecond)
    for _ <- 1..count, do: Server.call(Server.conn(path), options)
    (:erlang.monotonic_time(:nanosecond) - began) / count
  end

  # -- one request at a time

  defp latencies(peer, port) do
    alternatives = [
      {"bare plug", "/bare/bench/price"},
      {"PhoenixGenApi.Plug", "/gen_api/bench/price"}
    ]

    [one, other] = for {_name, path} <- alternatives, do: call(peer, :answer, [port, path])
    ^one = other
    for {_name, path} <- alternatives, do: call(peer, :times, [port, path, 3_000])

    samples =
      in_rounds(alternatives, @rounds, fn {_name, path} ->
        call(peer, :times, [port, path, @requests])
      end)

    [bare, own] =
      for {name, _path} <- alternatives, do: samples |> Enum.flat_map(& &1[name]) |> Enum.sort()

    IO.puts(
      "\n#### One request at a time on one connection, #{length(own)} of each, in turns of #{@requests}\n"
    )

    table(["", "p50", "p90", "p99"], [
      ["bare plug" | quantiles(bare)],
      ["PhoenixGenApi.Plug" | quantiles(own)],
      ["added" | for(q <- [0.5, 0.9, 0.99], do: us(at(own, q) - at(bare, q)))]
    ])

    [first, last] =
      for {name, _path} <- alternatives, do: Enum.map(samples, &(&1[name] |> Enum.sort()))

    by_round =
      for q <- [0.5, 0.99],
          do:
            first
            |> Enum.zip(last)
            |> Enum.map(fn {a, b} -> at(b, q) - at(a, q) end)
            |> Enum.sort()
            |> at(0.5)

    [p50, p99] = by_round

    figures([
      {"added to p50, median of the rounds, µs", p50 / 1_000, {:at_most, 20}},
      {"added to p99, median of the rounds, µs", p99 / 1_000, {:at_most, 40}}
    ])
  end

  defp quantiles(sorted), do: for(q <- [0.5, 0.9, 0.99], do: us(at(sorted, q)))
  defp at(sorted, q), do: Enum.at(sorted, min(trunc(length(sorted) * q), length(sorted) - 1))
  defp us(ns), do: "#{Float.round(ns / 1_000, 1)} µs"

  # -- streams

  defp streams(peer, port) do
    settle()
    before = memory()
    call(peer, :open, [port, "/gen_api/bench/feed", @streams])
    for _ <- 1..@streams, do: receive(do: ({:feeding, _pid, _out} -> :ok))
    settle()
    now = memory()
    IO.puts("\n#### #{@streams} open streams of events\n")

    table(["", "before", "with them", "each"], [
      row("memory of the VM", before.total, now.total),
      row("of its processes", before.processes, now.processes),
      row("resident", before.rss, now.rss)
    ])

    call(peer, :close, [])
    (now.total - before.total) / @streams / 1_024
  end

  defp row(name, before, now) do
    mb = &"#{Float.round(&1 / 1_048_576, 1)} MB"
    [name, mb.(before), mb.(now), "#{Float.round((now - before) / @streams / 1_024, 1)} KB"]
  end

  defp settle do
    Process.sleep(1_000)
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
  end

  defp memory do
    [_, kb] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))

    %{
      total: :erlang.memory(:total),
      processes: :erlang.memory(:processes),
      rss: String.to_integer(kb) * 1_024
    }
  end

  # -- clients that are gone

  defp drops(peer, port) do
    times =
      for _ <- 1..@dropped do
        call(peer, :open, [port, "/gen_api/bench/feed", 1])
        {pid, out} = receive(do: ({:feeding, pid, out} -> {pid, out}))
        monitor = Process.monitor(pid)
        call(peer, :close, [])
        # The system has to have heard of it.
        Process.sleep(20)
        began = System.monotonic_time()
        StreamHelper.send_result(out, "next")
        receive(do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> :ok))
        System.convert_time_unit(System.monotonic_time() - began, :native, :microsecond) / 1_000
      end
      |> Enum.sort()

    figures([
      {"from the next frame to the end of a function whose client is gone, median, ms",
       at(times, 0.5), nil},
      {"the same, the longest of #{@dropped}, ms", List.last(times), {:at_most, 100}}
    ])
  end

  defp call(peer, function, args), do: :peer.call(peer, Client, function, args, :infinity)
end

Bench.Http.run(client)
