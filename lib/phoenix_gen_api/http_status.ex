defmodule PhoenixGenApi.HttpStatus do
  @moduledoc false
  # The statuses of the codes that the library itself answers with, for HTTP and for its description.

  @codes [
    {400, ~w(invalid_request)},
    {401, ~w(unauthenticated)},
    {403, ~w(forbidden rejected not_a_member pending_member muted)},
    {404, ~w(unknown_function disabled_function not_found group_not_found)},
    {405, ~w(method_not_allowed)},
    {409, ~w(duplicate_request_id)},
    {413, ~w(payload_too_large)},
    {415, ~w(unsupported_media_type)},
    {429, ~w(rate_limited)},
    {500, ~w(internal)},
    {503, ~w(unavailable)},
    {504, ~w(timeout)}
  ]

  @statuses for {status, codes} <- @codes, code <- codes, into: %{}, do: {code, status}

  @doc "The status of a code; nil for wrong arguments and a function's own codes."
  @spec of(String.t() | nil) :: pos_integer() | nil
  def of(code), do: Map.get(@statuses, code)

  @doc "The codes of a status."
  @spec codes(pos_integer()) :: [String.t()]
  def codes(status), do: List.keyfind(@codes, status, 0, {status, []}) |> elem(1)
end
