defmodule PhoenixGenApi.Test.Leaks do
  # What a test leaves behind when everything is over: processes, timers, monitors, messages and
  # native entries. Only what belongs to the test counts, so other applications, earlier tests and
  # the VM may come and go meanwhile:
  #
  #   * processes that the test process or one of its descendants has started
  #   * timers that these have set. The VM lists no timers, so the calls that start one are traced,
  #     and those that have neither fired nor been cancelled are found by `:erlang.read_timer/1`
  #   * timers of the worker pools, which are started afresh
  #   * monitors and links of the library's processes on processes of the test
  #   * native entries, of which there may be fewer than before, but not more

  import ExUnit.Assertions, only: [assert: 1]

  alias PhoenixGenApi.{Await, Gateway, Native, NodeSelector, WorkerPool}
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.StreamCall.Registry
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  @pools [:async_pool, :stream_pool]
  @makers [{:erlang, :send_after, :_}, {:erlang, :start_timer, :_}]

  @doc "Watches the calling process and all that it starts, until the test ends."
  def watch do
    for pool <- @pools, do: restart(pool)
    tracer = spawn_link(fn -> collect(%{makers: %{}, timers: [], parents: %{}}) end)
    session = :trace.session_create(:leaks, tracer, [])
    for maker <- @makers, do: :trace.function(session, maker, [{:_, [], [{:return_trace}]}], [])

    for root <- [self(), test_supervisor() | pool_processes()],
        is_pid(root),
        do: :trace.process(session, root, true, [:call, :procs, :set_on_spawn])

    # A session ends when nobody holds it any more, which is also when the tracer ends.
    ExUnit.Callbacks.on_exit(fn -> :trace.session_destroy(session) end)
    %{session: session, tracer: tracer, test: self(), native: native()}
  end

  # A pool looks after the deadlines of tasks to the end of their time, also when a task is over by
  # then: those of earlier tests go with the process.
  defp restart(pool) do
    :ok = Supervisor.terminate_child(WorkerPoolSupervisor, pool)
    {:ok, _server} = Supervisor.restart_child(WorkerPoolSupervisor, pool)
  end

  # New pools are started by their supervisor when a test kills them.
  defp pool_processes do
    pools = for name <- @pools, do: Process.whereis(name)
    [Process.whereis(WorkerPoolSupervisor) | pools]
  end

  defp test_supervisor do
    case ExUnit.fetch_test_supervisor() do
      {:ok, supervisor} -> supervisor
      :error -> nil
    end
  end

  @doc "Fails unless nothing of the test is left, soon."
  def assert_none(watch) do
    try do
      Await.until(fn -> found(watch) == [] end)
    rescue
      RuntimeError -> assert found(watch) == []
    end
  end

  @doc "The timers that will send something to this process, with their messages."
  def timers_of(watch, pid), do: for({^pid, message} <- seen(watch).timers, do: message)

  defp found(watch) do
    %{timers: timers, parents: parents} = seen(watch)
    alive = for pid <- descendants(watch.test, parents), Process.alive?(pid), do: pid

    for(timer <- timers, do: {:timer, timer}) ++
      for(pid <- alive, do: {:process, pid, Process.info(pid)}) ++
      bound(MapSet.new([watch.test | alive])) ++
      grown(watch.native, native())
  end

  defp descendants(test, parents) do
    for {pid, _parent} <- parents, descends?(pid, test, parents), do: pid
  end

  defp descends?(pid, test, parents) do
    case parents do
      %{^pid => ^test} -> true
      %{^pid => parent} -> descends?(parent, test, parents)
      _ -> false
    end
  end

  # What the library's own processes still hold on to.
  defp bound(pids) do
    for {name, process} <- tree(PhoenixGenApi.Supervisor),
        {what, others} <- Process.info(process, [:monitors, :links]) || [],
        other <- others,
        pid = with({:process, pid} <- other, do: pid),
        pid in pids,
        do: {what, name, pid}
  end

  defp grown(before, now) do
    for {key, count} <- now, count > Map.get(before, key, 0) do
      {key, before: Map.get(before, key, 0), now: count}
    end
  end

  # What the tracer has been told, which includes all that was done before this call.
  defp seen(%{session: session, tracer: tracer}) do
    delivered = :trace.delivered(session, :all)

    receive do
      {:trace_delivered, :all, ^delivered} -> send(tracer, {:seen, self()})
    end

    receive do
      {:seen, seen} ->
        timers =
          for {ref, to, message} <- seen.timers,
              :erlang.read_timer(ref),
              do: {receiver(to), message}

        %{seen | timers: timers}
    end
  end

  defp receiver(name) when is_atom(name), do: Process.whereis(name)
  defp receiver(pid), do: pid

  defp collect(seen) do
    receive do
      {:trace, pid, :call, {:erlang, _maker, [_ms, to, message | _options]}} ->
        collect(put_in(seen.makers[pid], {to, message}))

      {:trace, pid, :return_from, _maker, ref} ->
        {{to, message}, seen} = pop_in(seen.makers[pid])
        collect(%{seen | timers: [{ref, to, message} | seen.timers]})

      {:trace, parent, :spawn, pid, _mfa} ->
        collect(put_in(seen.parents[pid], parent))

      {:seen, from} ->
        seen = %{seen | timers: Enum.filter(seen.timers, &:erlang.read_timer(elem(&1, 0)))}
        send(from, {:seen, seen})
        collect(seen)

      _other ->
        collect(seen)
    end
  end

  # All that lives as long as the library, by what it is called.
  defp tree(supervisor) do
    for {id, pid, type, _modules} <- Supervisor.which_children(supervisor),
        is_pid(pid),
        child <- [{id, pid} | if(type == :supervisor, do: tree(pid), else: [])],
        do: child
  end

  # Counts of entries that only requests, streams and groups make.
  defp native do
    calls =
      for {node, _status, calls} <-
            Native.node_selector_statuses(Gateway.handle!(:node_selector)),
          into: %{},
          do: {{:in_flight, node}, calls}

    probes =
      for %{state: :half_open} = circuit <- NodeSelector.circuits(),
          into: %{},
          do: {{:probe, circuit.service, circuit.request_type, circuit.node}, 1}

    pools =
      for pool <- @pools,
          {what, count} <-
            pool |> WorkerPool.status() |> Map.take([:busy_workers, :queued_tasks]),
          into: %{},
          do: {{pool, what}, count}

    {running, revoked} = RPC.Server.size()

    %{
      running: running,
      revoked: revoked,
      streams: Registry.count(),
      watched_streams: map_size(:sys.get_state(Registry)),
      tables: length(tables())
    }
    |> Map.merge(calls)
    |> Map.merge(probes)
    |> Map.merge(pools)
    |> Map.merge(sizes(:relay, Native.relay_size(Gateway.handle!(:relay))))
    |> Map.merge(sizes(:windows, Native.rate_limiter_stats(Gateway.handle!(:rate_limiter))))
  end

  defp tables do
    processes = for {_name, pid} <- tree(PhoenixGenApi.Supervisor), do: pid
    for table <- :ets.all(), :ets.info(table, :owner) in processes, do: table
  end

  defp sizes(name, counts) do
    for {count, n} <- counts |> Tuple.to_list() |> Enum.with_index(),
        is_integer(count),
        into: %{},
        do: {{name, n}, count}
  end
end
