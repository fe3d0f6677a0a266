defmodule PhoenixGenApi.StreamCall.Backlog do
  @moduledoc false
  # Whether a process has fallen behind with its messages.

  @max 1_000

  # Looking into another process costs as much as sending it a few messages.
  @every 64

  # How long a look at a process of another node may take.
  @patience_ms 1_000

  @doc "After so many messages the receiver is looked at."
  @spec every() :: pos_integer()
  def every, do: @every

  @doc "Whether more messages wait for the process than it should be sent."
  @spec full?(pid()) :: boolean()
  def full?(pid), do: waiting(pid) > @max

  defp waiting(pid) when node(pid) == node(), do: length_of(Process.info(pid, :message_queue_len))

  defp waiting(pid) do
    node(pid)
    |> :erpc.call(:erlang, :process_info, [pid, :message_queue_len], @patience_ms)
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
end
