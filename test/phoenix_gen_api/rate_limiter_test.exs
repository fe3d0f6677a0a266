defmodule PhoenixGenApi.RateLimiterTest do
  # Changes the limits of the node, and kills what keeps them.
  use ExUnit.Case, async: false

  import ExUnit.{CaptureIO, CaptureLog}

  alias PhoenixGenApi.{Await, Config, Gateway, Native, RateLimiter, Security, Telemetry}
  alias PhoenixGenApi.RateLimiter.Server
  alias PhoenixGenApi.Structs.Request
  alias PhoenixGenApi.Test.Options

  @long 2_678_400_000
  @buy {"books", "buy"}
  @details [:current_requests, :key, :max_requests, :rate_limit_key, :retry_after_ms] ++
             [:scope, :window_ms]

  setup do
    reset()
    on_exit(&reset/0)
  end

  defp reset do
    :ok = RateLimiter.update_config(%{enabled: true, global_limits: [], api_limits: []})
    :ok = RateLimiter.clear()
  end

  defp limit(max, fields \\ []),
    do: Enum.into(fields, %{key: :user_id, max_requests: max, window_ms: @long})

  defp api(max, fields \\ []),
    do: limit(max, [service: "books", request_type: "buy"] ++ fields)

  defp global(limits), do: :ok = RateLimiter.set_global_limits(List.wrap(limits))
  defp of_api(limits), do: :ok = RateLimiter.update_config(%{api_limits: List.wrap(limits)})

  defp request(fields \\ []) do
    struct!(
      %Request{request_id: "r1", user_id: "ann", service: "books", request_type: "buy"},
      fields
    )
  end

  defp check(fields \\ []), do: RateLimiter.check_rate_limit(request(fields))

  defp denied(fields \\ []) do
    assert {:error, :rate_limited, details} = check(fields)
    assert Enum.sort(Map.keys(details)) == @details
    details
  end

  defp counts(value, scope \\ :global, key \\ :user_id),
    do: for(row <- RateLimiter.get_rate_limit_status(value, scope, key), do: row.current_requests)

  # An application setting, in memory only, so that nothing else restarts or is read again.
  defp configure(section, values), do: Options.set(section, values, &Config.load/0)

  # Another instance behind the whole API.
  defp instance(max_keys, max_entries) do
    replace(Native.rate_limiter_new(1, max_keys, max_entries))
  end

  defp replace(limiter) do
    real =
      :persistent_term.get(Gateway)

    Gateway.publish(%{real | rate_limiter: limiter})
    on_exit(fn -> Gateway.publish(real) end)
    limiter
  end

  # No gateway, for as long as `fun` runs.
  defp stopped(fun) do
    real =
      :persistent_term.get(Gateway)

    Gateway.retract()

    try do
      fun.()
    after
      Gateway.publish(real)
    end
  end

  defp observe(events) do
    id = make_ref()
    parent = self()
    names = for event <- events, do: [:phoenix_gen_api, :rate_limiter, event]
    handler = fn name, data, meta, _ -> send(parent, {List.last(name), data, meta}) end
    Telemetry.attach_many(id, names, handler)
    on_exit(fn -> Telemetry.detach_all(id) end)
  end

  describe "a limit" do
    test "admits its maximum and denies the rest, with all the details" do
      global(limit(2))
      assert check() == :ok
      assert check() == :ok
      details = denied()
      assert details.retry_after_ms in (@long - 60_000)..@long

      assert Map.delete(details, :retry_after_ms) == %{
               key: "ann",
               rate_limit_key: :user_id,
               max_requests: 2,
               current_requests: 2,
               window_ms: @long,
               scope: :global
             }

      assert check(user_id: "bob") == :ok
      assert counts("ann") == [2]
    end

    test "of no request at all denies for the whole window" do
      global(limit(0, window_ms: 1_234))
      assert %{current_requests: 0, max_requests: 0, retry_after_ms: 1_234} = denied()
      assert RateLimiter.status().keys == 0
    end

    test "counts by user, device, address or argument, each apart from the others" do
      keys = [:user_id, :device_id, :ip_address, "user_id", "isbn"]
      global(for key <- keys, do: limit(1, key: key))

      for key <- keys do
        none = [user_id: nil, args: %{}]
        fields = if is_atom(key), do: [{key, "x"}], else: [args: %{key => "x"}]
        assert check(Keyword.merge(none, fields)) == :ok
        assert %{rate_limit_key: ^key, key: "x"} = denied(Keyword.merge(none, fields))
      end
    end

    test "counts strings, numbers and booleans by their text, and takes the rest for missing" do
      global(limit(1, key: "v"))

      for {value, text} <- [
            {7, "7"},
            {-7, "-7"},
            {9_223_372_036_854_775_807, "9223372036854775807"},
            {9_223_372_036_854_775_808, "9223372036854775808"},
            {-(2 ** 100), "-1267650600228229401496703205376"},
            {2 ** 128 - 1, "340282366920938463463374607431768211455"},
            {1.5, "1.5"},
            {-0.25, "-0.25"},
            {123_456.0, "123456.0"},
            {true, "true"},
            {false, "false"}
          ] do
        assert check(args: %{"v" => value}) == :ok, inspect(value)
        assert denied(args: %{"v" => text}).key === text
        assert denied(args: %{"v" => value}).key === value
      end

      # Numbers that are not equal, or not of one kind, are different values.
      for value <- [1, 1.0, 2 ** 300, 2 ** 300 + 1, -(2 ** 300), 1.0e20, 1.0e-7] do
        assert check(args: %{"v" => value}) == :ok
        assert denied(args: %{"v" => value}).key === value
      end

      for value <- [nil, "", :atom, [], ["x"], %{}, %{"x" => 1}, {1}, <<1::3>>, self()] do
        for _ <- 1..3, do: assert(check(args: %{"v" => value}) == :ok)
      end

      for args <- [nil, [], %{}, %{v: "x"}, "args"],
          _ <- 1..3,
          do: assert(check(args: args) == :ok)
    end

    test "skips a request without a value unless told otherwise" do
      global([limit(0), limit(0, key: "isbn", on_missing: :skip)])
      for _ <- 1..3, do: assert(check(user_id: nil) == :ok)
    end

    test "that denies a request without a value says so for the whole window" do
      global(limit(5, on_missing: :deny, window_ms: 4_321))

      for user <- [nil, "", :ann] do
        assert %{key: nil, current_requests: 0, retry_after_ms: 4_321} = denied(user_id: user)
      end

      assert check() == :ok
    end

    test "counts requests without a value in one window of their own when they share it" do
      global(limit(2, on_missing: :shared))
      assert check(user_id: nil) == :ok
      assert check(user_id: "") == :ok
      assert %{key: nil, current_requests: 2} = denied(user_id: [])
      assert check() == :ok
      assert counts(nil) == [2]
      assert RateLimiter.reset_rate_limit(nil, :global, :user_id) == :ok
      assert check(user_id: nil) == :ok
    end

    test "of an API counts its service and type, in all versions, by string or atom" do
      of_api(%{api(2) | service: :books})
      assert [%{service: "books"}] = RateLimiter.get_configured_limits().api
      assert check(version: "1.0.0") == :ok
      assert check(service: :books, version: "2.0.0") == :ok
      assert %{scope: @buy} = denied(service: :books)
      assert check(request_type: "find") == :ok
      assert check(service: "films") == :ok
    end

    test "is none for a hand-made request whose service or type is no name" do
      of_api(api(0))

      for odd <- [nil, 1, <<255>>, [], %{}, {"books", "buy"}] do
        assert check(service: odd) == :ok
        assert check(request_type: odd) == :ok
      end

      global(limit(0))
      assert %{scope: :global} = denied(service: 1, request_type: <<255>>)
    end

    test "that denies leaves all others as they were" do
      global([limit(9), limit(9, key: :device_id)])
      of_api(api(1, key: "isbn"))
      sent = [device_id: "d", args: %{"isbn" => "1"}]
      assert check(sent) == :ok
      for _ <- 1..20, do: assert(denied(sent).scope == @buy)
      assert counts("ann") == [1]
      assert counts("d", :global, :device_id) == [1]
      assert counts("1", @buy, "isbn") == [1]
    end

    test "on a key that has another with a longer window is enforced beside it" do
      global([limit(2, window_ms: 3_600_000), limit(3)])
      assert check() == :ok
      assert check() == :ok
      assert %{window_ms: 3_600_000, current_requests: 2, max_requests: 2} = denied()
      global([limit(5, window_ms: 3_600_000), limit(3)])
      assert check() == :ok
      assert %{window_ms: @long, current_requests: 3, max_requests: 3} = denied()
      assert counts("ann") == [3, 3]
    end

    test "with the scope, key and window of another is enforced beside it, counting once" do
      for maxima <- [[2, 4], [4, 2], [2, 2]] do
        global(for max <- maxima, do: limit(max))
        RateLimiter.clear()
        for _ <- 1..2, do: assert(check() == :ok)
        assert %{max_requests: 2, current_requests: 2} = denied()
      end
    end

    test "is reported when it denies for longer than the others" do
      windows = [60_000, 3_600_000, 120_000]

      for order <- [windows, Enum.reverse(windows), Enum.sort(windows)] do
        RateLimiter.clear()
        global(for window <- order, do: limit(1, window_ms: window))
        assert check() == :ok
        assert denied().window_ms == 3_600_000
      end

      of_api(api(0, window_ms: 7_200_000))
      assert %{window_ms: 7_200_000, scope: @buy} = denied()
    end
  end

  describe "with a clock of one's own" do
    defp own(limits) do
      limiter = Native.rate_limiter_new(4, 1_000, 10_000)
      :ok = Native.rate_limiter_configure(limiter, true, limits)
      limiter
    end

    defp at(limiter, ms, sent \\ request()),
      do: Native.rate_limiter_check(limiter, sent, "books", "buy", :all, round(ms * 1_000_000))

    test "a request stops counting a window after it was sent, not a moment earlier" do
      # The monotonic clock of Erlang starts below zero.
      for start <- [-5_000, 0, 5_000] do
        limiter = own([{:global, :user_id, 2, 1_000, :skip}])
        assert at(limiter, start) == :ok
        assert at(limiter, start + 400) == :ok
        assert {:limited, :global, :user_id, "ann", 2, 2, 1_000, 600} = at(limiter, start + 400)
        assert {:limited, _, _, _, _, 2, _, 1} = at(limiter, start + 999.999)
        assert at(limiter, start + 1_000) == :ok
        assert {:limited, _, _, _, _, 2, _, 400} = at(limiter, start + 1_000)
        assert at(limiter, start + 1_400) == :ok
      end
    end

    test "a retry passes after retry_after_ms, however odd the moment" do
      for shift <- [0.000001, 0.4, 0.5, 0.999999] do
        limiter = own([{:global, :user_id, 1, 10, :skip}])
        assert at(limiter, 0) == :ok
        {:limited, _, _, _, _, _, _, retry_after} = at(limiter, 3 + shift)
        assert retry_after == 7
        assert {:limited, _, _, _, _, _, _, 1} = at(limiter, 2 + shift + retry_after)
        assert at(limiter, 3 + shift + retry_after) == :ok
      end
    end

    test "a clock that jumps back admits no more" do
      limiter = own([{:global, :user_id, 2, 1_000, :skip}])
      for ms <- [10_000, 0], do: assert(at(limiter, ms) == :ok)

      for ms <- [-1.0e9, 0, 5_000, 10_999],
          do: assert({:limited, _, _, _, _, 2, _, _} = at(limiter, ms))

      assert at(limiter, 11_000) == :ok
    end

    test "the status follows the window, and a sweep reclaims what has expired" do
      limiter = own([{:global, :user_id, 3, 1_000, :skip}, {@buy, :user_id, 5, 2_000, :skip}])
      for user <- ~w(ann bob), do: assert(at(limiter, 0, request(user_id: user)) == :ok)

      status = fn scope, ms ->
        Native.rate_limiter_status(limiter, "ann", scope, :user_id, ms * 1_000_000)
      end

      assert status.(:global, 999) == [{3, 1, 1_000, 2}]
      assert status.(:global, 1_000) == [{3, 0, 1_000, 3}]
      assert status.(@buy, 1_999) == [{5, 1, 2_000, 4}]
      assert {4, 4, 0, bytes} = Native.rate_limiter_stats(limiter)
      assert bytes > 0
      assert Native.rate_limiter_sweep(limiter, 999_000_000, 1_000) == {0, false}
      assert Native.rate_limiter_sweep(limiter, 1_000_000_000, 1_000) == {2, false}
      assert {1, true} = Native.rate_limiter_sweep(limiter, 2_000_000_000, 1)
      assert {2, 2, 0, _} = Native.rate_limiter_stats(limiter) |> swept(limiter)
    end

    # A slice of one has reclaimed one of the two that were left.
    defp swept({1, 1, overflowed, bytes}, limiter) do
      assert {1, false} = Native.rate_limiter_sweep(limiter, 2_000_000_000, 1_000)
      assert {0, 0, _, _} = Native.rate_limiter_stats(limiter)
      {2, 2, overflowed, bytes}
    end
  end

  describe "check_rate_limit/3" do
    test "charges the limits of one scope and key, and no other" do
      global([limit(2), limit(5, window_ms: 60_000), limit(9, key: :device_id)])
      of_api(api(9))
      for _ <- 1..2, do: assert(RateLimiter.check_rate_limit("ann", :global, :user_id) == :ok)

      assert {:error, :rate_limited, details} =
               RateLimiter.check_rate_limit("ann", :global, :user_id)

      assert Enum.sort(Map.keys(details)) == @details
      assert %{key: "ann", rate_limit_key: :user_id, scope: :global, window_ms: @long} = details
      assert counts("ann") == [2, 2]
      assert counts("ann", @buy) == [0]
      assert counts("ann", :global, :device_id) == [0]
    end

    test "shares its windows with requests, and its scope may name the service by an atom" do
      of_api(api(2))
      assert RateLimiter.check_rate_limit("ann", {:books, "buy"}, :user_id) == :ok
      assert check() == :ok

      assert {:error, :rate_limited, %{scope: @buy}} =
               RateLimiter.check_rate_limit("ann", {:books, "buy"}, :user_id)

      assert [%{scope: @buy, current_requests: 2}] =
               RateLimiter.get_rate_limit_status("ann", {:books, "buy"}, :user_id)

      assert RateLimiter.reset_rate_limit("ann", {:books, "buy"}, :user_id) == :ok
      assert check() == :ok
    end

    test "is ok where there is no such limit, whatever it is asked for" do
      global(limit(0, key: "isbn"))

      for scope <-
            [:global, @buy, {"", ""}, {nil, "buy"}, {"books", :buy}, {1, 2}, {<<255>>, "x"}] ++
              [:other, nil, "books", {}, {"books"}, {"books", "buy", "x"}, []],
          key <- [:user_id, :other, nil, "", <<255>>, 1, {"isbn"}] do
        asked = inspect({scope, key})
        assert RateLimiter.check_rate_limit("ann", scope, key) == :ok, asked
        assert RateLimiter.get_rate_limit_status("ann", scope, key) == [], asked
        assert RateLimiter.reset_rate_limit("ann", scope, key) == :ok, asked
      end
    end

    test "treats a missing value as the limit says" do
      global([
        limit(0, key: "skip"),
        limit(1, key: "deny", on_missing: :deny),
        limit(1, key: "shared", on_missing: :shared)
      ])

      for value <- [nil, "", [], :x] do
        assert RateLimiter.check_rate_limit(value, :global, "skip") == :ok

        assert {:error, :rate_limited, %{key: nil, retry_after_ms: @long}} =
                 RateLimiter.check_rate_limit(value, :global, "deny")
      end

      assert RateLimiter.check_rate_limit(nil, :global, "shared") == :ok
      assert {:error, _, %{key: nil}} = RateLimiter.check_rate_limit([], :global, "shared")
    end
  end

  describe "the status of a value" do
    test "is one row per limit, in their order, and charges nothing" do
      global([limit(2, window_ms: 60_000), limit(5)])
      assert check() == :ok

      for _ <- 1..10 do
        assert RateLimiter.get_rate_limit_status("ann", :global, :user_id) == [
                 %{
                   key: "ann",
                   max_requests: 2,
                   current_requests: 1,
                   window_ms: 60_000,
                   remaining: 1,
                   scope: :global
                 },
                 %{
                   key: "ann",
                   max_requests: 5,
                   current_requests: 1,
                   window_ms: @long,
                   remaining: 4,
                   scope: :global
                 }
               ]
      end

      keys = RateLimiter.status().keys

      assert [%{current_requests: 0, remaining: 2}, _] =
               RateLimiter.get_rate_limit_status("new", :global, :user_id)

      assert RateLimiter.status().keys == keys
    end

    test "has nothing remaining, and not less, when the maximum was lowered" do
      global(limit(5))
      for _ <- 1..5, do: check()
      global(limit(2))

      assert [%{current_requests: 5, max_requests: 2, remaining: 0}] =
               RateLimiter.get_rate_limit_status("ann", :global, :user_id)
    end
  end

  describe "a reset" do
    test "forgets one value under one scope and key" do
      global([limit(1), limit(1, window_ms: 60_000), limit(9, key: :device_id)])
      of_api(api(9))
      assert check(device_id: "ann") == :ok
      assert check(user_id: "bob") == :ok
      assert RateLimiter.reset_rate_limit("ann", :global, :user_id) == :ok
      assert counts("ann") == [0, 0]
      assert counts("bob") == [1, 1]
      assert counts("ann", :global, :device_id) == [1]
      assert counts("ann", @buy) == [1]
      assert RateLimiter.reset_rate_limit("nobody", :global, :user_id) == :ok
    end

    test "knows a number by its text" do
      global(limit(1, key: "n"))
      assert check(args: %{"n" => 5}) == :ok
      assert RateLimiter.reset_rate_limit("5", :global, "n") == :ok
      assert check(args: %{"n" => 5}) == :ok
    end
  end

  describe "the limits in force" do
    test "are read back as they were given" do
      limits = [limit(1, on_missing: :shared), limit(2, key: "isbn")]
      global(limits)
      of_api([api(3), %{api(4) | service: :films}])
      assert RateLimiter.get_global_limits() == limits

      assert RateLimiter.get_configured_limits() == %{
               global: limits,
               api: [api(3), %{api(4) | service: "films"}]
             }
    end

    test "are all replaced by set_global_limits, and API limits stay" do
      of_api(api(9))
      global([limit(1), limit(2, key: "isbn")])
      global(limit(3, key: :device_id))

      assert RateLimiter.get_configured_limits() ==
               %{global: [limit(3, key: :device_id)], api: [api(9)]}

      global([])
      for _ <- 1..9, do: assert(check() == :ok)
      assert denied().scope == @buy
    end

    test "are added to by add_global_limit, which replaces those of the same key" do
      global([limit(1), limit(2, window_ms: 60_000), limit(3, key: "user_id")])
      assert RateLimiter.add_global_limit(limit(4)) == :ok
      assert RateLimiter.get_global_limits() == [limit(3, key: "user_id"), limit(4)]
      assert RateLimiter.add_global_limit(limit(5, key: "isbn")) == :ok
      assert length(RateLimiter.get_global_limits()) == 3
    end

    test "are removed by key, also when there are none" do
      global([limit(0), limit(0, window_ms: 60_000), limit(3, key: "user_id")])
      assert RateLimiter.remove_global_limit(:user_id) == :ok
      assert RateLimiter.get_global_limits() == [limit(3, key: "user_id")]

      for key <- [:user_id, "none", nil, 5],
          do: assert(RateLimiter.remove_global_limit(key) == :ok)

      assert check() == :ok
    end

    test "are changed by update_config in what it names, and only in that" do
      global(limit(1))
      assert RateLimiter.update_config(%{api_limits: [api(2)]}) == :ok
      assert RateLimiter.get_configured_limits() == %{global: [limit(1)], api: [api(2)]}
      assert RateLimiter.update_config(%{enabled: false}) == :ok
      assert RateLimiter.get_configured_limits() == %{global: [limit(1)], api: [api(2)]}
      refute RateLimiter.status().enabled
      assert RateLimiter.update_config(%{global_limits: []}) == :ok
      refute RateLimiter.status().enabled
      assert RateLimiter.status().fail_open
      assert RateLimiter.update_config(%{}) == :ok
      assert RateLimiter.get_configured_limits() == %{global: [], api: [api(2)]}
    end

    test "stay as they are when update_config is given an unknown key" do
      global(limit(1))

      for config <- [%{globel_limits: []}, %{global_limits: [], fail_open: false}] do
        assert {:error, {:unknown_key, key}} = RateLimiter.update_config(config)
        assert key in [:globel_limits, :fail_open]
        assert PhoenixGenApi.update_rate_limit_config(config) == {:error, {:unknown_key, key}}
      end

      assert RateLimiter.update_config(%{"enabled" => false}) ==
               {:error, {:unknown_key, "enabled"}}

      assert RateLimiter.get_configured_limits().global == [limit(1)]
      assert RateLimiter.status().enabled
    end

    test "change in one step: no request meets the old global and the new API limits" do
      # Of a and b one always denies; a mixture would admit or deny for neither reason.
      a = %{global_limits: [limit(0)], api_limits: []}
      b = %{global_limits: [], api_limits: [api(0)]}
      :ok = RateLimiter.update_config(a)
      parent = self()

      senders =
        for _ <- 1..4 do
          Task.async(fn ->
            send(parent, :sending)
            for _ <- 1..5_000, uniq: true, do: elem(check(), 1)
          end)
        end

      for _ <- senders, do: assert_receive(:sending)
      for _ <- 1..50, config <- [b, a], do: :ok = RateLimiter.update_config(config)
      assert Task.await_many(senders, 30_000) == List.duplicate([:rate_limited], 4)
    end

    test "keep the counts of a limit that keeps its scope, key and window" do
      global([limit(2), limit(9, key: "isbn")])
      for _ <- 1..2, do: check()
      global(limit(3, on_missing: :deny))
      assert check() == :ok
      assert %{max_requests: 3, current_requests: 3} = denied()
      assert RateLimiter.add_global_limit(limit(4)) == :ok
      assert RateLimiter.update_config(%{enabled: false}) == :ok
      assert RateLimiter.update_config(%{enabled: true, api_limits: [api(9)]}) == :ok
      assert check() == :ok
      assert %{max_requests: 4, current_requests: 4} = denied()
      global(limit(4, window_ms: 60_000))
      assert counts("ann") == [0]
      global(limit(4))
      assert counts("ann") == [0]
    end

    test "admit everything while the limiter is disabled" do
      global(limit(0))
      of_api(api(0))
      assert RateLimiter.update_config(%{enabled: false}) == :ok
      for _ <- 1..5, do: assert(check() == :ok)
      assert RateLimiter.check_rate_limit("ann", :global, :user_id) == :ok
      assert RateLimiter.status().keys == 0
      assert RateLimiter.update_config(%{enabled: true}) == :ok
      denied()
    end

    test "stay as they are when one of the new ones is invalid" do
      global(limit(3))
      of_api(api(4))
      before = RateLimiter.get_configured_limits()

      for {field, value} <-
            [key: :other, key: "", key: nil, max_requests: -1, max_requests: 1.5] ++
              [max_requests: 1_000_001, window_ms: 0, window_ms: @long + 1] ++
              [on_missing: :allow, service: "books", typo: 1],
          bad = Map.put(limit(1), field, value) do
        for change <- [
              fn -> RateLimiter.set_global_limits([limit(9), bad, limit(8, key: "x")]) end,
              fn -> RateLimiter.add_global_limit(bad) end,
              fn ->
                RateLimiter.update_config(%{enabled: false, global_limits: [limit(9), bad]})
              end,
              fn -> RateLimiter.update_config(%{global_limits: [], api_limits: [bad]}) end
            ] do
          assert {:error, {:invalid_limit, ^bad, sentence}} = change.()
          assert is_binary(sentence)
        end
      end

      for bad <- [nil, [], "x", 5, {:a, 1}, [key: :user_id]] do
        assert {:error, {:invalid_limit, ^bad, _}} = RateLimiter.add_global_limit(bad)
        assert {:error, {:invalid_limit, ^bad, _}} = RateLimiter.set_global_limits([bad])
      end

      for bad <- ["x", %{}, :none] do
        assert {:error, {:invalid_limit, ^bad, _}} = RateLimiter.update_config(%{api_limits: bad})
      end

      assert RateLimiter.get_configured_limits() == before
      assert RateLimiter.status().enabled
      assert check() == :ok
      assert counts("ann") == [1]
    end

    test "are forgotten with nothing: clear forgets all requests and keeps the limits" do
      global([limit(1), limit(1, key: :device_id)])
      of_api(api(1))
      assert check(device_id: "d") == :ok
      assert %{keys: 3, entries: 3} = RateLimiter.status()
      assert RateLimiter.clear() == :ok
      assert %{keys: 0, entries: 0, global_limits: 2, api_limits: 1} = RateLimiter.status()
      assert check(device_id: "d") == :ok
      denied()
    end

    test "of the application config are in force from the start" do
      configure(:rate_limiter,
        enabled: true,
        global_limits: [limit(7)],
        api_limits: [%{api(1) | service: :books}]
      )

      assert RateLimiter.Settings.load() == :ok
      assert RateLimiter.get_configured_limits() == %{global: [limit(7)], api: [api(1)]}
      assert check() == :ok
      assert denied().scope == @buy
    end
  end

  test "the status has all figures" do
    global([limit(5), limit(5, key: "isbn")])
    of_api(api(5))
    for user <- ~w(ann bob), do: check(user_id: user)
    status = RateLimiter.status()
    assert status.memory_bytes > 0
    assert is_integer(status.overflowed)

    assert Map.drop(status, [:memory_bytes, :overflowed]) == %{
             status: :ok,
             enabled: true,
             fail_open: true,
             global_limits: 2,
             api_limits: 1,
             instance_count: System.schedulers_online(),
             routing_strategy: :hash,
             keys: 4,
             entries: 4
           }

    configure(:rate_limiter, instance_count: 3, routing_strategy: :random, fail_open: false)
    assert RateLimiter.instance_count() == 3
    assert RateLimiter.routing_strategy() == :random

    assert %{instance_count: 3, routing_strategy: :random, fail_open: false} =
             RateLimiter.status()
  end

  test "the main module passes everything on" do
    assert PhoenixGenApi.set_global_limits([limit(1)]) == :ok
    assert PhoenixGenApi.add_global_limit(limit(2, key: "isbn")) == :ok
    assert PhoenixGenApi.get_global_limits() == [limit(1), limit(2, key: "isbn")]
    assert PhoenixGenApi.remove_global_limit("isbn") == :ok
    assert PhoenixGenApi.update_rate_limit_config(%{api_limits: [api(3)]}) == :ok
    assert PhoenixGenApi.get_rate_limit_config() == %{global: [limit(1)], api: [api(3)]}
    assert PhoenixGenApi.check_rate_limit(request()) == :ok
    assert {:error, :rate_limited, %{}} = PhoenixGenApi.check_rate_limit(request())
    assert [%{remaining: 0}] = PhoenixGenApi.get_rate_limit_status("ann", :global, :user_id)
    assert PhoenixGenApi.reset_rate_limit("ann", :global, :user_id) == :ok
    assert PhoenixGenApi.check_rate_limit(request()) == :ok
  end

  # One a second is logged; the tests before may have had theirs.
  defp forget_last_log, do: :ets.delete(PhoenixGenApi.RateLimiter.Settings, :logged_at)

  describe "when there is no room" do
    test "for another window, fail_open lets requests pass uncounted and logs an error" do
      forget_last_log()
      limiter = instance(2, 1_000)
      global(limit(1))
      for user <- ~w(a b), do: assert(check(user_id: user) == :ok)

      log = capture_log(fn -> for _ <- 1..3, do: assert(check(user_id: "c") == :ok) end)
      assert log =~ "[error]"
      refute log =~ "\"c\""
      assert %{overflowed: 3, keys: 2} = RateLimiter.status()
      assert {2, 2, 3, _} = Native.rate_limiter_stats(limiter)
      # A flood of others lifts the limit of nobody.
      assert %{key: "a"} = denied(user_id: "a")
      assert counts("c") == [0]
    end

    test "for another request, fail_open lets it pass uncounted" do
      instance(1_000, 3)
      global(limit(5))
      for _ <- 1..3, do: assert(check() == :ok)
      capture_log(fn -> for _ <- 1..9, do: assert(check() == :ok) end)
      assert counts("ann") == [3]
      assert %{overflowed: 9, entries: 3} = RateLimiter.status()
      assert RateLimiter.reset_rate_limit("ann", :global, :user_id) == :ok
      assert check() == :ok
      assert counts("ann") == [1]
    end

    test "a request is an error when fail_open is false, and over a limit stays over a limit" do
      configure(:rate_limiter, fail_open: false)
      instance(1, 1_000)
      global(limit(1))
      assert check() == :ok

      log =
        capture_log(fn ->
          assert {:error, :rate_limiter_error, %{message: message}} = check(user_id: "bob")
          assert is_binary(message)

          assert {:error, :rate_limiter_error, %{message: ^message}} =
                   RateLimiter.check_rate_limit("bob", :global, :user_id)
        end)

      assert log == ""
      denied()
    end

    test "being over a limit is never a matter of fail_open" do
      instance(1, 1)
      global(limit(1))
      assert check() == :ok
      denied()
    end
  end

  describe "where no gateway runs" do
    test "a check passes with an error in the log, or is an error, as fail_open says" do
      forget_last_log()

      log =
        capture_log(fn ->
          stopped(fn ->
            assert check() == :ok
            assert RateLimiter.check_rate_limit("ann", :global, :user_id) == :ok
          end)
        end)

      assert log =~ "[error]"
      configure(:rate_limiter, fail_open: false)

      stopped(fn ->
        assert {:error, :rate_limiter_error, %{message: _}} = check()

        assert {:error, :rate_limiter_error, %{message: _}} =
                 RateLimiter.check_rate_limit("ann", :global, :user_id)
      end)
    end

    test "changes say so" do
      stopped(fn ->
        for result <- [
              RateLimiter.set_global_limits([limit(1)]),
              RateLimiter.add_global_limit(limit(1)),
              RateLimiter.remove_global_limit(:user_id),
              RateLimiter.update_config(%{}),
              RateLimiter.clear(),
              RateLimiter.reset_rate_limit("ann", :global, :user_id)
            ],
            do: assert(result == {:error, :not_running})
      end)
    end
  end

  describe "the admin gate" do
    setup do
      before = Application.get_env(:phoenix_gen_api, :admin_actions)

      on_exit(fn ->
        if before,
          do: Application.put_env(:phoenix_gen_api, :admin_actions, before),
          else: Application.delete_env(:phoenix_gen_api, :admin_actions)
      end)

      # Registered last, run first: the outer reset is a change, too.
      on_exit(fn -> Application.delete_env(:phoenix_gen_api, :admin_actions) end)
    end

    test "closes every change and nothing else" do
      global(limit(2))
      assert check() == :ok
      Application.put_env(:phoenix_gen_api, :admin_actions, [:push_config])
      refute Security.admin_action_allowed?(:update_rate_limit_config)

      for result <- [
            RateLimiter.set_global_limits([]),
            RateLimiter.add_global_limit(limit(9)),
            RateLimiter.remove_global_limit(:user_id),
            RateLimiter.update_config(%{enabled: false}),
            RateLimiter.reset_rate_limit("ann", :global, :user_id),
            RateLimiter.clear(),
            PhoenixGenApi.set_global_limits([]),
            PhoenixGenApi.update_rate_limit_config(%{global_limits: []})
          ],
          do: assert(result == {:error, :admin_action_denied})

      assert RateLimiter.get_global_limits() == [limit(2)]
      assert counts("ann") == [1]
      assert RateLimiter.status().enabled
      assert check() == :ok
      denied()
    end

    test "tells an invalid limit no more than a valid one" do
      Application.put_env(:phoenix_gen_api, :admin_actions, [])

      for result <- [
            RateLimiter.set_global_limits([%{}]),
            RateLimiter.add_global_limit(%{}),
            RateLimiter.update_config(%{api_limits: :none})
          ],
          do: assert(result == {:error, :admin_action_denied})
    end

    test "lets changes through that are listed" do
      Application.put_env(:phoenix_gen_api, :admin_actions, [:update_rate_limit_config])
      global(limit(1))
      assert check() == :ok
      assert RateLimiter.clear() == :ok
      assert check() == :ok
    end
  end

  describe "telemetry" do
    @duration [:duration, :duration_us, :monotonic_time]

    test "says of every check what became of it" do
      observe([:check, :exceeded])
      of_api(api(1))
      check(service: :books)

      assert_received {:check, measurements, metadata}
      for name <- @duration, do: assert(is_integer(measurements[name]))

      assert metadata == %{
               request_id: "r1",
               user_id: "ann",
               instance: nil,
               service: :books,
               request_type: "buy",
               result: :ok
             }

      refute_received {:exceeded, _, _}
      denied()
      assert_received {:check, _, %{result: :rate_limited, service: "books"}}
      assert_received {:exceeded, %{retry_after_ms: ms}, metadata}
      assert ms in 1..@long

      assert metadata == %{
               key: "ann",
               scope: @buy,
               max_requests: 1,
               current_requests: 1,
               request_id: "r1",
               user_id: "ann",
               rate_limit_key: :user_id
             }
    end

    test "says the same of checks of one value" do
      observe([:check, :exceeded])
      global([limit(1), limit(1, key: "isbn")])
      RateLimiter.check_rate_limit("ann", :global, :user_id)

      assert_received {:check, _, metadata}

      assert %{request_id: nil, user_id: "ann", service: nil, request_type: nil, result: :ok} =
               metadata

      for _ <- 1..2, do: RateLimiter.check_rate_limit("1", :global, "isbn")
      assert_received {:check, _, %{result: :ok, user_id: nil}}
      assert_received {:check, _, %{result: :rate_limited}}

      assert_received {:exceeded, %{retry_after_ms: _},
                       %{key: "1", rate_limit_key: "isbn", request_id: nil, user_id: nil}}

      RateLimiter.check_rate_limit("1", @buy, :user_id)
      assert_received {:check, _, %{service: "books", request_type: "buy"}}
    end

    test "says of a check that could not be decided that it was an error" do
      observe([:check, :exceeded])
      capture_log(fn -> stopped(fn -> check() end) end)
      assert_received {:check, _, %{result: :error}}
      configure(:rate_limiter, fail_open: false)
      stopped(fn -> check() end)
      assert_received {:check, _, %{result: :error}}
      refute_received {:exceeded, _, _}
    end

    test "tells of resets" do
      observe([:reset])
      RateLimiter.reset_rate_limit(5, {:books, "buy"}, "n")
      assert_received {:reset, measurements, %{key: 5, scope: @buy, rate_limit_key: "n"}}
      assert is_map(measurements)
    end

    test "tells of cleanups what they reclaimed" do
      observe([:cleanup])
      global([limit(1, window_ms: 1), limit(1, key: :device_id)])
      of_api(api(1, key: "isbn"))
      for n <- 1..10, do: check(user_id: "u#{n}", device_id: "d#{n}")
      assert RateLimiter.status().keys >= 10
      # From now on by the millisecond; afterwards, with the old interval, by another server.
      on_exit(fn -> kill(Server) end)
      configure(:rate_limiter, cleanup_interval: 1)
      kill(Server)
      assert Await.until(fn -> RateLimiter.status().keys == 10 end)
      assert_receive {:cleanup, %{cleaned_entries: count} = measurements, metadata} when count > 0
      for name <- @duration, do: assert(is_integer(measurements[name]))
      assert metadata == %{global_limits_count: 2, api_limits_count: 1}
      # What still counts is not touched.
      assert denied(user_id: nil, device_id: "d1").rate_limit_key == :device_id
    end

    test "is attached and detached by the module of the limiter" do
      parent = self()
      id = make_ref()
      handler = fn name, _, _, config -> send(parent, {List.last(name), config}) end
      assert RateLimiter.attach_telemetry(id, handler, :config) == :ok
      global(limit(0))
      denied()
      RateLimiter.reset_rate_limit("ann", :global, :user_id)
      for event <- [:check, :exceeded, :reset], do: assert_received({^event, :config})
      assert RateLimiter.detach_telemetry(id) == :ok
      denied()
      refute_received {:check, _}
      assert RateLimiter.attach_telemetry(id, handler) == :ok
      denied()
      assert_received {:check, %{}}
      assert RateLimiter.detach_telemetry(id) == :ok
    end

    test "handlers that raise change no decision" do
      id = make_ref()
      RateLimiter.attach_telemetry(id, fn _, _, _, _ -> raise "handler" end)
      on_exit(fn -> RateLimiter.detach_telemetry(id) end)
      global(limit(1))

      capture_log(fn ->
        assert check() == :ok
        denied()
      end)
    end
  end

  describe "in IEx" do
    defp printed(fun) do
      capture_io(fn -> assert fun.() == :ok end)
    end

    test "rl_status prints what the limits say of a user" do
      global([limit(3, window_ms: 60_000), limit(9, key: "isbn")])
      of_api([api(2, window_ms: 1_500), api(1, request_type: "find", key: :device_id)])
      check()
      text = printed(fn -> PhoenixGenApi.rl_status("ann") end)
      assert text =~ "\"ann\""
      assert text =~ "global: 1 of 3 in 60 s, 2 left"
      assert text =~ "books buy: 1 of 2 in 1500 ms, 1 left"
      refute text =~ "find"
      assert counts("ann") == [1]
      for odd <- [nil, 5, [], <<255>>], do: printed(fn -> PhoenixGenApi.rl_status(odd) end)
    end

    test "rl_global prints, replaces, adds and removes global limits" do
      assert printed(&PhoenixGenApi.rl_global/0) =~ "none"

      text = printed(fn -> PhoenixGenApi.rl_global([limit(3, on_missing: :deny)]) end)
      assert text =~ "user_id: 3 in 2678400 s, without one: deny"
      assert RateLimiter.get_global_limits() == [limit(3, on_missing: :deny)]

      text = printed(fn -> PhoenixGenApi.rl_global(:add, limit(4, key: "isbn")) end)
      assert text =~ "argument \"isbn\": 4"
      assert text =~ "user_id: 3"

      text = printed(fn -> PhoenixGenApi.rl_global(:remove, :user_id) end)
      refute text =~ "user_id"
      assert RateLimiter.get_global_limits() == [limit(4, key: "isbn")]

      text = printed(fn -> PhoenixGenApi.rl_global(:add, limit(-1)) end)
      assert text =~ "nothing changed"
      assert text =~ "max_requests must be"
      assert printed(fn -> PhoenixGenApi.rl_global([%{}]) end) =~ "nothing changed"
      assert RateLimiter.get_global_limits() == [limit(4, key: "isbn")]
    end

    test "rl_config prints all limits and what the limiter holds" do
      global(limit(3))
      of_api(api(4, key: "isbn"))
      text = printed(&PhoenixGenApi.rl_config/0)
      assert text =~ "user_id: 3"
      assert text =~ "books buy, by argument \"isbn\": 4"

      for name <- ~w(enabled fail_open keys entries overflowed memory_bytes),
          do: assert(text =~ "#{name}: ")
    end
  end

  describe "a crash" do
    defp kill(name) when is_atom(name), do: name |> Process.whereis() |> kill(name)

    defp kill(pid, id) do
      monitor = Process.monitor(pid)
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
      Await.until(fn -> child(id) not in [pid, :restarting, :undefined] end)
    end

    defp child(id) do
      children = Supervisor.which_children(PhoenixGenApi.Supervisor)
      {_, pid, _, _} = List.keyfind(children, id, 0)
      pid
    end

    test "of any process of the library loses no count and no limit" do
      global([limit(100), limit(3, key: :device_id)])
      of_api(api(100))
      limits = RateLimiter.get_configured_limits()
      for _ <- 1..3, do: assert(check(device_id: "d") == :ok)
      children = for {id, _, _, _} <- Supervisor.which_children(PhoenixGenApi.Supervisor), do: id
      assert Server in children

      capture_log(fn ->
        for {id, sent} <- Enum.with_index(children, 4) do
          kill(child(id), id)
          assert RateLimiter.get_configured_limits() == limits
          assert check() == :ok
          assert counts("ann") == [sent]
          assert counts("ann", @buy) == [sent]
          assert denied(device_id: "d").rate_limit_key == :device_id
        end
      end)

      assert RateLimiter.add_global_limit(limit(1)) == :ok
      denied()
    end

    test "of the process that changes limits in the middle of load loses no count" do
      global(limit(1_000))
      parent = self()

      senders =
        for _ <- 1..4 do
          Task.async(fn ->
            send(parent, :sending)
            Enum.count(1..2_000, fn _ -> check() == :ok end)
          end)
        end

      for _ <- senders, do: assert_receive(:sending)
      capture_log(fn -> for _ <- 1..5, do: kill(Server) end)
      assert Enum.sum(Task.await_many(senders, 30_000)) == 1_000
      assert counts("ann") == [1_000]
    end

    test "of it raises in nobody who was changing limits" do
      changed = :counters.new(1, [])

      changers =
        for max <- 1..4 do
          Task.async(fn -> change_until_done([limit(max)], changed, MapSet.new()) end)
        end

      goes_on = fn ->
        before = :counters.get(changed, 1)
        Await.until(fn -> :counters.get(changed, 1) > before end)
      end

      goes_on.()
      capture_log(fn -> for _ <- 1..5, do: kill(Server) && goes_on.() end)
      for changer <- changers, do: send(changer.pid, :done)
      results = changers |> Task.await_many(60_000) |> Enum.reduce(&MapSet.union/2)
      assert MapSet.subset?(results, MapSet.new([:ok, {:error, :not_running}]))

      # What is read back is what is in force.
      assert [%{max_requests: max}] = RateLimiter.get_global_limits()
      assert [%{max_requests: ^max}] = RateLimiter.get_rate_limit_status("a", :global, :user_id)
    end

    defp change_until_done(limits, changed, results) do
      result = RateLimiter.set_global_limits(limits)
      if result == :ok, do: :counters.add(changed, 1, 1)
      results = MapSet.put(results, result)

      receive do
        :done -> results
      after
        0 -> change_until_done(limits, changed, results)
      end
    end
  end

  describe "callers at once" do
    test "of 64 processes exactly the limit is admitted, with another limit in the way" do
      global([limit(500), limit(300, key: :device_id)])

      admitted =
        1..64
        |> Enum.map(fn _ ->
          Task.async(fn -> Enum.count(1..50, fn _ -> check(device_id: "d") == :ok end) end)
        end)
        |> Task.await_many(60_000)
        |> Enum.sum()

      assert admitted == 300
      assert counts("ann") == [300]
      assert counts("d", :global, :device_id) == [300]
    end
  end
end
