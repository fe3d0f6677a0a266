defmodule PhoenixGenApi.FailureLog.Reason do
  @moduledoc false
  # What the log says of each failure, and at which level. Never what a client has sent or a function
  # has returned.

  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Format
  alias PhoenixGenApi.Log.Crash
  alias PhoenixGenApi.SafeInspect

  @max_problems 5

  @typedoc "A level, what to say, and the stacktrace to show."
  @type t :: {Logger.level(), String.t(), Exception.stacktrace()}

  @doc "The reason of a failure; nil where something else has logged it, or nobody can do anything about it."
  @spec of(ErrorResponse.failure()) :: t() | nil
  def of({:raised, kind, reason, stack}), do: {:error, Crash.text(kind, reason, stack), stack}
  def of({:unexpected, value}), do: {:error, "returned #{shape(value)}", []}

  def of({:not_encodable, reason, nil}),
    do: {:error, "a result that cannot be sent: #{reason}", []}

  def of({:not_encodable, path, kind}),
    do: {:error, "a result that JSON cannot hold: #{path} is #{kind}", []}

  def of({:wrong_result, problems}),
    do: {:warning, "its result is not what it declares: " <> problems(problems), []}

  # What it was called with comes from a client, so that these may be frequent.
  def of({:error_result, reason}), do: {:warning, "returned an error: #{shown(reason)}", []}
  def of({:timeout, ms}), do: {:warning, "timed out after #{Format.duration(ms)}", []}

  def of({:no_credit, ms}),
    do: {:info, "its client granted it no credit for #{Format.duration(ms)}", []}

  def of({:expired, ms}),
    do: {:warning, "not called: its time of #{Format.duration(ms)} was over", []}

  def of({:node_down, :noconnection}), do: {:warning, "the connection to the node was lost", []}
  def of({:node_down, :stopped}), do: {:warning, "the service stopped before it had ended", []}
  def of({:node_down, :stopping}), do: {:warning, "the service stops on the node", []}
  def of({:node_down, reason}), do: {:warning, "the node did not run it: #{shown(reason)}", []}
  def of({:no_node, :not_running}), do: nil

  def of({:no_node, {:all_nodes_unavailable, nodes}}) do
    {:warning, "no usable node: #{Format.obstacles(nodes)}", []}
  end

  def of({:no_node, {absent, key}}) when absent in [:hash_key_not_found, :invalid_hash_key],
    do: {:info, "no usable value of the routing key #{SafeInspect.inspect(key, 100)}", []}

  def of({:no_node, reason}), do: {:warning, "no usable node: #{shown(reason)}", []}
  def of({:pool, :queue_full}), do: {:warning, "not called: the pool and its queue are full", []}

  def of({:pool, :circuit_open}),
    do: {:warning, "not called: the circuit of the pool is open", []}

  def of({:pool, :no_slot}), do: {:warning, "not called: the pool had no room in time", []}

  def of({:pool, :user_share}),
    do: {:warning, "not called: the user has their share of the pool", []}

  def of({:pool, reason}), do: {:warning, "not called: no pool (#{shown(reason)})", []}

  def of(:duplicate_request_id),
    do: {:info, "not called: an unfinished request has its id", []}

  def of(:cancelled), do: {:debug, "cancelled by the client", []}
  def of({:channel, limit}), do: {:warning, "not called: over #{limit} of the channel", []}
  def of(:async_failed), do: {:warning, "its process was killed", []}
  def of(:stream_failed), do: {:warning, "the process of its stream was killed", []}
  def of(:request_failed), do: {:warning, "its process was killed", []}
  def of({:stream_failed, reason}), do: {:warning, "returned #{shown(reason)}", []}
  def of({:stream_not_started, reason}), do: {:warning, "not started: #{shown(reason)}", []}

  def of({:not_allowed, {:mfa_not_allowed, mfa}}),
    do: {:warning, "not called: #{Format.function(mfa)} is not allowed here", []}

  def of({:invalid_config, sentences}),
    do: {:warning, "its config is invalid: #{SafeInspect.list(sentences, @max_problems)}", []}

  def of(:unsupported_response_type), do: {:warning, "unsupported response type", []}

  def of({:rate_limiter_error, %{message: message}}),
    do: {:warning, "the rate limiter has failed: #{SafeInspect.text(message)}", []}

  def of({:permission_denied, _user, why}),
    do: {:warning, "permission denied: #{denied(why)}", []}

  def of({:permission_unanswered, callback, outcome}),
    do: {:warning, "#{Format.function(callback)} has not decided: #{outcome(outcome)}", []}

  def of({:hook_failed, hook, outcome}),
    do: {:warning, "its hook #{Format.function(hook)} #{outcome(outcome)}", stack(outcome)}

  def of({:hook_rejected, reason}), do: {:info, "rejected by its hook: #{shown(reason)}", []}
  def of({:not_found, _type, _version}), do: {:info, "unknown function", []}
  def of({:disabled, _type, _version}), do: {:info, "disabled function", []}

  def of({:invalid_request, error}),
    do: {:info, "invalid request: #{Exception.message(error)}", []}

  def of({:http, _code, text}), do: {:info, "not called: #{text}", []}
  def of(:unauthenticated), do: {:info, "its connection has no user", []}

  def of({:invalid_arguments, _exception, problems}) when is_list(problems) do
    {:info, "invalid arguments: " <> problems(problems), []}
  end

  def of({:own, code}) when code in ["rate_limited", "cancelled"], do: {:debug, code, []}
  def of({:own, code}), do: {:info, "answered with an error of its own (#{code})", []}

  def of({:rate_limited, limit}) do
    words = Format.limit(limit.max_requests, limit.window_ms, limit.rate_limit_key)
    {:debug, "over the limit of #{words}", []}
  end

  # Bugs are logged where they are caught; a gateway that does not run needs no line for each request.
  def of(_logged_or_not_running), do: nil

  defp shape(value) when is_tuple(value) and tuple_size(value) > 0 and is_atom(elem(value, 0)) do
    rest = List.duplicate(", _", tuple_size(value) - 1)
    SafeInspect.truncate("{#{SafeInspect.inspect(elem(value, 0), 100)}#{rest}}", 200)
  end

  defp shape(value) when is_tuple(value), do: "a tuple of #{tuple_size(value)} elements"
  defp shape(_value), do: "something unexpected"

  defp problems(problems),
    do: problems |> Enum.map(&problem/1) |> SafeInspect.list(@max_problems)

  defp problem(%{"path" => path, "rule" => rule} = problem) do
    allowed = problem["limit"] || problem["expected"]
    path = if path == "", do: "all together", else: path
    if allowed, do: "#{path}: #{rule} #{allowed}", else: "#{path}: #{rule}"
  end

  defp denied({:mode, mode}), do: SafeInspect.inspect(mode)
  defp denied({:callback, mfa, outcome}), do: "#{Format.function(mfa)} #{outcome(outcome)}"

  defp outcome({:return, value}), do: "returned #{SafeInspect.inspect(value)}"
  defp outcome({:raised, kind, reason, stack}), do: Crash.text(kind, reason, stack)
  defp outcome(:timeout), do: "took too long"
  defp outcome({:timeout, ms}), do: "took longer than #{Format.duration(ms)}"
  defp outcome({:node_down, _reason}), do: "its node was lost"
  defp outcome(other), do: SafeInspect.inspect(other)

  defp stack({:raised, _kind, _reason, stack}), do: stack
  defp stack(_outcome), do: []

  defp shown(exception) when is_exception(exception), do: Crash.text(:error, exception, [])
  defp shown(text) when is_binary(text), do: SafeInspect.text(text)
  defp shown(term), do: SafeInspect.inspect(term)
end
