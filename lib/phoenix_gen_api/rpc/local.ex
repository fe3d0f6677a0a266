defmodule PhoenixGenApi.RPC.Local do
  @moduledoc false
  # Runs somebody else's function here, in a process of its own, monitored and not linked. Its
  # death, however violent, is only an outcome.
  #
  # The result travels as the exit reason of that process, so a call costs one message, and
  # nothing can arrive after the caller has stopped waiting.
  #
  # A process that exists for one call only, and that a watchdog can kill and answer for, runs the
  # function itself (`run_inline/6`). That saves a process and two copies, of arguments and result.

  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.Native

  # The longest that the VM can wait in a receive, some 49 days.
  @longest_wait 0xFFFF_FFFF

  @typedoc "What became of the function."
  @type outcome ::
          {:return, term()}
          | {:raised, :error | :exit | :throw, term(), Exception.stacktrace()}
          | :timeout

  @typedoc """
  How such a process is watched: `begins` is called before the function. If the function times out, `watchdog` receives
  `{:timeout, timer, {:expired, request, call}}`.
  """
  @type inline :: %{
          required(:watchdog) => atom(),
          required(:request) => term(),
          required(:begins) => (-> term()),
          optional(:plan) => term()
        }

  @typedoc "A call that has run for too long."
  @type call :: %{
          plan: term(),
          handle: reference() | :free,
          target: {node(), PhoenixGenApi.Circuits.counter()}
        }

  @doc "Applies a function, for hooks, callbacks and node functions."
  @spec apply(module(), atom(), [term()], timeout()) :: {:ok, term()} | {:error, term()}
  def apply(module, function, args, timeout) do
    case call(module, function, args, timeout) do
      {:return, value} -> {:ok, value}
      {:raised, :error, reason, stack} -> {:error, Exception.normalize(:error, reason, stack)}
      {:raised, _kind, reason, _stack} -> {:error, reason}
      :timeout -> {:error, :timeout}
    end
  end

  @doc "Applies a function that counts as load of no node."
  @spec call(module(), atom(), [term()], timeout(), map() | nil) :: outcome()
  def call(module, function, args, timeout, metadata \\ nil) do
    handle = Native.executor_begin(nil, 0, nil)
    outcome = run(handle, {module, function, args}, bounded(timeout), metadata)
    Native.executor_end(handle)
    outcome
  end

  @doc "A timeout that the VM can wait for."
  @spec bounded(timeout()) :: timeout()
  def bounded(timeout) when is_integer(timeout) and timeout > @longest_wait, do: @longest_wait
  def bounded(timeout), do: timeout

  @doc "Applies a function under the handle of its call, which kills it if the caller dies."
  @spec run(reference(), {module(), atom(), [term()]}, timeout(), map() | nil) :: outcome()
  def run(handle, {module, function, args}, timeout, metadata) do
    caller = self()
    callers = [caller | Process.get(:"$callers", [])]

    {pid, monitor} =
      spawn_monitor(__MODULE__, :run, [caller, callers, metadata, module, function, args])

    Native.executor_set_process(handle, pid)

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

  @doc """
  Has a process that works for the calling one killed if the calling one dies, until `unbind/1`: also while
  it waits for something else, and could not notice.
  """
  @spec bind(pid()) :: reference()
  def bind(pid) do
    handle = Native.executor_begin(nil, 0, nil)
    Native.executor_set_process(handle, pid)
    handle
  end

  @doc "Ends what `bind/1` has begun."
  @spec unbind(reference()) :: :ok
  def unbind(handle) do
    Native.executor_end(handle)
    :ok
  end

  @doc "Applies a function in the calling process, which the watchdog kills if it takes too long."
  @spec run_inline(
          reference() | :free,
          {node(), PhoenixGenApi.Circuits.counter()},
          {module(), atom(), [term()]},
          timeout(),
          map() | nil,
          inline()
        ) :: outcome()
  def run_inline(handle, target, {module, function, args}, timeout, metadata, inline) do
    args = Deadline.adopt(metadata, args)
    inline.begins.()
    timer = start_timer(timeout, handle, target, inline)

    outcome = attempt(module, function, args)
    stop_timer(timer)
    # This process goes on, so it ends for them what the function was.
    end_links(if match?({:return, _value}, outcome), do: :normal, else: outcome)
    outcome
  end

  defp start_timer(:infinity, _handle, _target, _inline), do: nil

  defp start_timer(timeout, handle, target, %{watchdog: watchdog, request: request, plan: plan}) do
    call = %{plan: plan, handle: handle, target: target}
    :erlang.start_timer(timeout, watchdog, {:expired, request, call})
  end

  defp stop_timer(nil), do: :ok
  defp stop_timer(timer), do: :erlang.cancel_timer(timer, async: true, info: false)

  @doc false
  @spec run(pid(), [pid()], map() | nil, module(), atom(), [term()]) :: no_return()
  def run(caller, callers, metadata, module, function, args) do
    Process.put(:"$callers", callers)
    args = Deadline.adopt(metadata, args)

    outcome = attempt(module, function, args)
    if match?({:return, _value}, outcome), do: unlink_normally()
    exit({:phoenix_gen_api, caller, outcome})
  end

  defp attempt(module, function, args) do
    {:return, :erlang.apply(module, function, args)}
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end

  @doc false
  # The exit reason carries the result, but to what the function has linked itself with a
  # function that returned has ended normally.
  @spec unlink_normally() :: :ok
  def unlink_normally, do: end_links(:normal)

  # As if this process had ended, with that reason.
  defp end_links(reason) do
    {:links, links} = Process.info(self(), :links)

    for pid when is_pid(pid) <- links do
      Process.unlink(pid)
      Process.exit(pid, reason)
    end

    :ok
  end
end
