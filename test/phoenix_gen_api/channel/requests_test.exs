defmodule PhoenixGenApi.Channel.RequestsTest do
  use PhoenixGenApi.ChannelCase, async: true

  import PhoenixGenApi.Test.Answers

  defmodule Ordered do
    use PhoenixGenApi, event: "api", max_pending: 2_000
  end

  defmodule Four do
    use PhoenixGenApi, event: "api", concurrency: 4, max_pending: 2_000
  end

  defmodule TwoWaiting do
    use PhoenixGenApi, event: "api", max_pending: 2
  end

  defmodule NoneWaiting do
    use PhoenixGenApi, event: "api", max_pending: 0
  end

  defmodule TwoRunning do
    use PhoenixGenApi, event: "api", max_running: 2
  end

  defmodule OneRunning do
    use PhoenixGenApi, event: "api", max_running: 1
  end

  defmodule NoneRunning do
    use PhoenixGenApi, event: "api", max_running: 0, concurrency: 2
  end

  defmodule Hooks do
    # Turns a sync function into an async one.
    def async(request, config), do: {:ok, request, %{config | response_type: :async}}
    def nothing(request, config), do: {:ok, request, config}
  end

  @unavailable "Service temporarily unavailable"

  # Until both the channel and its queue have seen everything sent so far.
  defp settle(channel) do
    in_channel(channel)
    for queue <- queues(channel), do: :sys.get_state(queue)
  end

  defp cancel(channel, id) do
    ref = push_in(channel, %{"request_id" => id, "cancel" => true})
    assert_receive {:reply, ^ref, :ok, reply}
    assert reply == %{request_id: id, cancelled: reply.cancelled}
    reply.cancelled
  end

  defp running(name \\ nil) do
    assert_receive {:running, ^name, function}
    function
  end

  defp named(service, name, id \\ nil),
    do: payload(service, "gate", id || name, %{"args" => %{"name" => name}})

  defp await_down(monitor), do: assert_receive({:DOWN, ^monitor, :process, _, _})

  describe "order" do
    test "of 1,000 requests, of which up to 200 wait, is kept with concurrency 1",
         %{service: service} do
      register(service, "echo", arg_types: %{"text" => :string})
      channel = join(Ordered)
      ids = Enum.map(1..1_000, &Integer.to_string/1)
      send_id = &push_in(channel, payload(service, "echo", &1, %{"args" => %{"text" => &1}}))
      {first, later} = Enum.split(ids, 200)
      Enum.each(first, send_id)

      replies =
        for next <- later ++ List.duplicate(nil, 200) do
          assert_receive {:reply, _ref, :ok, %Response{request_id: id, result: id}}
          if next, do: send_id.(next)
          id
        end

      assert replies == ids
    end

    test "holds for failures of decoding too", %{service: service} do
      register(service, "gate")
      channel = join(Ordered)
      first = push_in(channel, payload(service, "gate", "a"))
      second = push_in(channel, %{"request_id" => "b"})
      third = push_in(channel, payload(service, "nope", "c"))
      function = running()
      settle(channel)
      refute_received {:reply, _, _, _}
      send(function, {:return, 1})

      for ref <- [first, second, third] do
        assert_receive {:reply, received, _, %Response{}}
        assert received == ref
      end
    end

    test "is that of completion above", %{service: service} do
      register(service, "gate", arg_types: %{"name" => :string})
      channel = join(Four)
      functions = for name <- ~w(a b c d), do: push_in(channel, named(service, name)) && name
      pids = Map.new(functions, &{&1, running(&1)})

      for name <- ~w(c a d b) do
        send(pids[name], {:return, name})
        assert_receive {:reply, _, :ok, %Response{request_id: id}}
        assert id == name
      end
    end
  end

  test "at most concurrency requests execute at a time", %{service: service} do
    register(service, "gate", arg_types: %{"name" => :string})
    channel = join(Four)
    for name <- ~w(a b c d e f), do: push_in(channel, named(service, name))
    pids = Map.new(~w(a b c d), &{&1, running(&1)})
    settle(channel)
    assert counts(channel) == {4, 0, 2}
    refute_received {:running, _, _}

    send(pids["b"], {:return, 1})
    running("e")
    settle(channel)
    refute_received {:running, _, _}
  end

  test "an async request has its slot until it is acknowledged", %{service: service} do
    register(service, "gate", arg_types: %{"name" => :string}, response_type: :async)
    register(service, "now")
    channel = join(Ordered)
    push_in(channel, named(service, "a"))
    push_in(channel, named(service, "b"))
    push_in(channel, payload(service, "now", "c"))

    for id <- ~w(a b c) do
      assert_receive {:reply, _, :ok, %Response{request_id: received}}
      assert received == id
    end

    for name <- ~w(b a) do
      send(running(name), {:return, name})
      assert_receive {:push, "api", %Response{request_id: ^name, result: ^name}}
    end
  end

  test "while requests run the channel handles everything else", %{service: service} do
    register(service, "gate")
    channel = join(Ordered)
    push_in(channel, payload(service, "gate", "a"))
    function = running()
    send(channel, {:relay_message, Response.sync_response("r", "hello")})
    assert_receive {:push, "api", %Response{result: "hello"}}
    refute cancel(channel, "b")
    send(function, {:return, 1})
    assert_receive {:reply, _, :ok, %Response{request_id: "a"}}
  end

  describe "max_pending" do
    test "is how many wait; more are refused at once", %{service: service} do
      register(service, "gate", arg_types: %{"name" => :string})
      channel = join(TwoWaiting)
      push_in(channel, named(service, "a"))
      function = running("a")
      push_in(channel, named(service, "b"))
      push_in(channel, named(service, "c"))
      ref = push_in(channel, named(service, "d"))
      assert_receive {:reply, ^ref, :error, response}
      assert response == error(@unavailable, true, id: "d")
      ref = push_in(channel, %{"request_id" => 5})
      assert_receive {:reply, ^ref, :error, response}
      assert response == error(@unavailable, true, id: nil)

      send(function, {:return, 1})
      send(running("b"), {:return, 1})
      send(running("c"), {:return, 1})

      for id <- ~w(a b c) do
        assert_receive {:reply, _, :ok, %Response{request_id: received}}
        assert received == id
      end

      refute_received {:running, "d", _}
    end

    test "has room again for a client that has got its answer", %{service: service} do
      register(service, "now")
      channel = join(NoneWaiting)

      for n <- 1..500 do
        id = Integer.to_string(n)
        push_in(channel, payload(service, "now", id))
        assert_receive {:reply, _, :ok, %Response{request_id: ^id}}
      end
    end

    test "is no limit for cancels", %{service: service} do
      register(service, "gate")
      channel = join(NoneWaiting)
      push_in(channel, payload(service, "gate", "a"))
      running()
      refute cancel(channel, "b")
      push_in(channel, payload(service, "gate", "b"))
      assert_receive {:reply, _, :error, %Response{error: @unavailable}}
    end
  end

  describe "max_running" do
    test "is how many async requests run; more are refused and not executed", %{service: service} do
      register(service, "gate", arg_types: %{"name" => :string}, response_type: :async)
      register(service, "now")
      channel = join(TwoRunning)
      for name <- ~w(a b c), do: push_in(channel, named(service, name))
      function = running("a")
      running("b")
      assert_receive {:reply, _, :error, response}
      assert response == error(@unavailable, true, id: "c")

      # Others are not affected.
      push_in(channel, payload(service, "now", "d"))
      assert_receive {:reply, _, :ok, %Response{request_id: "d"}}

      send(function, {:return, 1})
      assert_receive {:push, "api", %Response{request_id: "a"}}
      push_in(channel, named(service, "e"))
      running("e")
      refute_received {:running, "c", _}
    end

    test "has room again for a client that has got its result", %{service: service} do
      register(service, "now", response_type: :async)
      channel = join(OneRunning)

      for n <- 1..500 do
        id = Integer.to_string(n)
        push_in(channel, payload(service, "now", id))
        assert_receive {:reply, _, :ok, %Response{request_id: ^id}}
        assert_receive {:push, "api", %Response{request_id: ^id, async: false}}
      end
    end

    test "has room again after a cancel", %{service: service} do
      register(service, "gate", arg_types: %{"name" => :string}, response_type: :async)
      channel = join(OneRunning)

      for id <- ~w(a b c) do
        push_in(channel, named(service, id))
        running(id)
        assert_receive {:reply, _, :ok, %Response{request_id: ^id, async: true}}
        assert cancel(channel, id)
      end
    end

    test "0 allows none, not even where a hook makes a request async", %{service: service} do
      register(service, "gate", arg_types: %{"name" => :string}, response_type: :async)
      register(service, "hooked", function: :gate, before_execute: {Hooks, :async})
      channel = join(NoneRunning)
      push_in(channel, named(service, "a"))
      assert_receive {:reply, _, :error, %Response{error: @unavailable, request_id: "a"}}
      push_in(channel, payload(service, "hooked", "b"))
      assert_receive {:reply, _, :error, %Response{error: @unavailable, request_id: "b"}}
      settle(channel)
      refute_received {:running, "a", _}
    end
  end

  test "a hook can make a request async", %{service: service} do
    register(service, "now", before_execute: {Hooks, :async})
    channel = join(Ordered)
    push_in(channel, payload(service, "now", "a"))
    assert_receive {:reply, _, :ok, %Response{async: true, result: nil}}
    assert_receive {:push, "api", %Response{async: false, result: "done"}}
  end

  test "a sync function may return what looks like an acknowledgement", %{service: service} do
    register(service, "looks_async")
    channel = join(OneRunning)
    push_in(channel, payload(service, "looks_async", "a"))
    assert_receive {:reply, _, :ok, %Response{request_id: "a", async: true}}
    assert {_leaving, 0, 0} = counts(channel)
  end

  test "a sync function may do so behind a hook as well, and takes no place", %{service: service} do
    register(service, "looks_async", before_execute: {Hooks, :nothing})
    register(service, "now", response_type: :async)
    channel = join(OneRunning)

    for id <- ~w(a b) do
      push_in(channel, payload(service, "looks_async", id))
      assert_receive {:reply, _, :ok, %Response{request_id: ^id, async: true}}
    end

    assert {_leaving, 0, 0} = counts(channel)
    push_in(channel, payload(service, "now", "c"))
    assert_receive {:push, "api", %Response{request_id: "c", async: false, result: "done"}}
  end

  test "a function that becomes async while its request waits is answered", %{service: service} do
    register(service, "gate")
    register(service, "now")
    channel = join(Ordered)
    push_in(channel, payload(service, "gate", "first"))
    function = running()
    push_in(channel, payload(service, "now", "a"))
    settle(channel)
    {:ok, config} = ConfigDb.get(service, "now")
    :ok = ConfigDb.add(%{config | response_type: :async})
    send(function, {:return, 1})
    assert_receive {:reply, _, :ok, %Response{request_id: "a", async: true}}
    assert_receive {:push, "api", %Response{request_id: "a", async: false, result: "done"}}
  end

  describe "many cancels" do
    test "act at once up to 100 in a second, and wait like requests beyond", %{service: service} do
      register(service, "gate")
      channel = join(Ordered)
      push_in(channel, payload(service, "gate", "a"))
      function = running()
      began = System.monotonic_time(:second)
      for _ <- 1..1_000, do: push_in(channel, %{"request_id" => "x", "cancel" => true})
      {1, 0, waiting} = counts(channel)
      seconds = System.monotonic_time(:second) - began + 1
      assert (1_000 - waiting) in 100..(100 * seconds)
      # A client that cancels again and again keeps nobody from what it has asked for.
      send(function, {:return, 1})
      assert_receive {:reply, _, :ok, %Response{request_id: "a"}}

      for _ <- 1..1_000,
          do: assert_receive({:reply, _, :ok, %{request_id: "x", cancelled: false}})
    end

    test "are refused when too many wait", %{service: service} do
      register(service, "gate")
      channel = join(TwoWaiting)
      push_in(channel, payload(service, "gate", "a"))
      running()
      for _ <- 1..1_000, do: push_in(channel, %{"request_id" => "x", "cancel" => true})
      assert counts(channel) == {1, 0, 2}
      assert_receive {:reply, _, :error, %Response{request_id: "x", error: @unavailable}}
    end
  end

  describe "cancel" do
    test "ends an async request, which sends nothing more", %{service: service} do
      register(service, "gate", response_type: :async)
      channel = join(Ordered)
      push_in(channel, payload(service, "gate", "a"))
      assert_receive {:reply, _, :ok, %Response{async: true}}
      monitor = Process.monitor(running())
      assert cancel(channel, "a")
      await_down(monitor)
      refute cancel(channel, "a")
      refute_received {:push, _, _}
    end

    test "ends the running request of that id and no other", %{service: service} do
      register(service, "gate", arg_types: %{"name" => :string}, response_type: :async)
      channel = join(Ordered)
      push_in(channel, named(service, "1", "one"))
      push_in(channel, named(service, "2", "other"))
      monitor = Process.monitor(running("1"))
      other = running("2")
      for _ <- 1..2, do: assert_receive({:reply, _, :ok, %Response{async: true}})
      assert cancel(channel, "one")
      await_down(monitor)
      send(other, {:return, 1})
      assert_receive {:push, "api", %Response{request_id: "other"}}
      refute_received {:push, _, _}
    end

    test "does not reach the requests of another channel", %{service: service} do
      register(service, "gate", response_type: :async)
      channel = join(Ordered)
      push_in(channel, payload(service, "gate", "a"))
      assert_receive {:reply, _, :ok, %Response{async: true}}
      refute cancel(join(Ordered), "a")
      send(running(), {:return, 1})
      assert_receive {:push, "api", %Response{result: 1}}
    end

    test "leaves finished requests alone", %{service: service} do
      register(service, "gate", arg_types: %{"name" => :string})
      register(service, "later", function: :now, response_type: :async)
      channel = join(Ordered)
      push_in(channel, named(service, "a"))
      push_in(channel, payload(service, "later", "b"))
      send(running("a"), {:return, 1})
      assert_receive {:reply, _, :ok, %Response{request_id: "a"}}
      assert_receive {:push, "api", %Response{request_id: "b"}}
      refute cancel(channel, "a")
      refute cancel(channel, "b")
    end

    test "is confirmed only for what sends nothing more", %{service: service} do
      register(service, "now", response_type: :async)
      channel = join(Ordered)

      for n <- 1..300 do
        id = Integer.to_string(n)
        push_in(channel, payload(service, "now", id))
        assert_receive {:reply, _, :ok, %Response{request_id: ^id, async: true}}

        if cancel(channel, id) do
          settle(channel)
          in_channel(channel)
          refute_received {:push, "api", %Response{request_id: ^id}}
        else
          assert_receive {:push, "api", %Response{request_id: ^id}}
        end
      end
    end

    test "wins over a result that has not been passed on yet", %{service: service} do
      register(service, "gate", response_type: :async)
      channel = join(Ordered)
      push_in(channel, payload(service, "gate", "a"))
      assert_receive {:reply, _, :ok, %Response{async: true}}
      function = running()
      [work] = request_processes(channel)
      :erlang.suspend_process(work)
      send(function, {:return, 1})
      until(fn -> Process.info(work, :message_queue_len) == {:message_queue_len, 1} end)
      assert cancel(channel, "a")
      monitor = Process.monitor(work)
      :erlang.resume_process(work)
      await_down(monitor)
      in_channel(channel)
      refute_received {:push, _, _}
    end

    test "loses against a result that is being passed on", %{service: service} do
      register(service, "gate", response_type: :async)
      channel = join(Ordered)
      push_in(channel, payload(service, "gate", "a"))
      assert_receive {:reply, _, :ok, %Response{async: true}}
      function = running()
      :sys.suspend(channel)
      send(function, {:return, 1})
      until(fn -> Process.info(channel, :message_queue_len) == {:message_queue_len, 1} end)
      :sys.resume(channel)
      refute cancel(channel, "a")
      assert_receive {:push, "api", %Response{result: 1}}
    end

    test "without a usable id is an invalid request", %{service: _service} do
      channel = join(Ordered)

      for payload <- [%{"cancel" => true}, %{"cancel" => true, "request_id" => 5}] do
        ref = push_in(channel, payload)
        assert_receive {:reply, ^ref, :error, %Response{error: "Invalid request: " <> _}}
      end
    end

    test "that is not true is a request", %{service: service} do
      register(service, "now")
      channel = join(Ordered)
      push_in(channel, payload(service, "now", "a", %{"cancel" => "true"}))
      assert_receive {:reply, _, :ok, %Response{result: "done"}}
    end
  end

  describe "the end of the channel" do
    for reason <- [:kill, :shutdown, :crash] do
      test "by #{reason} ends its queue and the sync and async work", %{service: service} do
        register(service, "gate", arg_types: %{"name" => :string})
        register(service, "later", function: :gate, response_type: :async)
        channel = join(Ordered)
        push_in(channel, payload(service, "later", "b"))
        push_in(channel, named(service, "a"))
        push_in(channel, named(service, "waiting"))
        functions = [running("a"), running(nil)]
        settle(channel)
        assert [queue] = queues(channel)
        monitors = for pid <- [queue | functions], do: Process.monitor(pid)
        end_channel(channel, unquote(reason))
        Enum.each(monitors, &await_down/1)
      end
    end

    test "lets none requests go on", %{service: service} do
      register(service, "gate", response_type: :none)
      channel = join(Ordered)
      push_in(channel, payload(service, "gate", "a"))
      function = running()
      assert_receive {:reply, _, :ok, %{request_id: "a"}}
      monitor = Process.monitor(channel)
      end_channel(channel, :kill)
      await_down(monitor)
      send(function, {:return, 1})
      assert_receive {:returned, nil, ^function}
    end

    test "drops what waits", %{service: service} do
      register(service, "gate", arg_types: %{"name" => :string})
      channel = join(Ordered)
      for name <- ~w(a b), do: push_in(channel, named(service, name))
      monitor = Process.monitor(running("a"))
      settle(channel)
      end_channel(channel, :kill)
      await_down(monitor)
      refute_received {:running, "b", _}
    end

    defp end_channel(channel, :kill), do: Process.exit(channel, :kill)
    defp end_channel(channel, :shutdown), do: GenServer.stop(channel, {:shutdown, :left})
    # No handle_in of that event.
    defp end_channel(channel, :crash), do: push_in(channel, %{}, "unknown")
  end

  describe "accidents" do
    test "of a request's process are answered", %{service: service} do
      register(service, "gate", arg_types: %{"name" => :string})
      channel = join(Ordered)
      push_in(channel, named(service, "a"))
      push_in(channel, named(service, "b"))
      assert [running("a")] == request_processes(channel)
      kill_works(channel)
      assert_receive {:reply, _, :error, response}
      assert response == error("Internal Server Error", false, id: "a", executed: "yes")
      send(running("b"), {:return, 1})
      assert_receive {:reply, _, :ok, %Response{request_id: "b"}}
    end

    test "of the process of an async request are pushed", %{service: service} do
      register(service, "gate", response_type: :async)
      channel = join(Ordered)
      push_in(channel, payload(service, "gate", "a"))
      assert_receive {:reply, _, :ok, %Response{async: true}}
      monitor = Process.monitor(running())
      kill_works(channel)
      await_down(monitor)
      assert_receive {:push, "api", response}
      assert response == error("Async execution failed", false, id: "a")
      assert counts(channel) == {0, 0, 0}
    end

    test "of a request's process before its function runs are answered", %{service: service} do
      register(service, "gate",
        before_execute: {PhoenixGenApi.Test.ChannelFunctions, :hook, [self()]}
      )

      channel = join(Ordered)
      push_in(channel, payload(service, "gate", "a"))
      assert_receive {:hook, hook}
      monitor = Process.monitor(hook)
      kill_works(channel)
      assert_receive {:reply, _, :error, response}
      assert response == error("Request processing failed", false, id: "a")
      await_down(monitor)
    end

    test "of the queue are answered, and do not reach the channel", %{service: service} do
      register(service, "gate", arg_types: %{"name" => :string})
      channel = join(Ordered)
      push_in(channel, named(service, "a"))
      function = running("a")
      waiting = for name <- ~w(b c), do: push_in(channel, named(service, name))
      settle(channel)
      [queue] = queues(channel)
      Process.exit(queue, :kill)

      for ref <- waiting do
        assert_receive {:reply, ^ref, :error, %Response{error: "Request processing failed"}}
      end

      push_in(channel, named(service, "d"))
      send(function, {:return, 1})
      assert_receive {:reply, _, :ok, %Response{request_id: "a"}}
      send(running("d"), {:return, 1})
      assert_receive {:reply, _, :ok, %Response{request_id: "d"}}
      refute_received {:running, _name, _function}
    end

    defp kill_works(channel),
      do: for(pid <- request_processes(channel), do: Process.exit(pid, :kill))
  end

  defmodule Pieces do
    # A serializer whose data is in pieces, as that of Phoenix.
    def encode!(%Phoenix.Socket.Reply{payload: payload}),
      do: {:socket_push, :text, ["[", JSON.encode_to_iodata!(payload), "]"]}
  end

  test "a large answer is sent in one piece, and a small one as it was made", %{service: service} do
    register(service, "echo", arg_types: %{"text" => {:string, 200_000}})
    channel = join(Ordered, %{}, Pieces)

    for {size, one?} <- [{10, false}, {100_000, true}] do
      args = %{"text" => String.duplicate("x", size)}
      push_in(channel, payload(service, "echo", "a", %{"args" => args}))
      assert_receive {:socket_push, :text, data}
      assert is_binary(data) == one?
      assert IO.iodata_length(data) > size
    end
  end

  for {word, lives?} <- [
        return: true,
        exit_normally: false,
        raise: false,
        throw: false,
        exit: false
      ] do
    test "what a function has linked itself with ends as that does (#{word})", %{service: service} do
      # With a retry it has a process of its own, and nothing else is different.
      for retry <- [nil, 1] do
        register(service, "linked", retry: retry, retry_on: [:node_down])
        channel = join(Ordered)
        push_in(channel, payload(service, "linked", "a"))
        assert_receive {:linked, function, child}

        [function, child] =
          monitors = for pid <- [function, child], do: {pid, Process.monitor(pid)}

        send(elem(function, 0), unquote(word))
        assert_receive {:reply, _, _, %Response{request_id: "a"}}

        if unquote(lives?) do
          {pid, monitor} = function
          assert_receive {:DOWN, ^monitor, :process, ^pid, _}
          assert Process.alive?(elem(child, 0))
          Process.exit(elem(child, 0), :kill)
        else
          for {pid, monitor} <- monitors, do: assert_receive({:DOWN, ^monitor, :process, ^pid, _})
        end
      end
    end
  end

  test "the reply to a function that raises says nothing of why", %{service: service} do
    register(service, "boom")

    push_in(join(Ordered), payload(service, "boom", "a"))
    assert_receive {:reply, _, :error, response}
    refute inspect(response) =~ "hunter2"
  end
end
