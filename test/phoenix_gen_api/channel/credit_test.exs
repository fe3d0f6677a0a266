defmodule PhoenixGenApi.Channel.CreditTest do
  # Streams whose client says how many frames it takes.
  use PhoenixGenApi.ChannelCase, async: true

  alias PhoenixGenApi.Await
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.StreamCall
  alias PhoenixGenApi.Structs.StreamHelper

  defmodule Api do
    use PhoenixGenApi, event: "api", concurrency: 4
  end

  defmodule Started do
    use PhoenixGenApi, event: "api", concurrency: 4

    def handle_info({:stream_started, id, pid}, socket) do
      send(socket.assigns.test, {:started, id, pid})
      {:noreply, socket}
    end
  end

  setup %{service: service} do
    register(service, "feed", response_type: :stream, request_info: true, timeout: :infinity)
    register(service, "count", response_type: :stream, request_info: true, timeout: :infinity)
  end

  defp start(channel, service, id, credit) do
    push_in(channel, payload(service, "feed", id, %{"credit" => credit}))
    assert_receive {:feeding, ^id, function, out}
    {function, out}
  end

  defp grant(channel, id, credit) do
    ref = push_in(channel, %{"request_id" => id, "credit" => credit})
    assert_receive {:reply, ^ref, :ok, %{request_id: ^id} = reply}
    assert map_size(reply) == 1
  end

  defp assert_items(numbers) do
    for n <- numbers do
      assert_receive {:push, "api", %Response{result: result, has_more: true}}
      assert result == n
    end
  end

  # The stream has handled what it was sent before, and its frames have passed the channel.
  defp refute_more(channel, stream) do
    in_channel(channel, fn -> RPC.Credit.wait(stream) end)
    idle = [message_queue_len: 0, status: :waiting]

    for pid <- request_processes(channel),
        do: Await.until(fn -> Process.info(pid, [:message_queue_len, :status]) in [nil, idle] end)

    in_channel(channel)
    refute_received {:push, "api", _}
  end

  test "send no more frames than granted, and the others as credit comes", %{service: service} do
    channel = join(Api)
    {_function, out} = start(channel, service, "t", 3)
    for n <- 1..10, do: send(out.stream_pid, {:result, n})
    assert_items(1..3)
    refute_more(channel, out.stream_pid)

    grant(channel, "t", 2)
    assert_items(4..5)
    refute_more(channel, out.stream_pid)

    grant(channel, "t", 1)
    grant(channel, "t", 1)
    assert_items(6..7)
    refute_more(channel, out.stream_pid)

    grant(channel, "t", 100)
    assert_items(8..10)
    StreamHelper.send_complete(out)
    assert_receive {:push, "api", %Response{success: true, result: nil, has_more: false}}
  end

  test "end without credit: the last frame of a stream carries no item", %{service: service} do
    channel = join(Api)
    {_function, out} = start(channel, service, "t", 2)
    for n <- 1..2, do: StreamHelper.send_result(out, n)
    StreamHelper.send_complete(out)
    assert_items(1..2)
    assert_receive {:push, "api", %Response{success: true, result: nil, has_more: false}}

    {_function, out} = start(channel, service, "u", 1)
    StreamHelper.send_result(out, 1)
    StreamHelper.send_error(out, "why")
    assert_items([1])
    assert_receive {:push, "api", %Response{success: false, code: "internal"}}
  end

  test "a last item takes a credit as well", %{service: service} do
    channel = join(Api)
    {_function, out} = start(channel, service, "t", 1)
    StreamHelper.send_result(out, 1)
    StreamHelper.send_last_result(out, 2)
    assert_items([1])
    refute_more(channel, out.stream_pid)
    grant(channel, "t", 1)
    assert_receive {:push, "api", %Response{result: 2, has_more: false}}
  end

  test "of an enumerable keep it at most 64 items ahead of what was granted", %{service: service} do
    register(service, "made", response_type: :stream)
    channel = join(Api)
    push_in(channel, payload(service, "made", "t", %{"credit" => 10}))
    assert_receive {:making, counter}
    assert_items(1..10)
    # It asks for more, and waits, once it is 64 ahead of the stream.
    Await.until(fn -> :counters.get(counter, 1) >= 64 end)
    in_channel(channel)
    refute_received {:push, "api", _}
    assert :counters.get(counter, 1) <= 10 + 64

    grant(channel, "t", 200)
    assert_items(11..210)
    in_channel(channel)
    refute_received {:push, "api", _}
    assert :counters.get(counter, 1) <= 210 + 64
  end

  test "have at most 10,000 credits outstanding", %{service: service} do
    channel = join(Api)
    push_in(channel, payload(service, "count", "t", %{"credit" => 1}))
    assert_receive {:counting, _count, function}
    assert_receive {:reply, _, :ok, %Response{result: :init}}
    for _ <- 1..3, do: grant(channel, "t", 9_000)
    send(function, :go)
    assert_items(1..10_000)
    assert_receive {:push, "api", %Response{has_more: false}}

    push_in(channel, payload(service, "feed", "u", %{"credit" => 1}))
    assert_receive {:feeding, "u", _function, out}
    assert_receive {:reply, _, :ok, %Response{request_id: "u"}}
    grant(channel, "u", 4_000_000)
    for n <- 1..10_001, do: send(out.stream_pid, {:result, n})
    assert_items(1..10_000)
    refute_more(channel, out.stream_pid)
  end

  test "are cancelled while they wait for credit", %{service: service} do
    channel = join(Api)
    {function, out} = start(channel, service, "t", 1)
    monitor = Process.monitor(function)
    for n <- 1..5, do: send(out.stream_pid, {:result, n})
    assert_items([1])
    ref = push_in(channel, %{"request_id" => "t", "cancel" => true})
    assert_receive {:reply, ^ref, :ok, %{cancelled: true}}
    assert_receive {:push, "api", %Response{success: true, result: nil, has_more: false}}
    assert_receive {:DOWN, ^monitor, :process, _, _}
  end

  test "a grant for an unknown id is ignored", %{service: service} do
    channel = join(Api)
    grant(channel, "nobody", 5)
    {_function, out} = start(channel, service, "t", 1)
    grant(channel, "nobody", 5)
    for n <- 1..2, do: send(out.stream_pid, {:result, n})
    assert_items([1])
    refute_more(channel, out.stream_pid)
  end

  test "a request with another credit than 1 to 1,000 is none", %{service: service} do
    channel = join(Api)

    for credit <- [0, -1, 1_001, "5", 1.5, [], true] do
      ref = push_in(channel, payload(service, "feed", "t", %{"credit" => credit}))
      assert_receive {:reply, ^ref, :error, %Response{code: "invalid_request", error: error}}
      assert is_binary(error)
    end
  end

  test "what grants no positive number is no request", %{service: service} do
    channel = join(Api)
    {_function, out} = start(channel, service, "t", 1)

    for credit <- [0, -1, "5", 1.5, nil] do
      ref = push_in(channel, %{"request_id" => "t", "credit" => credit})
      assert_receive {:reply, ^ref, :error, %Response{code: "invalid_request", request_id: "t"}}
    end

    for n <- 1..2, do: send(out.stream_pid, {:result, n})
    assert_items([1])
    refute_more(channel, out.stream_pid)
  end

  test "at most 100 grants of a second act at once, with cancels; others wait their turn",
       %{service: service} do
    register(service, "gate", arg_types: %{"name" => :string}, function: :gate)
    channel = join(Api)
    {_function, out} = start(channel, service, "t", 1)

    for n <- 1..4 do
      push_in(channel, payload(service, "gate", "g#{n}", %{"args" => %{"name" => "g#{n}"}}))
      assert_receive {:running, _, _}
    end

    refs = for _ <- 1..150, do: push_in(channel, %{"request_id" => "t", "credit" => 1})
    for ref <- Enum.take(refs, 100), do: assert_receive({:reply, ^ref, :ok, _})
    in_channel(channel)
    {_executing, _running, waiting} = counts(channel)
    # The second may have passed in between.
    assert waiting > 0 or replied?(List.last(refs))
    assert Process.alive?(out.stream_pid)
  end

  defp replied?(ref) do
    receive do
      {:reply, ^ref, :ok, _} -> true
    after
      0 -> false
    end
  end

  test "grants of code reach a stream by its process", %{service: service} do
    channel = join(Started, %{test: self()})
    {_function, out} = start(channel, service, "t", 1)
    assert_receive {:started, "t", pid}
    for n <- 1..3, do: send(out.stream_pid, {:result, n})
    assert_items([1])
    assert StreamCall.grant(pid, 2) == :ok
    assert_items(2..3)
  end
