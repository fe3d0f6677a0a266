defmodule PhoenixGenApi.RPC.Proxy do
  @moduledoc false
  # Calls a function on a node without our library, or with a version of it that speaks another
  # protocol, in a process here that does nothing else.
  #
  # The answer of such a node, with the process that it has made, goes to whoever has asked for it
  # and to nobody else. So that is not the caller, which may have stopped waiting by then, but
  # a proxy. It stays until the answer has come, or the connection is lost, and then kills what
  # nobody waits for. The price is a copy of the arguments and of the result, some 3 us.
  #
  # It enters by the function that `:erpc` itself uses between nodes, on every OTP since 23, or by
  # that of the library which is the same in all versions, and ends like the process there: with
  # what became of the function as its exit reason.

  @doc """
  Starts one for the calling process, and monitors it. Its exit reason is that of
  `:erpc.execute_call/4` with `mark`, or `{mark, :not_started, reason}`.

  When the function has begun, the caller gets `started_message`, unless that is nil. `entry` has
  the `execute_call/4` to enter by.
  """
  @spec start(node(), reference(), {module(), atom(), [term()]}, term(), module()) ::
          {pid(), reference()}
  def start(node, mark, call, started_message \\ nil, entry \\ :erpc),
    do: spawn_monitor(__MODULE__, :run, [self(), node, mark, call, started_message, entry])

  @doc "Nobody waits for it any more: it ends the function, and itself."
  @spec cancel(pid(), reference()) :: :ok
  def cancel(proxy, mark) do
    send(proxy, {mark, :cancel})
    :ok
  end

  @doc false
  @spec run(pid(), node(), reference(), {module(), atom(), [term()]}, term(), module()) ::
          no_return()
  def run(caller, node, mark, {module, function, args}, started_message, entry) do
    # It may have to say so while the connection is full.
    :erlang.process_flag(:async_dist, true)
    monitor = Process.monitor(caller)
    arguments = [mark, module, function, args]
    request = :erlang.spawn_request(node, entry, :execute_call, arguments, [:monitor])

    receive do
      {:spawn_reply, ^request, :ok, pid} ->
        if started_message, do: report_start(caller, started_message)
        await(request, pid, monitor, mark)

      {:spawn_reply, ^request, :error, reason} ->
        exit({mark, :not_started, reason})

      {:DOWN, ^monitor, :process, ^caller, _reason} ->
        kill_when_started(request)

      {^mark, :cancel} ->
        kill_when_started(request)
    end
  end

  # That is a stream. Arguments may be large, and streams long.
  defp report_start(caller, started_message) do
    :erlang.garbage_collect()
    send(caller, started_message)
  end

  defp await(request, pid, monitor, mark) do
    receive do
      {:DOWN, ^request, :process, ^pid, reason} -> exit(reason)
      {:DOWN, ^monitor, :process, _caller, _reason} -> Process.exit(pid, :kill)
      {^mark, :cancel} -> Process.exit(pid, :kill)
    end
  end

  defp kill_when_started(request) do
    # Arguments may be large, and a node may hang for a minute.
    :erlang.garbage_collect()

    receive do
      {:spawn_reply, ^request, :ok, pid} -> Process.exit(pid, :kill)
      {:spawn_reply, ^request, :error, _reason} -> :ok
    end
  end
end
