defmodule PhoenixGenApi.Phoenix.HttpTest do
  # The plug behind a Phoenix endpoint and on real sockets, with each web server that is installed.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{ConfigDb, PhoenixGateway}
  alias PhoenixGenApi.Structs.{FunConfig, StreamHelper}
  alias PhoenixGenApi.Test.{ChannelFunctions, RawHttp}

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

  defp register(service, type, fields) do
    config = %FunConfig{
      service: service,
      request_type: type,
      nodes: :local,
      mfa: {ChannelFunctions, String.to_existing_atom(type), [self()]}
    }

    :ok = ConfigDb.add(struct!(config, fields))
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
