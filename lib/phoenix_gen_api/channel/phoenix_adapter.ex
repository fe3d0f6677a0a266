defmodule PhoenixGenApi.Channel.PhoenixAdapter do
  @moduledoc false
  # The only calls into Phoenix. It is an optional dependency, but whoever has a socket to pass
  # has Phoenix as well, so nothing depends on its presence when this library is compiled.
  @compile {:no_warn_undefined, [Phoenix.Channel]}

  @typedoc "What a reply is addressed to; `nil` when the client waits for none."
  @type ref :: tuple() | nil

  @doc "The address of the message that is being handled."
  @spec ref(struct()) :: ref()
  def ref(%{ref: nil}), do: nil
  def ref(socket), do: Phoenix.Channel.socket_ref(socket)

  @doc """
  What `Phoenix.Channel.reply/2` would send, and to whom: whoever claims an answer sends it in the same
  step, which that function cannot do.
  """
  @spec reply_message(ref(), {:ok | :error, term()}) :: [{pid(), term()}]
  def reply_message(nil, _reply), do: []

  def reply_message({transport, serializer, topic, ref, join_ref}, {status, payload}) do
    reply =
      struct!(Phoenix.Socket.Reply,
        topic: topic,
        join_ref: join_ref,
        ref: ref,
        status: status,
        payload: payload
      )

    [{transport, serializer.encode!(reply)}]
  end

  @doc "The same for `push/3`."
  @spec push_message(struct(), String.t(), term()) :: [{pid(), term()}]
  def push_message(socket, event, payload) do
    message =
      struct!(Phoenix.Socket.Message,
        topic: socket.topic,
        join_ref: socket.join_ref,
        event: event,
        payload: payload
      )

    [{socket.transport_pid, socket.serializer.encode!(message)}]
  end

  @doc "Pushes from any process that has the socket or an `strip/1` of it."
  @spec push(struct(), String.t(), term()) :: :ok
  def push(socket, event, payload), do: Phoenix.Channel.push(socket, event, payload)

  @doc "The socket without what its owner keeps in it: enough to push, and cheap to send."
  @spec strip(struct()) :: struct()
  def strip(socket), do: %{socket | assigns: %{}, private: %{}, ref: nil}
end
