defmodule PhoenixGenApi.RPC.Remote do
  @moduledoc false
  # Calls a function on another node: one request, one message with the outcome. Whoever stops
  # waiting ends the function, also when it has not heard yet which process that is.

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.RPC

  @typep call :: {module(), atom(), [term()]}

  @doc "Calls it, within the timeout. `handle` is that of the call."
  @spec call(reference(), node(), call(), timeout()) :: RPC.Local.outcome()
  def call(handle, node, call, timeout) do
    case RPC.Capabilities.lookup(node) do
      true -> call_server(handle, node, call, timeout)
      false -> call_proxy(node, call, timeout)
      :unknown -> discover_first(handle, node, call, timeout)
    end
  end

  # Once per connection.
  defp discover_first(handle, node, call, timeout) do
    deadline = deadline(timeout)

    case RPC.Capabilities.discover(node, &call_proxy(node, &1, timeout)) do
      {:ok, true} -> call_server(handle, node, call, remaining(deadline))
      {:ok, false} -> call_proxy(node, call, remaining(deadline))
      not_sent -> not_sent
    end
  end

  # Unlike `:erpc.call` this learns the pid, and has a key where it has not: so it can end what
  # nobody waits for any more.
  defp call_server(handle, node, {module, function, args}, timeout) do
    key = RPC.Server.key()
    connected? = connected?(node)
    Native.executor_ask(handle, node, key)
    callers = [self() | Process.get(:"$callers", [])]

    request =
      nosuspend(fn ->
        arguments = [key, callers, module, function, args]
        :erlang.spawn_request(node, RPC.Server, :run, arguments, [:monitor])
      end)

    deadline = deadline(timeout)

    receive do
      {:spawn_reply, ^request, :ok, pid} ->
        Native.executor_watch(handle, pid)
        await(request, key, pid, remaining(deadline))

      {:spawn_reply, ^request, :error, reason} ->
        refused(reason, connected?)
    after
      timeout ->
        abandon(request, node, key)
        timeout_outcome(node)
    end
  end

  defp await(request, key, pid, timeout) do
    receive do
      {:DOWN, ^request, :process, ^pid, reason} -> outcome(reason, key)
    after
      timeout ->
        kill(request, pid)
        :timeout
    end
  end

  defp abandon(request, node, key) do
    if :erlang.spawn_request_abandon(request) do
      nosuspend(fn -> RPC.Server.revoke_at(node, key) end)
    else
      receive do
        {:spawn_reply, ^request, :ok, pid} -> kill(request, pid)
        {:spawn_reply, ^request, :error, _reason} -> :ok
      after
        0 -> :ok
      end
    end
  end

  # A node without our library knows no keys.
  defp call_proxy(node, call, timeout) do
    mark = make_ref()
    connected? = connected?(node)
    {proxy, monitor} = RPC.Proxy.start(node, mark, call)

    receive do
      {:DOWN, ^monitor, :process, ^proxy, {^mark, :not_started, reason}} ->
        refused(reason, connected?)

      {:DOWN, ^monitor, :process, ^proxy, reason} ->
        outcome(reason, mark)
    after
      timeout ->
        Process.demonitor(monitor, [:flush])
        RPC.Proxy.cancel(proxy, mark)
        timeout_outcome(node)
    end
  end

  # The VM says the same of a connection that could not be made and of one that was lost before
  # the other node answered. In the latter case the function may have been called.
  defp refused(:noconnection, false), do: :not_connected
  defp refused(reason, _connected?), do: {:node_down, reason}

  defp timeout_outcome(node), do: if(connected?(node), do: :timeout, else: :unreachable)

  defp outcome({mark, :return, value}, mark), do: {:return, value}
  defp outcome({mark, :throw, value}, mark), do: {:raised, :throw, value, []}
  defp outcome({mark, :exit, reason}, mark), do: {:raised, :exit, reason, []}
  defp outcome({mark, :error, reason, stack}, mark), do: {:raised, :error, reason, stack}
  defp outcome(:noconnection, _mark), do: {:node_down, :noconnection}
  defp outcome(reason, _mark), do: {:raised, :exit, reason, []}

  @doc "Whether there is a connection to the node now."
  @spec connected?(node()) :: boolean()
  def connected?(node), do: node in Node.list(:connected)

  @doc "Kills a process that is monitored, and hears no more of it."
  @spec kill(reference(), pid()) :: true
  def kill(monitor, pid) do
    nosuspend(fn ->
      Process.demonitor(monitor, [:flush])
      Process.exit(pid, :kill)
    end)
  end

  @doc "Runs what sends signals to another node such that a full connection does not hold it up."
  # The connection to a node that hangs is soon full. Signals then suspend their sender until
  # the connection is given up, after a minute, and no timeout runs meanwhile. What is sent
  # like this waits in the connection's own queue instead.
  @spec nosuspend((-> result)) :: result when result: term()
  def nosuspend(send) do
    before = :erlang.process_flag(:async_dist, true)
    sent = send.()
    :erlang.process_flag(:async_dist, before)
    sent
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp deadline(:infinity), do: :infinity
  defp deadline(timeout), do: now() + timeout

  defp remaining(:infinity), do: :infinity
  defp remaining(deadline), do: max(deadline - now(), 0)
end
