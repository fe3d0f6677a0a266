defmodule PhoenixGenApi.Offers.ServerTest do
  # Processes that offer, well behaved or not, against the gateway that this VM is.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, Config, ConfigDb, Offers, OwnedTable, Service, ServiceSets}
  alias PhoenixGenApi.Offers.Store
  alias PhoenixGenApi.Service.{Content, Offer, Scope}
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Test.{Functions, LogLines, Offering}

  @moduletag :capture_log

  setup do
    on_exit(fn ->
      Application.delete_env(:phoenix_gen_api, :push_token)
      :ok = Config.load()
      ConfigDb.clear()
    end)

    %{service: "service-#{System.unique_integer([:positive])}", tag: Offer.tag()}
  end

  defp content(service, type \\ "where"), do: Content.pack([Offering.function(service, type)])

  # The next question of the gateway to this process.
  defp asked(tag) do
    assert_receive {:"$gen_call", from, {^tag, question}}, 30_000
    {from, question}
  end

  defp accept(tag, bytes) do
    {from, {:hello, _, _, _, _}} = asked(tag)
    GenServer.reply(from, {:ok, 1, nil})
    {from, {:fetch, _, _}} = asked(tag)
    GenServer.reply(from, {:ok, bytes})
  end

  defp state, do: :sys.get_state(Offers.Server)

  defp monitors do
    {:monitors, monitors} = Process.info(Process.whereis(Offers.Server), :monitors)
    Enum.count(monitors, &(&1 == {:process, self()}))
  end

  defp rejoin(group) do
    :ok = Scope.leave(group)
    :ok = Scope.join(group)
  end

  test "groups whose names are no offers are left alone, and no report shows the token",
       context do
    LogLines.forward()
    Application.put_env(:phoenix_gen_api, :push_token, "the-secret-token")
    server = Process.whereis(Offers.Server)
    {hash, _bytes} = content(context.service)

    garbage = [
      {123, :x},
      {context.service, :no_hash},
      {context.service, "short"},
      {:atom, hash},
      {String.duplicate("x", 8_193), hash},
      {<<255>>, hash},
      {context.service, hash, 3}
    ]

    for group <- garbage, do: :ok = :pg.join(Scope, group, self())
    :ok = Scope.join({context.service, hash})
    Await.until(fn -> Map.keys(state().pending) == [{self(), context.service, hash}] end)
    assert Scope.offers() == [{self(), context.service, hash}]
    for group <- garbage, do: :ok = :pg.leave(Scope, group, self())
    :ok = Scope.leave({context.service, hash})
    Await.until(fn -> state().pending == %{} end)
    assert Process.whereis(Offers.Server) == server
    refute_received {:logged, :error, _line, _meta}
  end

  test "a process that comes and goes is monitored once, and is listed once", context do
    for type <- ["a", "b", "c"] do
      {hash, bytes} = content(context.service, type)
      :ok = Scope.join({context.service, hash})
      accept(context.tag, bytes)
      tag = context.tag
      assert_receive {^tag, {:verdict, _, ^hash, _, :ok}}, 30_000
      :ok = Scope.leave({context.service, hash})
      assert_receive {^tag, {:left, _, ^hash, _}}, 30_000
    end

    assert monitors() == 1
    assert [{_offer, %{state: :draining}}] = Store.members(context.service)
  end

  test "an answer to a question before the last one does not count", context do
    {hash, bytes} = content(context.service)
    group = {context.service, hash}
    :ok = Scope.join(group)
    {before, {:hello, _, _, _, _}} = asked(context.tag)
    rejoin(group)
    {now, {:hello, _, _, _, _}} = asked(context.tag)
    {asker, _} = before
    monitor = Process.monitor(asker)
    GenServer.reply(before, {:error, :unknown})
    assert_receive {:DOWN, ^monitor, :process, _pid, _reason}, 30_000
    _it_has_heard = state()
    GenServer.reply(now, {:ok, 1, nil})
    {from, {:fetch, _, _}} = asked(context.tag)
    GenServer.reply(from, {:ok, bytes})
    assert_receive {_tag, {:verdict, _, ^hash, _, :ok}}, 30_000
  end

  test "nodes that have left take no place of others", context do
    {hash, bytes} = content(context.service)
    now = System.monotonic_time(:millisecond)

    for n <- 1..1_000 do
      node = :"gone#{n}@127.0.0.1"
      Store.put_record(context.service, node, %{hashes: [hash], left_at: now + n})
    end

    :ok = Scope.join({context.service, hash})
    accept(context.tag, bytes)
    assert_receive {_tag, {:verdict, _, ^hash, _, verdict}}, 30_000
    assert verdict == :ok
    records = Store.records(context.service)
    assert map_size(records) == 1_000
    refute is_map_key(records, :"gone1@127.0.0.1")
  end

  test "a service beyond the 10,000th is refused, and harms no other", context do
    assert OwnedTable.exists?(ServiceSets)
    server = Process.whereis(Offers.Server)
    fill = for n <- 1..10_000, do: {{:filler, n}, nil}
    :ets.insert(ServiceSets, fill)
    on_exit(fn -> for {key, _} <- fill, do: :ets.delete(ServiceSets, key) end)
    {hash, bytes} = content(context.service)
    :ok = Scope.join({context.service, hash})
    accept(context.tag, bytes)
    assert_receive {_tag, {:verdict, _, ^hash, _, {:refused, [_sentence]}}}, 30_000
    assert Process.whereis(Offers.Server) == server
  end

  test "what is no content is refused", context do
    for {bytes, says} <- [
          {:erlang.term_to_binary(List.duplicate(%{}, 1_000), [:compressed]), "compressed"},
          {:erlang.term_to_binary([%{service: %{}, request_type: 1}]), "without a name"}
        ] do
      hash = Content.hash(bytes)
      :ok = Scope.join({context.service, hash})
      accept(context.tag, bytes)
      assert_receive {_tag, {:verdict, _, ^hash, _, {:refused, [sentence]}}}, 30_000
      assert sentence =~ says
      :ok = Scope.leave({context.service, hash})
    end
  end

  test "a gateway has what it had after its watcher is restarted, and says so", context do
    start_supervised!({Service, functions: [Offering.function(context.service, "where")]})
    assert Service.await(context.service, 30_000) == :ok
    Await.restart(Offers.Server)
    assert Service.await(context.service, 30_000) == :ok
  end

  test "a node of which no process offers is a candidate no longer when its watcher restarts",
       context do
    {hash, bytes} = content(context.service)
    :ok = Scope.join({context.service, hash})
    accept(context.tag, bytes)
    assert_receive {_tag, {:verdict, _, ^hash, _, :ok}}, 30_000
    # As if it had ended between its writes.
    Store.put_record(context.service, :"half@127.0.0.1", %{hashes: [hash], left_at: nil})
    Await.restart(Offers.Server)
    Await.until(fn -> Store.up(context.service) == [node()] end)
  end

  test "nonsense of a gateway does not end a process that offers", context do
    service = context.service
    pid = start_supervised!({Service, functions: [Offering.function(service, "where")]})
    assert Service.await(service, 30_000) == :ok
    {hash, _bytes} = content(service)

    for hello <- [{:hello, :x, service, hash, "n"}, {:hello, [1], service, hash, :n}, :what],
        do: assert({:error, {:protocols, [1]}} = GenServer.call(pid, {context.tag, hello}))

    for verdict <- [:what, {:refused, :x}, {:refused, [1]}, {:refused, ["a" | "b"]}],
        do: send(pid, {context.tag, {:verdict, service, hash, node(), verdict}})

    send(pid, {context.tag, {:verdict, service, hash, %{}, :ok}})
    _it_has_read_them = :sys.get_state(pid)
    assert Service.await(service, 30_000) == :ok
  end

  test "two processes that do not give their content are not asked by turns without end",
       context do
    {hash, bytes} = content(context.service)
    test = self()

    for name <- [:one, :two] do
      start_supervised!(
        {Task,
         fn ->
           :ok = Scope.join({context.service, hash})
           receive_calls(test, name, context.tag)
         end},
        id: name
      )
    end

    assert_receive {:hello, one, from}, 30_000
    GenServer.reply(from, {:ok, 1, nil})
    assert_receive {:fetch, ^one, fetch}, 30_000
    assert_receive {:hello, two, from} when two != one, 30_000
    GenServer.reply(from, {:ok, 1, nil})
    Await.until(fn -> Enum.count(state().pending, &match?({_, {:proven, _}}, &1)) == 2 end)
    GenServer.reply(fetch, {:error, :unknown})
    assert_receive {:fetch, ^two, fetch}, 30_000
    GenServer.reply(fetch, {:error, :unknown})
    # The first one is asked from the start, after a pause.
    assert_receive {kind, ^one, from} when kind in [:hello, :fetch], 30_000
    assert kind == :hello
    GenServer.reply(from, {:ok, 1, nil})
    assert_receive {:fetch, ^one, fetch}, 30_000
    GenServer.reply(fetch, {:ok, bytes})
    Await.until(fn -> Store.members(context.service) != [] end)
  end

  defp receive_calls(test, name, tag) do
    receive do
      {:"$gen_call", from, {^tag, question}} -> send(test, {elem(question, 0), name, from})
      _other -> :ok
    end

    receive_calls(test, name, tag)
  end

  test "a request whose hook has renamed it goes on as the same function when its nodes change",
       context do
    service = context.service
    test = self()

    hook = fn request, config ->
      send(test, {:hooked, self()})

      receive do
        :go_on -> {:ok, %{request | request_type: "b"}, config}
      end
    end

    functions = fn result ->
      for {type, value} <- [{"a", result}, {"b", "wrong"}] do
        hooks = if type == "a", do: [before_execute: {Functions, :before, [hook]}], else: []
        Offering.function(service, type, [mfa: {Functions, :node_and, [value]}] ++ hooks)
      end
    end

    {before, bytes} = Content.pack(functions.("before"))
    :ok = Scope.join({service, before})
    accept(context.tag, bytes)
    assert_receive {_tag, {:verdict, _, ^before, _, :ok}}, 30_000

    request = Task.async(fn -> Offering.run(service, "a") end)
    assert_receive {:hooked, pid}, 30_000
    :ok = Scope.leave({service, before})
    {now, bytes} = Content.pack(functions.("now"))
    :ok = Scope.join({service, now})
    accept(context.tag, bytes)
    assert_receive {_tag, {:verdict, _, ^now, _, :ok}}, 30_000
    send(pid, :go_on)
    assert %Response{success: true, result: [_node, "now"]} = Task.await(request, 30_000)
  end

  test "a request does not go on with a definition that has another before hook", context do
    service = context.service
    test = self()

    hook = fn request, config ->
      send(test, {:hooked, self()})

      receive do
        :go_on -> {:ok, request, config}
      end
    end

    function = fn value, hook ->
      fields = [
        mfa: {Functions, :node_and, [value]},
        before_execute: {Functions, :before, [hook]}
      ]

      [Offering.function(service, "a", fields)]
    end

    {before, bytes} = Content.pack(function.("before", hook))
    :ok = Scope.join({service, before})
    accept(context.tag, bytes)
    assert_receive {_tag, {:verdict, _, ^before, _, :ok}}, 30_000

    request = Task.async(fn -> Offering.run(service, "a") end)
    assert_receive {:hooked, pid}, 30_000
    :ok = Scope.leave({service, before})

    {now, bytes} =
      Content.pack(function.("now", fn _request, _config -> {:error, "kept out"} end))

    :ok = Scope.join({service, now})
    accept(context.tag, bytes)
    assert_receive {_tag, {:verdict, _, ^now, _, :ok}}, 30_000
    send(pid, :go_on)
    assert %Response{code: "unavailable"} = Task.await(request, 30_000)
    # The next one is asked by the other.
    assert %Response{code: "rejected"} = Offering.run(service, "a")
  end
end
