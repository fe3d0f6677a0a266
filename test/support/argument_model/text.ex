defmodule PhoenixGenApi.ArgumentModel.Text do
  @moduledoc false
  # How terms are shown in the error strings of the oracle.

  # A path or a request type.
  def path(term), do: term |> inspect() |> cut(500)

  # A list of names or values, or a type.
  def shown(term), do: term |> inspect(limit: :infinity) |> cut(500)

  # A value sent by the caller.
  def value(term), do: term |> inspect() |> cut(100)

  defp cut(text, bytes) when byte_size(text) <= bytes, do: text

  defp cut(text, bytes) do
    kept = binary_part(text, 0, bytes)
    if String.valid?(kept), do: kept, else: cut(text, bytes - 1)
  end
end
