defmodule PhoenixGenApi.Http.Receiver do
  @moduledoc false
  # The process of an async or stream request: the receiver of its results.
  #
  # Frames stay in its mailbox until somebody asks for them, and a stream pauses while too many wait there
  # (see `StreamCall.Server`). So a client that reads slowly, whose connection asks seldom, slows its function
  # down. Work never outlives its receiver: ending this process ends the function.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Executor.Interrupted
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Http.{Answer, Call, Frames}
  alias PhoenixGenApi.JsonEncoding.Reply
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Structs.{Request, Response}

  # How much is sent for one question: frames that are there are sent together.
  @chunk_frames 64
  @chunk_bytes 65_536

  @small_heap_words 233

  @enforce_keys [:call, :request, :format, :max_bytes, :monitor, :owner]
  defstruct @enforce_keys ++ [number: 1]

  @typep t :: %__MODULE__{
           call: Call.t(),
           request: Request.t(),
           format: :events | :lines,
           max_bytes: pos_integer(),
           # of the process that enumerates
           monitor: reference(),
           owner: pid(),
           # of the next frame
           number: pos_integer()
         }

  @doc "Runs a request; the answer is complete, or it is the frames of a stream."
  @spec run(Call.t(), Request.t(), Call.found()) :: Answer.t()
  def run(call, request, found) do
    owner = self()
    callers = [owner | Process.get(:"$callers", [])]
    ref = make_ref()
    started = System.monotonic_time()

    {pid, monitor} =
      spawn_monitor(fn ->
        Process.put(:"$callers", callers)
        serve(call, request, found, owner, ref)
      end)

    # It runs hooks, and functions that are not what they were, and sees nothing meanwhile.
    bond = RPC.Local.bind(pid)

    answer =
      receive do
        {^ref, :answer, answer} ->
          answer

        {^ref, :stream} ->
          frames = Frames.new(pid, call, Call.format(call), request)
          Answer.stream(call.id, Call.format(call), frames)

        {:DOWN, ^monitor, :process, ^pid, _reason} ->
          Call.answer(call, Interrupted.lost(request, false, started, 0))
      end

    RPC.Local.unbind(bond)
    Process.demonitor(monitor, [:flush])
    answer
  end

  defp serve(call, request, found, owner, ref) do
    claim = &claim(call, owner, ref, &1, &2, &3)

    with {:later, %Response{} = acknowledgement} <-
           Executor.execute_for_client(request, Call.client(call, found, claim)) do
      # Arguments may be large and streams long: keep as little as possible.
      receiver = %__MODULE__{
        call: %{call | headers: []},
        request: %{request | args: %{}},
        format: Call.format(call),
        max_bytes: max_bytes(found),
        monitor: Process.monitor(owner),
        owner: owner
      }

      if acknowledgement.has_more do
        Process.flag(:min_heap_size, @small_heap_words)
        send(owner, {ref, :stream})
        wait(receiver)
      else
        result(receiver, ref)
      end
    end
  catch
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      # The owner notices, or whoever enumerates.
      exit({:shutdown, :bug})
  end

  defp claim(call, owner, ref, :answer, result, _bytes) do
    send(owner, {ref, :answer, in_one_piece(Call.answer(call, result))})
    :ok
  end

  defp claim(_call, _owner, _ref, _kind, _acknowledgement, _bytes), do: :ok

  # Sending copies a list of pieces, but not a binary.
  defp in_one_piece({status, headers, {:full, body}}),
    do: {status, headers, {:full, IO.iodata_to_binary(body)}}

  # What a hook has made of the request has no bound of its own.
  defp max_bytes({:ok, plan}), do: Plan.max_result_bytes(plan)
  defp max_bytes({:error, _reason}), do: Config.get(:request, :max_result_bytes)

  defp result(%{call: call, owner: owner} = receiver, ref) do
    receive do
      {:async_call, response} ->
        response = sendable(receiver, response)
        send(owner, {ref, :answer, in_one_piece(Call.answer(call, response))})
    end
  end

  defp wait(%{monitor: monitor, call: %{options: options}} = receiver) do
    receive do
      {:next, from, ref} -> receiver |> follow(from) |> answer(ref)
      {:DOWN, ^monitor, :process, _owner, _reason} -> :gone
    after
      options.idle_ms -> :idle
    end
  end

  # Whoever enumerates need not be the process that has made the request.
  defp follow(%{owner: owner} = receiver, owner), do: receiver

  defp follow(receiver, owner) do
    Process.demonitor(receiver.monitor, [:flush])
    %{receiver | owner: owner, monitor: Process.monitor(owner)}
  end

  defp answer(%{monitor: monitor, owner: owner} = receiver, ref) do
    receive do
      {:stream_response, response} ->
        {kind, receiver, data} = gather(receiver, response, [], 0, 1)
        send(owner, {ref, kind, data})
        if kind == :more, do: wait(receiver), else: :over

      {:DOWN, ^monitor, :process, _owner, _reason} ->
        :gone

      # Nobody has to know when it started.
      _other ->
        answer(receiver, ref)
    end
  end

  defp gather(receiver, response, chunk, bytes, frames) do
    response = sendable(receiver, response)
    data = Call.frame(receiver.format, response, receiver.number, receiver.call.library)
    receiver = %{receiver | number: receiver.number + 1}
    chunk = [chunk, data]
    bytes = bytes + byte_size(data)

    cond do
      not response.has_more ->
        {:last, receiver, IO.iodata_to_binary(chunk)}

      frames >= @chunk_frames or bytes >= @chunk_bytes ->
        {:more, receiver, IO.iodata_to_binary(chunk)}

      true ->
        gather_next(receiver, chunk, bytes, frames)
    end
  end

  defp gather_next(receiver, chunk, bytes, frames) do
    receive do
      {:stream_response, response} -> gather(receiver, response, chunk, bytes, frames + 1)
    after
      0 -> {:more, receiver, IO.iodata_to_binary(chunk)}
    end
  end

  # One that cannot be encoded is an error, which ends a stream like any other.
  @spec sendable(t(), Response.t()) :: Response.t()
  defp sendable(%{call: %{library: library}} = receiver, response) do
    {response, _bytes, failure} = Reply.measured(response, library, receiver.max_bytes)
    if failure, do: FailureLog.log(failure, FailureLog.about(receiver.request))
    response
  end
end
