defmodule PhoenixGenApi.Channel.CancelTest do
  # Ids of requests, and cancels of requests in every state.
  use PhoenixGenApi.ChannelCase, async: true

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Test.{Cluster, Events}

  defmodule Replying do
    use PhoenixGenApi, event: "api", concurrency: 4
  end

  defmodule Ordered do
    use PhoenixGenApi, event: "api"
  end

  defmodule Pushing do
    use PhoenixGenApi, event: "api", concurrency: 4, deliver: :push
  end

  defmodule Both do
    use PhoenixGenApi, event: "api", concurrency: 4, deliver: :both
  end

  defmodule TwoEvents do
    use PhoenixGenApi, event: "api", concurrency: 4

    def handle_in("admin", payload, socket),
      do: PhoenixGenApi.Channel.handle_in(payload, socket, event: "admin", concurrency: 4)
  end

  @duplicate %{
    success: false,
    error: "Duplicate request id",
    code: "duplicate_request_id",
    can_retry: false,
    details: nil
  }

  defp gate(service, name, fields \\ []),
    do: register(service, name, [function: :gate, arg_types: %{"name" => :string}] ++ fields)

  defp named(service, type, id), do: payload(service, type, id, %{"args" => %{"name" => id}})

  defp running(name) do
    assert_receive {:running, ^name, function}
    {function, Process.monitor(function)}
  end

  defp assert_ended({_pid, monitor}), do: assert_receive({:DOWN, ^monitor, :process, _, _})

  defp assert_duplicate(ref) do
    assert_receive {:reply, ^ref, :error, %Response{} = response}
    assert Map.take(response, Map.keys(@duplicate)) == @duplicate
    response.request_id
  end

  defp cancel(channel, id, event \\ "api") do
    ref = push_in(channel, %{"request_id" => id, "cancel" => true}, event)
    assert_receive {:reply, ^ref, :ok, %{request_id: ^id, cancelled: cancelled?}}
    cancelled?
  end

  defp assert_cancelled(ref) do
    assert_receive {:reply, ^ref, :error, %Response{code: "cancelled"} = response}

    assert %{success: false, error: "Request cancelled", can_retry: false, details: nil} =
             response

    response.request_id
  end

  # Whatever was on its way by now is there.
  defp settle(channel), do: in_channel(channel)

  describe "the id of an unfinished async or stream request" do
    test "is refused, in whatever state that is, and free again when it is over", %{
      service: service
    } do
      gate(service, "later", response_type: :async)
      gate(service, "now")
      channel = join(Replying)
      ref = push_in(channel, named(service, "later", "a"))
      second = push_in(channel, named(service, "later", "a"))
      assert assert_duplicate(second) == "a"
      assert_receive {:reply, ^ref, :ok, %Response{async: true}}
      {function, _} = running("a")
      assert_duplicate(push_in(channel, named(service, "now", "a")))
      send(function, {:return, 1})
      assert_receive {:push, "api", %Response{request_id: "a", result: 1}}
      third = push_in(channel, named(service, "now", "a"))
      {function, _} = running("a")
      send(function, {:return, 2})
      assert_receive {:reply, ^third, :ok, %Response{result: 2}}
      refute_received {:running, _, _}
    end

    test "is refused while it waits, and free after a cancel", %{service: service} do
      gate(service, "later", response_type: :async)
      gate(service, "now")
      channel = join(Ordered)
      first = push_in(channel, named(service, "now", "first"))
      {function, _} = running("first")
      waiting = push_in(channel, named(service, "later", "a"))
      assert_duplicate(push_in(channel, named(service, "now", "a")))
      assert cancel(channel, "a")
      assert assert_cancelled(waiting) == "a"
      again = push_in(channel, named(service, "now", "a"))
      send(function, {:return, 1})
      assert_receive {:reply, ^first, :ok, %Response{result: 1}}
      {function, _} = running("a")
      send(function, {:return, 2})
      assert_receive {:reply, ^again, :ok, %Response{result: 2}}
    end

    test "is refused on another event of the channel, and not in another channel", %{
      service: service
    } do
      gate(service, "later", response_type: :async)
      channel = join(TwoEvents)
      push_in(channel, named(service, "later", "a"))
      {_, _} = running("a")
      assert_duplicate(push_in(channel, named(service, "later", "a"), "admin"))
      push_in(join(TwoEvents), named(service, "later", "a"), "admin")
      {_, _} = running("a")
      # And a cancel reaches those of its event.
      refute cancel(channel, "a", "admin")
      assert cancel(channel, "a")
      push_in(channel, named(service, "later", "a"), "admin")
      {_, _} = running("a")
    end

    test "two streams cannot share one", %{service: service} do
      register(service, "feed", response_type: :stream, request_info: true)
      channel = join(Replying)
      push_in(channel, payload(service, "feed", "s"))
      assert_receive {:feeding, "s", _producer, _out}
      assert_duplicate(push_in(channel, payload(service, "feed", "s")))
      assert cancel(channel, "s")
      assert_receive {:push, "api", %Response{request_id: "s", has_more: false}}
      push_in(channel, payload(service, "feed", "s"))
      assert_receive {:feeding, "s", _producer, _out}
      refute_received {:feeding, _, _, _}
    end
  end

  test "sync requests may share an id, and a cancel reaches all of them", %{service: service} do
    gate(service, "now")
    channel = join(Replying)
    refs = for _ <- 1..3, do: push_in(channel, named(service, "now", "a"))
    functions = for _ <- 1..3, do: running("a")
    assert cancel(channel, "a")
    for ref <- refs, do: assert(assert_cancelled(ref) == "a")
    Enum.each(functions, &assert_ended/1)
    refute cancel(channel, "a")
  end

  for {module, deliver} <- [{Pushing, :push}, {Both, :both}] do
    test "with deliver: #{deliver} no unfinished request shares its id, and is refused by reply",
         %{
           service: service
         } do
      gate(service, "now")
      channel = join(unquote(module))
      push_in(channel, named(service, "now", "a"))
      {function, _} = running("a")
      ref = push_in(channel, named(service, "now", "a"))
      assert_duplicate(ref)
      # Nothing else for it, a receipt neither.
      send(function, {:return, 1})
      assert_receive {:push, "api", %Response{request_id: "a", result: 1}}
      settle(channel)
      refute_received {:reply, ^ref, _, _}
      refute_received {:push, _, _}
      push_in(channel, named(service, "now", "a"))
      {_, _} = running("a")
    end
  end

  describe "a cancel" do
    test "of a request that waits keeps its function from ever being called", %{service: service} do
      gate(service, "now")
      channel = join(Ordered)
      push_in(channel, named(service, "now", "first"))
      {first, _} = running("first")
      refs = for id <- ~w(b a a c), do: {id, push_in(channel, named(service, "now", id))}
      assert cancel(channel, "a")
      for {"a", ref} <- refs, do: assert_cancelled(ref)
      send(first, {:return, 1})

      for id <- ~w(b c) do
        {function, _} = running(id)
        send(function, {:return, id})
        assert_receive {:reply, _, :ok, %Response{request_id: ^id}}
      end

      refute_received {:running, _, _}
    end

    test "of one that executes ends its function, answers it, and lets the next one begin", %{
      service: service
    } do
      gate(service, "now")
      channel = join(Ordered)
      ref = push_in(channel, named(service, "now", "a"))
      next = push_in(channel, named(service, "now", "b"))
      executing = running("a")
      assert cancel(channel, "a")
      assert_cancelled(ref)
      assert_ended(executing)
      {function, _} = running("b")
      send(function, {:return, 2})
      assert_receive {:reply, ^next, :ok, %Response{result: 2}}
      settle(channel)
      refute_received {:reply, ^ref, _, _}
    end

    test "of an async request whose permission is being asked for ends that", %{service: service} do
      register(service, "later",
        function: :now,
        response_type: :async,
        check_permission: {:callback, {PhoenixGenApi.Test.ChannelFunctions, :gate, [self()]}}
      )

      channel = join(Replying)
      ref = push_in(channel, payload(service, "later", "a"))
      assert_receive {:running, _request, callback}
      monitor = Process.monitor(callback)
      assert cancel(channel, "a")
      assert_cancelled(ref)
      assert_receive {:DOWN, ^monitor, :process, _, _}
    end

    for {type, function, fields} <- [
          {:sync, :now, []},
          {:async, :now, [response_type: :async]},
          {:stream, :feed, [response_type: :stream, request_info: true]}
        ] do
      test "that comes before the answer or the acknowledgement is sent ends a request (#{type})",
           %{service: service} do
        hold_encoding()
        register(service, "now", [function: unquote(function)] ++ unquote(fields))
        channel = join(Replying, %{}, Waiting)
        ref = push_in(channel, payload(service, "now", "a"))
        assert_receive {:encoding, answering}
        monitor = Process.monitor(answering)
        cancel = push_in(channel, %{"request_id" => "a", "cancel" => true})

        for _answer <- 1..2 do
          assert_receive {:encoding, ^channel}
          send(channel, :encode)
        end

        assert_cancelled(ref)
        assert_receive {:reply, ^cancel, :ok, %{cancelled: true}}
        assert_ended({answering, monitor})
        until(fn -> counts(channel) == {0, 0, 0} end)
        refute_received {:reply, ^ref, _, _}
        refute_received {:push, "api", _}
        # Its id is free again.
        again = push_in(channel, payload(service, "now", "a"))
        assert_receive {:encoding, answering}
        send(answering, :encode)
        assert_receive {:reply, ^again, :ok, %Response{request_id: "a"}}
      end
    end

    test "of one that executes on another node ends its function there", %{service: service} do
      {_peer, node} = Cluster.start_peer()

      gate(service, "now", nodes: [node])
      channel = join(Replying)
      ref = push_in(channel, named(service, "now", "a"))
      {function, _} = executing = running("a")
      assert node(function) == node
      assert cancel(channel, "a")
      assert_cancelled(ref)
      assert_ended(executing)
    end

    test "is counted in telemetry as the one stop of its request", %{service: service} do
      event = [:phoenix_gen_api, :executor, :request]

      Events.forward(
        for(kind <- [:start, :stop, :exception], do: event ++ [kind]),
        fn event, _measurements, meta ->
          if meta.service == service, do: {List.last(event), meta[:code]}, else: :other
        end
      )

      gate(service, "now")
      channel = join(Replying)
      ref = push_in(channel, named(service, "now", "a"))
      {_, _} = running("a")
      assert cancel(channel, "a")
      assert_cancelled(ref)
      assert_receive {:start, nil}
      assert_receive {:stop, "cancelled"}
      settle(channel)
      refute_received {:stop, _}
      refute_received {:exception, _}
    end

    test "that comes with the answer is one of the two", %{service: service} do
      gate(service, "now")
      channel = join(Replying)

      for n <- 1..200 do
        ref = push_in(channel, named(service, "now", "a#{n}"))
        {function, _} = running("a#{n}")
        send(function, {:return, n})
        cancelled? = cancel(channel, "a#{n}")
        assert_receive {:reply, ^ref, status, %Response{} = response}

        if cancelled?,
          do: assert({status, response.code} == {:error, "cancelled"}),
          else: assert({status, response.result} == {:ok, n})

        refute_received {:reply, ^ref, _, _}
      end
    end

    test "leaves room: nothing of what was cancelled counts any more", %{service: service} do
      gate(service, "now")
      gate(service, "later", response_type: :async)
      channel = join(Replying)

      for n <- 1..300 do
        type = if rem(n, 2) == 0, do: "now", else: "later"
        push_in(channel, named(service, type, "a"))
        {_, monitor} = running("a")
        cancel = push_in(channel, %{"request_id" => "a", "cancel" => true})
        assert_receive {:reply, ^cancel, :ok, %{cancelled: true}}
        assert_receive {:DOWN, ^monitor, :process, _, _}
      end

      %{delivery: %{connection: {share, _pid, _channel}}} = requests(channel)
      assert Native.client_connection_unfinished(share) == 0
    end
  end
end
