defmodule PhoenixGenApi.Await do
  @moduledoc false
  # For what announces itself by no message: asks again and again, for a limited time.

  @step_ms 10

  @doc "The first result of `fun` that is neither nil nor false."
  @spec until((-> result), non_neg_integer()) :: result when result: term()
  def until(fun, timeout_ms \\ 10_000) do
    cond do
      result = fun.() ->
        result

      timeout_ms <= 0 ->
        raise "still not so"

      true ->
        receive do
        after
          @step_ms -> until(fun, timeout_ms - @step_ms)
        end
    end
  end
end
