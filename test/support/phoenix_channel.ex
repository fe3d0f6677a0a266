# Stand-ins for the part of Phoenix that channels need, with the same contract, so that the
# channel integration can be tested where no Hex package is installed. The real ones win whenever
# they are there; the application's directory is asked for and not a module, whose beam may be
# the stand-in's.
if match?({:error, _}, :code.lib_dir(:phoenix)) do
  defmodule Phoenix.Socket do
    @moduledoc false

    defmodule Message do
      @moduledoc false
      defstruct [:topic, :event, :payload, :ref, :join_ref]
    end

    defmodule Reply do
      @moduledoc false
      defstruct [:topic, :status, :payload, :ref, :join_ref]
    end

    defmodule Broadcast do
      @moduledoc false
      defstruct [:topic, :event, :payload]
    end

    defstruct assigns: %{},
              channel: nil,
              channel_pid: nil,
              endpoint: nil,
              handler: nil,
              id: nil,
              joined: false,
              join_ref: nil,
              private: %{},
              pubsub_server: nil,
              ref: nil,
              serializer: nil,
              topic: nil,
              transport: nil,
              transport_pid: nil

    def assign(%__MODULE__{} = socket, key, value),
      do: %{socket | assigns: Map.put(socket.assigns, key, value)}
  end

  defmodule Phoenix.Channel do
    @moduledoc false
    alias Phoenix.Socket
    alias Phoenix.Socket.{Message, Reply}

    @callback join(String.t(), map(), struct()) :: term()
    @callback handle_in(String.t(), term(), struct()) :: term()
    @callback handle_info(term(), struct()) :: term()
    @optional_callbacks handle_in: 3, handle_info: 2

    defmacro __using__(_opts) do
      quote do
        @behaviour Phoenix.Channel
        import Phoenix.Channel
        import Phoenix.Socket, only: [assign: 3]
      end
    end

    def socket_ref(%Socket{joined: true, ref: ref} = socket) when not is_nil(ref),
      do: {socket.transport_pid, socket.serializer, socket.topic, ref, socket.join_ref}

    def socket_ref(_socket) do
      raise ArgumentError,
            "socket refs can only be generated for a socket that has joined with a push ref"
    end

    def reply(ref, status) when is_atom(status), do: reply(ref, {status, %{}})

    def reply({transport, serializer, topic, ref, join_ref}, {status, payload}) do
      reply = %Reply{
        topic: topic,
        join_ref: join_ref,
        ref: ref,
        status: status,
        payload: payload
      }

      send(transport, serializer.encode!(reply))
      :ok
    end

    def push(%Socket{joined: true} = socket, event, payload) do
      message = %Message{
        join_ref: socket.join_ref,
        topic: socket.topic,
        event: event,
        payload: payload
      }

      send(socket.transport_pid, socket.serializer.encode!(message))
      :ok
    end

    def push(%Socket{joined: false}, _event, _payload),
      do: raise("push/3 can only be called after the socket has finished joining")
  end
end
