defmodule PhoenixGenApi.Executor.Outcome do
  @moduledoc false
  # What telemetry and the log are told of the end of a request.

  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.Context
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Structs.{Request, Response}
  alias PhoenixGenApi.Telemetry

  @event [:phoenix_gen_api, :executor, :request]
  # Known when compiled, like the native library.
  @native_per_us System.convert_time_unit(1, :microsecond, :native)

  @doc """
  Emits the stop or the exception of a request, and logs its failure. `started` is in native units,
  `queued` in ms.
  """
  @spec emit(
          Request.t(),
          Response.t() | {:ok, :none},
          {ErrorResponse.failure() | nil, Context.t() | nil} | :later,
          integer(),
          non_neg_integer()
        ) :: :ok
  def emit(request, result, :later, started, queued),
    do: stop(request, result, started, queued, nil, 0, nil)

  # Of a request that has succeeded there is a context.
  def emit(request, result, {nil, %{attempts: attempts} = context}, started, queued),
    do: stop(request, result, started, queued, node_of(context), max(attempts, 1), nil)

  def emit(request, result, {failure, context}, started, queued) do
    FailureLog.log(failure, context || FailureLog.about(request), started)

    case failure do
      {raised, kind, reason, stack} when raised in [:raised, :bug] ->
        crash = ErrorResponse.crash_metadata(kind, reason, stack)

        metadata =
          Map.merge(crash, %{
            request_id: request.request_id,
            request_type: request.request_type,
            service: request.service,
            user_id: request.user_id,
            code: code(result),
            node: node_of(context),
            attempts: attempts(failure, context)
          })

        Telemetry.execute(@event ++ [:exception], measurements(started, queued), metadata)

      _no_crash ->
        attempts = attempts(failure, context)
        reason = FailureLog.reason(failure)
        stop(request, result, started, queued, node_of(context), attempts, reason)
    end
  end

  defp stop(request, result, started, queued, node, attempts, reason) do
    Telemetry.execute(@event ++ [:stop], measurements(started, queued), %{
      request_id: request.request_id,
      request_type: request.request_type,
      service: request.service,
      user_id: request.user_id,
      success: success?(result),
      async: async?(result),
      code: code(result),
      node: node,
      attempts: attempts,
      reason: reason
    })
  end

  defp measurements(started, queued) do
    now = System.monotonic_time()
    duration = now - started

    %{
      duration: duration,
      duration_us: div(duration, @native_per_us),
      monotonic_time: now,
      queued_us: queued * 1_000
    }
  end

  defp success?({:ok, :none}), do: true
  defp success?(%Response{success: success}), do: success

  defp async?({:ok, :none}), do: true
  defp async?(%Response{async: async}), do: async

  defp code(%Response{success: false, code: code}), do: code
  defp code(_succeeded), do: nil

  defp node_of(%{target: {node, _counter}}), do: node
  defp node_of(_nowhere), do: nil

  # Those of a function without `retry` are not counted: there was one, or none.
  defp attempts(_failure, %{attempts: attempts}) when attempts > 0, do: attempts
  defp attempts(failure, _context), do: if(ErrorResponse.executed(failure) == :no, do: 0, else: 1)
end
