defmodule Bench.Harness do
  @moduledoc """
  Measures alternatives against each other inside one run.

  Every round runs each alternative once, back to back, on the same inputs, and the next round
  in the opposite order: what disturbs the machine disturbs both. The figure is the median over
  the rounds; a ratio is the median of the ratios of each round. Walking the inputs and calling
  the alternative costs some 4 ns an operation, which is left in on both sides.
  """

  defmodule Result do
    @moduledoc "Nanoseconds per operation of one alternative, and its ratio to the first one."
    defstruct [:label, :median, :low, :high, :ratio]
  end

  @doc """
  Measures `alternatives`, `[{label, fun}]` or `[{label, fun, before}]`; `before` runs ahead of
  each round of that alternative, untimed. Every `fun` is called with each of `inputs` in turn.

  Options: `rounds` (21), `round_ms` (20), how long one alternative runs in one round.
  """
  def compare(alternatives, inputs, opts \\ []) do
    alternatives = Enum.map(alternatives, &alternative/1)

    # A process of its own, so that no other garbage is dragged along.
    Task.async(fn -> measure(alternatives, inputs, opts) end) |> Task.await(:infinity)
  end

  @doc """
  What `measure` returns for each of `alternatives`, tuples that begin with a label, in each round:
  a list of maps by label.
  """
  def in_rounds(alternatives, rounds, measure) do
    for round <- 1..rounds do
      alternatives
      |> in_turn(round)
      |> Map.new(fn alternative -> {elem(alternative, 0), measure.(alternative)} end)
    end
  end

  @doc "The alternatives in the order of a round: every other one is the other way round."
  def in_turn(alternatives, round),
    do: if(rem(round, 2) == 0, do: alternatives, else: Enum.reverse(alternatives))

  @doc "The figures of these labels, of what `in_rounds/3` has returned; ratios are to the first one."
  def results(rounds, [first | _] = labels) do
    for label <- labels do
      own = Enum.map(rounds, & &1[label])

      %Result{
        label: label,
        median: quantile(own, 0.5),
        low: quantile(own, 0.25),
        high: quantile(own, 0.75),
        ratio: median_of(rounds, &(&1[label] / &1[first]))
      }
    end
  end

  @doc "The median over the rounds of what `figure` makes of each."
  def median_of(rounds, figure), do: rounds |> Enum.map(figure) |> quantile(0.5)

  @doc "Raises unless both functions return the same for every input, after `normalise`."
  def assert_same(label, a, b, inputs, normalise \\ & &1) do
    Enum.each(inputs, fn input ->
      {left, right} = {normalise.(a.(input)), normalise.(b.(input))}

      left === right ||
        raise "#{label}: not the same work on #{inspect(input, limit: 5)}: " <>
                "#{inspect(left, limit: 5)} and #{inspect(right, limit: 5)}"
    end)
  end

  @doc "Prints the times as a table."
  def times(title, results) do
    IO.puts("\n#### #{title}\n")
    [first | _] = results

    table(
      ["", "median", "middle half of the rounds", "ratio to #{first.label}"],
      for result <- results do
        [
          result.label,
          ns(result.median),
          "#{ns(result.low)} – #{ns(result.high)}",
          decimals(result.ratio, 2)
        ]
      end
    )
  end

  @doc """
  Prints the figures with their targets. A figure is `{text, value, target}`; the target is
  `{:at_most | :at_least, limit}` or nil, and a value is a number, `{:ns, number}`,
  `{:times, number}` or `{:percent, number}`.
  """
  def figures(figures) do
    IO.puts("")

    table(
      ["figure", "measured", "target", ""],
      for {text, value, target} <- figures do
        [text, show(value), target(target, value), verdict(value, target)]
      end
    )
  end

  @doc "One result of `compare/3` by its label."
  def result(results, label), do: Enum.find(results, &(&1.label == label))

  @doc "How many times slower the alternative `label` is than `other`."
  def ratio(results, label, other),
    do: result(results, label).ratio / result(results, other).ratio

  @doc "The value below which `fraction` of the sorted or unsorted values lie."
  def quantile(values, fraction) do
    sorted = Enum.sort(values)
    Enum.at(sorted, min(length(sorted) - 1, floor(length(sorted) * fraction)))
  end

  @doc "Prints a Markdown table."
  def table(header, rows) do
    rows = Enum.map(rows, fn row -> Enum.map(row, &to_string/1) end)

    widths =
      [header | rows]
      |> Enum.zip_with(fn column -> column |> Enum.map(&String.length/1) |> Enum.max() end)

    line = fn cells ->
      "| " <> (Enum.zip_with(cells, widths, &String.pad_trailing/2) |> Enum.join(" | ")) <> " |"
    end

    IO.puts(line.(header))
    IO.puts("|" <> Enum.map_join(widths, "|", &String.duplicate("-", &1 + 2)) <> "|")
    Enum.each(rows, &IO.puts(line.(&1)))
  end

  @doc "Nanoseconds as a person reads them."
  def ns(ns) when ns < 1_000, do: "#{decimals(ns, 1)} ns"
  def ns(ns) when ns < 1_000_000, do: "#{decimals(ns / 1_000, 2)} µs"
  def ns(ns), do: "#{decimals(ns / 1_000_000, 2)} ms"

  defp alternative({label, fun}), do: {label, fun, fn -> :ok end}
  defp alternative({_label, _fun, _before} = alternative), do: alternative

  defp measure(alternatives, inputs, opts) do
    rounds = Keyword.get(opts, :rounds, 21)
    budget = Keyword.get(opts, :round_ms, 20) * 1_000_000
    count = length(inputs)

    # The quickest decides, so that no round is too short to be timed; a round that is much
    # longer than the others' would only last longer.
    passes =
      Map.new(alternatives, fn {label, fun, before} ->
        before.()
        walk(inputs, fun)
        {label, max(1, div(budget, max(1, timed(fun, inputs, 1))))}
      end)

    alternatives
    |> in_rounds(rounds, fn {label, fun, before} ->
      before.()
      timed(fun, inputs, passes[label]) / (passes[label] * count)
    end)
    |> results(Enum.map(alternatives, &elem(&1, 0)))
  end

  defp timed(fun, inputs, passes) do
    :erlang.garbage_collect()
    start = :erlang.monotonic_time(:nanosecond)
    repeat(passes, inputs, fun)
    :erlang.monotonic_time(:nanosecond) - start
  end

  defp repeat(0, _inputs, _fun), do: :ok

  defp repeat(passes, inputs, fun) do
    walk(inputs, fun)
    repeat(passes - 1, inputs, fun)
  end

  defp walk([input | inputs], fun) do
    fun.(input)
    walk(inputs, fun)
  end

  defp walk([], _fun), do: :ok

  defp show({:ns, ns}), do: ns(ns)
  defp show({:times, n}), do: "#{decimals(n, 2)} times"
  defp show({:percent, n}), do: "#{decimals(n, 3)} %"
  defp show(n) when is_float(n), do: decimals(n, 2)
  defp show(n), do: to_string(n)

  defp target(nil, _value), do: ""
  defp target({:at_most, limit}, value), do: "at most #{show(like(limit, value))}"
  defp target({:at_least, limit}, value), do: "at least #{show(like(limit, value))}"

  defp like(limit, {unit, _value}), do: {unit, limit}
  defp like(limit, _value), do: limit

  defp verdict(_value, nil), do: ""
  defp verdict({_unit, value}, target), do: verdict(value, target)
  defp verdict(value, {:at_most, limit}), do: if(value <= limit, do: "ok", else: "MISSED")
  defp verdict(value, {:at_least, limit}), do: if(value >= limit, do: "ok", else: "MISSED")

  defp decimals(n, digits), do: :erlang.float_to_binary(n * 1.0, decimals: digits)
end
