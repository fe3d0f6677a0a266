defmodule PhoenixGenApi.StreamInvariantsTest do
  # A thousand streams that end in every way there is, many at a time.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, Executor, StreamCall, WorkerPool}
  alias PhoenixGenApi.StreamCall.Registry
  alias PhoenixGenApi.Structs.{Response, StreamHelper}
  alias PhoenixGenApi.Test.{Functions, Leaks}

  @moduletag :capture_log
  @streams 1_000
  @at_a_time 50

  @producers [:helper, :senders, :flood, :list, :lazy, :hangs, :raises, :value]
  @ends [
    :own,
    :own,
    :last,
    :complete,
    :error,
    :stop,
    :stop_id,
    :receiver,
    :stream,
    :function,
    :timeout,
    :twice
  ]

  test "every stream gets exactly one final frame, and nothing is left of any" do
    seed = System.os_time() |> rem(1_000_000)
    :rand.seed(:exsss, seed)
    plans = for n <- 1..@streams, do: plan(n)
    # Whatever the first stream loads or starts.
    run(plan(0))
    Await.until(&idle?/0)
    watch = Leaks.watch()

    receivers =
      plans
      |> Task.async_stream(&{&1, run(&1)}, max_concurrency: @at_a_time, timeout: 60_000)
      |> Enum.map(fn {:ok, receiver} -> receiver end)

    # Nobody is left who could send another frame.
    Await.until(&idle?/0)

    # Of a receiver that was killed nobody knows what it got.
    for {plan, receiver} <- receivers, plan.end != :receiver do
      seen = report(receiver)
      assert seen.finals == 1, "seed #{seed}: #{inspect(plan)}: #{inspect(seen)}"
      assert seen.after == 0, "seed #{seed}: #{inspect(plan)}: #{inspect(seen)}"
      assert seen.order?, "seed #{seed}: #{inspect(plan)}: #{inspect(seen)}"
    end

    Leaks.assert_none(watch)
  end

  defp idle? do
    Registry.count() == 0 and WorkerPool.status(:stream_pool).busy_workers == 0 and
      :sys.get_state(Registry) == %{}
  end

  defp plan(n) do
    %{
      id: "s#{n}",
      producer: Enum.random(@producers),
      end: Enum.random(@ends),
      items: Enum.random([0, 1, 63, 64, 65, 300, 1_500]),
      # ms until the end is brought about
      after: Enum.random([0, 0, 1, 5]),
      slow?: Enum.random([true, false, false]),
      alone?: Enum.random([true, false, false])
    }
  end

  defp run(plan) do
    test = self()
    receiver = spawn(fn -> receiver(plan, test) end)
    {stream, function, out} = begun(plan, receiver)
    pause(plan.after)
    bring_about(plan.end, stream, function, out, receiver)
    await_end(plan, stream)
    receiver
  end

  defp begun(plan, receiver) do
    receive do
      {:begun, ^receiver, stream} -> {stream, function(), out(stream, plan.id)}
    after
      10_000 -> raise "not begun: #{inspect(plan)}"
    end
  end

  # Hand-made: only those that send by themselves have a real one.
  defp out(stream, id), do: %StreamHelper{stream_pid: stream, request_id: id}

  defp function do
    receive do
      {:function, pid} -> pid
    after
      1_000 -> nil
    end
  end

  defp bring_about(:own, stream, _function, _out, _receiver), do: pause_then_stop(stream)
  defp bring_about(:last, _, _, out, _), do: StreamHelper.send_last_result(out, :last)
  defp bring_about(:complete, _, _, out, _), do: StreamHelper.send_complete(out)
  defp bring_about(:error, _, _, out, _), do: StreamHelper.send_error(out, "no")
  defp bring_about(:stop, stream, _, _, _), do: StreamCall.stop(stream)
  defp bring_about(:stop_id, _, _, _, receiver), do: send(receiver, :stop_id)
  defp bring_about(:receiver, _, _, _, receiver), do: Process.exit(receiver, :kill)
  defp bring_about(:stream, stream, _, _, _), do: Process.exit(stream, :kill)
  defp bring_about(:function, stream, nil, _, _), do: StreamCall.stop(stream)
  defp bring_about(:timeout, _, _, _, _), do: :ok

  # Killed after it has returned it ends nothing.
  defp bring_about(:function, stream, function, _, _) do
    Process.exit(function, :kill)
    pause_then_stop(stream)
  end

  defp bring_about(:twice, stream, _, out, _) do
    StreamCall.stop(stream)
    StreamHelper.send_last_result(out, :last)
    StreamHelper.send_error(out, "no")
    StreamHelper.send_complete(out)
    StreamCall.stop(stream)
    StreamHelper.send_result(out, :late)
  end

  # Streams that do not end by themselves end here.
  defp pause_then_stop(stream) do
    pause(20)
    StreamCall.stop(stream)
  end

  defp pause(0), do: :ok

  defp pause(ms) do
    receive do
    after
      ms -> :ok
    end
  end

  defp await_end(plan, stream) do
    ended = Process.monitor(stream)

    receive do
      {:DOWN, ^ended, :process, ^stream, _reason} -> :ok
    after
      20_000 -> raise "still there: #{inspect(plan)}"
    end
  end

  # What the receiver got; it ends.
  defp report(receiver) do
    send(receiver, {:report, self()})

    receive do
      {:report, ^receiver, seen} -> seen
    after
      20_000 -> raise "no report"
    end
  end

  defp receiver(plan, test) do
    config = config(plan, test)
    request = Functions.request(request_id: plan.id)

    if plan.alone? do
      # A stream that is killed must not take its receiver with it.
      Process.flag(:trap_exit, true)
      {:ok, _pid} = StreamCall.start_link(%{request: request, fun_config: config})
    else
      %Response{success: true} = Executor.execute_with_config!(request, config)
    end

    receive do
      {:stream_started, _id, stream} -> send(test, {:begun, self(), stream})
    end

    if plan.slow?, do: pause(20)
    receiving(plan, %{finals: 0, after: 0, order?: true, last: 0})
  end

  defp receiving(plan, seen) do
    receive do
      {:stream_response, response} ->
        receiving(plan, frame(seen, response))

      :stop_id ->
        # It may have ended by itself.
        PhoenixGenApi.stop_stream(plan.id)
        receiving(plan, seen)

      {:report, test} ->
        send(test, {:report, self(), seen})

      _other ->
        receiving(plan, seen)
    end
  end

  defp frame(seen, %Response{has_more: true, result: n}) do
    # Several senders each keep their own order.
    ordered? = not is_integer(n) or n == seen.last + 1
    last = if is_integer(n), do: n, else: seen.last
    after_final = if seen.finals > 0, do: 1, else: 0
    %{seen | order?: seen.order? and ordered?, last: last, after: seen.after + after_final}
  end

  defp frame(seen, %Response{has_more: false}), do: %{seen | finals: seen.finals + 1}

  defp config(plan, test) do
    fields = [
      response_type: :stream,
      timeout: if(plan.end == :timeout, do: 100, else: 10_000),
      request_info: plan.producer in [:helper, :senders, :flood]
    ]

    Functions.config(function(plan.producer, plan.items, test), fields)
  end

  defp function(:helper, items, test) do
    fn out ->
      send(test, {:function, self()})
      for n <- 1..items//1, do: StreamHelper.send_result(out, n)
      receive(do: (:never -> :ok))
    end
  end

  defp function(:senders, items, test) do
    fn out ->
      send(test, {:function, self()})

      for name <- [:a, :b, :c],
          do: spawn(fn -> for n <- 1..items//1, do: StreamHelper.send_result(out, {name, n}) end)

      :ok
    end
  end

  defp function(:flood, items, test) do
    fn out ->
      send(test, {:function, self()})
      for n <- 1..(items * 5)//1, do: send(out.stream_pid, {:result, n})
      receive(do: (:never -> :ok))
    end
  end

  defp function(:list, items, test) do
    fn ->
      send(test, {:function, self()})
      Enum.to_list(1..items//1)
    end
  end

  defp function(:lazy, _items, test) do
    fn ->
      send(test, {:function, self()})
      Stream.iterate(1, &(&1 + 1))
    end
  end

  defp function(:hangs, items, test) do
    fn ->
      send(test, {:function, self()})
      Stream.concat(1..items//1, Stream.repeatedly(fn -> receive(do: (:never -> :ok)) end))
    end
  end

  defp function(:raises, items, test) do
    fn ->
      send(test, {:function, self()})
      Stream.concat(1..items//1, Stream.repeatedly(fn -> raise "hunter2" end))
    end
  end

  defp function(:value, _items, test) do
    fn ->
      send(test, {:function, self()})
      "value"
    end
  end
end
