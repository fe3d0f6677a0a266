defmodule PhoenixGenApi.Test.Answers do
  # What a request of the tests, "r1", is answered with.

  alias PhoenixGenApi.Structs.Response

  # The code of each text, and what the details of that code usually say.
  @codes [
    {"Internal Server Error", "internal", "yes"},
    {"Unexpected execution result", "internal", "yes"},
    {"Async execution failed", "internal", "unknown"},
    {"Stream execution failed", "internal", "unknown"},
    {"Request processing failed", "internal", "unknown"},
    {"unsupported response type", "internal", "no"},
    {"Failed to start stream", "unavailable", "no"},
    {"No service node available", "unavailable", "no"},
    {"Rate limit service unavailable", "unavailable", "no"},
    {"Service temporarily unavailable", "unavailable", "no"},
    {"Request timed out", "timeout", "unknown"},
    {"Rate limit exceeded", "rate_limited", nil},
    {"Invalid request", "invalid_request", nil},
    {"Authentication required", "unauthenticated", nil},
    {"Permission denied", "unauthenticated", nil},
    {"unsupported function", "unknown_function", nil},
    {"disabled function", "disabled_function", nil},
    {"hook rejected", "rejected", nil},
    {"missing routing key", "missing_routing_key", nil},
    {"argument validation failed", "invalid_arguments", nil}
  ]

  def ok(value), do: Response.sync_response("r1", value)

  @doc "Options: `id:`, `code:`, `executed:` and `details:` where they are not the usual ones."
  def error(text, retry? \\ false, opts \\ []) do
    {code, executed} = usual(text)
    executed = Keyword.get(opts, :executed, executed)
    details = Keyword.get(opts, :details, executed && [%{"executed" => executed}])

    Response.error_response(Keyword.get(opts, :id, "r1"), text, retry?,
      code: opts[:code] || code,
      details: details
    )
  end

  defp usual(text) do
    Enum.find_value(@codes, {"error", nil}, fn {start, code, executed} ->
      if String.starts_with?(text, start), do: {code, executed}
    end)
  end
end
