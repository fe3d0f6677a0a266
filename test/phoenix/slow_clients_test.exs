defmodule PhoenixGenApi.Phoenix.SlowClientsTest do
  # Clients that do not read, or want all, harm nobody else: over real sockets.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, ConfigDb, PhoenixGateway, SocketClient}
  alias PhoenixGenApi.Structs.{FunConfig, StreamHelper}

  @moduletag :phoenix
  @moduletag :capture_log

  defmodule Functions do
    # New ones each time: frames may be parts of what they are made of.
    def large(made) do
      :counters.add(made, 1, 1)
      String.duplicate("x", 5_000_000)
    end

    def quick(_made), do: "quick"

    def items(made, out) do
      with :ok <- StreamHelper.send_result(out, String.duplicate("x", 1_000_000)) do
        :counters.add(made, 1, 1)
        items(made, out)
      end
    end

    def idle(_made, _out), do: Process.sleep(:infinity)
  end

  # The hard limit, and what the requests that executed had made: 20 results of 5 MB, four of each of
  # five topics, each also as JSON, or three items of each of 100 streams. Without bounds it is 500 MB.
  @hard_bytes 4 * 8_388_608
  @executing_bytes %{"large" => 2 * 20 * 5_000_000, "items" => 3 * 100 * 1_000_000}
  # Buffers of the transport and the kernel's, garbage that is not collected yet.
  @slack_bytes 40_000_000

  setup do
    service = "hostile-#{System.unique_integer([:positive])}"
    made = :counters.new(1, [])

    for {type, fields} <- [
          large: [],
          quick: [],
          items: [response_type: :stream, request_info: true],
          idle: [response_type: :stream, request_info: true]
        ] do
      :ok =
        ConfigDb.add(
          struct!(
            %FunConfig{
              service: service,
              request_type: "#{type}",
              nodes: :local,
              mfa: {Functions, type, [made]}
            },
            fields
          )
        )

      on_exit(fn -> ConfigDb.delete(service, "#{type}") end)
    end

    %{service: service, made: made}
  end

  defp request(client, topic, service, type, id) do
    SocketClient.push(client, topic, "api", %{
      "service" => service,
      "request_type" => type,
      "request_id" => id
    })
  end

  defp most_binaries(until, most) do
    most = max(most, :erlang.memory(:binary))

    receive do
      ^until -> most
    after
      5 -> most_binaries(until, most)
    end
  end

  defp answered?(client, service) do
    ref =
      request(client, "api:honest", service, "quick", "h#{System.unique_integer([:positive])}")

    assert_receive {:reply, ^ref, "ok", %{"result" => "quick"}}
  end

  # Until the gateway makes no more for the client that does not read, whom others do not wait for.
  defp settle(client, service, made, unchanged \\ 0)
  defp settle(_client, _service, _made, 300), do: :ok

  defp settle(client, service, made, unchanged) do
    before = :counters.get(made, 1)
    answered?(client, service)
    # A thousand of 1 MB, or all requests of 5 MB: nothing holds it up.
    refute before > 1_000

    settle(
      client,
      service,
      made,
      if(:counters.get(made, 1) == before, do: unchanged + 1, else: 0)
    )
  end

  for server <- ["Bandit", "Cowboy"], type <- ["large", "items"] do
    @tag server: server, json_library: JSON
    test "a client that asks for #{type} and does not read holds a bounded number of bytes, with #{server}",
         %{service: service, made: made} = context do
      with {:ok, port} <- PhoenixGateway.start(context) do
        {honest, _} = SocketClient.join(port, "honest", "api:honest")
        {deaf, _} = SocketClient.join(port, "deaf", "api:1")
        refs = for n <- 2..5, do: SocketClient.push(deaf, "api:#{n}", "phx_join", %{})
        for ref <- refs, do: assert_receive({:reply, ^ref, "ok", _})
        answered?(honest, service)
        before = :erlang.memory(:binary)
        watcher = Task.async(fn -> most_binaries(:stop, 0) end)
        SocketClient.stop_reading(deaf)

        for n <- 1..100,
            do: request(deaf, "api:#{rem(n, 5) + 1}", service, unquote(type), "r#{n}")

        Await.until(fn -> :counters.get(made, 1) > 0 end)
        settle(honest, service, made)
        send(watcher.pid, :stop)
        held = Task.await(watcher, :infinity) - before

        assert held < @hard_bytes + @executing_bytes[unquote(type)] + @slack_bytes,
               "#{held} bytes"

        SocketClient.read_on(deaf)
        SocketClient.close(deaf)
        SocketClient.close(honest)
      end
    end
  end

  @tag server: "Bandit", json_library: JSON
  test "one user cannot take all streams, on however many topics",
       %{service: service} = context do
    with {:ok, port} <- PhoenixGateway.start(context) do
      {greedy, _} = SocketClient.join(port, "greedy", "api:1")
      refs = for n <- 2..6, do: SocketClient.push(greedy, "api:#{n}", "phx_join", %{})
      for ref <- refs, do: assert_receive({:reply, ^ref, "ok", _})

      refs =
        for topic <- 1..6,
            n <- 1..30,
            do: request(greedy, "api:#{topic}", service, "idle", "s#{n}")

      answers = for ref <- refs, do: assert_receive({:reply, ^ref, _status, _response})

      {started, refused} =
        Enum.split_with(answers, fn {:reply, _ref, status, _response} -> status == "ok" end)

      # A fifth of 500.
      assert length(started) == 100
      for {:reply, _, _, response} <- refused, do: assert(response["code"] == "unavailable")

      {honest, _} = SocketClient.join(port, "honest", "api:honest")
      ref = request(honest, "api:honest", service, "idle", "mine")
      assert_receive {:reply, ^ref, "ok", %{"success" => true, "has_more" => true}}
      SocketClient.close(greedy)
      SocketClient.close(honest)

      assert Await.until(fn ->
               PhoenixGenApi.WorkerPool.status(:stream_pool).busy_workers == 0
             end)
    end
  end
end
