defmodule PhoenixGenApi.Relay.Fastlane do
  @moduledoc false
  # How messages get to a device. A lane is the form in which they do, as bytes that the native
  # side keeps per group: none for the channel process itself, which gets the response; for a
  # transport the serializer, topic and event that make a frame of it, and the library that has
  # to be able to. All devices of a lane get the same binary, made once.
  @compile {:no_warn_undefined, Phoenix.Socket.Broadcast}

  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.JsonEncoding.Reply
  alias PhoenixGenApi.Structs.Response

  @typedoc "The device, whom messages are sent to, and the lane."
  @type joining :: {pid(), pid(), binary()}

  @channel ""
  # The client chooses its topics, and each group that a device joins keeps the lane. The native side takes
  # twice as much.
  @max_lane_bytes 4_096

  @doc """
  In a channel that is about to be joined: its own process, if it joins a group, is passed by, unless
  topic and event have more than some 4,000 bytes.
  """
  @spec open(struct(), String.t(), module()) :: :ok
  def open(socket, event, json_library) do
    lane = lane(socket.serializer, socket.topic, event, json_library)

    if byte_size(lane) <= @max_lane_bytes,
      do: Process.put(__MODULE__, {socket.transport_pid, lane})

    :ok
  end

  @doc "Groups that the calling process joins from now on send to it."
  @spec close() :: :ok
  def close do
    Process.delete(__MODULE__)
    :ok
  end

  @doc "The lane of the frames that a serializer makes for a topic with that JSON library."
  @spec lane(module(), String.t(), String.t(), module()) :: binary()
  # Which library that is takes longer to ask than to encode.
  def lane(serializer, topic, event, json_library),
    do: :erlang.term_to_binary({serializer, topic, event, json_library})

  @doc "How messages get to that process."
  @spec joining(pid()) :: joining()
  def joining(pid) when pid == self() do
    case Process.get(__MODULE__) do
      {transport, lane} when is_pid(transport) and node(transport) == node() ->
        {pid, transport, lane}

      _none ->
        {pid, pid, @channel}
    end
  end

  def joining(pid), do: {pid, pid, @channel}

  @doc "What the devices of each lane are sent; nothing where nothing can be written."
  @spec messages([{non_neg_integer(), binary()}], Response.t()) :: [{non_neg_integer(), term()}]
  def messages(lanes, response) do
    for {number, key} <- lanes, message = message(key, response), do: {number, message}
  end

  defp message(@channel, response), do: {:relay_message, response}

  defp message(key, response) do
    {serializer, topic, event, json_library} = :erlang.binary_to_term(key)
    broadcast = struct!(Phoenix.Socket.Broadcast, topic: topic, event: event, payload: response)

    try do
      frame(serializer, broadcast)
    catch
      kind, reason -> instead(serializer, broadcast, json_library, {kind, reason, __STACKTRACE__})
    end
  end

  # What can be written needs no look at every value first, which takes a third of the writing.
  # No lane may keep the message from the others, nor end the process that sends for all.
  defp instead(serializer, %{payload: response} = broadcast, json_library, failed) do
    error =
      with ^response <- Reply.encodable(response, json_library) do
        {kind, reason, stack} = failed
        ErrorResponse.log_bug(kind, reason, stack)
        Reply.not_encodable(response)
      end

    frame(serializer, struct!(broadcast, payload: error))
  catch
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      nil
  end

  @doc "The bytes of a message, about."
  @spec bytes(term()) :: non_neg_integer()
  def bytes({:socket_push, _kind, data}), do: byte_size(data)
  def bytes(of_the_channel), do: :erlang.external_size(of_the_channel)

  # One binary for all: data in pieces would be put together again by each transport.
  defp frame(serializer, broadcast), do: broadcast |> serializer.fastlane!() |> in_one_piece()

  @doc "A message of a serializer for the transport, whose data is one binary then."
  @spec in_one_piece(term()) :: term()
  def in_one_piece({:socket_push, kind, data}),
    do: {:socket_push, kind, IO.iodata_to_binary(data)}

  def in_one_piece(other), do: other
end
