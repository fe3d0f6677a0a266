defmodule PhoenixGenApi.Errors.DecodeError do
  @moduledoc """
  A payload that is not a request, raised by `PhoenixGenApi.Structs.Request.decode!/1` and
  returned by `PhoenixGenApi.Structs.Request.decode/1`.

      iex> {:error, error} = PhoenixGenApi.Structs.Request.decode(%{"request_id" => "r1"})
      iex> error.code
      :missing_field
      iex> to_string(error)
      "Missing required fields: request_type, service"

  Fields:

    * `code` - `:missing_field` or `:invalid_payload`
    * `message` - what is wrong; names fields, never repeats what the client sent
    * `details` - the original exception when decoding failed unexpectedly, otherwise `nil`
  """

  @type code :: :missing_field | :invalid_payload
  @type t :: %__MODULE__{code: code(), message: String.t(), details: term()}

  @malformed "Malformed request payload"

  defexception code: :invalid_payload, message: @malformed, details: nil

  @doc """
  Builds the exception from a message, a code, or a keyword list of its fields.

  What is not given is `:invalid_payload`, `"#{@malformed}"` and `nil`.
  """
  @impl true
  @spec exception(String.t() | code() | keyword()) :: t()
  def exception(message) when is_binary(message), do: %__MODULE__{message: message}
  def exception(code) when is_atom(code), do: %__MODULE__{code: code}
  def exception(fields) when is_list(fields), do: struct!(__MODULE__, fields)

  @doc "Builds the exception from its code, its message and the details (default `nil`)."
  @spec exception(code(), String.t(), term()) :: t()
  def exception(code, message, details \\ nil) when is_atom(code) and is_binary(message) do
    %__MODULE__{code: code, message: message, details: details}
  end

  defimpl String.Chars do
    def to_string(error), do: error.message
  end
end
