defmodule Bench.Channel do
  @moduledoc false
  # The same answer, given by the channel itself and through the library.
  use Phoenix.Channel
  use PhoenixGenApi, event: "api"

  alias PhoenixGenApi.Channel.{Identity, Options}
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Executor.Client
  alias PhoenixGenApi.Structs.{Request, Response}

  @options Options.new!(event: "api")

  @impl true
  def join(_topic, _params, socket), do: {:ok, socket}

  @impl true
  def handle_in("direct", request, socket) do
    %{"request_id" => id, "args" => %{"item" => item, "quantity" => quantity}} = request
    {:reply, {:ok, Response.sync_response(id, Bench.Work.quote(item, quantity))}, socket}
  end

  # The floor: the library's pipeline, identity included, in the channel's own process, which no timeout
  # and no cancel could end.
  def handle_in("floor", payload, socket) do
    identity = Identity.of(socket.assigns)

    {:ok, request} =
      payload |> Identity.without_claims(socket.assigns, @options) |> Request.decode()

    client = %Client{
      receiver: self(),
      device: :claimed,
      json_library: Phoenix.json_library(),
      claim: fn _answer, response, _bytes ->
        Process.put(:floor, response)
        :ok
      end,
      inline: %{watchdog: nil, request: nil, begins: fn -> :ok end}
    }

    :over = request |> Identity.put(identity, @options) |> Executor.execute_for_client(client)
    {:reply, {:ok, Process.get(:floor)}, socket}
  end

  def handle_in("direct_remote", request, socket) do
    %{"request_id" => id, "args" => %{"item" => item, "quantity" => quantity}} = request
    node = :persistent_term.get(:bench_service)
    result = :erpc.call(node, Bench.Work, :quote, [item, quantity], 5_000)
    {:reply, {:ok, Response.sync_response(id, result)}, socket}
  end
end

defmodule Bench.PlainChannel do
  @moduledoc false
  # The same channel without the library.
  use Phoenix.Channel

  @impl true
  def join(_topic, _params, socket), do: {:ok, socket}

  @impl true
  defdelegate handle_in(event, request, socket), to: Bench.Channel
end

defmodule Bench.Rooms do
  @moduledoc false
  # Sends a message to everybody in a room; the frames of all ways hold the same.

  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Structs.Request

  # The relay's fastlane, and the relay through the channels.
  @ways ["fast", "through"]

  def join(way, socket) do
    user = "user-#{System.unique_integer([:positive])}"
    {:ok, :active} = Relay.join_group(way, user, self(), create: :public)
    {:ok, socket}
  end

  def say(way, text) when way in @ways do
    {:ok, %{owner: sender}} = :persistent_term.get({__MODULE__, way})
    args = %{"group_id" => way, "message" => text}
    request = %Request{request_id: "r1", user_id: sender, args: args}
    %{success: true} = Relay.handle_relay(request, nil)
  end

  # The payload that the relay makes of a message.
  def say(topic, text) do
    payload = %{
      async: false,
      can_retry: false,
      error: nil,
      has_more: false,
      request_id: "r1",
      result: %{
        "from_user_id" => "user-1",
        "group_id" => topic,
        "message" => text,
        "timestamp" => "2026-01-01T00:00:00.000000Z"
      },
      success: true
    }

    Bench.Endpoint.broadcast("#{topic}:1", "api", payload)
  end
end

defmodule Bench.FastRoom do
  @moduledoc false
  use Phoenix.Channel
  use PhoenixGenApi, event: "api"

  @impl true
  def join(_topic, _params, socket), do: Bench.Rooms.join("fast", socket)
end

defmodule Bench.ThroughRoom do
  @moduledoc false
  use Phoenix.Channel
  use PhoenixGenApi, event: "api", relay: :channel

  @impl true
  def join(_topic, _params, socket), do: Bench.Rooms.join("through", socket)
end

defmodule Bench.Socket do
  @moduledoc false
  use Phoenix.Socket

  channel "api:*", Bench.Channel
  channel "plain:*", Bench.PlainChannel
  channel "fast:*", Bench.FastRoom
  channel "through:*", Bench.ThroughRoom

  @impl true
  def connect(_params, socket), do: {:ok, assign(socket, :user_id, "bench")}

  @impl true
  def id(_socket), do: nil
end

defmodule Bench.Endpoint do
  @moduledoc false
  use Phoenix.Endpoint, otp_app: :gateway

  # Opening thousands of sockets takes longer than the minute after which Phoenix closes a silent one.
  socket "/bench", Bench.Socket, websocket: [timeout: :infinity]
end
