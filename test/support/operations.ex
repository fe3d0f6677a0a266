defmodule PhoenixGenApi.Test.Operations do
  @moduledoc false
  # Functions for random operations: each tells a recorder that it runs, and for which request.
  # None lives for ever: one that its node begins only after its time was up is known to nobody.

  alias PhoenixGenApi.Structs.StreamHelper

  @longest_ms 2_000

  def quick(recorder, info), do: tell(recorder, info) && "done"

  def hold(ms, recorder, info) do
    tell(recorder, info)
    pause(ms)
    "held"
  end

  def crash(recorder, info) do
    tell(recorder, info)
    raise "database password is hunter2"
  end

  def die(recorder, info) do
    tell(recorder, info)
    Process.exit(self(), :kill)
  end

  def items(n, recorder, %StreamHelper{} = out) do
    tell(recorder, out)
    for i <- 1..n//1, do: StreamHelper.send_result(out, i)
    StreamHelper.send_complete(out)
  end

  def ticks(recorder, %StreamHelper{} = out) do
    tell(recorder, out)

    for i <- 1..div(@longest_ms, 5) do
      StreamHelper.send_result(out, i)
      pause(5)
    end
  end

  def lazily(n, recorder, %StreamHelper{} = out) do
    tell(recorder, out)
    Stream.map(1..n, &(&1 * &1))
  end

  defp tell(recorder, %{request_id: id}) do
    send(recorder, {:runs, id, self()})
    true
  end

  defp pause(ms) do
    receive do
    after
      ms -> :ok
    end
  end
end
