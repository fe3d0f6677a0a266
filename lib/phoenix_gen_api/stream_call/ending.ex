defmodule PhoenixGenApi.StreamCall.Ending do
  @moduledoc false
  # The ways in which a stream ends, each for `StreamCall.Server`, whose state is the stream: what is left is
  # ended, and the last frame is returned.

  import PhoenixGenApi.Plan, only: [has: 2]

  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Hooks
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.RPC.Client
  alias PhoenixGenApi.StreamCall.{Lifetime, Registry, Remote, State}
  alias PhoenixGenApi.Structs.Response

  @type stream :: State.t()

  @typedoc "Receiver and final frame; none for a receiver that is gone, or has had it."
  @type final :: {pid(), {:stream_response, Response.t()}} | nil

  @typedoc "What is still to be sent, and how the function has crashed if that was the end."
  @type ended :: {final(), map() | nil}

  @doc "A response that the function has made ends its stream."
  @spec answered(stream(), Response.t()) :: ended()
  def answered(stream, response) do
    response = %{ErrorResponse.own(stream.id, response) | has_more: false}
    if response.success == false, do: log(stream, {:own, response.code})
    finish(stream, response)
  end

  @doc "The frame of a last item."
  @spec last_frame(stream(), term()) :: Response.t()
  def last_frame(%{id: id}, item), do: Response.stream_response(id, item, false)

  @doc "Somebody has asked for the end."
  @spec stopped(stream()) :: ended()
  def stopped(stream), do: finish(stream, Response.stream_end_response(stream.id))

  @doc "It has failed."
  @spec failed(stream(), ErrorResponse.failure()) :: ended()
  def failed(stream, failure) do
    log(stream, failure)
    finish(stream, ErrorResponse.build(stream.id, failure), crash(failure))
  end

  defp crash({:raised, kind, reason, stack}),
    do: ErrorResponse.crash_metadata(kind, reason, stack)

  defp crash(_failure), do: nil

  defp log(%{context: context, since: since}, failure) do
    FailureLog.log(failure, context, System.convert_time_unit(since, :millisecond, :native))
  end

  @doc "Its time is over."
  @spec timed_out(stream()) :: ended()
  def timed_out(%{context: context, remote: remote} = stream) do
    case Lifetime.over(context, stream.judged?) do
      {failure, true} ->
        # A host that swallows every packet. Connecting fails only after seven seconds, when
        # requests have given up: they must not go on choosing it.
        if Client.unreachable?(remote.client), do: NodeSelector.mark(remote.client.node, :down)
        failed(%{stream | remote: Remote.timed_out(remote)}, failure)

      {failure, false} ->
        failed(stream, failure)
    end
  end

  @doc "There is nobody to be told."
  @spec abandoned(stream()) :: ended()
  def abandoned(stream) do
    conclude(stream, Response.stream_end_response(stream.id))
    {nil, nil}
  end

  @doc "The last frame is this response."
  @spec finish(stream(), Response.t(), map() | nil) :: ended()
  def finish(stream, response, crash \\ nil) do
    conclude(stream, response)
    {{stream.receiver, {:stream_response, response}}, crash}
  end

  defp conclude(stream, response) do
    if stream.remote, do: Remote.stop(stream.remote)
    if stream.timer, do: :erlang.cancel_timer(stream.timer)
    Registry.leave(stream.key)
    after_hook(stream, response)
  end

  # Neither the final frame nor the slot has to wait for it, as nobody waits for what it returns.
  defp after_hook(%{context: %{plan: plan, request: request}, callers: callers}, response)
       when has(plan, :after_execute),
       do: Hooks.notify(Plan.config(plan), request, response, callers)

  defp after_hook(_stream, _response), do: :ok
end
