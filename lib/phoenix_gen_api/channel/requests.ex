defmodule PhoenixGenApi.Channel.Requests do
  @moduledoc false
  # The requests of one event of a channel: starts them, has them wait, cancels them.
  #
  # The native side knows their states and decides which may start; each runs in a process of its
  # own. A client that waits for one answer before it asks again costs no other process: those that
  # have to wait do so in a `Channel.Queue`, which ends when nothing waits any more.
  #
  # Whatever happens to these processes, a channel must neither crash nor be sent a message that its
  # module would have to know, so it neither links nor monitors them: the native side does. What dies
  # before its answer is answered by the `Channel.Watchdog`, and what outlives its channel is killed.

  alias PhoenixGenApi.Channel.{Delivery, Entry, Options, PhoenixAdapter, Queue, RequestProcess}
  alias PhoenixGenApi.ClientConnection
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.Interrupted
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Structs.{Request, Response}

  @enforce_keys [:native, :options, :delivery, :callers]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          native: Native.handle(),
          options: Options.t(),
          delivery: Delivery.t(),
          callers: [pid()]
        }

  @typedoc "What waits for its turn: also an answer that is known, and a cancel that came too soon after others."
  @type item :: Entry.t() | {:answer, Response.t()} | {:cancel, String.t()}

  @typedoc "What the answer of a request needs: its address, the request without arguments, its start, ms in the queue."
  @type info :: {PhoenixAdapter.ref(), Request.t(), integer(), non_neg_integer()}

  # What the native side can count.
  @max_u32 0xFFFF_FFFF

  @doc "Those of the calling channel, in its connection, beside those of its other events."
  @spec new(Options.t(), struct(), ClientConnection.t(), t() | nil) :: t()
  def new(options, socket, connection, sibling) do
    connection = ClientConnection.part(connection)
    delivery = Delivery.new(options, socket, connection)
    {share, transport, channel} = connection || {nil, self(), nil}
    waits = with {waits, _channel} <- channel, do: waits
    before = sibling && sibling.native

    %__MODULE__{
      native: Native.channel_requests_new(before, share, waits, self(), transport, delivery),
      options: options,
      delivery: delivery,
      callers: [self() | Process.get(:"$callers", [])]
    }
  end

  @doc "Takes a request in. From the channel, as all others with no word of it."
  @spec take(t(), PhoenixAdapter.ref(), Entry.t()) :: :ok
  def take(%{options: options, delivery: delivery} = requests, ref, %Entry{} = entry) do
    %{request: %{request_id: id} = request, long?: long?, relay?: relay?} = entry
    traits = {long? or delivery.mode != :reply, long?, relay?}
    limits = limits(options)
    until = until(min(options.max_wait_ms, entry.deadline))

    case Native.channel_requests_admit(requests.native, limits, id, traits, until) do
      {:start, number, follows?} ->
        Delivery.receipt(options, ref, id)
        start(requests, number, follows?, ref, entry, 0)

      {:wait, number, queue} ->
        Delivery.receipt(options, ref, id)
        wait(requests, queue, number, ref, entry)

      :duplicate ->
        FailureLog.log(:duplicate_request_id, FailureLog.about(request))
        Delivery.refuse(delivery, ref, ErrorResponse.build(id, :duplicate_request_id))

      limit ->
        Delivery.receipt(options, ref, id)
        refuse(requests, ref, entry, limit)
    end
  end

  @doc "Answers in its turn what is no request, or is none that may be executed."
  @spec answer(t(), PhoenixAdapter.ref(), Response.t()) :: :ok
  def answer(%{options: options} = requests, ref, response) do
    Delivery.receipt(options, ref, response.request_id)
    in_turn(requests, ref, {:answer, response}, false)
  end

  @doc "Ends the requests of that id and replies whether there were any; with `wait?` in its turn."
  @spec cancel(t(), PhoenixAdapter.ref(), String.t(), wait? :: boolean()) :: :ok
  def cancel(requests, ref, id, false), do: perform(requests, ref, {:cancel, id})
  def cancel(requests, ref, id, true), do: in_turn(requests, ref, {:cancel, id}, true)

  defp in_turn(%{options: options} = requests, ref, item, wait?) do
    limits = limits(options)
    until = until(options.max_wait_ms)

    case Native.channel_requests_admit_other(requests.native, limits, until, wait?) do
      {:start, _number, false} -> perform(requests, ref, item)
      {:wait, number, queue} -> wait(requests, queue, number, ref, item)
      limit -> refuse(requests, ref, item, limit)
    end
  end

  @doc "Answers in its turn what is no request; its number is that of a place in the calling queue."
  @spec perform(
          t(),
          pos_integer(),
          PhoenixAdapter.ref(),
          {:answer, Response.t()} | {:cancel, String.t()}
        ) ::
          term()
  def perform(%{native: native} = requests, number, ref, {:answer, response}) do
    messages = Delivery.messages(requests.delivery, ref, response)
    Native.channel_requests_finish_waiting(native, number, messages)
  end

  def perform(%{native: native} = requests, number, ref, {:cancel, _id} = cancel) do
    if Native.channel_requests_finish_waiting(native, number, []),
      do: perform(requests, ref, cancel)
  end

  @doc "Ends the running streams of that id; their number."
  @spec stop_streams(t(), String.t()) :: non_neg_integer()
  def stop_streams(%{native: native} = requests, id) do
    streams = Native.channel_requests_cancel(native, id, true)
    Enum.each(streams, &end_one(&1, id, requests))
    length(streams)
  end

  @doc "Whose turn it is among those up to a number, which have arrived in the calling queue."
  @spec turn(t(), non_neg_integer(), reads? :: boolean()) :: Native.turn()
  def turn(%{native: native, options: options}, upto, reads?),
    do: Native.channel_requests_turn(native, limits(options), upto, reads?)

  @doc "Starts a request whose turn it is, and that has waited for so many ms."
  @spec start(
          t(),
          pos_integer(),
          follows? :: boolean(),
          PhoenixAdapter.ref(),
          Entry.t(),
          non_neg_integer()
        ) :: :ok
  def start(%{native: native} = requests, number, follows?, ref, entry, queued) do
    %Entry{request: request} = entry

    pid =
      RequestProcess.start(
        %RequestProcess{
          requests: native,
          number: number,
          delivery: requests.delivery,
          max_running: bounded(requests.options.max_running),
          ref: ref,
          request: request,
          device: entry.device,
          found: entry.found,
          follows?: follows?,
          queued: queued,
          max_result_bytes: entry.max_bytes
        },
        requests.callers
      )

    # It may have been cancelled, or its channel may have ended, before it had a process.
    unless Native.channel_requests_started(native, number, pid, info(request, ref, queued)),
      do: Process.exit(pid, :kill)

    :ok
  end

  defp perform(requests, ref, {:answer, response}),
    do: Delivery.answer(requests.delivery, ref, response)

  defp perform(%{native: native} = requests, ref, {:cancel, id}) do
    cancelled = Native.channel_requests_cancel(native, id, false)
    Enum.each(cancelled, &end_one(&1, id, requests))
    Delivery.cancelled(ref, id, cancelled != [])
  end

  # Its process ends it, or notices when its acknowledgement is sent.
  defp end_one({:running, pid}, _id, _requests), do: if(pid, do: send(pid, :cancel))

  # Its function ends with its process, also on another node.
  defp end_one({:executing, pid, {ref, request, started, queued}}, _id, requests) do
    if pid, do: Process.exit(pid, :kill)
    Delivery.answer(requests.delivery, ref, Interrupted.cancelled(request, started, queued))
  end

  defp end_one({:waiting, number, queue, {ref, request, _started, _queued}}, id, requests) do
    if queue, do: Queue.drop(queue, number)
    FailureLog.log(:cancelled, FailureLog.about(request))
    Delivery.answer(requests.delivery, ref, ErrorResponse.build(id, :cancelled))
  end

  @doc "Answers what waits in the calling queue, is over a limit and is not executed; also over its own deadline."
  @spec refuse(t(), pos_integer(), PhoenixAdapter.ref(), item(), limit :: atom()) :: boolean()
  def refuse(%{native: native} = requests, number, ref, item, limit) do
    messages = Delivery.messages(requests.delivery, ref, refusal(requests, item, limit))
    Native.channel_requests_finish_waiting(native, number, messages)
  end

  defp refuse(requests, ref, item, limit),
    do: Delivery.answer(requests.delivery, ref, refusal(requests, item, limit))

  defp refusal(requests, item, limit) do
    failure = failure(limit, item, requests.options)
    request = about(item)
    FailureLog.log(failure, FailureLog.about(request))
    ErrorResponse.build(request.request_id, failure)
  end

  # Numbers are less than nil.
  defp failure(:max_wait_ms, %Entry{deadline: deadline}, options)
       when deadline <= options.max_wait_ms,
       do: {:expired, deadline}

  defp failure(limit, _item, _options), do: {:channel, limit}

  defp about(%Entry{request: request}), do: request
  defp about({:answer, response}), do: %Request{request_id: response.request_id}
  defp about({:cancel, id}), do: %Request{request_id: id}

  defp wait(requests, queue, number, ref, item) do
    %{native: native, delivery: delivery} = requests
    request = about(item)

    # From here on the watchdog answers should the queue die. It may have died just now, or at its start.
    with true <- Native.channel_requests_waits(native, number, info(request, ref, 0)),
         queue when queue != nil <- queue || Queue.start(requests) do
      Queue.put(queue, number, ref, item)
    else
      _died ->
        Native.channel_requests_finish_waiting(native, number, [])

        Delivery.answer(
          delivery,
          ref,
          Interrupted.lost(request, false, System.monotonic_time(), 0)
        )
    end
  end

  # Arguments may be large, and who knows how many roles somebody has.
  defp info(request, ref, queued),
    do: {ref, %{request | args: %{}, user_roles: nil}, System.monotonic_time(), queued}

  defp until(ms), do: System.monotonic_time(:millisecond) + ms

  defp limits(options) do
    {bounded(Config.get(:channel, :max_connection_requests)), ClientConnection.soft(),
     bounded(options.concurrency), bounded(options.max_pending), bounded(options.max_running)}
  end

  defp bounded(limit), do: min(limit, @max_u32)
end
