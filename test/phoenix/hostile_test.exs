defmodule PhoenixGenApi.Phoenix.HostileTest do
  # What no decent client sends, over real sockets.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, ConfigDb, PhoenixGateway, SocketClient, WorkerPool}
  alias PhoenixGenApi.Test.ChannelFunctions

  @moduletag :phoenix
  @moduletag :capture_log

  setup do
    [{_server, adapter} | _] = PhoenixGateway.adapters()
    port = PhoenixGateway.start(adapter, JSON)
    service = "hostile-#{System.unique_integer([:positive])}"
    Code.ensure_loaded!(ChannelFunctions)
    %{client: connect(port), port: port, service: service}
  end

  defp connect(port) do
    {client, _response} = SocketClient.join(port, "ann", "api:1")
    client
  end

  defp register(service, type, fields) do
    ChannelFunctions.register(service, type, fields)
    on_exit(fn -> ConfigDb.delete(service, type) end)
  end

  defp ping(client) do
    ref = SocketClient.push(client, "api:1", "ping", %{"a" => 1})
    assert_receive {:reply, ^ref, "ok", %{"a" => 1}}
  end

  defp nested(depth, open, close),
    do: String.duplicate(open, depth) <> "1" <> String.duplicate(close, depth)

  defp message(payload), do: [~s(["api:1","x","api:1","api",), payload, "]"]

  test "an event of the channel's own is its own", %{client: client} do
    ping(client)
  end

  test "no JSON ends the channel: each payload is an error that tells nothing", %{client: client} do
    request = ~s({"service":"s","request_type":"t","request_id":"r","args":)

    payloads = [
      "null",
      "true",
      "1e300",
      "123456789012345678901234567890",
      ~s("text"),
      "[]",
      "[1,2]",
      "{}",
      ~s({"":""}),
      ~s({"cancel":true}),
      ~s({"cancel":true,"request_id":{}}),
      ~s({"cancel":{},"request_id":"r"}),
      ~s({"request_id":"\\u0000"}),
      ~s({"request_id":[[]],"service":{},"request_type":1.5,"args":[],"version":{}}),
      ~s({"args":5}),
      nested(10_000, "[", "]"),
      nested(1_000_000, "[", "]"),
      nested(10_000, ~s({"a":), "}"),
      request <> nested(10_000, "[", "]") <> "}",
      request <> nested(1_000, ~s({"a":), "}") <> "}",
      request <> nested(300_000, ~s({"a":), "}") <> "}",
      request <> "{}" <> ~s(,"user_roles":["a",["b"]],"user_id":{},"ip_address":[1]}),
      request <> ~s({"a":") <> String.duplicate("x", 3_000_000) <> ~s("}}),
      ~s({"request_id":") <> String.duplicate("r", 100_000) <> ~s("}),
      "{" <> Enum.map_join(1..20_000, ",", &~s("#{&1}":#{&1})) <> "}"
    ]

    for payload <- payloads do
      SocketClient.text(client, message(payload))
      assert_receive {:reply, "x", "error", %{"success" => false, "error" => error}}
      assert error =~ ~r/\A(Invalid request: |unsupported function: )/
      refute error =~ ~r/Error|clause|:erlang|Elixir\./
    end

    ping(client)
    refute_received {:closed, _}
  end

  test "a binary payload is an error of the request", %{client: client} do
    # The layout of the V2 serializer: lengths, then join ref, ref, topic, event and data.
    header = <<0, 5, 1, 5, 3, "api:1", "x", "api:1", "api">>

    for data <- ["", <<0>>, <<255, 254, 0>>, :binary.copy(<<255>>, 1_500_000)] do
      SocketClient.frame(client, 2, [header, data])
      assert_receive {:reply, "x", "error", %{"error" => "Invalid request: " <> _}}
    end

    ping(client)
  end

  test "frames that break the protocol end that connection and no other", %{port: port} do
    bystander = connect(port)

    hostile = [
      &SocketClient.text(&1, "not json"),
      &SocketClient.text(&1, <<255, 254>>),
      &SocketClient.text(&1, "[]"),
      &SocketClient.frame(&1, 2, <<0, 255, 255, 255, 255>>),
      &SocketClient.frame(&1, 11, "no such opcode"),
      &SocketClient.raw(&1, :binary.copy(<<255>>, 10_000)),
      &SocketClient.text(&1, message(~s(") <> String.duplicate("x", 5_000_000) <> ~s(")))
    ]

    for send_it <- hostile do
      client = connect(port)
      %{id: id} = client
      send_it.(client)
      assert_receive {:closed, ^id}
      ping(bystander)
    end
  end

  test "random bytes and random JSON leave the server as it was", %{port: port} do
    seed = System.unique_integer([:positive])
    :rand.seed(:exsss, {seed, 1, 2})
    bystander = connect(port)

    for round <- 1..200 do
      client = connect(port)

      for _ <- 1..5 do
        bytes = :crypto.strong_rand_bytes(:rand.uniform(300))

        case :rand.uniform(4) do
          1 ->
            SocketClient.text(client, message(JSON.encode!(random(4))))

          2 ->
            SocketClient.text(client, JSON.encode!(random(3)))

          3 ->
            SocketClient.frame(client, Enum.random([1, 2, 8, 9, 10]), bytes)

          4 ->
            SocketClient.text(
              client,
              JSON.encode!([
                nil,
                "1",
                "api:1",
                Enum.random(["api", "phx_leave", "phx_join", "x"]),
                random(3)
              ])
            )
        end
      end

      SocketClient.close(client)
      if rem(round, 50) == 0, do: ping(bystander)
    end

    ping(bystander)
  end

  defp random(0), do: Enum.random([nil, true, 1, -1.5, "", "api", "é\0", 1.0e200])

  defp random(depth) do
    case :rand.uniform(3) do
      1 ->
        random(0)

      2 ->
        for _ <- 1..3//1, do: random(depth - 1)

      3 ->
        Map.new(
          ["service", "request_type", "request_id", "args", "cancel"],
          &{&1, random(depth - 1)}
        )
    end
  end

  test "with the end of a connection everything that it has started ends", %{
    client: client,
    service: service,
    port: port
  } do
    register(service, "gate", response_type: :async, timeout: :infinity)
    other = connect(port)

    pids =
      for n <- 1..3 do
        SocketClient.push(other, "api:1", "api", %{
          "service" => service,
          "request_type" => "gate",
          "request_id" => "r#{n}"
        })

        assert_receive {:running, _, pid}
        Process.monitor(pid)
        pid
      end

    SocketClient.close(other)
    for pid <- pids, do: assert_receive({:DOWN, _, :process, ^pid, _})
    Await.until(fn -> WorkerPool.status(:async_pool).busy_workers == 0 end)
    ping(client)
  end
end
