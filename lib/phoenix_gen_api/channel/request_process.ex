defmodule PhoenixGenApi.Channel.RequestProcess do
  @moduledoc false
  # The process of one request. It runs the request and answers it; for async and stream requests it
  # stays as the receiver of later results, which it forwards to the channel. It claims each answer on
  # the native side, which sends it.
  #
  # Work never outlives its receiver, so a cancel or the end of the channel only has to end this process.

  alias PhoenixGenApi.Channel.{Delivery, Watchdog}
  alias PhoenixGenApi.ClientConnection
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.JsonEncoding.Reply
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.StreamCall
  alias PhoenixGenApi.StreamCall.Mailbox
  alias PhoenixGenApi.Structs.{Request, Response}

  # Most requests finish without a garbage collection.
  @heap_words 1_598
  @small_heap_words 233

  @enforce_keys [:requests, :number, :delivery, :max_running, :ref, :request, :device]
  defstruct @enforce_keys ++
              [:found, :max_result_bytes, follows?: false, queued: 0, capacity: 0, budget: 0] ++
              [:stream, credit: 0]

  @type t :: %__MODULE__{
          requests: Native.handle(),
          number: pos_integer(),
          delivery: Delivery.t(),
          max_running: non_neg_integer(),
          ref: PhoenixGenApi.Channel.PhoenixAdapter.ref(),
          request: Request.t(),
          device: Executor.device(),
          # what the config table has said
          found: {:ok, PhoenixGenApi.Plan.t()} | {:error, term()} | nil,
          # whether others have to be over first
          follows?: boolean(),
          # of what comes later
          max_result_bytes: pos_integer() | nil,
          # ms that it has waited for its turn
          queued: non_neg_integer(),
          # frames, and their bytes, until the next look at the channel and the connection
          capacity: non_neg_integer(),
          budget: integer(),
          # once it has begun
          stream: pid() | nil,
          # granted before that
          credit: non_neg_integer()
        }

  @doc "Starts the process."
  @spec start(t(), [pid()]) :: pid()
  def start(%__MODULE__{} = process, callers),
    do: :erlang.spawn_opt(__MODULE__, :run, [process, callers], min_heap_size: @heap_words)

  @doc false
  @spec run(t(), [pid()]) :: term()
  def run(process, callers) do
    Process.put(:"$callers", callers)
    wait_for(process)

    with {:later, acknowledgement} <-
           Executor.execute_for_client(process.request, client(process)),
         do: acknowledged(process, acknowledgement)
  catch
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      # The watchdog answers instead.
      Process.exit(self(), :kill)
  end

  @doc "Passes credit of the client on to the stream."
  @spec grant(pid(), pos_integer()) :: :ok
  def grant(pid, n) do
    send(pid, {__MODULE__, :grant, n})
    :ok
  end

  defp client(%{requests: requests, number: number} = process) do
    %Executor.Client{
      receiver: self(),
      device: process.device,
      json_library: process.delivery.json_library,
      claim: &claim(process, &1, &2, &3),
      found: process.found,
      inline: Watchdog.inline(requests, number),
      queued: process.queued
    }
  end

  # Encoded first: the native side then claims and sends in one step, so a kill cannot fall in between.
  defp claim(%{requests: requests, number: number} = process, :answer, result, bytes) do
    if Native.channel_requests_finish(requests, number, messages(process, result, bytes)),
      do: :ok,
      else: :ended
  end

  defp claim(%{requests: requests, number: number} = process, kind, acknowledgement, _bytes) do
    messages = Delivery.messages(process.delivery, process.ref, acknowledgement)
    max_running = process.max_running

    case Native.channel_requests_acknowledge(requests, number, kind, max_running, messages) do
      :granted -> :ok
      :refused -> {:refused, {:channel, :max_running}}
      :ended -> :ended
    end
  end

  defp messages(process, {:ok, :none}, _bytes),
    do: Delivery.accepted_messages(process.delivery, process.ref, process.request.request_id)

  defp messages(process, response, bytes),
    do: Delivery.messages(process.delivery, process.ref, response, bytes)

  defp wait_for(%{follows?: false}), do: :ok

  defp wait_for(%{requests: requests, number: number}) do
    if Native.channel_requests_follow(requests, number) do
      receive do
        :proceed -> :ok
      end
    end
  end

  defp acknowledged(%{requests: requests, number: number} = process, acknowledgement) do
    kind = if acknowledgement.has_more, do: :stream, else: :async
    # Arguments may be large and streams long: keep as little as possible.
    process = %{process | request: %{process.request | args: %{}}, found: nil}
    Process.flag(:min_heap_size, @small_heap_words)

    if Native.channel_requests_acknowledged(requests, number),
      do: receive_later(process, kind),
      else: cancelled(process, kind)
  end

  defp receive_later(process, kind) do
    receive do
      :cancel ->
        cancelled(process, kind)

      {:stream_started, _id, pid} = started ->
        send(process.delivery.channel, started)
        if process.credit > 0, do: StreamCall.grant(pid, process.credit)
        receive_later(%{process | stream: pid}, kind)

      {__MODULE__, :grant, n} ->
        process |> granted(n) |> receive_later(kind)

      {:async_call, response} ->
        {response, _bytes} = measured(process, response)
        finish(process, kind, :async_call, response)

      {:stream_response, response} ->
        {response, bytes} = measured(process, response)
        frame(process, kind, response, bytes)

      _other ->
        receive_later(process, kind)
    end
  end

  defp granted(%{stream: nil} = process, n), do: %{process | credit: process.credit + n}

  defp granted(%{stream: stream} = process, n) do
    StreamCall.grant(stream, n)
    process
  end

  defp frame(process, kind, %Response{success: true, has_more: true} = response, bytes) do
    case keep_pace(process, bytes) do
      {:ok, %{capacity: capacity, budget: budget} = process} ->
        send_later(process, :stream_response, response)
        receive_later(%{process | capacity: capacity - 1, budget: budget - bytes}, kind)

      :cancel ->
        cancelled(process, kind)
    end
  end

  # An item that cannot be encoded is an error frame by now, which ends a stream like any other.
  defp frame(process, kind, response, _bytes),
    do: finish(process, kind, :stream_response, response)

  # No cancel is confirmed for what ends at the same moment.
  defp finish(process, kind, tag, last) do
    %{requests: requests, number: number} = process
    messages = later(process, tag, last)

    unless Native.channel_requests_finish_running(requests, number, false, messages),
      do: cancelled(process, kind)
  end

  defp cancelled(_process, :async), do: :ok

  defp cancelled(%{requests: requests, number: number} = process, :stream) do
    last = Response.stream_end_response(process.request.request_id)
    messages = later(process, :stream_response, last)
    Native.channel_requests_finish_running(requests, number, true, messages)
  end

  defp send_later(process, tag, response),
    do: Delivery.later(process.delivery, tag, response)

  defp later(process, tag, response),
    do: Delivery.later_messages(process.delivery, tag, response)

  defp measured(process, response) do
    %{delivery: %{json_library: json_library}, max_result_bytes: max} = process

    {response, bytes, failure} =
      Reply.measured(response, json_library, max || default_max())

    if failure, do: FailureLog.log(failure, FailureLog.about(process.request))
    {response, bytes}
  end

  # What a hook has turned into a long request.
  defp default_max, do: Config.get(:request, :max_result_bytes)

  # This process is the receiver that a stream looks at. It in turn looks at the channel and at
  # the process of the connection, so that its own messages come to wait when theirs do, and the
  # stream sees that. A channel passes pushes on at once: where the client reads slowly they
  # wait for the connection, whose process is in a write.
  # That is ahead of what it sends: many streams may begin at the same moment.
  defp keep_pace(%{capacity: capacity, budget: budget} = process, bytes)
       when capacity > 0 and bytes <= budget,
       do: {:ok, process}

  defp keep_pace(process, bytes), do: pause(process, bytes, 0)

  defp pause(process, bytes, waited) do
    case capacity(process, bytes) do
      0 ->
        wait = Mailbox.next_wait_ms(waited)

        receive do
          :cancel -> :cancel
        after
          wait -> pause(process, bytes, wait)
        end

      capacity ->
        {:ok, %{process | capacity: capacity, budget: ClientConnection.channel_budget()}}
    end
  end

  defp capacity(%{delivery: %{channel: channel} = delivery, budget: budget}, bytes) do
    # How large the messages are that wait for the channel, nobody knows: after so many bytes it
    # has to catch up.
    if (bytes <= budget or Mailbox.empty?(channel)) and
         ClientConnection.room?(delivery.connection),
       do: min(Mailbox.capacity(channel), Mailbox.capacity(delivery.transport)),
       else: 0
  end
end
