defmodule PhoenixGenApi.Test.HttpRequests do
  @moduledoc false
  # Requests for `PhoenixGenApi.Http`, and what their answers say.

  alias PhoenixGenApi.Http

  @doc "A POST with a JSON body, by a user called ann."
  def post(service, type, args \\ %{}, fields \\ []) do
    body = if is_map(args), do: JSON.encode!(args), else: args
    {headers, fields} = Keyword.pop(fields, :headers, [])

    Map.merge(
      %{
        method: "POST",
        path: [service, type],
        query: "",
        headers: headers ++ [{"content-type", "application/json"}],
        body: body,
        assigns: %{user_id: "ann"},
        remote_ip: {192, 0, 2, 1}
      },
      Map.new(fields)
    )
  end

  @doc "The status, the headers and the decoded body of the answer."
  def ask(request, options \\ []) do
    {status, headers, {:full, body}} = Http.handle(request, options)
    {status, Map.new(headers), body |> IO.iodata_to_binary() |> decoded()}
  end

  defp decoded(""), do: nil
  defp decoded(body), do: JSON.decode!(body)

  @doc "The frames in the text of server-sent events: their fields, with decoded data."
  def events(text) do
    for block <- String.split(text, "\n\n", trim: true), not String.starts_with?(block, ":") do
      for line <- String.split(block, "\n"), into: %{} do
        case String.split(line, ": ", parts: 2) do
          ["data", json] -> {"data", JSON.decode!(json)}
          [name, value] -> {name, value}
        end
      end
    end
  end
end
