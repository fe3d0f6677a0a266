defmodule PhoenixGenApi.StreamCall.Credit do
  @moduledoc false
  # Keeps a sender of items from running ahead of its stream.
  #
  # Every process counts, in its dictionary, the items it has sent since the stream last
  # answered it. At the limit it asks, and waits. The question travels behind the items, so the
  # answer says that they are with the receiver. Nothing is ever sent to a process that does not
  # wait for it at that moment: a producer may be a GenServer, and nothing may get into its
  # mailbox.

  @key __MODULE__

  # A process that serves ever new streams, and never ends one itself, must not collect their
  # counts for ever. The counts are kept in two generations; what was not touched during one is
  # forgotten, which allows that stream as many items again.
  @generation 16_384

  @typedoc "What a sender is to be answered with: an alias that is also a monitor of the stream."
  @type reply_to :: reference()

  @doc "Sends an item; waits if `max` of this process are with the stream unanswered."
  @spec send_item(pid(), pos_integer(), term()) :: :ok | :ended
  def send_item(stream, max, item) do
    send(stream, {:result, item})

    case sent(stream) do
      n when n < max -> :ok
      _all -> settle(stream)
    end
  end

  defp settle(stream) do
    answer = wait(stream)
    if answer == :ok, do: restart(stream), else: forget(stream)
    answer
  end

  @doc "Waits until the stream has delivered all that this process has sent to it, or has ended."
  @spec wait(pid()) :: :ok | :ended
  def wait(stream), do: ask(stream, :credit)

  @doc "Asks the stream something; it answers with `answer/2`."
  @spec ask(pid(), term()) :: term() | :ended
  def ask(stream, question) do
    # A monitor would first try to connect to the node, which can take seven seconds.
    if reachable?(stream) do
      reply_to = :erlang.monitor(:process, stream, alias: :reply_demonitor)
      send(stream, {__MODULE__, question, self(), reply_to})

      receive do
        {^reply_to, answer} -> answer
        {:DOWN, ^reply_to, :process, _stream, _reason} -> :ended
      end
    else
      :ended
    end
  end

  @doc "Answers a sender that waits."
  @spec answer(reply_to(), term()) :: :ok
  def answer(reply_to, answer) do
    send(reply_to, {reply_to, answer})
    :ok
  end

  @doc "Drops the count of a stream that has ended."
  @spec forget(pid()) :: :ok
  def forget(stream) do
    case Process.get(@key) do
      nil -> :ok
      {^stream, _n, {young, old}} when young == %{} and old == %{} -> Process.delete(@key)
      {^stream, _n, others} -> put(nil, 0, without(others, stream))
      {other, n, others} -> put(other, n, without(others, stream))
    end

    :ok
  end

  # The stream of the last item stands apart: nearly always the next one is for it as well.
  defp sent(stream) do
    {n, others} =
      case Process.get(@key) do
        {^stream, n, others} -> {n, others}
        {other, n, others} -> take(remember(others, other, n), stream)
        nil -> {0, {%{}, %{}}}
      end

    put(stream, n + 1, others)
    n + 1
  end

  defp restart(stream) do
    {^stream, _n, others} = Process.get(@key)
    put(stream, 0, others)
  end

  defp put(stream, n, others), do: Process.put(@key, {stream, n, others})

  defp remember(others, _stream, 0), do: others

  defp remember({young, _old}, stream, n) when map_size(young) >= @generation,
    do: {%{stream => n}, young}

  defp remember({young, old}, stream, n), do: {Map.put(young, stream, n), old}

  defp take({young, old} = others, stream) do
    case others do
      {%{^stream => n}, _old} -> {n, {Map.delete(young, stream), old}}
      {_young, %{^stream => n}} -> {n, {young, Map.delete(old, stream)}}
      _new -> {0, others}
    end
  end

  defp without({young, old}, stream), do: {Map.delete(young, stream), Map.delete(old, stream)}

  defp reachable?(stream), do: node(stream) == node() or node(stream) in Node.list(:connected)
end
