defmodule PhoenixGenApi.ChannelTest do
  use PhoenixGenApi.ChannelCase, async: true

  import PhoenixGenApi.Test.Answers
  import ExUnit.CaptureLog

  defmodule Api do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api"
    def join(_topic, _params, socket), do: {:ok, socket}
  end

  defmodule Pushing do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api", deliver: :push
    def join(_topic, _params, socket), do: {:ok, socket}
  end

  defmodule Both do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api", deliver: :both
    def join(_topic, _params, socket), do: {:ok, socket}
  end

  defmodule Own do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api"
    @impl true
    def join(_topic, _params, socket), do: {:ok, socket}

    @impl true
    def handle_in("ping", payload, socket), do: {:reply, {:ok, payload}, socket}

    @impl true
    def handle_info({:relay_message, response}, socket) do
      push(socket, "mine", response)
      {:noreply, socket}
    end
  end

  defmodule CatchAll do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api"
    def join(_topic, _params, socket), do: {:ok, socket}

    def handle_info(message, socket) do
      with :unhandled <- PhoenixGenApi.Channel.handle_info(message, socket, event: "other") do
        push(socket, "unhandled", %{})
        {:noreply, socket}
      end
    end
  end

  defmodule Swallowing do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api"
    def join(_topic, _params, socket), do: {:ok, socket}
    # It would be a warning without a guard.
    def handle_info(message, socket) when is_tuple(message), do: {:noreply, socket}
  end

  defmodule SwallowingPush do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api", deliver: :push
    def join(_topic, _params, socket), do: {:ok, socket}
    # It would be a warning without a guard.
    def handle_info(message, socket) when is_tuple(message), do: {:noreply, socket}
  end

  defmodule Dispatching do
    use Phoenix.Channel
    def join(_topic, _params, socket), do: {:ok, socket}

    def handle_in("one", payload, socket),
      do: PhoenixGenApi.Channel.handle_in(payload, socket, event: "one")

    def handle_in("two", payload, socket) do
      # Whichever socket is returned, the channel's requests stay together.
      {:noreply, _socket} =
        PhoenixGenApi.Channel.handle_in(payload, socket, event: "two", deliver: :push)

      {:noreply, socket}
    end
  end

  defmodule Several do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api"
    def join(_topic, _params, socket), do: {:ok, socket}

    def handle_in(event, payload, socket) when event in ["admin", "other"],
      do: PhoenixGenApi.Channel.handle_in(payload, socket, event: event)
  end

  defmodule SeveralOwn do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api"
    def join(_topic, _params, socket), do: {:ok, socket}

    def handle_in("admin", payload, socket),
      do: PhoenixGenApi.Channel.handle_in(payload, socket, event: "admin")

    def handle_info({:async_call, response}, socket) do
      push(socket, "mine", response)
      {:noreply, socket}
    end
  end

  defmodule Feed do
    use Phoenix.Channel
    use PhoenixGenApi.ChannelHelpers, event: "feed"
    def join(_topic, _params, socket), do: {:ok, socket}
  end

  defp receive_nothing_from(channel) do
    in_channel(channel)
    refute_received {:push, _, _}
    refute_received {:reply, _, _, _}
  end

  describe "with deliver: :reply" do
    test "a sync result is the reply, as a response struct", %{service: service} do
      register(service, "echo", arg_types: %{"text" => :string})
      channel = join(Api)
      ref = push_in(channel, payload(service, "echo", "r1", %{"args" => %{"text" => "hi"}}))

      assert_receive {:reply, ^ref, :ok, response}
      assert response == Response.sync_response("r1", "hi")
      receive_nothing_from(channel)
    end

    test "a failure is an error reply", %{service: service} do
      register(service, "boom")
      channel = join(Api)
      ref = push_in(channel, payload(service, "boom", "r1"))
      assert_receive {:reply, ^ref, :error, response}
      assert response == error("Internal Server Error")

      ref = push_in(channel, payload(service, "nope", "r2"))
      assert_receive {:reply, ^ref, :error, %Response{request_id: "r2", error: error}}
      assert error == "unsupported function: nope version latest"
      receive_nothing_from(channel)
    end

    test "an async request is acknowledged by the reply, its result is pushed", %{
      service: service
    } do
      register(service, "gate", response_type: :async)
      channel = join(Api)
      ref = push_in(channel, payload(service, "gate", "r1"))

      assert_receive {:reply, ^ref, :ok, acknowledgement}
      assert acknowledgement == Response.async_response("r1")
      assert_receive {:running, nil, function}
      send(function, {:return, "late"})
      assert_receive {:push, "api", response}
      assert response == Response.sync_response("r1", "late")
    end

    test "a failure before the acknowledgement of an async request is an error reply",
         %{service: service} do
      register(service, "gate", response_type: :async, check_permission: :any_authenticated)
      channel = join(Api)
      ref = push_in(channel, payload(service, "gate", "r1"))
      assert_receive {:reply, ^ref, :error, %Response{error: "Permission denied", async: false}}
      receive_nothing_from(channel)
    end

    test "a none request is replied to with its id", %{service: service} do
      register(service, "now", response_type: :none)
      channel = join(Api)
      ref = push_in(channel, payload(service, "now", "r1"))
      assert_receive {:reply, ^ref, :ok, %{request_id: "r1"} = reply}
      assert reply == %{request_id: "r1"}
      receive_nothing_from(channel)
    end

    test "an error of the payload is an error reply with the request id, or nil" do
      channel = join(Api)
      ref = push_in(channel, %{"request_id" => "r1"})
      assert_receive {:reply, ^ref, :error, %Response{request_id: "r1", error: error}}
      assert error == "Invalid request: Missing required fields: request_type, service"

      ref = push_in(channel, [1, 2])
      assert_receive {:reply, ^ref, :error, %Response{request_id: nil, error: error}}
      assert error == "Invalid request: Request payload must be a map"
    end
  end

  describe "with deliver: :push" do
    test "a sync result is pushed; the reply comes at once and has the id", %{service: service} do
      register(service, "gate")
      channel = join(Pushing)
      ref = push_in(channel, payload(service, "gate", "r1"))

      assert_receive {:running, nil, function}
      assert_receive {:reply, ^ref, :ok, reply}
      assert reply == %{request_id: "r1"}
      refute_received {:push, _, _}

      send(function, {:return, 1})
      assert_receive {:push, "api", response}
      assert response == Response.sync_response("r1", 1)
      receive_nothing_from(channel)
    end

    test "acknowledgement and result of an async request are pushed", %{service: service} do
      register(service, "now", response_type: :async)
      ref = join(Pushing) |> push_in(payload(service, "now", "r1"))
      assert_receive {:reply, ^ref, :ok, %{request_id: "r1"}}
      assert_receive {:push, "api", first}
      assert first == Response.async_response("r1")
      assert_receive {:push, "api", second}
      assert second == Response.sync_response("r1", "done")
    end

    test "a failure is pushed, with a nil id in both if the id is unknown", %{service: service} do
      channel = join(Pushing)
      ref = push_in(channel, payload(service, "nope", "r1"))
      assert_receive {:reply, ^ref, :ok, %{request_id: "r1"}}
      assert_receive {:push, "api", %Response{success: false, request_id: "r1"}}

      ref = push_in(channel, "nonsense")
      assert_receive {:reply, ^ref, :ok, reply}
      assert reply == %{request_id: nil}
      assert_receive {:push, "api", %Response{success: false, request_id: nil}}
    end

    test "a none request is replied to with its id, and nothing is pushed", %{service: service} do
      register(service, "gate", response_type: :none)
      channel = join(Pushing)
      ref = push_in(channel, payload(service, "gate", "r1"))
      assert_receive {:reply, ^ref, :ok, %{request_id: "r1"}}
      assert_receive {:running, nil, _function}
      receive_nothing_from(channel)
    end

    test "results do not depend on the channel's handle_info", %{service: service} do
      register(service, "now")
      join(SwallowingPush) |> push_in(payload(service, "now", "r1"))
      assert_receive {:push, "api", %Response{result: "done"}}
    end
  end

  describe "with deliver: :both" do
    test "a sync result is pushed, then replied", %{service: service} do
      register(service, "now")
      channel = join(Both)
      ref = push_in(channel, payload(service, "now", "r1"))
      response = Response.sync_response("r1", "done")
      assert_receive {:reply, ^ref, :ok, ^response}
      assert_received {:push, "api", ^response}
      receive_nothing_from(channel)
    end

    test "a failure is pushed, and replied as an error", %{service: service} do
      channel = join(Both)
      ref = push_in(channel, payload(service, "nope", "r1"))
      assert_receive {:reply, ^ref, :error, %Response{request_id: "r1"} = response}
      assert_received {:push, "api", ^response}
      receive_nothing_from(channel)
    end

    test "an acknowledgement is pushed and replied, the result only pushed", %{service: service} do
      register(service, "gate", response_type: :async)
      channel = join(Both)
      ref = push_in(channel, payload(service, "gate", "r1"))
      assert_receive {:reply, ^ref, :ok, %Response{async: true} = acknowledgement}
      assert_received {:push, "api", ^acknowledgement}
      assert_receive {:running, nil, function}
      send(function, {:return, 1})
      assert_receive {:push, "api", %Response{async: false, result: 1}}
      receive_nothing_from(channel)
    end

    test "a none request is only replied to", %{service: service} do
      register(service, "now", response_type: :none)
      channel = join(Both)
      ref = push_in(channel, payload(service, "now", "r1"))
      assert_receive {:reply, ^ref, :ok, reply}
      assert reply == %{request_id: "r1"}
      receive_nothing_from(channel)
    end
  end

  describe "a message without a ref" do
    test "is executed and gets no reply", %{service: service} do
      register(service, "gate")
      channel = join(Both)
      send(channel, {:client, "api", payload(service, "gate", "r1"), nil})
      assert_receive {:running, nil, function}
      send(function, {:return, 1})
      assert_receive {:push, "api", %Response{request_id: "r1", result: 1}}
      send(channel, {:client, "api", %{"request_id" => "r1", "cancel" => true}, nil})
      receive_nothing_from(channel)
    end
  end

  describe "a result that JSON cannot hold" do
    test "is an error reply", %{service: service} do
      register(service, "unencodable")
      ref = join(Api) |> push_in(payload(service, "unencodable", "r1"))
      assert_receive {:reply, ^ref, :error, response}
      assert response == error("Internal Server Error")
    end

    test "is a pushed error for an async request", %{service: service} do
      register(service, "unencodable", response_type: :async)
      join(Api) |> push_in(payload(service, "unencodable", "r1"))
      assert_receive {:push, "api", response}
      assert response == error("Internal Server Error")
    end

    test "is found by the check, whatever the serializer does", %{service: service} do
      register(service, "unencodable")
      register(service, "later", function: :unencodable, response_type: :async)
      channel = join(Both, %{}, Verbatim)
      error = error("Internal Server Error")

      push_in(channel, payload(service, "unencodable", "r1"))
      assert_receive {:push, "api", ^error}
      assert_receive {:reply, _, :error, ^error}
      push_in(channel, payload(service, "later", "r1"))
      assert_receive {:push, "api", ^error}
    end

    test "is an error for whatever else a channel is sent to push" do
      channel = join(Api, %{}, Verbatim)

      for tag <- [:push, :relay_message, :async_call, :stream_response] do
        send(channel, {tag, Response.sync_response("r1", {:a, :tuple})})
        assert_receive {:push, "api", response}
        assert response == error("Internal Server Error")
      end
    end

    test "is an error too where only the serializer knows better" do
      channel = join(Api)

      log =
        capture_log(fn ->
          # The check knows sets at any depth, whereas this map is encoded without Response.
          send(channel, {:push, %{set: MapSet.new()}})
          assert_receive {:push, "api", %Response{error: "Internal Server Error"}}
          send(channel, {:push, 5})
          assert_receive {:push, "api", %Response{error: "Internal Server Error"}}
        end)

      assert log =~ "phoenix_gen_api failed: Protocol.UndefinedError"
    end
  end

  describe "handle_info of the channel" do
    test "pushes what it is sent on the event" do
      channel = join(Api)

      for tag <- [:push, :async_call, :stream_response, :relay_message] do
        response = Response.sync_response("r1", Atom.to_string(tag))
        send(channel, {tag, response})
        assert_receive {:push, "api", ^response}
      end
    end

    test "keeps the start of a stream from the client" do
      channel = join(Api)
      send(channel, {:stream_started, "r1", self()})
      receive_nothing_from(channel)
    end

    test "is the module's own where it has a clause" do
      channel = join(Own)
      response = Response.sync_response("r1", 1)
      send(channel, {:relay_message, response})
      assert_receive {:push, "mine", ^response}
      send(channel, {:push, response})
      assert_receive {:push, "api", ^response}
    end

    test "may ask PhoenixGenApi.Channel from a catch-all" do
      channel = join(CatchAll)
      response = Response.sync_response("r1", 1)
      send(channel, {:async_call, response})
      assert_receive {:push, "other", ^response}
      send(channel, :something)
      assert_receive {:push, "unhandled", _}
    end

    test "logs and ignores other messages in a module that has none itself" do
      channel = join(Api)

      log =
        capture_log(fn ->
          send(channel, {make_ref(), "secret"})
          in_channel(channel)
        end)

      assert log =~ "PhoenixGenApi.ChannelTest.Api got an unexpected message"
      refute log =~ "secret"
    end

    test "of ChannelHelpers pushes on its event and takes no requests" do
      channel = join(Feed)
      response = Response.sync_response("r1", 1)
      send(channel, {:relay_message, response})
      assert_receive {:push, "feed", ^response}
      refute function_exported?(Feed, :handle_in, 3)
    end
  end

  test "a catch-all that swallows everything keeps replies, order and cancels", %{
    service: service
  } do
    register(service, "now")
    register(service, "gate", response_type: :async)
    channel = join(Swallowing)
    first = push_in(channel, payload(service, "gate", "a"))
    second = push_in(channel, payload(service, "now", "b"))
    assert_receive {:reply, ref, :ok, %Response{async: true}}
    assert ref == first
    assert_receive {:reply, ^second, :ok, %Response{result: "done"}}
    assert_receive {:running, nil, function}
    monitor = Process.monitor(function)
    push_in(channel, %{"request_id" => "a", "cancel" => true})
    assert_receive {:reply, _, :ok, %{request_id: "a", cancelled: true}}
    assert_receive {:DOWN, ^monitor, :process, _, _}
  end

  test "own handle_in clauses win and other events are not taken", %{service: service} do
    register(service, "now")
    channel = join(Own)
    ref = push_in(channel, %{"n" => 1}, "ping")
    assert_receive {:reply, ^ref, :ok, %{"n" => 1}}
    ref = push_in(channel, payload(service, "now", "r1"))
    assert_receive {:reply, ^ref, :ok, %Response{result: "done"}}

    assert_raise FunctionClauseError, fn -> Own.handle_in("other", %{}, %{}) end
  end

  test "handle_in/3 serves several events of one channel, each with its own queue",
       %{service: service} do
    register(service, "gate")
    register(service, "now")
    channel = join(Dispatching)
    push_in(channel, payload(service, "gate", "a"), "one")
    assert_receive {:running, nil, function}
    push_in(channel, payload(service, "now", "b"), "two")
    assert_receive {:push, "two", %Response{request_id: "b"}}
    push_in(channel, payload(service, "now", "c"), "two")
    assert_receive {:push, "two", %Response{request_id: "c"}}
    send(function, {:return, 1})
    assert_receive {:reply, _, :ok, %Response{request_id: "a"}}
    assert counts(channel, "one") != nil
  end

  test "results arrive on the event that their request was sent on", %{service: service} do
    for type <- ["gate", "feed"], do: register(service, type, kind(type))
    channel = join(Several)
    # The same ids, one after the other on each event.
    for event <- ["api", "admin", "api", "other"], type <- ["gate", "feed"] do
      id = "#{event}-#{type}"
      push_in(channel, payload(service, type, id), event)
      assert_receive {:reply, _, :ok, %Response{request_id: ^id}}

      case type do
        "gate" ->
          assert_receive {:running, nil, function}
          send(function, {:return, "late"})

        "feed" ->
          assert_receive {:feeding, ^id, function, helper}
          PhoenixGenApi.Structs.StreamHelper.send_result(helper, 1)
          assert_receive {:push, ^event, response}
          assert response == Response.stream_response(id, 1)
          PhoenixGenApi.Structs.StreamHelper.send_complete(helper)
          send(function, :end)
      end

      assert_receive {:push, ^event, response}
      result = if type == "gate", do: Response.sync_response(id, "late")
      assert response == (result || Response.stream_end_response(id))
    end

    push_in(channel, payload(service, "feed", "cut"), "admin")
    assert_receive {:feeding, "cut", _function, _helper}
    assert_receive {:reply, _, :ok, _acknowledgement}
    push_in(channel, %{"request_id" => "cut", "cancel" => true}, "admin")
    assert_receive {:push, "admin", response}
    assert response == Response.stream_end_response("cut")
  end

  test "a clause of the module's own gets results of every event", %{service: service} do
    register(service, "gate", response_type: :async)
    channel = join(SeveralOwn)

    for event <- ["api", "admin"] do
      push_in(channel, payload(service, "gate", event), event)
      assert_receive {:running, nil, function}
      send(function, {:return, "late"})
      assert_receive {:push, "mine", %{request_id: ^event} = response}
      assert JSON.encode!(response) == JSON.encode!(Response.sync_response(event, "late"))
      assert Response.encode!(response) == Response.encode!(Response.sync_response(event, "late"))
    end
  end

  defp kind("gate"), do: [response_type: :async]
  defp kind("feed"), do: [response_type: :stream, request_info: true]

  test "handle_in/3 refuses bad options" do
    assert_raise ArgumentError, ~r/unknown option :evnt/, fn ->
      PhoenixGenApi.Channel.handle_in(%{}, %Phoenix.Socket{}, evnt: "api")
    end
  end

  test "no process is started before the first request, nor by a cancel" do
    channel = join(Api)
    push_in(channel, %{"request_id" => "r1", "cancel" => true})
    assert_receive {:reply, _, :ok, %{request_id: "r1", cancelled: false}}
    assert requests(channel) == nil
  end

  test "functions know the channel as their caller", %{service: service} do
    register(service, "callers")
    channel = join(Api)
    push_in(channel, payload(service, "callers", "r1"))
    assert_receive {:callers, callers}
    assert channel in callers
  end

  test "put_client_ip/2 assigns the address of the peer, if it has one" do
    socket = %Phoenix.Socket{assigns: %{a: 1}}

    for {address, text} <- [
          {{127, 0, 0, 1}, "127.0.0.1"},
          {{0x2001, 0xDB8, 0, 0, 0, 0, 0, 1}, "2001:db8::1"}
        ] do
      info = %{peer_data: %{address: address, port: 1, ssl_cert: nil}}
      assert PhoenixGenApi.put_client_ip(socket, info).assigns == %{a: 1, ip_address: text}
    end

    for info <- [%{}, %{peer_data: %{address: {:local, "/tmp/s"}}}, %{peer_data: nil}, nil] do
      assert PhoenixGenApi.put_client_ip(socket, info) == socket
    end
  end
end
