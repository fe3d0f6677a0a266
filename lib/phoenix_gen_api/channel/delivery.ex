defmodule PhoenixGenApi.Channel.Delivery do
  @moduledoc false
  # How answers reach the client: as replies, pushes, or both. Any process of a channel's
  # requests may deliver. Nothing here raises because of what is delivered.

  alias PhoenixGenApi.Channel.{Options, PhoenixAdapter}
  alias PhoenixGenApi.ClientConnection
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.JsonEncoding
  alias PhoenixGenApi.JsonEncoding.Reply
  alias PhoenixGenApi.Relay.Fastlane
  alias PhoenixGenApi.Structs.Response

  @enforce_keys [
    :mode,
    :event,
    :marks_event,
    :channel,
    :topic,
    :transport,
    :json_library,
    :connection
  ]
  defstruct @enforce_keys ++ [:socket]

  # Topic, event and refs of a frame, about.
  @envelope 64

  # An acknowledgement or an error, about.
  @small 192

  # What takes longer to encode than most requests take.
  @large 65_536

  @type t :: %__MODULE__{
          mode: :reply | :push | :both,
          event: String.t(),
          marks_event: boolean(),
          channel: pid(),
          topic: String.t(),
          # the process of the connection
          transport: pid(),
          # for pushes, without the assigns: see PhoenixAdapter.strip/1
          socket: struct() | nil,
          json_library: module(),
          connection: ClientConnection.t()
        }

  @doc "For the requests of the calling channel. It is copied for each of them."
  @spec new(Options.t(), struct(), ClientConnection.t()) :: t()
  def new(options, socket, connection) do
    %__MODULE__{
      mode: options.deliver,
      event: options.event,
      marks_event: options.marks_event,
      channel: self(),
      topic: socket.topic,
      transport: socket.transport_pid,
      socket: if(options.deliver != :reply, do: PhoenixAdapter.strip(socket)),
      json_library: json_library(),
      connection: connection
    }
  end

  @doc "The library that Phoenix encodes with."
  @spec json_library() :: module()
  defdelegate json_library, to: JsonEncoding, as: :library

  @doc "Has relay messages go to the socket's transport, past the channel that is about to be joined."
  @spec open_fastlane(struct(), String.t()) :: :ok
  def open_fastlane(socket, event), do: Fastlane.open(socket, event, json_library())

  @doc "Groups that are joined from now on go through the channel."
  @spec close_fastlane() :: :ok
  defdelegate close_fastlane, to: Fastlane, as: :close

  @doc "What a client gets at once where the answer itself is only pushed."
  @spec receipt(Options.t(), PhoenixAdapter.ref(), String.t() | nil) :: :ok
  def receipt(%{deliver: :push}, ref, id), do: reply_ok(ref, %{request_id: id})
  def receipt(_options, _ref, _id), do: :ok

  @doc "Answers a request with a response of so many bytes; one that the library has made is small."
  @spec answer(t(), PhoenixAdapter.ref(), Response.t(), non_neg_integer()) :: :ok
  def answer(delivery, ref, %Response{} = response, bytes \\ @small),
    do: delivery |> messages(ref, response, bytes) |> send_all()

  defp send_all(messages) do
    for {pid, message} <- messages, do: send(pid, message)
    :ok
  end

  @doc """
  What `answer/4` would send, encoded: to be sent by whoever claims the answer.
  """
  @spec messages(t(), PhoenixAdapter.ref(), Response.t(), non_neg_integer()) :: [{pid(), term()}]
  def messages(delivery, ref, %Response{} = response, bytes \\ @small) do
    push = &PhoenixAdapter.push_message(delivery.socket, delivery.event, &1)
    reply = &reply_message(ref, &1)

    case delivery.mode do
      :push ->
        encoded(delivery, response, bytes, push)

      :reply when ref == nil ->
        []

      :reply ->
        encoded(delivery, response, bytes, reply)

      :both ->
        encoded(delivery, response, bytes, push) ++ encoded(delivery, response, bytes, reply)
    end
  end

  defp encoded(%{connection: connection}, response, bytes, encode) do
    ClientConnection.sent(connection, bytes + @envelope)

    unhurried(bytes, fn ->
      messages = attempt(response, encode)

      # Sending copies a list of pieces, all of it at once, but not a binary.
      if bytes < @large,
        do: messages,
        else: for({pid, message} <- messages, do: {pid, Fastlane.in_one_piece(message)})
    end)
  end

  @doc "The same for a request of which nobody has to know the outcome. With `:push` the receipt was the answer."
  @spec accepted_messages(t(), PhoenixAdapter.ref(), String.t()) :: [{pid(), term()}]
  def accepted_messages(%{mode: :push}, _ref, _id), do: []

  def accepted_messages(_delivery, ref, id),
    do: attempt(%{request_id: id}, &PhoenixAdapter.reply_message(ref, {:ok, &1}))

  defp reply_message(ref, %Response{success: false} = response),
    do: PhoenixAdapter.reply_message(ref, {:error, response})

  defp reply_message(ref, response), do: PhoenixAdapter.reply_message(ref, {:ok, response})

  @doc """
  Sends a later result to the channel.

  Own clauses of the module may take it there, so its form is fixed. Where the module may serve several
  events it says its own in a key that structs of that name do not have.
  """
  @spec later(t(), :async_call | :stream_response, Response.t()) :: :ok
  def later(delivery, tag, response),
    do: delivery |> later_messages(tag, response) |> send_all()

  @doc "What `later/3` would send."
  @spec later_messages(t(), :async_call | :stream_response, Response.t()) :: [{pid(), term()}]
  def later_messages(delivery, tag, response) do
    # A stream looks at the channel itself, and pauses.
    if tag == :async_call,
      do: ClientConnection.sent_to_channel(delivery.connection, :erlang.external_size(response))

    [{delivery.channel, {tag, marked(delivery, response)}}]
  end

  defp marked(%{marks_event: true, event: event}, response), do: Map.put(response, :event, event)
  defp marked(_delivery, response), do: response

  @doc "The event that a later result is for, and the result."
  @spec unmarked(term(), String.t()) :: {String.t(), term()}
  def unmarked(%{__struct__: Response, event: event} = response, _default),
    do: {event, Map.delete(response, :event)}

  def unmarked(response, default), do: {default, response}

  @doc "Refuses what is not taken in, in every mode by reply."
  @spec refuse(t(), PhoenixAdapter.ref(), Response.t()) :: :ok
  def refuse(delivery, ref, response), do: answer(%{delivery | mode: :reply}, ref, response)

  @doc "Answers a cancel, in every mode alike."
  @spec cancelled(PhoenixAdapter.ref(), String.t(), boolean()) :: :ok
  def cancelled(ref, id, cancelled?), do: reply_ok(ref, %{request_id: id, cancelled: cancelled?})

  @doc "Pushes a response, or whatever else somebody has sent for pushing, of so many bytes."
  @spec push(ClientConnection.t(), struct(), String.t(), term(), non_neg_integer()) :: :ok
  def push(connection, socket, event, payload, bytes) do
    ClientConnection.sent(connection, bytes + @envelope)
    unhurried(bytes, fn -> attempt(payload, &PhoenixAdapter.push(socket, event, &1)) end)
  end

  # A client may ask for large results on many channels at once. Encoding them takes milliseconds
  # each, which small answers to others need not wait for: they go first.
  defp unhurried(bytes, deliver) when bytes < @large, do: deliver.()

  defp unhurried(_bytes, deliver) do
    priority = Process.flag(:priority, :low)
    delivered = deliver.()
    Process.flag(:priority, priority)
    delivered
  end

  @doc "Answers a grant of credit, in every mode and for every id alike."
  @spec granted(PhoenixAdapter.ref(), String.t()) :: :ok
  def granted(ref, id), do: reply_ok(ref, %{request_id: id})

  defp reply_ok(ref, payload),
    do: payload |> attempt(&PhoenixAdapter.reply_message(ref, {:ok, &1})) |> send_all()

  # The serializer has the last word: it may refuse what the check lets through, with another
  # library than the configured one for example. It encodes first, so nothing was sent then.
  defp attempt(payload, deliver) do
    deliver.(payload)
  catch
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      attempt_error(payload, deliver)
  end

  defp attempt_error(payload, deliver) do
    deliver.(Reply.not_encodable(payload))
  catch
    # Not even plain strings can be sent: the log has said why.
    _kind, _reason -> []
  end
end
