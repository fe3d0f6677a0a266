defmodule Demo.ChatChannel do
  # What an application has to write for rooms: who joins the channel is in the room.
  @moduledoc false
  use Phoenix.Channel
  use PhoenixGenApi, event: "chat", relay: :fastlane

  alias PhoenixGenApi.{ConfigDb, Relay}
  alias PhoenixGenApi.Structs.FunConfig

  def join("chat:" <> room, %{"open" => true}, socket) do
    # Where only an admin lets people in, and takes the right to speak.
    :ok = Relay.create_group(room, :strict_private, socket.assigns.user_id, self())
    {:ok, %{status: :active}, socket}
  end

  def join("chat:" <> room, _params, socket) do
    {:ok, status} = Relay.join_group(room, socket.assigns.user_id, self())
    {:ok, %{status: status}, socket}
  end

  @doc "The function that members call to say something; on each gateway."
  def add_function do
    ConfigDb.add(%FunConfig{
      service: "chat",
      request_type: "say",
      nodes: :local,
      mfa: {Relay, :handle_relay, []},
      arg_types: [{"group_id", :string}, {"message", :string}],
      check_permission: :any_authenticated
    })
  end
end
