defmodule PhoenixGenApi.Integers do
  @moduledoc false
  # Integers that are too long to be written. The time to write one in decimal grows with the square
  # of its length: a payload of a megabyte may hold one of 2.4 million digits, which takes the
  # built-in JSON library half a minute of processor time, wherever it is written.

  # What a machine word holds is never too long.
  @small Integer.pow(2, 59)

  # Decimal digits per byte: log10(256).
  @digits_per_byte 2.40824

  # An integer of that many digits takes at least so many bytes, and no term with one takes less.
  defguardp may_be_long(bytes, max_digits) when bytes * @digits_per_byte >= max_digits

  @doc "Whether an integer has at most `max_digits` decimal digits."
  @spec short?(integer(), pos_integer()) :: boolean()
  def short?(integer, _max_digits) when integer > -@small and integer < @small, do: true

  def short?(integer, max_digits) do
    # Without the version, the tag, the length and the sign of the external format.
    bytes = :erlang.external_size(integer) - 4

    cond do
      not may_be_long(bytes, max_digits) -> true
      (bytes - 4) * @digits_per_byte > max_digits + 1 -> false
      true -> abs(integer) < Integer.pow(10, max_digits)
    end
  end

  @doc "The characters that an integer takes in decimal; of a long one about as many."
  @spec width(integer()) :: pos_integer()
  def width(integer) when integer < 0, do: 1 + width(-integer)
  def width(integer) when integer < 10, do: 1
  def width(integer) when integer < 100, do: 2
  def width(integer) when integer < 1_000, do: 3
  def width(integer) when integer < 10_000, do: 4
  def width(integer) when integer < 100_000, do: 5
  def width(integer) when integer < 1_000_000, do: 6
  def width(integer) when integer < 10_000_000, do: 7
  def width(integer) when integer < 100_000_000, do: 8
  def width(integer) when integer < @small, do: 8 + width(div(integer, 100_000_000))
  def width(integer), do: ceil((:erlang.external_size(integer) - 4) * @digits_per_byte)

  @doc """
  Whether all integers in a term of lists and maps have at most `max_digits` digits. `bytes` is the
  size of the term in the external format: most are too small to hold a longer one.
  """
  @spec all_short?(term(), non_neg_integer(), pos_integer()) :: boolean()
  def all_short?(_term, bytes, max_digits) when not may_be_long(bytes, max_digits), do: true
  def all_short?(term, _bytes, max_digits), do: walk(term, max_digits)

  defp walk(integer, max) when is_integer(integer), do: short?(integer, max)
  defp walk([item | rest], max), do: walk(item, max) and walk(rest, max)
  defp walk(map, max) when is_map(map), do: pairs(:maps.next(:maps.iterator(map)), max)
  defp walk(_other, _max), do: true

  defp pairs({key, value, next}, max),
    do: walk(key, max) and walk(value, max) and pairs(:maps.next(next), max)

  defp pairs(:none, _max), do: true
end
