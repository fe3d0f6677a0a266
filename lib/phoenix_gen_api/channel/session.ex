defmodule PhoenixGenApi.Channel.Session do
  @moduledoc false
  # The requests of one channel: which wait, which are executing, and which async and stream
  # requests are running. Started by the channel with its first request, ended by its death.
  #
  # The channel is monitored and not linked, and does not monitor the session: whatever
  # happens here, a channel must neither crash nor be sent a message that its module would
  # have to know. Its processes, one per request, are linked and go with it.
  #
  # A request takes one of `concurrency` slots from its start until its answer or
  # acknowledgement has been sent. A request's process says so ahead of sending (`answering/1`
  # and its like): a client that reacts to what it gets finds the limits up to date.
  use GenServer, restart: :temporary

  alias PhoenixGenApi.Channel.{Delivery, Entry, Options, PhoenixAdapter, RequestProcess, Waiting}
  alias PhoenixGenApi.ClientConnection
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Structs.Request

  @hibernate_after 15_000

  # A client of good will cancels what it has asked for, once. More than so many cancels in a
  # second are no better than requests, and wait with them.
  @cancels_per_second 100

  # Nobody says when a client has read enough for the next request.
  @look_ms 20

  @typedoc "What waits for its turn: also a cancel that came too soon after others."
  @type item :: Entry.item() | {:cancel, String.t()}

  defstruct [
    :channel,
    :callers,
    :options,
    :delivery,
    waiting: nil,
    # when the queue is looked at without any request having ended: {at, timer}
    look: nil,
    # pid => job, see start_item/4: those that have a slot
    executing: %{},
    # the same with their kind, :async or :stream: those that were acknowledged, some a moment before
    # they give their slot back
    running: %{},
    # the second in which the last cancel came, and how many have acted at once in it
    cancels: {0, 0},
    # the last one for the relay
    relaying: nil
  ]

  @doc "Starts the session of the calling channel."
  @spec start(Options.t(), Delivery.t()) :: pid()
  def start(options, delivery) do
    callers = [self() | Process.get(:"$callers", [])]
    init = {self(), callers, options, delivery}
    {:ok, pid} = GenServer.start(__MODULE__, init, hibernate_after: @hibernate_after)
    pid
  end

  @doc "Takes a request in."
  @spec request(pid(), PhoenixAdapter.ref(), Entry.item()) :: :ok
  def request(session, ref, item), do: GenServer.cast(session, {:request, ref, item})

  @doc "Ends the running requests of that id and replies whether there were any."
  @spec cancel(pid(), PhoenixAdapter.ref(), String.t()) :: :ok
  def cancel(session, ref, id), do: GenServer.cast(session, {:cancel, ref, id})

  @doc "Ends the running streams of that id; their number. From the channel."
  @spec stop_streams(pid(), String.t()) :: non_neg_integer()
  def stop_streams(session, id) do
    GenServer.call(session, {:stop_streams, id}, :infinity)
  catch
    :exit, _dead -> 0
  end

  @doc "From a request's process: what it sends next is the answer."
  @spec answering(pid()) :: :ok
  def answering(session), do: GenServer.cast(session, {:answering, self()})

  @doc "From a request's process: what it sends next is the acknowledgement, or the refusal it gets."
  @spec acknowledging(pid(), :async | :stream) :: :ok | {:refused, ErrorResponse.failure()}
  def acknowledging(session, kind),
    do: GenServer.call(session, {:acknowledging, kind}, :infinity)

  @doc "From a request's process: the acknowledgement is sent, the slot is free."
  @spec acknowledged(pid()) :: :ok
  def acknowledged(session), do: GenServer.cast(session, {:acknowledged, self()})

  @doc "From a request's process: what it sends next is the last thing, unless it was cancelled."
  @spec finishing(pid()) :: :ok | :cancelled
  def finishing(session), do: GenServer.call(session, :finishing, :infinity)

  @impl true
  def init({channel, callers, options, delivery}) do
    Process.flag(:trap_exit, true)
    Process.set_label({__MODULE__, delivery.socket.topic})
    Process.monitor(channel)
    # A channel finds behind everything else that its client has gone: results would be made and
    # written for nobody meanwhile.
    Process.monitor(delivery.socket.transport_pid)

    {:ok,
     %__MODULE__{
       channel: channel,
       callers: callers,
       options: options,
       delivery: delivery,
       waiting: Waiting.new()
     }}
  end

  @impl true
  def handle_cast({:request, ref, {:refuse, _request, limit} = item}, state),
    do: {:noreply, refuse(ref, item, limit, state)}

  def handle_cast({:request, ref, item}, state), do: {:noreply, admit(ref, item, state)}

  def handle_cast({:cancel, ref, id}, state) do
    case {System.monotonic_time(:second), state.cancels} do
      {second, {second, @cancels_per_second}} ->
        {:noreply, admit(ref, {:cancel, id}, state)}

      {second, {second, count}} ->
        {:noreply, cancel_now(ref, id, %{state | cancels: {second, count + 1}})}

      {second, _before} ->
        {:noreply, cancel_now(ref, id, %{state | cancels: {second, 1}})}
    end
  end

  # A client that reacts to the answer finds it counted no more.
  def handle_cast({:answering, pid}, state) do
    with %{^pid => job} <- state.executing, do: finished(job, state)
    {:noreply, mark_answering(state, pid)}
  end

  def handle_cast({:acknowledged, pid}, state),
    do: {:noreply, next(%{state | executing: Map.delete(state.executing, pid)})}

  @impl true
  def handle_call({:acknowledging, kind}, {pid, _tag}, state)
      when is_map_key(state.executing, pid) do
    job = Map.fetch!(state.executing, pid)
    state = mark_answering(state, pid)

    # Not reserved is what a hook, or a new config, has turned into a long request.
    if job.long? or long(state) < state.options.max_running do
      running = Map.put(state.running, pid, Map.put(job, :kind, kind))
      state = %{state | running: running}
      {_ended, state} = if job.cancelled?, do: end_running([pid], state), else: {0, state}
      {:reply, :ok, state}
    else
      finished(job, state)
      {:reply, {:refused, {:channel, :max_running}}, state}
    end
  end

  # It was cancelled at the same moment, and is about to end.
  def handle_call({:acknowledging, _kind}, _from, state), do: {:noreply, state}

  def handle_call({:stop_streams, id}, _from, state) do
    streams = for {pid, %{id: ^id, kind: :stream}} <- state.running, do: pid
    {stopped, state} = end_running(streams, state)
    {:reply, stopped, state}
  end

  def handle_call(:finishing, {pid, _tag}, state) do
    case Map.pop(state.running, pid) do
      {nil, _running} ->
        {:reply, :cancelled, state}

      {job, running} ->
        finished(job, state)
        {:reply, :ok, %{state | running: running}}
    end
  end

  @impl true
  def handle_info({:DOWN, _monitor, :process, _pid, _reason}, state),
    do: {:stop, :shutdown, state}

  def handle_info({:EXIT, pid, reason}, state) do
    if reason != :normal, do: answer_for(pid, state)
    with %{} = job <- unfinished(pid, state), do: finished(job, state)

    state = %{
      state
      | executing: Map.delete(state.executing, pid),
        running: Map.delete(state.running, pid)
    }

    {:noreply, next(state)}
  end

  def handle_info({:timeout, timer, :look}, %{look: {_at, timer}} = state),
    do: {:noreply, next(%{expire(state, now()) | look: nil})}

  def handle_info(_other, state), do: {:noreply, state}

  defp unfinished(pid, state) do
    case state do
      %{running: %{^pid => job}} -> job
      %{executing: %{^pid => %{answering?: false} = job}} -> job
      _finished -> nil
    end
  end

  defp cancel_now(ref, id, state), do: next(start_item(ref, {:cancel, id}, state))

  defp end_running(pids, state) do
    for pid <- pids do
      send(pid, :cancel)
      finished(Map.fetch!(state.running, pid), state)
    end

    {length(pids), %{state | running: Map.drop(state.running, pids)}}
  end

  # Either the request's process answers or the session does: who claims it first.
  defp end_executing(id, state) do
    for {pid, %{id: ^id, answering?: false} = job} <- state.executing,
        not is_map_key(state.running, pid),
        reduce: {0, state} do
      {ended, state} ->
        case RequestProcess.claim(job.claim, :cancelled) do
          :ok -> {ended + 1, kill(pid, job, state)}
          # It ends when its acknowledgement is sent.
          :acknowledged -> {ended + 1, put_in(state.executing[pid].cancelled?, true)}
          :ended -> {ended, state}
        end
    end
  end

  # Its function ends with its process, also on another node.
  defp kill(pid, job, state) do
    Process.unlink(pid)
    Process.exit(pid, :kill)
    finished(job, state)
    response = Executor.cancelled(job.request, job.started, job.queued)
    Delivery.answer(state.delivery, job.ref, response)
    %{state | executing: Map.delete(state.executing, pid)}
  end

  defp end_waiting(id, state) do
    {those, waiting} = Waiting.take_all(state.waiting, id)

    for {ref, %Entry{request: request} = entry} <- those do
      finished(entry, state)
      FailureLog.log(:cancelled, FailureLog.about(request))
      Delivery.answer(state.delivery, ref, ErrorResponse.build(id, :cancelled))
    end

    {length(those), %{state | waiting: waiting}}
  end

  # A request's process only dies of a bug or by somebody else's hand.
  defp answer_for(pid, state) do
    case state do
      %{running: %{^pid => %{id: id, kind: :async}}} ->
        Delivery.later(state.delivery, state.channel, :async_call, died(id, :async_failed))

      %{running: %{^pid => %{id: id, kind: :stream}}} ->
        Delivery.later(state.delivery, state.channel, :stream_response, died(id, :stream_failed))

      %{executing: %{^pid => %{id: id, ref: ref, answering?: false}}} ->
        Delivery.answer(state.delivery, ref, died(id, :request_failed))

      _answered ->
        :ok
    end
  end

  defp died(id, failure) do
    FailureLog.log(failure, about({:cancel, id}))
    ErrorResponse.build(id, failure)
  end

  defp admit(ref, item, state) do
    cond do
      state.waiting.count == 0 and may_start?(state) ->
        start_item(ref, item, state)

      state.waiting.count < state.options.max_pending + nearly_free(state.executing) ->
        until = now() + state.options.max_wait_ms
        look_again(%{state | waiting: Waiting.put(state.waiting, {until, ref, item})})

      true ->
        refuse_begun(ref, item, :max_pending, state)
    end
  end

  defp refuse_begun(ref, item, limit, state) do
    if is_struct(item, Entry), do: finished(item, state)
    refuse(ref, item, limit, state)
  end

  defp refuse(ref, item, limit, state) do
    failure = {:channel, limit}
    FailureLog.log(failure, about(item))
    Delivery.answer(state.delivery, ref, ErrorResponse.build(id(item), failure))
    state
  end

  defp next(%{waiting: %{count: 0}} = state), do: state

  defp next(state) do
    if may_start?(state) do
      {{until, ref, item}, waiting} = Waiting.take(state.waiting)
      state = %{state | waiting: waiting}
      next(start_item(ref, item, state, now() - until + state.options.max_wait_ms))
    else
      look_again(state)
    end
  end

  # Those that have waited too long are not executed.
  defp expire(%{waiting: %{count: 0}} = state, _now), do: state

  defp expire(state, now) do
    case Waiting.take(state.waiting) do
      {{until, ref, item}, waiting} when until <= now ->
        expire(refuse_begun(ref, item, :max_wait_ms, %{state | waiting: waiting}), now)

      _in_time ->
        state
    end
  end

  # While requests wait for a slot it is looked at when the first has waited long enough.
  defp look_again(state) do
    {until, _ref, _item} = Waiting.first(state.waiting)
    at = if free_slot?(state), do: min(until, now() + @look_ms), else: until

    case state.look do
      {sooner, _timer} when sooner <= at ->
        state

      later ->
        with {_at, timer} <- later, do: :erlang.cancel_timer(timer)
        %{state | look: {at, :erlang.start_timer(at, self(), :look, abs: true)}}
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  # `queued` is for how many ms it has waited.
  defp start_item(ref, item, state, queued \\ 0)

  defp start_item(ref, {:answer, response}, state, _queued) do
    Delivery.answer(state.delivery, ref, response)
    state
  end

  defp start_item(ref, {:cancel, id}, state, _queued) do
    {running, state} = end_running(for({pid, %{id: ^id}} <- state.running, do: pid), state)
    {executing, state} = end_executing(id, state)
    {waiting, state} = end_waiting(id, state)
    Delivery.cancelled(ref, id, running + executing + waiting > 0)
    state
  end

  # Refused ahead of executing: a function that has been called cannot be taken back.
  defp start_item(ref, %Entry{request: request, long?: long?} = entry, state, queued) do
    if long? and long(state) >= state.options.max_running do
      refuse_begun(ref, entry, :max_running, state)
    else
      claim = RequestProcess.unclaimed()
      pid = start_process(entry, ref, claim, queued, state)

      job = %{
        id: request.request_id,
        # Arguments may be large.
        request: %{request | args: %{}},
        ref: ref,
        claim: claim,
        held: entry.held,
        started: System.monotonic_time(),
        queued: queued,
        long?: long?,
        answering?: false,
        cancelled?: false
      }

      state = %{state | executing: Map.put(state.executing, pid, job)}
      if entry.relay?, do: %{state | relaying: pid}, else: state
    end
  end

  defp start_process(%Entry{request: request} = entry, ref, claim, queued, state) do
    RequestProcess.start_link(
      %RequestProcess{
        session: self(),
        channel: state.channel,
        delivery: state.delivery,
        id: request.request_id,
        request: request,
        device: entry.device,
        ref: ref,
        claim: claim,
        # Messages to groups keep their order, also where other requests run side by side.
        follows: if(entry.relay? and alive?(state.relaying, state), do: state.relaying),
        queued: queued,
        max_result_bytes: entry.max_bytes
      },
      state.callers
    )
  end

  defp alive?(pid, state), do: is_map_key(state.executing, pid) or is_map_key(state.running, pid)

  # Nothing more is made for a client that has not read what it has.
  defp may_start?(state),
    do: free_slot?(state) and ClientConnection.room?(state.delivery.connection)

  defp free_slot?(state), do: map_size(state.executing) < state.options.concurrency

  # Slots whose answer is being sent.
  defp nearly_free(executing), do: Enum.count(executing, fn {_pid, job} -> job.answering? end)

  # Running, or reserved for what executes.
  defp long(state) do
    map_size(state.running) +
      Enum.count(state.executing, fn {_pid, job} -> job.long? and not job.answering? end)
  end

  defp mark_answering(state, pid) do
    case state.executing do
      %{^pid => job} ->
        %{state | executing: %{state.executing | pid => %{job | answering?: true}}}

      _gone ->
        state
    end
  end

  defp finished(%{held: held}, state),
    do: ClientConnection.finish_request(state.delivery.connection, held)

  defp about(%Entry{request: request}), do: FailureLog.about(request)
  defp about({:refuse, request, _limit}), do: FailureLog.about(request)
  defp about(item), do: FailureLog.about(%Request{request_id: id(item)})

  defp id({:cancel, id}), do: id
  defp id(%Entry{request: request}), do: request.request_id
  defp id({:refuse, request, _limit}), do: request.request_id
  defp id({:answer, response}), do: response.request_id
end
