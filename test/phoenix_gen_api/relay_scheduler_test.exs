defmodule PhoenixGenApi.RelaySchedulerTest do
  # Large groups, and many that end at once, while the VM reports every process that holds a
  # scheduler for a millisecond or longer. That nobody waits for the lock of a large group for
  # long is tested in gen_api_core, in tests/relay/turns.rs.
  use ExUnit.Case, async: false

  import PhoenixGenApi.LongSchedule

  alias PhoenixGenApi.{Await, Gateway, Native, Relay}
  alias PhoenixGenApi.Test.Options

  @moduletag timeout: 300_000
  @members 100_000
  @ms 1

  setup_all do
    limits = [max_members: 2 * @members, max_groups: @members, max_groups_per_user: @members]
    Options.set(:relay, limits)

    idle = for _ <- 1..1_000, do: spawn(&swallow/0)
    on_exit(fn -> Enum.each(idle, &Process.exit(&1, :kill)) end)
    %{idle: List.to_tuple(idle)}
  end

  setup do
    %{relay: Gateway.handle!(:relay), id: "scheduler-#{System.unique_integer([:positive])}"}
  end

  defp swallow, do: receive(do: (_message -> swallow()))

  # A group of 100,000 members in any relay.
  defp group(relay, id, idle) do
    joining = fn n -> List.to_tuple(List.duplicate(elem(idle, rem(n, 1_000)), 2) ++ [""]) end
    :ok = Native.relay_create(relay, id, :public, "user-0", joining.(0), {1, 1})

    for n <- 1..(@members - 1),
        do: {:ok, _} = Native.relay_join(relay, id, "user-#{n}", joining.(n), 1)

    id
  end

  defp relay, do: Native.relay_new({@members, 2 * @members, 1_000, @members, 0})

  defp yields(name, before, fun), do: assert_yields(name, fun, ms: @ms, before: before)

  test "a function that holds a scheduler is reported" do
    # For some 100 ms, which is longer than a busy machine takes it away from the idle process.
    counting = fn -> :erts_debug.flat_size(List.duplicate(Enum.to_list(1..10_000), 5_000)) end
    assert Enum.any?(1..3, fn _attempt -> reports(counting, ms: @ms) != [] end)
  end

  test "a message to 100,000 members", %{relay: relay, id: id, idle: idle} do
    group(relay, id, idle)
    yields("send", nil, fn -> {:ok, @members} = Relay.send_to_group(id, "server", "hello") end)
    :ok = Relay.delete_group(id)
  end

  test "a list of 100,000 members", %{relay: relay, id: id, idle: idle} do
    group(relay, id, idle)

    # What Elixir makes of it lasts so long that a busy machine takes the scheduler away meanwhile.
    yields("list", nil, fn -> @members = pages(relay, id, 0) end)
    :ok = Relay.delete_group(id)
  end

  defp pages(relay, id, start) do
    {:public, rows, next} = Native.relay_page(relay, id, start, 1_000)
    length(rows) + if next, do: pages(relay, id, next), else: 0
  end

  test "the end of a group of 100,000 members", %{relay: relay, id: id, idle: idle} do
    yields("delete", fn -> group(relay, id, idle) end, &(:ok = Relay.delete_group(&1)))
  end

  test "what a gateway tells of a group of 100,000 members, and what another one makes of it",
       %{id: id, idle: idle} do
    relay = relay()
    group(relay, id, idle)
    yields("records", nil, fn -> records(relay, id, 0) end)
    {origin, records} = records(relay, id, 0)

    for created <- [elem(origin, 1), 0] do
      origin = put_elem(origin, 1, created)

      yields("unite", nil, fn ->
        {[], []} = Native.relay_merge(relay, id, origin, 1, false, records)
      end)
    end
  end

  defp records(relay, id, start) do
    {origin, records, next} = Native.relay_records(relay, id, start, 500)
    if next, do: {origin, records ++ elem(records(relay, id, next), 1)}, else: {origin, records}
  end

  test "the loss of a gateway with 100,000 members", %{id: id} do
    relay = relay()
    {:active, _, _} = Native.relay_decide(relay, {:create, id, :public, "user-0", {1, 1}}, 1)

    for n <- 1..(@members - 1) do
      {_, _, _} = Native.relay_decide(relay, {:join, id, "user-#{n}"}, 1)
      Native.relay_set_remote(relay, id, "user-#{n}", 3, true)
    end

    yields("absent", nil, fn -> @members = length(Native.relay_offline_members(relay, id, 0)) end)
  end

  test "the first who joins after 100,000 did not come back in time", %{id: id} do
    before = fn ->
      relay = Native.relay_new({@members, 2 * @members, 1_000, @members, 10})
      {:active, _, _} = Native.relay_decide(relay, {:create, id, :private, "root", {1, 1}}, 1)

      for n <- 1..@members do
        {:pending, _, _} = Native.relay_decide(relay, {:join, id, "user-#{n}"}, 1)

        {:active, _, _} =
          Native.relay_decide(relay, {:change, id, :accept, "root", "user-#{n}"}, 1)

        {nil, _, _} = Native.relay_decide(relay, {:depart, id, "user-#{n}", true}, 1)
      end

      relay
    end

    yields("join", before, fn relay ->
      {:pending, _, _} = Native.relay_decide(relay, {:join, id, "ann"}, 100)
    end)
  end

  test "the end of a process with 10,000 memberships", %{relay: relay, id: id} do
    for n <- 1..10_000, do: group_of_nobody(relay, "#{id}-#{n}")

    before = fn ->
      pid = spawn(&swallow/0)

      for n <- 1..10_000,
          do: {:ok, _} = Native.relay_join(relay, "#{id}-#{n}", "ann", {pid, pid, ""}, 1)

      pid
    end

    yields("end", before, fn pid ->
      Process.exit(pid, :kill)
      Await.until(fn -> Relay.list_groups_for_user("ann") == {:ok, []} end)
    end)

    for n <- 1..10_000, do: Relay.delete_group("#{id}-#{n}")
  end

  defp group_of_nobody(relay, id) do
    pid = self()
    :ok = Native.relay_create(relay, id, :public, "root", {pid, pid, ""}, {1, 1})
    :ok = Native.relay_leave(relay, id, "root", 1)
  end

  # Those of two users take turns, so that taking one out moves one of the other's. A busy machine slows down any
  # one attempt.
  test "a ban of a user with as many processes as he could join with", %{id: id} do
    times =
      Enum.reduce_while(1..50, [], fn _attempt, times ->
        times = [times_of_moderation(id) | times]
        if quick?(times), do: {:halt, times}, else: {:cont, times}
      end)

    assert quick?(times), inspect(times)
  end

  defp quick?(times),
    do: Enum.all?(0..2, fn n -> times |> Enum.map(&elem(&1, n)) |> Enum.min() < 1_000 end)

  defp times_of_moderation(id) do
    relay = relay()
    :ok = Native.relay_create(relay, id, :strict_private, "root", {self(), self(), ""}, {1, 1})

    pids =
      for _ <- 1..5_000, user <- ["ann", "bob"] do
        pid = spawn(&swallow/0)
        joined = Native.relay_join(relay, id, user, {pid, pid, ""}, 1)
        if joined == :too_many_devices, do: Process.exit(pid, :kill)
        pid
      end

    change = fn verb, user ->
      {time, :ok} = :timer.tc(fn -> Native.relay_moderate(relay, id, verb, "root", user, 1) end)
      time
    end

    times = {change.(:accept, "ann"), change.(:accept, "bob"), change.(:ban, "ann")}
    Enum.each(pids, &Process.exit(&1, :kill))
    times
  end

  test "the end of 10,000 processes at once", %{relay: relay, id: id} do
    :ok = Relay.create_group(id, :public, "root", self())

    before = fn ->
      for n <- 1..10_000 do
        pid = spawn(&swallow/0)
        {:ok, _} = Native.relay_join(relay, id, "user-#{n}", {pid, pid, ""}, 1)
        pid
      end
    end

    yields("ends", before, fn pids ->
      Enum.each(pids, &Process.exit(&1, :kill))
      Await.until(fn -> match?({:ok, m} when map_size(m) == 1, Relay.list_members(id)) end)
    end)

    :ok = Relay.delete_group(id)
  end
end
