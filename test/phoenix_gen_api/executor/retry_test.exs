defmodule PhoenixGenApi.Executor.RetryTest do
  # Handlers see the retries of the whole node.
  use PhoenixGenApi.Test.OwnVM

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.{ConfigDb, Executor, Telemetry, WorkerPool}
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Test.{Events, Functions, Options}
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  @moduletag :capture_log

  setup do
    ConfigDb.clear()
    on_exit(&ConfigDb.clear/0)
    event = [:phoenix_gen_api, :executor, :retry]
    Events.forward([event, event ++ [:exhausted]], &{tl(&1), &2, &3})
  end

  # Each test has a function of its own, and with it a budget of its own.
  defp config(fun, fields) do
    type = "t#{System.unique_integer([:positive])}"
    Functions.config(fun, [request_type: type, timeout: 5_000] ++ fields)
  end

  defp run(fun, fields),
    do: Executor.execute_with_config!(Functions.request(), config(fun, fields))

  # A function that does these things in turn, the last one again and again, and counts.
  defp in_turn(steps) do
    counter = :counters.new(1, [])

    fun = fn ->
      :counters.add(counter, 1, 1)
      n = :counters.get(counter, 1)
      (Enum.at(steps, n - 1) || List.last(steps)).()
    end

    {fun, fn -> :counters.get(counter, 1) end}
  end

  defp failing, do: in_turn([fn -> {:error, :again} end])
  defp hang, do: fn -> Process.sleep(:infinity) end

  defp slow do
    fn ->
      receive do
      after
        100 -> :done
      end
    end
  end

  describe "the number of attempts" do
    test "is one without retry" do
      {fun, attempts} = failing()
      assert run(fun, retry: nil) == error("Internal Server Error")
      assert attempts.() == 1
      refute_received _
    end

    test "is one and as many more as retry says, in every spelling" do
      for {retry, most} <- [{1, 2}, {2.9, 3}, {{:same_node, 2}, 3}, {{:all_nodes, 1}, 2}] do
        {fun, attempts} = failing()
        assert run(fun, retry: retry) == error("Internal Server Error")
        assert attempts.() == most, inspect(retry)
      end
    end

    test "ends with the first success" do
      {fun, attempts} = in_turn([fn -> {:error, 1} end, fn -> raise "2" end, fn -> :done end])
      assert run(fun, retry: 5) == ok(:done)
      assert attempts.() == 3
    end
  end

  describe "retry_on" do
    test "is by default an error result and any exception" do
      for step <- [
            fn -> {:error, :r} end,
            fn -> :error end,
            fn -> raise "oops" end,
            fn -> exit(:oops) end,
            fn -> throw(:oops) end,
            fn -> Process.exit(self(), :kill) end
          ] do
        {fun, attempts} = in_turn([step, fn -> :done end])
        assert run(fun, retry: 1) == ok(:done)
        assert attempts.() == 2
      end
    end

    test "takes a missing function for an exception" do
      missing = %{config(fn -> 1 end, retry: 1) | mfa: {Functions, :no_such, []}}
      response = Executor.execute_with_config!(Functions.request(), missing)
      assert response == error("Internal Server Error")
      assert_received {[:executor, :retry], %{attempt: 1}, _}
    end

    test "takes a timeout only when it is listed, and each attempt has the whole timeout" do
      {fun, attempts} = in_turn([hang()])
      timed_out = error("Request timed out after 150ms", true)
      assert run(fun, retry: 1, timeout: 150) == timed_out
      assert attempts.() == 1
      refute_received _

      {fun, attempts} = in_turn([hang(), hang(), slow()])
      assert run(fun, retry: 2, timeout: 150, retry_on: [:timeout]) == ok(:done)
      assert attempts.() == 3
    end

    test "leaves alone what it does not list" do
      for {step, listed} <- [
            {fn -> {:error, :r} end, [:exception, :timeout, :node_down]},
            {fn -> raise "oops" end, [:error_result, :timeout, :node_down]},
            {hang(), [:error_result, :exception, :node_down]},
            {fn -> raise "oops" end, []}
          ] do
        {fun, attempts} = in_turn([step])
        assert %Response{success: false} = run(fun, retry: 2, retry_on: listed, timeout: 100)
        assert attempts.() == 1
        refute_received _
      end
    end
  end

  test "a response and a malformed return are final" do
    for {return, response} <- [
          {Response.error_response(nil, "Out of stock"), error("Out of stock")},
          {{:error, :a, :b}, error("Unexpected execution result")},
          {{:ok, Response.error_response(nil, "Out of stock")}, error("Out of stock")}
        ] do
      {fun, attempts} = in_turn([fn -> return end])
      assert run(fun, retry: 2) == response
      assert attempts.() == 1
      refute_received _
    end
  end

  test "the response is that of the last attempt" do
    {fun, _attempts} = in_turn([fn -> {:error, 1} end, fn -> raise "2" end, hang()])
    all = [:error_result, :exception, :timeout]

    assert run(fun, retry: 2, retry_on: all, timeout: 100) ==
             error("Request timed out after 100ms", true, executed: "yes")

    {fun, _attempts} = in_turn([fn -> raise "1" end, fn -> {:error, :a, :b} end])
    assert run(fun, retry: 2) == error("Unexpected execution result")
  end

  test "each retry and the end of them is told, with the waits that grow" do
    {fun, _attempts} =
      in_turn([fn -> raise "one" end, fn -> {:error, "two"} end, fn -> :error end])

    started = System.monotonic_time(:millisecond)
    run(fun, retry: {:same_node, 2})
    elapsed = System.monotonic_time(:millisecond) - started

    local = %{request_id: "r1", mode: :same_node, type: :local}
    assert_received {[:executor, :retry], %{attempt: 1, backoff_ms: first}, ^local}
    assert_received {[:executor, :retry], %{attempt: 2, backoff_ms: second}, ^local}
    assert first in 50..150 and second in 100..300
    assert elapsed >= first + second

    last = %{request_id: "r1", mode: :same_node, last_error: "error", reason: :attempts}
    assert_received {[:executor, :retry, :exhausted], measurements, ^last}
    assert measurements == %{}
    refute_received _
  end

  test "the last error is told as a text whatever it is" do
    for {step, text} <- [
          {fn -> {:error, "words"} end, "words"},
          {fn -> {:error, {:odd, 1}} end, "{:odd, 1}"},
          {fn -> {:error, <<255>>} end, "<<255>>"},
          {fn -> raise "oops" end, "oops"},
          {fn -> exit({:shutdown, 1}) end, "{:shutdown, 1}"},
          {hang(), "timeout"}
        ] do
      {fun, _attempts} = in_turn([step])
      run(fun, retry: 1, timeout: 100, retry_on: [:error_result, :exception, :timeout])
      assert_received {[:executor, :retry, :exhausted], _, %{last_error: ^text, mode: :all_nodes}}
    end
  end

  test "a failure that is not retried has no end of retries, and neither has a success" do
    {fun, _attempts} = in_turn([fn -> {:error, 1} end, fn -> {:error, 1, 2} end])
    run(fun, retry: 3)
    assert_received {[:executor, :retry], _, _}
    refute_received _
  end

  test "async requests and those of type :none are retried too" do
    {fun, attempts} = in_turn([fn -> {:error, 1} end, fn -> :done end])
    assert run(fun, retry: 1, response_type: :async) == Response.async_response("r1")
    done = ok(:done)
    assert_receive {:async_call, ^done}
    assert attempts.() == 2

    parent = self()
    {fun, attempts} = in_turn([fn -> {:error, 1} end, fn -> send(parent, :ran) end])
    assert run(fun, retry: 1, response_type: :none) == {:ok, :none}
    assert_receive :ran
    assert attempts.() == 2
  end

  test "time in the queue counts against the first attempt only" do
    :ok = Supervisor.terminate_child(WorkerPoolSupervisor, :async_pool)
    start_supervised!({WorkerPool, name: :async_pool, pool_size: 1})
    on_exit(fn -> Supervisor.restart_child(WorkerPoolSupervisor, :async_pool) end)
    parent = self()

    :ok =
      WorkerPool.execute_async(:async_pool, fn ->
        send(parent, {:busy, self()})
        receive do: (:go_on -> :ok)
      end)

    assert_receive {:busy, busy}
    {fun, attempts} = in_turn([slow()])
    fields = [retry: 1, retry_on: [:timeout], timeout: 200, response_type: :async]
    run(fun, fields)
    refute_receive {:async_call, _}, 250
    send(busy, :go_on)
    assert_receive {:async_call, response}, 2_000
    assert response == ok(:done)
    assert attempts.() == 1
    assert_received {[:executor, :retry], %{attempt: 1}, _}
  end

  test "the after hook and the request's events see one outcome" do
    {fun, _attempts} = in_turn([fn -> raise "one" end, fn -> :done end])
    parent = self()
    id = "retry_test_requests"

    Telemetry.attach_executor(id, fn event, _, meta, _ ->
      send(parent, {:executor, List.last(event), meta})
    end)

    on_exit(fn -> Telemetry.detach_all(id) end)
    hook = {Functions, :finished, [fn _, _, response -> send(parent, {:after, response}) end]}
    assert run(fun, retry: 1, after_execute: hook) == ok(:done)
    done = ok(:done)
    assert_received {:after, ^done}
    refute_received {:after, _}
    assert_received {:executor, :stop, %{success: true}}
    refute_received {:executor, :exception, _}
  end

  test "a caller that dies while it waits for a retry leaves nothing behind" do
    parent = self()

    fun = fn ->
      send(parent, {:attempt, self()})
      {:error, :again}
    end

    config = config(fun, retry: 10)
    caller = spawn(fn -> Executor.execute_with_config!(Functions.request(), config) end)
    assert_receive {:attempt, _}
    monitor = Process.monitor(caller)
    Process.exit(caller, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^caller, :killed}
    refute_receive {:attempt, _}, 400
  end

  describe "the budget" do
    # Many at once, so that the waits overlap.
    defp storm(fields, requests) do
      {fun, attempts} = failing()
      config = config(fun, fields)
      :ok = ConfigDb.add(config)
      request = Functions.request(request_type: config.request_type)

      1..requests
      |> Task.async_stream(fn _ -> Executor.execute!(request) end, max_concurrency: requests)
      |> Enum.each(fn {:ok, response} -> assert response == error("Internal Server Error") end)

      attempts.()
    end

    defp exhausted(reason, found \\ 0) do
      receive do
        {[:executor, :retry, :exhausted], %{}, %{reason: ^reason}} -> exhausted(reason, found + 1)
      after
        0 -> found
      end
    end

    test "lets a failing function see a fifth more" do
      assert storm([retry: 3], 500) == 600
      # Each ended with what its own last attempt said.
      assert exhausted(:budget) == 500
    end

    test "lets ten retries through however few requests there are" do
      assert storm([retry: 3], 20) == 30
    end

    test "is each function's own" do
      for _ <- 1..3, do: assert(storm([retry: 1], 10) == 20)
    end

    test "follows the options" do
      Options.set(:retry, budget: 1, min_per_window: 0)
      assert storm([retry: 3], 50) == 100
      Options.set(:retry, budget: 0, min_per_window: 0)
      assert storm([retry: 3], 50) == 50
      assert exhausted(:budget) >= 50
      Options.set(:retry, budget: :infinity)
      assert storm([retry: 2], 50) == 150
    end

    test "goes on when the function is stored again" do
      Options.set(:retry, budget: 0, min_per_window: 1)
      {fun, attempts} = failing()
      config = config(fun, retry: 1)
      request = Functions.request(request_type: config.request_type)

      for calls <- [2, 3, 4] do
        :ok = ConfigDb.add(config)
        Executor.execute!(request)
        assert attempts.() == calls
      end
    end
  end
end
