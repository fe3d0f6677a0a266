defmodule PhoenixGenApi.PlugTest do
  # The plug with a conn, of the real Plug or of the stand-in. Real servers are in test/phoenix/http_test.exs.
  use PhoenixGenApi.ChannelCase, async: true

  if match?({:error, _}, :code.lib_dir(:plug)) do
    alias PhoenixGenApi.Structs.StreamHelper

    defp conn(path, body, headers) do
      %Plug.Conn{
        method: "POST",
        path_info: String.split(path, "/", trim: true),
        req_headers: headers,
        assigns: %{user_id: "ann"},
        adapter: %{body: body, owner: self()}
      }
    end

    defp body(conn), do: JSON.decode!(conn.resp_body)

    defp run(conn, options \\ []),
      do: PhoenixGenApi.Plug.call(conn, PhoenixGenApi.Plug.init(options))

    @json [{"content-type", "application/json"}]

    test "answers a request and halts", %{service: service} do
      register(service, "echo", arg_types: %{"text" => :string})
      conn = run(conn("#{service}/echo", ~s({"text": "hi"}), @json))
      assert %{status: 200, halted: true, state: :sent} = conn
      assert %{"result" => "hi"} = body(conn)
      assert {"content-type", "application/json"} in conn.resp_headers

      assert [{"cache-control", "no-store"}] =
               for({"cache-control", _} = h <- conn.resp_headers, do: h)
    end

    test "decodes the path, and takes none for a file's", %{service: service} do
      register(service, "a b/c", function: :now)
      assert %{status: 200} = run(conn("#{service}/a%20b%2Fc", "", []))

      for path <- [
            "#{service}/%2e%2e%2fecho",
            "%2e%2e/%2e%2e",
            "#{service}/%zz",
            "#{service}/%ff"
          ],
          do: assert(run(conn(path, "", [])).status in [400, 404])
    end

    test "uses what a parser has left", %{service: service} do
      register(service, "echo", arg_types: %{"text" => :string})
      conn = conn("#{service}/echo", {:error, :never_read}, @json)
      assert %{status: 200} = run(%{conn | body_params: %{"text" => "hi"}})

      # A parser takes no body without a type.
      untyped = [{"content-length", "14"}]
      assert %{status: 415} = run(%{conn | req_headers: untyped, body_params: %{}})
    end

    test "reads no more than a request may have", %{service: service} do
      register(service, "now")
      large = String.duplicate(" ", PhoenixGenApi.Http.max_bytes() + 1)
      assert %{status: 413} = run(conn("#{service}/now", large, @json))
      assert %{status: 400} = conn = run(conn("#{service}/now", {:error, :timeout}, @json))
      assert %{"code" => "invalid_request"} = body(conn)
      # Not even that, where the answer is known.
      anonymous = %{conn("#{service}/now", :unread, @json) | assigns: %{}}
      assert %{status: 401} = run(anonymous)
    end

    test "the id of Plug.RequestId is the request id", %{service: service} do
      register(service, "now")
      conn = conn("#{service}/now", "", [{"x-request-id", "short"}])
      conn = run(%{conn | resp_headers: [{"x-request-id", "plug"}]})
      assert %{"request_id" => "plug"} = body(conn)
      assert [{"x-request-id", "plug"}] = for({"x-request-id", _} = h <- conn.resp_headers, do: h)
    end

    test "a stream is sent in chunks, and ends with its client", %{service: service} do
      register(service, "feed", response_type: :stream, request_info: true, timeout: :infinity)
      test = self()
      conn = conn("#{service}/feed", "", [{"accept", "text/event-stream"}])
      server = spawn(fn -> send(test, {:done, run(conn)}) end)
      assert_receive {:feeding, _id, function, out}
      monitor = Process.monitor(function)
      StreamHelper.send_result(out, 1)
      assert_receive {:chunk, ^server, "id: 1\ndata: " <> _}
      send(server, :written)
      StreamHelper.send_result(out, 2)
      closed(server)
      assert_receive {:DOWN, ^monitor, :process, ^function, _}
      assert_receive {:done, %{status: 200, state: :chunked, halted: true}}
    end

    # A heartbeat may come first.
    defp closed(server) do
      assert_receive {:chunk, ^server, chunk}
      send(server, if(chunk =~ "id: 2", do: :closed, else: :written))
      unless chunk =~ "id: 2", do: closed(server)
    end
  end

  test "options are checked when the plug is initialised" do
    assert_raise ArgumentError, ~r/unknown option :publik/, fn ->
      PhoenixGenApi.Plug.init(publik: true)
    end
  end
end
