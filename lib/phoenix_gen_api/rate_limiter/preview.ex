defmodule PhoenixGenApi.RateLimiter.Preview do
  @moduledoc false
  # Explains the rate limits of a request without charging them.

  alias PhoenixGenApi.{Explanation, Format, RateLimiter}
  alias PhoenixGenApi.Structs.Request

  # The limiter computes the delay only when it denies a request.
  @denied "Rate limit exceeded. Please retry after … seconds."

  @doc "Explains how much is left of every limit of a function; adds these limits as `limits`."
  @spec explain(String.t(), String.t(), Request.t() | nil) :: Explanation.t()
  def explain(service, type, request) do
    limits = applying(service, type)

    rows =
      for(limit <- limits.global, do: {limit, :global, "all functions, #{words(limit)}"}) ++
        for limit <- limits.api, do: {limit, {service, type}, "this function, #{words(limit)}"}

    rows |> explain(request) |> Map.put(:limits, limits)
  end

  defp explain([], _request), do: Explanation.none("no limit applies")

  defp explain(rows, request) do
    desc = Enum.map_join(rows, "; ", fn {_limit, _scope, words} -> words end)
    if request, do: decide(desc, rows, request), else: Explanation.none(desc)
  end

  defp decide(desc, rows, request) do
    answers =
      for {limit, scope, words} <- rows do
        {decision, said} = answer(limit, scope, request)
        {decision, limit, "#{words}: #{said}"}
      end

    because = Enum.map_join(answers, "; ", fn {_decision, _limit, said} -> said end)

    case List.keyfind(answers, :denies, 0) do
      {:denies, limit, _said} ->
        desc |> Explanation.refuses(@denied, because) |> Map.put(:log_says, over(limit))

      nil ->
        Explanation.passes(desc, because)
    end
  end

  # As the log says it.
  defp over(limit), do: "over the limit of #{words(limit)}"

  defp applying(service, type) do
    if RateLimiter.status().enabled do
      %{global: global, api: api} = RateLimiter.get_configured_limits()
      own = for %{service: ^service, request_type: ^type} = limit <- api, do: limit
      %{global: global, api: own}
    else
      %{global: [], api: []}
    end
  end

  defp words(limit), do: Format.limit(limit.max_requests, limit.window_ms, limit.key)

  defp answer(limit, scope, request) do
    case {value(request, limit.key), Map.get(limit, :on_missing, :skip)} do
      {nil, :skip} -> {:passes, "no value, skipped"}
      {nil, :deny} -> {:denies, "no value, denied"}
      {value, _on_missing} -> counted(limit, scope, value)
    end
  end

  defp counted(limit, scope, value) do
    value
    |> RateLimiter.get_rate_limit_status(scope, limit.key)
    |> Enum.find(&(&1.window_ms == limit.window_ms and &1.max_requests == limit.max_requests))
    |> case do
      %{remaining: 0, current_requests: used} -> {:denies, "#{used} used, none left"}
      %{remaining: left, current_requests: used} -> {:passes, "#{used} used, #{left} left"}
      # Limits can change at any time.
      nil -> {:passes, "no longer in force"}
    end
  end

  # The kinds of values that the limiter counts.
  defp value(request, key) do
    value = if is_atom(key), do: Map.get(request, key), else: request.args[key]
    if (is_binary(value) and value != "") or is_number(value) or is_boolean(value), do: value
  end
end
