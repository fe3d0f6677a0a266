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

  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.Channel.{Delivery, Options, PhoenixAdapter, RequestProcess}
  alias PhoenixGenApi.ClientConnection
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Structs.{Request, Response}

  @hibernate_after 15_000

  # A client of good will cancels what it has asked for, once. More than so many cancels in a
  # second are no better than requests, and wait with them.
  @cancels_per_second 100

  # Nobody says when a client has read enough for the next request.
  @look_ms 20

  @typedoc """
  A decoded request, or what is to be answered instead of executing it, when its turn comes; or a
  cancel that came too soon after others.
  """
  @type item ::
          {:ok, Request.t(), Executor.device()} | {:error, Response.t()} | {:cancel, String.t()}

  defstruct [
    :channel,
    :callers,
    :options,
    :delivery,
    # {until, ref, item}, in order of arrival and hence of their times
    waiting: :queue.new(),
    waiting_count: 0,
    # when the queue is looked at without any request having ended: {at, timer}
    look: nil,
    # pid => %{id, ref, long?, answering?}: those that have a slot
    executing: %{},
    # pid => {id, :async | :stream}: those that may be cancelled
    running: %{},
    # the second in which the last cancel came, and how many have acted at once in it
    cancels: {0, 0},
    # the last one for the relay
    relaying: nil
  ]

  @doc "Starts the session of the calling channel."
  @spec start(Options.t(), struct()) :: pid()
  def start(options, socket) do
    callers = [self() | Process.get(:"$callers", [])]
    init = {self(), callers, options, Delivery.new(options, socket)}
    {:ok, pid} = GenServer.start(__MODULE__, init, hibernate_after: @hibernate_after)
    pid
  end

  @doc "Takes a request in."
  @spec request(pid(), PhoenixAdapter.ref(), item()) :: :ok
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
       delivery: delivery
     }}
  end

  @impl true
  def handle_cast({:request, ref, {:ok, _request, _device} = item}, state) do
    if ClientConnection.begin_request(state.delivery.connection),
      do: {:noreply, admit(ref, item, state)},
      else: {:noreply, refuse(ref, item, :max_connection_requests, state)}
  end

  def handle_cast({:request, ref, item}, state), do: {:noreply, admit(ref, item, state)}

  def handle_cast({:cancel, ref, id}, state) do
    case {System.monotonic_time(:second), state.cancels} do
      {second, {second, @cancels_per_second}} ->
        {:noreply, admit(ref, {:cancel, id}, state)}

      {second, {second, count}} ->
        {:noreply, start_item(ref, {:cancel, id}, %{state | cancels: {second, count + 1}})}

      {second, _before} ->
        {:noreply, start_item(ref, {:cancel, id}, %{state | cancels: {second, 1}})}
    end
  end

  # A client that reacts to the answer finds it counted no more.
  def handle_cast({:answering, pid}, state) do
    finished(state)
    {:noreply, mark_answering(state, pid)}
  end

  def handle_cast({:acknowledged, pid}, state),
    do: {:noreply, next(%{state | executing: Map.delete(state.executing, pid)})}

  @impl true
  def handle_call({:acknowledging, kind}, {pid, _tag}, state) do
    %{^pid => %{id: id, long?: reserved?}} = state.executing
    state = mark_answering(state, pid)

    # Not reserved is what a hook, or a new config, has turned into a long request.
    if reserved? or long(state) < state.options.max_running do
      {:reply, :ok, %{state | running: Map.put(state.running, pid, {id, kind})}}
    else
      finished(state)
      {:reply, {:refused, {:channel, :max_running}}, state}
    end
  end

  def handle_call({:stop_streams, id}, _from, state) do
    {stopped, state} = end_running(for({pid, {^id, :stream}} <- state.running, do: pid), state)
    {:reply, stopped, state}
  end

  def handle_call(:finishing, {pid, _tag}, state) do
    case Map.pop(state.running, pid) do
      {nil, _running} ->
        {:reply, :cancelled, state}

      {_request, running} ->
        finished(state)
        {:reply, :ok, %{state | running: running}}
    end
  end

  @impl true
  def handle_info({:DOWN, _monitor, :process, _pid, _reason}, state),
    do: {:stop, :shutdown, state}

  def handle_info({:EXIT, pid, reason}, state) do
    if reason != :normal, do: answer_for(pid, state)
    if unfinished?(pid, state), do: finished(state)

    state = %{
      state
      | executing: Map.delete(state.executing, pid),
        running: Map.delete(state.running, pid)
    }

    {:noreply, next(state)}
  end

  def handle_info({:timeout, timer, :look}, %{look: {_at, timer}} = state),
    do: {:noreply, next(%{expire(state) | look: nil})}

  def handle_info(_other, state), do: {:noreply, state}

  defp unfinished?(pid, state) do
    case state do
      %{running: %{^pid => _request}} -> true
      %{executing: %{^pid => %{answering?: answering?}}} -> not answering?
      _finished -> false
    end
  end

  defp end_running(pids, state) do
    for pid <- pids do
      send(pid, :cancel)
      finished(state)
    end

    {length(pids), %{state | running: Map.drop(state.running, pids)}}
  end

  # A request's process only dies of a bug or by somebody else's hand.
  defp answer_for(pid, state) do
    case state do
      %{running: %{^pid => {id, :async}}} ->
        send_later(state, :async_call, died(id, :async_failed))

      %{running: %{^pid => {id, :stream}}} ->
        send_later(state, :stream_response, died(id, :stream_failed))

      %{executing: %{^pid => %{id: id, ref: ref, answering?: false}}} ->
        Delivery.answer(state.delivery, ref, died(id, :request_failed))

      _answered ->
        :ok
    end
  end

  defp send_later(state, tag, response),
    do: send(state.channel, {tag, Delivery.marked(state.delivery, response)})

  defp died(id, failure) do
    FailureLog.log(failure, about({:cancel, id}))
    ErrorResponse.build(id, failure)
  end

  defp admit(ref, item, state) do
    cond do
      state.waiting_count == 0 and may_start?(state) ->
        start_item(ref, item, state)

      state.waiting_count < state.options.max_pending + nearly_free(state.executing) ->
        until = now() + state.options.max_wait_ms
        waiting = :queue.in({until, ref, item}, state.waiting)
        look_again(%{state | waiting: waiting, waiting_count: state.waiting_count + 1})

      true ->
        refuse_begun(ref, item, :max_pending, state)
    end
  end

  defp refuse_begun(ref, item, limit, state) do
    if match?({:ok, _request, _device}, item), do: finished(state)
    refuse(ref, item, limit, state)
  end

  defp refuse(ref, item, limit, state) do
    failure = {:channel, limit}
    FailureLog.log(failure, about(item))
    Delivery.answer(state.delivery, ref, ErrorResponse.build(id(item), failure))
    state
  end

  defp next(%{waiting_count: 0} = state), do: state

  defp next(state) do
    if may_start?(state) do
      {{until, ref, item}, state} = dequeue(state)
      next(start_item(ref, item, state, now() - until + state.options.max_wait_ms))
    else
      look_again(state)
    end
  end

  defp dequeue(state) do
    {{:value, first}, waiting} = :queue.out(state.waiting)
    {first, %{state | waiting: waiting, waiting_count: state.waiting_count - 1}}
  end

  # Those that have waited too long are not executed.
  defp expire(%{waiting_count: 0} = state), do: state

  defp expire(state) do
    {:value, {until, _ref, _item}} = :queue.peek(state.waiting)

    if until <= now() do
      {{_until, ref, item}, state} = dequeue(state)
      expire(refuse_begun(ref, item, :max_wait_ms, state))
    else
      state
    end
  end

  # While requests wait for a slot it is looked at when the first has waited long enough.
  defp look_again(state) do
    {:value, {until, _ref, _item}} = :queue.peek(state.waiting)
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

  defp start_item(ref, {:error, response}, state, _queued) do
    Delivery.answer(state.delivery, ref, response)
    state
  end

  defp start_item(ref, {:cancel, id}, state, _queued) do
    {cancelled, state} = end_running(for({pid, {^id, _kind}} <- state.running, do: pid), state)
    Delivery.cancelled(ref, id, cancelled > 0)
    state
  end

  # Refused ahead of executing: a function that has been called cannot be taken back.
  defp start_item(ref, {:ok, request, device} = item, state, queued) do
    %{long?: long?, relay?: relay?} = expected = expected(request)

    if long? and long(state) >= state.options.max_running do
      refuse_begun(ref, item, :max_running, state)
    else
      job = %{id: request.request_id, ref: ref, long?: long?, answering?: false}
      pid = start_process(request, device, ref, queued, expected, state)
      state = %{state | executing: Map.put(state.executing, pid, job)}
      if relay?, do: %{state | relaying: pid}, else: state
    end
  end

  defp start_process(request, device, ref, queued, expected, state) do
    RequestProcess.start_link(
      %RequestProcess{
        session: self(),
        channel: state.channel,
        delivery: state.delivery,
        id: request.request_id,
        request: request,
        device: device,
        ref: ref,
        # Messages to groups keep their order, also where other requests run side by side.
        follows: if(expected.relay? and alive?(state.relaying, state), do: state.relaying),
        queued: queued,
        max_result_bytes: expected.max_bytes
      },
      state.callers
    )
  end

  defp alive?(pid, state), do: is_map_key(state.executing, pid) or is_map_key(state.running, pid)

  @short %{long?: false, max_bytes: nil, relay?: false}

  # As far as can be told by now: whether the request will go on after its acknowledgement, how
  # large its later results may be, and whether it is a message to a group.
  defp expected(%Request{service: service, request_type: type, version: version}) do
    case ConfigDb.fetch(service, type, version) do
      {:ok, plan(module: module, function: function, response_type: response_type) = plan} ->
        long? = response_type in [:async, :stream]
        max_bytes = if long?, do: Plan.max_result_bytes(plan)
        relay? = {module, function} == {Relay, :handle_relay}
        %{long?: long?, max_bytes: max_bytes, relay?: relay?}

      _unknown ->
        @short
    end
  end

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

  defp finished(state), do: ClientConnection.finish_request(state.delivery.connection)

  defp about({:ok, request, _device}), do: FailureLog.about(request)
  defp about(item), do: FailureLog.about(%Request{request_id: id(item)})

  defp id({:cancel, id}), do: id
  defp id({:ok, request, _device}), do: request.request_id
  defp id({:error, response}), do: response.request_id
end
