defmodule PhoenixGenApi.ErrorResponse do
  @moduledoc false
  # What a client is told. Each failure has one fixed text; the reason is added only where
  # the operator has asked for that.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Executor.Attempt
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.Log

  require Log

  @unversioned "0.0.0"

  @doc "The error response for a failure of any stage."
  @spec build(term(), term()) :: Response.t()
  def build(id, failure) do
    {text, reason, retry?} = message(failure)
    response = Response.error_response(id, detailed(text, reason), retry?)
    %{response | result: limit_details(failure)}
  end

  # What a denied client may know of its limit, where the operator has asked for that.
  defp limit_details({:rate_limited, details}) do
    if Config.get(:rate_limiter, :expose_limits) do
      %{
        "limit" => details.max_requests,
        # Also where the limit wants a value that the request does not have.
        "remaining" => 0,
        "retry_after_ms" => details.retry_after_ms
      }
    end
  end

  defp limit_details(_failure), do: nil

  @doc "The response for what became of a call."
  @spec from_outcome(term(), Attempt.outcome(), timeout()) :: Response.t()
  def from_outcome(id, outcome, timeout) do
    case outcome do
      # A response is never nested in another.
      {:return, {:ok, %Response{} = response}} -> %{response | request_id: id}
      {:return, {:ok, value}} -> Response.sync_response(id, value)
      {:return, %Response{} = response} -> %{response | request_id: id}
      {:return, {:error, reason}} -> build(id, {:error_result, reason})
      {:return, :error} -> build(id, {:error_result, :error})
      {:return, tuple} when is_tuple(tuple) -> build(id, {:unexpected, tuple})
      {:return, value} -> Response.sync_response(id, value)
      {:raised, kind, reason, _stack} -> build(id, {kind, reason})
      :timeout -> build(id, {:timeout, timeout})
      {:node_down, reason} -> build(id, {:node_down, reason})
      {:failed, failure} -> build(id, failure)
    end
  end

  @doc "The metadata of an exception event."
  @spec crash_metadata(:error | :exit | :throw, term(), Exception.stacktrace()) :: map()
  defdelegate crash_metadata(kind, reason, stack), to: Telemetry

  @doc "Logs a bug of this library, without what the request held."
  @spec log_bug(:error | :exit | :throw, term(), Exception.stacktrace()) :: :ok
  def log_bug(kind, reason, stack) do
    name = if is_exception(reason), do: inspect(reason.__struct__), else: inspect(kind)
    Log.error({"phoenix_gen_api failed: #{name}", stack})
  end

  defp message({:invalid_request, error}), do: {"Invalid request: #{error}", nil, false}

  defp message({:not_found, type, version}),
    do: {"unsupported function: #{name(type)} version #{version(version)}", nil, false}

  defp message({:disabled, type, version}),
    do: {"disabled function: #{name(type)} version #{version(version)}", nil, false}

  defp message({:rate_limited, %{retry_after_ms: ms}}) do
    seconds = div(ms + 999, 1_000)
    {"Rate limit exceeded. Please retry after #{seconds} seconds.", nil, true}
  end

  defp message({:rate_limiter_error, _details}), do: {"Rate limit service unavailable", nil, true}
  defp message(:not_running), do: {"Service temporarily unavailable", nil, true}
  defp message({:hook_rejected, reason}), do: {"hook rejected", shown(reason), false}
  defp message(:permission_denied), do: {"Permission denied", nil, false}

  defp message({:invalid_arguments, exception}),
    do: {"argument validation failed", SafeInspect.reason(:error, exception), false}

  defp message({:no_node, {kind, _key} = reason})
       when kind in [:hash_key_not_found, :invalid_hash_key],
       do: {"missing routing key", shown(reason), false}

  defp message({:no_node, :not_running}), do: message(:not_running)
  defp message({:no_node, reason}), do: {"No service node available", shown(reason), true}
  defp message({:timeout, ms}), do: {"Request timed out after #{ms}ms", nil, true}
  defp message({:node_down, reason}), do: {"Service temporarily unavailable", shown(reason), true}
  defp message({:pool, reason}), do: {"Service temporarily unavailable", shown(reason), true}
  defp message({:unexpected, tuple}), do: {"Unexpected execution result", shown(tuple), false}
  defp message(:async_failed), do: {"Async execution failed", nil, false}
  defp message(:stream_failed), do: {"Stream execution failed", nil, false}
  defp message({:stream_failed, reason}), do: {"Stream execution failed", shown(reason), false}

  defp message({:stream_not_started, reason}),
    do: {"Failed to start stream", shown(reason), true}

  defp message(:unsupported_response_type), do: {"unsupported response type", nil, false}

  defp message({:invalid_config, sentences}),
    do: {"Internal Server Error", SafeInspect.truncate(Enum.join(sentences, "; ")), false}

  defp message({:error_result, reason}) when is_binary(reason),
    do: {"Internal Server Error", SafeInspect.inspect(reason), false}

  defp message({:error_result, reason}), do: {"Internal Server Error", shown(reason), false}
  defp message({:not_allowed, reason}), do: {"Internal Server Error", shown(reason), false}

  defp message({kind, reason}) when kind in [:error, :exit, :throw],
    do: {"Internal Server Error", SafeInspect.reason(kind, reason), false}

  defp detailed(text, nil), do: text

  defp detailed(text, reason) do
    if Config.get(:gen_api, :detail_error), do: "#{text}: #{reason}", else: text
  end

  defp shown(exception) when is_exception(exception), do: SafeInspect.reason(:error, exception)

  defp shown(text) when is_binary(text), do: SafeInspect.text(text)
  defp shown(term), do: SafeInspect.inspect(term)

  defp version(version) when version in [nil, @unversioned], do: "latest"
  defp version(version), do: name(version)

  defp name(name) when is_binary(name), do: SafeInspect.text(name)
  defp name(name), do: SafeInspect.inspect(name)
end
