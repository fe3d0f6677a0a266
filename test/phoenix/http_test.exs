defmodule PhoenixGenApi.Phoenix.HttpTest do
  # The plug behind a Phoenix endpoint and on real sockets, with each web server that is installed.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{ConfigDb, PhoenixGateway}
  alias PhoenixGenApi.Structs.StreamHelper
  alias PhoenixGenApi.Test.{ChannelFunctions, RawHttp, Vectors}

  @moduletag :phoenix
  @moduletag :capture_log

  setup context do
    case PhoenixGateway.start(%{
           server: context.server,
           json_library: Map.get(context, :json_library, Jason)
         }) do
      {:ok, port} ->
        service = "http-#{System.unique_integer([:positive])}"
        on_exit(&ConfigDb.clear/0)
        %{port: port, service: service}

      :not_installed ->
        :ok
    end
  end

  defp register(service, type, fields), do: ChannelFunctions.register(service, type, fields)

  defp path(%{"service" => service, "request_type" => type}), do: "/open/#{service}/#{type}"

  defp vector_headers(%{"request" => sent, "identity" => identity}) do
    headers = [
      {"accept-version", sent["version"]},
      {"x-deadline-ms", sent["deadline_ms"]},
      {"x-user", identity["user_id"]}
    ]

    roles = for role <- identity["user_roles"] || [], do: {"x-role", role}
    for {name, value} <- headers ++ roles, value != nil, do: {name, to_string(value)}
  end

  defp same(%{"accepted" => true}, body), do: assert(Map.keys(body) == ["request_id"])

  defp same(%{"response" => expected}, body),
    do: assert(Vectors.named(body, expected) == expected)

  defp same(%{"frames" => expected}, lines) do
    frames = lines |> String.split("\n", trim: true) |> Enum.map(&JSON.decode!/1)

    for {frame, expected} <- Enum.zip_with([frames, expected], &List.to_tuple/1),
        do: assert(Vectors.named(frame, expected) == expected)

    assert length(frames) == length(expected)
  end

  for server <- ["Bandit", "Cowboy"] do
    describe server do
      @describetag server: server

      test "answers requests, with and without a parser before it", context do
        with %{port: port, service: service} <- context do
          register(service, "echo", arg_types: %{"text" => :string})

          for path <- ["/gen_api", "/parsed"] do
            path = "#{path}/#{service}/echo"

            assert {200, headers, body} =
                     RawHttp.post(port, path, %{"text" => "hï"}, [{"x-user", "ann"}])

            assert %{"result" => "hï", "success" => true} = body
            assert headers["content-type"] =~ "application/json"
            assert headers["x-request-id"] == body["request_id"]
            assert {401, headers, _} = RawHttp.post(port, path, %{"text" => "hi"}, [])
            assert headers["www-authenticate"] == "Bearer"

            assert {422, _, %{"code" => "invalid_arguments"}} =
                     RawHttp.post(port, path, %{}, [{"x-user", "ann"}])
          end

          user = [{"x-user", "ann"}]

          assert {405, %{"allow" => "POST"}, _} =
                   RawHttp.request(port, "GET", "/gen_api/a/b", user, "")

          assert {404, _, _} = RawHttp.request(port, "GET", "/gen_api/a", user, "")
          assert {400, _, _} = RawHttp.post(port, "/gen_api/#{service}/echo", "{", user)

          assert {403, _, _} =
                   RawHttp.post(port, "/gen_api/#{service}/echo", "{}", [
                     {"sec-fetch-site", "cross-site"} | user
                   ])

          large = String.duplicate(" ", 1_000_001)
          assert {413, _, _} = RawHttp.post(port, "/gen_api/#{service}/echo", large, user)
        end
      end

      test "sends a stream as events, and ends it with its client", context do
        with %{port: port, service: service} <- context do
          register(service, "feed",
            response_type: :stream,
            request_info: true,
            timeout: :infinity
          )

          headers = [{"x-user", "ann"}, {"accept", "text/event-stream"}]
          socket = RawHttp.open(port, "POST", "/gen_api/#{service}/feed", headers, "")
          assert_receive {:feeding, _id, function, out}
          monitor = Process.monitor(function)
          StreamHelper.send_result(out, "one")
          assert RawHttp.read_until(socket, "\"one\"") =~ "text/event-stream"
          :gen_tcp.close(socket)
          StreamHelper.send_result(out, "two")
          assert_receive {:DOWN, ^monitor, :process, ^function, _}
        end
      end

      test "answers the wire vectors", context do
        with %{port: port} <- context do
          Vectors.register()

          for %{"request" => sent} = vector <- Vectors.all() do
            answer = RawHttp.post(port, path(sent), sent["args"], vector_headers(vector))
            assert {vector["name"], elem(answer, 0)} == {vector["name"], vector["status"]}
            same(vector, elem(answer, 2))
          end
        end
      end

      test "takes no harm of what nobody sends by mistake", context do
        with %{port: port, service: service} <- context do
          register(service, "echo", arg_types: %{"text" => :string})
          path = "/open/#{service}/echo"
          ask = &RawHttp.post(port, path, &1, &2)
          before = :erlang.system_info(:atom_count)

          for bad <- [
                "{",
                "[]",
                "null",
                <<255>>,
                ~s({"text": #{String.duplicate("9", 100_000)}}),
                String.duplicate("[", 400_000)
              ],
              do: assert({400, _, %{"code" => "invalid_request"}} = ask.(bad, []))

          for method <- ["GET", "PUT", "DELETE", "OPTIONS", "BREW"],
              do: assert({405, _, _} = RawHttp.request(port, method, path, [], ""))

          for id <- ["é", String.duplicate("i", 2_000)],
              do: assert({400, _, _} = ask.("{}", [{"x-request-id", id}]))

          for path <- [
                "/open/../../etc/passwd",
                "/open/%2e%2e/%2e%2e",
                "/open/%2e%2e%2fetc/passwd",
                "/open/a/b%0d%0aset-cookie:x"
              ] do
            assert {status, headers, body} = RawHttp.post(port, path, "", [])
            assert status in 400..499
            assert headers["set-cookie"] == nil
            refute inspect(body) =~ "root:"
          end

          for n <- 1..200,
              do: assert({404, _, _} = RawHttp.post(port, "/open/s#{n}/t#{n}", "", []))

          assert :erlang.system_info(:atom_count) - before < 5_000

          # Forms, and requests of other sites.
          form = [{"content-type", "application/x-www-form-urlencoded"}]
          assert {415, _, _} = RawHttp.request(port, "POST", path, form, "text=hi")

          assert {415, _, _} =
                   RawHttp.request(port, "POST", path, [{"content-type", "text/plain"}], "{}")

          assert {403, _, _} = ask.("{}", [{"sec-fetch-site", "cross-site"}])

          # Some send slowly, some stop in the middle; the others are answered.
          head =
            "POST #{path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"

          slow = for part <- [head, head <> "\r\n{"], _ <- 1..20, do: RawHttp.raw(port, part)
          assert {200, _, _} = ask.(%{"text" => "hi"}, [])
          for socket <- slow, do: :gen_tcp.close(socket)
          json = ~s({"text":"hi"})

          whole =
            "POST #{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: #{byte_size(json)}\r\n\r\n#{json}"

          socket = RawHttp.raw(port, whole)
          :gen_tcp.shutdown(socket, :write)
          # Cowboy takes that for the end of the connection.
          answer = RawHttp.read_all(socket)
          assert answer =~ "\"hi\"" or context.server == "Cowboy"
        end
      end

      test "serves the console, for those who are admitted", context do
        with %{port: port, service: service} <- context do
          register(service, "now", [])
          assert {200, headers, page} = RawHttp.request(port, "GET", "/open", [], "")
          assert headers["content-security-policy"] =~ "default-src 'none'"
          assert page =~ "console"

          assert {200, _, %{"editable" => false}} =
                   RawHttp.request(port, "GET", "/open/console.json", [], "")

          assert {404, _, _} = RawHttp.request(port, "GET", "/gen_api", [{"x-user", "ann"}], "")
          # Nobody becomes somebody else.
          register(service, "whoami", request_info: true)
          claim = [{"x-gen-api-identity", ~s({"user_id": "root"})}]

          assert {200, _, %{"result" => %{"user_id" => nil}}} =
                   RawHttp.post(port, "/open/#{service}/whoami", "", claim)
        end
      end

      test "answers an async function with its result, and a stream as lines", context do
        with %{port: port, service: service} <- context do
          register(service, "now", response_type: :async)
          user = [{"x-user", "ann"}]

          assert {200, _, %{"result" => "done"}} =
                   RawHttp.post(port, "/gen_api/#{service}/now", "", user)

          register(service, "feed", response_type: :stream, request_info: true)
          socket = RawHttp.open(port, "POST", "/gen_api/#{service}/feed", user, "")
          assert_receive {:feeding, _id, _function, out}
          StreamHelper.send_last_result(out, "last")
          assert RawHttp.read_until(socket, "\"last\"") =~ "application/x-ndjson"
        end
      end
    end
  end
end
