Code.require_file("support/harness.ex", __DIR__)
# Where Phoenix is not installed.
Code.ensure_loaded?(Phoenix.Channel) ||
  Code.require_file("../test/support/phoenix_channel.ex", __DIR__)

# Who has sockets has it; what is missing would be looked for on the disk again and again.
unless Code.ensure_loaded?(Phoenix) do
  defmodule Phoenix do
    def json_library, do: JSON
  end
end

defmodule Bench.Hostile do
  @moduledoc """
  Honest clients beside a hostile one. Twenty honest clients send requests over channels of their
  own, at a rate that the machine serves with ease; in every other half of a round a client does
  one of the things that a client must not gain anything by. Figures are the latency of the honest
  requests, from the payload at the channel to the frame at the process of the connection, and
  the most memory that the VM held.
  """

  import Bench.Harness

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Structs.{FunConfig, StreamHelper}

  defmodule Channel do
    use PhoenixGenApi, event: "api"
  end

  defmodule Serializer do
    def encode!(message), do: {:frame, message.payload.request_id, JSON.encode!(message.payload)}
  end

  defmodule Functions do
    @large String.duplicate("x", 5_000_000)
    @item String.duplicate("x", 1_000_000)
    @long String.duplicate("9", 900_000) |> String.to_integer()

    def quick(text), do: text
    def slow(_text), do: Process.sleep(:infinity)
    def large(_text), do: @large
    def long(_text), do: @long

    def endless(_text, out),
      do: Enum.each(Stream.cycle([@item]), &StreamHelper.send_result(out, &1))

    def idle(_text, _out), do: Process.sleep(:infinity)
  end

  @service "hostile"
  @clients 20
  @pause_ms 100
  @half_ms 4_000
  @rounds 5

  def run do
    for {type, fields} <- [
          quick: [],
          slow: [timeout: 100],
          large: [],
          long: [],
          endless: [response_type: :stream, request_info: true, timeout: 60_000],
          idle: [response_type: :stream, request_info: true, timeout: 60_000]
        ] do
      :ok =
        ConfigDb.add(
          struct!(
            %FunConfig{
              service: @service,
              request_type: "#{type}",
              nodes: :local,
              mfa: {Functions, type, []},
              arg_types: %{"text" => :string},
              arg_orders: ["text"]
            },
            fields
          )
        )
    end

    results = for {label, reads?, attack} <- attacks(), do: measure(label, reads?, attack)

    table(
      ["a client that", "p99 alone", "p99 beside it", "ratio", "errors", "memory beside it"],
      for r <- results do
        [
          r.label,
          us(r.alone),
          us(r.beside),
          ratio(r),
          "#{r.errors}",
          "+#{div(r.memory, 1_000_000)} MB"
        ]
      end
    )

    figures(
      for r <- results,
          do:
            {"p99 beside a client that #{r.label}", {:times, r.beside / r.alone}, {:at_most, 2.0}}
    )
  end

  defp ratio(r), do: :erlang.float_to_binary(r.beside / r.alone, decimals: 2)
  defp us(ns), do: "#{div(round(ns), 1_000)} us"

  # {what the client does, whether it reads, what it sends to a channel in a while}
  defp attacks do
    [
      {"sends calls that run into their timeout", true, &request(&1, "slow", "x")},
      {"asks for 5 MB again and again and does not read", false, &request(&1, "large", "x")},
      {"asks for streams of 1 MB items and does not read", false, &request(&1, "endless", "x")},
      {"asks for streams until nothing is left", true, &request(&1, "idle", "x")},
      {"asks for integers of 900,000 digits", true, &request(&1, "long", "x")},
      {"sends integers of 5,000 digits", true, &request(&1, "quick", Integer.pow(10, 5_000))},
      {"sends what is no request", true, &push(&1, %{"request_id" => [1]})},
      {"cancels what it has not asked for", true,
       &push(&1, %{"request_id" => "c", "cancel" => true})}
    ]
  end

  defp measure(label, reads?, attack) do
    # Whose code is loaded by then.
    half(attack, reads?)

    rounds =
      in_rounds([{:alone}, {:beside}], @rounds, fn
        {:alone} -> half(nil, reads?)
        {:beside} -> half(attack, reads?)
      end)

    beside = Enum.map(rounds, & &1.beside)

    %{
      label: label,
      alone: median_of(rounds, & &1.alone.p99),
      beside: median_of(rounds, & &1.beside.p99),
      errors: Enum.sum_by(beside, & &1.errors),
      memory: rounds |> Enum.map(&max(&1.beside.memory - &1.alone.memory, 0)) |> Enum.max()
    }
  end

  defp half(attack, reads?) do
    attacker = attack && spawn(fn -> attacker(attack, reads?) end)
    watch = Task.async(fn -> most_memory(0) end)
    clients = for n <- 1..@clients, do: Task.async(fn -> honest("honest-#{n}") end)
    {latencies, errors} = clients |> Task.await_many(:infinity) |> Enum.unzip()
    send(watch.pid, :stop)
    memory = Task.await(watch)
    if attacker, do: stop(attacker)

    %{
      p99: latencies |> List.flatten() |> quantile(0.99),
      errors: Enum.sum(errors),
      memory: memory
    }
  end

  defp most_memory(most) do
    receive do
      :stop -> most
    after
      10 -> most_memory(max(most, :erlang.memory(:total)))
    end
  end

  defp honest(user) do
    channel = join(user, self())
    Process.sleep(:rand.uniform(@pause_ms))
    ends = System.monotonic_time(:millisecond) + @half_ms
    result = ask(channel, ends, [], 0)
    Process.exit(channel, :kill)
    result
  end

  defp ask(channel, ends, latencies, errors) do
    if System.monotonic_time(:millisecond) >= ends do
      {latencies, errors}
    else
      started = System.monotonic_time(:nanosecond)
      id = request(channel, "quick", "hello")

      {took, error} =
        receive do
          {:frame, ^id, frame} ->
            {System.monotonic_time(:nanosecond) - started,
             if(JSON.decode!(frame)["success"], do: 0, else: 1)}
        end

      Process.sleep(@pause_ms)
      ask(channel, ends, [took | latencies], errors + error)
    end
  end

  # Six channels of one connection, and some 500 messages a second. When the gateway closes the
  # connection, it comes again.
  defp attacker(attack, reads?) do
    Process.flag(:trap_exit, true)
    connect(attack, reads?)
  end

  defp connect(attack, reads?) do
    connection = spawn_link(fn -> if reads?, do: swallow(), else: Process.sleep(:infinity) end)
    storm(connection, for(_ <- 1..6, do: join("mallory", connection)), attack, reads?)
  end

  defp storm(connection, channels, attack, reads?) do
    for n <- 1..50, do: attack.(Enum.at(channels, rem(n, 6)))

    receive do
      {:EXIT, ^connection, _reason} ->
        connect(attack, reads?)

      {:stop, from} ->
        Process.exit(connection, :kill)
        send(from, {:stopped, self()})
    after
      100 -> storm(connection, channels, attack, reads?)
    end
  end

  defp stop(attacker) do
    send(attacker, {:stop, self()})

    receive do
      {:stopped, ^attacker} -> Process.sleep(300)
    end
  end

  defp swallow do
    receive do
      _frame -> swallow()
    end
  end

  defp request(channel, type, text) do
    id = "r#{System.unique_integer([:positive])}"

    push(channel, %{
      "service" => @service,
      "request_type" => type,
      "request_id" => id,
      "args" => %{"text" => text}
    })

    id
  end

  defp push(channel, payload), do: send(channel, {:in, payload})

  # As Phoenix runs a channel.
  defp join(user, connection) do
    spawn(fn ->
      monitor = Process.monitor(connection)

      loop(monitor, %Phoenix.Socket{
        assigns: %{user_id: user},
        channel: Channel,
        channel_pid: self(),
        joined: true,
        join_ref: "1",
        serializer: Serializer,
        topic: "api:1",
        transport_pid: connection
      })
    end)
  end

  defp loop(monitor, socket) do
    receive do
      {:in, payload} ->
        Channel.handle_in("api", payload, %{socket | ref: "1"})
        loop(monitor, socket)

      {:DOWN, ^monitor, :process, _pid, _reason} ->
        :gone

      message ->
        Channel.handle_info(message, socket)
        loop(monitor, socket)
    end
  end
end

Logger.configure(level: :emergency)
Bench.Hostile.run()
