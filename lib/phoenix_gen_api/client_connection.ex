defmodule PhoenixGenApi.ClientConnection do
  @moduledoc false
  # What waits for one client, over all channels of its connection: bytes that were sent to the
  # process of the connection and that the client has not read, and unfinished requests.
  #
  # What is sent to a channel waits there first, if the channel is busy with something else: a channel
  # has its own count of that, with the same soft limit.
  #
  # Above the soft limit requests wait, streams pause and relay messages are skipped; above four
  # times that the client is not reading at all, and the connection is closed. What the native side
  # knows is at most too much, so nobody looks at the process before it has been sent that much.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Telemetry

  require Log

  @hard 4

  # The share of the soft limit that one stream may send to the channel between two looks at it.
  @share 64

  @typedoc """
  A channel's share of the connection of a process, with what waits for the channel itself; nil where
  no gateway runs.
  """
  @type t :: {share :: reference(), pid(), {share :: reference(), channel :: pid()} | nil} | nil

  @doc "The connection of a process of this node. The share ends with the calling process."
  @spec open(pid()) :: t()
  def open(transport) when node(transport) == node() do
    case Gateway.handle(:connections) do
      {:ok, connections} ->
        {Native.client_connection_share(connections, transport), transport, nil}

      {:error, :not_running} ->
        nil
    end
  end

  def open(_transport), do: nil

  @doc "The same for requests of the calling channel, with room only while the channel keeps up."
  @spec part(t()) :: t()
  def part(nil), do: nil

  def part({share, transport, _channel}) do
    channel =
      with {share, channel, nil} <- open(self()), do: {share, channel}

    {share, transport, channel}
  end

  @doc "Whether the client has read enough to be sent more, and its channel handled enough."
  @spec room?(t()) :: boolean()
  def room?(nil), do: true

  def room?({share, transport, channel}) do
    soft = soft()
    room?(share, transport, soft) and room?(channel, soft)
  end

  defp room?(nil, _soft), do: true
  defp room?({share, channel}, soft), do: room?(share, channel, soft)

  defp room?(share, pid, soft),
    do: Native.client_connection_waiting(share) <= soft or look(share, pid) <= soft

  @doc "The bytes that wait for the client, about."
  @spec waiting(t()) :: non_neg_integer()
  def waiting(nil), do: 0
  def waiting({share, transport, _channel}), do: look(share, transport)

  @doc "Ahead of sending so many bytes to the channel, which will send them to the client."
  @spec sent_to_channel(t(), non_neg_integer()) :: :ok
  def sent_to_channel({_share, _transport, {share, _channel}}, bytes) do
    Native.client_connection_sent(share, bytes)
    :ok
  end

  def sent_to_channel(_none, _bytes), do: :ok

  @doc "Ahead of sending so many bytes. Closes the connection of a client that does not read."
  @spec sent(t(), non_neg_integer()) :: :ok
  def sent(nil, _bytes), do: :ok

  def sent({share, transport, _channel}, bytes) do
    hard = @hard * soft()

    # What is about to be sent is one more than what waits already.
    if Native.client_connection_sent(share, bytes) > hard and look(share, transport, 1) > hard,
      do: close(transport),
      else: :ok
  end

  @doc "How many bytes may be sent to a channel until the next look at its messages."
  @spec channel_budget() :: pos_integer()
  def channel_budget, do: max(div(soft(), @share), 1)

  @doc "The soft limit, in bytes."
  @spec soft() :: pos_integer()
  def soft, do: Config.get(:channel, :max_client_bytes)

  defp look(share, pid, more \\ 0) do
    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, frames} -> Native.client_connection_seen(share, frames + more)
      nil -> 0
    end
  end

  # It may trap exits, and would find the message behind everything else. Its channels go with it.
  defp close(transport) do
    if Process.alive?(transport) do
      Process.exit(transport, :kill)

      Telemetry.execute(
        [:phoenix_gen_api, :channel, :disconnect],
        Telemetry.start_measurements(),
        %{reason: :slow_consumer}
      )

      Log.warning(
        "phoenix_gen_api: closed a connection whose client does not read (slow_consumer): more than " <>
          "#{@hard * soft()} bytes were waiting"
      )
    end

    :ok
  end
end
