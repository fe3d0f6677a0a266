defmodule PhoenixGenApi.RelayTest do
  use ExUnit.Case, async: true

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.Await
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Structs.{Request, Response}

  setup do
    %{id: "relay-test-#{System.unique_integer([:positive])}"}
  end

  # A process that hands on to the test what it gets, as {name, message}.
  defp device(name) do
    test = self()
    pid = spawn(fn -> hand_on(test, name) end)
    on_exit(fn -> Process.exit(pid, :kill) end)
    pid
  end

  defp hand_on(test, name) do
    receive do
      message -> send(test, {name, message})
    end

    hand_on(test, name)
  end

  # As a process of an earlier node of this name would be: all but its last four bytes the same.
  defp of_an_earlier_node(pid) do
    bytes = :erlang.term_to_binary(pid)
    size = byte_size(bytes) - 4
    <<same::binary-size(size), creation::32>> = bytes
    :erlang.binary_to_term(<<same::binary, creation + 1::32>>)
  end

  test "a process of an earlier node of this name is no device", %{id: id} do
    old = of_an_earlier_node(self())
    assert node(old) == node()
    assert Relay.create_group(id, :public, "root", old) == {:error, :invalid_argument}
    :ok = Relay.create_group(id, :public, "root", self())
    assert Relay.join_group(id, "ann", old) == {:error, :invalid_argument}
    assert Relay.leave_group(id, "root", old) == {:error, :invalid_argument}
  end

  defp stop(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, _pid, _reason}
  end

  defp say(id, user, message) do
    args = %{"group_id" => id, "message" => message}
    Relay.handle_relay(%Request{request_id: "r1", user_id: user, args: args}, nil)
  end

  defp members(id) do
    {:ok, %{members: members}} = Relay.get_group_info(id)
    members |> Map.keys() |> Enum.sort()
  end

  describe "groups" do
    test "have a type, and a creator who is an active admin", %{id: id} do
      before = DateTime.utc_now() |> DateTime.truncate(:millisecond)
      assert Relay.create_group(id, :private, "root", self()) == :ok
      assert {:ok, info} = Relay.get_group_info(id)
      assert %{group_id: ^id, group_type: :private, members: %{"root" => root}} = info
      assert Map.keys(root) |> Enum.sort() == [:joined_at, :roles, :status]
      assert root.roles == MapSet.new([:admin])
      assert root.status == :active
      assert DateTime.compare(root.joined_at, before) in [:gt, :eq]
      assert root.joined_at.time_zone == "Etc/UTC"
    end

    test "exist once, until they are deleted", %{id: id} do
      assert Relay.create_group(id, :public, "root", self()) == :ok
      assert Relay.create_group(id, :private, "ann", self()) == {:error, :already_exists}
      assert Relay.delete_group(id) == :ok
      assert Relay.delete_group(id) == {:error, :not_found}
      assert Relay.get_group_info(id) == {:error, :not_found}
      assert Relay.join_group(id, "ann", self()) == {:error, :not_found}
      assert Relay.send_to_group(id, "root", "hi") == {:error, :not_found}
    end

    test "are ensured: created without members, once", %{id: id} do
      assert Relay.ensure_group(id, :public) == :ok
      assert {:ok, %{group_type: :public, members: none}} = Relay.get_group_info(id)
      assert none == %{}
      assert Relay.ensure_group(id, :public) == :ok
      assert Relay.ensure_group(id, :public, admins: ["root"]) == :ok
      assert Relay.ensure_group(id, :private, admins: ["root"]) == {:error, :already_exists}
      assert Relay.create_group(id, :public, "root", self()) == {:error, :already_exists}
      assert Relay.join_group(id, "root", self()) == {:ok, :active}
      assert Relay.kick_member(id, "root", "ann") == {:error, :not_admin}
      assert Relay.send_to_group(id, "system", "hi") == {:ok, 1}
      assert Relay.delete_group(id) == :ok
    end

    test "of other types are ensured with admins, who are that when they join", %{id: id} do
      for type <- [:private, :strict_private] do
        for admins <- [[], nil, "root", [1], [""], ["root" | "x"], List.duplicate("u", 101)],
            opts <- [[admins: admins]],
            do: assert(Relay.ensure_group(id, type, opts) == {:error, :invalid_argument})

        assert Relay.ensure_group(id, type) == {:error, :invalid_argument}
        assert Relay.ensure_group(id, type, admins: ["root", "ann", "root"]) == :ok
        assert members(id) == []
        assert Relay.join_group(id, "bob", device(:bob)) == {:ok, :pending}
        assert Relay.join_group(id, "ann", device(:ann)) == {:ok, :active}
        assert Relay.accept_member(id, "ann", "bob") == :ok
        assert Relay.demote_member(id, "ann", "ann") == :ok
        assert Relay.join_group(id, "root", device(:root)) == {:ok, :active}
        assert Relay.demote_member(id, "root", "root") == {:error, :last_admin}
        assert Relay.delete_group(id) == :ok
      end

      assert Relay.ensure_group(id, :open) == {:error, :invalid_group_type}
      assert Relay.ensure_group("", :public) == {:error, :invalid_argument}
      assert_raise ArgumentError, fn -> Relay.ensure_group(id, :public, admin: "root") end
    end

    test "are created by whoever joins first, if that is asked for", %{id: id} do
      assert Relay.join_group(id, "ann", device(:ann)) == {:error, :not_found}
      assert Relay.join_group(id, "ann", device(:ann), create: :public) == {:ok, :active}
      assert Relay.join_group(id, "bob", device(:bob), create: :private) == {:ok, :active}
      assert {:ok, %{group_type: :public, members: members}} = Relay.get_group_info(id)
      assert members["ann"].roles == MapSet.new([:admin])
      assert members["bob"].roles == MapSet.new([:member])

      assert Relay.join_group(id, "bob", self(), create: :open) == {:error, :invalid_group_type}
      assert Relay.join_group(id, "", self(), create: :public) == {:error, :invalid_argument}
      assert Relay.join_group(id, "bob", nil, create: :public) == {:error, :invalid_argument}
      assert_raise ArgumentError, fn -> Relay.join_group(id, "bob", self(), created: :public) end
    end

    test "that many want to create at once have one creator, and everybody is in", %{id: id} do
      joined =
        for(n <- 1..20, do: {"user-#{n}", device(n)})
        |> Task.async_stream(
          fn {user, device} -> Relay.join_group(id, user, device, create: :public) end,
          timeout: :infinity,
          max_concurrency: 20
        )
        |> Enum.map(&elem(&1, 1))

      assert Enum.uniq(joined) == [{:ok, :active}]
      {:ok, %{members: members}} = Relay.get_group_info(id)
      assert map_size(members) == 20
      assert Enum.count(members, fn {_, member} -> :admin in member.roles end) == 1
    end

    test "with more members than fit a page are listed whole", %{id: id} do
      :ok = Relay.create_group(id, :public, "root", self())
      for n <- 1..2_500, do: {:ok, :active} = Relay.join_group(id, "user-#{n}", self())
      assert length(members(id)) == 2_501
    end
  end

  test "wrong arguments are errors and nothing else", %{id: id} do
    :ok = Relay.create_group(id, :public, "root", self())
    long = String.duplicate("x", 1_025)

    for bad <- [nil, "", :atom, 1, <<255>>, long] do
      assert Relay.create_group(bad, :public, "root", self()) == {:error, :invalid_argument}
      assert Relay.create_group(id <> "b", :public, bad, self()) == {:error, :invalid_argument}
      assert Relay.join_group(bad, "ann", self()) == {:error, :invalid_argument}
      assert Relay.join_group(id, bad, self()) == {:error, :invalid_argument}
      assert Relay.leave_group(id, bad) == {:error, :invalid_argument}
      assert Relay.accept_member(id, "root", bad) == {:error, :invalid_argument}
      assert Relay.mute_member(id, bad, "ann") == {:error, :invalid_argument}
      assert Relay.get_group_info(bad) == {:error, :invalid_argument}
      assert Relay.list_groups_for_user(bad) == {:error, :invalid_argument}
      assert Relay.send_to_group(id, bad, "hi") == {:error, :invalid_argument}
    end

    assert Relay.join_group(id, "ann", :no_pid) == {:error, :invalid_argument}
    assert Relay.create_group(id <> "c", :open, "root", self()) == {:error, :invalid_group_type}
    assert Relay.create_group(id, :open, "root", self()) == {:error, :invalid_group_type}
  end

  describe "joining and leaving" do
    test "a pid joins once, a user with several pids keeps what he is", %{id: id} do
      :ok = Relay.create_group(id, :private, "root", self())
      {one, two} = {device(:one), device(:two)}
      assert Relay.join_group(id, "ann", one) == {:ok, :pending}
      assert Relay.join_group(id, "ann", one) == {:error, :already_member}
      assert Relay.join_group(id, "ann", two) == {:ok, :pending}
      assert {:ok, %{members: %{"ann" => before}}} = Relay.get_group_info(id)
      assert Relay.accept_member(id, "root", "ann") == :ok
      assert Relay.join_group(id, "ann", device(:three)) == {:ok, :active}
      assert {:ok, %{members: %{"ann" => ann}}} = Relay.get_group_info(id)
      assert ann == %{before | status: :active}
      assert {:ok, %{"ann" => %{devices: 3}}} = Relay.list_members(id)
      assert Relay.leave_group(id, "ann", one) == :ok
      assert Relay.leave_group(id, "ann", one) == {:error, :user_not_in_group}
      assert members(id) == ["ann", "root"]
      assert Relay.leave_group(id, "ann") == :ok
      assert Relay.leave_group(id, "ann") == {:error, :user_not_in_group}
      assert members(id) == ["root"]
    end

    test "the end of the last pid is a leave, also of the creator", %{id: id} do
      {root, ann} = {device(:root), device(:ann)}
      :ok = Relay.create_group(id, :public, "root", root)
      {:ok, :active} = Relay.join_group(id, "ann", ann)
      {:ok, :active} = Relay.join_group(id, "ann", device(:ann))
      stop(root)
      Await.until(fn -> members(id) == ["ann"] end)
      stop(ann)
      assert members(id) == ["ann"]
      assert Relay.list_groups_for_user("ann") |> elem(1) |> Enum.member?({id, :active})
    end

    test "a pid that has ended already leaves no member", %{id: id} do
      :ok = Relay.create_group(id, :public, "root", self())
      ann = device(:ann)
      stop(ann)
      assert Relay.join_group(id, "ann", ann) == {:ok, :active}
      Await.until(fn -> members(id) == ["root"] end)
    end

    test "kick, ban, promote and demote", %{id: id} do
      :ok = Relay.create_group(id, :public, "root", self())
      {:ok, :active} = Relay.join_group(id, "ann", device(:ann))
      assert Relay.kick_member(id, "ann", "root") == {:error, :not_admin}
      assert Relay.kick_member(id, "root", "root") == {:error, :cannot_kick}
      assert Relay.kick_member(id, "root", "ann") == :ok
      assert Relay.kick_member(id, "root", "ann") == {:error, :user_not_in_group}
      assert Relay.ban_member(id, "root", "root") == {:error, :cannot_ban}
      assert Relay.ban_member(id, "root", "ann") == :ok
      assert Relay.ban_member(id, "root", "ann") == {:error, :already_banned}
      assert Relay.join_group(id, "ann", self()) == {:error, :banned}
      assert Relay.unban_member(id, "root", "ann") == :ok
      assert Relay.unban_member(id, "root", "ann") == {:error, :not_banned}
      assert Relay.join_group(id, "ann", self()) == {:ok, :active}
      assert Relay.demote_member(id, "root", "ann") == {:error, :cannot_demote}
      assert Relay.demote_member(id, "root", "root") == {:error, :last_admin}
      assert Relay.promote_member(id, "root", "ann") == :ok
      assert Relay.promote_member(id, "root", "ann") == {:error, :already_admin}
      assert Relay.demote_member(id, "ann", "root") == :ok
      assert {:ok, %{members: members}} = Relay.get_group_info(id)
      assert members["ann"].roles == MapSet.new([:admin])
      assert members["root"].roles == MapSet.new([:member])
    end
  end

  describe "messages" do
    test "reach every pid of every member once, the sender's too", %{id: id} do
      :ok = Relay.create_group(id, :public, "root", device(:root))
      {:ok, :active} = Relay.join_group(id, "ann", device(:ann1))
      {:ok, :active} = Relay.join_group(id, "ann", device(:ann2))

      assert say(id, "ann", %{"text" => "hi"}) ==
               Response.sync_response("r1", %{
                 "status" => "relayed",
                 "recipients_count" => 2
               })

      for name <- [:root, :ann1, :ann2] do
        assert_receive {^name, {:relay_message, %Response{} = response}}
        assert %{request_id: "r1", success: true, async: false, error: nil} = response

        assert %{"group_id" => ^id, "from_user_id" => "ann", "message" => %{"text" => "hi"}} =
                 response.result

        assert map_size(response.result) == 4
        assert {:ok, _at, 0} = DateTime.from_iso8601(response.result["timestamp"])
        assert String.ends_with?(response.result["timestamp"], "Z")
        refute_received {^name, _second}
      end
    end

    test "of the server need no member, and count the same", %{id: id} do
      :ok = Relay.create_group(id, :strict_private, "root", device(:root))
      {:ok, :pending} = Relay.join_group(id, "pat", device(:pat))
      assert Relay.send_to_group(id, "system", "maintenance") == {:ok, 1}
      assert_receive {:root, {:relay_message, %{result: %{"from_user_id" => "system"}}}}
      refute_received {:pat, _message}
    end

    test "are refused with the texts of the documentation", %{id: id} do
      :ok = Relay.create_group(id, :strict_private, "root", device(:root))
      for user <- ["pat", "max"], do: Relay.join_group(id, user, device(user))
      :ok = Relay.accept_member(id, "root", "max")
      :ok = Relay.mute_member(id, "root", "max")

      for {group, user, text, code} <- [
            {"no such group", "ann", "Group not found", "group_not_found"},
            {id, "ann", "Not a member of this group", "not_a_member"},
            {id, nil, "Not a member of this group", "not_a_member"},
            {id, "pat", "Pending membership: wait for acceptance", "pending_member"},
            {id, "max", "You are muted and cannot send messages", "muted"}
          ] do
        assert say(group, user, "hi") == error(text, false, code: code)
      end

      group = %{"path" => "group_id", "rule" => "required"}
      message = %{"path" => "message", "rule" => "required"}
      type = %{"path" => "group_id", "rule" => "type", "expected" => "string"}

      for {args, details} <- [
            {nil, [group, message]},
            {%{}, [group, message]},
            {%{"group_id" => id}, [message]},
            {%{"message" => 1}, [group]},
            {%{"group_id" => 1, "message" => 1}, [type]},
            {%{"group_id" => "", "message" => 1},
             [%{"path" => "group_id", "rule" => "min_length", "limit" => 1}]},
            {%{"group_id" => <<255>>, "message" => 1},
             [%{"path" => "group_id", "rule" => "encoding"}]}
          ] do
        request = %Request{request_id: "r1", user_id: "root", args: args}

        assert Relay.handle_relay(request, nil) ==
                 error("argument validation failed", false, details: details)
      end

      refute_received {_anybody, _message}
    end

    test "may be nil or false, and too large ones are refused", %{id: id} do
      :ok = Relay.create_group(id, :public, "root", device(:root))
      assert say(id, "root", nil).success
      assert_receive {:root, {:relay_message, %{result: %{"message" => nil}}}}
      large = String.duplicate("x", 1_000_001)
      assert say(id, "root", large).error == "Message too large"
      assert Relay.send_to_group(id, "root", large) == {:error, :message_too_large}
    end

    test "of one sender arrive in order, whatever processes send them", %{id: id} do
      :ok = Relay.create_group(id, :public, "root", self())
      for n <- 1..3_000, do: Relay.join_group(id, "user-#{n}", self())
      ann = device(:ann)
      {:ok, :active} = Relay.join_group(id, "ann", ann)

      for n <- 1..50, do: Task.await(Task.async(fn -> say(id, "ann", n) end), 60_000)

      for n <- 1..50 do
        assert_receive {:ann, {:relay_message, %{result: %{"message" => got}}}}
        assert got == n
      end
    end
  end

  test "status counts what is there" do
    id = "relay-status-#{System.unique_integer([:positive])}"
    :ok = Relay.create_group(id, :public, "root", self())
    status = Relay.status()
    assert %{groups: g, members: m, local_pids: p, gateways: 1, memory_bytes: b} = status
    assert g >= 1 and m >= 1 and p >= 1 and b > 0
  end
end
