defmodule PhoenixGenApi.FailureLogTest do
  # What the log says of failed requests. Captures the log, which is everybody's, and changes the
  # configuration of the node.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, ConfigDb, Executor, FailureLog, NodeSelector}
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Test.{Functions, LogLines, Options}

  @moduletag :capture_log

  setup do
    ConfigDb.clear()
    LogLines.forward()
    next_second()
    on_exit(&ConfigDb.clear/0)
  end

  # So that no line from before counts against those that follow, and no summary of them comes.
  defp next_second do
    :ets.delete_all_objects(FailureLog.Limit)
    # One that it was about to write.
    :sys.get_state(FailureLog.Limit)
    forget_lines()
  end

  defp forget_lines do
    receive do
      {:logged, _level, _text, _meta} -> forget_lines()
    after
      0 -> :ok
    end
  end

  # Unlike other tests a request here has an id that nobody else has.
  defp request(fields) do
    id = "log-#{System.unique_integer([:positive])}"
    Functions.request([request_id: id, user_id: "ann"] ++ fields)
  end

  defp run(fun, fields \\ [], request_fields \\ []) do
    config = Functions.config(fun, [timeout: 30_000] ++ fields)
    request = request(request_fields)
    Executor.execute_with_config!(request, config)
    LogLines.others(request.request_id)
  end

  defp hang, do: Process.sleep(:infinity)

  defp failures do
    before = fn hook -> [before_execute: {Functions, :before, [hook]}] end

    [
      {:error, "internal", ~r/run\/1 on \S+: raised RuntimeError: boom/, fn -> raise "boom" end,
       []},
      {:error, "internal", ~r/threw :ball/, fn -> throw(:ball) end, []},
      {:error, "internal", ~r/exited with :gone/, fn -> exit(:gone) end, []},
      {:error, "internal", ~r/function NoSuch\.f\/0 is undefined/,
       fn -> apply(NoSuch, :f, []) end, []},
      {:error, "internal", ~r/function String\.no_such\/1 is undefined/, fn -> 1 end,
       [mfa: {String, :no_such, [1]}]},
      {:error, "internal", ~r/function String\.upcase\/4 is undefined/, fn -> 1 end,
       [mfa: {String, :upcase, [1, 2, 3, 4]}]},
      {:error, "internal", ~r/returned \{:error, _, _\}/, fn -> {:error, "hunter2", 1} end, []},
      {:warning, "internal", ~r/returned an error: :db_down/, fn -> {:error, :db_down} end, []},
      {:warning, "timeout", ~r/timed out after 100 ms/, &hang/0, [timeout: 100]},
      {:warning, "timeout", ~r/timed out after 500 ms/, &hang/0, [deadline: 500]},
      {:warning, "timeout", ~r/not called: its time of 100 ms was over/, &hang/0,
       before.(fn _, _ -> hang() end) ++ [deadline: 100]},
      {:warning, "unavailable", ~r/no usable node: nobody@nowhere is draining/, &hang/0,
       [nodes: [:nobody@nowhere]]},
      {:warning, "forbidden", ~r/permission denied: \{:role, \["admin"\]\}/, &hang/0,
       [check_permission: {:role, ["admin"]}]},
      {:warning, "forbidden", ~r/Functions\.permit returned :maybe/, &hang/0,
       [permission_callback: {Functions, :permit, [fn _ -> :maybe end]}]},
      {:warning, "forbidden", ~r/Functions\.permit raised RuntimeError: oops/, &hang/0,
       [permission_callback: {Functions, :permit, [fn _ -> raise "oops" end]}]},
      {:warning, "unavailable", ~r/Functions\.permit has not decided: took too long/, &hang/0,
       [permission_callback: {Functions, :permit, [fn _ -> hang() end]}, hook_timeout: 20]},
      {:warning, "rejected", ~r/its hook .*before raised RuntimeError: oops/, &hang/0,
       before.(fn _, _ -> raise "oops" end)},
      {:warning, "rejected", ~r/its hook .*before took longer than 20 ms/, &hang/0,
       before.(fn _, _ -> hang() end) ++ [hook_timeout: 20]},
      {:warning, "internal", ~r/its config is invalid: timeout must be/, &hang/0, [timeout: 1]},
      {:info, "rejected", ~r/rejected by its hook: closed/, &hang/0,
       before.(fn _, _ -> {:error, "closed"} end)},
      {:info, "invalid_arguments", ~r/invalid arguments: n: required/, &hang/0,
       [arg_types: %{"n" => :integer}]},
      {:info, "missing_routing_key", ~r/no usable value of the routing key "isbn"/, &hang/0,
       [nodes: [:nobody@nowhere], choose_node_mode: {:hash, "isbn"}]},
      {:info, "sold_out", ~r/an error of its own \(sold_out\)/,
       fn -> Response.error_response(nil, "hunter2", false, code: "sold_out") end, []}
    ]
  end

  setup do
    :ok = NodeSelector.drain(:nobody@nowhere)
    on_exit(fn -> NodeSelector.undrain(:nobody@nowhere) end)
  end

  test "a request of type none whose deadline is over is logged" do
    request = request(deadline_ms: 100)
    config = Functions.config(&hang/0, response_type: :none)
    assert Executor.execute_with_config!(request, config) == {:ok, :none}
    assert {:warning, text, %{code: "timeout"}} = LogLines.first(request.request_id)
    assert text =~ "100 ms"
  end

  test "every failure is logged once, at its level, with who, what, where and why" do
    for {level, code, text, fun, fields} <- failures() do
      next_second()
      assert [{^level, line, meta}] = run(fun, fields)
      assert line =~ text
      assert line =~ "of ann failed: test run: "
      refute line =~ "hunter2"
      assert %{service: "test", request_type: "run", user_id: "ann", code: ^code} = meta
      # Without a config that is valid nobody knows.
      assert meta.version == if(fields == [timeout: 1], do: nil, else: "0.0.0")
    end
  end

  test "async, stream and none requests are logged as sync ones are" do
    for {level, code, text, fun, fields} <- failures(), type <- [:async, :none, :stream] do
      next_second()
      config = Functions.config(fun, [timeout: 30_000, response_type: type] ++ fields)
      request = request([])
      Executor.execute_with_config!(request, config)
      assert {^level, line, %{code: ^code}} = LogLines.first(request.request_id)
      assert line =~ text
      # By then the stream or the task has ended.
      assert LogLines.others(request.request_id) == []
    end
  end

  test "a lookup that fails is logged without a function" do
    request = request(version: "9.0.0")
    Executor.execute!(request)
    assert [{:info, line, meta}] = LogLines.others(request.request_id)
    assert line =~ "failed: test run 9.0.0: unknown function"
    assert %{code: "unknown_function", version: "9.0.0"} = meta
  end

  test "sync_call and maps that are no request are logged" do
    request = request([])
    Executor.sync_call(request, Functions.config(fn -> raise "boom" end))
    assert [{:error, _line, %{code: "internal"}}] = LogLines.others(request.request_id)

    Executor.execute_params(%{"request_id" => "log-params"})
    assert [{:info, line, %{code: "invalid_request"}}] = LogLines.others("log-params")
    assert line =~ "Missing required fields: request_type, service"
  end

  test "a crash shows its stacktrace with arities, never arguments" do
    assert [{:error, line, _meta}] = run(fn -> String.to_integer(Enum.join(["hunter", 2])) end)
    assert line =~ "raised ArgumentError in :erlang.binary_to_integer/1"
    assert [_first | frames] = String.split(line, "\n")
    assert Enum.any?(frames, &(&1 =~ ":erlang.binary_to_integer/1"))
    refute line =~ "hunter2"
  end

  defp quoting do
    # So that the compiler does not know it.
    value = Process.get(:no_such_key, "hunter2")

    [
      fn -> {:ok, _} = value end,
      fn -> case(value, do: (:never -> 1)) end,
      fn -> with(:never <- value, do: 1, else: (:never -> 2)) end,
      fn -> Map.fetch!(%{value => 1}, value <> "x") end,
      fn -> %{Process.get(:nothing, value) | a: 1} end,
      fn -> Functions.crash(value) end,
      fn -> String.to_atom(String.duplicate(value, 100)) end,
      fn -> Enum.map(value, & &1) end,
      fn -> Process.get(:nothing, value).(1) end,
      fn -> GenServer.call(:no_such_process, value) end,
      fn -> exit({{:badmatch, value}, [{Functions, :crash, [value], []}]}) end
    ]
  end

  test "exceptions that quote values are only named, unless values are wanted" do
    for fun <- quoting() do
      assert [{:error, line, _meta}] = run(fun)
      refute line =~ "hunter2"
    end

    next_second()
    Options.set(:log, values: true)
    assert [{:error, line, _meta}] = run(hd(quoting()))
    assert line =~ "no match of right hand side value: \"hunter2\""
  end

  test "reasons and messages are cut" do
    long = String.duplicate("é", 5_000)
    assert [{:error, line, _meta}] = run(fn -> raise long end)
    assert line |> String.split("\n") |> hd() |> byte_size() < 1_000
    assert [{:warning, line, _meta}] = run(fn -> {:error, long} end)
    assert byte_size(line) < 1_000
  end

  test "nothing from outside leaves its line, nor gets into metadata as it is" do
    forged = "r\n12:00 [error] forged\e[31m"
    config = Functions.config(fn -> raise forged end)
    fields = [request_id: forged, user_id: forged, service: forged, request_type: forged]
    Executor.execute_with_config!(struct!(%Request{}, fields), config)
    escaped = ~S(r\n12:00 [error] forged\e[31m)
    assert {:error, line, meta} = LogLines.first(escaped)
    refute line |> String.split("\n") |> hd() =~ ~r/[\e\r]/
    assert meta.user_id == escaped and meta.service == escaped

    for {_key, value} <- meta, is_binary(value), do: refute(value =~ ~r/[\n\e]/)
  end

  test "the level of the configuration is a threshold, and that of a function wins" do
    fail = fn -> {:error, :db_down} end
    Options.set(:log, level: :error)
    assert run(fail) == []
    assert [{:error, _, _}] = run(fn -> raise "boom" end)
    assert [{:warning, _, _}] = run(fail, log: :warning)

    Options.set(:log, level: false)
    assert run(fn -> raise "boom" end) == []
    assert [{:warning, _, _}] = run(fail, log: :debug)

    Options.set(:log, level: :debug)
    assert run(fail, log: false) == []
  end

  test "rate limited requests are for debugging" do
    on_exit(fn -> PhoenixGenApi.set_global_limits([]) end)
    :ok = PhoenixGenApi.set_global_limits([%{key: :user_id, max_requests: 0, window_ms: 60_000}])
    :ok = ConfigDb.add(Functions.config(fn -> 1 end))
    request = request([])
    Executor.execute!(request)
    assert LogLines.others(request.request_id) == []

    Options.set(:log, level: :debug)
    Executor.execute!(request)
    assert [{:debug, line, %{code: "rate_limited"}}] = LogLines.others(request.request_id)
    assert line =~ "over the limit of 0 in 60 s by user_id"
    assert line =~ "failed: test run: "
  end

  # In how many seconds a function ran, with its result: its lines are limited in each of them.
  defp seconds(fun) do
    first = System.monotonic_time(:second)
    result = fun.()
    {System.monotonic_time(:second) - first + 1, result}
  end

  # The users with a line of that code each, as often as they have one.
  defp logged(code) do
    receive do
      {:logged, :warning, _text, %{code: ^code, request_id: _id} = meta} ->
        [meta.user_id | logged(code)]
    after
      0 -> []
    end
  end

  # The summaries that count `left` requests together, as {count, users}.
  defp summaries(_code, 0), do: []

  defp summaries(code, left) do
    assert_receive {:logged, :warning, text, %{code: ^code} = meta}
                   when not is_map_key(meta, :request_id)

    [_, count] =
      Regex.run(~r/^(\d+) more requests failed in a second \(#{code}\), of users or addr/, text)

    users = for [_, user] <- Regex.scan(~r/"(\w+)"/, text), do: user
    count = String.to_integer(count)
    [{count, users} | summaries(code, left - count)]
  end

  test "lines of one code are 20 in a second, and a summary counts the others" do
    config = Functions.config(fn -> {:error, :db_down} end)

    {seconds, _responses} =
      seconds(fn ->
        for n <- 1..50, do: Executor.execute_with_config!(request(user_id: "user#{n}"), config)
      end)

    logged = logged("internal")
    assert length(logged) in 20..(20 * seconds)

    for {count, users} <- summaries("internal", 50 - length(logged)) do
      # Of up to ten users, who have no line.
      assert length(users) == min(count, 10)
      assert users -- logged == users
    end
  end

  test "denials are 20 in a second for each user, and one user does not hide the others" do
    config = Functions.config(fn -> 1 end, check_permission: {:role, ["admin"]})
    others = for n <- 1..60//2, do: "user#{n}"

    {seconds, _responses} =
      seconds(fn ->
        for other <- others,
            user <- [other, "mallory"],
            do: Executor.execute_with_config!(request(user_id: user), config)
      end)

    {mallory, rest} = Enum.split_with(logged("forbidden"), &(&1 == "mallory"))
    assert rest == others
    assert length(mallory) in 20..(20 * seconds)

    for {_count, users} <- summaries("forbidden", 30 - length(mallory)),
        do: assert(users == ["mallory"])
  end

  test "denials of more users than are kept are counted together" do
    # So quick that some attempt is within one second.
    {1, admitted} =
      Await.until(fn ->
        next_second()

        with {seconds, _} when seconds > 1 <-
               seconds(fn ->
                 for n <- 1..1_100,
                     do: FailureLog.Limit.admit?("forbidden", "user#{n}", true, :warning)
               end),
             do: nil
      end)

    assert Enum.count(admitted, & &1) == 1_000
    assert [{100, users}] = summaries("forbidden", 100)
    assert length(users) == 10
    Await.until(fn -> :ets.info(FailureLog.Limit, :size) == 0 end)
  end

  test "what is kept of a user is bounded" do
    long = String.duplicate("u", 100_000)
    for _ <- 1..25, do: FailureLog.Limit.admit?("forbidden", long, true, :warning)
    rows = :ets.tab2list(FailureLog.Limit)
    assert :erlang.external_size(rows) < 2_000
  end

  test "an after hook that fails is logged, and the request is answered" do
    hook = {Functions, :finished, [fn _, _, _ -> raise "oops" end]}
    assert [{:warning, line, meta}] = run(fn -> 1 end, after_execute: hook)
    assert line =~ "its hook PhoenixGenApi.Test.Functions.finished raised RuntimeError: oops"
    assert meta.code == nil
  end

  describe "telemetry" do
    setup do
      PhoenixGenApi.Test.Events.forward(
        for(phase <- [:stop, :exception], do: [:phoenix_gen_api, :executor, :request, phase]),
        fn [_, _, _, phase], measurements, metadata ->
          {:told, metadata.request_id, phase, Map.merge(measurements, metadata)}
        end
      )
    end

    defp told(request, config) do
      Executor.execute_with_config!(request, config)
      id = request.request_id
      assert_receive {:told, ^id, phase, told}
      {phase, told}
    end

    test "says of a success where it ran and how often it was tried" do
      assert {:stop, told} = told(request([]), Functions.config(fn -> 1 end))
      assert %{success: true, code: nil, reason: nil, attempts: 1, queued_us: 0} = told
      assert told.node == node()
    end

    test "says of a failure its code, its node, its attempts and why" do
      for {_level, code, text, fun, fields} <- failures() do
        {phase, told} = told(request([]), Functions.config(fun, [timeout: 30_000] ++ fields))
        assert told.code == code
        assert is_integer(told.attempts)

        if phase == :stop do
          assert told.success == false
          assert "x: " <> told.reason =~ text
          assert byte_size(told.reason) < 700
        end
      end
    end

    test "counts every attempt of a function with retries" do
      config = Functions.config(fn -> {:error, :down} end, retry: 2)
      assert {:stop, %{attempts: 3, success: false}} = told(request([]), config)
      counter = :counters.new(1, [])

      second = fn ->
        :counters.add(counter, 1, 1)
        if :counters.get(counter, 1) == 1, do: {:error, :down}, else: :ok
      end

      assert {:stop, %{attempts: 2, success: true, code: nil}} =
               told(request([]), Functions.config(second, retry: 2))
    end

    test "says of a request that is not called that it had no attempt" do
      config = Functions.config(&hang/0, check_permission: {:role, ["admin"]})
      assert {:stop, %{attempts: 0, node: nil, code: "forbidden"}} = told(request([]), config)
    end
  end

  test "log of a function config is nil, a level or false" do
    config = Functions.config(fn -> 1 end)

    for log <- [nil, false, :debug, :error],
        do: assert({:ok, _} = FunConfig.validate_with_details(%{config | log: log}))

    for log <- [true, :none, "info", 1] do
      assert FunConfig.validate_with_details(%{config | log: log}) ==
               {:error, ["log must be nil, a Logger level, or false"]}
    end
  end
end
