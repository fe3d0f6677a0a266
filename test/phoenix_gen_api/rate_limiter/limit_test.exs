defmodule PhoenixGenApi.RateLimiter.LimitTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.RateLimiter.Limit

  doctest Limit

  @global %{key: :user_id, max_requests: 3, window_ms: 1_000}
  @api Map.merge(@global, %{service: "books", request_type: "buy"})

  defp reason(limit, scope) do
    assert {:error, {:invalid_limit, ^limit, reason}} = Limit.validate(limit, scope)
    reason
  end

  test "a valid limit comes back as it was given" do
    assert Limit.validate(@global, :global) == {:ok, @global}
    assert Limit.validate(@api, :api) == {:ok, @api}
  end

  test "a service given as an atom becomes a string" do
    assert Limit.validate(%{@api | service: :books}, :api) == {:ok, @api}
  end

  test "a key is one of three request fields or a non-empty string" do
    for key <- [:user_id, :device_id, :ip_address, "isbn"] do
      assert {:ok, %{key: ^key}} = Limit.validate(%{@global | key: key}, :global)
    end

    for key <- [:request_id, nil, "", 5, <<255>>] do
      assert reason(%{@global | key: key}, :global) ==
               "key must be :user_id, :device_id, :ip_address or a non-empty string"
    end
  end

  test "max_requests is an integer from 0 to a million" do
    for n <- [0, 1_000_000],
        do: assert({:ok, _} = Limit.validate(%{@global | max_requests: n}, :global))

    for n <- [-1, 1_000_001, 5.0, nil] do
      assert reason(%{@global | max_requests: n}, :global) ==
               "max_requests must be an integer from 0 to 1000000"
    end
  end

  test "window_ms is an integer from 1 ms to 31 days" do
    for n <- [1, 2_678_400_000],
        do: assert({:ok, _} = Limit.validate(%{@global | window_ms: n}, :global))

    for n <- [0, 2_678_400_001, 1.5, nil] do
      assert reason(%{@global | window_ms: n}, :global) ==
               "window_ms must be an integer from 1 to 2678400000 (milliseconds)"
    end
  end

  test "on_missing is optional and one of three atoms" do
    for value <- [:skip, :deny, :shared] do
      limit = Map.put(@global, :on_missing, value)
      assert Limit.validate(limit, :global) == {:ok, limit}
    end

    for value <- [:allow, nil, "skip"] do
      assert reason(Map.put(@global, :on_missing, value), :global) ==
               "on_missing must be :skip, :deny or :shared"
    end
  end

  test "an API limit needs a service and a request type" do
    for service <- [nil, "", 5, :""] do
      assert reason(%{@api | service: service}, :api) ==
               "service must be an atom or a non-empty string"
    end

    for type <- [nil, "", :buy] do
      assert reason(%{@api | request_type: type}, :api) ==
               "request_type must be a non-empty string"
    end

    assert reason(@global, :api) == "service must be an atom or a non-empty string"
  end

  test "a missing field is reported like a wrong one" do
    assert reason(Map.delete(@global, :window_ms), :global) =~ "window_ms must be an integer"
    assert reason(%{}, :global) =~ "key must be"
  end

  test "a misspelt field is an error and not the default" do
    assert reason(Map.put(@global, :on_mising, :deny), :global) ==
             "unknown field :on_mising, a limit has key, max_requests, window_ms, on_missing"
  end

  test "an API limit among the global ones is an error" do
    assert reason(@api, :global) =~ "belongs to an API limit (api_limits), not to a global limit"
  end

  test "only maps are limits" do
    for limit <- [nil, [], [key: :user_id], "x", %URI{}] do
      assert reason(limit, :global) == "a limit must be a map"
    end
  end
end
