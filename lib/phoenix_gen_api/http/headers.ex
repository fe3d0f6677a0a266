defmodule PhoenixGenApi.Http.Headers do
  @moduledoc false
  # What is read from request headers. Of a header that is sent several times the first one counts.

  @type t :: [{String.t(), String.t()}]

  @max_accept_bytes 1_024

  @doc "The first value of a header, named in lower case."
  @spec get(t(), String.t()) :: String.t() | nil
  def get(headers, name) do
    case List.keyfind(headers, name, 0) do
      {_name, value} -> value
      nil -> nil
    end
  end

  @doc "Whether a media type is that of JSON, whatever its parameters."
  @spec json?(String.t()) :: boolean()
  def json?("application/json"), do: true
  def json?(content_type), do: media_type(content_type) == "application/json"

  @doc "Whether a client asks for server-sent events."
  @spec event_stream?(t()) :: boolean()
  def event_stream?(headers) do
    case get(headers, "accept") do
      nil ->
        false

      accept ->
        accept
        |> binary_part(0, min(byte_size(accept), @max_accept_bytes))
        |> String.split(",")
        |> Enum.any?(&(media_type(&1) == "text/event-stream"))
    end
  end

  defp media_type(text) do
    text
    |> binary_part(0, min(byte_size(text), 256))
    |> String.split(";", parts: 2)
    |> hd()
    |> String.trim()
    |> String.downcase(:ascii)
  end

  @doc """
  Whether a browser says that another site has made the request. Browsers always say it, and pages cannot
  forge it; other clients do not send the header.
  """
  @spec cross_site?(t()) :: boolean()
  def cross_site?(headers), do: get(headers, "sec-fetch-site") not in [nil, "same-origin", "none"]

  @doc "A value that may stand in a header of the answer: visible ASCII characters and spaces."
  @spec safe?(String.t()) :: boolean()
  def safe?(<<char, rest::binary>>) when char in 0x20..0x7E, do: safe?(rest)
  def safe?(rest), do: rest == ""
end
