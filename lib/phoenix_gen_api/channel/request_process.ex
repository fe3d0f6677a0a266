defmodule PhoenixGenApi.Channel.RequestProcess do
  @moduledoc false
  # One request in a process of its own, linked to the session of its channel. It runs the
  # request, answers it, and, for async and stream requests, lives on as the receiver of what
  # comes later, which it hands to the channel.
  #
  # That is also how such a request is ended, whether by a cancel, the end of the channel or
  # anything else: work never outlives its receiver, so this process just goes.

  alias PhoenixGenApi.Channel.{Delivery, Session}
  alias PhoenixGenApi.ClientConnection
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.JsonEncoding.Reply
  alias PhoenixGenApi.StreamCall.Mailbox
  alias PhoenixGenApi.Structs.{Request, Response}

  @enforce_keys [:session, :channel, :delivery, :id, :request, :device, :ref, :claim]
  defstruct @enforce_keys ++ [:max_result_bytes, :follows, queued: 0, capacity: 0, budget: 0]

  @type t :: %__MODULE__{
          session: pid(),
          channel: pid(),
          delivery: Delivery.t(),
          id: String.t(),
          request: Request.t(),
          device: Executor.device(),
          ref: PhoenixGenApi.Channel.PhoenixAdapter.ref(),
          # whether it answers, or the session
          claim: claim(),
          # of what comes later
          max_result_bytes: pos_integer() | nil,
          # the request that has to be over first
          follows: pid() | nil,
          # ms that it has waited for its turn
          queued: non_neg_integer(),
          # frames, and their bytes, until the next look at the channel and the connection
          capacity: non_neg_integer(),
          budget: integer()
        }

  @typedoc """
  What becomes of a request is what is claimed first: its process answers it or acknowledges it, or
  the session cancels it.
  """
  @type claim :: :atomics.atomics_ref()

  # In the atomic; 0 is a request of which nothing was claimed.
  @claims %{answered: 1, acknowledged: 2, cancelled: 3}

  @doc "That of a request of which nothing was claimed."
  @spec unclaimed() :: claim()
  def unclaimed, do: :atomics.new(1, [])

  @doc "Claims one of them: `:ok`, or whether it was acknowledged before, and not ended."
  @spec claim(claim(), :answered | :acknowledged | :cancelled) :: :ok | :acknowledged | :ended
  def claim(claim, what) do
    case :atomics.compare_exchange(claim, 1, 0, @claims[what]) do
      :ok -> :ok
      2 -> :acknowledged
      _answered_or_cancelled -> :ended
    end
  end

  @doc "Starts the process."
  @spec start_link(t(), [pid()]) :: pid()
  def start_link(%__MODULE__{} = process, callers) do
    spawn_link(fn ->
      Process.put(:"$callers", callers)
      wait_for(process.follows)
      run(process)
    end)
  end

  defp wait_for(nil), do: :ok

  defp wait_for(pid) do
    monitor = Process.monitor(pid)

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
    end
  end

  defp run(process) do
    %{request: request, device: device, queued: queued, delivery: delivery} = process
    claim? = &(claim(process.claim, &1) == :ok)
    library = delivery.json_library

    case Executor.execute_for_client(request, self(), device, library, queued, claim?) do
      {:later, acknowledgement} ->
        acknowledge(process, acknowledgement)

      :cancelled ->
        :ok

      done ->
        Session.answering(process.session)
        answer(done, process)
    end
  catch
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      # The session answers instead.
      exit({:shutdown, :bug})
  end

  defp answer(:none, %{delivery: delivery, ref: ref, id: id}),
    do: Delivery.accepted(delivery, ref, id)

  defp answer({response, bytes}, %{delivery: delivery, ref: ref}),
    do: Delivery.answer(delivery, ref, response, bytes)

  defp acknowledge(process, acknowledgement) do
    kind = if acknowledgement.has_more, do: :stream, else: :async

    case Session.acknowledging(process.session, kind) do
      :ok ->
        Delivery.answer(process.delivery, process.ref, acknowledgement)
        Session.acknowledged(process.session)
        # Arguments may be large, and streams long.
        request = %{process.request | args: %{}}
        receive_later(%{process | request: request}, kind)

      {:refused, failure} ->
        FailureLog.log(failure, FailureLog.about(process.request))
        # It runs by now.
        response = ErrorResponse.build(process.id, failure, :unknown)
        Delivery.answer(process.delivery, process.ref, response)
    end
  end

  defp receive_later(process, kind) do
    receive do
      :cancel ->
        cancelled(process, kind)

      {:stream_started, _id, _pid} = started ->
        send(process.channel, started)
        receive_later(process, kind)

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

  # The session is asked, so that no cancel is confirmed for what ends at the same moment.
  defp finish(process, kind, tag, last) do
    case Session.finishing(process.session) do
      :ok -> send_later(process, tag, last)
      :cancelled -> cancelled(process, kind)
    end
  end

  defp cancelled(_work, :async), do: :ok

  defp cancelled(process, :stream),
    do: send_later(process, :stream_response, Response.stream_end_response(process.id))

  defp send_later(process, tag, response),
    do: Delivery.later(process.delivery, process.channel, tag, response)

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

  defp capacity(%{channel: channel, delivery: delivery, budget: budget}, bytes) do
    # How large the messages are that wait for the channel, nobody knows: after so many bytes it
    # has to catch up.
    if (bytes <= budget or Mailbox.empty?(channel)) and
         ClientConnection.room?(delivery.connection),
       do: min(Mailbox.capacity(channel), Mailbox.capacity(delivery.socket.transport_pid)),
       else: 0
  end
end
