defmodule PhoenixGenApi.Text do
  @moduledoc false
  # Terms as text of a bounded length, for messages.

  @default 500

  @doc "`inspect/1`, cut at `bytes` on a character boundary."
  @spec inspect(term(), pos_integer()) :: String.t()
  def inspect(term, bytes \\ @default) do
    # Every item prints at least one byte, so no more items than bytes can matter.
    term
    |> Kernel.inspect(limit: bytes, printable_limit: bytes, charlists: :as_lists)
    |> cut(bytes)
  end

  @doc "The text, cut at `bytes` on a character boundary."
  @spec cut(String.t(), pos_integer()) :: String.t()
  def cut(text, bytes \\ @default)
  def cut(text, bytes) when byte_size(text) <= bytes, do: text
  def cut(text, bytes), do: text |> binary_part(0, bytes) |> whole()

  defp whole(text) do
    if String.valid?(text), do: text, else: text |> binary_part(0, byte_size(text) - 1) |> whole()
  end
end
