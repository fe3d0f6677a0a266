defmodule PhoenixGenApi.RPC.Local do
  @moduledoc false
  # Runs somebody else's function in a process of its own, monitored and not linked: here or
  # on another node. Its death, however violent, is only an outcome.
  #
  # The result travels as the exit reason of that process, so a call costs one message, and
  # nothing can arrive after the caller has stopped waiting.

  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.RPC

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
  Applies a function on a node. `counter` is what `NodeSelector.pick/2` gave to count it on;
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
  def call(node, module, function, args, timeout, counter)

  def call(node, module, function, args, timeout, counter)
      when is_integer(timeout) and timeout > @longest_wait,
      do: call(node, module, function, args, @longest_wait, counter)

  def call(node, module, function, args, timeout, counter) do
    case begin(counter) do
      :circuit_open ->
        :circuit_open

      handle ->
        outcome = run(handle, node, {module, function, args}, timeout)
        finish(handle, counter, node, outcome)
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

  defp run(handle, node, call, timeout), do: RPC.Remote.call(handle, node, call, timeout)

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

    if match?({:return, _value}, outcome), do: unlink_normally()
    exit({:phoenix_gen_api, caller, outcome})
  end

  @doc false
  # The exit reason carries the result, but to what the function has linked itself with a
  # function that returned has ended normally.
  @spec unlink_normally() :: :ok
  def unlink_normally do
    {:links, links} = Process.info(self(), :links)

    for pid when is_pid(pid) <- links do
      Process.unlink(pid)
      Process.exit(pid, :normal)
    end

    :ok
  end

  defp begin(nil), do: Native.executor_begin(nil, 0)
  defp begin({routed, index}), do: Native.executor_begin(routed, index)

  defp finish(handle, nil, _node, _outcome), do: Native.executor_end(handle)

  defp finish(handle, {routed, index}, node, outcome) do
    with result when result != :none <- Circuits.classify(outcome),
         change when change != :ok <- Native.executor_settle(handle, routed, index, result) do
      Circuits.emit_change(change, node)
    else
      :none -> Native.executor_end(handle)
      :ok -> :ok
    end
  end
end
