defmodule PhoenixGenApi.Channel.Requests do
  @moduledoc false
  # Starts, queues and cancels the requests of one event of a channel.
  #
  # The native side holds their states and decides which request may start. Each one runs in a process
  # of its own. Requests that have to wait do so in a `Channel.Queue`, a process that exits when its
  # queue is empty; a client that sends one request at a time never needs it.
  #
  # A channel must not crash with these processes, nor receive messages that its module does not know,
  # so it neither links nor monitors them. The native side monitors them instead: the
  # `Channel.Watchdog` answers a request whose process dies, and requests of a dead channel are killed.

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

  @typedoc "What a client says about its requests: to end those of an id, or to go on with so many more items."
  @type instruction :: {:cancel, String.t()} | {:credit, String.t(), pos_integer()}

  @typedoc "A queued request, a queued answer that is already known, or an instruction over the rate limit."
  @type item :: Entry.t() | {:answer, Response.t()} | instruction()

  @typedoc "Everything an answer needs: its address, the request without arguments, its start, ms in the queue."
  @type info :: {PhoenixAdapter.ref(), Request.t(), integer(), non_neg_integer()}

  # The native side counts in 32 bits.
  @max_u32 0xFFFF_FFFF

  @doc "Creates the requests of an event of the calling channel; `sibling` are those of another event."
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

  @doc "Admits a request. Called by the channel."
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

  @doc "Sends an answer that is already known, in the order of the requests."
  @spec answer(t(), PhoenixAdapter.ref(), Response.t()) :: :ok
  def answer(%{options: options} = requests, ref, response) do
    Delivery.receipt(options, ref, response.request_id)
    in_turn(requests, ref, {:answer, response}, false)
  end

  @doc """
  Cancels the requests of an id and replies whether there were any, or grants the streams of an id more
  credit; with `wait?` in the order of the requests.
  """
  @spec follow(t(), PhoenixAdapter.ref(), instruction(), wait? :: boolean()) :: :ok
  def follow(requests, ref, instruction, false), do: perform(requests, ref, instruction)
  def follow(requests, ref, instruction, true), do: in_turn(requests, ref, instruction, true)

  @doc "Answers an instruction of a client that has sent no request yet."
  @spec nothing_to_follow(PhoenixAdapter.ref(), instruction()) :: :ok
  def nothing_to_follow(ref, {:cancel, id}), do: Delivery.cancelled(ref, id, false)
  def nothing_to_follow(ref, {:credit, id, _n}), do: Delivery.granted(ref, id)

  defp in_turn(%{options: options} = requests, ref, item, wait?) do
    limits = limits(options)
    until = until(options.max_wait_ms)

    case Native.channel_requests_admit_other(requests.native, limits, until, wait?) do
      {:start, _number, false} -> perform(requests, ref, item)
      {:wait, number, queue} -> wait(requests, queue, number, ref, item)
      limit -> refuse(requests, ref, item, limit)
    end
  end

  @doc "Handles a queued answer or instruction. Called by the queue, with the item's number."
  @spec perform(
          t(),
          pos_integer(),
          PhoenixAdapter.ref(),
          {:answer, Response.t()} | instruction()
        ) ::
          term()
  def perform(%{native: native} = requests, number, ref, {:answer, response}) do
    messages = Delivery.messages(requests.delivery, ref, response)
    Native.channel_requests_finish_waiting(native, number, messages)
  end

  def perform(%{native: native} = requests, number, ref, instruction) do
    if Native.channel_requests_finish_waiting(native, number, []),
      do: perform(requests, ref, instruction)
  end

  @doc "Stops the running streams of an id and returns how many there were."
  @spec stop_streams(t(), String.t()) :: non_neg_integer()
  def stop_streams(%{native: native} = requests, id) do
    streams = Native.channel_requests_cancel(native, id, true)
    Enum.each(streams, &end_one(&1, id, requests))
    length(streams)
  end

  @doc "Asks which item may leave the calling queue, of those up to a number."
  @spec turn(t(), non_neg_integer(), reads? :: boolean()) :: Native.turn()
  def turn(%{native: native, options: options}, upto, reads?),
    do: Native.channel_requests_turn(native, limits(options), upto, reads?)

  @doc "Starts a request that was admitted, after `queued` ms in the queue."
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

    # A cancel, or the end of the channel, may have come before the process was known.
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

  defp perform(%{native: native}, ref, {:credit, id, n}) do
    for pid <- Native.channel_requests_long(native, id), do: RequestProcess.grant(pid, n)
    Delivery.granted(ref, id)
  end

  # The process ends the request itself; one that is acknowledging notices when it is done.
  defp end_one({:running, pid}, _id, _requests), do: if(pid, do: send(pid, :cancel))

  # The function dies with the process, also on another node.
  defp end_one({:executing, pid, {ref, request, started, queued}}, _id, requests) do
    if pid, do: Process.exit(pid, :kill)
    Delivery.answer(requests.delivery, ref, Interrupted.cancelled(request, started, queued))
  end

  defp end_one({:waiting, number, queue, {ref, request, _started, _queued}}, id, requests) do
    if queue, do: Queue.drop(queue, number)
    FailureLog.log(:cancelled, FailureLog.about(request))
    Delivery.answer(requests.delivery, ref, ErrorResponse.build(id, :cancelled))
  end

  @doc "Refuses a queued item that is over a limit or past its deadline. Called by the queue."
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
  defp about({:credit, id, _n}), do: %Request{request_id: id}

  defp wait(requests, queue, number, ref, item) do
    %{native: native, delivery: delivery} = requests
    request = about(item)

    # From here on the watchdog answers if the queue dies. The queue may already be dead.
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

  # Without what may be large: arguments, and a list of roles.
  defp info(request, ref, queued),
    do: {ref, %{request | args: %{}, user_roles: nil}, System.monotonic_time(), queued}

  defp until(ms), do: System.monotonic_time(:millisecond) + ms

  defp limits(options) do
    {bounded(Config.get(:channel, :max_connection_requests)), ClientConnection.soft(),
     bounded(options.concurrency), bounded(options.max_pending), bounded(options.max_running)}
  end

  defp bounded(limit), do: min(limit, @max_u32)
end
