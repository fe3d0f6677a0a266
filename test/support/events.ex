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
end
