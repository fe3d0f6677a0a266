defmodule PhoenixGenApi.Channel.BusyChannelTest do
  # Channels that are busy with their own work, so that what is sent to them waits there: contract
  # 17.3, bytes per connection.
  use PhoenixGenApi.ChannelCase, async: true

  alias PhoenixGenApi.{Native, Relay}
  alias PhoenixGenApi.Structs.StreamHelper
  alias PhoenixGenApi.Test.Events

  @mb 1_000_000
  @soft 8_388_608
  @hard 4 * @soft

  defmodule Api do
    use PhoenixGenApi, event: "api", concurrency: 2, max_wait_ms: 300_000

    # As long as the test wants.
    def handle_in("work", test, socket) do
      send(test, {:working, self()})

      receive do
        :done -> {:noreply, socket}
      end
    end
  end

  defmodule Functions do
    def result(test) do
      send(test, {:called, self()})

      receive do
        :return -> String.duplicate("x", 5_000_000)
      end
    end

    def items(test, %StreamHelper{} = out) do
      for n <- 1..3 do
        StreamHelper.send_result(out, [n, String.duplicate("x", 1_000_000)])
        send(test, {:sent, n})
      end

      StreamHelper.send_complete(out)
    end
  end

  setup %{service: service} do
    for {type, fields} <- [
          result: [response_type: :async],
          items: [response_type: :stream, request_info: true]
        ] do
      fields = [mfa: {Functions, type, [self()]}, nodes: :local, timeout: 60_000] ++ fields
      :ok = ConfigDb.add(struct!(%FunConfig{service: service, request_type: "#{type}"}, fields))
    end

    register(service, "gate")
    test = self()
    client = spawn(fn -> read(test) end)
    on_exit(fn -> Process.exit(client, :kill) end)
    %{channel: join(Api, %{}, Verbatim, client), client: client}
  end

  # The client: reads whatever comes, and tells the test what of it is the last of a request.
  defp read(test) do
    receive do
      {:push, "api", %Response{has_more: false} = last} ->
        send(test, {:last, last.request_id, last.success})

      _other ->
        :ok
    end

    read(test)
  end

  defp request(channel, service, type, id),
    do: push_in(channel, payload(service, type, "#{id}"))

  defp busy(channel) do
    push_in(channel, self(), "work")
    assert_receive {:working, ^channel}
  end

  # Of what waits for a channel.
  defp held(channel) do
    {:messages, messages} = Process.info(channel, :messages)
    Enum.sum_by(messages, &:erlang.external_size/1)
  end

  test "no request begins while as many bytes of later results wait there as may wait for a client",
       %{channel: channel, service: service} do
    for n <- 1..2, do: request(channel, service, "result", n)
    first = for _ <- 1..2, do: assert_receive({:called, _pid})
    # Those hold both slots; the others wait.
    for n <- 1..2, do: request(channel, service, "gate", "gate#{n}")
    gates = for _ <- 1..2, do: assert_receive({:running, nil, _pid})
    for n <- 3..40, do: request(channel, service, "result", n)
    %{native: native} = requests(channel)
    busy(channel)

    for {:called, pid} <- first, do: send(pid, :return)
    until(fn -> held(channel) > 10 * @mb end)

    for {:running, nil, pid} <- gates, do: send(pid, {:return, 1})
    # They look for room again and again.
    until(fn -> Native.channel_requests_count(native) == {0, 0, 38} end)
    refute_received {:called, _pid}
    assert held(channel) in (10 * @mb)..(11 * @mb)

    send(channel, :done)

    for _ <- 3..40 do
      assert_receive {:called, pid}
      send(pid, :return)
    end

    for n <- 1..40 do
      id = "#{n}"
      assert_receive {:last, ^id, true}
    end
  end

  test "streams pause, and go on", %{channel: channel, service: service} do
    gates = for n <- 1..2, do: request(channel, service, "gate", "gate#{n}")
    running = for _ <- gates, do: assert_receive({:running, nil, _pid})
    for n <- 1..50, do: request(channel, service, "items", n)
    %{native: native} = requests(channel)
    busy(channel)
    for {:running, nil, pid} <- running, do: send(pid, {:return, 1})

    until(fn -> match?({_executing, 50, 0}, Native.channel_requests_count(native)) end)
    # Each has sent what it may, and waits.
    for _ <- 1..50, do: assert_receive({:sent, 1})
    assert held(channel) < @hard
    send(channel, :done)

    for n <- 1..50 do
      id = "#{n}"
      assert_receive {:last, ^id, true}
    end
  end

  describe "messages of a group" do
    setup %{service: service} do
      id = "busy-#{service}"
      Events.forward_drops(id)
      # The sender has nothing waiting.
      owner = spawn(fn -> read(nil) end)
      on_exit(fn -> Process.exit(owner, :kill) end)
      :ok = Relay.create_group(id, :public, "root", owner)
      %{group: id}
    end

    test "are skipped and counted, and come again when it has caught up",
         %{channel: channel, client: client, group: group} do
      {:ok, :active} = in_channel(channel, fn -> Relay.join_group(group, "ann", self()) end)
      busy(channel)

      say = fn ->
        Relay.send_to_group(group, "root", %{"text" => String.duplicate("m", 900_000)})
      end

      for _ <- 1..40, do: {:ok, 2} = say.()
      assert held(channel) < @soft + @mb
      assert Events.dropped() >= 30
      send(channel, :done)
      in_channel(channel)
      until(fn -> Process.info(client, :message_queue_len) == {:message_queue_len, 0} end)
      assert Events.dropped() == 0
      {:ok, 2} = say.()
      in_channel(channel)
      assert Events.dropped() == 0
    end
  end
end
