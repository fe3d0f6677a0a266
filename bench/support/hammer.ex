# Hammer 7 with each of its tables, where it is installed.
if Code.ensure_loaded?(Hammer) do
  defmodule Bench.Hammer.FixWindow do
    @moduledoc false
    use Hammer, backend: :ets, algorithm: :fix_window
  end

  defmodule Bench.Hammer.Atomic do
    @moduledoc false
    use Hammer, backend: :atomic, algorithm: :fix_window
  end

  defmodule Bench.Hammer.SlidingWindow do
    @moduledoc false
    use Hammer, backend: :ets, algorithm: :sliding_window
  end
end

defmodule Bench.Hammer do
  @moduledoc "The limiters of Hammer 7 as alternatives of a benchmark; none where it is not installed."

  @kinds [
    {"Hammer, fixed window", Bench.Hammer.FixWindow},
    {"Hammer, fixed window in atomics", Bench.Hammer.Atomic}
  ]

  @doc "`{label, check, sweep}` of the fixed windows, for `max` requests in `window_ms`."
  def alternatives(max, window_ms) do
    for {label, module} <- @kinds, Code.ensure_loaded?(module) do
      alternative(label, module, max, window_ms)
    end
  end

  @doc "The sliding window, which walks its whole table with every request."
  def sliding(max, window_ms) do
    for module <- [Bench.Hammer.SlidingWindow], Code.ensure_loaded?(module) do
      alternative("Hammer, sliding window", module, max, window_ms)
    end
  end

  defp alternative(label, module, max, window_ms) do
    start(module)
    check = fn value -> {:allow, _count} = module.hit(value, window_ms, max) end
    {label, check, fn -> :ok end}
  end

  @doc "The labels of those that are there."
  def labels, do: for({label, module} <- @kinds, Code.ensure_loaded?(module), do: label)

  # Its table has the module's name, and lives as long as the benchmark.
  defp start(module) do
    if :ets.whereis(module) == :undefined,
      do: {:ok, _pid} = module.start_link(clean_period: 2_000)
  end
end
