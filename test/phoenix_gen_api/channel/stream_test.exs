defmodule PhoenixGenApi.Channel.StreamTest do
  use PhoenixGenApi.ChannelCase, async: true

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.Structs.StreamHelper

  defmodule Api do
    use PhoenixGenApi, event: "api"
  end

  defmodule Pushing do
    use PhoenixGenApi, event: "api", deliver: :push
  end

  defmodule Both do
    use PhoenixGenApi, event: "api", deliver: :both
  end

  defmodule OneRunning do
    use PhoenixGenApi, event: "api", max_running: 1
  end

  defmodule Started do
    use PhoenixGenApi, event: "api"

    def handle_info({:stream_started, id, pid}, socket) do
      send(socket.assigns.test, {:started, id, pid})
      {:noreply, socket}
    end
  end

  defmodule Stopping do
    use PhoenixGenApi, event: "api"

    def handle_in("stop", %{"id" => id}, socket),
      do: {:reply, {:ok, %{result: inspect(PhoenixGenApi.stop_stream(id))}}, socket}
  end

  defmodule StoppingAtOnce do
    use PhoenixGenApi, event: "api"

    def handle_info({:stream_started, _id, pid}, socket) do
      :ok = PhoenixGenApi.stop_stream(pid)
      {:noreply, socket}
    end
  end

  setup %{service: service} do
    register(service, "feed", response_type: :stream, request_info: true, timeout: :infinity)
  end

  defp start(channel, service, id) do
    push_in(channel, payload(service, "feed", id))
    assert_receive {:feeding, ^id, function, out}
    {function, out}
  end

  defp cancel(channel, id) do
    ref = push_in(channel, %{"request_id" => id, "cancel" => true})
    assert_receive {:reply, ^ref, :ok, %{request_id: ^id, cancelled: cancelled}}
    cancelled
  end

  test "is acknowledged by the reply; frames are pushed in order", %{service: service} do
    channel = join(Api)
    {_function, out} = start(channel, service, "t")
    assert_receive {:reply, _, :ok, acknowledgement}
    assert acknowledgement == Response.stream_response("t", :init)

    for n <- 1..200, do: StreamHelper.send_result(out, n)
    StreamHelper.send_last_result(out, "end")

    for n <- 1..200 do
      assert_receive {:push, "api", response}
      assert response == Response.stream_response("t", n)
    end

    assert_receive {:push, "api", response}
    assert response == Response.stream_response("t", "end", false)
    refute cancel(channel, "t")
  end

  test "is acknowledged by a push with deliver: :push and by both with :both",
       %{service: service} do
    start(join(Pushing), service, "t")
    assert_receive {:reply, _, :ok, reply}
    assert reply == %{request_id: "t"}
    assert_receive {:push, "api", %Response{result: :init}}

    {_function, out} = start(join(Both), service, "u")
    assert_receive {:reply, _, :ok, %Response{result: :init}}
    assert_receive {:push, "api", %Response{result: :init}}
    StreamHelper.send_complete(out)
    assert_receive {:push, "api", response}
    assert response == Response.stream_end_response("u")
    refute_received {:reply, _, _, _}
  end

  test "lets the next request execute once it is acknowledged", %{service: service} do
    register(service, "now")
    channel = join(Api)
    push_in(channel, payload(service, "feed", "t"))
    push_in(channel, payload(service, "now", "u"))
    assert_receive {:reply, _, :ok, %Response{request_id: "t"}}
    assert_receive {:reply, _, :ok, %Response{request_id: "u"}}
  end

  test "tells the channel which process it is", %{service: service} do
    channel = join(Started, %{test: self()})
    start(channel, service, "t")
    assert_receive {:started, "t", pid}
    assert is_pid(pid)
  end

  test "ends with the error frame", %{service: service} do
    channel = join(Api)
    {_function, out} = start(channel, service, "t")
    StreamHelper.send_error(out, "why")

    assert_receive {:push, "api",
                    %Response{success: false, error: "Internal Server Error", has_more: false}}

    refute cancel(channel, "t")
  end

  test "ends with an error at an item that JSON cannot hold", %{service: service} do
    channel = join(Api)
    {function, out} = start(channel, service, "t")
    monitor = Process.monitor(function)
    StreamHelper.send_result(out, 1)
    StreamHelper.send_result(out, self())
    StreamHelper.send_result(out, 3)
    assert_receive {:push, "api", %Response{result: 1}}
    assert_receive {:push, "api", response}
    assert response == error("Internal Server Error", false, id: "t")
    assert_receive {:DOWN, ^monitor, :process, _, _}
    in_channel(channel)
    refute_received {:push, _, _}
  end

  test "is ended by a cancel with its end frame, and nothing after it", %{service: service} do
    channel = join(Api)
    {function, out} = start(channel, service, "t")
    monitor = Process.monitor(function)
    assert_receive {:reply, _, :ok, %Response{result: :init}}
    for n <- 1..100, do: StreamHelper.send_result(out, n)
    assert cancel(channel, "t")
    assert_receive {:DOWN, ^monitor, :process, _, _}
    assert last_frame() == Response.stream_end_response("t")
    StreamHelper.send_result(out, "late")
    in_channel(channel)
    refute_received {:push, _, _}
    refute cancel(channel, "t")
  end

  defp last_frame do
    receive do
      {:push, "api", %Response{has_more: true}} -> last_frame()
      {:push, "api", %Response{has_more: false} = response} -> response
    after
      1_000 -> flunk("no end frame")
    end
  end

  test "counts against max_running until its last frame", %{service: service} do
    channel = join(OneRunning)
    {_function, out} = start(channel, service, "t")
    push_in(channel, payload(service, "feed", "u"))
    assert_receive {:reply, _, :error, response}
    assert response == error("Service temporarily unavailable", true, id: "u")
    StreamHelper.send_complete(out)
    assert_receive {:push, "api", %Response{has_more: false}}
    start(channel, service, "v")
  end

  test "ends with the channel", %{service: service} do
    channel = join(Api)
    {function, out} = start(channel, service, "t")
    monitors = for pid <- [function, out.stream_pid], do: Process.monitor(pid)
    Process.exit(channel, :kill)
    for monitor <- monitors, do: assert_receive({:DOWN, ^monitor, :process, _, _})
  end

  test "that loses its process pushes an error frame", %{service: service} do
    channel = join(Api)
    {function, _out} = start(channel, service, "t")
    assert_receive {:reply, _, :ok, %Response{result: :init}}
    monitor = Process.monitor(function)
    for pid <- request_processes(channel), do: Process.exit(pid, :kill)
    assert_receive {:push, "api", response}
    assert response == error("Stream execution failed", false, id: "t")
    assert_receive {:DOWN, ^monitor, :process, _, _}
  end

  test "is stopped by its channel's own code, by its id", %{service: service} do
    channel = join(Stopping)
    {function, out} = start(channel, service, "t")
    {_other, _out} = start(channel, service, "u")
    assert_receive {:reply, _, :ok, %Response{request_id: "t", result: :init}}
    monitor = Process.monitor(function)
    StreamHelper.send_result(out, 1)

    elsewhere = join(Stopping)
    assert stop(elsewhere, "t") == "{:error, :not_found}"
    assert stop(channel, "no such") == "{:error, :not_found}"
    assert stop(channel, "t") == ":ok"
    assert_receive {:DOWN, ^monitor, :process, _, _}
    assert last_frame() == Response.stream_end_response("t")
    assert stop(channel, "t") == "{:error, :not_found}"
    in_channel(channel)
    refute_received {:push, _, %Response{request_id: "t"}}
    assert stop(channel, "u") == ":ok"
  end

  defp stop(channel, id) do
    ref = push_in(channel, %{"id" => id}, "stop")
    assert_receive {:reply, ^ref, :ok, %{result: result}}
    result
  end

  test "is stopped by its pid as soon as the channel has that", %{service: service} do
    channel = join(StoppingAtOnce)
    push_in(channel, payload(service, "feed", "t"))
    assert last_frame() == Response.stream_end_response("t")
    in_channel(channel)
    refute_received {:push, _, _}
  end

  test "holds its producer back while the channel is busy, and loses nothing", %{service: service} do
    register(service, "count", response_type: :stream, request_info: true, timeout: :infinity)
    channel = join(Api)
    push_in(channel, payload(service, "count", "t"))
    assert_receive {:counting, count, producer}
    assert_receive {:reply, _, :ok, %Response{result: :init}}
    :sys.suspend(channel)
    send(producer, :go)
    # The thousand that the channel has waiting, the thousand of the request's process, and what
    # is on the way: 64 between the stream and the producer.
    until(fn -> waiting(channel) > 1_000 and :counters.get(count, 1) > 2_000 end)
    until(fn -> Process.info(producer, :status) == {:status, :waiting} end)
    assert :counters.get(count, 1) in 2_000..2_300
    assert waiting(channel) in 1_000..1_100
    :sys.resume(channel)

    for n <- 1..10_000 do
      assert_receive {:push, "api", response}
      assert response == Response.stream_response("t", n)
    end

    assert last_frame() == Response.stream_end_response("t")
  end

  test "holds its producer back while the client reads slowly, and loses nothing", %{
    service: service
  } do
    register(service, "count", response_type: :stream, request_info: true, timeout: :infinity)
    # The process of the connection is in a write that takes long: it reads when it is told.
    test = self()

    transport =
      spawn_link(fn ->
        receive(do: (:read -> :ok))
        pass_on(test)
      end)

    channel = join(Api, %{}, Verbatim, transport)
    push_in(channel, payload(service, "count", "t"))
    assert_receive {:counting, count, producer}
    send(producer, :go)
    # A thousand each that the connection and the request's process have waiting, and at most
    # another one that the channel had when the connection was looked at.
    until(fn -> waiting(transport) > 1_000 and :counters.get(count, 1) > 2_000 end)
    until(fn -> Process.info(producer, :status) == {:status, :waiting} end)
    until(fn -> waiting(channel) == 0 end)
    assert :counters.get(count, 1) in 2_000..3_300
    assert waiting(transport) in 1_000..2_000

    send(transport, :read)
    for n <- 1..10_000, do: assert_receive({:push, "api", %Response{result: ^n}})
    assert last_frame() == Response.stream_end_response("t")
  end

  defp pass_on(test) do
    receive do
      message -> send(test, message)
    end

    pass_on(test)
  end

  test "may be fed by its own channel, which is not made to wait for itself", %{service: service} do
    channel = join(Api)
    {_function, out} = start(channel, service, "t")
    assert_receive {:reply, _, :ok, %Response{result: :init}}
    in_channel(channel, fn -> for n <- 1..5_000, do: StreamHelper.send_result(out, n) end)
    StreamHelper.send_complete(out)
    for n <- 1..5_000, do: assert_receive({:push, "api", %Response{result: ^n}})
    assert last_frame() == Response.stream_end_response("t")
  end

  test "is paused while the channel is busy, and can still be cancelled", %{service: service} do
    channel = join(Api)
    {function, out} = start(channel, service, "t")
    assert_receive {:reply, _, :ok, %Response{result: :init}}
    requests = requests(channel)
    [work] = request_processes(channel)

    :sys.suspend(channel)
    for n <- 1..5_000, do: send(out.stream_pid, {:result, n})
    until(fn -> waiting(channel) > 1_000 and waiting(work) > 900 end)
    PhoenixGenApi.Channel.Requests.follow(requests, nil, {:cancel, "t"}, false)
    monitor = Process.monitor(function)
    assert_receive {:DOWN, ^monitor, :process, _, _}
    # Not more than one round of frames beyond the thousand, however many there are.
    assert waiting(channel) in 1_000..1_100
    :sys.resume(channel)
    assert last_frame() == Response.stream_end_response("t")
  end

  defp waiting(pid), do: pid |> Process.info(:message_queue_len) |> elem(1)
end
