defmodule PhoenixGenApi.ExecutorRateLimitTest do
  # Changes the limits and the configuration of the node.
  use ExUnit.Case, async: false

  import PhoenixGenApi.Test.Answers
  import ExUnit.CaptureLog
  import PhoenixGenApi.Plan, only: [has: 2]

  alias PhoenixGenApi.{Config, ConfigDb, Executor, Gateway, Native, Plan, RateLimiter, Telemetry}
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Test.{Functions, Options}

  @long 2_678_400_000

  setup do
    reset()
    on_exit(&reset/0)
  end

  defp reset do
    ConfigDb.clear()
    :ok = RateLimiter.update_config(%{enabled: true, global_limits: [], api_limits: []})
    :ok = RateLimiter.clear()
  end

  defp limit(max, fields \\ []),
    do: Enum.into(fields, %{key: :user_id, max_requests: max, window_ms: @long})

  defp global(limits), do: :ok = RateLimiter.set_global_limits(List.wrap(limits))

  defp of_api(limit) do
    limit = Map.merge(%{service: "test", request_type: "run"}, limit)
    :ok = RateLimiter.update_config(%{api_limits: [limit]})
  end

  # In memory only: limits that were set at run time stay.
  defp configure(values), do: Options.set(:rate_limiter, values, &Config.load/0)

  # Another instance, full after one window.
  defp without_room do
    real = :persistent_term.get(Gateway)
    on_exit(fn -> Gateway.publish(real) end)
    Gateway.publish(%{real | rate_limiter: Native.rate_limiter_new(1, 1, 1_000)})
    global(limit(1))
    :ok = RateLimiter.check_rate_limit("first", :global, :user_id)
  end

  defp config(fun, fields \\ []), do: Functions.config(fun, [timeout: 5_000] ++ fields)
  defp request(fields \\ []), do: Functions.request([user_id: "ann"] ++ fields)
  defp add(fun, fields \\ []), do: :ok = ConfigDb.add(config(fun, fields))
  defp run(fields \\ []), do: Executor.execute!(request(fields))
  defp ran(value \\ :ran), do: Response.sync_response("r1", value)
  defp limited?(response), do: match?(%Response{error: "Rate limit exceeded." <> _}, response)

  defp count(value \\ "ann", key \\ :user_id, scope \\ :global) do
    for row <- RateLimiter.get_rate_limit_status(value, scope, key), do: row.current_requests
  end

  defp get_api_count(value), do: count(value, "account", {"test", "run"})

  defp flagged? do
    {:ok, plan} = ConfigDb.fetch("test", "run", nil)
    has(plan, :limited)
  end

  describe "a denied request" do
    test "is told the seconds to wait, rounded up, and that it may retry" do
      add(fn -> :ran end)

      # A maximum of 0 denies for the whole window, which makes the number exact.
      for {window, seconds} <- [
            {1, 1},
            {999, 1},
            {1_000, 1},
            {1_001, 2},
            {59_999, 60},
            {60_000, 60},
            {@long, 2_678_400}
          ] do
        global(limit(0, window_ms: window))

        assert run() ==
                 error("Rate limit exceeded. Please retry after #{seconds} seconds.", true,
                   details: [%{"retry_after_ms" => window}]
                 )
      end
    end

    test "is told no numbers unless they are exposed, whatever detail_error says" do
      add(fn -> :ran end)
      global(limit(2))
      for _ <- 1..2, do: assert(run() == ran())
      Options.set(:gen_api, [detail_error: true], &Config.load/0)
      assert %Response{result: nil, error: error, can_retry: true} = run()
      assert error =~ ~r/^Rate limit exceeded\. Please retry after \d+ seconds\.$/

      configure(expose_limits: true)
      assert %Response{result: result, success: false, error: ^error} = run()
      assert Map.keys(result) == ["limit", "remaining", "retry_after_ms"]
      assert %{"limit" => 2, "remaining" => 0, "retry_after_ms" => ms} = result
      assert ms in (@long - 60_000)..@long

      # After the maximum was lowered more than that count.
      global(limit(1))
      assert %Response{result: %{"limit" => 1, "remaining" => 0}} = run()
      global(limit(0, window_ms: 1_500))

      assert run().result == %{"limit" => 0, "remaining" => 0, "retry_after_ms" => 1_500}

      global(%{limit(5, window_ms: 1_500) | key: "nowhere"} |> Map.put(:on_missing, :deny))
      assert run().result == %{"limit" => 5, "remaining" => 0, "retry_after_ms" => 1_500}
    end

    test "never reaches hooks, permission, arguments or the function, and costs nothing more" do
      parent = self()
      tell = fn what -> send(parent, what) end

      add(fn -> tell.(:function) end,
        before_execute: {Functions, :before, [fn r, c -> tell.(:before) && {:ok, r, c} end]},
        after_execute: {Functions, :finished, [fn _, _, r -> tell.(:after) && r end]},
        check_permission: :any_authenticated
      )

      global([limit(0), limit(5, key: :device_id)])
      assert limited?(run(device_id: "d"))
      for what <- [:before, :after, :function], do: refute_received(^what)

      assert [%{current_requests: 0}] =
               RateLimiter.get_rate_limit_status("d", :global, :device_id)

      # Without a user permission would be denied, too: the limit is asked first.
      global(limit(0, on_missing: :deny))
      assert limited?(run(user_id: nil))
      global([])
      capture_log(fn -> assert run(user_id: nil).error == "Permission denied" end)
    end

    test "of an unknown or disabled function counts against the limits of who sends it" do
      global([limit(2), limit(5, key: "account")])
      add(fn -> :ran end, version: "1.0.0", disabled: true)
      assert run(request_type: "none", args: %{"account" => "a"}).error =~ "unsupported function"
      assert run().error =~ "disabled function"
      assert limited?(run(request_type: "none"))
      assert count() == [2]
      assert count("a", "account") == [0]
    end

    test "without permission, or with arguments that are refused, uses up nobody else's limit" do
      add(fn _ -> :ran end,
        arg_types: %{"account" => [type: :string, max_length: 10]},
        check_permission: {:arg, "account"}
      )

      of_api(limit(3, key: "account"))
      global(limit(100))
      args = &[args: %{"account" => &1}]

      capture_log(fn ->
        for _ <- 1..5,
            do: assert(run([user_id: "eve"] ++ args.("ann")).error == "Permission denied")

        for _ <- 1..5, do: run([user_id: "ann"] ++ args.(7))
      end)

      assert get_api_count("ann") == [0]
      for _ <- 1..3, do: assert(run(args.("ann")).success)
      assert limited?(run(args.("ann")))
      # The limits of who sends it were charged first, also by what the second group denies.
      assert count("eve") == [5]
      assert count("ann") == [9]
    end

    test "by a device that only the client names counts late, by one of the socket first" do
      add(fn -> :ran end, check_permission: :any_authenticated)
      global(limit(1, key: :device_id))
      map = %{"request_id" => "r1", "service" => "test", "request_type" => "run"}

      capture_log(fn ->
        denied = Executor.execute_params(Map.put(map, "device_id", "pad"))
        assert denied.error == "Permission denied"
      end)

      assert count("pad", :device_id) == [0]

      capture_log(fn ->
        denied = Executor.execute_params(map, identity: %{device_id: "pad"})
        assert denied.error == "Permission denied"
      end)

      assert count("pad", :device_id) == [1]
      assert limited?(Executor.execute_params(map, identity: %{user_id: "ann", device_id: "pad"}))
      claimed = Map.merge(map, %{"device_id" => "pad", "user_id" => "ann"})
      assert limited?(Executor.execute_params(claimed))
    end

    test "check_rate_limit/1 charges both groups, all or nothing" do
      global([limit(2), limit(1, key: "account")])
      sent = request(args: %{"account" => "a"})
      assert RateLimiter.check_rate_limit(sent) == :ok

      assert {:error, :rate_limited, %{rate_limit_key: "account"}} =
               RateLimiter.check_rate_limit(sent)

      assert count() == [1]
    end

    test "limits by address count one client once, however the address is written" do
      add(fn -> :ran end)
      global(limit(10, key: :ip_address))

      passed = fn addresses ->
        Enum.count(addresses, &(not limited?(run(ip_address: &1))))
      end

      assert passed.(for n <- 1..1_000, do: "2001:db8::#{Integer.to_string(n, 16)}") == 10
      assert passed.(Stream.take(Stream.cycle(["1.2.3.4", "::ffff:1.2.3.4"]), 30)) == 10
      assert count("2001:DB8:0:0::FFFF", :ip_address) == [10]
      assert RateLimiter.reset_rate_limit("::ffff:102:304", :global, :ip_address) == :ok
      assert count("1.2.3.4", :ip_address) == [0]

      assert RateLimiter.check_rate_limit("2001:db8::7", :global, :ip_address) |> elem(1) ==
               :rate_limited

      # The request keeps the full address.
      add(fn request -> request.ip_address end, request_type: "address", request_info: true)
      global([])
      assert run(request_type: "address", ip_address: "::ffff:1.2.3.4").result == "::ffff:1.2.3.4"
    end

    test "values of 200 kB cost the memory of short ones" do
      add(fn -> :ran end,
        arg_types: %{"account" => [type: :string, max_length: 300_000]},
        mfa: {String, :length, []}
      )

      of_api(limit(2, key: "account"))
      bytes = fn -> RateLimiter.status().memory_bytes end
      before = bytes.()
      value = String.duplicate("x", 200_000)
      for n <- 1..200, do: assert(run(args: %{"account" => "#{n}" <> value}).success)
      assert bytes.() - before < 200 * 1_000
      assert run(args: %{"account" => "7" <> value}).success
      assert limited?(run(args: %{"account" => "7" <> value}))
    end

    test "is counted when it fails later: the limit came first" do
      add(fn -> raise "late" end, arg_types: %{"n" => :integer})
      global(limit(2))
      capture_log(fn -> assert run(args: %{"n" => "x"}).error =~ "argument validation" end)
      capture_log(fn -> assert run(args: %{"n" => 1}).error == "Internal Server Error" end)
      assert limited?(run())
      assert count() == [2]
    end

    test "stops as any other in telemetry, with the check inside" do
      parent = self()
      id = make_ref()
      handler = fn [_, _ | name], _, meta, _ -> send(parent, {name, meta}) end
      PhoenixGenApi.attach_telemetry(id, handler)
      on_exit(fn -> Telemetry.detach_all(id) end)
      add(fn -> :ran end)
      global(limit(0))
      assert limited?(run())
      assert_received {[:request, :start], %{request_id: "r1"}}
      assert_received {[:check], %{request_id: "r1", result: :rate_limited}}
      assert_received {[:exceeded], %{request_id: "r1", user_id: "ann", key: "ann"}}
      assert_received {[:request, :stop], %{success: false, async: false}}
    end
  end

  describe "a limit" do
    test "is in force for functions that were added before it and after it" do
      add(fn -> :old end, request_type: "old")
      global(limit(1))
      add(fn -> :new end, request_type: "new")
      assert run(request_type: "old") == ran(:old)
      assert limited?(run(request_type: "new"))
      assert limited?(run(request_type: "old"))
      global([])
      assert run(request_type: "old") == ran(:old)
      assert run(request_type: "new") == ran(:new)
    end

    test "flags the plans that it applies to, and no others, for as long as it is there" do
      add(fn -> :ran end)
      refute flagged?()
      of_api(limit(1))
      assert flagged?()
      of_api(limit(1, request_type: "other"))
      refute flagged?()
      global(limit(1))
      assert flagged?()
      :ok = RateLimiter.update_config(%{enabled: false})
      refute flagged?()
      :ok = RateLimiter.update_config(%{enabled: true})
      assert flagged?()
      global([])
      refute flagged?()
      of_api(limit(1))
      # Compiled anew, and in another version.
      add(fn -> :ran end)
      add(fn -> :ran end, version: "2.0.0")
      assert flagged?()
      {:ok, plan, _config} = Plan.compile(config(fn -> :ran end, request_type: "other"))
      refute has(plan, :limited)
    end

    test "of an API counts all versions of the function together" do
      for version <- ["1.0.0", "2.0.0"], do: add(fn -> version end, version: version)
      of_api(limit(2))
      assert run(version: "1.0.0") == ran("1.0.0")
      assert run(version: "2.0.0") == ran("2.0.0")
      for version <- [nil, "1.0.0", "2.0.0"], do: assert(limited?(run(version: version)))
    end

    test "counts by an argument of the request" do
      add(fn isbn -> isbn end, arg_types: %{"isbn" => :string})
      of_api(limit(1, key: "isbn"))
      assert run(args: %{"isbn" => "1"}) == ran("1")
      assert limited?(run(args: %{"isbn" => "1"}))
      assert run(args: %{"isbn" => "2"}) == ran("2")
    end

    test "applies to a config that is given with the request" do
      config = config(fn -> :ran end)
      of_api(limit(1))
      assert Executor.execute_with_config!(request(), config) == ran()
      assert limited?(Executor.execute_with_config!(request(), config))
    end

    test "applies to requests that are given as a map or with a timeout" do
      add(fn -> :ran end)
      global(limit(1))
      assert Executor.execute_with_timeout!(request(), 5_000) == ran()
      assert limited?(Executor.execute_with_timeout!(request(), 5_000))
      map = %{"request_id" => "r1", "service" => "test", "request_type" => "run"}
      assert limited?(Executor.execute_params(Map.put(map, "user_id", "ann")))
    end

    test "by address cannot be dodged by an address that the client sends" do
      add(fn -> :ran end)
      global(limit(0, key: :ip_address, on_missing: :deny))
      map = %{"request_id" => "r1", "service" => "test", "request_type" => "run"}
      assert limited?(Executor.execute_params(Map.put(map, "ip_address", "10.0.0.1")))
      :ok = RateLimiter.update_config(%{global_limits: [limit(0, key: :ip_address)]})
      assert Executor.execute_params(Map.put(map, "ip_address", "10.0.0.1")) == ran()
      assert limited?(Executor.execute_params(Map.put(map, :ip_address, "10.0.0.1")))
    end

    test "applies to async requests and to those without a response, where they are accepted" do
      parent = self()

      for {type, accepted} <- [async: Response.async_response("r1"), none: {:ok, :none}] do
        RateLimiter.clear()
        global(limit(1))
        add(fn -> send(parent, {:ran, type}) && :ran end, response_type: type)
        assert run() == accepted
        assert_receive {:ran, ^type}
        if type == :async, do: assert_receive({:async_call, %Response{result: :ran}})
        response = run()
        assert limited?(response)
        assert %Response{async: false, success: false, can_retry: true} = response
        refute_received {:ran, ^type}
        refute_received {:async_call, _}
        assert count() == [1]
      end
    end

    test "is charged once, whatever a hook makes of the request" do
      hook = fn request, config ->
        {:ok, %{request | user_id: "bob"}, %{config | timeout: 9_000}}
      end

      add(fn -> :ran end, before_execute: {Functions, :before, [hook]})
      global(limit(1))
      assert run() == ran()
      assert count() == [1]
      assert limited?(run())
      assert run(user_id: "bob") == ran()
    end

    test "does nothing while the limiter is disabled" do
      add(fn -> :ran end)
      global(limit(0))
      :ok = RateLimiter.update_config(%{enabled: false})
      for _ <- 1..5, do: assert(run() == ran())
      :ok = RateLimiter.update_config(%{enabled: true})
      assert limited?(run())
    end
  end

  describe "a limiter without room" do
    test "lets requests pass when it is to fail open, and denies those over a limit" do
      add(fn -> :ran end)
      without_room()
      # Of this instance the plan has to know.
      add(fn -> :ran end)
      capture_log(fn -> for _ <- 1..3, do: assert(run() == ran()) end)
      assert RateLimiter.status().overflowed == 3
      assert limited?(run(user_id: "first"))
    end

    test "is an unavailable service when it is to fail closed" do
      configure(fail_open: false, expose_limits: true)
      without_room()
      add(fn -> flunk("must not run") end)

      for type <- [:sync, :async, :none] do
        add(fn -> flunk("must not run") end, response_type: type)

        assert run() == error("Rate limit service unavailable", true)
      end

      assert limited?(run(user_id: "first"))
    end
  end

  describe "callers at once" do
    test "of 64 processes exactly the limit is admitted" do
      counter = :counters.new(1, [])
      add(fn -> :counters.add(counter, 1, 1) end)
      global(limit(100))

      responses =
        1..64
        |> Enum.map(fn _ -> Task.async(fn -> for _ <- 1..5, do: run() end) end)
        |> Task.await_many(60_000)
        |> Enum.concat()

      {denied, admitted} = Enum.split_with(responses, &limited?/1)
      assert length(admitted) == 100
      assert Enum.all?(admitted, & &1.success)
      assert length(denied) == 220
      assert :counters.get(counter, 1) == 100
      assert count() == [100]
    end

    test "never get more than the larger limit while limits change under them" do
      add(fn -> :ran end)
      global(limit(100))
      parent = self()

      senders =
        for _ <- 1..16 do
          Task.async(fn ->
            send(parent, :sending)
            Enum.count(1..40, fn _ -> run() == ran() end)
          end)
        end

      for _ <- senders, do: assert_receive(:sending)

      for max <- 1..50 |> Enum.flat_map(fn _ -> [150, 100] end) do
        global([limit(max), limit(10_000, key: :device_id)])
        of_api(limit(rem(max, 7) + 10_000))
      end

      admitted = senders |> Task.await_many(60_000) |> Enum.sum()
      assert admitted in 100..150
      assert count() == [admitted]
    end
  end
end
