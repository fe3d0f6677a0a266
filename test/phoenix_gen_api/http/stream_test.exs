defmodule PhoenixGenApi.Http.StreamTest do
  # Streams as enumerables. The test is the connection: it asks for the chunks.
  use PhoenixGenApi.ChannelCase, async: true

  import PhoenixGenApi.Test.HttpRequests, except: [events: 1]

  alias PhoenixGenApi.Http
  alias PhoenixGenApi.Http.Options
  alias PhoenixGenApi.Structs.StreamHelper

  defmodule Api do
    def pages(n, _test), do: Stream.map(1..n//1, &%{page: &1})
    def rejects(_request, _config), do: {:error, "no"}
    def becomes(request, config, type), do: {:ok, request, %{config | response_type: type}}
    def done, do: "done"
  end

  setup %{service: service} do
    register(service, "feed", response_type: :stream, request_info: true, timeout: :infinity)

    register(service, "pages",
      mfa: {Api, :pages, [self()]},
      function: nil,
      response_type: :stream,
      arg_types: %{"n" => :integer}
    )
  end

  defp events(service, type, args \\ %{}, options \\ []),
    do: open(service, type, args, [{"accept", "text/event-stream"}], options)

  defp lines(service, type, args \\ %{}, options \\ []),
    do: open(service, type, args, [], options)

  defp open(service, type, args, headers, options) do
    headers = [{"x-request-id", "s"} | headers]

    {200, headers, {:stream, chunks}} =
      Http.handle(post(service, type, args, headers: headers), options)

    {Map.new(headers), chunks}
  end

  defp frames(text), do: PhoenixGenApi.Test.HttpRequests.events(text)

  # A process that enumerates and tells of each chunk; it goes on when it is told.
  defp reader(chunks) do
    test = self()

    spawn(fn ->
      for chunk <- chunks do
        send(test, {:chunk, chunk})

        receive do
          :go_on -> :ok
        end
      end

      send(test, :over)
    end)
  end

  defp gone(pid) do
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
  end

  test "as events: one numbered frame for each item, and the final one", %{service: service} do
    {headers, chunks} = events(service, "pages", %{"n" => 2})
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-store"
    assert headers["x-request-id"] == "s"

    assert [
             %{"id" => "1", "data" => %{"result" => %{"page" => 1}, "has_more" => true}},
             %{"id" => "2", "data" => %{"result" => %{"page" => 2}, "has_more" => true}},
             %{"id" => "3", "data" => %{"result" => nil, "has_more" => false, "success" => true}}
           ] = chunks |> Enum.join() |> frames()
  end

  test "as lines of JSON", %{service: service} do
    {headers, chunks} = lines(service, "pages", %{"n" => 2})
    assert headers["content-type"] == "application/x-ndjson"
    text = Enum.join(chunks)
    assert String.ends_with?(text, "\n")

    assert [%{"page" => 1}, %{"page" => 2}, nil] =
             text |> String.split("\n", trim: true) |> Enum.map(&JSON.decode!(&1)["result"])
  end

  test "an error is the last frame, an event of its own", %{service: service} do
    {_headers, chunks} = events(service, "feed")
    assert_receive {:feeding, "s", function, out}
    StreamHelper.send_result(out, 1)
    StreamHelper.send_error(out, "hunter2")

    assert [%{"id" => "1"} = first, %{"id" => "2", "event" => "error", "data" => error}] =
             chunks |> Enum.join() |> frames()

    refute Map.has_key?(first, "event")
    assert %{"success" => false, "code" => "internal"} = error
    refute inspect(error) =~ "hunter2"
    gone(function)
  end

  test "an item that JSON cannot hold ends the stream with an error", %{service: service} do
    {_headers, chunks} = lines(service, "feed")
    assert_receive {:feeding, "s", function, out}
    StreamHelper.send_result(out, self())

    assert %{"success" => false, "code" => "internal"} =
             chunks |> Enum.join() |> String.trim() |> JSON.decode!()

    gone(function)
  end

  test "a failure ahead of the acknowledgement is an ordinary answer", %{service: service} do
    register(service, "admins",
      function: :feed,
      response_type: :stream,
      request_info: true,
      check_permission: {:role, ["admin"]}
    )

    register(service, "rejected",
      function: :feed,
      response_type: :stream,
      request_info: true,
      before_execute: {Api, :rejects, []}
    )

    event_stream = [headers: [{"accept", "text/event-stream"}]]

    assert {422, headers, %{"code" => "invalid_arguments"}} =
             ask(post(service, "pages", %{"n" => "x"}, event_stream))

    assert headers["content-type"] == "application/json"
    assert {403, _, %{"code" => "forbidden"}} = ask(post(service, "admins", %{}, event_stream))
    assert {403, _, %{"code" => "rejected"}} = ask(post(service, "rejected", %{}, event_stream))
    assert Process.info(self(), :message_queue_len) == {:message_queue_len, 0}
  end

  test "a hook may make a stream or a plain request of it", %{service: service} do
    for {type, becomes} <- [{"a", :sync}, {"b", :async}, {"c", :none}] do
      register(service, type,
        mfa: {Api, :done, []},
        function: nil,
        response_type: :stream,
        before_execute: {Api, :becomes, [becomes]}
      )
    end

    assert {200, _, %{"result" => "done"}} = ask(post(service, "a"))
    assert {200, _, %{"result" => "done"}} = ask(post(service, "b"))
    assert {202, _, _} = ask(post(service, "c"))

    register(service, "d",
      mfa: {Api, :pages, [1, self()]},
      function: nil,
      before_execute: {Api, :becomes, [:stream]}
    )

    {_headers, chunks} = lines(service, "d")
    assert chunks |> Enum.join() |> String.split("\n", trim: true) |> length() == 2
  end

  test "a slow reader pauses the function", %{service: service} do
    register(service, "count", response_type: :stream, request_info: true, timeout: :infinity)
    {_headers, chunks} = lines(service, "count")
    assert_receive {:counting, count, function}
    send(function, :go)

    # Nobody has asked for a frame: it waits ahead of its 10,000th item.
    until(fn -> Process.info(function, :current_function) |> waits?() end)
    sent = :counters.get(count, 1)
    assert sent < 10_000

    assert chunks |> Enum.join() |> String.split("\n", trim: true) |> length() == 10_001
    assert :counters.get(count, 1) == 10_000
  end

  defp waits?({:current_function, {PhoenixGenApi.RPC.Credit, :ask, 2}}), do: true
  defp waits?(_other), do: false

  test "halting the enumeration ends the function", %{service: service} do
    {_headers, chunks} = lines(service, "feed")
    assert_receive {:feeding, "s", function, out}
    StreamHelper.send_result(out, 1)
    StreamHelper.send_result(out, 2)
    assert [_first] = Enum.take(chunks, 1)
    gone(function)
    # And it is over for good.
    refute Enum.join(chunks) =~ "\"success\":true"
    assert Process.info(self(), :message_queue_len) == {:message_queue_len, 0}
  end

  test "the death of the process that enumerates ends the function", %{service: service} do
    {_headers, chunks} = lines(service, "feed")
    assert_receive {:feeding, "s", function, out}
    StreamHelper.send_result(out, 1)
    reader = reader(chunks)
    assert_receive {:chunk, _first}
    Process.exit(reader, :kill)
    gone(function)
  end

  test "the death of the caller ends a stream that nobody has begun to read",
       %{service: service} do
    caller = spawn(fn -> lines(service, "feed") && Process.sleep(:infinity) end)
    assert_receive {:feeding, "s", function, _out}
    Process.exit(caller, :kill)
    gone(function)
  end

  test "the death of the caller ends what it waits for", %{service: service} do
    register(service, "gate", timeout: :infinity)
    register(service, "async", function: :gate, response_type: :async, timeout: :infinity)

    register(service, "hooked",
      function: :feed,
      response_type: :stream,
      request_info: true,
      before_execute: {PhoenixGenApi.Test.ChannelFunctions, :hook, [self()]}
    )

    for type <- ["gate", "async"] do
      caller = spawn(fn -> ask(post(service, type)) end)
      assert_receive {:running, nil, function}
      Process.exit(caller, :kill)
      gone(function)
    end

    caller = spawn(fn -> ask(post(service, "hooked")) end)
    assert_receive {:hook, hook}
    Process.exit(caller, :kill)
    gone(hook)
  end

  test "a client that takes nothing for long loses its stream", %{service: service} do
    options = %Options{idle_ms: 1}
    {_headers, _chunks} = lines(service, "feed", %{}, options)
    assert_receive {:feeding, "s", function, _out}
    gone(function)
  end

  test "soon after a frame, and from time to time, something is written",
       %{service: service} do
    options = %Options{probe_ms: 1, heartbeat_ms: 60_000}
    {_headers, chunks} = events(service, "feed", %{}, options)
    assert_receive {:feeding, "s", _function, out}
    reader = reader(chunks)
    StreamHelper.send_result(out, 1)
    assert_receive {:chunk, "id: 1" <> _frame}
    send(reader, :go_on)
    assert_receive {:chunk, ":\n\n"}
    Process.exit(reader, :kill)

    options = %Options{heartbeat_ms: 1}
    {_headers, chunks} = lines(service, "feed", %{}, options)
    assert_receive {:feeding, "s", _function, out}
    reader = reader(chunks)

    for _ <- 1..3 do
      assert_receive {:chunk, " "}
      send(reader, :go_on)
    end

    StreamHelper.send_last_result(out, "end")
    assert %{"result" => "end"} = JSON.decode!(" " <> last_chunk(reader))
  end

  defp last_chunk(reader) do
    assert_receive {:chunk, chunk}
    send(reader, :go_on)
    if chunk == " ", do: last_chunk(reader), else: chunk
  end

  test "a stream whose receiver dies ends with an error", %{service: service} do
    {_headers, chunks} = events(service, "feed")
    assert_receive {:feeding, "s", function, out}
    reader = reader(chunks)
    StreamHelper.send_result(out, 1)
    assert_receive {:chunk, _first}
    {:monitors, monitors} = Process.info(reader, :monitors)
    for {:process, pid} <- monitors, do: Process.exit(pid, :kill)
    send(reader, :go_on)
    assert_receive {:chunk, "event: error\ndata: " <> _json}
    send(reader, :go_on)
    assert_receive :over
    gone(function)
  end
end
