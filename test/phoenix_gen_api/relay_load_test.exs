defmodule PhoenixGenApi.RelayLoadTest do
  # Many at once, those who are too slow, and what may be configured.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, Native, Relay, Telemetry}
  alias PhoenixGenApi.Structs.Request
  alias PhoenixGenApi.Test.Options

  setup do
    %{id: "relay-load-#{System.unique_integer([:positive])}"}
  end

  defp configure(options), do: Options.set(:relay, options)

  defp say(id, user, message) do
    args = %{"group_id" => id, "message" => message}
    Relay.handle_relay(%Request{request_id: "r1", user_id: user, args: args}, nil)
  end

  # Holds whatever it gets, until it is told to go on.
  defp sleeper do
    pid = spawn(fn -> receive do: (:wake -> swallow()) end)
    on_exit(fn -> Process.exit(pid, :kill) end)
    pid
  end

  defp swallow do
    receive do: (_message -> swallow())
  end

  defp waiting(pid) do
    {:message_queue_len, waiting} = Process.info(pid, :message_queue_len)
    waiting
  end

  test "a recipient that is too slow is skipped, counted, and back when it has caught up", %{
    id: id
  } do
    configure(max_mailbox: 500)
    slow = sleeper()
    :ok = Relay.create_group(id, :public, "slow", slow)
    test = self()
    handler = fn _event, %{count: count}, meta, _ -> send(test, {:dropped, count, meta}) end

    :ok =
      Telemetry.attach_relay("drops-#{id}", fn
        [_, _, :drop] = event, measurements, meta, config ->
          handler.(event, measurements, meta, config)

        _event, _measurements, _meta, _config ->
          :ok
      end)

    on_exit(fn -> Telemetry.detach_all("drops-#{id}") end)

    Await.until(fn ->
      for n <- 1..500, do: Relay.send_to_group(id, "server", n)
      received_drop?(id)
    end)

    Await.until(fn ->
      before = waiting(slow)
      Relay.send_to_group(id, "server", "one more")
      waiting(slow) == before
    end)

    assert waiting(slow) < 20_000
    send(slow, :wake)

    Await.until(fn ->
      {:ok, 1} = Relay.send_to_group(id, "server", "hello again")
      not received_drop?(id)
    end)
  end

  defp received_drop?(id) do
    receive do
      {:dropped, 1, %{group_id: ^id, reason: :slow_consumer}} -> true
    after
      0 -> false
    end
  end

  test "or it is ended, if so configured, and leaves", %{id: id} do
    configure(max_mailbox: 500, slow_consumer: :disconnect)
    slow = sleeper()
    monitor = Process.monitor(slow)
    :ok = Relay.create_group(id, :public, "slow", slow)

    Await.until(fn ->
      for n <- 1..500, do: Relay.send_to_group(id, "server", n)
      not Process.alive?(slow)
    end)

    assert_receive {:DOWN, ^monitor, :process, ^slow, :killed}
    Await.until(fn -> match?({:ok, %{members: m}} when m == %{}, Relay.get_group_info(id)) end)
  end

  # Each look is a signal to a process that is busy with what it was sent.
  test "who sends all the time has some recipients looked at, and 2,000 a second at most", %{
    id: id
  } do
    :ok = Relay.create_group(id, :public, "root", sleeper())
    for n <- 1..2_000, do: {:ok, :active} = Relay.join_group(id, "user-#{n}", sleeper())
    slow_consumers = Process.whereis(Relay.SlowConsumers)
    1 = :erlang.trace(slow_consumers, true, [:receive])
    started = System.monotonic_time(:microsecond)
    for n <- 1..200, do: {:ok, 2_001} = Relay.send_to_group(id, "server", n)
    elapsed = System.monotonic_time(:microsecond) - started
    _ = :sys.get_state(slow_consumers)
    1 = :erlang.trace(slow_consumers, false, [:receive])

    # 200 messages to 2,001 recipients each name 1,563 of them, at one in 256. A slice may look at
    # all it has at once and makes up for it afterwards.
    looks = looked_at(0)
    assert looks > 0
    assert looks <= div(elapsed, 500) + 8
  end

  defp looked_at(looks) do
    receive do
      {:trace, _slow_consumers, :receive, {:"$gen_cast", {:sample, pids}}} ->
        looked_at(looks + length(pids))

      {:trace, _slow_consumers, :receive, _other} ->
        looked_at(looks)
    after
      0 -> looks
    end
  end

  # Which processes that live long and do little would do until they collect garbage.
  test "who has sent to a large group keeps nothing of it", %{id: id} do
    relay = Native.relay_new({1, 50_000, 1, 1, 0})
    pid = sleeper()
    user = fn n -> {"user-#{n}", {pid, pid, ""}} end
    :ok = Native.relay_create(relay, id, :public, "root", {pid, pid, ""}, {1, 1})

    join = fn n ->
      {user, joining} = user.(n)
      {:ok, :active} = Native.relay_join(relay, id, user, joining, 1)
    end

    Enum.each(1..40_000, join)
    resident = resident_kb()

    test = self()

    for _ <- 1..100 do
      # Some change in every piece of the list, so that each sender has seen another one.
      for n <- 500..40_000//1_000 do
        :ok = Native.relay_leave(relay, id, "user-#{n}", 1)
        join.(n)
      end

      sender = spawn_link(fn -> send_nothing(relay, id, test) end)
      assert_receive {^sender, :sent}
    end

    assert resident_kb() - resident < 20_000
  end

  # To all members, none of which gets anything, as there is nothing for their lane.
  defp send_nothing(relay, id, test) do
    {_audience, fan, _lanes, 0} = Native.relay_fan_out(relay, id)

    connections = Native.client_connection_new()

    Stream.repeatedly(fn -> Native.relay_send(relay, connections, fan, [], 0) end)
    |> Enum.find(&(not elem(&1, 0)))

    {false, 0, [], []} = Native.relay_send(relay, connections, fan, [], 0)
    send(test, {self(), :sent})
    swallow()
  end

  defp resident_kb do
    [_, kb] = Regex.run(~r/VmRSS:\s+(\d+)/, File.read!("/proc/self/status"))
    String.to_integer(kb)
  end

  test "the crash of all processes of the relay at once loses no group and not the gateway",
       %{id: id} do
    :ok = Relay.create_group(id, :public, "root", self())
    gateway = Process.whereis(PhoenixGenApi.Supervisor)

    for _round <- 1..5 do
      Await.restart(Relay.Supervisor)
      Await.until(fn -> Process.whereis(Relay.SlowConsumers) end)
    end

    assert Process.whereis(PhoenixGenApi.Supervisor) == gateway
    assert {:ok, %{members: %{"root" => _}}} = Relay.get_group_info(id)
    assert Relay.send_to_group(id, "root", "hi") == {:ok, 1}
  end

  test "joins, leaves and messages are events", %{id: id} do
    test = self()

    handler = fn [:phoenix_gen_api, :relay, name], measurements, metadata, _config ->
      if metadata.group_id == id, do: send(test, {name, measurements, metadata})
    end

    :ok = Telemetry.attach_relay("events-#{id}", handler)
    on_exit(fn -> Telemetry.detach_all("events-#{id}") end)
    ann = sleeper()
    :ok = Relay.create_group(id, :private, "root", self())
    {:ok, :pending} = Relay.join_group(id, "ann", ann)
    {:ok, :pending} = Relay.join_group(id, "bob", self())
    {:ok, 1} = Relay.send_to_group(id, "root", "hi")
    :ok = Relay.kick_member(id, "root", "bob")
    :ok = Relay.leave_group(id, "root")
    Process.exit(ann, :kill)

    assert_receive {:join, %{system_time: _}, %{user_id: "root", status: :active}}
    assert_receive {:join, _, %{user_id: "ann", status: :pending}}
    assert_receive {:publish, %{duration_us: _, recipients: 1}, %{user_id: "root"}}
    assert_receive {:leave, _, %{user_id: "bob", reason: :kicked}}
    assert_receive {:leave, _, %{user_id: "root", reason: :left}}
    assert_receive {:leave, _, %{user_id: "ann", reason: :down}}
    events = Telemetry.list_events()
    assert length(events) == 32 and [:phoenix_gen_api, :relay, :join] not in events
  end

  test "relay_status prints what status returns" do
    printed = ExUnit.CaptureIO.capture_io(fn -> assert PhoenixGenApi.relay_status() == :ok end)
    for key <- [:gateways, :groups, :members, :local_pids], do: assert(printed =~ "#{key}: ")
  end

  test "messages per second are limited as configured", %{id: id} do
    configure(member_messages_per_second: 2)
    :ok = Relay.create_group(id, :public, "root", self())
    for n <- 1..2, do: assert(say(id, "root", n).success)
    refused = say(id, "root", 3)
    assert refused.error == "Rate limit exceeded. Please retry after 1 seconds."
    assert refused.can_retry
    assert Relay.send_to_group(id, "root", 4) == {:ok, 1}
    # Of another member, and of another group.
    {:ok, :active} = Relay.join_group(id, "ann", self())
    assert say(id, "ann", 5).success
    :ok = Relay.create_group(id <> "2", :public, "root", self())
    assert say(id <> "2", "root", 6).success
    configure(group_messages_per_second: 1)
    :ok = Relay.create_group(id <> "3", :public, "root", self())
    {:ok, :active} = Relay.join_group(id <> "3", "ann", self())
    assert say(id <> "3", "root", 7).success
    refute say(id <> "3", "ann", 8).success
    for group <- [id, id <> "2", id <> "3"], do: Relay.delete_group(group)
  end

  test "groups and members are limited as configured", %{id: id} do
    %{groups: groups} = Relay.status()
    configure(max_groups: groups + 1, max_members: 2, max_pending: 1, max_groups_per_user: 1)
    :ok = Relay.create_group(id, :private, "root-#{id}", self())

    assert Relay.create_group(id <> "2", :public, "ann-#{id}", self()) ==
             {:error, :too_many_groups}

    assert Relay.join_group(id, "ann-#{id}", self()) == {:ok, :pending}
    assert Relay.join_group(id, "bob-#{id}", self()) == {:error, :group_full}
    :ok = Relay.accept_member(id, "root-#{id}", "ann-#{id}")
    assert Relay.join_group(id, "bob-#{id}", self()) == {:error, :group_full}
    configure(max_members: 4, max_pending: 1)
    assert Relay.join_group(id, "bob-#{id}", self()) == {:ok, :pending}
    # There is a place, but not for one more who waits.
    assert Relay.join_group(id, "cas-#{id}", self()) == {:error, :group_full}
    :ok = Relay.delete_group(id)
    :ok = Relay.create_group(id, :public, "root-#{id}", self())
    assert Relay.create_group(id, :public, "root-#{id}", self()) == {:error, :already_exists}
    :ok = Relay.delete_group(id)
  end

  test "32 processes that join, leave, publish and die at once leave an exact index", %{id: id} do
    relay = PhoenixGenApi.Gateway.handle!(:relay)
    # What other tests have left goes first: their processes may be leaving still.
    for group <- Native.relay_ids(relay), do: Relay.delete_group(group)
    {0, 0, 0, devices, _bytes} = Native.relay_size(relay)

    workers =
      for worker <- 1..32 do
        spawn_monitor(fn ->
          :rand.seed(:exsss, {worker, 2, 3})
          for _ <- 1..300, do: step(id)
        end)
      end

    for {pid, monitor} <- workers,
        do: assert_receive({:DOWN, ^monitor, :process, ^pid, :normal}, 60_000)

    for n <- 1..5, do: Relay.delete_group("#{id}-#{n}")
    assert {0, 0, 0, _devices, _bytes} = Native.relay_size(relay)
    Await.until(fn -> elem(Native.relay_size(relay), 3) <= devices end)
  end

  defp step(id) do
    group = "#{id}-#{:rand.uniform(5)}"
    user = "user-#{:rand.uniform(20)}"
    other = "user-#{:rand.uniform(20)}"

    case :rand.uniform(12) do
      1 -> Relay.create_group(group, :strict_private, user, self())
      2 -> Relay.delete_group(group)
      n when n in 3..5 -> Relay.join_group(group, user, device())
      6 -> Relay.join_group(group, user, self())
      7 -> Relay.leave_group(group, user)
      8 -> Relay.leave_group(group, user, self())
      9 -> Relay.accept_member(group, user, other)
      10 -> Relay.ban_member(group, user, other)
      _ -> say(group, user, "hi")
    end
  end

  # Ends with its first message, or with the process that started it.
  defp device do
    owner = self()

    spawn(fn ->
      Process.monitor(owner)
      receive(do: (_message -> :ok))
    end)
  end

  test "no slice of a long fan-out holds a scheduler, and small groups do not wait for it", %{
    id: id
  } do
    large = sleeper()
    :ok = Relay.create_group(id, :public, "root", large)
    for n <- 1..20_000, do: {:ok, :active} = Relay.join_group(id, "user-#{n}", large)
    relay = PhoenixGenApi.Gateway.handle!(:relay)
    {20_001, fan, [{lane, ""}], 0} = Native.relay_fan_out(relay, id)

    slices = slices(relay, fan, [{lane, :tick, 0}], [])
    assert length(slices) > 1
    # A busy machine takes the scheduler away during some of them.
    assert Enum.min(slices) < 1_000
    assert waiting(large) == 20_001
  end

  defp slices(relay, fan, messages, taken) do
    started = System.monotonic_time(:microsecond)

    {more?, 0, _sample, []} =
      Native.relay_send(relay, Native.client_connection_new(), fan, messages, 0)

    taken = [System.monotonic_time(:microsecond) - started | taken]
    if more?, do: slices(relay, fan, messages, taken), else: taken
  end
end
