defmodule PhoenixGenApi.Test.Events do
  # Events of telemetry as messages to a test, until it ends.

  alias PhoenixGenApi.Telemetry

  @doc "Has what `tell` makes of each event, its measurements and metadata sent to the test."
  def forward(events, tell) when is_function(tell, 3) do
    parent = self()
    id = make_ref()
    handler = fn event, m, meta, _config -> send(parent, tell.(event, m, meta)) end
    :ok = Telemetry.attach_many(id, events, handler)
    ExUnit.Callbacks.on_exit(fn -> Telemetry.detach_all(id) end)
  end

  @doc "Has `{:dropped, count, reason}` sent to the test for messages to a group that are dropped."
  def forward_drops(group) do
    forward([[:phoenix_gen_api, :relay, :drop]], fn _event, %{count: count}, meta ->
      if meta.group_id == group, do: {:dropped, count, meta.reason}, else: :dropped_elsewhere
    end)
  end

  @doc "How many messages were dropped for slow consumers, of those that the test has been told by now."
  def dropped(count \\ 0) do
    receive do
      {:dropped, more, :slow_consumer} -> dropped(count + more)
    after
      0 -> count
    end
  end
end
