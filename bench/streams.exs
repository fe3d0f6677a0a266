Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)

defmodule Bench.Streams do
  @moduledoc """
  Streams of 100,000 items, against bare send loops with back-pressure. A receiver of a stream
  says nothing to its producer, so the same back-pressure is: send, and from time to time look at
  the receiver's mailbox and wait while more than 1,000 messages are in it. The other loops have
  a receiver that acknowledges every 64 items, which keeps its mailbox short.
  """

  import Bench.Harness

  alias Bench.Gateway
  alias PhoenixGenApi.{ConfigDb, Executor}
  alias PhoenixGenApi.Structs.{Response, StreamHelper}

  @items 100_000
  @window 64
  @max_backlog 1_000
  @rounds 31

  def run do
    helper = registered("helper", {__MODULE__, :produce, []}, request_info: true)
    enumerable = registered("enumerable", {Range, :new, [1, @items]}, [])

    alternatives = [
      {"bare send loop", fn -> bare(&send_looking/2) end},
      {"bare, acknowledged", fn -> bare(&send_acknowledged/2) end},
      {"bare, acknowledged, through a process between", fn -> bare(&send_through/2) end},
      {"stream, `send_result/2`", fn -> stream(helper) end},
      {"stream, a range", fn -> stream(enumerable) end}
    ]

    sum = div(@items * (@items + 1), 2)
    for {label, fun} <- alternatives, do: fun.() == sum || raise("#{label}: not the same work")

    results = rounds(alternatives)
    times("#{@items} items, per stream", results)

    figures(
      for {baseline, target} <- [
            {"bare send loop", {:at_least, 0.6}},
            {"bare, acknowledged, through a process between", nil},
            {"bare, acknowledged", nil}
          ],
          label <- ["stream, a range", "stream, `send_result/2`"] do
        throughput = 1 / ratio(results, label, baseline)
        {"throughput of #{label}, against #{baseline}", {:times, throughput}, target}
      end
    )
  end

  # One stream is one operation, far too long for the harness to repeat within a round.
  defp rounds(alternatives) do
    alternatives
    |> in_rounds(@rounds, fn {_label, fun} -> timed(fun) end)
    |> results(Enum.map(alternatives, &elem(&1, 0)))
  end

  # The receiver is new each time, as that of a client would be.
  defp timed(fun) do
    Task.async(fn ->
      start = :erlang.monotonic_time(:nanosecond)
      fun.()
      :erlang.monotonic_time(:nanosecond) - start
    end)
    |> Task.await(:infinity)
  end

  def produce(%StreamHelper{} = out) do
    Enum.each(1..@items, &StreamHelper.send_result(out, &1))
    StreamHelper.send_complete(out)
  end

  defp stream(request) do
    %Response{has_more: true} = Executor.execute!(request)
    sum(0)
  end

  defp sum(total) do
    receive do
      {:stream_response, %Response{has_more: true, result: n}} -> sum(total + n)
      {:stream_response, %Response{has_more: false, success: true}} -> total
    end
  end

  defp bare(produce) do
    receiver = self()
    spawn_link(fn -> produce.(receiver, @items) end)
    sum_bare(0)
  end

  defp sum_bare(total) do
    receive do
      {:stream_response, %Response{has_more: true, result: n}} ->
        sum_bare(total + n)

      {:sync, pid, ref} ->
        send(pid, ref)
        sum_bare(total)

      {:stream_response, %Response{has_more: false}} ->
        total
    end
  end

  defp send_looking(receiver, count), do: send_looking(receiver, 1, count, 0)

  defp send_looking(receiver, n, count, _room) when n > count,
    do: send(receiver, {:stream_response, Response.stream_end_response("r")})

  defp send_looking(receiver, n, count, 0) do
    {:message_queue_len, waiting} = Process.info(receiver, :message_queue_len)

    if waiting > @max_backlog do
      receive do
      after
        1 -> send_looking(receiver, n, count, 0)
      end
    else
      send_looking(receiver, n, count, @window)
    end
  end

  defp send_looking(receiver, n, count, room) do
    send(receiver, {:stream_response, Response.stream_response("r", n)})
    send_looking(receiver, n + 1, count, room - 1)
  end

  defp send_acknowledged(receiver, count) do
    Enum.each(1..count, fn n ->
      send(receiver, {:stream_response, Response.stream_response("r", n)})
      if rem(n, @window) == 0, do: sync(receiver)
    end)

    send(receiver, {:stream_response, Response.stream_end_response("r")})
  end

  defp send_through(receiver, count) do
    between = spawn_link(fn -> pass(receiver) end)

    Enum.each(1..count, fn n ->
      send(between, {:result, n})
      if rem(n, @window) == 0, do: sync(between)
    end)

    send(between, :complete)
  end

  defp pass(receiver) do
    receive do
      {:result, n} ->
        send(receiver, {:stream_response, Response.stream_response("r", n)})
        pass(receiver)

      {:sync, pid, ref} ->
        send(receiver, {:sync, self(), ref})

        receive do
          ^ref -> send(pid, ref)
        end

        pass(receiver)

      :complete ->
        send(receiver, {:stream_response, Response.stream_end_response("r")})
    end
  end

  defp sync(pid) do
    ref = make_ref()
    send(pid, {:sync, self(), ref})

    receive do
      ^ref -> :ok
    end
  end

  defp registered(type, mfa, fields) do
    :ok =
      [
        request_type: type,
        mfa: mfa,
        nodes: :local,
        choose_node_mode: :random,
        response_type: :stream,
        timeout: :infinity,
        arg_types: nil,
        arg_orders: []
      ]
      |> Keyword.merge(fields)
      |> Gateway.config()
      |> ConfigDb.add()

    Gateway.request(request_type: type, args: %{})
  end
end

Bench.Streams.run()
