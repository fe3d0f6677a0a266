defmodule PhoenixGenApi.Test.Leaks do
  # What is left when everything is over: timers, monitors, links, messages and native entries.
  #
  # The VM lists no timers. So every call that starts one is traced, in all processes, and those
  # that have neither fired nor been cancelled are found by `:erlang.read_timer/1`.

  import ExUnit.Assertions, only: [assert: 1]

  alias PhoenixGenApi.{Await, Gateway, Native, NodeSelector, WorkerPool}
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.StreamCall.Registry
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  @pools [:async_pool, :stream_pool]
  @makers [{:erlang, :send_after, :_}, {:erlang, :start_timer, :_}]

  @doc "What there is now, to be compared with. From now on timers are seen, until the test ends."
  def watch do
    for pool <- @pools, do: restart(pool)
    # Something of before may still be under way.
    Await.until(fn ->
      Enum.all?(processes(), fn {_name, info} -> info.message_queue_len == 0 end)
    end)

    tracer = spawn_link(fn -> collect(%{}, []) end)
    for maker <- @makers, do: :erlang.trace_pattern(maker, [{:_, [], [{:return_trace}]}], [])
    :erlang.trace(:all, true, [:call, tracer: tracer])
    # Tracing ends with its tracer, and that with the test.
    ExUnit.Callbacks.on_exit(fn ->
      for maker <- @makers, do: :erlang.trace_pattern(maker, false, [])
    end)

    %{tracer: tracer, processes: processes(), native: native()}
  end

  # What a pool has been told to look after it looks after to the end of its time, also when it is
  # over by then: of tasks before this, that may be half a minute.
  defp restart(pool) do
    :ok = Supervisor.terminate_child(WorkerPoolSupervisor, pool)
    {:ok, _server} = Supervisor.restart_child(WorkerPoolSupervisor, pool)
  end

  @doc "Fails unless all is as it was, soon."
  def assert_none(watch) do
    try do
      Await.until(fn -> found(watch) == [] end)
    rescue
      RuntimeError -> assert found(watch) == []
    end
  end

  @doc "The timers that will send something to this process, with their messages."
  def timers_of(watch, pid), do: for({^pid, message} <- timers(watch), do: message)

  defp found(watch) do
    changed(watch.processes, processes()) ++ changed(watch.native, native()) ++ surplus(watch)
  end

  defp changed(before, now) do
    for key <- Map.keys(Map.merge(before, now)), before[key] != now[key] do
      {key, before: before[key], now: now[key]}
    end
  end

  # What does something from time to time has one, and only what lives as long as the library. A
  # pool looks after tasks, and there are none.
  defp surplus(watch) do
    pools = for name <- @pools, do: Process.whereis(name)
    periodic = for({_name, pid} <- tree(PhoenixGenApi.Supervisor), do: pid) -- pools

    for {pid, timers} <- Enum.group_by(timers(watch), &elem(&1, 0)),
        allowed = if(pid in periodic, do: 1, else: 0),
        length(timers) > allowed,
        do: {:timers, pid, timers}
  end

  defp timers(%{tracer: tracer}) do
    delivered = :erlang.trace_delivered(:all)

    receive do
      {:trace_delivered, :all, ^delivered} -> send(tracer, {:timers, self()})
    end

    receive do
      {:timers, timers} -> for {_ref, to, message} <- timers, do: {receiver(to), message}
    end
  end

  defp receiver(name) when is_atom(name), do: Process.whereis(name)
  defp receiver(pid), do: pid

  defp collect(begun, timers) do
    receive do
      {:trace, pid, :call, {:erlang, _maker, [_ms, to, message | _options]}} ->
        collect(Map.put(begun, pid, {to, message}), timers)

      {:trace, pid, :return_from, _maker, ref} ->
        {{to, message}, begun} = Map.pop!(begun, pid)
        collect(begun, [{ref, to, message} | timers])

      {:timers, from} ->
        timers = Enum.filter(timers, fn {ref, _to, _message} -> :erlang.read_timer(ref) end)
        send(from, {:timers, timers})
        collect(begun, timers)

      _other ->
        collect(begun, timers)
    end
  end

  # Of all that lives as long as the library, by what it is called: some are killed by tests.
  defp processes do
    for {name, pid} <- [
          {PhoenixGenApi.Supervisor, Process.whereis(PhoenixGenApi.Supervisor)}
          | tree(PhoenixGenApi.Supervisor)
        ],
        info = Process.info(pid, [:monitors, :monitored_by, :links, :message_queue_len]),
        into: %{} do
      {name,
       Map.new(info, fn {key, what} -> {key, if(is_list(what), do: length(what), else: what)} end)}
    end
  end

  defp tree(supervisor) do
    for {id, pid, type, _modules} <- Supervisor.which_children(supervisor),
        is_pid(pid),
        child <- [{{supervisor, id}, pid} | if(type == :supervisor, do: tree(pid, id), else: [])],
        do: child
  end

  defp tree(pid, name) do
    for {{_pid, id}, child} <- tree(pid), do: {{name, id}, child}
  end

  defp native do
    %{
      in_flight:
        for(
          {node, _status, calls} <-
            Native.node_selector_statuses(Gateway.handle!(:node_selector)),
          calls > 0,
          do: {node, calls}
        ),
      probes: for(%{state: :half_open} = circuit <- NodeSelector.circuits(), do: circuit),
      pools:
        for(
          pool <- @pools,
          do: pool |> WorkerPool.status() |> Map.take([:busy_workers, :queued_tasks])
        ),
      rpc_calls: RPC.Server.size(),
      streams: {Registry.count(), :sys.get_state(Registry)},
      relay: Native.relay_size(Gateway.handle!(:relay)),
      windows: Native.rate_limiter_stats(Gateway.handle!(:rate_limiter))
    }
  end
end
