defmodule PhoenixGenApi.Http.InetsTest do
  # The server on OTP's own web server, over real sockets.
  use PhoenixGenApi.ChannelCase, async: true

  alias PhoenixGenApi.Http.{Inets, Options}
  alias PhoenixGenApi.Structs.StreamHelper
  alias PhoenixGenApi.Test.RawHttp

  @ann %{user_id: "ann"}

  defp serve(options \\ []) do
    pid = start_supervised!({Inets, Keyword.put_new(options, :identity, @ann)})
    Inets.port(pid)
  end

  defp gone(pid) do
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
  end

  test "answers requests, as the user that it was started with", %{service: service} do
    register(service, "whoami", request_info: true)
    port = serve(identity: %{user_id: 7, user_roles: ["admin"]})
    assert {200, headers, body} = RawHttp.post(port, "/#{service}/whoami", %{}, [])
    assert %{"user_id" => "7", "user_roles" => ["admin"]} = body["result"]
    assert body["result"]["ip_address"] == "127.0.0.1"
    assert headers["x-request-id"] == body["request_id"]

    assert {200, _, %{"result" => %{"user_id" => "7"}}} =
             RawHttp.post(port, "/#{service}/whoami", "", [
               {"x-gen-api-identity", ~s({"user_id":"root"})}
             ])
  end

  test "the console may send another user", %{service: service} do
    register(service, "whoami", request_info: true)
    port = serve(console: true)
    ask = &RawHttp.post(port, "/#{service}/whoami", "", [{"x-gen-api-identity", &1}])

    assert {200, _, %{"result" => %{"user_id" => "bob", "user_roles" => ["admin"]}}} =
             ask.(~s({"user_id": "bob", "user_roles": ["admin"]}))

    assert {401, _, _} = ask.(~s({"user_id": null}))
    assert {200, _, %{"result" => %{"user_id" => "ann"}}} = ask.("no JSON")
    assert {401, _, _} = ask.("{}")
  end

  test "without a user, nothing", %{service: service} do
    register(service, "now")
    port = serve(identity: nil)
    assert {401, headers, _} = RawHttp.post(port, "/#{service}/now", "", [])
    assert headers["www-authenticate"] == "Bearer"
  end

  test "keeps a connection open, and answers one request after the other on it",
       %{service: service} do
    register(service, "echo", arg_types: %{"text" => :string})
    port = serve()
    type = [{"content-type", "application/json"}]
    socket = RawHttp.open(port, "POST", "/#{service}/echo", type, ~s({"text":"first"}))
    assert RawHttp.read_until(socket, "can_retry\":false}") =~ "first"
    second = ~s({"text":"second"})

    :ok =
      :gen_tcp.send(socket, [
        "POST /#{service}/echo HTTP/1.1\r\nhost: localhost:#{port}\r\n",
        "content-type: application/json\r\ncontent-length: #{byte_size(second)}\r\n\r\n",
        second
      ])

    assert RawHttp.read_until(socket, "can_retry\":false}") =~ "second"
  end

  test "answers only those who ask for this machine by its own name", %{service: service} do
    register(service, "now")
    port = serve()
    ask = &RawHttp.post(port, "/#{service}/now", "", &1)

    for host <- ["127.0.0.1", "localhost", "[::1]"] do
      assert {200, _, _} = ask.([{"host", "#{host}:#{port}"}])

      assert {200, _, _} =
               ask.([{"host", "localhost:#{port}"}, {"origin", "http://#{host}:#{port}"}])
    end

    for host <- [
          "evil.example",
          "evil.example:#{port}",
          "127.0.0.1",
          "localhost:1",
          "127.0.0.1.evil.example:#{port}",
          "localhost:#{port}@evil.example"
        ] do
      assert {403, _, %{"code" => "forbidden"}} = ask.([{"host", host}])
    end

    for origin <- [
          "http://evil.example",
          "null",
          "https://localhost:#{port}",
          "http://localhost",
          "file://"
        ] do
      assert {403, _, _} = ask.([{"origin", origin}])
    end

    assert {403, _, _} = ask.([{"sec-fetch-site", "cross-site"}])
    socket = RawHttp.raw(port, "POST /#{service}/now HTTP/1.0\r\n\r\n")
    assert RawHttp.read_all(socket) =~ " 403 "
  end

  test "cannot be reached from outside" do
    port = serve()
    {:ok, addresses} = :inet.getifaddrs()

    for {_name, options} <- addresses,
        {:addr, ip} <- options,
        tuple_size(ip) == 4,
        elem(ip, 0) != 127 do
      assert {:error, _refused} = :gen_tcp.connect(ip, port, [:binary], 1_000)
    end
  end

  test "a stream arrives as events, and a client that is gone ends its function at the next frame",
       %{service: service} do
    register(service, "feed", response_type: :stream, request_info: true, timeout: :infinity)
    port = serve()
    accept = [{"accept", "text/event-stream"}]
    socket = RawHttp.open(port, "POST", "/#{service}/feed", accept, "")
    assert_receive {:feeding, _id, function, out}
    StreamHelper.send_result(out, "one")
    assert RawHttp.read_until(socket, "\"one\"") =~ "content-type: text/event-stream"
    :gen_tcp.close(socket)
    StreamHelper.send_result(out, "two")
    gone(function)
  end

  test "a client that is gone ends its function at a heartbeat, without any frame",
       %{service: service} do
    register(service, "feed", response_type: :stream, request_info: true, timeout: :infinity)
    # Not for others: options that are made already.
    port = serve(timing: [heartbeat_ms: 1])
    socket = RawHttp.open(port, "POST", "/#{service}/feed", [], "")
    assert_receive {:feeding, _id, function, _out}
    assert RawHttp.read_until(socket, "1\r\n \r\n") =~ "x-ndjson"
    :gen_tcp.close(socket)
    gone(function)
  end

  defmodule Flood do
    def forever(test, %StreamHelper{} = out) do
      count = :counters.new(1, [])
      send(test, {:flood, self(), count})
      send_on(out, count, String.duplicate("x", 4_096))
    end

    defp send_on(out, count, item) do
      StreamHelper.send_result(out, item)
      :counters.add(count, 1, 1)
      send_on(out, count, item)
    end
  end

  test "a client that does not read pauses its function; one that goes on reading lets it go on",
       %{service: service} do
    register(service, "flood",
      mfa: {Flood, :forever, [self()]},
      function: nil,
      response_type: :stream,
      request_info: true,
      timeout: :infinity
    )

    port = serve()
    socket = RawHttp.open(port, "POST", "/#{service}/flood", [], "")
    assert_receive {:flood, function, count}
    until(fn -> :counters.get(count, 1) > 0 end)
    paused = stands(count, 0, 0)
    read(socket, 8 * paused * 4_096)
    assert :counters.get(count, 1) > paused
    :gen_tcp.close(socket)
    gone(function)
  end

  # What it counts to when it no longer moves: the same for fifty looks.
  defp stands(_count, seen, 50), do: seen

  defp stands(count, seen, times) do
    receive do
    after
      5 -> :ok
    end

    case :counters.get(count, 1) do
      ^seen -> stands(count, seen, times + 1)
      more -> stands(count, more, 0)
    end
  end

  defp read(_socket, bytes) when bytes <= 0, do: :ok

  defp read(socket, bytes) do
    {:ok, some} = :gen_tcp.recv(socket, 0, 30_000)
    read(socket, bytes - byte_size(some))
  end

  test "a stream ends with its last frame, and the connection goes on", %{service: service} do
    register(service, "feed", response_type: :stream, request_info: true)
    port = serve()
    socket = RawHttp.open(port, "POST", "/#{service}/feed", [], "")
    assert_receive {:feeding, _id, _function, out}
    StreamHelper.send_last_result(out, "last")
    answer = RawHttp.read_until(socket, "\r\n0\r\n\r\n")
    assert {200, _, lines} = RawHttp.parse(answer)
    assert %{"result" => "last"} = JSON.decode!(lines)
    :ok = :gen_tcp.send(socket, "GET /nothing HTTP/1.1\r\nhost: localhost:#{port}\r\n\r\n")
    assert RawHttp.read_until(socket, "not_found") =~ " 404 "
  end

  test "a client of HTTP 1.0 gets a stream without chunks", %{service: service} do
    register(service, "feed", response_type: :stream, request_info: true)
    port = serve()

    socket =
      RawHttp.raw(port, "POST /#{service}/feed HTTP/1.0\r\nhost: localhost:#{port}\r\n\r\n")

    assert_receive {:feeding, _id, _function, out}
    StreamHelper.send_last_result(out, "last")
    answer = RawHttp.read_all(socket)
    assert {200, headers, lines} = RawHttp.parse(answer)
    assert headers["transfer-encoding"] == nil
    assert %{"result" => "last"} = JSON.decode!(lines)
  end

  test "a client that sends slowly, half closes or sends nonsense keeps nobody waiting",
       %{service: service} do
    register(service, "echo", arg_types: %{"text" => :string})
    port = serve()
    whole = &RawHttp.post(port, "/#{service}/echo", %{"text" => "hi"}, &1)

    slow =
      for _ <- 1..20 do
        RawHttp.raw(
          port,
          "POST /#{service}/echo HTTP/1.1\r\nhost: localhost:#{port}\r\ncontent-le"
        )
      end

    body =
      for _ <- 1..20 do
        head =
          "host: localhost:#{port}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"

        RawHttp.raw(port, "POST /#{service}/echo HTTP/1.1\r\n" <> head)
      end

    assert {200, _, _} = whole.([])

    # One that has sent its whole request may stop sending.
    json = ~s({"text":"hi"})

    head =
      "host: localhost:#{port}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: #{byte_size(json)}\r\n\r\n"

    socket = RawHttp.raw(port, "POST /#{service}/echo HTTP/1.1\r\n" <> head <> json)
    :gen_tcp.shutdown(socket, :write)
    assert RawHttp.read_all(socket) =~ "\"hi\""

    for nonsense <- [
          "\r\n\r\n",
          "GET\r\n\r\n",
          <<22, 3, 1, 0, 5, 1, 0, 0, 1>>,
          "POST / HTTP/9.9\r\n\r\n",
          "POST /../../etc/passwd HTTP/1.1\r\nhost: localhost:#{port}\r\nconnection: close\r\n\r\n",
          "POST /a/b HTTP/1.1\r\nhost: localhost:#{port}\r\ncontent-length: -5\r\n\r\n",
          "POST /a/b HTTP/1.1\r\nhost: localhost:#{port}\r\ncontent-length: x\r\n\r\n",
          ["GET / HTTP/1.1\r\nx: ", String.duplicate("a", 100_000), "\r\n\r\n"],
          "POST /a/b HTTP/1.1\r\nhost: localhost:#{port}\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
        ] do
      socket = RawHttp.raw(port, nonsense)
      :gen_tcp.shutdown(socket, :write)
      answer = RawHttp.read_all(socket)
      refute answer =~ "root:"
      refute answer =~ " 200 "
    end

    assert {200, _, _} = whole.([])
    for socket <- slow ++ body, do: :gen_tcp.close(socket)
  end

  test "a body over the limit is refused", %{service: service} do
    register(service, "now")
    port = serve()
    large = String.duplicate(" ", PhoenixGenApi.Http.max_bytes() + 1)
    type = [{"content-type", "application/json"}]
    socket = RawHttp.open(port, "POST", "/#{service}/now", type, large)
    assert RawHttp.read_until(socket, "\r\n") =~ " 413 "
  end

  test "hostile headers and methods do no harm", %{service: service} do
    register(service, "now")
    port = serve()

    for method <- ["GET", "PUT", "DELETE", "PATCH", "HEAD", "TRACE", "OPTIONS", "BREW"] do
      assert {status, headers, _} = RawHttp.request(port, method, "/#{service}/now", [], "")
      # The server itself refuses some.
      assert {status, headers["allow"]} in [{405, "POST"}, {501, nil}]
    end

    for id <- ["é", "a\tb", String.duplicate("i", 2_000)] do
      assert {400, _, _} = RawHttp.post(port, "/#{service}/now", "", [{"x-request-id", id}])
    end

    for path <- ["/%2e%2e/%2e%2e/etc/passwd", "/a%00b/c", "/%ff/%fe", "/a/b%0d%0aset-cookie:x"] do
      assert {status, headers, _} = RawHttp.post(port, path, "", [])
      assert status in [400, 403, 404]
      assert headers["set-cookie"] == nil
    end
  end

  test "options are checked" do
    assert_raise ArgumentError, fn -> Inets.start_link(publik: true) end
    assert_raise ArgumentError, fn -> Inets.start_link(identity: %{user_id: %{}}) end
    assert %Options{} = Options.new!(public: true)
  end
end
