defmodule PhoenixGenApi.Http.RequestsTest do
  # Requests that have one answer, as statuses, headers and bodies.
  use PhoenixGenApi.ChannelCase, async: true

  import PhoenixGenApi.Test.HttpRequests

  alias PhoenixGenApi.Http
  alias PhoenixGenApi.Structs.Request

  defmodule Api do
    alias PhoenixGenApi.Structs.Response

    def sold_out(_test), do: Response.error_response(nil, "Sold out", false, code: "sold_out")
    def claims_internal(_test), do: Response.error_response(nil, "No", false, code: "internal")
    def remaining(_test, %Request{} = request), do: Request.remaining_ms(request)
    def identify(conn), do: conn.who
    def raises(_conn), do: raise("database password is hunter2")
    def nobody(_conn), do: nil
  end

  defp register_own(service, type, fields \\ []) do
    register(service, type, [
      {:function, nil},
      {:mfa, {Api, String.to_existing_atom(type), [self()]}} | fields
    ])
  end

  test "a result is the response as JSON, with status 200", %{service: service} do
    register(service, "echo", arg_types: %{"text" => :string})

    assert {200, headers, body} =
             ask(post(service, "echo", %{"text" => "hi"}, headers: [{"x-request-id", "r1"}]))

    assert body == %{
             "request_id" => "r1",
             "success" => true,
             "result" => "hi",
             "error" => nil,
             "async" => false,
             "has_more" => false,
             "can_retry" => false
           }

    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == "r1"
    assert headers["x-content-type-options"] == "nosniff"
    refute Enum.any?(Map.keys(headers), &String.starts_with?(&1, "access-control-"))
  end

  test "a request without an id gets one of its own", %{service: service} do
    register(service, "now")

    ids =
      for _ <- 1..3 do
        {200, headers, body} = ask(post(service, "now"))
        assert headers["x-request-id"] == body["request_id"]
        {:ok, bits} = Base.url_decode64(body["request_id"], padding: false)
        assert bit_size(bits) == 128
        body["request_id"]
      end

    assert ids == Enum.uniq(ids)
  end

  test "an id that cannot stand in a header is refused and does not come back",
       %{service: service} do
    register(service, "now")

    for id <- ["a\r\nset-cookie: b", "é", <<0>>, String.duplicate("a", 1_025)] do
      assert {400, headers, body} =
               ask(post(service, "now", %{}, headers: [{"x-request-id", id}]))

      assert body["code"] == "invalid_request"
      refute headers |> Map.values() |> Enum.any?(&(&1 =~ "\n"))
      if byte_size(id) < 1_025, do: assert(headers["x-request-id"] == nil)
      if byte_size(id) < 1_025, do: assert(body["request_id"] == nil)
    end
  end

  test "an empty body stands for no arguments, also without a content type", %{service: service} do
    register(service, "now")
    assert {200, _, %{"result" => "done"}} = ask(post(service, "now", ""))
    assert {200, _, _} = ask(%{post(service, "now", "") | headers: []})
  end

  test "what a parser ahead of the library has decoded is used", %{service: service} do
    register(service, "echo", arg_types: %{"text" => :string})
    request = post(service, "echo")

    assert {200, _, %{"result" => "hi"}} =
             ask(%{request | body: {:decoded, %{"text" => "hi"}}})

    assert {400, _, _} = ask(%{request | body: {:decoded, %{"_json" => [1]}}})
    assert {400, _, _} = ask(%{request | body: {:decoded, nil}})
  end

  test "the version comes from a header", %{service: service} do
    register(service, "echo", version: "1.0.0", arg_types: %{"text" => :string})
    register(service, "echo", version: "2.0.0", function: :now)
    version = &[headers: [{"accept-version", &1}]]

    assert {200, _, %{"result" => "hi"}} =
             ask(post(service, "echo", %{"text" => "hi"}, version.("1.0.0")))

    assert {200, _, %{"result" => "done"}} = ask(post(service, "echo"))
    assert {404, _, body} = ask(post(service, "echo", %{}, version.("3.0.0")))
    assert body["code"] == "unknown_function"
    assert body["error"] == "unsupported function: echo version 3.0.0"
  end

  test "the deadline comes from a header and bounds the request", %{service: service} do
    register_own(service, "remaining", request_info: true)
    register(service, "gate")
    deadline = &[headers: [{"x-deadline-ms", &1}]]

    assert {200, _, %{"result" => left}} =
             ask(post(service, "remaining", %{}, deadline.("50000")))

    assert left in 1..50_000
    assert {504, _, body} = ask(post(service, "gate", %{}, deadline.("100")))
    assert body["code"] == "timeout"
    assert body["error"] == "Request timed out after 100ms"
    assert body["can_retry"]

    for wrong <- ["0", "-1", "1.5", "soon", "", " 100", String.duplicate("9", 2_000)] do
      assert {400, _, body} = ask(post(service, "now", %{}, deadline.(wrong)))
      assert body["error"] =~ "deadline_ms must be a positive integer"
    end
  end

  test "an async function is answered with its result", %{service: service} do
    register(service, "echo", arg_types: %{"text" => :string}, response_type: :async)
    register(service, "boom", response_type: :async)
    register(service, "unencodable", response_type: :async)

    assert {200, _, body} = ask(post(service, "echo", %{"text" => "hi"}))
    assert %{"result" => "hi", "async" => false, "success" => true} = body
    assert {500, _, %{"code" => "internal"} = body} = ask(post(service, "boom"))
    refute inspect(body) =~ "hunter2"
    assert {500, _, %{"code" => "internal"}} = ask(post(service, "unencodable"))
    assert Process.info(self(), :message_queue_len) == {:message_queue_len, 0}
  end

  test "a function without a result is answered at once, with 202", %{service: service} do
    register(service, "gate", response_type: :none)

    assert {202, headers, %{"request_id" => "r1"}} =
             ask(post(service, "gate", %{}, headers: [{"x-request-id", "r1"}]))

    assert headers["x-request-id"] == "r1"
    assert_receive {:running, nil, function}
    monitor = Process.monitor(function)
    send(function, {:return, "done"})
    assert_receive {:DOWN, ^monitor, :process, _, _}
  end

  test "each failure has its status", %{service: service} do
    register(service, "boom")
    register(service, "unencodable")
    register(service, "gate", timeout: 100)
    register(service, "now", check_permission: {:role, ["admin"]})
    register(service, "anyone", function: :now, check_permission: :any_authenticated)
    register(service, "off", function: :now, disabled: true)
    register(service, "echo", arg_types: %{"text" => :string})
    register(service, "down", nodes: [:"http-service@nowhere"], function: :now)
    # Health is worse for a service that is out of reach.
    on_exit(fn -> ConfigDb.delete(service, "down", "0.0.0") end)
    register_own(service, "sold_out")
    register_own(service, "claims_internal")

    for {type, status, code} <- [
          {"boom", 500, "internal"},
          {"unencodable", 500, "internal"},
          {"gate", 504, "timeout"},
          {"now", 403, "forbidden"},
          {"off", 404, "disabled_function"},
          {"none", 404, "unknown_function"},
          {"echo", 422, "invalid_arguments"},
          {"down", 503, "unavailable"},
          {"sold_out", 422, "sold_out"},
          {"claims_internal", 422, "error"}
        ] do
      assert {^status, _, %{"code" => ^code, "success" => false}} = ask(post(service, type))
    end

    assert {409, _, _} = ask(post(service, "sold_out"), statuses: %{"sold_out" => 409})
    anonymous = %{post(service, "anyone") | assigns: %{}}
    assert {401, _, %{"code" => "unauthenticated"}} = ask(anonymous, public: true)
  end

  test "the details of wrong arguments come with the answer", %{service: service} do
    register(service, "echo", arg_types: %{"text" => {:string, 3}})

    assert {422, _, %{"details" => [%{"path" => "text", "rule" => "max_length", "limit" => 3}]}} =
             ask(post(service, "echo", %{"text" => "long"}))
  end

  test "without a user every request is unauthenticated, unless it is public",
       %{service: service} do
    register(service, "now")
    anonymous = %{post(service, "now") | assigns: %{}}

    assert {401, headers, %{"code" => "unauthenticated"} = body} = ask(anonymous)
    assert body["error"] == "Authentication required"
    assert headers["www-authenticate"] == "Bearer"
    assert {401, headers, _} = ask(anonymous, www_authenticate: "Basic realm=\"api\"")
    assert headers["www-authenticate"] == "Basic realm=\"api\""
    assert {401, headers, _} = ask(anonymous, www_authenticate: nil)
    assert headers["www-authenticate"] == nil
    assert {200, _, _} = ask(anonymous, public: true)
  end

  test "nothing that a client can write says who it is", %{service: service} do
    register(service, "whoami", request_info: true)
    claims = %{"user_id" => "root", "user_roles" => ["admin"], "ip_address" => "10.0.0.1"}

    names =
      ~w(user_id user-id x-user-id user_roles x-forwarded-for device_id authorization cookie)

    request =
      post(service, "whoami", "",
        query: URI.encode_query(%{user_id: "root", user_roles: "admin"}),
        headers: for(name <- names, do: {name, "root"})
      )

    assert {401, _, _} = ask(%{request | assigns: %{}})

    assert {200, _, %{"result" => who}} = ask(%{request | assigns: %{}}, public: true)
    assert who["user_id"] == nil
    assert who["user_roles"] == nil
    assert who["device_id"] == nil
    assert who["ip_address"] == "192.0.2.1"

    # No argument of that name is declared, and the body is nothing else.
    assert {422, _, _} = ask(%{request | body: JSON.encode!(claims)})
    assert {422, _, _} = ask(%{request | body: {:decoded, claims}})
  end

  test "assigns say who a client is, in every form that applications keep it",
       %{service: service} do
    register(service, "whoami", request_info: true)

    assigns = %{user_id: 42, user_roles: MapSet.new([:admin]), device_id: "d1"}

    assert {200, _, %{"result" => who}} = ask(%{post(service, "whoami") | assigns: assigns})
    assert %{"user_id" => "42", "user_roles" => ["admin"], "device_id" => "d1"} = who

    # A whole user record is nobody.
    assert {401, _, _} = ask(%{post(service, "whoami") | assigns: %{user_id: %{id: 1}}})
  end

  test "a function of the application's may say who a client is", %{service: service} do
    register(service, "whoami", request_info: true)
    by = &[identity: {Api, &1}]
    request = post(service, "whoami", %{}, conn: %{who: [user_id: 7, user_roles: :admin]})

    assert {200, _, %{"result" => who}} = ask(request, by.(:identify))
    assert %{"user_id" => "7", "user_roles" => ["admin"], "ip_address" => "192.0.2.1"} = who
    assert {401, _, _} = ask(request, by.(:nobody))
    assert {500, headers, body} = ask(request, by.(:raises))
    assert headers["x-request-id"]
    refute inspect(body) =~ "hunter2"
    assert {500, _, _} = ask(%{request | conn: %{who: [user_id: %{}]}}, by.(:identify))
  end

  test "services that are not listed do not exist", %{service: service} do
    register(service, "now")
    assert {200, _, _} = ask(post(service, "now"), services: [service])
    assert {200, _, _} = ask(post(service, "now"), services: [String.to_atom(service)])
    assert {404, _, body} = ask(post(service, "now"), services: ["other"])
    assert {404, _, unknown} = ask(post(service, "none"))
    assert body["code"] == unknown["code"]
    assert body["error"] == "unsupported function: now version latest"
  end

  test "a body must say that it is JSON", %{service: service} do
    register(service, "echo", arg_types: %{"text" => :string})
    typed = &%{post(service, "echo", %{"text" => "hi"}) | headers: &1}

    for type <- ["application/json", "application/json; charset=utf-8", "Application/JSON"],
        do: assert({200, _, _} = ask(typed.([{"content-type", type}])))

    for headers <- [
          [],
          [{"content-type", "text/plain"}],
          [{"content-type", "application/x-www-form-urlencoded"}],
          [{"content-type", "multipart/form-data; boundary=application/json"}],
          [{"content-type", "application/jsonp"}],
          [{"content-type", ""}],
          [{"content-type", "text/plain"}, {"content-type", "application/json"}],
          [{"content-type", "application/json"}, {"content-encoding", "gzip"}]
        ] do
      assert {415, _, %{"code" => "unsupported_media_type"}} = ask(typed.(headers))
    end

    # A form of another site, which has no body.
    form = [{"content-type", "application/x-www-form-urlencoded"}]
    assert {415, _, _} = ask(%{typed.(form) | body: ""})
  end

  test "requests that a browser makes for another site are refused", %{service: service} do
    register(service, "now")
    from = &post(service, "now", %{}, headers: [{"sec-fetch-site", &1}])

    for site <- ["same-origin", "none"], do: assert({200, _, _} = ask(from.(site)))

    for site <- ["cross-site", "same-site", "", "SAME-ORIGIN"] do
      assert {403, _, %{"code" => "forbidden"}} = ask(from.(site))
      assert {200, _, _} = ask(from.(site), cross_site: true)
    end
  end

  test "other methods and paths are refused", %{service: service} do
    register(service, "now")
    request = post(service, "now")

    for method <- ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "post", "X"] do
      assert {405, headers, body} = ask(%{request | method: method})
      assert headers["allow"] == "POST"
      assert body["code"] == "method_not_allowed"
    end

    for path <- [[], ["a"], ["a", "b", "c"], ["..", "..", "etc", "passwd"]],
        method <- ["GET", "POST"] do
      assert {404, _, %{"code" => "not_found"}} = ask(%{request | path: path, method: method})
    end

    assert {404, _, %{"code" => "unknown_function"}} = ask(%{request | path: ["..", "passwd"]})
  end

  test "no option is taken that is not one", %{service: service} do
    for options <- [
          [publik: true],
          [public: 1],
          [services: "a"],
          [services: [nil]],
          [identity: Api],
          [statuses: %{"a" => 200}],
          [statuses: %{a: 400}],
          [www_authenticate: "a\r\nb"]
        ] do
      assert_raise ArgumentError, fn -> Http.handle(post(service, "now"), options) end
    end
  end
end
