defmodule PhoenixGenApi.ChannelCase do
  @moduledoc false
  # Drives a channel as Phoenix does: a process that calls handle_in/3 and handle_info/2, with
  # the test as its transport. Works with the real Phoenix.Channel and with the stand-in.
  use ExUnit.CaseTemplate

  alias PhoenixGenApi.Await
  alias PhoenixGenApi.Channel.{Queue, RequestProcess}
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Native
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
    # Encodes when the test that has called `hold_encoding/0` says so.

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

  @doc "The requests of a channel, on an event."
  def requests(channel, event \\ "api"),
    do: in_channel(channel, fn -> Process.get({PhoenixGenApi.Channel, :requests}, %{})[event] end)

  @doc "How many requests of a channel execute, go on after their acknowledgement, and wait."
  def counts(channel, event \\ "api"),
    do: Native.channel_requests_count(requests(channel, event).native)

  @doc "The processes of a channel's requests."
  def request_processes(channel), do: processes_of(channel, &match?({RequestProcess, _, _}, &1))

  @doc "The processes where requests of a channel wait."
  def queues(channel), do: processes_of(channel, &match?({Queue, _, _}, &1))

  defp processes_of(channel, module?) do
    for pid <- Process.list(),
        {:dictionary, dictionary} <- [Process.info(pid, :dictionary)],
        {:initial_call, call} <- [Process.info(pid, :initial_call)],
        module?.(dictionary[:"$initial_call"] || call),
        channel in (dictionary[:"$callers"] || []) or
          channel in (dictionary[:"$ancestors"] || []),
        do: pid
  end

  @doc "Has the serializer `Waiting` ask the calling test, which is the only one as long as it runs."
  def hold_encoding do
    Await.until(fn ->
      try do
        Process.register(self(), :waiting_serializer)
      rescue
        # Another test's.
        ArgumentError -> false
      end
    end)
  end

  @doc "Returns once the condition holds; for what another process does without a message to us."
  def until(true?), do: Await.until(true?) && :ok
end
