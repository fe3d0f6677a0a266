defmodule PhoenixGenApi.Excerpt do
  @moduledoc false
  # Bounded texts about arbitrary terms, for sentences, events and logs. The term
  # may be large and come from a stranger: `inspect/2` gets limits of its own, so
  # the work is bounded as well as the text.

  @max_bytes 500
  @marker "..."

  @doc "`Kernel.inspect/2` of any term on one line, in at most `max_bytes` bytes (default 500)."
  @spec inspect(term(), pos_integer()) :: String.t()
  def inspect(term, max_bytes \\ @max_bytes) do
    term
    |> Kernel.inspect(limit: 50, printable_limit: max_bytes, width: :infinity)
    |> cut(max_bytes)
  end

  @doc "What a caught `kind` and `reason` say: an exception's message, else the inspected term."
  @spec reason(:error | :exit | :throw, term()) :: String.t()
  def reason(:error, reason), do: :error |> Exception.normalize(reason) |> message()
  def reason(_kind, reason) when is_exception(reason), do: message(reason)
  def reason(_kind, reason), do: __MODULE__.inspect(reason)

  @doc "The text in at most `max_bytes` bytes (default 500), never ending inside a character."
  @spec cut(binary(), pos_integer()) :: binary()
  def cut(text, max_bytes \\ @max_bytes)
  def cut(text, max_bytes) when byte_size(text) <= max_bytes, do: text

  def cut(text, max_bytes) do
    whole_characters(binary_part(text, 0, max_bytes - byte_size(@marker))) <> @marker
  end

  defp message(exception), do: exception |> Exception.message() |> cut()

  defp whole_characters(bytes) do
    case :unicode.characters_to_binary(bytes) do
      {:incomplete, whole, _rest} -> whole
      _other -> bytes
    end
  end
end
