defmodule PhoenixGenApi.Relay.Timestamp do
  @moduledoc false
  # The time of a message. What DateTime does for it is a fifth of a message to ten members.

  @digits List.to_tuple(for n <- 0..99, do: String.pad_leading("#{n}", 2, "0"))

  @doc "Now in UTC as ISO 8601, with microseconds."
  @spec now() :: String.t()
  def now, do: iso8601(System.os_time(:microsecond))

  @doc "What `DateTime.to_iso8601/1` would say, of a time in microseconds of this era."
  @spec iso8601(non_neg_integer()) :: String.t()
  def iso8601(time) do
    {{year, month, day}, {hour, minute, second}} =
      :calendar.system_time_to_universal_time(time, :microsecond)

    fraction = rem(time, 1_000_000)

    <<digits(div(year, 100))::binary, digits(rem(year, 100))::binary, ?-, digits(month)::binary,
      ?-, digits(day)::binary, ?T, digits(hour)::binary, ?:, digits(minute)::binary, ?:,
      digits(second)::binary, ?., digits(div(fraction, 10_000))::binary,
      digits(rem(div(fraction, 100), 100))::binary, digits(rem(fraction, 100))::binary, ?Z>>
  end

  defp digits(n), do: elem(@digits, n)
end