end

defmodule PhoenixGenApi.Channel.CreditTimeoutTest do
  use PhoenixGenApi.ChannelCase, async: false

  alias PhoenixGenApi.Structs.StreamHelper
  alias PhoenixGenApi.Test.Options

  defmodule Api do
    use PhoenixGenApi, event: "api"
  end

  setup %{service: service} do
    Options.set(:stream, credit_timeout_ms: 50)
    register(service, "feed", response_type: :stream, request_info: true, timeout: :infinity)
  end

  defp feed(service, id, fields) do
    channel = join(Api)
    push_in(channel, payload(service, "feed", id, fields))
    assert_receive {:feeding, ^id, function, out}
    assert_receive {:reply, _, :ok, %Response{request_id: ^id}}
    {channel, Process.monitor(function), out}
  end

  test "a stream without credit for that long ends with timeout", %{service: service} do
    {_channel, monitor, out} = feed(service, "t", %{"credit" => 1})
    StreamHelper.send_result(out, 1)
    assert_receive {:push, "api", %Response{result: 1}}
    assert_receive {:push, "api", %Response{success: false} = response}
    assert {response.code, response.has_more, response.can_retry} == {"timeout", false, false}
    assert response.error == "Request timed out after 50ms"
    assert_receive {:DOWN, ^monitor, :process, _, _}
  end

  test "also while an item waits for credit", %{service: service} do
    {_channel, monitor, out} = feed(service, "t", %{"credit" => 1})
    for n <- 1..3, do: send(out.stream_pid, {:result, n})
    assert_receive {:push, "api", %Response{result: 1}}
    assert_receive {:push, "api", %Response{success: false, code: "timeout"}}
    assert_receive {:DOWN, ^monitor, :process, _, _}
  end

  test "one with credit does not, nor one without limits", %{service: service} do
    {channel, _monitor, out} = feed(service, "t", %{"credit" => 2})
    StreamHelper.send_result(out, 1)
    assert_receive {:push, "api", %Response{result: 1}}
    {_channel, _monitor, free} = feed(service, "u", %{})
    {_channel, _monitor, starved} = feed(service, "v", %{"credit" => 1})
    StreamHelper.send_result(starved, 1)
    # It was the last one to begin to wait.
    assert_receive {:push, "api", %Response{request_id: "v", code: "timeout"}}
    StreamHelper.send_result(free, 1)
    assert_receive {:push, "api", %Response{request_id: "u", result: 1}}

    ref = push_in(channel, %{"request_id" => "t", "credit" => 1})
    assert_receive {:reply, ^ref, :ok, _}
    StreamHelper.send_result(out, 2)
    StreamHelper.send_complete(out)
    assert_receive {:push, "api", %Response{request_id: "t", result: 2}}
    assert_receive {:push, "api", %Response{request_id: "t", has_more: false, success: true}}
  end
end
