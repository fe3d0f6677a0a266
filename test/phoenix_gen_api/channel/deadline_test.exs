defmodule PhoenixGenApi.Channel.DeadlineTest do
  # Deadlines of the requests of a channel, which count from the request's arrival there.
  use PhoenixGenApi.ChannelCase, async: true

  defmodule Ordered do
    use PhoenixGenApi, event: "api"
  end

  defmodule Parallel do
    use PhoenixGenApi, event: "api", concurrency: 4
  end

  defp gate(service, name, fields \\ []),
    do: register(service, name, [function: :gate, arg_types: %{"name" => :string}] ++ fields)

  defp named(service, type, id, fields \\ %{}),
    do: payload(service, type, id, Map.merge(%{"args" => %{"name" => id}}, fields))

  defp assert_late(ref, ms, executed) do
    assert_receive {:reply, ^ref, :error, %Response{code: "timeout"} = response}
    assert response.error == "Request timed out after #{ms}ms"
    assert response.details == [%{"executed" => executed}]
    assert response.can_retry
  end

  test "a payload's deadline ends a request that executes", %{service: service} do
    gate(service, "now")
    gate(service, "later", response_type: :async)
    channel = join(Parallel)

    # A busy machine may take longer than the first to begin.
    assert Enum.any?([500, 4_000, 20_000], fn ms ->
             ref = push_in(channel, named(service, "now", "a", %{"deadline_ms" => ms}))
             push_in(channel, named(service, "later", "b", %{"deadline_ms" => ms}))

             assert_receive {:reply, ^ref, :error,
                             %Response{details: [%{"executed" => executed}]}}

             assert_receive {:push, "api", %Response{request_id: "b", code: "timeout"} = later}
             refute later.async
             executed == "unknown"
           end)

    assert_receive {:running, "a", function}
    monitor = Process.monitor(function)
    assert_receive {:DOWN, ^monitor, :process, _, _}
  end

  test "one that is no positive integer is no request", %{service: service} do
    gate(service, "now")
    channel = join(Ordered)
    ref = push_in(channel, named(service, "now", "a", %{"deadline_ms" => "soon"}))
    assert_receive {:reply, ^ref, :error, %Response{code: "invalid_request"} = response}
    assert response.error =~ "deadline_ms must be a positive integer"
  end

  test "a request whose time is over before its turn comes is answered then, and not executed", %{
    service: service
  } do
    gate(service, "now")
    types = [now: :sync, later: :async, stream: :stream, none: :none]

    for {name, type} <- types,
        do: gate(service, "#{name}_own", response_type: type, deadline: 100)

    for {name, type} <- types, do: gate(service, "#{name}_late", response_type: type)
    channel = join(Ordered)
    first = push_in(channel, named(service, "now", "first"))
    assert_receive {:running, "first", function}

    waiting =
      for {name, _type} <- types do
        {push_in(channel, named(service, "#{name}_own", "#{name}_own")),
         push_in(channel, named(service, "#{name}_late", "#{name}_late", %{"deadline_ms" => 20}))}
      end

    # While that one still runs.
    for {own, late} <- waiting do
      assert_late(own, 100, "no")
      assert_late(late, 20, "no")
    end

    send(function, {:return, 1})
    assert_receive {:reply, ^first, :ok, %Response{result: 1}}
    until(fn -> counts(channel) == {0, 0, 0} end)
    refute_received {:running, _, _}
  end
end
