defmodule PhoenixGenApi.Http.RateLimitTest do
  # Changes the limits of the node.
  use PhoenixGenApi.ChannelCase, async: false

  import PhoenixGenApi.Test.HttpRequests

  alias PhoenixGenApi.RateLimiter
  alias PhoenixGenApi.Test.Options

  setup do
    RateLimiter.clear()
    on_exit(fn -> RateLimiter.update_config(%{global_limits: [], api_limits: []}) end)
  end

  defp limit(key),
    do:
      RateLimiter.update_config(%{
        global_limits: [%{key: key, max_requests: 1, window_ms: 60_000}]
      })

  test "a denied request is told when to try again", %{service: service} do
    register(service, "now")
    :ok = limit(:user_id)
    assert {200, headers, _} = ask(post(service, "now"))
    assert headers["retry-after"] == nil
    assert {429, headers, body} = ask(post(service, "now"))
    assert %{"code" => "rate_limited", "can_retry" => true} = body
    assert String.to_integer(headers["retry-after"]) in 1..60
    assert headers["ratelimit-limit"] == nil
  end

  test "the limit itself is told where the operator has asked for that", %{service: service} do
    Options.set(:rate_limiter, expose_limits: true)
    register(service, "now")
    :ok = limit(:user_id)
    assert {200, _, _} = ask(post(service, "now"))
    assert {429, headers, _} = ask(post(service, "now"))
    assert headers["ratelimit-limit"] == "1"
    assert headers["ratelimit-remaining"] == "0"
    assert headers["ratelimit-reset"] == headers["retry-after"]
  end

  test "what is no request counts for the address that sends it", %{service: service} do
    for bad <- [
          post(service, "now", "{"),
          %{post(service, "now") | headers: [{"content-type", "text/plain"}]},
          post(service, "now", "", headers: [{"content-length", "1000001"}]),
          post(service, "none")
        ] do
      RateLimiter.clear()
      :ok = limit(:ip_address)
      assert {status, _, _} = ask(bad)
      assert status in [400, 404, 413, 415]
      assert {429, _, _} = ask(bad)
    end
  end
end
