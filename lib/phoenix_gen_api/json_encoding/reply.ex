defmodule PhoenixGenApi.JsonEncoding.Reply do
  @moduledoc false
  # What goes to a client: with its size, and an error in the place of what cannot be sent.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.JsonEncoding
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.Response

  require Log

  # Bytes of JSON from which on a result is worth a warning.
  @large 8_388_608

  @doc "The response, or an error in its place when it cannot be written as JSON."
  @spec encodable(term(), module()) :: term()
  def encodable(payload, json_library), do: payload |> measured(json_library) |> elem(0)

  @doc """
  The same for what goes to a client, with its size: an error also when it is too large. And the
  failure, to be logged by who knows the request.
  """
  @spec measured(term(), module(), pos_integer() | :infinity) ::
          {term(), non_neg_integer(), ErrorResponse.failure() | nil}
  def measured(payload, json_library, max \\ Config.get(:request, :max_result_bytes)) do
    case JsonEncoding.measure(payload, json_library, max) do
      {:ok, bytes} ->
        if bytes > @large, do: warn(payload, bytes)
        {payload, bytes, nil}

      {:error, :too_large} ->
        error(payload, {:not_encodable, "result too large", nil})

      {:error, path, value} ->
        error(payload, {:not_encodable, path, describe(value)})
    end
  end

  defp error(payload, failure) do
    response = ErrorResponse.build(request_id(payload), failure)
    {response, byte_size(response.error) + byte_size(response.request_id || "") + 128, failure}
  end

  # What is wrong with a value, without a word of what it is.
  defp describe(value) when is_integer(value), do: "an integer of too many digits"
  defp describe(value) when is_binary(value), do: "a binary that is not UTF-8"
  defp describe(value) when is_list(value), do: "an improper list"
  defp describe(value) when is_tuple(value), do: "a tuple"
  defp describe(value) when is_pid(value), do: "a pid"
  defp describe(value) when is_function(value), do: "a function"
  defp describe(value) when is_reference(value), do: "a reference"
  defp describe(%module{}), do: "a %#{SafeInspect.inspect(module, 100)}{} that no encoder takes"

  defp describe(value) when is_map(value),
    do: "a map with keys that JSON does not have, or two of one text"

  defp describe(_value), do: "a term that JSON does not have"

  defp warn(payload, bytes) do
    Log.warning(
      "phoenix_gen_api: a result of #{bytes} bytes for request " <>
        SafeInspect.inspect(request_id(payload))
    )
  end

  @doc "What is sent in the place of something that cannot be encoded."
  @spec not_encodable(term()) :: Response.t()
  def not_encodable(payload),
    do: ErrorResponse.build(request_id(payload), {:not_encodable, nil, nil})

  defp request_id(%{request_id: id}) when is_binary(id), do: if(String.valid?(id), do: id)
  defp request_id(_payload), do: nil
end
