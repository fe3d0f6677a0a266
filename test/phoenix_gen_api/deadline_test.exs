defmodule PhoenixGenApi.DeadlineTest do
  # Which deadline counts, and from when. That one ends whatever a request is doing is shown by
  # test/cluster/deadline_cluster_test.exs.
  use ExUnit.Case, async: true

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.{ConfigDb, Executor, Plan, Relay, StreamCall}
  alias PhoenixGenApi.Executor.Preview
  alias PhoenixGenApi.Structs.{Request, Response}
  alias PhoenixGenApi.Test.{Events, Functions}

  @moduletag :capture_log

  # Each with a type of its own: too many timeouts of one function open its circuit.
  defp config(fun \\ &Functions.hang/0, fields) do
    type = "t#{System.unique_integer([:positive])}"
    Functions.config(fun, [request_type: type, timeout: :infinity] ++ fields)
  end

  defp run(config, fields \\ []),
    do: Executor.execute_with_config!(Functions.request(fields), config)

  defp late(ms, executed),
    do: error("Request timed out after #{ms}ms", true, executed: executed)

  # On a busy machine the time may be over before the function is called.
  defp assert_late(response, ms), do: assert(response in [late(ms, "no"), late(ms, "unknown")])

  # What a function is given.
  defp seen(config_fields, request) do
    config = config(fn request -> request end, [request_info: true] ++ config_fields)
    Executor.execute_with_config!(request, config).result
  end

  test "the smaller one of the client's and the function's counts" do
    assert_late(run(config(deadline: 100)), 100)
    assert_late(run(config([]), deadline_ms: 30), 30)
    assert_late(run(config(deadline: 60_000), deadline_ms: 30), 30)
    assert_late(run(config(deadline: 100), deadline_ms: 60_000), 100)
  end

  test "the timeout of the function counts if it is over first" do
    assert_late(run(config(timeout: 100, deadline: 60_000)), 100)
    assert_late(run(config(timeout: 100), deadline_ms: 60_000), 100)
    again = config(timeout: 100, deadline: 300, retry: 100, retry_on: [:timeout])
    assert_late(run(again), 300)
  end

  test "sync_call, execute_params and streams of no request keep to it" do
    service = "deadline-#{System.unique_integer([:positive])}"
    :ok = ConfigDb.add(config(service: service, request_type: "hang"))
    request = Functions.request(deadline_ms: 30)
    assert_late(Executor.sync_call(request, config([])), 30)
    params = %{"service" => service, "request_type" => "hang", "request_id" => "r1"}
    assert_late(Executor.execute_params(Map.put(params, "deadline_ms", 30)), 30)
    assert_late(Executor.execute_params!(Map.put(params, :deadline_ms, 30)), 30)

    for bad <- [0, -1, 1.5, "30", [30], true] do
      assert Executor.execute_params(Map.put(params, "deadline_ms", bad)) ==
               error("Invalid request: Invalid fields: deadline_ms must be a positive integer")
    end

    config = config(response_type: :stream)
    assert {:ok, _pid} = StreamCall.start_link(%{request: request, fun_config: config})
    assert_receive {:stream_response, response}
    assert_late(response, 30)
  end

  test "execute_with_timeout! keeps to the smaller one" do
    service = "deadline-#{System.unique_integer([:positive])}"
    :ok = ConfigDb.add(config(service: service, request_type: "hang"))
    request = Functions.request(service: service, request_type: "hang")
    assert_late(Executor.execute_with_timeout!(%{request | deadline_ms: 30}, 60_000), 30)
    assert_late(Executor.execute_with_timeout!(%{request | deadline_ms: 60_000}, 30), 30)
  end

  test "a request that code has made may have no time at all, and an hour at most" do
    assert run(config([]), deadline_ms: 0) == late(0, "no")
    assert run(config([]), deadline_ms: -5) == late(0, "no")

    assert seen([], Functions.request(deadline_ms: 10 ** 30)) |> Request.remaining_ms() <=
             3_600_000

    for none <- [:infinity, nil, "5", 1.5, {1}],
        do: assert(seen([], Functions.request(deadline_ms: none)).expires_at == nil)
  end

  test "no hook hears of a request that is late when it arrives" do
    starts = for type <- [:before, :after], do: [:phoenix_gen_api, :hook, type, :start]
    # Told in the process of the request.
    Events.forward(starts, fn _event, _measurements, hook -> {:hook, self(), hook.type} end)
    hook = {Functions, :before, [fn request, config -> {:ok, request, config} end]}
    seen = {Functions, :finished, [fn _request, _config, response -> response end]}
    config = config(before_execute: hook, after_execute: seen)
    test = self()
    assert run(config, deadline_ms: 0) == late(0, "no")
    refute_received {:hook, ^test, _type}
    assert_late(run(config, deadline_ms: 100), 100)
    assert_received {:hook, ^test, :before}
  end

  test "a function without any deadline gets the request as it is" do
    request = Functions.request()
    assert seen([], request) == request
    assert Request.remaining_ms(seen([], request)) == :infinity
    # One that has been executed before.
    assert seen([], %{request | expires_at: {node(), 0}}) == request
  end

  test "what is left is less than there was, and never negative" do
    left = Request.remaining_ms(seen([deadline: 50_000], Functions.request(deadline_ms: 60_000)))
    assert left in 0..50_000
    now = System.monotonic_time(:millisecond)
    assert Request.remaining_ms(%Request{expires_at: {node(), now - 10_000}}) == 0
    # Nobody here knows the time of that node.
    assert Request.remaining_ms(%Request{expires_at: {:another@host, now}}) == :infinity
  end

  test "a before hook may change the deadlines, which count from the arrival of the request" do
    hook = fn change ->
      {Functions, :before, [fn request, config -> change.(request, config) end]}
    end

    shorter = hook.(fn request, config -> {:ok, %{request | deadline_ms: 30}, config} end)
    assert_late(run(config(before_execute: shorter)), 30)
    longer = hook.(fn request, config -> {:ok, request, %{config | deadline: 200}} end)
    assert_late(run(config(before_execute: longer, deadline: 60_000)), 200)
    new = hook.(fn _request, config -> {:ok, Functions.request(), %{config | deadline: 100}} end)
    assert_late(run(config(before_execute: new), deadline_ms: 60_000), 100)

    none = hook.(fn _request, config -> {:ok, Functions.request(), %{config | deadline: nil}} end)
    done = [mfa: {Functions, :remaining, []}, request_info: true, before_execute: none]
    assert run(config([deadline: 60_000] ++ done)).result == [node(), :infinity, :infinity]
  end

  test "a hook and a permission that decide in time are what they are" do
    rejecting = {Functions, :before, [fn _request, _config -> {:error, :closed} end]}

    assert run(config(before_execute: rejecting, deadline: 60_000)) ==
             error("hook rejected", false, code: "rejected")

    denied = config(check_permission: {:role, ["admin"]}, deadline: 60_000)
    assert run(denied) == error("Permission denied")
    raising = config(fn -> raise "no" end, deadline: 60_000)
    assert run(raising) == error("Internal Server Error")
  end

  test "an after hook in time may replace the response" do
    replace = fn _request, _config, %{result: n} -> Response.sync_response("r1", n + 1) end
    after_hook = {Functions, :finished, [replace]}
    config = config(fn -> 1 end, deadline: 60_000, after_execute: after_hook)
    assert run(config) == ok(2)
  end

  test "an async request gets its late answer once, and nothing else" do
    test = self()
    config = config(fn -> Functions.wait_for(test) end, response_type: :async)
    assert run(config, deadline_ms: 200) == Response.async_response("r1")
    assert_receive {:running, function, _node}
    monitor = Process.monitor(function)
    assert_receive {:async_call, response}
    assert_late(response, 200)
    assert_receive {:DOWN, ^monitor, :process, _pid, :killed}
    refute_received _
  end

  test "a message to a group is sent in time or not at all" do
    config =
      config(fn -> nil end,
        mfa: {Relay, :handle_relay, []},
        arg_types: [{"group_id", :string}, {"message", :any}]
      )

    args = %{"group_id" => "none-#{System.unique_integer([:positive])}", "message" => 1}
    assert run(config, args: args, deadline_ms: 60_000).error == "Group not found"
    assert run(config, args: args, deadline_ms: 0) == late(0, "no")
  end

  test "the explanation of a call names the deadline" do
    {:ok, plan, _config} = Plan.compile(config(deadline: 2_000))
    assert Preview.explain(plan, nil)[:call].desc =~ "; the whole request at most 2 s"
    {:ok, plan, _config} = Plan.compile(config([]))
    refute Preview.explain(plan, nil)[:call].desc =~ "whole request"
  end

  test "a request that a function makes inherits nothing when its own has none" do
    inner = config(fn request -> Request.remaining_ms(request) end, request_info: true)
    outer = config(fn -> Executor.execute_with_config!(Functions.request(), inner) end, [])
    assert run(outer) == ok(:infinity)
    assert run(outer, deadline_ms: 60_000).result in 0..60_000
    # Nor does one that is made later, by the process that has made that.
    assert Executor.execute_with_config!(Functions.request(), inner) == ok(:infinity)
  end

  test "execute_with_timeout! passes on what a function has left" do
    service = "deadline-#{System.unique_integer([:positive])}"
    inner = config(fn request -> Request.remaining_ms(request) end, request_info: true)
    :ok = ConfigDb.add(%{inner | service: service, request_type: "run"})
    request = Functions.request(service: service)
    outer = config(fn -> Executor.execute_with_timeout!(request, 600_000) end, [])
    assert run(outer).result == :infinity
    assert run(outer, deadline_ms: 60_000).result in 0..60_000
  end
end
