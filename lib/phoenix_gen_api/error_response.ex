defmodule PhoenixGenApi.ErrorResponse do
  @moduledoc false
  # What a client is told. Each failure has a fixed code and a fixed text; the reason is added to the
  # text only where the operator has asked for that.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.ServiceGuard.Refused
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Telemetry

  require Log

  @unversioned "0.0.0"

  # Codes that only the gateway gives: clients decide by them whether to try again or to log in.
  @reserved ~w(internal unavailable timeout rate_limited unauthenticated)
  @own_code ~r/\A[a-z0-9_]{1,64}\z/

  @typedoc "Whether a function has begun to run; clients decide by it whether to send a request again."
  @type executed :: :no | :unknown | :yes

  @typedoc "What went wrong, as the stages say it."
  @type failure :: atom() | tuple()

  @doc """
  The error response for a failure of any stage.

  `executed` is that of earlier attempts, where there were any.
  """
  @spec build(term(), failure(), executed()) :: Response.t()
  def build(id, failure, executed \\ :no) do
    {code, text, retry?} = message(failure)

    %{
      Response.error_response(id, detailed(text, failure), retry?, code: code)
      | details: details(code, failure, executed),
        result: exposed_limit(failure)
    }
  end

  @doc "The response that a call has returned, or nil if it has failed."
  @spec from_return(term(), term()) :: Response.t() | nil
  def from_return(id, outcome) do
    case outcome do
      # A response is never nested in another.
      {:return, {:ok, %Response{} = response}} ->
        own(id, response)

      {:return, {:ok, value}} ->
        Response.sync_response(id, value)

      {:return, %Response{} = response} ->
        own(id, response)

      {:return, value} when not is_tuple(value) and value != :error ->
        Response.sync_response(id, value)

      _failed ->
        nil
    end
  end

  @doc "The failure that an outcome of a call is; that of one that succeeded is of no use."
  @spec failure(term(), timeout()) :: failure()
  def failure({:return, {:error, reason}}, _timeout), do: {:error_result, reason}
  def failure({:return, :error}, _timeout), do: {:error_result, :error}
  def failure({:return, value}, _timeout), do: {:unexpected, value}
  def failure({:raised, kind, reason, stack}, _timeout), do: {:raised, kind, reason, stack}
  def failure(:timeout, timeout), do: {:timeout, timeout}
  def failure(:expired, timeout), do: {:expired, timeout}
  def failure({:node_down, reason}, _timeout), do: {:node_down, reason}
  def failure({:failed, failure}, _timeout), do: failure

  @doc "A response that a function has made, for the request of that id."
  @spec own(term(), Response.t()) :: Response.t()
  def own(id, response) do
    case Response.complete(response) do
      %{success: false, code: code} = response ->
        code = if code?(code) and code not in @reserved, do: code, else: "error"
        with_code(%{response | request_id: id}, code)

      response ->
        %{response | request_id: id}
    end
  end

  @doc "A response that a hook has made. Hooks run on the gateway and may give every code."
  @spec from_hook(term(), Response.t(), String.t()) :: Response.t()
  def from_hook(id, response, default) do
    case Response.complete(response) do
      %{success: false, code: code} = response ->
        with_code(%{response | request_id: id}, if(code?(code), do: code, else: default))

      response ->
        %{response | request_id: id}
    end
  end

  defp code?(code), do: is_binary(code) and Regex.match?(@own_code, code)

  defp with_code(%{details: details} = response, code),
    do: %{response | code: code, details: if(is_list(details), do: details)}

  @doc "Whether a function has begun to run before that failure."
  @spec executed(failure()) :: executed()
  def executed({:error_result, _reason}), do: :yes
  def executed({:unexpected, _value}), do: :yes
  # The node has said that it did not call the function.
  def executed({:raised, :error, %Refused{}, _stack}), do: :no
  def executed({:raised, _kind, _reason, _stack}), do: :yes
  def executed({:not_encodable, _path, _kind}), do: :yes
  def executed({:wrong_result, _problems}), do: :yes
  def executed({:stream_failed, _reason}), do: :yes
  def executed({:timeout, _ms}), do: :unknown
  def executed({:no_credit, _ms}), do: :unknown
  def executed({:node_down, reason}) when reason in [:noconnection, :stopped], do: :unknown
  def executed({:bug, _kind, _reason, _stack}), do: :unknown
  def executed(bug) when bug in [:async_failed, :stream_failed, :request_failed], do: :unknown
  def executed(_before_the_call), do: :no

  @doc "The code of a failure."
  @spec code(failure()) :: String.t()
  def code(failure), do: failure |> message() |> elem(0)

  @doc "The worse of two: what one attempt has begun no other one takes back."
  @spec worse(executed(), executed()) :: executed()
  def worse(a, b) when a == :yes or b == :yes, do: :yes
  def worse(a, b) when a == :unknown or b == :unknown, do: :unknown
  def worse(:no, :no), do: :no

  @doc "The metadata of an exception event."
  @spec crash_metadata(:error | :exit | :throw, term(), Exception.stacktrace()) :: map()
  defdelegate crash_metadata(kind, reason, stack), to: Telemetry

  @doc "Logs a bug of this library, without what the request held."
  @spec log_bug(:error | :exit | :throw, term(), Exception.stacktrace()) :: :ok
  def log_bug(kind, reason, stack) do
    name = if is_exception(reason), do: inspect(reason.__struct__), else: inspect(kind)
    Log.error({"phoenix_gen_api failed: #{name}", stack})
  end

  # {code, text, whether the same request may succeed later}
  defp message({:invalid_request, error}),
    do: {"invalid_request", "Invalid request: #{error}", false}

  defp message(:duplicate_request_id),
    do: {"duplicate_request_id", "Duplicate request id", false}

  defp message(:cancelled), do: {"cancelled", "Request cancelled", false}

  # What an entrance refuses for reasons of its own.
  defp message({:http, code, text}), do: {code, text, false}
  defp message(:unauthenticated), do: {"unauthenticated", "Authentication required", false}

  defp message({:not_found, type, version}) do
    text = "unsupported function: #{name(type)} version #{version(version)}"
    {"unknown_function", text, false}
  end

  defp message({:disabled, type, version}) do
    text = "disabled function: #{name(type)} version #{version(version)}"
    {"disabled_function", text, false}
  end

  defp message({:rate_limited, %{retry_after_ms: ms}}) do
    text = "Rate limit exceeded. Please retry after #{div(ms + 999, 1_000)} seconds."
    {"rate_limited", text, true}
  end

  defp message({:too_fast, ms}), do: message({:rate_limited, %{retry_after_ms: ms}})

  defp message({:rate_limiter_error, _details}),
    do: {"unavailable", "Rate limit service unavailable", true}

  defp message({:hook_rejected, _reason}), do: {"rejected", "hook rejected", false}
  defp message({:hook_failed, _hook, _outcome}), do: {"rejected", "hook rejected", false}

  defp message({:permission_denied, nil, _why}),
    do: {"unauthenticated", "Permission denied", false}

  defp message({:permission_denied, _user, _why}), do: {"forbidden", "Permission denied", false}

  # Of a response that has been made already.
  defp message({:own, code}), do: {code, "", false}

  defp message({:invalid_arguments, _exception, _details}),
    do: {"invalid_arguments", "argument validation failed", false}

  defp message({:no_node, {kind, _key}}) when kind in [:hash_key_not_found, :invalid_hash_key],
    do: {"missing_routing_key", "missing routing key", false}

  defp message({:no_node, reason}) when reason != :not_running,
    do: {"unavailable", "No service node available", true}

  defp message({late, ms}) when late in [:timeout, :expired],
    do: {"timeout", "Request timed out after #{ms}ms", true}

  # Nothing is wrong with the function, so the client need not try again.
  defp message({:no_credit, ms}), do: {"timeout", "Request timed out after #{ms}ms", false}

  defp message({:stream_not_started, _reason}),
    do: {"unavailable", "Failed to start stream", true}

  defp message({:unexpected, _value}), do: {"internal", "Unexpected execution result", false}
  defp message(:async_failed), do: {"internal", "Async execution failed", false}
  defp message(:stream_failed), do: {"internal", "Stream execution failed", false}
  defp message({:stream_failed, _reason}), do: {"internal", "Stream execution failed", false}

  defp message(:unsupported_response_type),
    do: {"internal", "unsupported response type", false}

  defp message(failed) when failed in [:request_failed, :request_not_decoded],
    do: {"internal", "Request processing failed", false}

  defp message(failure) when is_tuple(failure) do
    if elem(failure, 0) in [:no_node, :node_down, :pool, :channel, :permission_unanswered],
      do: {"unavailable", "Service temporarily unavailable", true},
      else: {"internal", "Internal Server Error", false}
  end

  defp message(:not_running), do: {"unavailable", "Service temporarily unavailable", true}

  defp details(code, failure, executed) when code in ["unavailable", "timeout", "internal"],
    do: [%{"executed" => Atom.to_string(worse(executed, executed(failure)))}]

  defp details(_code, {:invalid_arguments, _exception, details}, _executed), do: details

  defp details(_code, {:rate_limited, limit} = failure, _executed) do
    [Map.put(exposed_limit(failure) || %{}, "retry_after_ms", limit.retry_after_ms)]
  end

  defp details(_code, {:too_fast, ms}, _executed), do: [%{"retry_after_ms" => ms}]
  defp details(_code, _failure, _executed), do: nil

  # What a denied client may know of its limit, where the operator has asked for that.
  defp exposed_limit({:rate_limited, details}) do
    if Config.get(:rate_limiter, :expose_limits) do
      %{
        "limit" => details.max_requests,
        # Also where the limit wants a value that the request does not have.
        "remaining" => 0,
        "retry_after_ms" => details.retry_after_ms
      }
    end
  end

  defp exposed_limit(_failure), do: nil

  defp detailed(text, failure) do
    if Config.get(:gen_api, :detail_error) do
      case reason(failure) do
        nil -> text
        reason -> "#{text}: #{reason}"
      end
    else
      text
    end
  end

  # What may be added to the text.
  defp reason({:raised, kind, reason, stack}), do: SafeInspect.reason(kind, reason, stack)

  defp reason({:bug, kind, reason, stack}), do: SafeInspect.reason(kind, reason, stack)

  defp reason({:hook_failed, _hook, {:raised, kind, reason, stack}}),
    do: SafeInspect.reason(kind, reason, stack)

  defp reason({:hook_failed, _hook, {:timeout, ms}}), do: "hook timed out after #{ms}ms"

  defp reason({:invalid_arguments, exception, _details}),
    do: SafeInspect.reason(:error, exception)

  defp reason({:invalid_config, sentences}), do: SafeInspect.truncate(Enum.join(sentences, "; "))
  defp reason({:not_encodable, path, _kind}), do: path
  defp reason({:error_result, reason}) when is_binary(reason), do: SafeInspect.inspect(reason)
  defp reason({:no_node, :not_running}), do: nil

  defp reason({kind, reason})
       when kind in [
              :hook_rejected,
              :no_node,
              :node_down,
              :pool,
              :unexpected,
              :stream_failed,
              :stream_not_started,
              :error_result,
              :not_allowed
            ],
       do: shown(reason)

  defp reason(_failure), do: nil

  defp shown(exception) when is_exception(exception), do: SafeInspect.reason(:error, exception)
  defp shown(text) when is_binary(text), do: SafeInspect.text(text)
  defp shown(term), do: SafeInspect.inspect(term)

  defp version(version) when version in [nil, @unversioned], do: "latest"
  defp version(version), do: name(version)

  defp name(name) when is_binary(name), do: SafeInspect.text(name)
  defp name(name), do: SafeInspect.inspect(name)
end
