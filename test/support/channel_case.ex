defmodule PhoenixGenApi.ChannelCase do
  @moduledoc false
  # Drives a channel as Phoenix does: a process that calls handle_in/3 and handle_info/2, with
  # the test as its transport. Works with the real Phoenix.Channel and with the stand-in.
  use ExUnit.CaseTemplate

  alias PhoenixGenApi.Await
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.Test.ChannelFunctions

  defmodule Serializer do
    @moduledoc false
    # Encodes, as a real one does, but hands out the payload itself.

    def encode!(%Phoenix.Socket.Reply{} = reply) do
      JSON.encode!(reply.payload)
      {:reply, reply.ref, reply.status, reply.payload}
    end

    def encode!(%Phoenix.Socket.Message{payload: %{}} = message) do
      JSON.encode!(message.payload)
      {:push, message.event, message.payload}
    end

    def fastlane!(%Phoenix.Socket.Broadcast{} = broadcast) do
      JSON.encode!(broadcast.payload)
      {:push, broadcast.event, broadcast.payload}
    end
  end

  defmodule Verbatim do
    @moduledoc false
    # Encodes nothing, as that of Phoenix.ChannelTest.

    def encode!(%Phoenix.Socket.Reply{} = reply),
      do: {:reply, reply.ref, reply.status, reply.payload}

    def encode!(%Phoenix.Socket.Message{} = message),
      do: {:push, message.event, message.payload}

    def fastlane!(%Phoenix.Socket.Broadcast{} = broadcast),
      do: {:push, broadcast.event, broadcast.payload}
  end

  defmodule Waiting do
    @moduledoc false
    # Encodes when the process that registered itself as `:waiting_serializer` says so.

    def encode!(message) do
      send(:waiting_serializer, {:encoding, self()})

      receive do
        :encode -> Serializer.encode!(message)
      end
    end
  end

  defmodule Server do
    @moduledoc false
    use GenServer

    @impl true
    def init(socket), do: {:ok, %{socket | channel_pid: self(), joined: true}}

    @impl true
    def handle_call({:run, fun}, _from, socket), do: {:reply, fun.(), socket}

    @impl true
    def handle_info({:client, event, payload, ref}, socket) do
      case socket.channel.handle_in(event, payload, %{socket | ref: ref}) do
        {:noreply, socket} ->
          {:noreply, %{socket | ref: nil}}

        {:reply, reply, socket} ->
          Phoenix.Channel.reply(Phoenix.Channel.socket_ref(socket), reply)
          {:noreply, %{socket | ref: nil}}
      end
    end

    def handle_info(message, socket) do
      {:noreply, socket} = socket.channel.handle_info(message, socket)
      {:noreply, %{socket | ref: nil}}
    end
  end

  using do
    quote do
      @moduletag :capture_log
      import PhoenixGenApi.ChannelCase
      alias PhoenixGenApi.ChannelCase.{Verbatim, Waiting}
      alias PhoenixGenApi.ConfigDb
      alias PhoenixGenApi.Structs.{FunConfig, Response}
    end
  end

  # A service name of its own for every test, since all share one config table.
  setup do
    %{service: "channel-#{System.unique_integer([:positive])}"}
  end

  @doc "Registers a function of `ChannelFunctions`, which gets the test's pid as its last argument."
  def register(service, type, fields \\ []) do
    Code.ensure_loaded!(ChannelFunctions)

    {function, fields} =
      Keyword.pop_lazy(fields, :function, fn -> String.to_existing_atom(type) end)

    config =
      struct!(
        %FunConfig{
          service: service,
          request_type: type,
          nodes: :local,
          mfa: {ChannelFunctions, function, [self()]}
        },
        fields
      )

    :ok = ConfigDb.add(config)
  end

  @doc "Starts a channel of that module with these assigns; the test is its connection, or that process."
  def join(module, assigns \\ %{}, serializer \\ Serializer, transport \\ self()) do
    socket = %Phoenix.Socket{
      assigns: Map.new(assigns),
      channel: module,
      topic: "api:1",
      join_ref: "1",
      serializer: serializer,
      transport_pid: transport
    }

    {:ok, pid} = GenServer.start(Server, socket)
    ExUnit.Callbacks.on_exit(fn -> Process.exit(pid, :kill) end)
    pid
  end

  @doc "Sends what a client would send; the ref identifies the reply."
  def push_in(channel, payload, event \\ "api") do
    ref = "ref-#{System.unique_integer([:positive])}"
    send(channel, {:client, event, payload, ref})
    ref
  end

  @doc "The payload of a request."
  def payload(service, type, id, fields \\ %{}) do
    Map.merge(%{"service" => service, "request_type" => type, "request_id" => id}, fields)
  end

  @doc "Runs a function in the channel process; with none only waits for what it has been sent."
  def in_channel(channel, fun \\ fn -> :ok end), do: GenServer.call(channel, {:run, fun})

  @doc "The session of a channel."
  def session(channel, event \\ "api") do
    with {session, _delivery} <- of_session(channel, event), do: session
  end

  @doc "How the answers of a session are delivered."
  def delivery(channel, event \\ "api") do
    {_session, delivery} = of_session(channel, event)
    delivery
  end

  defp of_session(channel, event),
    do: in_channel(channel, fn -> Process.get({PhoenixGenApi.Channel, :sessions}, %{})[event] end)

  @doc "Returns once the condition holds; for what another process does without a message to us."
  def until(true?), do: Await.until(true?) && :ok
end
