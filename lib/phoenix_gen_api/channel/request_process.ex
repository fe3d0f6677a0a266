defmodule PhoenixGenApi.Channel.RequestProcess do
  @moduledoc false
  # One request in a process of its own, linked to the session of its channel. It runs the
  # request, answers it, and, for async and stream requests, lives on as the receiver of what
  # comes later, which it hands to the channel.
  #
  # That is also how such a request is ended, whether by a cancel, the end of the channel or
  # anything else: work never outlives its receiver, so this process just goes.

  alias PhoenixGenApi.Channel.Delivery
  alias PhoenixGenApi.Channel.Session
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.JsonEncoding
  alias PhoenixGenApi.StreamCall.Mailbox
  alias PhoenixGenApi.Structs.{Request, Response}

  @enforce_keys [:session, :channel, :delivery, :id, :request, :device, :ref]
  defstruct @enforce_keys ++ [capacity: 0]

  @type t :: %__MODULE__{
          session: pid(),
          channel: pid(),
          delivery: Delivery.t(),
          id: String.t(),
          request: Request.t() | nil,
          device: Executor.device(),
          ref: PhoenixGenApi.Channel.PhoenixAdapter.ref(),
          # frames until the next look at the channel and the connection
          capacity: non_neg_integer()
        }

  @doc "Starts the process."
  @spec start_link(t(), [pid()]) :: pid()
  def start_link(%__MODULE__{} = process, callers) do
    spawn_link(fn ->
      Process.put(:"$callers", callers)
      run(process)
    end)
  end

  defp run(process) do
    case Executor.execute_for(process.request, self(), process.device) do
      {{:ok, :none}, _later?} -> answer(process, {:none, process.id})
      {%Response{} = acknowledgement, true} -> acknowledge(process, acknowledgement)
      {%Response{} = response, false} -> answer(process, response)
    end
  catch
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      # The session answers instead.
      exit({:shutdown, :bug})
  end

  defp answer(process, answer) do
    Session.answering(process.session)
    Delivery.answer(process.delivery, process.ref, answer)
  end

  defp acknowledge(process, acknowledgement) do
    kind = if acknowledgement.has_more, do: :stream, else: :async

    case Session.acknowledging(process.session, kind) do
      :ok ->
        Delivery.answer(process.delivery, process.ref, acknowledgement)
        Session.acknowledged(process.session)
        # Arguments may be large, and streams long.
        receive_later(%{process | request: nil}, kind)

      {:refused, response} ->
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
        finish(process, kind, {:async_call, encodable(process, response)})

      {:stream_response, response} ->
        frame(process, kind, encodable(process, response))

      _other ->
        receive_later(process, kind)
    end
  end

  defp frame(process, kind, %Response{success: true, has_more: true} = response) do
    send(process.channel, {:stream_response, response})

    case pause(process, 0) do
      {:ok, process} -> receive_later(process, kind)
      :cancel -> cancelled(process, kind)
    end
  end

  # An item that cannot be encoded is an error frame by now, which ends a stream like any other.
  defp frame(process, kind, response), do: finish(process, kind, {:stream_response, response})

  # The session is asked, so that no cancel is confirmed for what ends at the same moment.
  defp finish(process, kind, last) do
    case Session.finishing(process.session) do
      :ok -> send(process.channel, last)
      :cancelled -> cancelled(process, kind)
    end
  end

  defp cancelled(_work, :async), do: :ok

  defp cancelled(process, :stream) do
    send(process.channel, {:stream_response, Response.stream_end_response(process.id)})
  end

  defp encodable(process, response),
    do: JsonEncoding.encodable(response, process.delivery.json_library)

  # This process is the receiver that a stream looks at. It in turn looks at the channel and at
  # the process of the connection, so that its own messages come to wait when theirs do, and the
  # stream sees that. A channel passes pushes on at once: where the client reads slowly they
  # wait for the connection, whose process is in a write.
  defp pause(%{capacity: capacity} = process, 0) when capacity > 1,
    do: {:ok, %{process | capacity: capacity - 1}}

  defp pause(process, waited) do
    case min(
           Mailbox.capacity(process.channel),
           Mailbox.capacity(process.delivery.socket.transport_pid)
         ) do
      0 ->
        wait = Mailbox.next_wait_ms(waited)

        receive do
          :cancel -> :cancel
        after
          wait -> pause(process, wait)
        end

      capacity ->
        {:ok, %{process | capacity: capacity}}
    end
  end
end
