defmodule PhoenixGenApi.RelayChatTest do
  # The relay chat of the acceptance script, over channels and through the pipeline.
  use PhoenixGenApi.ChannelCase, async: true

  import ExUnit.CaptureLog

  alias PhoenixGenApi.{Await, Gateway, Native}
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Structs.Request

  defmodule Joining do
    def join("chat:" <> room, _params, socket) do
      case Relay.join_group(room, socket.assigns.user_id, self()) do
        {:ok, status} -> {:ok, %{status: status}, socket}
        {:error, reason} -> {:error, %{reason: to_string(reason)}}
      end
    end
  end

  defmodule ChatChannel do
    use Phoenix.Channel
    use PhoenixGenApi, event: "chat", relay: :channel
    defdelegate join(topic, params, socket), to: Joining
  end

  defmodule AutoChannel do
    use Phoenix.Channel
    use PhoenixGenApi, event: "chat"
    def join(topic, params, socket), do: Joining.join(topic, params, socket)
  end

  defmodule OwnChannel do
    use Phoenix.Channel
    use PhoenixGenApi, event: "chat"
    def join(topic, params, socket), do: Joining.join(topic, params, socket)

    def handle_info({:relay_message, response}, socket) do
      push(socket, "mine", response)
      {:noreply, socket}
    end
  end

  defmodule FastChannel do
    use Phoenix.Channel
    use PhoenixGenApi, event: "chat", relay: :fastlane
    def join(topic, params, socket), do: Joining.join(topic, params, socket)
  end

  defmodule ApartChannel do
    use Phoenix.Channel
    use PhoenixGenApi, event: "chat", relay_event: "message", relay_request_id: false
    defdelegate join(topic, params, socket), to: Joining
  end

  defmodule FastApartChannel do
    use Phoenix.Channel
    use PhoenixGenApi, event: "chat", relay_event: "message", relay: :fastlane
    def join(topic, params, socket), do: Joining.join(topic, params, socket)
  end

  defmodule FastUnidentifiedChannel do
    use Phoenix.Channel
    use PhoenixGenApi, event: "chat", relay_request_id: false, relay: :fastlane
    def join(topic, params, socket), do: Joining.join(topic, params, socket)
  end

  defmodule FeedChannel do
    use Phoenix.Channel
    use PhoenixGenApi.ChannelHelpers, event: "feed", relay: :fastlane
    def join(topic, params, socket), do: Joining.join(topic, params, socket)
  end

  defmodule Fastlane do
    # As Phoenix's own serializers: a frame for the transport, in pieces.
    def encode!(message), do: PhoenixGenApi.ChannelCase.Serializer.encode!(message)

    def fastlane!(%Phoenix.Socket.Broadcast{} = broadcast) do
      data =
        JSON.encode_to_iodata!([nil, nil, broadcast.topic, broadcast.event, broadcast.payload])

      {:socket_push, :text, data}
    end
  end

  defmodule Refusing do
    # Writes no messages, but errors in their place.
    defdelegate encode!(message), to: Fastlane
    def fastlane!(%{payload: %{success: false}} = broadcast), do: Fastlane.fastlane!(broadcast)
  end

  defmodule Broken do
    defdelegate encode!(message), to: Fastlane
    def fastlane!(_broadcast), do: throw(:nothing)
  end

  setup %{service: service} do
    :ok =
      ConfigDb.add(%FunConfig{
        service: service,
        request_type: "say",
        nodes: :local,
        mfa: {Relay, :handle_relay, []},
        arg_types: %{"group_id" => :string, "message" => :string},
        arg_orders: ["group_id", "message"],
        check_permission: :any_authenticated
      })

    unique = System.unique_integer([:positive])
    {lobby, vault} = {"lobby-#{unique}", "vault-#{unique}"}
    test = self()

    root =
      spawn(fn ->
        :ok = Relay.create_group(lobby, :public, "root", self())
        :ok = Relay.create_group(vault, :strict_private, "root", self())
        send(test, :created)
        listen(test)
      end)

    assert_receive :created
    on_exit(fn -> Process.exit(root, :kill) end)
    %{lobby: lobby, vault: vault, root: root}
  end

  defp listen(test) do
    receive do
      {:relay_message, response} -> send(test, {:root, response.result["message"]})
    end

    listen(test)
  end

  # A socket of that user, whose transport tells the test {user, what it is sent}.
  defp connect(
         user,
         room,
         channel \\ ChatChannel,
         serializer \\ PhoenixGenApi.ChannelCase.Serializer
       ) do
    test = self()
    transport = spawn(fn -> forward(test, user) end)
    pid = join(channel, %{user_id: user}, serializer)

    socket = %Phoenix.Socket{
      assigns: %{user_id: user},
      channel: channel,
      topic: "chat:" <> room,
      serializer: serializer,
      transport_pid: transport,
      joined: true
    }

    :sys.replace_state(pid, fn _state -> %{socket | channel_pid: pid} end)
    on_exit(fn -> Process.exit(transport, :kill) end)
    {pid, in_channel(pid, fn -> channel.join(socket.topic, %{}, socket) end)}
  end

  defp forward(test, user) do
    receive do
      message -> send(test, {user, message})
    end

    forward(test, user)
  end

  defp say(channel, service, group, message) do
    args = %{"group_id" => group, "message" => message}
    ref = push_in(channel, payload(service, "say", "r1", %{"args" => args}), "chat")
    assert_receive {_user, {:reply, ^ref, _status, response}}
    response
  end

  defp status({_pid, {:ok, %{status: status}, _socket}}), do: status

  test "C1 to C3: members of a public group hear each other, on every socket once", context do
    %{service: service, lobby: lobby} = context
    {ann, _} = joined = connect("ann", lobby)
    {bob, _} = connect("bob", lobby)
    assert status(joined) == :active

    response = say(ann, service, lobby, "hi")
    assert response.result == %{"status" => "relayed", "recipients_count" => 3}
    assert_receive {:root, "hi"}

    for user <- ["ann", "bob"] do
      assert_receive {^user, {:push, "chat", %Response{request_id: "r1", result: result}}}
      assert %{"group_id" => ^lobby, "from_user_id" => "ann", "message" => "hi"} = result
      assert String.ends_with?(result["timestamp"], "Z")
    end

    assert status(connect("ann", lobby)) == :active
    assert say(bob, service, lobby, "yo").result["recipients_count"] == 3

    for _socket <- 1..2,
        do: assert_receive({"ann", {:push, "chat", %{result: %{"message" => "yo"}}}})

    assert_receive {"bob", {:push, "chat", _yo}}
    refute_receive {_user, {:push, _event, _payload}}, 50
  end

  test "C4 to C7: pending hear nothing, muted hear and cannot speak, also when they come back",
       context do
    %{service: service, vault: vault} = context
    {bob, _} = joined = connect("bob", vault)
    assert status(joined) == :pending
    assert root_says(vault, "1") == 1
    assert_receive {:root, "1"}
    refute_received {"bob", {:push, _event, _payload}}
    pending = "Pending membership: wait for acceptance"
    assert %{success: false, error: ^pending, can_retry: false} = say(bob, service, vault, "x")

    assert Relay.accept_member(vault, "ann", "bob") == {:error, :user_not_in_group}
    assert Relay.accept_member(vault, "root", "bob") == :ok

    assert Relay.mute_member(vault, "root", "bob") == :ok
    muted = "You are muted and cannot send messages"
    assert %{success: false, error: ^muted} = say(bob, service, vault, "x")
    assert root_says(vault, "2") == 2
    assert_receive {"bob", {:push, "chat", %{result: %{"message" => "2"}}}}

    Process.exit(bob, :kill)

    Await.until(fn ->
      {:ok, info} = Relay.get_group_info(vault)
      not is_map_key(info.members, "bob")
    end)

    assert Relay.join_group(vault, "bob", self()) == {:ok, :muted}
  end

  defp root_says(group, message) do
    args = %{"group_id" => group, "message" => message}
    request = %Request{request_id: "r", user_id: "root", args: args}
    Relay.handle_relay(request, nil).result["recipients_count"]
  end

  test "C8: what a public group cannot, who is no member, what is no group", context do
    %{service: service, lobby: lobby, vault: vault} = context
    {_bob, _} = connect("bob", lobby)
    assert Relay.mute_member(lobby, "root", "bob") == {:error, :not_strict_private}
    {carl, _} = connect("carl", vault)
    assert say(carl, service, lobby, "x").error == "Not a member of this group"
    assert say(carl, service, "nowhere", "x").error == "Group not found"
  end

  test "C10: the end of the process that created groups takes its user, not the groups",
       context do
    %{root: root, lobby: lobby, vault: vault} = context
    Process.exit(root, :kill)

    for group <- [lobby, vault] do
      Await.until(fn ->
        match?({:ok, %{members: none}} when none == %{}, Relay.get_group_info(group))
      end)
    end
  end

  for {arg_types, arg_orders} <- [
        {%{"group_id" => :string, "message" => :string}, :map},
        {[{"group_id", :string}, {"message", :map}], nil},
        {[{"message", :integer}, {"group_id", :string}], nil}
      ] do
    test "the function config may say #{inspect(arg_types)}, #{inspect(arg_orders)}", context do
      %{service: service, lobby: lobby} = context

      :ok =
        ConfigDb.add(%FunConfig{
          service: service,
          request_type: "say",
          nodes: :local,
          mfa: {Relay, :handle_relay, []},
          arg_types: unquote(Macro.escape(arg_types)),
          arg_orders: unquote(arg_orders)
        })

      {ann, _} = connect("ann", lobby)
      message = message(unquote(inspect(arg_types)))
      assert say(ann, service, lobby, message).result["recipients_count"] == 2
      assert_receive {:root, ^message}
      assert say(ann, service, lobby, self()).error == "argument validation failed"
    end
  end

  defp message(types) do
    cond do
      types =~ ":map" -> %{"text" => "hi"}
      types =~ ":integer" -> 7
      true -> "hi"
    end
  end

  describe "messages on an event of their own" do
    test "are told from results, and carry the id of nobody else's request", context do
      %{service: service, lobby: lobby} = context
      {ann, _} = connect("ann", lobby, ApartChannel)
      {_bob, _} = connect("bob", lobby, ApartChannel)
      assert say(ann, service, lobby, "hi").result["recipients_count"] == 3
      assert_receive {"ann", {:push, "message", %Response{request_id: "r1", result: mine}}}
      assert_receive {"bob", {:push, "message", %Response{request_id: nil, result: theirs}}}
      assert mine == theirs and mine["message"] == "hi"
    end

    test "come through the fastlane, or not with ids of their own for each", context do
      %{service: service, lobby: lobby} = context
      {ann, _} = connect("ann", lobby, FastApartChannel, Fastlane)
      {_bob, _} = connect("bob", lobby, FastUnidentifiedChannel, Fastlane)
      assert say(ann, service, lobby, "hi").result["recipients_count"] == 3
      assert_receive {"ann", {:socket_push, :text, frame}}
      assert [nil, nil, _topic, "message", %{"request_id" => "r1"}] = JSON.decode!(frame)
      assert_receive {"bob", {:push, "chat", %Response{request_id: nil}}}
    end

    test "pushed results of requests stay on the event of requests", context do
      {ann, _} = connect("ann", context.lobby, ApartChannel)

      for tag <- [:push, :async_call, :stream_response] do
        send(ann, {tag, Response.sync_response("r1", tag)})
        assert_receive {"ann", {:push, "chat", %Response{request_id: "r1", result: ^tag}}}
      end
    end
  end

  describe "with the fastlane" do
    test "a finished frame goes straight to the transport, the same for all", context do
      %{service: service, lobby: lobby} = context
      {ann, joined} = connect("ann", lobby, FastChannel, Fastlane)
      assert {:ok, %{status: :active}, _socket} = joined
      {_bob, _} = connect("bob", lobby, FastChannel, Fastlane)
      {_carl, _} = connect("carl", lobby, ChatChannel, Fastlane)
      {_dora, _} = connect("dora", lobby, FeedChannel, Fastlane)
      assert say(ann, service, lobby, "hi").result["recipients_count"] == 5

      for {user, event} <- [{"ann", "chat"}, {"bob", "chat"}, {"dora", "feed"}] do
        assert_receive {^user, {:socket_push, :text, frame}}
        assert is_binary(frame)
        assert [nil, nil, "chat:" <> ^lobby, ^event, payload] = JSON.decode!(frame)
        assert %{"request_id" => "r1", "success" => true, "result" => result} = payload
        assert %{"from_user_id" => "ann", "message" => "hi"} = result
      end

      assert_receive {"carl", {:push, "chat", %Response{result: %{"message" => "hi"}}}}
      assert_receive {:root, "hi"}
      refute_receive {_user, {:socket_push, _kind, _data}}, 50
    end

    test "the end of the channel ends the membership", %{lobby: lobby} do
      {ann, _} = connect("ann", lobby, FastChannel, Fastlane)
      Process.exit(ann, :kill)

      Await.until(fn ->
        {:ok, info} = Relay.get_group_info(lobby)
        not is_map_key(info.members, "ann")
      end)
    end

    test "is what a channel without a clause of its own for relay messages gets", context do
      %{service: service, lobby: lobby} = context
      {ann, _} = connect("ann", lobby, AutoChannel, Fastlane)
      {_bob, _} = connect("bob", lobby, OwnChannel, Fastlane)
      assert say(ann, service, lobby, "hi").result["recipients_count"] == 3
      assert_receive {"ann", {:socket_push, :text, frame}}
      assert [nil, nil, _topic, "chat", %{"request_id" => "r1"}] = JSON.decode!(frame)
      assert_receive {"bob", {:push, "mine", %Response{result: %{"message" => "hi"}}}}
    end

    test "a group that is joined outside of join/3 goes through the channel", context do
      %{lobby: lobby} = context
      {ann, _} = connect("ann", lobby, AutoChannel, Fastlane)
      later = lobby <> "-later"
      :ok = Relay.ensure_group(later, :public)
      {:ok, :active} = in_channel(ann, fn -> Relay.join_group(later, "ann", self()) end)
      assert Relay.send_to_group(later, "root", "by the channel") == {:ok, 1}
      assert_receive {"ann", {:push, "chat", %Response{result: %{"message" => message}}}}
      assert message == "by the channel"
      assert Relay.send_to_group(lobby, "root", "past it") == {:ok, 2}
      assert_receive {"ann", {:socket_push, :text, frame}}
      assert %{"result" => %{"message" => "past it"}} = JSON.decode!(frame) |> List.last()
    end

    test "a message that is no JSON is refused, and nobody gets anything", context do
      {_ann, _} = connect("ann", context.lobby, FastChannel, Fastlane)
      refused = {:error, :invalid_message}
      assert Relay.send_to_group(context.lobby, "root", self()) == refused
      assert Relay.send_to_group(context.lobby, "root", %{"a" => [{:tuple}]}) == refused
      assert Relay.send_to_group(context.lobby, "root", "last") == {:ok, 2}
      assert_receive {"ann", {:socket_push, :text, frame}}
      assert %{"result" => %{"message" => "last"}} = JSON.decode!(frame) |> List.last()
      assert_receive {:root, "last"}
    end

    test "whoever comes with a topic too many gets messages through the channel", context do
      %{service: service, lobby: lobby, root: root} = context
      relay = Gateway.handle!(:relay)

      for n <- 1..64 do
        lane = PhoenixGenApi.Relay.Fastlane.lane(Fastlane, "own:#{n}", "chat", JSON)
        {:ok, :active} = Native.relay_join(relay, lobby, "user-#{n}", {root, root, lane}, 1)
      end

      {ann, _} = connect("ann", lobby, FastChannel, Fastlane)
      assert say(ann, service, lobby, "hi").result["recipients_count"] == 66
      assert_receive {"ann", {:push, "chat", %Response{result: %{"message" => "hi"}}}}
      refute_receive {"ann", {:socket_push, _kind, _data}}, 50
    end

    test "a serializer that fails takes the message from its own clients only", context do
      %{service: service, lobby: lobby} = context
      {ann, _} = connect("ann", lobby, FastChannel, Fastlane)
      {_bob, _} = connect("bob", lobby, FastChannel, Refusing)
      {_carl, _} = connect("carl", lobby, FeedChannel, Broken)

      log =
        capture_log(fn ->
          assert say(ann, service, lobby, "hi").result["recipients_count"] == 4
        end)

      assert log =~ "Refusing.fastlane!" and log =~ "Broken.fastlane!"
      assert_receive {:root, "hi"}
      assert_receive {"ann", {:socket_push, :text, frame}}
      assert %{"success" => true} = JSON.decode!(frame) |> List.last()
      assert_receive {"bob", {:socket_push, :text, frame}}
      assert %{"error" => "Internal Server Error"} = JSON.decode!(frame) |> List.last()
      refute_received {"carl", {:socket_push, _kind, _data}}
    end
  end
end
