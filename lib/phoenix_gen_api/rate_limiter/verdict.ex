defmodule PhoenixGenApi.RateLimiter.Verdict do
  @moduledoc false
  # What a check of the native side means, with its events.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.RateLimiter.Settings
  alias PhoenixGenApi.Telemetry

  require Log

  @event [:phoenix_gen_api, :rate_limiter]

  @doc """
  The result of a check that began at `started`, in native units; `:more` passes, too, and is not all that
  is to be charged. `function` is `{service, request_type}` where one is known.
  """
  @spec of(term(), integer(), term(), term(), {term(), term()} | nil) ::
          :ok | :more | {:error, :rate_limited | :rate_limiter_error, map()}
  def of(passed, started, request_id, user_id, function) when passed in [:ok, :more] do
    checked(:ok, started, request_id, user_id, function)
    passed
  end

  def of(outcome, started, request_id, user_id, function) do
    {decision, result} = decide(outcome)
    checked(result, started, request_id, user_id, function)
    exceeded(decision, request_id, user_id)
    decision
  end

  # A second look at the clock and two maps are more than the rest of the Elixir side of a check.
  if Telemetry.available?() do
    defp checked(result, started, request_id, user_id, function) do
      {service, type} = if match?({_, _}, function), do: function, else: {nil, nil}

      metadata = %{
        request_id: request_id,
        user_id: user_id,
        # A check may touch several shards.
        instance: nil,
        service: service,
        request_type: type,
        result: result
      }

      Telemetry.execute(@event ++ [:check], Telemetry.stop_measurements(started), metadata)
    end
  else
    defp checked(_result, _started, _request_id, _user_id, _function), do: :ok
  end

  defp decide(:not_running), do: undecided("the rate limiter is not running")
  defp decide(:overflow), do: undecided("the rate limiter has no room for another request")

  defp decide({:limited, scope, key, value, max, current, window, retry_after}) do
    details = %{
      key: value,
      rate_limit_key: key,
      max_requests: max,
      current_requests: current,
      window_ms: window,
      retry_after_ms: retry_after,
      scope: scope
    }

    {{:error, :rate_limited, details}, :rate_limited}
  end

  defp undecided(message) do
    if Config.get(:rate_limiter, :fail_open) do
      if Settings.log?(), do: Log.error("#{message}: requests pass (fail_open)")
      {:ok, :error}
    else
      {{:error, :rate_limiter_error, %{message: message}}, :error}
    end
  end

  defp exceeded({:error, :rate_limited, details}, request_id, user_id) do
    metadata =
      details
      |> Map.take([:key, :scope, :max_requests, :current_requests, :rate_limit_key])
      |> Map.merge(%{request_id: request_id, user_id: user_id})

    measurements = %{retry_after_ms: details.retry_after_ms}
    Telemetry.execute(@event ++ [:exceeded], measurements, metadata)
  end

  defp exceeded(_decision, _request_id, _user_id), do: :ok
end
