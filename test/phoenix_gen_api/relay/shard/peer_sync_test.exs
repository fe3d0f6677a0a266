defmodule PhoenixGenApi.Relay.Shard.PeerSyncTest do
  use ExUnit.Case, async: false

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.Shard.{PeerSync, State}

  test "of the gateways that were lost those are remembered that started last" do
    lost = for n <- 1..300, into: %{}, do: {:"gone-#{n}@127.0.0.1", {n, :"gone-#{n}@127.0.0.1"}}
    relay = Native.relay_new({1, 1, 1, 1, 0})
    state = %State{number: 0, relay: relay, life: make_ref(), lost: lost}

    state = State.add_peer(state, :"last@127.0.0.1", 1)
    outbox = state.peers[:"last@127.0.0.1"].outbox
    monitor = Process.monitor(outbox)
    boot = {301, :"last@127.0.0.1"}
    state = put_in(state.peers[:"last@127.0.0.1"].boot, boot)

    state = PeerSync.remove_peer(state, :"last@127.0.0.1")
    assert map_size(state.lost) == 256
    assert state.lost[:"last@127.0.0.1"] == boot
    assert is_map_key(state.lost, :"gone-300@127.0.0.1")
    refute is_map_key(state.lost, :"gone-1@127.0.0.1")
    # Nothing is left of what was to be sent to it.
    assert_receive {:DOWN, ^monitor, :process, ^outbox, :killed}
  end
end
