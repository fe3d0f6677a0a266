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
  alias PhoenixGenApi.ServiceSets

  require Log

  @first_retry_ms 1_000
  @last_retry_ms 30_000
  # What the groups take to fill after a crash.
  @grace_ms 5_000
  @longest_wait_ms 60_000
  @max_nodes 1_000
  # Sentences that a line shows.
  @named 5

  # `pending` are the offers that are not let in yet, with how far they are; `tasks` what was asked:
  # %{monitor => {:hello, offer} | {:fetch, {service, hash}, asked :: offer}}; `watched` the processes with a
  # monitor, one each however often they come and go.
  defstruct scope: nil, pending: %{}, tasks: %{}, watched: MapSet.new(), timer: nil

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    {ref, groups} = Scope.watch()
    :ok = Scope.join(Scope.gateways_group())
    there = for {{service, hash}, pids} <- groups, pid <- pids, do: {pid, service, hash}

    state =
      for {{pid, _service, _hash}, _member} <- Store.members(), reduce: %__MODULE__{scope: ref} do
        state -> watch(state, pid)
      end

    Process.send_after(self(), {:missing, there}, @grace_ms)
    send(self(), :forget)
    {:ok, Enum.reduce(there, state, &joined(&2, &1)), {:continue, :resume}}
  end

  @impl true
  def handle_continue(:resume, state) do
    Enum.each(Store.recorded(), &resume/1)
    {:noreply, state}
  end

  # The process before this one may have ended in the middle of a change.
  defp resume(service) do
    members = for {_offer, %{node: node, state: :up}} <- Store.members(service), do: node

    for {node, %{left_at: nil}} <- Store.records(service),
        node not in members,
        do: record(service, node, [])

    Installer.update(service)
  end

  @impl true
  def handle_cast({:superseded, service}, state) do
    unless Store.offered?(service) do
      Store.forget(service)
      Rolling.keep(service, [])
      ServiceNodes.offered(service, :forgotten, [])
    end

    {:noreply, state}
  end

  @impl true
  def handle_info({ref, change, group, pids}, %{scope: ref} = state)
      when change in [:join, :leave] do
    if Scope.group?(group),
      do: {:noreply, Enum.reduce(pids, state, &changed(&2, change, group, &1))},
      else: {:noreply, state}
  end

  def handle_info({:DOWN, monitor, :process, _pid, reason}, %{tasks: tasks} = state)
      when is_map_key(tasks, monitor) do
    {task, tasks} = Map.pop!(tasks, monitor)
    answer = with {Admission, answer} <- reason, do: answer, else: (_crash -> :later)
    {:noreply, answered(%{state | tasks: tasks}, task, monitor, answer)}
  end

  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state) do
    pending = for {{^pid, _, _} = offer, _step} <- state.pending, do: offer
    members = for {{^pid, _, _} = offer, _member} <- Store.members(), do: offer
    state = %{state | watched: MapSet.delete(state.watched, pid)}
    state = Enum.reduce(pending ++ members, state, &left(&2, &1))
    for offer <- members, do: Store.delete({:member, offer})
    {:noreply, state}
  end

  def handle_info({:retry, offer}, state) do
    case state.pending do
      %{^offer => {:waiting, retry_ms}} -> {:noreply, ask(state, offer, retry_ms)}
      _gone -> {:noreply, state}
    end
  end

  # Those of before that are in no group.
  def handle_info({:missing, there}, state) do
    there = there ++ Scope.offers()

    {:noreply,
     for {offer, %{state: :up}} <- Store.members(), offer not in there, reduce: state do
       state -> left(state, offer)
     end}
  end

  def handle_info(:forget, state) do
    Enum.each(Store.services(), &forget_left/1)
    left? = Enum.any?(Store.services(), &left?/1)
    # A setting that has changed meanwhile counts by then.
    {:noreply, if(left?, do: arm(%{state | timer: nil}), else: %{state | timer: nil})}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp changed(state, :join, {service, hash}, pid), do: joined(state, {pid, service, hash})
  defp changed(state, :leave, {service, hash}, pid), do: left(state, {pid, service, hash})

  defp joined(state, offer) do
    if match?(%{state: :up}, Store.member(offer)) do
      # A process before this one has said so. What the service knows of that may have ended with it.
      tell(offer, :ok)
      state
    else
      ask(state, offer, @first_retry_ms)
    end
  end

  defp watch(%{watched: watched} = state, pid) do
    if MapSet.member?(watched, pid) do
      state
    else
      Process.monitor(pid)
      %{state | watched: MapSet.put(watched, pid)}
    end
  end

  defp ask(state, {pid, service, hash} = offer, retry_ms) do
    state = watch(state, pid)
    monitor = Admission.start(fn -> Admission.hello(pid, service, hash) end)

    %{
      state
      | pending: Map.put(state.pending, offer, {:asked, monitor, retry_ms}),
        tasks: Map.put(state.tasks, monitor, {:hello, offer})
    }
  end

  defp answered(state, {:hello, offer}, monitor, answer) do
    case {state.pending, answer} do
      {%{^offer => {:asked, ^monitor, ms}}, {:ok, nil}} -> proven(state, offer, ms)
      {%{^offer => {:asked, ^monitor, _}}, {:refused, why}} -> refuse(state, offer, why)
      {%{^offer => {:asked, ^monitor, ms}}, :later} -> later(state, offer, ms)
      {%{^offer => {:asked, ^monitor, _}}, :gone} -> drop(state, offer)
      # It was taken back, and may have been made again: then it is asked again, too.
      {_pending, _answer} -> state
    end
  end

  defp answered(state, {:fetch, {service, hash}, asked}, _monitor, answer) do
    waiting = for {{_, ^service, ^hash} = offer, {:proven, _}} <- state.pending, do: offer

    case answer do
      {:ok, functions} ->
        if waiting != [], do: Store.put_content(service, hash, functions)
        admit(state, waiting, service)

      {:refused, sentences} ->
        log_refusal(asked, sentences)
        Enum.reduce(waiting, state, &refuse(&2, &1, sentences, false))

      _no_answer ->
        # It has its turn after a pause: two that do not answer are not asked by turns without end.
        state =
          with {:proven, retry_ms} <- state.pending[asked],
               do: later(state, asked, retry_ms),
               else: (_left -> state)

        case List.delete(waiting, asked) do
          [] -> state
          [next | _] -> fetch(state, next)
        end
    end
  end

  defp drop(state, offer), do: %{state | pending: Map.delete(state.pending, offer)}

  defp proven(state, {_pid, service, hash} = offer, retry_ms) do
    state = put_in(state.pending[offer], {:proven, retry_ms})

    cond do
      Store.content?(service, hash) -> admit(state, [offer], service)
      Enum.any?(state.tasks, &match?({_, {:fetch, {^service, ^hash}, _}}, &1)) -> state
      true -> fetch(state, offer)
    end
  end

  defp fetch(state, {pid, service, hash} = offer) do
    monitor = Admission.start(fn -> Admission.fetch(pid, service, hash) end)
    %{state | tasks: Map.put(state.tasks, monitor, {:fetch, {service, hash}, offer})}
  end

  defp later(state, offer, retry_ms) do
    Process.send_after(self(), {:retry, offer}, retry_ms)
    put_in(state.pending[offer], {:waiting, min(retry_ms * 2, @last_retry_ms)})
  end

  defp refuse(state, offer, sentences, log? \\ true) do
    if log?, do: log_refusal(offer, sentences)
    tell(offer, {:refused, sentences})
    drop(state, offer)
  end

  defp log_refusal({pid, service, _hash}, sentences) do
    Log.warning(
      "what node #{node(pid)} offers of service #{SafeInspect.name(service)} is refused: " <>
        SafeInspect.list(sentences, @named)
    )
  end

  defp admit(state, [], _service), do: state

  defp admit(state, offers, service) do
    if ServiceSets.of_service(service),
      do: let_in(state, offers, service),
      else: Enum.reduce(offers, state, &refuse(&2, &1, ["this gateway knows too many services"]))
  end

  defp let_in(state, offers, service) do
    make_room(service, length(offers))
    records = Store.records(service)
    {again, new} = Enum.split_with(offers, fn {pid, _, _} -> is_map_key(records, node(pid)) end)
    {new, beyond} = Enum.split(new, max(@max_nodes - map_size(records), 0))
    offers = again ++ new

    for {pid, _service, hash} <- offers, do: record(service, node(pid), [hash])
    Installer.update(service)

    # Whoever sees a member finds its functions.
    for {pid, _service, _hash} = offer <- offers do
      forget_drained(offer)
      Store.put_member(offer, %{node: node(pid), since: DateTime.utc_now(), state: :up})
      tell(offer, :ok)
    end

    state = %{state | pending: Map.drop(state.pending, offers)}
    Enum.reduce(beyond, state, &refuse(&2, &1, ["#{@max_nodes} nodes offer the service already"]))
  end

  # Nodes that have left, the longest ago first, are no reason to refuse others: where each deployment has new
  # names, there are soon more of them than of those that are up.
  defp make_room(service, coming) do
    records = Store.records(service)
    left = for {node, %{left_at: at}} <- records, at != nil, do: {at, node}
    too_many = max(map_size(records) + coming - @max_nodes, 0)

    for {_at, node} <- left |> Enum.sort() |> Enum.take(too_many),
        do: Store.delete({:node, service, node})
  end

  # A process that offers something else of the service is not shown as one that stops, too.
  defp forget_drained({pid, service, _hash}) do
    for {{^pid, _, _} = offer, %{state: :draining}} <- Store.members(service),
        do: Store.delete({:member, offer})
  end

  # All that the processes of a node offer; of a node without any, what it has offered last.
  defp record(service, node, entering) do
    offered = for {{_, _, hash}, %{node: ^node, state: :up}} <- Store.members(service), do: hash

    case {Enum.uniq(Enum.sort(entering ++ offered)), Store.records(service)[node]} do
      {[], %{left_at: nil} = record} ->
        Store.put_record(service, node, %{record | left_at: now()})

      {[], _none_or_left_before} ->
        true

      {hashes, _record} ->
        Store.put_record(service, node, %{hashes: hashes, left_at: nil})
    end
  end

  defp left(state, {pid, service, hash} = offer) do
    with %{state: :up} = member <- Store.member(offer) do
      forget_drained(offer)
      # Until it ends, which may take as long as its calls.
      Store.put_member(offer, %{member | state: :draining})
      record(service, member.node, [])
      Installer.update(service)
    end

    send_to(pid, {:left, service, hash, node()})
    state |> drop(offer) |> arm()
  end

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

  # Nodes that have left long ago.
  defp forget_left(service) do
    oldest = now() - Config.get(:service, :forget_ms)

    forgotten =
      for {node, %{left_at: at}} <- Store.records(service), at != nil and at <= oldest do
        Store.delete({:node, service, node})
      end

    if forgotten != [], do: Installer.update(service)
  end

  defp tell({pid, service, hash}, verdict),
    do: send_to(pid, {:verdict, service, hash, node(), verdict})

  # Not by way of a new connection: whoever is gone has left.
  defp send_to(pid, message), do: Process.send(pid, {Offer.tag(), message}, [:noconnect])

  defp now, do: System.monotonic_time(:millisecond)
end
