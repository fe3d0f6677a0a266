defmodule PhoenixGenApi.ErrorCodesTest do
  # The code and the details of every failure that a client can get.
  # Changes the configuration of the node and its pools.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{
    ArgumentHandler,
    Config,
    ConfigDb,
    Executor,
    NodeSelector,
    RateLimiter,
    Relay
  }

  alias PhoenixGenApi.{Await, WorkerPool}
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response, StreamHelper}
  alias PhoenixGenApi.Test.{Functions, Options}

  @moduletag :capture_log

  setup do
    ConfigDb.clear()
    on_exit(&ConfigDb.clear/0)
  end

  defp request(fields \\ []), do: Functions.request(fields)

  # What a client gets of a function with these fields.
  defp answer(fun, fields, request_fields) do
    config = Functions.config(fun, [timeout: 30_000] ++ fields)
    Executor.execute_with_config!(request(request_fields), config)
  end

  # The code, and whether a function has begun to run or whatever else the details say.
  defp told(%Response{success: false} = response) do
    details =
      case response.details do
        [%{"executed" => executed}] -> executed
        details -> details
      end

    {response.code, details}
  end

  # A response that comes later.
  defp later do
    receive do
      {:async_call, response} -> response
      {:stream_response, %{success: false} = response} -> response
      {:stream_response, _frame} -> later()
    after
      30_000 -> flunk("no response")
    end
  end

  defp raised, do: raise("boom")

  # {what, code, details, fun, fields of the config, fields of the request}
  defp calls do
    hang = fn -> Process.sleep(:infinity) end
    nowhere = [nodes: [:nobody@nowhere]]

    [
      {"a raise", "internal", "yes", fn -> raised() end, [], []},
      {"a throw", "internal", "yes", fn -> throw(:ball) end, [], []},
      {"an exit", "internal", "yes", fn -> exit(:gone) end, [], []},
      {"a kill", "internal", "yes", fn -> Process.exit(self(), :kill) end, [], []},
      {"an error", "internal", "yes", fn -> {:error, :db_down} end, [], []},
      {"a bare error", "internal", "yes", fn -> :error end, [], []},
      {"an odd tuple", "internal", "yes", fn -> {:a, :b, :c} end, [], []},
      {"a timeout", "timeout", "unknown", hang, [timeout: 100], []},
      {"an own error without a code", "error", nil,
       fn -> Response.error_response(nil, "Out of stock") end, [], []},
      {"an own error with a code", "sold_out", [%{"left" => 0}],
       fn ->
         Response.error_response(nil, "Out", false, code: "sold_out", details: [%{"left" => 0}])
       end, [], []},
      {"an own error in an ok tuple", "sold_out", nil,
       fn -> {:ok, Response.error_response(nil, "Out", false, code: "sold_out")} end, [], []},
      {"no user", "unauthenticated", nil, hang, [check_permission: :any_authenticated], []},
      {"a denied user", "forbidden", nil, hang, [check_permission: {:role, ["admin"]}],
       [user_id: "ann"]},
      {"a callback that denies nobody", "unauthenticated", nil, hang,
       [permission_callback: {Functions, :permit, [fn _ -> false end]}], []},
      {"a callback that denies a user", "forbidden", nil, hang,
       [permission_callback: {Functions, :permit, [fn _ -> false end]}], [user_id: "ann"]},
      {"a hook that rejects", "rejected", nil, hang,
       [before_execute: {Functions, :before, [fn _, _ -> {:error, :closed} end]}], []},
      {"a hook that rejects with a response", "rejected", nil, hang,
       [
         before_execute:
           {Functions, :before, [fn _, _ -> {:error, %Response{error: "Closed"}} end]}
       ], []},
      {"a hook that rejects with a code", "closed", nil, hang,
       [
         before_execute:
           {Functions, :before,
            [
              fn _, _ ->
                {:error, Response.error_response(nil, "Closed", false, code: "closed")}
              end
            ]}
       ], []},
      {"a hook that makes a bad config", "internal", "no", hang,
       [
         before_execute:
           {Functions, :before,
            [fn request, config -> {:ok, request, %{config | timeout: 1}} end]}
       ], []},
      {"a hook that replaces the response", "error", nil, fn -> 1 end,
       [after_execute: {Functions, :finished, [fn _, _, _ -> %Response{error: "no"} end]}], []},
      {"bad arguments", "invalid_arguments", [%{"path" => "n", "rule" => "required"}], hang,
       [arg_types: %{"n" => :integer}], []},
      {"no node", "unavailable", "no", hang, nowhere, []},
      {"no routing key", "missing_routing_key", nil, hang,
       nowhere ++ [choose_node_mode: {:hash, "isbn"}], []},
      {"an unusable routing key", "missing_routing_key", nil, hang,
       nowhere ++ [choose_node_mode: {:hash, "isbn"}, arg_types: %{"isbn" => :list}],
       [args: %{"isbn" => []}]},
      {"an invalid config", "internal", "no", hang, [timeout: 1], []}
    ]
  end

  setup context do
    if context[:drained], do: drain(:nobody@nowhere)
    :ok
  end

  defp drain(node) do
    :ok = NodeSelector.drain(node)
    on_exit(fn -> NodeSelector.undrain(node) end)
  end

  @tag :drained
  test "every failure of a call has its code and its details, whatever the response type" do
    for {what, code, details, fun, fields, request} <- calls(),
        type <- [:sync, :async, :stream],
        # Streams call the after hook too late to change anything.
        type != :stream or not Keyword.has_key?(fields, :after_execute) do
      answer = answer(fun, [response_type: type] ++ fields, request)
      answer = if answer.success, do: later(), else: answer
      assert {what, type, told(answer)} == {what, type, {code, details}}
    end
  end

  test "a function that is unknown or disabled has a code for each" do
    assert told(Executor.execute!(request())) == {"unknown_function", nil}
    :ok = ConfigDb.add(Functions.config(fn -> 1 end))
    :ok = ConfigDb.disable("test", "run")
    assert told(Executor.execute!(request())) == {"disabled_function", nil}
  end

  test "a payload that is no request is invalid" do
    for params <- [%{}, [], nil, %{"request_id" => "r1"}] do
      assert told(Executor.execute_params(params)) == {"invalid_request", nil}
    end
  end

  test "a request over a limit says when to come back, and more where limits are exposed" do
    :ok = ConfigDb.add(Functions.config(fn -> 1 end))
    on_exit(fn -> RateLimiter.set_global_limits([]) end)
    limit = %{key: :user_id, max_requests: 0, window_ms: 60_000}
    :ok = RateLimiter.set_global_limits([limit])

    assert told(Executor.execute!(request(user_id: "ann"))) ==
             {"rate_limited", [%{"retry_after_ms" => 60_000}]}

    Options.set(:rate_limiter, expose_limits: true)
    exposed = %{"retry_after_ms" => 60_000, "limit" => 0, "remaining" => 0}
    assert told(Executor.execute!(request(user_id: "ann"))) == {"rate_limited", [exposed]}
  end

  test "a full pool is unavailable, and has not begun" do
    own_pool(pool_size: 1, max_queue_size: 0)
    parent = self()
    block = fn -> send(parent, {:blocked, self()}) && Process.sleep(:infinity) end
    :ok = WorkerPool.execute_async(:async_pool, block)
    assert_receive {:blocked, _pid}
    assert told(answer(fn -> 1 end, [response_type: :async], [])) == {"unavailable", "no"}
    assert {:ok, :none} != answer(fn -> 1 end, [response_type: :none], [])
  end

  test "a request that ran out of time in the queue of a pool has not begun" do
    own_pool(pool_size: 1)
    parent = self()
    block = fn -> send(parent, {:blocked, self()}) && Process.sleep(:infinity) end
    :ok = WorkerPool.execute_async(:async_pool, block)
    assert_receive {:blocked, _pid}
    fields = [response_type: :async, timeout: 100]
    assert %Response{success: true} = answer(fn -> flunk("not run") end, fields, [])
    assert told(later()) == {"timeout", "no"}
  end

  defp own_pool(options) do
    supervisor = WorkerPool.WorkerPoolSupervisor
    :ok = Supervisor.terminate_child(supervisor, :async_pool)
    start_supervised!({WorkerPool, [name: :async_pool] ++ options})
    on_exit(fn -> {:ok, _pid} = Supervisor.restart_child(supervisor, :async_pool) end)
  end

  test "a process that dies with an async request may have begun" do
    parent = self()

    hang = fn ->
      send(parent, {:running, hd(Process.get(:"$callers"))}) && Process.sleep(:infinity)
    end

    assert %Response{success: true} = answer(hang, [response_type: :async], [])
    assert_receive {:running, task}
    Process.exit(task, :kill)
    assert told(later()) == {"internal", "unknown"}
  end

  test "an open circuit is unavailable, and nothing was called" do
    Options.set(:circuit_breaker, [threshold: 1, failure_rate: 0.1], fn ->
      :ok = PhoenixGenApi.reload_config()
    end)

    :ok = ConfigDb.add(Functions.config(fn -> Process.sleep(:infinity) end, timeout: 100))
    assert told(Executor.execute!(request())) == {"timeout", "unknown"}

    assert Await.until(fn ->
             response = Executor.execute!(request())
             response.code == "unavailable" && told(response)
           end) == {"unavailable", "no"}
  end

  test "what one attempt has begun no later one takes back" do
    counter = :counters.new(1, [])

    fails_once_then_hangs = fn ->
      :counters.add(counter, 1, 1)
      if :counters.get(counter, 1) == 1, do: raised(), else: Process.sleep(:infinity)
    end

    fields = [timeout: 200, retry: 1, retry_on: [:exception]]
    assert told(answer(fails_once_then_hangs, fields, [])) == {"timeout", "yes"}
  end

  test "a stream that is ended with an error of its own has its code" do
    for {error, code, details} <- [
          {Response.error_response(nil, "Gone"), "error", nil},
          {Response.error_response(nil, "Gone", false, code: "gone"), "gone", nil},
          {Response.error_response(nil, "Gone", false, code: "timeout"), "error", nil},
          {:gone, "internal", "yes"}
        ] do
      send_error = fn out -> StreamHelper.send_error(out, error) end

      config =
        Functions.config(fn -> :ok end,
          response_type: :stream,
          request_info: true,
          mfa: {Functions, :run, [send_error]}
        )

      # `run/2` takes the fun and then the helper.
      assert %Response{success: true} = Executor.execute_with_config!(request(), config)
      assert told(later()) == {code, details}
    end
  end

  test "a function cannot use the codes of the gateway, nor malformed ones" do
    reserved = ~w(internal unavailable timeout rate_limited unauthenticated)
    malformed = ["", "UPPER", "a-b", "a b", "é", String.duplicate("a", 65), "a\n", :sold_out, 5]

    for code <- reserved ++ malformed do
      own = %Response{error: "no", code: code}
      assert told(answer(fn -> own end, [], [])) == {"error", nil}
    end

    for code <- ["sold_out", "e404", String.duplicate("a", 64), "forbidden", "cancelled"] do
      own = %Response{error: "no", code: code}
      assert told(answer(fn -> own end, [], [])) == {code, nil}
    end

    assert told(answer(fn -> %Response{error: "no", details: "no list"} end, [], [])) ==
             {"error", nil}
  end

  test "relay messages that are not sent have codes of their own" do
    id = "codes-#{System.unique_integer([:positive])}"
    :ok = Relay.create_group(id, :strict_private, "root", self())
    for user <- ["pat", "max"], do: Relay.join_group(id, user, self())
    :ok = Relay.accept_member(id, "root", "max")
    :ok = Relay.mute_member(id, "root", "max")

    relay = %FunConfig{
      service: "test",
      request_type: "run",
      nodes: :local,
      mfa: {Relay, :handle_relay, []},
      arg_types: [{"group_id", :string}, {"message", :any}]
    }

    for {group, user, code} <- [
          {"nowhere", "ann", "group_not_found"},
          {id, "ann", "not_a_member"},
          {id, "pat", "pending_member"},
          {id, "max", "muted"}
        ] do
      request = request(user_id: user, args: %{"group_id" => group, "message" => "hi"})
      assert told(Executor.execute_with_config!(request, relay)) == {code, nil}
    end
  end

  test "a relay message that is too large, or too soon, says how much or when" do
    id = "codes-#{System.unique_integer([:positive])}"
    :ok = Relay.create_group(id, :public, "root", self())

    say = fn message ->
      Relay.handle_relay(
        request(user_id: "root", args: %{"group_id" => id, "message" => message}),
        nil
      )
    end

    max = Config.get(:relay, :max_message_bytes)

    assert told(say.(String.duplicate("x", max))) ==
             {"invalid_arguments",
              [%{"path" => "message", "rule" => "max_bytes", "limit" => max}]}

    assert told(say.(Integer.pow(10, 2_000))) ==
             {"invalid_arguments",
              [%{"path" => "message", "rule" => "max_digits", "limit" => 1_024}]}

    Options.set(:relay, member_messages_per_second: 1)
    assert %Response{success: true} = say.("one")
    assert {"rate_limited", [%{"retry_after_ms" => ms}]} = told(say.("two"))
    assert ms in 1..1_000
  end

  describe "the details of invalid arguments" do
    defp details(types, args, orders \\ :map) do
      config = Functions.config(fn -> 1 end, arg_types: types, arg_orders: orders)
      response = Executor.execute_with_config!(request(args: args), config)
      assert response.code == "invalid_arguments"
      # The text names the first of them.
      assert {:error, _exception} =
               ArgumentHandler.convert_args(config, %Request{args: args, request_type: "run"})

      response.details
    end

    test "have a rule for each problem, and never what was sent" do
      for {type, value, expected} <- [
            {:string, 5, %{"rule" => "type", "expected" => "string"}},
            {:string, nil, %{"rule" => "required"}},
            {{:string, 3}, "hunter2", %{"rule" => "max_length", "limit" => 3}},
            {{:string, min_length: 9}, "hunter2", %{"rule" => "min_length", "limit" => 9}},
            {{:string, max_bytes: 3}, "hunter2", %{"rule" => "max_bytes", "limit" => 3}},
            {:string, "hunter2" <> <<255>>, %{"rule" => "encoding"}},
            {{:string, format: ~r/^\d+$/}, "hunter2", %{"rule" => "format"}},
            {:num, "hunter2", %{"rule" => "type", "expected" => "num"}},
            {:boolean, "hunter2", %{"rule" => "type", "expected" => "boolean"}},
            {{:integer, min: 5}, 2, %{"rule" => "min", "limit" => 5}},
            {{:float, max: 1.5}, 2, %{"rule" => "max", "limit" => 1.5}},
            {{:enum, ["a", :b]}, "hunter2", %{"rule" => "enum", "values" => ["a", :b]}},
            {:uuid, "hunter2", %{"rule" => "type", "expected" => "uuid"}},
            {:datetime, "hunter2", %{"rule" => "type", "expected" => "datetime"}},
            {:datetime, 5, %{"rule" => "type", "expected" => "datetime"}},
            {:naive_datetime, "x", %{"rule" => "type", "expected" => "naive_datetime"}},
            {:list, "hunter2", %{"rule" => "type", "expected" => "list"}},
            {{:list, 1}, [1, 2], %{"rule" => "max_items", "limit" => 1}},
            {{:list, min_items: 3}, [1], %{"rule" => "min_items", "limit" => 3}},
            {:list_num, ["hunter2"], %{"path" => "a[0]", "rule" => "type", "expected" => "num"}},
            {:list_string, [5], %{"path" => "a[0]", "rule" => "type", "expected" => "string"}},
            {:list_uuid, [5], %{"path" => "a[0]", "rule" => "type", "expected" => "uuid"}},
            {:list_map, [5], %{"path" => "a[0]", "rule" => "type", "expected" => "map"}},
            {:list, [%{}], %{"path" => "a[0]", "rule" => "type", "expected" => "scalar"}},
            {:list, [nil], %{"path" => "a[0]", "rule" => "type", "expected" => "scalar"}},
            {:list, [String.duplicate("x", 3_001)],
             %{"path" => "a[0]", "rule" => "max_length", "limit" => 3_000}},
            {{:map, 1}, %{"k" => %{}},
             %{"path" => "a.k", "rule" => "type", "expected" => "scalar"}},
            {{:map, 1}, %{"k" => nil},
             %{"path" => "a.k", "rule" => "type", "expected" => "scalar"}},
            {{:map, 1}, %{"k" => String.duplicate("x", 3_001)},
             %{"path" => "a.k", "rule" => "max_length", "limit" => 3_000}},
            {{:map, 1}, %{"k" => 1, "l" => 2}, %{"rule" => "max_items", "limit" => 1}},
            {{:map, required: ["k"]}, %{}, %{"path" => "a.k", "rule" => "required"}},
            {{:map, accept: ["k"]}, %{"hunter" => 1}, %{"path" => "a.hunter", "rule" => "extra"}},
            {:any, {:hunter2}, %{"rule" => "type", "expected" => "json"}}
          ] do
        assert details(%{"a" => type}, %{"a" => value}) == [Map.merge(%{"path" => "a"}, expected)]
        refute inspect(details(%{"a" => type}, %{"a" => value})) =~ "hunter2"
      end
    end

    test "are every problem in the order of the messages, each with its path" do
      line = %{"sku" => {:string, 3}, "qty" => {:integer, max: 9}}
      types = [{"note", :string}, {"lines", {:list, {:map, line}}}]

      args = %{
        "zip" => 1,
        "at" => 2,
        "lines" => [%{"sku" => "abc", "qty" => 9}, %{"sku" => "abcd", "qty" => 10, "x" => 1}, nil]
      }

      assert details(types, args, nil) == [
               %{"path" => "at", "rule" => "extra"},
               %{"path" => "zip", "rule" => "extra"},
               %{"path" => "note", "rule" => "required"},
               %{"path" => "lines[1].x", "rule" => "extra"},
               %{"path" => "lines[1].qty", "rule" => "max", "limit" => 9},
               %{"path" => "lines[1].sku", "rule" => "max_length", "limit" => 3},
               %{"path" => "lines[2]", "rule" => "required"}
             ]
    end

    test "are 20 at most" do
      assert length(details(%{"a" => :list_num}, %{"a" => List.duplicate("x", 1_000)})) == 20
      undeclared = Map.new(1..50, &{"extra#{&1}", &1})
      assert length(details(%{"a" => :integer}, undeclared)) == 20
    end

    test "name nothing but the limit of the whole where that is exceeded" do
      deep = Enum.reduce(1..40, 1, fn _level, inner -> [inner] end)

      assert details(%{"a" => :any, "b" => :integer}, %{"a" => deep}) ==
               [%{"path" => "", "rule" => "max_depth", "limit" => 32}]

      many = List.duplicate(0, 100_001)

      assert details(%{"a" => :any}, %{"a" => many}) ==
               [%{"path" => "", "rule" => "max_nodes", "limit" => 100_000}]
    end

    test "cut the names that a client has made up" do
      name = String.duplicate("é", 500)
      assert [%{"path" => path}] = details(%{"a" => {:list_num, 0}}, %{"a" => [], name => 1})
      assert byte_size(path) <= 100 and String.valid?(path)

      assert [%{"path" => path}] =
               details(%{"a" => :map}, %{"a" => %{name => %{name => {:not_json}}}})

      assert byte_size(path) <= 210 and String.valid?(path)
      assert [%{"path" => path}] = details(%{"a" => {:list_num, 0}}, %{"a" => [], <<255>> => 1})
      assert String.valid?(path)
    end

    test "say of arguments that are no map that they should be" do
      config = Functions.config(fn -> 1 end, arg_types: %{"a" => :integer})
      response = Executor.execute_with_config!(request(args: [1]), config)
      assert response.details == [%{"path" => "", "rule" => "type", "expected" => "map"}]
    end
  end
end
