defmodule PhoenixGenApi.RPC.Credit do
  @moduledoc false
  # Keeps those who send items from running ahead of their stream.
  #
  # The items of a stream are counted; whoever sends the last one that the credit allows asks
  # the stream, and waits. The question travels behind the items, so the answer says that they
  # are with the receiver. Several processes count together: while one waits the others go on to
  # the next such item, so that each may be ahead by the credit.
  #
  # Nothing is ever sent to a process that does not wait for it at that moment: a producer may be
  # a GenServer, and nothing may get into its mailbox.

  import Bitwise

  alias PhoenixGenApi.RPC

  # Items of more than a kilobyte count as several: what waits on the way is bounded in bytes.
  @unit 10

  @slot __MODULE__

  @typedoc "The stream, how many items may be on their way, and their count where it was made."
  @type t :: {stream :: pid(), max :: pos_integer(), node(), :atomics.atomics_ref()}

  @typedoc "What a sender is to be answered with: an alias that is also a monitor of the stream."
  @type reply_to :: reference()

  @doc "The credit of a stream for the calling node."
  @spec new(pid(), pos_integer()) :: t()
  def new(stream, max), do: {stream, max, node(), :atomics.new(1, [])}

  @doc "Sends an item, and waits if that is due."
  @spec send_item(t(), term()) :: :ok | :ended
  def send_item({stream, max, node, count}, item) do
    send(stream, {:result, item})
    if due?(stream, max, node, count, weight(item)), do: wait(stream), else: :ok
  end

  @doc "How many items of at most 2^`unit` bytes one of this size counts as."
  @spec weight(term(), non_neg_integer()) :: pos_integer()
  def weight(item, unit \\ @unit)
  def weight(item, unit) when is_binary(item), do: 1 + (byte_size(item) >>> unit)
  def weight(item, _unit) when is_atom(item) or is_float(item), do: 1
  def weight(item, _unit) when item in -0xFFFF_FFFF..0xFFFF_FFFF, do: 1
  def weight(item, unit), do: 1 + (:erlang.external_size(item) >>> unit)

  # Some 20 ns; counting in the dictionary of the process is twice that.
  defp due?(_stream, max, node, count, weight) when node == node(),
    do: rem(:atomics.add_get(count, 1, weight), max) < weight

  # On a third node there is only the process itself to count for, one stream at a time: a
  # process that serves several by turns waits with each of its turns.
  defp due?(stream, max, _node, _count, weight) do
    case Process.get(@slot) do
      {^stream, sent} when sent + weight < max ->
        Process.put(@slot, {stream, sent + weight})
        false

      _other ->
        Process.put(@slot, {stream, 0})
        true
    end
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
  def answer(reply_to, answer) when node(reply_to) == node() do
    send(reply_to, {reply_to, answer})
    :ok
  end

  # The stream must not wait for a node that hangs.
  def answer(reply_to, answer) do
    RPC.Connection.nosuspend(fn -> send(reply_to, {reply_to, answer}) end)
    :ok
  end

  defp reachable?(stream), do: node(stream) == node() or RPC.Connection.connected?(node(stream))
end
