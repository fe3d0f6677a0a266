defmodule PhoenixGenApi.Await do
  @moduledoc false
  # For what announces itself by no message: asks again and again, soon at first.
  #
  # Only a test that fails waits to the end of the time, so there is plenty of it: a busy machine
  # may take many times as long as an idle one. What the function itself takes is not counted.

  @step_ms 10

  @doc "The first result of `fun` that is neither nil nor false."
  @spec until((-> result), non_neg_integer()) :: result when result: term()
  def until(fun, timeout_ms \\ 45_000), do: until(fun, timeout_ms, 1)

  defp until(fun, timeout_ms, step_ms) do
    cond do
      result = fun.() ->
        result

      timeout_ms <= 0 ->
        raise "still not so"

      true ->
        receive do
        after
          step_ms -> until(fun, timeout_ms - step_ms, min(2 * step_ms, @step_ms))
        end
    end
  end

  @doc "Kills the process of that name; returns when another one has it."
  @spec restart(atom()) :: pid()
  def restart(name) do
    killed = Process.whereis(name)
    Process.exit(killed, :kill)
    until(fn -> Process.whereis(name) not in [nil, killed] && Process.whereis(name) end)
  end
end
