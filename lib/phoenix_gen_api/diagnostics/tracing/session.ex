defmodule PhoenixGenApi.Diagnostics.Tracing.Session do
  @moduledoc false
  # Owns a trace session of its own (OTP 27), so that other tracers neither see nor disturb it.
  #
  # Trace messages come here first and are handed on, so many and no more: then, or when the time
  # is over, or whoever receives them is gone, the session ends. A flood that comes faster than
  # it is counted kills this process by its heap limit, and the session goes with it.
  #
  # The process is started by the first trace and linked to nobody: it works on a node in client
  # mode too, and there is nothing to restart.
  use GenServer

  @max_heap_words div(64 * 1_024 * 1_024, :erlang.system_info(:wordsize))

  @type limits :: %{tracer: pid(), max_messages: pos_integer(), max_ms: pos_integer()}

  @doc "Sets flags on processes."
  @spec trace_processes([pid() | atom()], [atom()], limits()) :: {:ok, map()} | {:error, term()}
  def trace_processes(targets, flags, limits), do: ask({:processes, targets, flags, limits}, true)

  @doc "Sets patterns on functions."
  @spec trace_functions([mfa()], term(), [atom()], limits()) :: {:ok, map()} | {:error, term()}
  def trace_functions(mfas, match_spec, scope, limits),
    do: ask({:functions, mfas, match_spec, scope, limits}, true)

  @doc "Clears flags; the session ends when all of all processes go."
  @spec stop_processes([pid() | atom()], [atom()]) :: {:ok, map()}
  def stop_processes(targets, flags), do: ask({:stop_processes, targets, flags}, false)

  @doc "Clears patterns, or all of them."
  @spec stop_functions([mfa()] | :all) :: {:ok, map()}
  def stop_functions(mfas), do: ask({:stop_functions, mfas}, false)

  @doc "Whether there is a session, and what it has delivered."
  @spec status() :: map()
  def status do
    case Process.whereis(__MODULE__) && call(:status) do
      {:ok, status} -> status
      _none -> %{active: false}
    end
  end

  defp ask(request, start?) do
    if start? do
      with {:error, {:already_started, _pid}} <-
             GenServer.start(__MODULE__, [], name: __MODULE__),
           do: :ok
    end

    case call(request) do
      :ended when start? -> ask(request, true)
      :ended -> {:ok, %{active: false, processes: 0, functions: 0}}
      answer -> answer
    end
  end

  # It may end at any time, which is no failure.
  defp call(request) do
    GenServer.call(__MODULE__, request)
  catch
    :exit, {reason, _call} when reason in [:noproc, :normal, :killed] -> :ended
  end

  @impl true
  def init(_opts) do
    Process.flag(:message_queue_data, :on_heap)
    Process.flag(:priority, :high)

    Process.flag(:max_heap_size, %{
      size: @max_heap_words,
      kill: true,
      error_logger: true,
      include_shared_binaries: true
    })

    session = :trace.session_create(:phoenix_gen_api, self(), [])

    {:ok,
     %{
       session: session,
       tracer: nil,
       monitor: nil,
       timer: nil,
       left: 0,
       delivered: 0,
       processes: [],
       functions: []
     }}
  end

  @impl true
  def handle_call({:processes, targets, flags, limits}, _from, state) do
    state = limit(state, limits)
    traced = Enum.sum_by(targets, &set(state.session, &1, true, flags))
    # Tracing who receives the messages would trace their arrival.
    spare(state)
    state = %{state | processes: Enum.uniq(state.processes ++ targets)}
    {:reply, {:ok, Map.merge(about(state), %{traced: traced, flags: flags})}, state}
  end

  def handle_call({:functions, mfas, match_spec, scope, limits}, _from, state) do
    matched = Enum.map(mfas, &{&1, pattern(state.session, &1, match_spec, scope)})

    if Enum.any?(matched, fn {_mfa, n} -> n == :error end) do
      for mfa <- mfas, do: pattern(state.session, mfa, false, scope)
      idle({:reply, {:error, :invalid_match_spec}, state})
    else
      state = limit(state, limits)
      state = %{state | functions: Enum.uniq(state.functions ++ mfas)}
      matched = Enum.sum_by(matched, &elem(&1, 1))
      {:reply, {:ok, Map.put(about(state), :matched, matched)}, state}
    end
  end

  def handle_call({:stop_processes, targets, flags}, _from, state) do
    cleared = Enum.sum_by(targets, &set(state.session, &1, false, flags))
    # New and existing ones are all there are.
    all? = flags == [:all] and :all in targets
    rest = if all?, do: [], else: state.processes -- if(flags == [:all], do: targets, else: [])
    state = %{state | processes: rest, functions: if(all?, do: [], else: state.functions)}
    idle({:reply, {:ok, Map.put(about(state), :cleared, cleared)}, state})
  end

  def handle_call({:stop_functions, :all}, from, state),
    do: handle_call({:stop_functions, state.functions}, from, state)

  def handle_call({:stop_functions, mfas}, _from, state) do
    for mfa <- mfas, scope <- [:local, :global], do: pattern(state.session, mfa, false, [scope])
    state = %{state | functions: Enum.reject(state.functions, &covered?(&1, mfas))}
    idle({:reply, {:ok, about(state)}, state})
  end

  def handle_call(:status, _from, state), do: {:reply, {:ok, about(state)}, state}

  @impl true
  def handle_info(message, state)
      when elem(message, 0) in [:trace, :trace_ts] and is_pid(state.tracer) do
    send(state.tracer, message)
    counted(%{state | left: state.left - 1, delivered: state.delivered + 1})
  end

  def handle_info({:timeout, timer, :over}, %{timer: timer} = state), do: ending(:time, state)

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, %{monitor: monitor} = state),
    do: {:stop, :normal, state}

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state), do: :trace.session_destroy(state.session)

  defp counted(%{left: 0} = state), do: ending(:messages, state)
  defp counted(state), do: {:noreply, state}

  defp ending(limit, state) do
    send(state.tracer, {:phoenix_gen_api_trace_ended, limit, state.delivered})
    {:stop, :normal, state}
  end

  # Nothing is traced any more.
  defp idle({:reply, answer, %{processes: [], functions: []} = state}),
    do: {:stop, :normal, answer, state}

  defp idle(reply), do: reply

  # The limits of the last trace that was asked for.
  defp limit(state, %{tracer: tracer, max_messages: max, max_ms: ms}) do
    if state.timer, do: :erlang.cancel_timer(state.timer)
    if state.monitor, do: Process.demonitor(state.monitor, [:flush])

    state = %{
      state
      | tracer: tracer,
        monitor: Process.monitor(tracer),
        timer: :erlang.start_timer(ms, self(), :over),
        left: max
    }

    spare(state)
    state
  end

  defp spare(%{session: session, tracer: tracer}), do: set(session, tracer, false, [:all])

  # A process may have ended since it was named.
  defp set(session, target, on?, flags) do
    :trace.process(session, target, on?, flags)
  rescue
    ArgumentError -> 0
  end

  defp pattern(session, {module, _, _} = mfa, match_spec, scope) do
    # Patterns are set on the code that is loaded.
    _ = Code.ensure_loaded(module)
    :trace.function(session, mfa, match_spec, scope)
  rescue
    ArgumentError -> :error
  end

  defp covered?({m, f, a}, mfas) do
    Enum.any?(mfas, fn {module, function, arity} ->
      m == module and function in [:_, f] and arity in [:_, a]
    end)
  end

  defp about(state) do
    %{
      active: true,
      tracer: state.tracer,
      processes: length(state.processes),
      functions: length(state.functions),
      delivered: state.delivered,
      messages_left: state.left
    }
  end
end
