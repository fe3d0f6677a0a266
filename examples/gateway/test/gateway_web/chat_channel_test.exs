defmodule GatewayWeb.ChatChannelTest do
  use ExUnit.Case, async: true
  import Phoenix.ChannelTest

  alias PhoenixGenApi.Structs.Response

  @endpoint GatewayWeb.Endpoint

  defp enter(user, topic) do
    {:ok, socket} = connect(GatewayWeb.UserSocket, %{"user" => user})
    subscribe_and_join(socket, topic)
  end

  defp say(message, group) do
    %{
      "service" => "chat",
      "request_type" => "say",
      "request_id" => "r1",
      "args" => %{"group_id" => group, "message" => message}
    }
  end

  test "everybody in the room gets what one says" do
    {:ok, %{status: :active}, ann} = enter("ann", "chat:lobby")
    {:ok, %{status: :active}, _bob} = enter("bob", "chat:lobby")

    ref = push(ann, "chat", say("hi", "lobby"))
    assert_reply ref, :ok, %Response{result: %{"status" => "relayed", "recipients_count" => 2}}

    for _ <- ["ann", "bob"] do
      assert_push "message", %Response{result: %{"from_user_id" => "ann", "message" => "hi"}}
    end

    refute_push "message", _more, 10
  end

  test "there is no other room" do
    assert {:error, %{reason: :not_found}} = enter("ann", "chat:nowhere")
  end
end
