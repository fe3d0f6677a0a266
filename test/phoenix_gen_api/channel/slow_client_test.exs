defmodule PhoenixGenApi.Channel.SlowClientTest do
  # Clients that do not read what they have asked for: contract 17.3, bytes per connection.
  use PhoenixGenApi.ChannelCase, async: true

  alias PhoenixGenApi.{ClientConnection, Relay, Telemetry}
  alias PhoenixGenApi.Structs.StreamHelper
  alias PhoenixGenApi.Test.{Events, SlowReader}

  @mb 1_000_000
  @soft 8_388_608
  @hard 4 * @soft

  defmodule Api do
    use PhoenixGenApi, event: "api"
  end

  defmodule Pushing do
    use PhoenixGenApi, event: "api", deliver: :push
  end

  defmodule Impatient do
    use PhoenixGenApi, event: "api", max_wait_ms: 1
  end

  defmodule Wide do
    use PhoenixGenApi, event: "api", concurrency: 100, max_pending: 1_000, max_running: 1_000
  end

  defmodule Functions do
    @text String.duplicate("x", 5_000_000)

    def large(test), do: send(test, :called) && @text

    def huge(test, %StreamHelper{} = out) do
      send(test, {:streaming, self()})
      for n <- 1..100, do: StreamHelper.send_result(out, [n, binary_part(@text, 0, 1_000_000)])
      StreamHelper.send_complete(out)
    end

    # What an enumerable makes is sent in batches.
    def batches(_test), do: for(n <- 1..100, do: [n, binary_part(@text, 0, 1_000_000)])

    def gate(test) do
      send(test, {:running, self()})

      receive do
        :return -> "done"
      end
    end
  end

  setup %{service: service} do
    for {type, fields} <- [
          large: [],
          later: [response_type: :async, function: :large],
          huge: [response_type: :stream, request_info: true],
          batches: [response_type: :stream],
          gate: [response_type: :async]
        ] do
      {function, fields} = Keyword.pop(fields, :function, type)
      fields = [mfa: {Functions, function, [self()]}, nodes: :local, timeout: 60_000] ++ fields
      config = struct!(%FunConfig{service: service, request_type: "#{type}"}, fields)
      :ok = ConfigDb.add(config)
    end

    %{reader: SlowReader.start()}
  end

  defp join_slow(module, reader), do: join(module, %{user_id: "ann"}, SlowReader, reader)

  defp request(channel, service, type, id),
    do: push_in(channel, payload(service, type, "#{id}"))

  # Every request but those that wait has been answered.
  defp settled?(channel, waiting) do
    counts(channel) == {0, 0, waiting}
  end

  for module <- [Api, Pushing] do
    test "requests of a client that does not read wait, and are answered when it reads (#{inspect(module)})",
         %{service: service, reader: reader} do
      channel = join_slow(unquote(module), reader)
      for n <- 1..20, do: request(channel, service, "large", n)
      # Two of 5 MB are more than the soft limit.
      until(fn -> settled?(channel, 18) end)
      assert SlowReader.held(reader) < @soft + 6 * @mb
      assert_received :called
      assert_received :called
      refute_received :called

      read_results(reader, 20)
    end
  end

  # With deliver: :push each request has a receipt as well.
  defp read_results(_reader, 0), do: :ok

  defp read_results(reader, left) do
    assert SlowReader.held(reader) < @soft + 6 * @mb
    result? = reader |> SlowReader.read() |> Map.has_key?("success")
    read_results(reader, if(result?, do: left - 1, else: left))
  end

  test "requests that have waited for max_wait_ms are refused and not executed",
       %{service: service, reader: reader} do
    channel = join_slow(Impatient, reader)
    for n <- 1..5, do: request(channel, service, "large", n)
    until(fn -> settled?(channel, 0) end)
    answers = for _ <- 1..5, do: SlowReader.read(reader)
    refused = Enum.filter(answers, &(&1["error"] == "Service temporarily unavailable"))
    assert length(refused) >= 3
    assert Enum.all?(refused, & &1["can_retry"])
    executed = 5 - length(refused)
    for _ <- 1..executed, do: assert_received(:called)
    refute_received :called
  end

  for type <- ["huge", "batches"] do
    test "a stream of large items pauses while the client does not read (#{type})",
         %{service: service, reader: reader} do
      channel = join_slow(Api, reader)
      request(channel, service, unquote(type), "s")
      assert %{"has_more" => true} = SlowReader.read(reader)

      for n <- 1..100 do
        assert %{"result" => [^n, text], "success" => true} = SlowReader.read(reader)
        assert byte_size(text) == @mb
        assert SlowReader.held(reader) < @soft + 3 * @mb
      end

      assert %{"has_more" => false} = SlowReader.read(reader)
    end
  end

  test "async results of many channels close a connection that does not read",
       %{service: service, reader: reader} do
    monitor = Process.monitor(reader)
    channels = for _ <- 1..20, do: join_slow(Wide, reader)
    for channel <- channels, do: request(channel, service, "later", "a")
    for channel <- channels, do: request(channel, service, "later", "b")
    assert_receive {:DOWN, ^monitor, :process, ^reader, :killed}
  end

  test "a connection has at most max_connection_requests unfinished requests over its channels",
       %{service: service, reader: reader} do
    # Of nobody: a user's share of the pool is another bound.
    channels = for _ <- 1..4, do: join(Wide, %{}, SlowReader, reader)
    for channel <- channels, n <- 1..50, do: request(channel, service, "gate", n)
    gates = for _ <- 1..200, do: running()
    acknowledged = for _ <- 1..200, do: SlowReader.read(reader)
    assert Enum.all?(acknowledged, & &1["success"])

    [first | _] = channels
    request(first, service, "gate", "over")
    assert %{"error" => "Service temporarily unavailable"} = SlowReader.read(reader)

    send(hd(gates), :return)
    assert %{"result" => "done"} = SlowReader.read(reader)
    request(first, service, "gate", "next")
    assert %{"request_id" => "next", "success" => true} = SlowReader.read(reader)

    # Requests whose processes are killed are over.
    for pid <- request_processes(first), do: Process.exit(pid, :kill)
    last = List.last(channels)
    connection = ClientConnection.open(reader)
    # One less if the function that has returned was of another channel.
    until(fn -> unfinished(connection) in [149, 150] end)

    for _ <- 1..(200 - unfinished(connection)),
        do: assert(%{"error" => "Async execution failed"} = SlowReader.read(reader))

    request(last, service, "gate", "again")
    assert %{"request_id" => "again", "success" => true} = SlowReader.read(reader)
  end

  defp running do
    assert_receive {:running, gate}
    gate
  end

  defp unfinished({share, _pid, nil}),
    do: PhoenixGenApi.Native.client_connection_unfinished(share)

  test "requests that a channel has of a client that has gone are not executed",
       %{service: service, reader: reader} do
    register(service, "gate", arg_types: %{"name" => :string})
    channel = join_slow(Api, reader)
    push_in(channel, payload(service, "gate", "g", %{"args" => %{"name" => "g"}}))
    assert_receive {:running, "g", function}
    monitor = Process.monitor(function)

    :sys.suspend(channel)
    for n <- 1..10, do: request(channel, service, "large", n)
    Process.exit(reader, :kill)
    # By now it is known that the client has gone.
    assert_receive {:DOWN, ^monitor, :process, ^function, _reason}
    :sys.resume(channel)
    in_channel(channel)
    until(fn -> request_processes(channel) == [] and queues(channel) == [] end)
    refute_received :called
  end

  test "what runs for a client that has gone ends, also while its channel is busy",
       %{service: service, reader: reader} do
    register(service, "gate", arg_types: %{"name" => :string})
    channel = join_slow(Api, reader)
    push_in(channel, payload(service, "gate", "g", %{"args" => %{"name" => "g"}}))
    assert_receive {:running, "g", function}
    monitor = Process.monitor(function)
    :sys.suspend(channel)
    Process.exit(reader, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^function, _reason}
    :sys.resume(channel)
  end

  for type <- [:sync, :async] do
    test "a result over max_result_bytes is an internal error, also for operators (#{type})",
         %{service: service, reader: reader} do
      test = self()
      id = "r-#{System.unique_integer([:positive])}"

      register(service, "echo",
        arg_types: %{"text" => :string},
        response_type: unquote(type),
        max_result_bytes: 1_000
      )

      Telemetry.attach_requests(id, fn
        [_, _, _, :stop], _measurements, %{request_id: ^id} = stop, _config ->
          send(test, {:stop, stop})

        _event, _measurements, _metadata, _config ->
          :ok
      end)

      on_exit(fn -> Telemetry.detach_all(id) end)
      channel = join_slow(Api, reader)
      args = %{"args" => %{"text" => String.duplicate("x", 1_000)}}

      push_in(channel, payload(service, "echo", id, args))
      if unquote(type) == :async, do: assert(%{"success" => true} = SlowReader.read(reader))
      refused = SlowReader.read(reader)
      assert %{"code" => "internal", "error" => "Internal Server Error"} = refused
      assert refused["details"] == [%{"executed" => "yes"}]
      assert_receive {:stop, stop}
      if unquote(type) == :sync, do: assert(%{success: false, code: "internal"} = stop)
      push_in(channel, payload(service, "echo", "small", %{"args" => %{"text" => "x"}}))
      if unquote(type) == :async, do: assert(%{"success" => true} = SlowReader.read(reader))
      assert %{"result" => "x"} = SlowReader.read(reader)
    end
  end

  test "every way in which a request ends is counted as an end", %{
    service: service,
    reader: reader
  } do
    channel = join_slow(Wide, reader)
    register(service, "boom")
    register(service, "unencodable")
    types = ~w(boom unencodable nope gate gate)
    for {type, n} <- Enum.with_index(types), do: request(channel, service, type, n)
    [first, second] = for _ <- 1..2, do: running()
    for _ <- types, do: SlowReader.read(reader)
    push_in(channel, %{"request_id" => "3", "cancel" => true})
    assert %{"cancelled" => true} = SlowReader.read(reader)
    send(first, :return)
    send(second, :return)
    connection = ClientConnection.open(reader)
    until(fn -> unfinished(connection) == 0 end)
  end

  describe "messages of a group" do
    setup %{service: service} do
      id = "slow-#{service}"
      Events.forward_drops(id)
      owner = spawn(fn -> Process.sleep(:infinity) end)
      on_exit(fn -> Process.exit(owner, :kill) end)
      :ok = Relay.create_group(id, :public, "root", owner)
      %{group: id}
    end

    for lane <- [:channel, :fastlane] do
      test "are skipped and counted for a member that does not read (#{lane})",
           %{group: group, reader: reader} do
        channel = join_slow(Api, reader)

        in_channel(channel, fn ->
          if unquote(lane) == :fastlane do
            socket = %Phoenix.Socket{
              serializer: SlowReader,
              topic: "api:1",
              transport_pid: reader
            }

            PhoenixGenApi.Relay.Fastlane.open(socket, "api", JSON)
          end

          {:ok, :active} = Relay.join_group(group, "ann", self())
        end)

        text = String.duplicate("m", 900_000)
        for _ <- 1..40, do: {:ok, 2} = Relay.send_to_group(group, "root", %{"text" => text})
        in_channel(channel)
        assert waiting_bytes(reader) < @soft + @mb
        dropped = Events.dropped()
        assert dropped >= 30
        assert Process.alive?(reader)
      end
    end
  end

  defp waiting_bytes(reader) do
    {:messages, messages} = Process.info(reader, :messages)

    Enum.sum_by(messages, fn
      {:frame, frame} -> byte_size(frame)
      {:socket_push, :text, frame} -> byte_size(frame)
    end)
  end

  test "the hard limit is four times the soft one",
    do: assert(@hard == 4 * ClientConnection.soft())
end
