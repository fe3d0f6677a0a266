defmodule PhoenixGenApi.StreamCall.Mailbox do
  @moduledoc false
  # How far a process has fallen behind with its messages.

  @max 1_000

  # A receiver that keeps up is kept up with: half of the room goes by before the next look.
  # One look costs as much as some twenty messages.
  @share 2

  # How long a look at a process of another node may take.
  @timeout_ms 1_000

  @doc """
  How many messages it may be sent before it is looked at again; 0 if too many wait. Messages of
  some size count as several, `weight` as many for those that wait.
  """
  @spec capacity(pid(), pos_integer()) :: non_neg_integer()
  def capacity(pid, weight \\ 1) do
    waiting = waiting(pid) * weight
    if waiting > @max, do: 0, else: div(@max - waiting, @share) + 1
  end

  @doc "Whether nothing waits for it."
  @spec empty?(pid()) :: boolean()
  def empty?(pid), do: waiting(pid) == 0

  defp waiting(pid) when node(pid) == node(), do: length_of(Process.info(pid, :message_queue_len))

  defp waiting(pid) do
    node(pid)
    |> :erpc.call(:erlang, :process_info, [pid, :message_queue_len], @timeout_ms)
    |> length_of()
  catch
    # Nobody knows then; that the receiver is gone is told by its monitor.
    _kind, _reason -> 0
  end

  defp length_of({:message_queue_len, length}), do: length
  defp length_of(_dead), do: 0

  @doc "How long to wait ahead of the next look, given the last wait; 0 for the first."
  @spec next_wait_ms(non_neg_integer()) :: pos_integer()
  def next_wait_ms(waited), do: min(max(waited * 2, 1), 10)

  @doc """
  Messages that wait for a stream that holds back were sent by somebody who does not care for credits, so there
  may be any number of them. They should not be copied with every collection of garbage.
  """
  @spec move_off_heap() :: :ok
  def move_off_heap do
    {:message_queue_len, waiting} = Process.info(self(), :message_queue_len)
    if waiting > 1_000, do: Process.flag(:message_queue_data, :off_heap)
    :ok
  end
end
