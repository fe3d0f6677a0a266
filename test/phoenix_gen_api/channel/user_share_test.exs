defmodule PhoenixGenApi.Channel.UserShareTest do
  # How much of the worker pools one user can take: contract 17.3. Not async: it fills the pools of
  # the application.
  use PhoenixGenApi.ChannelCase, async: false

  alias PhoenixGenApi.{Executor, WorkerPool}
  alias PhoenixGenApi.Structs.Request

  defmodule Wide do
    use PhoenixGenApi, event: "api", concurrency: 200, max_running: 1_000
  end

  defmodule Functions do
    def gate(test) do
      send(test, {:running, self()})

      receive do
        :return -> "done"
      end
    end

    def stream(test, _out) do
      send(test, {:running, self()})
      Process.sleep(:infinity)
    end
  end

  # A fifth of the pools of the application: 1,000 and 500.
  @async 200
  @streams 100

  setup %{service: service} do
    # What the test before had running ends with its channels, which takes its time.
    for pool <- [:async_pool, :stream_pool] do
      until(fn -> match?(%{busy_workers: 0, queued_tasks: 0}, WorkerPool.status(pool)) end)
    end

    for {type, response_type} <- [gate: :async, stream: :stream] do
      :ok =
        ConfigDb.add(%FunConfig{
          service: service,
          request_type: "#{type}",
          nodes: :local,
          mfa: {Functions, type, [self()]},
          response_type: response_type,
          request_info: response_type == :stream,
          timeout: 300_000
        })
    end

    :ok
  end

  # Of a connection of its own each: what a connection may have is another bound.
  defp client(assigns),
    do: join(Wide, assigns, PhoenixGenApi.ChannelCase.Serializer, connection())

  defp connection do
    test = self()
    pid = spawn(fn -> forward(test) end)
    on_exit(fn -> Process.exit(pid, :kill) end)
    pid
  end

  defp forward(test) do
    receive do
      message -> send(test, message)
    end

    forward(test)
  end

  defp ask(channel, service, type), do: push_in(channel, payload(service, type, unique()))
  defp unique, do: "r#{System.unique_integer([:positive])}"

  defp accepted(ref) do
    assert_receive {:reply, ^ref, status, %Response{} = response}
    assert {status, response.error} == {:ok, nil}
  end

  defp refused(ref) do
    assert_receive {:reply, ^ref, :error, %Response{error: "Service temporarily unavailable"} = r}
    assert r.can_retry
  end

  defp fill(assigns, service, type, count) do
    for _ <- 1..div(count, 100), reduce: [] do
      refs ->
        channel = client(assigns)
        refs ++ for(_ <- 1..100, do: ask(channel, service, type))
    end
    |> Enum.each(&accepted/1)

    for _ <- 1..count do
      assert_receive {:running, pid}
      pid
    end
  end

  for {assigns, same, name} <- [
        {%{user_id: "ann"}, %{user_id: "ann", device_id: "other"}, "user"},
        {%{ip_address: "2001:db8::1"}, %{ip_address: "2001:DB8:0:0::2"}, "address"}
      ] do
    test "one #{name} takes at most its share of the async pool, over all connections",
         %{service: service} do
      pids = fill(unquote(Macro.escape(assigns)), service, "gate", @async)
      refused(ask(client(unquote(Macro.escape(same))), service, "gate"))
      accepted(ask(client(%{user_id: "bob"}), service, "gate"))
      accepted(ask(client(%{}), service, "gate"))

      send(hd(pids), :return)
      assert_receive {:push, "api", %Response{result: "done"}}
      accepted(ask(client(unquote(Macro.escape(same))), service, "gate"))
    end
  end

  test "a stream over the share of its user is refused at once and not acknowledged",
       %{service: service} do
    fill(%{user_id: "ann"}, service, "stream", @streams)
    refused(ask(client(%{user_id: "ann"}), service, "stream"))
    accepted(ask(client(%{user_id: "bob"}), service, "stream"))
  end

  test "calls of the gateway's own code have no share", %{service: service} do
    fill(%{user_id: "ann"}, service, "gate", @async)
    request = %Request{request_id: "r", service: service, request_type: "gate", user_id: "ann"}
    assert %Response{success: true, async: true} = Executor.execute!(request)
    assert_receive {:running, _pid}
  end

  test "a stream is acknowledged once it has a slot, and refused without one; nothing else comes",
       %{service: service} do
    %{idle_workers: idle} = WorkerPool.status(:stream_pool)
    gates = for _ <- 1..idle, do: occupy()
    channel = client(%{user_id: "ann"})
    refused(ask(channel, service, "stream"))
    assert WorkerPool.status(:stream_pool).queued_tasks == 0

    # One that gets its slot in time.
    ref = ask(channel, service, "stream")
    until(fn -> WorkerPool.status(:stream_pool).queued_tasks == 1 end)
    send(hd(gates), :return)
    accepted(ref)
    assert_receive {:running, _function}
    refute_received {:push, _event, _response}
  end

  defp occupy do
    test = self()
    :ok = WorkerPool.execute_async(:stream_pool, fn -> Functions.gate(test) end, timeout: 300_000)
    assert_receive {:running, pid}
    # Killed, it would count as failed, and open the circuit of the pool.
    on_exit(fn -> send(pid, :return) end)
    pid
  end
end
