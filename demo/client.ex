defmodule Demo.Client do
  # A client and its channel: JSON text goes in, JSON text comes out, as over a WebSocket.
  # The process that connects receives the frames; the channel is a process of its own.
  @moduledoc false

  defmodule Serializer do
    # Phoenix hands replies and pushes to the serializer of the socket.
    @moduledoc false

    def encode!(%{status: status, ref: ref, payload: payload}),
      do: {Demo.Client, ref, status, JSON.encode!(payload)}

    def encode!(%{event: _event, payload: payload}),
      do: {Demo.Client, nil, :push, JSON.encode!(payload)}

    def fastlane!(broadcast), do: encode!(broadcast)
  end

  @join_ref "1"

  @doc "Joins with what the application's `connect/3` knows of the client."
  def connect(assigns), do: connect(assigns, Demo.ApiChannel, "api:" <> assigns.user_id, %{})

  @doc "Joins a channel. What its `join/3` replies, if it does, is the first frame."
  def connect(assigns, channel, topic, params) do
    transport = self()

    spawn_link(fn ->
      socket = %Phoenix.Socket{
        assigns: assigns,
        channel: channel,
        channel_pid: self(),
        join_ref: @join_ref,
        joined: true,
        ref: @join_ref,
        serializer: Serializer,
        topic: topic,
        transport_pid: transport
      }

      topic |> channel.join(params, socket) |> joined(socket)
    end)
  end

  @doc "Sends a message; the reply carries `ref`."
  def send(channel, ref, json) do
    Kernel.send(channel, {__MODULE__, ref, json})
    :ok
  end

  @doc "The channel reads no more messages, as one that is busy with something else."
  def stall(channel), do: Kernel.send(channel, {__MODULE__, :stall})

  @doc "The channel reads on."
  def resume(channel), do: Kernel.send(channel, {__MODULE__, :resume})

  @doc "The next frame: `{kind, json}` with the kind `:ok`, `:error` or `:push`."
  def receive_frame(timeout) do
    receive do
      {__MODULE__, _ref, kind, json} -> {kind, json}
    after
      timeout -> :nothing
    end
  end

  @doc "Sends and waits for the reply."
  def call(channel, ref, json) do
    __MODULE__.send(channel, ref, json)

    receive do
      {__MODULE__, ^ref, kind, reply} -> {kind, reply}
    after
      5_000 -> :nothing
    end
  end

  @doc "A JSON object with its members in the order given."
  def object(members) do
    "{" <>
      Enum.map_join(members, ",", fn {key, value} ->
        JSON.encode!(to_string(key)) <> ":" <> JSON.encode!(value)
      end) <> "}"
  end

  defp joined({:ok, socket}, _before), do: serve(socket)
  defp joined({:ok, reply, socket}, before), do: handled({:reply, {:ok, reply}, socket}, before)

  defp serve(socket) do
    receive do
      {__MODULE__, :stall} ->
        receive do: ({__MODULE__, :resume} -> serve(socket))

      {__MODULE__, ref, json} ->
        socket = %{socket | ref: ref}
        [event, _rest] = String.split(socket.topic, ":")
        socket.channel.handle_in(event, JSON.decode!(json), socket) |> handled(socket)

      message ->
        socket.channel.handle_info(message, socket) |> handled(socket)
    end
  end

  defp handled({:noreply, socket}, _before), do: serve(socket)

  defp handled({:reply, reply, socket}, before) do
    Phoenix.Channel.reply(Phoenix.Channel.socket_ref(before), reply)
    serve(socket)
  end
end
