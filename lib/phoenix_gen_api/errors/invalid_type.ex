defmodule PhoenixGenApi.Errors.InvalidType do
  @moduledoc """
  An argument that no JSON type covers: a pid, a tuple, a function, a struct that is no date.

  Such a value cannot come from a client, only from Elixir code that builds a request itself.

      iex> to_string(PhoenixGenApi.Errors.InvalidType.exception({:a, 1}))
      "Invalid type for argument '{:a, 1}'"

  The only field is `message`. The value is not kept: exceptions travel into logs.
  """

  alias PhoenixGenApi.SafeInspect

  @type t :: %__MODULE__{message: String.t()}

  defexception [:message]

  @doc "Builds the exception for the offending value, whose inspected form is cut at 500 bytes."
  @impl true
  @spec exception(term()) :: t()
  def exception(value) do
    %__MODULE__{message: "Invalid type for argument '#{SafeInspect.inspect(value)}'"}
  end

  defimpl String.Chars do
    def to_string(error), do: error.message
  end
end
