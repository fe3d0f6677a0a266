defmodule Bench.LimiterBaseline do
  @moduledoc """
  Rate limiters as well as they can be written with ETS and `:atomics` for one limit.

  Three are exact sliding windows: at most `max` requests in any interval of `window`
  nanoseconds, nothing denied that would have fitted. They differ in what they pay for it:

  | | Time | Memory | Concurrent callers |
  |---|---|---|---|
  | `ring` | constant | `max` × 8 bytes for every value, at once | never too many, as long as no value is reclaimed; one that would fit may be denied |
  | `log` | constant | some 100 bytes per request in the window | not exact: reads, then writes |
  | `ordered` | follows the requests in the window | some 100 bytes per request in the window | not exact: counts, then writes |

  The fourth, `counter`, is no sliding window: it admits up to 2 × `max` around the turn of a window.

  None of them has what a limiter needs besides: several limits of which all or none are charged,
  a bound on memory, a retry time, values that may be forgotten while they are counted. None
  reclaims values that are not asked for again, but for the counter, which is swept between the
  rounds, untimed.
  """

  @doc """
  An empty limiter: `:ring`, `:log`, `:ordered`, `:counter`, or `:plain_counter`, the counter in a
  table that lets one process at a time write.
  """
  def new(:plain_counter, max, window), do: {:counter, table(:plain_counter), max, window}
  def new(kind, max, window), do: {kind, table(kind), max, window}

  # Rings are looked up with every request and inserted once.
  defp table(:ring), do: :ets.new(:ring, [:set, :public, read_concurrency: true])
  defp table(:log), do: {written(:set), written(:set)}
  defp table(:ordered), do: written(:ordered_set)
  defp table(:counter), do: written(:set)
  defp table(:plain_counter), do: :ets.new(:counter, [:set, :public])

  defp written(type), do: :ets.new(:written, [type, :public, write_concurrency: true])

  @doc "Counts a request of `key` at the time `now`, in nanoseconds, or denies it."
  def check(limiter, key, now)

  def check({:ring, table, max, window}, key, now) do
    case :ets.lookup_element(table, key, 2, nil) do
      nil -> ring(new_ring(table, key, max, window, now), max, window, now)
      ring -> ring(ring, max, window, now)
    end
  end

  def check({:log, {ends, times}, max, window}, key, now) do
    case :ets.lookup_element(ends, key, 2, nil) do
      nil ->
        :ets.insert(times, {[key | 0], now})
        :ets.insert(ends, {key, [0 | 1]})
        :ok

      [first | next] ->
        first = expire(times, key, first, next, now - window)

        if next - first < max do
          :ets.insert(times, {[key | next], now})
          :ets.update_element(ends, key, {2, [first | next + 1]})
          :ok
        else
          :denied
        end
    end
  end

  def check({:ordered, table, max, window}, key, now) do
    over = now - window

    :ets.select_delete(table, [{{{key, :"$1", :_}}, [{:"=<", :"$1", over}], [true]}])

    if :ets.select_count(table, [{{{key, :_, :_}}, [], [true]}]) < max do
      :ets.insert(table, {{key, now, :erlang.unique_integer()}})
      :ok
    else
      :denied
    end
  end

  def check({:counter, table, max, window}, key, now) do
    turn = div(now, window)
    # The third field is what a sweep would go by.
    row = {[key | turn], 0, (turn + 1) * window}
    if :ets.update_counter(table, [key | turn], {2, 1}, row) <= max, do: :ok, else: :denied
  end

  # What is in the ring at the place of the next request is the time of the one `max` before it:
  # if that has left the window, there is room. Places 1..max are times, the last one counts the
  # requests. Who wins the place has been admitted; everyone helps the count on.
  defp ring(ring, max, window, now) do
    count = :atomics.get(ring, max + 1)
    place = rem(count, max) + 1
    before = :atomics.get(ring, place)

    cond do
      now - before < window ->
        :denied

      :atomics.compare_exchange(ring, place, before, now) == :ok ->
        :atomics.compare_exchange(ring, max + 1, count, count + 1)
        :ok

      true ->
        :atomics.compare_exchange(ring, max + 1, count, count + 1)
        ring(ring, max, window, now)
    end
  end

  defp new_ring(table, key, max, window, now) do
    ring = :atomics.new(max + 1, signed: true)
    # Monotonic time may be negative: what was never used has to be older than any window.
    for place <- 1..max, do: :atomics.put(ring, place, now - window)

    if :ets.insert_new(table, {key, ring}) do
      ring
    else
      :ets.lookup_element(table, key, 2)
    end
  end

  defp expire(times, key, first, next, over) when first < next do
    if :ets.lookup_element(times, [key | first], 2) <= over do
      :ets.delete(times, [key | first])
      expire(times, key, first + 1, next, over)
    else
      first
    end
  end

  defp expire(_times, _key, first, _next, _over), do: first

  @doc "Drops what has expired, where a check does not do that itself."
  def sweep({:counter, table, _max, _window}, now),
    do: :ets.select_delete(table, [{{:_, :_, :"$1"}, [{:"=<", :"$1", now}], [true]}])

  def sweep(_limiter, _now), do: 0

  @doc "Bytes held, as far as ETS and the rings go."
  def bytes({:ring, table, max, _window}),
    # The header of an atomics array and of the binary that carries it.
    do: words(table) * 8 + :ets.info(table, :size) * ((max + 1) * 8 + 64)

  def bytes({:log, {ends, times}, _max, _window}), do: (words(ends) + words(times)) * 8
  def bytes({_kind, table, _max, _window}), do: words(table) * 8

  defp words(table), do: :ets.info(table, :memory)
end
