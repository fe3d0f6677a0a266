Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/pubsub.ex", __DIR__)

defmodule Bench.RelayPubSub do
  @moduledoc """
  A message to a group against a broadcast of Phoenix to the same processes, as the same frame.

  Phoenix is given a finished payload and has nobody's permission to check. The relay looks
  whether the sender may send, makes a response with the time in it, and answers.
  """

  import Bench.Harness

  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Relay.Fastlane
  alias PhoenixGenApi.Structs.{Request, Response}

  @compile {:no_warn_undefined, Bench.PubSub}

  @rounds 41
  @messages_per_round 15_000
  @passes_at_most 200
  @sizes [10, 100, 1_000, 10_000]
  @lost_after_ms 10_000

  @topic "chat:1"
  @event "chat"
  @serializer Phoenix.Socket.V2.JSONSerializer
  @text "hello, everybody in this room"

  def run do
    if Code.ensure_loaded?(Bench.PubSub),
      do: compare_all(),
      else: IO.puts("\nNothing to compare with: Phoenix is not installed.")
  end

  defp compare_all do
    # What Phoenix takes unless told otherwise, and what comes with Elixir.
    figures(
      for json <- [Jason, JSON],
          Code.ensure_loaded?(json),
          size <- @sizes,
          figure <- sized(json, size),
          do: figure
    )
  end

  defp sized(json, size) do
    Application.put_env(:phoenix, :json_library, json)
    group = "#{json} #{size}"
    pubsub = Bench.PubSub.start([one(), pool()])
    counter = :atomics.new(1, [])
    members = members(group, size, counter)
    alternatives = alternatives(group, size)
    :ok = same_frames(alternatives, members, counter)

    passes = min(@passes_at_most, div(@messages_per_round, size))
    samples = Task.async(fn -> rounds(alternatives, counter, size, passes) end)
    samples = Task.await(samples, :infinity)
    :ok = everything_arrived(members, length(alternatives) * (1 + @rounds * passes))

    :ok = Relay.delete_group(group)
    :ok = Supervisor.stop(pubsub)
    ended(members)
    show("#{size} members, frames by #{inspect(json)}", alternatives, samples)
    verdicts("#{size} members, #{inspect(json)}", samples)
  end

  ## The two sides

  defp alternatives(group, size) do
    request = %Request{
      request_id: "r1",
      user_id: "user-1",
      args: %{"group_id" => group, "message" => @text}
    }

    payload = payload(group)
    broadcast = fn name -> fn -> Bench.PubSub.broadcast(name, @topic, @event, payload) end end

    [
      request: fn -> %{success: true} = Relay.handle_relay(request, nil) end,
      trusted: fn -> {:ok, ^size} = Relay.send_to_group(group, "user-1", @text) end,
      one: broadcast.(one()[:name]),
      pool: broadcast.(pool()[:name])
    ]
  end

  defp one, do: [name: Bench.PubSub.One]
  defp pool, do: [name: Bench.PubSub.Pool, pool_size: System.schedulers_online()]

  defp label(:request), do: "handle_relay/2"
  defp label(:trusted), do: "send_to_group/3"
  defp label(:one), do: "Endpoint.broadcast/3"
  defp label(:pool), do: "the same, pool_size: #{System.schedulers_online()}"

  # A map without a protocol of its own: nothing is quicker to write as JSON.
  defp payload(group) do
    Map.from_struct(
      Response.sync_response("r1", %{
        "group_id" => group,
        "from_user_id" => "user-1",
        "message" => @text,
        "timestamp" => DateTime.to_iso8601(DateTime.utc_now())
      })
    )
  end

  ## Members

  # Each stands for a transport and for the channel that is joined on it.
  defp members(group, size, counter) do
    [first | rest] = for n <- 1..size, do: spawn(fn -> member(group, n, counter) end)
    # The creator of the group is in it before the others.
    for pid <- [first | rest] do
      send(pid, {:join, self()})
      receive do: ({:joined, ^pid} -> pid)
    end
  end

  defp member(group, n, counter) do
    receive do
      {:join, from} ->
        for [{:name, name} | _pool] <- [one(), pool()],
            do: Bench.PubSub.subscribe(name, @topic, self(), @serializer)

        # A registry walks its topic for each subscriber that ends: minutes for all of them.
        {:links, registries} = Process.info(self(), :links)
        Enum.each(registries, &Process.unlink/1)

        :ok =
          Fastlane.open(
            Bench.PubSub.socket(@topic, self(), @serializer),
            @event,
            Application.get_env(:phoenix, :json_library, JSON)
          )

        :ok = join(group, "user-#{n}", n)
        send(from, {:joined, self()})
        count(counter, 0, nil)
    end
  end

  defp join(group, user, 1), do: Relay.create_group(group, :public, user, self())

  defp join(group, user, _n) do
    {:ok, :active} = Relay.join_group(group, user, self())
    :ok
  end

  defp count(counter, got, last) do
    receive do
      {:socket_push, :text, frame} ->
        :atomics.add(counter, 1, 1)
        count(counter, got + 1, frame)

      {:told, from} ->
        send(from, {self(), got, last})
        count(counter, got, last)
    end
  end

  defp ended(members) do
    for pid <- members do
      monitor = Process.monitor(pid)
      Process.exit(pid, :kill)
      receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
    end
  end

  defp told(pid) do
    send(pid, {:told, self()})
    receive do: ({^pid, got, last} -> {got, last})
  end

  ## Checks

  defp same_frames(alternatives, members, counter) do
    frames =
      for {name, fun} <- alternatives do
        wanted = :atomics.get(counter, 1) + length(members)
        fun.()
        await(counter, wanted, deadline())
        {name, for({_got, frame} <- Enum.map(members, &told/1), uniq: true, do: frame)}
      end

    [same] = for {_name, [frame]} <- frames, uniq: true, do: comparable(frame)
    [nil, nil, @topic, @event, %{"result" => %{"message" => @text}}] = same
    :ok
  end

  # A message of the server has no request, and the time goes on.
  defp comparable(frame) do
    [nil, nil, topic, event, payload] = JSON.decode!(IO.iodata_to_binary(frame))
    payload = Map.delete(payload, "request_id")
    [nil, nil, topic, event, Map.update!(payload, "result", &Map.delete(&1, "timestamp"))]
  end

  defp everything_arrived(members, wanted) do
    for pid <- members, {got, _last} = told(pid), got != wanted do
      raise "#{inspect(pid)} got #{got} of #{wanted} messages"
    end

    :ok
  end

  ## Measuring

  # Nanoseconds of the call alone, and until all members have counted the message.
  defp rounds(alternatives, counter, size, passes) do
    for round <- 1..@rounds do
      # Each comes first as often as last, and after each of the others.
      {last, first} = Enum.split(alternatives, rem(div(round, 2), length(alternatives)))

      (first ++ last)
      |> in_turn(round)
      |> Map.new(fn {name, fun} -> {name, timed(fun, counter, size, passes)} end)
    end
  end

  defp timed(fun, counter, size, passes) do
    :erlang.garbage_collect()
    deadline = deadline()

    {calls, all} =
      Enum.reduce(1..passes, {0, 0}, fn _pass, {calls, all} ->
        wanted = :atomics.get(counter, 1) + size
        start = :erlang.monotonic_time(:nanosecond)
        fun.()
        called = :erlang.monotonic_time(:nanosecond)
        await(counter, wanted, deadline)
        {calls + called - start, all + :erlang.monotonic_time(:nanosecond) - start}
      end)

    {calls / passes, all / passes}
  end

  defp await(counter, wanted, deadline) do
    if :atomics.get(counter, 1) < wanted do
      if :erlang.monotonic_time(:millisecond) > deadline, do: raise("messages are missing")
      :erlang.yield()
      await(counter, wanted, deadline)
    end
  end

  defp deadline, do: :erlang.monotonic_time(:millisecond) + @lost_after_ms

  ## Results

  defp show(title, alternatives, samples) do
    IO.puts("\n#### one message to #{title}\n")

    table(
      ["", "call", "until delivered"],
      for {name, _fun} <- alternatives do
        [label(name) | for(at <- [0, 1], do: ns(median_of(samples, &elem(&1[name], at))))]
      end
    )
  end

  # Against the default, which is what an application has that configures nothing.
  defp verdicts(title, samples) do
    Enum.flat_map([:request, :trusted], fn ours ->
      times = fn at -> median_of(samples, &(elem(&1.one, at) / elem(&1[ours], at))) end
      text = "#{title}: #{label(:one)} against #{label(ours)}"

      [
        {text <> ", until delivered", {:times, times.(1)}, {:at_least, 1.0}},
        {text <> ", call", {:times, times.(0)}, {:at_least, 1.3}}
      ]
    end)
  end
end

Bench.RelayPubSub.run()
