defmodule PhoenixGenApi.Relay.Shard.CommandTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{Gateway, Native}
  alias PhoenixGenApi.Relay.Shard.Command

  test "a group is there by a creation only if it is that one" do
    relay = Gateway.handle!(:relay)
    id = "decision-#{System.unique_integer([:positive])}"
    creation = fn created -> {:create, id, :public, "root", created} end
    exists = {:error, :already_exists}
    refute Command.already_done?(relay, creation.({5, 7}), exists)
    assert {:ok, [_put]} = Command.execute(relay, creation.({5, 7}))
    assert Command.execute(relay, creation.({5, 7})) == {exists, []}
    assert Command.already_done?(relay, creation.({5, 7}), exists)
    refute Command.already_done?(relay, creation.({5, 8}), exists)
    refute Command.already_done?(relay, creation.({5, 7}), {:error, :too_many_groups})
    Native.relay_decide_delete(relay, id)
  end

  test "a change that was refused for another reason has not been made" do
    relay = Gateway.handle!(:relay)

    for verb <- [:accept, :mute, :unmute, :kick, :ban, :unban, :promote, :demote],
        reason <- [:not_admin, :not_found],
        do:
          refute(
            Command.already_done?(relay, {:change, "g", verb, "root", "ann"}, {:error, reason})
          )

    refute Command.already_done?(relay, {:leave, "g", "ann"}, {:error, :not_found})
    refute Command.already_done?(relay, {:join, "g", "ann"}, {:error, :banned})
    refute Command.already_done?(relay, {:join, "g", "ann"}, {:ok, :active})
  end
end
