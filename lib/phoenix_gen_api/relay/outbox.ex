defmodule PhoenixGenApi.Relay.Outbox do
  @moduledoc false
  # What one process here sends to one process of another gateway, in order. While the connection
  # to that gateway is full, as when it hangs, whoever sends to it is suspended: this process, and
  # not the one that has others to send to, and callers who wait for it.

  @doc """
  Opens one for the calling process. After each message, whatever became of it, `sent` is called.
  """
  @spec open({atom(), node()}, (-> term())) :: pid()
  def open(target, sent \\ fn -> :ok end) do
    owner = self()

    spawn(fn ->
      monitor = Process.monitor(owner)
      loop(target, sent, monitor)
    end)
  end

  @doc "Sends a message, some time."
  @spec put(pid(), term()) :: :ok
  def put(outbox, message) do
    send(outbox, {:out, message})
    :ok
  end

  @doc "Ends it once all is sent."
  @spec close(pid()) :: :ok
  def close(outbox) do
    send(outbox, :close)
    :ok
  end

  @doc "Ends it with all that is not sent yet."
  @spec discard(pid()) :: :ok
  def discard(outbox) do
    Process.exit(outbox, :kill)
    :ok
  end

  # In the order in which it came: what an owner that was killed had sent is sent.
  defp loop(target, sent, monitor) do
    receive do
      {:out, message} ->
        # What is left for a gateway that has gone is not for the next one of its name.
        :erlang.send(target, message, [:noconnect])
        sent.()
        loop(target, sent, monitor)

      :close ->
        :ok

      {:DOWN, ^monitor, :process, _owner, _reason} ->
        :ok
    end
  end
end
