defmodule PhoenixGenApi.Http.HostileTest do
  # What nobody sends by mistake.
  use PhoenixGenApi.ChannelCase, async: true

  import PhoenixGenApi.Test.HttpRequests

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Http

  setup %{service: service} do
    register(service, "echo", arg_types: %{"text" => :string})
    register(service, "list", function: :echo, arg_types: %{"text" => {:list, :integer}})
  end

  test "a body that is not a JSON object is no request", %{service: service} do
    deep = String.duplicate("[", 400_000)

    for body <- [
          "{",
          "[]",
          "[1, 2]",
          "1",
          "null",
          "\"text\"",
          "{\"text\": \"a\"} trailing",
          "{'text': 1}",
          "{\"text\": NaN}",
          "{\"text\": 1e999999}",
          "\uFEFF{}",
          <<0>>,
          <<"{\"text\": \"", 255, "\"}">>,
          :unicode.characters_to_binary("{\"text\": \"a\"}", :utf8, :utf16),
          deep,
          "{\"text\":" <> deep
        ] do
      assert {400, _, body} = ask(post(service, "echo", body))
      assert body["code"] == "invalid_request"
      assert body["error"] =~ "Invalid request: the body must be"
    end
  end

  test "a deep argument is a wrong one", %{service: service} do
    deep = String.duplicate("[", 100_000) <> String.duplicate("]", 100_000)

    assert {422, _, %{"code" => "invalid_arguments"}} =
             ask(post(service, "echo", "{\"text\":#{deep}}"))
  end

  test "a body over the limit is refused ahead of decoding, whether or not it says so",
       %{service: service} do
    max = Config.get(:request, :max_payload_bytes)
    large = "{\"text\": \"" <> String.duplicate("a", max) <> "\"}"
    assert {413, _, body} = ask(post(service, "echo", large))
    assert body["code"] == "payload_too_large"
    assert body["error"] == "The body exceeds the maximum size of #{max} bytes"

    says = &post(service, "echo", "", headers: [{"content-length", &1}])

    for length <- ["#{max + 1}", "99999999999999999999999"] do
      assert {:answer, {413, _, _}} = Http.accept(says.(length), [])
    end

    # Servers check these; what they let through is measured.
    for length <- ["-1", "", "x", "12 "], do: assert({:call, _} = Http.accept(says.(length), []))
    assert {413, _, _} = ask(%{post(service, "echo") | body: {:decoded, %{"text" => large}}})
  end

  test "a number of too many digits is refused ahead of decoding", %{service: service} do
    max = Config.get(:request, :max_digits)
    digits = &String.duplicate("7", &1)

    for number <- [digits.(max + 1), "-" <> digits.(900_000), "0." <> digits.(max + 1)] do
      body = "{\"text\": [1, \"\\\"#{digits.(5)}\", #{number}]}"
      assert {400, _, %{"error" => error}} = ask(post(service, "list", body))
      assert error =~ "a number of more than #{max} digits"
    end

    for padding <- [0, 1, 500, max - 1, max, max + 1] do
      body = String.duplicate(" ", padding) <> "{\"text\": [#{digits.(max + 1)}]}"
      assert {400, _, _} = ask(post(service, "list", body))
    end

    assert {200, _, _} = ask(post(service, "list", "{\"text\": [#{digits.(max)}]}"))
    text = digits.(2 * max)
    assert {200, _, %{"result" => ^text}} = ask(post(service, "echo", "{\"text\": \"#{text}\"}"))
    escaped = "\\\"" <> text
    assert {200, _, _} = ask(post(service, "echo", "{\"text\": \"#{escaped}\"}"))
  end

  test "repeated and huge headers do no harm", %{service: service} do
    huge = String.duplicate("a", 100_000)

    twice = [{"x-request-id", "first"}, {"x-request-id", "second"}]
    assert {200, headers, body} = ask(post(service, "echo", %{"text" => "a"}, headers: twice))
    assert body["request_id"] == "first"
    assert headers["x-request-id"] == "first"

    for name <- ~w(accept accept-version x-deadline-ms x-request-id content-type cookie),
        value <- [huge, <<255>>, "\r\n\r\n", String.duplicate(",", 50_000)] do
      request = post(service, "echo", %{"text" => "a"}, headers: [{name, value}])
      assert {status, headers, _body} = ask(request)
      assert status in [200, 400, 404, 415]
      refute headers |> Map.values() |> Enum.any?(&(&1 =~ "\n"))
    end
  end

  test "paths make no atoms, and no service or type crashes anything", %{service: service} do
    # The first ones make those of modules that are loaded for them.
    for n <- 1..100, do: ask(post("warm#{n}", "up"))
    before = :erlang.system_info(:atom_count)

    for n <- 1..10_000 do
      assert {404, _, _} = ask(post("service#{n}", "type#{n}"))
    end

    # Other tests run beside this one.
    assert :erlang.system_info(:atom_count) - before < 5_000

    for name <- [<<255>>, "", "\r\n", <<0>>, String.duplicate("a", 2_000), "../..", "%2e%2e"],
        path <- [[name, "echo"], [service, name]] do
      assert {status, headers, body} = ask(%{post(service, "echo") | path: path})
      assert status in [400, 404]
      refute body["success"]
      refute headers |> Map.values() |> Enum.any?(&(&1 =~ "\n"))
    end
  end

  test "script in a result or an error stays text", %{service: service} do
    script = "</script><script>alert(1)</script>\u2028"

    assert {200, headers, %{"result" => ^script}} =
             ask(post(service, "echo", %{"text" => script}))

    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
  end
end
