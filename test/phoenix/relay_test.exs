defmodule PhoenixGenApi.Phoenix.RelayTest do
  # The chat of the acceptance script over real sockets.
  use ExUnit.Case, async: false

  import PhoenixGenApi.SocketClient, only: [join: 3, push: 4]

  alias PhoenixGenApi.{Await, ConfigDb, PhoenixGateway, Relay, SocketClient}
  alias PhoenixGenApi.Structs.FunConfig

  @moduletag :phoenix
  @moduletag :capture_log

  for server <- ["Bandit", "Cowboy"], library <- [JSON, Jason] do
    @tag server: server, json_library: library
    test "C1 to C8, with #{server} and #{inspect(library)}", context do
      case PhoenixGateway.start(context) do
        {:ok, port} -> chat(port)
        :not_installed -> :ok
      end
    end
  end

  defp chat(port) do
    number = System.unique_integer([:positive])
    {lobby, vault} = {"lobby-#{number}", "vault-#{number}"}

    :ok =
      ConfigDb.add(%FunConfig{
        service: "chat",
        request_type: "say",
        nodes: :local,
        mfa: {Relay, :handle_relay, []},
        arg_types: %{"group_id" => :string, "message" => :string},
        arg_orders: ["group_id", "message"],
        check_permission: :any_authenticated
      })

    on_exit(fn ->
      ConfigDb.delete("chat", "say")
      Enum.each([lobby, vault], &Relay.delete_group/1)
    end)

    :ok = Relay.create_group(lobby, :public, "root", self())
    :ok = Relay.create_group(vault, :strict_private, "root", self())
    active = %{"status" => "active"}

    # C1
    {ann, ^active} = join(port, "ann", "chat:" <> lobby)
    {bob, ^active} = join(port, "bob", "chat:" <> lobby)

    # C2
    relayed = {"ok", %{"status" => "relayed", "recipients_count" => 3}}
    assert say(ann, lobby, lobby, "hi") == relayed
    for client <- [ann, bob], do: assert(%{"from_user_id" => "ann"} = heard(client, "hi", lobby))

    # C3
    {again, ^active} = join(port, "ann", "chat:" <> lobby)
    assert say(bob, lobby, lobby, "yo") == relayed

    for client <- [ann, again, bob] do
      assert %{"from_user_id" => "bob"} = heard(client, "yo", lobby)
    end

    # C4
    {outsider, %{"status" => "pending"}} = join(port, "bob", "chat:" <> vault)
    assert {:ok, 1} = Relay.send_to_group(vault, "root", "not for bob")

    assert say(outsider, vault, vault, "let me in") ==
             {"error", "Pending membership: wait for acceptance"}

    # C5
    assert Relay.accept_member(vault, "ann", "bob") == {:error, :user_not_in_group}
    assert Relay.accept_member(vault, "root", "bob") == :ok

    # C6
    assert Relay.mute_member(vault, "root", "bob") == :ok
    muted = {"error", "You are muted and cannot send messages"}
    assert say(outsider, vault, vault, "hello?") == muted
    assert {:ok, 2} = Relay.send_to_group(vault, "root", "for bob")
    assert %{"from_user_id" => "root"} = heard(outsider, "for bob", vault)

    # C7
    SocketClient.close(outsider)

    Await.until(fn ->
      {:ok, %{members: members}} = Relay.get_group_info(vault)
      not Map.has_key?(members, "bob")
    end)

    {_back, %{"status" => "muted"}} = join(port, "bob", "chat:" <> vault)

    # C8
    assert Relay.mute_member(lobby, "root", "bob") == {:error, :not_strict_private}
    {carl, %{"status" => "pending"}} = join(port, "carl", "chat:" <> vault)
    assert say(carl, vault, lobby, "hi") == {"error", "Not a member of this group"}
    assert say(ann, lobby, "nowhere", "hi") == {"error", "Group not found"}

    # Nobody has got anything that was not looked at above.
    assert say(ann, lobby, lobby, "end") == relayed
    for client <- [ann, again, bob], do: heard(client, "end", lobby)
    refute_received {:push, _, _, _}
  end

  # The answer to what a client says, on its channel of one group, into a group.
  defp say(client, channel, group, message) do
    ref =
      push(client, "chat:" <> channel, "chat", %{
        "service" => "chat",
        "request_type" => "say",
        "request_id" => "say-#{message}",
        "args" => %{"group_id" => group, "message" => message}
      })

    assert_receive {:reply, ^ref, status, response}
    {status, response["error"] || response["result"]}
  end

  # The next message that this client gets.
  defp heard(%{id: id}, message, group) do
    assert_receive {:push, ^id, "chat", %{"result" => result}}
    assert %{"group_id" => ^group, "message" => ^message, "timestamp" => timestamp} = result
    assert String.ends_with?(timestamp, "Z")
    result
  end
end
