defmodule PhoenixGenApi.Excerpt do
  @moduledoc false
  # Terms and texts in messages, cut to a size that does not depend on what a client sent.

  import Inspect.Algebra, only: [string: 1]

  @max_bytes 500
  @ellipsis "..."
  # Writing an integer in decimal takes time quadratic in its length: eight seconds for the
  # million digits that fit into one payload. Integers beyond this are named by their size.
  @max_integer Integer.pow(10, 100)

  @doc "`inspect/2` of any term, at most `max_bytes` long, always valid UTF-8."
  @spec inspect(term(), pos_integer()) :: String.t()
  def inspect(term, max_bytes \\ @max_bytes) do
    term
    |> Kernel.inspect(limit: 25, printable_limit: max_bytes, inspect_fun: &inspect_small/2)
    |> cut(max_bytes)
  end

  @doc "The text itself, or its beginning and `...`, at most `max_bytes` long."
  @spec cut(String.t(), pos_integer()) :: String.t()
  def cut(text, max_bytes \\ @max_bytes)
  def cut(text, max_bytes) when byte_size(text) <= max_bytes, do: text

  def cut(text, max_bytes) do
    text
    |> binary_part(0, max_bytes - byte_size(@ellipsis))
    |> whole_characters()
    |> Kernel.<>(@ellipsis)
  end

  # The cut may fall inside a character, whose first bytes must not stay behind.
  defp whole_characters(text) do
    case :unicode.characters_to_binary(text) do
      valid when is_binary(valid) -> valid
      {_incomplete_or_error, valid, _rest} -> valid
    end
  end

  defp inspect_small(integer, _opts)
       when is_integer(integer) and (integer > @max_integer or integer < -@max_integer) do
    string("#Integer<#{:erlang.external_size(integer)} bytes>")
  end

  defp inspect_small(term, opts), do: Inspect.inspect(term, opts)
end
