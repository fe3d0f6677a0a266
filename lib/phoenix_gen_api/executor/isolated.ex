defmodule PhoenixGenApi.Executor.Isolated do
  @moduledoc false
  # Runs somebody else's function in a process of its own, monitored and not linked: here or
  # on another node. Its death, however violent, is only an outcome.
  #
  # The result travels as the exit reason of that process, so a call costs one message, and
  # nothing can arrive after the caller has stopped waiting.

  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.ServiceGuard
  alias PhoenixGenApi.ServiceGuard.Nodes

  # The longest that the VM can wait in a receive, some 49 days.
  @longest_wait 0xFFFF_FFFF

  @typedoc "What became of the call."
  @type outcome ::
          {:return, term()}
          | {:raised, :error | :exit | :throw, term(), Exception.stacktrace()}
          | :timeout
          # nothing was sent: another node may be tried
          | :not_connected
          # nothing was sent either, but connecting took all the time there was
          | :unreachable
          # nothing was sent: for this function the node's circuit is open
          | :circuit_open
          | {:node_down, term()}

  @doc "Applies a function here, for hooks, callbacks and node functions."
  @spec apply(module(), atom(), [term()], timeout()) :: {:ok, term()} | {:error, term()}
  def apply(module, function, args, timeout) do
    case call(node(), module, function, args, timeout, nil) do
      {:return, value} -> {:ok, value}
      {:raised, :error, reason, stack} -> {:error, Exception.normalize(:error, reason, stack)}
      {:raised, _kind, reason, _stack} -> {:error, reason}
      :timeout -> {:error, :timeout}
    end
  end

  @doc """
  Applies a function on a node. `counted` is what `NodeSelector.pick/2` gave to count it on;
  without it no circuit is asked or told.
  """
  @spec call(
          node(),
          module(),
          atom(),
          [term()],
          timeout(),
          {reference(), non_neg_integer()} | nil
        ) ::
          outcome()
  def call(node, module, function, args, timeout, counted)

  def call(node, module, function, args, timeout, counted)
      when is_integer(timeout) and timeout > @longest_wait,
      do: call(node, module, function, args, @longest_wait, counted)

  def call(node, module, function, args, timeout, counted) do
    case begin(counted) do
      :circuit_open ->
        :circuit_open

      handle ->
        outcome = run(handle, node, {module, function, args}, timeout)
        finish(handle, counted, node, outcome)
        outcome
    end
  end

  defp run(handle, node, {module, function, args}, timeout) when node == node() do
    caller = self()
    callers = [caller | Process.get(:"$callers", [])]

    {pid, monitor} = spawn_monitor(__MODULE__, :run, [caller, callers, module, function, args])

    Native.executor_watch(handle, pid)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:phoenix_gen_api, ^caller, outcome}} -> outcome
      {:DOWN, ^monitor, :process, ^pid, reason} -> {:raised, :exit, reason, []}
    after
      timeout ->
        Process.demonitor(monitor, [:flush])
        Process.exit(pid, :kill)
        :timeout
    end
  end

  defp run(handle, node, call, timeout) do
    case Nodes.known(node) do
      false -> run_remote(handle, node, :erpc, call, timeout)
      true -> run_remote(handle, node, ServiceGuard, call, timeout)
      :unknown -> ask_first(handle, node, call, timeout)
    end
  end

  # Once per connection.
  defp ask_first(handle, node, call, timeout) do
    deadline = deadline(timeout)

    case Nodes.ask(node, &ask(node, &1, timeout)) do
      {:ok, guarded?} ->
        entry = if guarded?, do: ServiceGuard, else: :erpc
        run_remote(handle, node, entry, call, remaining(deadline))

      not_sent ->
        not_sent
    end
  end

  defp ask(node, question, timeout) do
    handle = begin(nil)
    outcome = run_remote(handle, node, :erpc, question, timeout)
    finish(handle, nil, node, outcome)
    outcome
  end

  # The entry point is the one that `:erpc` itself uses between nodes, on every OTP since 23,
  # so the other node needs no library of ours, or the guard in front of it. Unlike `:erpc.call`
  # this learns the pid, and can therefore end what nobody waits for any more.
  defp run_remote(handle, node, entry, {module, function, args}, timeout) do
    result = make_ref()
    connected? = connected?(node)

    request =
      undelayed(fn ->
        arguments = [result, module, function, args]
        :erlang.spawn_request(node, entry, :execute_call, arguments, [:monitor])
      end)

    deadline = deadline(timeout)

    receive do
      {:spawn_reply, ^request, :ok, pid} ->
        Native.executor_watch(handle, pid)
        await(request, result, pid, remaining(deadline))

      # The VM says the same of a connection that could not be made and of one that was lost
      # before the other node answered. In the latter case the function may have been called.
      {:spawn_reply, ^request, :error, :noconnection} ->
        if connected?, do: {:node_down, :noconnection}, else: :not_connected

      {:spawn_reply, ^request, :error, reason} ->
        {:node_down, reason}
    after
      timeout ->
        abandon(request)
        if connected?(node), do: :timeout, else: :unreachable
    end
  end

  @doc "Whether there is a connection to the node now."
  @spec connected?(node()) :: boolean()
  def connected?(node), do: node in Node.list(:connected)

  defp await(request, result, pid, timeout) do
    receive do
      {:DOWN, ^request, :process, ^pid, reason} -> outcome(reason, result)
    after
      timeout ->
        kill(request, pid)
        :timeout
    end
  end

  @doc "Gives a `spawn_request` up, or kills its process if it has begun after all."
  @spec abandon(reference()) :: :ok
  def abandon(request) do
    unless :erlang.spawn_request_abandon(request) do
      receive do
        {:spawn_reply, ^request, :ok, pid} ->
          kill(request, pid)

        {:spawn_reply, ^request, :error, _reason} ->
          :ok
      after
        0 -> :ok
      end
    end

    :ok
  end

  @doc "Kills a process that is monitored, and hears no more of it."
  @spec kill(reference(), pid()) :: true
  def kill(monitor, pid) do
    undelayed(fn ->
      Process.demonitor(monitor, [:flush])
      Process.exit(pid, :kill)
    end)
  end

  @doc "Runs what sends signals to another node such that a full connection does not hold it up."
  # The connection to a node that hangs is soon full. Signals then suspend their sender until
  # the connection is given up, after a minute, and no timeout runs meanwhile. What is sent
  # like this waits in the connection's own queue instead.
  @spec undelayed((-> result)) :: result when result: term()
  def undelayed(send) do
    before = :erlang.process_flag(:async_dist, true)
    sent = send.()
    :erlang.process_flag(:async_dist, before)
    sent
  end

  defp outcome({result, :return, value}, result), do: {:return, value}
  defp outcome({result, :throw, value}, result), do: {:raised, :throw, value, []}
  defp outcome({result, :exit, reason}, result), do: {:raised, :exit, reason, []}
  defp outcome({result, :error, reason, stack}, result), do: {:raised, :error, reason, stack}
  defp outcome(:noconnection, _result), do: {:node_down, :noconnection}
  defp outcome(reason, _result), do: {:raised, :exit, reason, []}

  @doc false
  @spec run(pid(), [pid()], module(), atom(), [term()]) :: no_return()
  def run(caller, callers, module, function, args) do
    Process.put(:"$callers", callers)

    outcome =
      try do
        {:return, :erlang.apply(module, function, args)}
      catch
        kind, reason -> {:raised, kind, reason, __STACKTRACE__}
      end

    leave_links(outcome)
    exit({:phoenix_gen_api, caller, outcome})
  end

  # The exit reason carries the result, but to what the function has linked itself with a
  # function that returned has ended normally.
  defp leave_links({:return, _value}) do
    {:links, links} = Process.info(self(), :links)

    for pid when is_pid(pid) <- links do
      Process.unlink(pid)
      Process.exit(pid, :normal)
    end
  end

  defp leave_links(_raised), do: :ok

  defp begin(nil), do: Native.executor_begin(nil, 0)
  defp begin({routed, index}), do: Native.executor_begin(routed, index)

  defp finish(handle, nil, _node, _outcome), do: Native.executor_end(handle)

  defp finish(handle, {routed, index}, node, outcome) do
    with verdict when verdict != :none <- Circuits.verdict(outcome),
         change when change != :ok <- Native.executor_settle(handle, routed, index, verdict) do
      Circuits.announce(change, node)
    else
      :none -> Native.executor_end(handle)
      :ok -> :ok
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp deadline(:infinity), do: :infinity
  defp deadline(timeout), do: now() + timeout

  defp remaining(:infinity), do: :infinity
  defp remaining(deadline), do: max(deadline - now(), 0)
end
