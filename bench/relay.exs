Code.require_file("support/harness.ex", __DIR__)

# The frame that Phoenix's serializers are given, where Phoenix itself is not installed.
unless Code.ensure_loaded?(Phoenix.Socket.Broadcast) do
  defmodule Phoenix.Socket.Broadcast do
    @moduledoc false
    defstruct [:topic, :event, :payload]
  end
end

defmodule Bench.Relay do
  @moduledoc "Groups: fan-out against a bare send loop, changes among many memberships, memory."

  import Bench.Harness

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Structs.Request

  @rounds 21

  def run do
    Application.put_env(:phoenix_gen_api, :relay, max_members: 1_000_000, max_groups: 1_000_000)
    :ok = PhoenixGenApi.reload_config()
    1_000_000 = Config.get(:relay, :max_members)

    figures(fan_out() ++ small_group() ++ changes() ++ busy_group() ++ memory())
  end

  # A member that counts what it gets, and tells `done` when it has got `wanted` in all.
  defp member(counter) do
    spawn(fn -> count(counter) end)
  end

  defp count(counter) do
    receive do
      {:socket_push, :text, _frame} -> :atomics.add(counter, 1, 1)
      {:relay_message, _response} -> :atomics.add(counter, 1, 1)
    end

    count(counter)
  end

  defp await(counter, wanted) do
    if :atomics.get(counter, 1) < wanted do
      :erlang.yield()
      await(counter, wanted)
    end
  end

  defmodule Serializer do
    @moduledoc false
    def fastlane!(broadcast) do
      {:socket_push, :text,
       JSON.encode_to_iodata!([nil, nil, broadcast.topic, broadcast.event, broadcast.payload])}
    end
  end

  defp joining(pid) do
    {pid, pid, Relay.Fastlane.lane(Serializer, "chat:1", "chat", JSON)}
  end

  defp group(id, members) do
    relay = Gateway.handle!(:relay)
    counter = :atomics.new(1, [])
    pids = for _ <- 1..members, do: member(counter)
    [first | rest] = pids
    :ok = Native.relay_create(relay, id, :public, "user-1", joining(first), {1, 1})

    for {pid, n} <- Enum.with_index(rest, 2),
        do: {:ok, :active} = Native.relay_join(relay, id, "user-#{n}", joining(pid), 1)

    {pids, counter}
  end

  defp fan_out do
    Enum.flat_map([1_000, 10_000, 100_000], fn size ->
      id = "fan-#{size}"
      {pids, counter} = group(id, size)

      request = %Request{
        request_id: "r1",
        user_id: "user-1",
        args: %{"group_id" => id, "message" => "hello, everybody in this room"}
      }

      %{success: true} = Relay.handle_relay(request, nil)
      await(counter, size)
      frame = frame(id)

      relay = fn -> %{success: true} = Relay.handle_relay(request, nil) end
      bare = fn -> Enum.each(pids, &send(&1, frame)) end
      rounds = if size == 100_000, do: 11, else: @rounds
      passes = max(1, div(30_000, size))

      results =
        in_rounds([relay: relay, bare: bare], rounds, fn {_name, fun} ->
          timed(fun, counter, size, passes)
        end)

      ratio = fn at -> median_of(results, &(elem(&1.relay, at) / elem(&1.bare, at))) end
      time = fn name, at -> median_of(results, &elem(&1[name], at)) end

      IO.puts("\n#### one message to #{size} members\n")

      table(["", "call", "until delivered"], [
        ["relay", ns(time.(:relay, 0)), ns(time.(:relay, 1))],
        ["Enum.each(pids, &send/2), same frame", ns(time.(:bare, 0)), ns(time.(:bare, 1))]
      ])

      :ok = Relay.delete_group(id)
      Enum.each(pids, &Process.exit(&1, :kill))
      target = if size < 100_000, do: fn limit -> {:at_most, limit} end, else: fn _ -> nil end

      [
        {"#{size} members, until delivered", {:times, ratio.(1)}, target.(1.05)},
        {"#{size} members, call", {:times, ratio.(0)}, target.(1.0)}
      ]
    end)
  end

  defp frame(id) do
    response = %{
      "group_id" => id,
      "from_user_id" => "user-1",
      "message" => "hello, everybody in this room",
      "timestamp" => DateTime.to_iso8601(DateTime.utc_now())
    }

    payload = PhoenixGenApi.Structs.Response.sync_response("r1", response)
    {:socket_push, :text, JSON.encode!([nil, nil, "chat:1", "chat", payload])}
  end

  # Nanoseconds per message: the call alone, and until all members have counted it.
  defp timed(fun, counter, size, passes) do
    :erlang.garbage_collect()

    {calls, all} =
      Enum.reduce(1..passes, {0, 0}, fn _, {calls, all} ->
        before = :atomics.get(counter, 1)
        start = :erlang.monotonic_time(:nanosecond)
        fun.()
        called = :erlang.monotonic_time(:nanosecond)
        await(counter, before + size)
        {calls + called - start, all + :erlang.monotonic_time(:nanosecond) - start}
      end)

    {calls / passes, all / passes}
  end

  # 1,000,000 memberships of 10,000 processes: 100 groups of 10,000.
  defp crowd(idle) do
    relay = Gateway.handle!(:relay)

    for g <- 1..100 do
      id = "crowd-#{g}"
      pid = elem(idle, g)
      :ok = Native.relay_create(relay, id, :public, "user-0", {pid, pid, ""}, {1, 1})

      for n <- 1..10_000 do
        pid = elem(idle, rem(n, 10_000))
        {:ok, _} = Native.relay_join(relay, id, "user-#{g}-#{n}", {pid, pid, ""}, 1)
      end
    end
  end

  defp small_group do
    {_pids, counter} = group("small", 10)

    request = %Request{
      request_id: "r1",
      user_id: "user-1",
      args: %{"group_id" => "small", "message" => "hi"}
    }

    relay = fn -> %{success: true} = Relay.handle_relay(request, nil) end

    measure = fn ->
      for(_ <- 1..@rounds, do: elem(timed(relay, counter, 10, 1_000), 0)) |> quantile(0.5)
    end

    measure.()
    idle = for _ <- 1..10_000, do: spawn(fn -> Process.hibernate(Function, :identity, [nil]) end)
    idle = List.to_tuple(idle)

    # They come and go between the measurements, so that both are taken at the same hour.
    rounds =
      for round <- 1..7 do
        if round > 1, do: for(g <- 1..100, do: :ok = Relay.delete_group("crowd-#{g}"))
        empty = measure.()
        crowd(idle)
        {empty, measure.()}
      end

    Process.put(:idle, idle)
    empty = median_of(rounds, &elem(&1, 0))
    full = median_of(rounds, &elem(&1, 1))
    ratio = median_of(rounds, fn {empty, full} -> full / empty end)

    IO.puts("\n#### one message to 10 members\n")

    table(["", "call"], [
      ["empty system", ns(empty)],
      ["1,000,000 memberships elsewhere", ns(full)]
    ])

    [
      {"10 members, with 1,000,000 memberships elsewhere", {:times, ratio}, {:at_most, 1.1}}
    ]
  end

  defp changes do
    relay = Gateway.handle!(:relay)
    idle = Process.get(:idle)

    known =
      rounds(fn n ->
        pid = elem(idle, rem(n, 10_000))
        {"crowd-#{rem(n, 100) + 1}", "new-#{n}", {pid, pid, ""}}
      end)

    fresh =
      rounds(fn n ->
        pid = spawn(fn -> Process.hibernate(Function, :identity, [nil]) end)
        {"crowd-#{rem(n, 100) + 1}", "new-#{n}", {pid, pid, ""}}
      end)

    IO.puts("\n#### changes among #{elem(Native.relay_size(relay), 1)} memberships\n")

    table(["", "join", "leave"], [
      ["process that is watched already", ns(known.join), ns(known.leave)],
      ["new process, with its monitor", ns(fresh.join), ns(fresh.leave)]
    ])

    [
      {"join among 1,000,000 memberships, native", {:ns, known.join}, {:at_most, 2_000}},
      {"leave", {:ns, known.leave}, {:at_most, 2_000}},
      {"join with the monitor", {:ns, fresh.join}, {:at_most, 5_000}},
      {"end of a process, for each membership", {:ns, deaths()}, {:at_most, 5_000}}
    ]
  end

  defp rounds(make) do
    relay = Gateway.handle!(:relay)

    samples =
      for round <- 1..@rounds do
        all = for n <- 1..2_000, do: make.(round * 10_000 + n)
        :erlang.garbage_collect()
        start = :erlang.monotonic_time(:nanosecond)

        for {group, user, joining} <- all,
            do: {:ok, _} = Native.relay_join(relay, group, user, joining, 2)

        joined = :erlang.monotonic_time(:nanosecond)
        for {group, user, _joining} <- all, do: :ok = Native.relay_leave(relay, group, user, 3)
        left = :erlang.monotonic_time(:nanosecond)
        {(joined - start) / 2_000, (left - joined) / 2_000}
      end

    %{
      join: median_of(samples, &elem(&1, 0)),
      leave: median_of(samples, &elem(&1, 1))
    }
  end

  # From the first kill to an index that knows none of them.
  defp deaths do
    relay = Gateway.handle!(:relay)

    samples =
      for round <- 1..11 do
        {_, _, _, devices, _} = Native.relay_size(relay)

        pids =
          for n <- 1..2_000 do
            pid = spawn(fn -> Process.hibernate(Function, :identity, [nil]) end)

            {:ok, _} =
              Native.relay_join(
                relay,
                "crowd-#{rem(n, 100) + 1}",
                "dies-#{round}-#{n}",
                {pid, pid, ""},
                1
              )

            pid
          end

        start = :erlang.monotonic_time(:nanosecond)
        Enum.each(pids, &Process.exit(&1, :kill))
        until(fn -> Enum.all?(pids, &(not Process.alive?(&1))) end)
        ended = :erlang.monotonic_time(:nanosecond)
        until(fn -> elem(Native.relay_size(relay), 3) <= devices end)
        (ended - start) / 2_000
      end

    quantile(samples, 0.5)
  end

  defp until(fun), do: if(fun.(), do: :ok, else: :erlang.yield() && until(fun))

  # 1,000 joins and leaves per second on 200,000 members while messages are sent.
  defp busy_group do
    relay = Gateway.handle!(:relay)
    idle = for(_ <- 1..1_000, do: spawn(fn -> swallow() end)) |> List.to_tuple()
    pid = elem(idle, 1)
    :ok = Native.relay_create(relay, "busy", :public, "root", {pid, pid, ""}, {1, 1})

    for n <- 1..200_000 do
      pid = elem(idle, rem(n, 1_000))
      {:ok, _} = Native.relay_join(relay, "busy", "user-#{n}", {pid, pid, ""}, 1)
    end

    publisher =
      spawn_link(fn ->
        publish = fn publish ->
          {_, fan, [{lane, ""}], _} = Native.relay_fan_out(relay, "busy")
          send_all(relay, fan, [{lane, :tick, 0}])
          publish.(publish)
        end

        publish.(publish)
      end)

    table = :ets.new(:control, [:public, write_concurrency: true])

    times =
      for second <- 1..5, n <- 1..1_000 do
        pid = elem(idle, n - 1)
        user = "busy-#{second}-#{n}"
        start = :erlang.monotonic_time(:nanosecond)
        {:ok, _} = Native.relay_join(relay, "busy", user, {pid, pid, ""}, 1)
        joined = :erlang.monotonic_time(:nanosecond)
        :ok = Native.relay_leave(relay, "busy", user, 1)
        left = :erlang.monotonic_time(:nanosecond)
        :ets.insert(table, {user, pid})
        :ets.delete(table, user)
        control = :erlang.monotonic_time(:nanosecond)
        {max(joined - start, left - joined), control - left}
      end

    {times, control} = Enum.unzip(times)
    Process.unlink(publisher)
    Process.exit(publisher, :kill)

    IO.puts("\n#### a group of 200,000 to which somebody sends all the time\n")

    table(
      ["", "median", "p99", "p99.9", "slowest"],
      for {label, times} <- [{"join or leave", times}, {"insert and delete in ETS", control}] do
        [label | for(q <- [0.5, 0.99, 0.999, 1.0], do: ns(quantile(times, q)))]
      end
    )

    [
      {"200,000 members that come and go, slowest join or leave", {:ns, Enum.max(times)},
       {:at_most, 5_000_000}}
    ]
  end

  defp swallow do
    receive do: (_message -> swallow())
  end

  defp send_all(relay, fan, messages) do
    if elem(Native.relay_send(relay, Gateway.handle!(:connections), fan, messages, 0), 0),
      do: send_all(relay, fan, messages)
  end

  defp memory do
    relay = Native.relay_new({1_000_000, 1_000_000, 1_000, 1_000, 0})
    user = fn n -> "users-" <> String.pad_leading("#{n}", 14, "0") end
    {:ok, pid} = Task.start(fn -> Process.hibernate(Function, :identity, [nil]) end)

    :ok =
      Native.relay_create(
        relay,
        "group-00000000000001",
        :public,
        user.(0),
        {pid, pid, ""},
        {1, 1}
      )

    {_, _, _, _, empty} = Native.relay_size(relay)
    pids = for _ <- 1..100_000, do: spawn(fn -> Process.hibernate(Function, :identity, [nil]) end)

    for {pid, n} <- Enum.with_index(pids, 1),
        do:
          {:ok, _} = Native.relay_join(relay, "group-00000000000001", user.(n), {pid, pid, ""}, 1)

    {_, _, _, _, full} = Native.relay_size(relay)
    Enum.each(pids, &Process.exit(&1, :kill))

    [
      {"bytes for a member with one device, 20-byte ids", (full - empty) / 100_000,
       {:at_most, 200}}
    ]
  end
end

Bench.Relay.run()
