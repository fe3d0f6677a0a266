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
  alias PhoenixGenApi.StreamCall.Mailbox
  alias PhoenixGenApi.Structs.{Request, Response}

  @enforce_keys [:session, :channel, :delivery, :id, :request, :ref]
  defstruct [:session, :channel, :delivery, :id, :request, :ref, room: 0]

  @type t :: %__MODULE__{
          session: pid(),
          channel: pid(),
          delivery: Delivery.t(),
          id: String.t(),
          request: Request.t() | nil,
          ref: PhoenixGenApi.Channel.PhoenixAdapter.ref(),
          # frames until the next look at the channel and the connection
          room: non_neg_integer()
        }

  @doc "Starts the process."
  @spec start_link(t(), [pid()]) :: pid()
  def start_link(%__MODULE__{} = work, callers) do
    spawn_link(fn ->
      Process.put(:"$callers", callers)
      run(work)
    end)
  end

  defp run(work) do
    case Executor.execute_for(work.request, self()) do
      {{:ok, :none}, _later?} -> answer(work, {:none, work.id})
      {%Response{} = acknowledgement, true} -> acknowledge(work, acknowledgement)
      {%Response{} = response, false} -> answer(work, response)
    end
  catch
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      # The session answers instead.
      exit({:shutdown, :bug})
  end

  defp answer(work, answer) do
    Session.answering(work.session)
    Delivery.answer(work.delivery, work.ref, answer)
  end

  defp acknowledge(work, acknowledgement) do
    kind = if acknowledgement.has_more, do: :stream, else: :async

    case Session.acknowledging(work.session, kind) do
      :ok ->
        Delivery.answer(work.delivery, work.ref, acknowledgement)
        Session.acknowledged(work.session)
        # Arguments may be large, and streams long.
        receive_later(%{work | request: nil}, kind)

      {:refused, response} ->
        Delivery.answer(work.delivery, work.ref, response)
    end
  end

  defp receive_later(work, kind) do
    receive do
      :cancel ->
        cancelled(work, kind)

      {:stream_started, _id, _pid} = started ->
        send(work.channel, started)
        receive_later(work, kind)

      {:async_call, response} ->
        finish(work, kind, {:async_call, encodable(work, response)})

      {:stream_response, response} ->
        frame(work, kind, encodable(work, response))

      _other ->
        receive_later(work, kind)
    end
  end

  defp frame(work, kind, %Response{success: true, has_more: true} = response) do
    send(work.channel, {:stream_response, response})

    case pause(work, 0) do
      {:ok, work} -> receive_later(work, kind)
      :cancel -> cancelled(work, kind)
    end
  end

  # An item that cannot be encoded is an error frame by now, which ends a stream like any other.
  defp frame(work, kind, response), do: finish(work, kind, {:stream_response, response})

  # The session is asked, so that no cancel is confirmed for what ends at the same moment.
  defp finish(work, kind, last) do
    case Session.finishing(work.session) do
      :ok -> send(work.channel, last)
      :cancelled -> cancelled(work, kind)
    end
  end

  defp cancelled(_work, :async), do: :ok

  defp cancelled(work, :stream) do
    send(work.channel, {:stream_response, Response.stream_end_response(work.id)})
  end

  defp encodable(work, response),
    do: Delivery.encodable(response, work.delivery.json_library)

  # This process is the receiver that a stream looks at. It in turn looks at the channel and at
  # the process of the connection, so that its own messages come to wait when theirs do, and the
  # stream sees that. A channel passes pushes on at once: where the client reads slowly they
  # wait for the connection, whose process is in a write.
  defp pause(%{room: room} = work, 0) when room > 1, do: {:ok, %{work | room: room - 1}}

  defp pause(work, waited) do
    case min(Mailbox.room(work.channel), Mailbox.room(work.delivery.socket.transport_pid)) do
      0 ->
        wait = Mailbox.next_wait_ms(waited)

        receive do
          :cancel -> :cancel
        after
          wait -> pause(work, wait)
        end

      room ->
        {:ok, %{work | room: room}}
    end
  end
end
