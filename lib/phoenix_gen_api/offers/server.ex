defmodule PhoenixGenApi.Offers.Server do
  @moduledoc false
  # Watches who offers, lets them in, and has the table of configs follow. The one writer of `Offers.Store`.
  #
  # What a process goes through here: it joins a group (`Service.Scope`); it is asked for a proof; its
  # content is fetched unless it is known, once for all that offer the same; then its node is a candidate.
  # It is asked again while it does not answer. Leaving takes effect at once and is confirmed.
  #
  # `:pg` starts empty after a crash. Members that were let in are monitored here, and those that do not
  # come back to the groups in time are taken to have left.
  use GenServer

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.Offers.{Admission, Installer, Rolling, Store}
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Service.{Offer, Scope}
  alias PhoenixGenApi.ServiceNodes

  require Log

  @first_retry_ms 1_000
  @last_retry_ms 30_000
  # What the groups take to fill after a crash.
  @grace_ms 5_000
  @longest_wait_ms 60_000
  @max_nodes 1_000
  # Sentences that a line shows.
  @named 5

  # `pending` are the processes that are not let in yet: %{pid => %{service, hash, step, retry}}; `tasks`
  # what was asked: %{monitor => {:hello, pid} | {:fetch, {service, hash}, pid}}; `hidden` the nodes that
  # the log has named.
  defstruct scope: nil, pending: %{}, tasks: %{}, hidden: [], timer: nil

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    {ref, groups} = Scope.watch()
    :ok = Scope.join(Scope.gateways_group())
    there = for {group, pids} <- groups, pid <- pids, do: {group, pid}

    for {pid, _member} <- Store.members(), do: Process.monitor(pid)
    Process.send_after(self(), {:missing, for({_group, pid} <- there, do: pid)}, @grace_ms)
    send(self(), :forget)

    {:ok,
     Enum.reduce(there, %__MODULE__{scope: ref}, fn {group, pid}, state ->
       joined(state, group, pid)
     end)}
  end

  @impl true
  def handle_cast({:superseded, service}, state) do
    unless Store.offered?(service) do
      Store.forget(service)
      Rolling.put(service, %{})
      ServiceNodes.offered(service, :forgotten, [])
    end

    {:noreply, state}
  end

  @impl true
  def handle_info({ref, :join, {_service, _hash} = group, pids}, %{scope: ref} = state),
    do: {:noreply, Enum.reduce(pids, state, &joined(&2, group, &1))}

  def handle_info({ref, :leave, {service, hash}, pids}, %{scope: ref} = state),
    do: {:noreply, Enum.reduce(pids, state, &left(&2, &1, service, hash))}

  def handle_info({:DOWN, monitor, :process, _pid, reason}, %{tasks: tasks} = state)
      when is_map_key(tasks, monitor) do
    {task, tasks} = Map.pop!(tasks, monitor)
    answer = with {Admission, answer} <- reason, do: answer, else: (_crash -> :later)
    {:noreply, answered(%{state | tasks: tasks}, task, answer)}
  end

  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state) do
    state = %{state | pending: Map.delete(state.pending, pid)}

    with %{service: service, hash: hash} <- Store.member(pid) do
      state = left(state, pid, service, hash)
      Store.delete({:member, pid})
      {:noreply, state}
    else
      nil -> {:noreply, state}
    end
  end

  def handle_info({:retry, pid}, state) do
    case state.pending do
      %{^pid => %{step: :waiting} = offer} -> {:noreply, ask(state, pid, offer)}
      _gone -> {:noreply, state}
    end
  end

  # Those of before that are in no group.
  def handle_info({:missing, there}, state) do
    there = there ++ Scope.offering()

    {:noreply,
     for {pid, %{state: :up} = member} <- Store.members(), pid not in there, reduce: state do
       state -> left(state, pid, member.service, member.hash)
     end}
  end

  def handle_info(:forget, state) do
    Enum.each(Store.services(), &forget_left/1)
    left? = Enum.any?(Store.services(), &left?/1)
    # A setting that has changed meanwhile counts by then.
    {:noreply, if(left?, do: arm(%{state | timer: nil}), else: %{state | timer: nil})}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # One timer for all nodes that have left.
  defp arm(%{timer: timer} = state) do
    ms = min(Config.get(:service, :forget_ms), @longest_wait_ms)

    if timer != nil and (Process.read_timer(timer) || 0) <= ms do
      state
    else
      timer && Process.cancel_timer(timer)
      %{state | timer: Process.send_after(self(), :forget, ms)}
    end
  end

  defp left?(service),
    do: Enum.any?(Store.records(service), fn {_, record} -> record.left_at != nil end)

  defp joined(state, {service, hash} = group, pid) do
    cond do
      node(pid) in Node.list(:hidden) -> hidden(state, service, node(pid))
      match?(%{hash: ^hash, state: :up}, Store.member(pid)) -> state
      true -> ask(state, pid, %{group: group, step: :waiting, retry: @first_retry_ms})
    end
  end

  defp hidden(state, service, node) do
    unless node in state.hidden do
      Log.warning(
        "node #{node} is connected as a hidden node: what it offers of service " <>
          "#{SafeInspect.name(service)} is not taken"
      )
    end

    %{state | hidden: Enum.uniq([node | state.hidden])}
  end

  defp ask(state, pid, %{group: {service, hash}} = offer) do
    unless is_map_key(state.pending, pid), do: Process.monitor(pid)
    monitor = Admission.start(fn -> Admission.hello(pid, service, hash) end)

    %{
      state
      | pending: Map.put(state.pending, pid, %{offer | step: :asked}),
        tasks: Map.put(state.tasks, monitor, {:hello, pid, offer.group})
    }
  end

  # An answer about what the process no longer offers is for nobody.
  defp answered(state, {:hello, pid, group}, answer) do
    case {state.pending, answer} do
      {%{^pid => %{group: ^group} = offer}, {:ok, nil}} -> proven(state, pid, offer)
      {%{^pid => %{group: ^group}}, {:refused, sentences}} -> refuse(state, pid, group, sentences)
      {%{^pid => %{group: ^group} = offer}, :later} -> later(state, pid, offer)
      {%{^pid => %{group: ^group}}, :gone} -> %{state | pending: Map.delete(state.pending, pid)}
      _other -> state
    end
  end

  defp answered(state, {:fetch, group, asked}, answer) do
    waiting = for {pid, %{group: ^group, step: :proven}} <- state.pending, do: pid

    case answer do
      {:ok, functions} ->
        {service, hash} = group
        if waiting != [], do: Store.put_content(service, hash, functions)
        admit(state, waiting, group)

      {:refused, sentences} ->
        log_refusal(group, asked, sentences)
        Enum.reduce(waiting, state, &refuse(&2, &1, group, sentences, false))

      _no_answer ->
        case List.delete(waiting, asked) do
          [] -> Enum.reduce(waiting, state, &later(&2, &1, &2.pending[&1]))
          [next | _] -> fetch(state, group, next)
        end
    end
  end

  defp proven(state, pid, %{group: {service, hash} = group} = offer) do
    state = put_in(state.pending[pid], %{offer | step: :proven})

    cond do
      Store.content?(service, hash) -> admit(state, [pid], group)
      Enum.any?(state.tasks, &match?({_monitor, {:fetch, ^group, _pid}}, &1)) -> state
      true -> fetch(state, group, pid)
    end
  end

  defp fetch(state, {service, hash} = group, pid) do
    monitor = Admission.start(fn -> Admission.fetch(pid, service, hash) end)
    %{state | tasks: Map.put(state.tasks, monitor, {:fetch, group, pid})}
  end

  defp later(state, pid, offer) do
    Process.send_after(self(), {:retry, pid}, offer.retry)
    retry = min(offer.retry * 2, @last_retry_ms)
    put_in(state.pending[pid], %{offer | step: :waiting, retry: retry})
  end

  defp refuse(state, pid, {service, hash} = group, sentences, log? \\ true) do
    if log?, do: log_refusal(group, pid, sentences)
    tell(pid, {:verdict, service, hash, node(), {:refused, sentences}})
    %{state | pending: Map.delete(state.pending, pid)}
  end

  defp log_refusal({service, _hash}, pid, sentences) do
    Log.warning(
      "what node #{node(pid)} offers of service #{SafeInspect.name(service)} is refused: " <>
        SafeInspect.list(sentences, @named)
    )
  end

  defp admit(state, [], _group), do: state

  defp admit(state, pids, {service, hash} = group) do
    known = map_size(Store.records(service))
    {pids, beyond} = Enum.split(pids, max(@max_nodes - known, 0) + already(service, pids))
    for pid <- pids, do: record(service, node(pid), [hash])
    Installer.update(service)
    # Whoever sees a member finds its functions.
    for pid <- pids, do: enter(pid, service, hash)
    state = %{state | pending: Map.drop(state.pending, pids)}
    sentence = "#{@max_nodes} nodes offer the service already"
    Enum.reduce(beyond, state, &refuse(&2, &1, group, [sentence]))
  end

  defp already(service, pids) do
    records = Store.records(service)
    Enum.count(pids, &is_map_key(records, node(&1)))
  end

  defp enter(pid, service, hash) do
    node = node(pid)
    member = %{service: service, hash: hash, node: node, since: DateTime.utc_now(), state: :up}
    Store.put_member(pid, member)
    tell(pid, {:verdict, service, hash, node(), :ok})
  end

  # All that the processes of a node offer; of a node without any, what it has offered last.
  defp record(service, node, entering) do
    offered =
      for {_pid, %{node: ^node, state: :up, hash: hash}} <- Store.members(service), do: hash

    case {Enum.uniq(Enum.sort(entering ++ offered)), Store.records(service)[node]} do
      {[], nil} ->
        true

      {[], %{left_at: nil} = record} ->
        Store.put_record(service, node, %{record | left_at: now()})

      {[], _left_before} ->
        true

      {hashes, _record} ->
        Store.put_record(service, node, %{hashes: hashes, left_at: nil})
    end
  end

  # A process that offers something else has joined for that first.
  defp left(state, pid, service, hash) do
    state =
      case state.pending do
        %{^pid => %{group: {^service, ^hash}}} ->
          %{state | pending: Map.delete(state.pending, pid)}

        _other ->
          state
      end

    with %{hash: ^hash, service: ^service, state: :up} = member <- Store.member(pid) do
      # Until it ends, which may take as long as its calls.
      Store.put_member(pid, %{member | state: :draining})
      record(service, member.node, [])
      Installer.update(service)
    end

    tell(pid, {:left, service, hash, node()})
    arm(state)
  end

  # Nodes that have left long ago.
  defp forget_left(service) do
    oldest = now() - Config.get(:service, :forget_ms)

    forgotten =
      for {node, %{left_at: at}} <- Store.records(service), at != nil and at <= oldest do
        Store.delete({:node, service, node})
      end

    if forgotten != [], do: Installer.update(service)
  end

  defp tell(pid, message) do
    :erlang.send(pid, {Offer.tag(), message}, [:noconnect])
    :ok
  end

  defp now, do: System.monotonic_time(:millisecond)
end
