defmodule PhoenixGenApi.Relay.TimestampTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Relay.Timestamp

  test "a time is written as DateTime writes it" do
    last = DateTime.to_unix(~U[9999-12-31 23:59:59.999999Z], :microsecond)
    leap = DateTime.to_unix(~U[2028-02-29 00:00:00.000001Z], :microsecond)

    for time <- [0, 1, leap, last | for(_ <- 1..10_000, do: :rand.uniform(last))] do
      expected = time |> DateTime.from_unix!(:microsecond) |> DateTime.to_iso8601()
      assert Timestamp.iso8601(time) == expected
    end
  end

  test "now is now" do
    {:ok, now, 0} = DateTime.from_iso8601(Timestamp.now())
    assert abs(DateTime.diff(DateTime.utc_now(), now)) <= 1
  end
end
