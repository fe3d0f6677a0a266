# Broadcasts of Phoenix, where it is installed.
if Code.ensure_loaded?(Phoenix.PubSub) and Code.ensure_loaded?(Phoenix.Channel.Server) do
  defmodule Bench.PubSub do
    @moduledoc "Topics whose subscribers get finished frames, as those of Phoenix's channels do."

    @doc "One for each of the options of `Phoenix.PubSub`; their supervisor."
    def start(options) do
      children =
        for one <- options, do: Supervisor.child_spec({Phoenix.PubSub, one}, id: one[:name])

      {:ok, pid} = Supervisor.start_link(children, strategy: :one_for_one)
      pid
    end

    @doc "What a channel does that is joined; frames go to the transport."
    def subscribe(name, topic, transport, serializer) do
      fastlane = {:fastlane, transport, serializer, []}
      :ok = Phoenix.PubSub.subscribe(name, topic, metadata: fastlane)
    end

    @doc "What `broadcast/3` of an endpoint calls."
    def broadcast(name, topic, event, payload),
      do: :ok = Phoenix.Channel.Server.broadcast(name, topic, event, payload)

    @doc "What a channel has in its hands while it is joined."
    def socket(topic, transport, serializer),
      do: %Phoenix.Socket{topic: topic, transport_pid: transport, serializer: serializer}
  end
end
