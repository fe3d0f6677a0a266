defmodule PhoenixGenApi.Test.Operations do
  @moduledoc false
  # Functions for random operations: each tells a recorder that it runs, and for which request.

  alias PhoenixGenApi.Structs.StreamHelper

  defmodule Api do
    @moduledoc false
    use PhoenixGenApi, event: "api", concurrency: 4
  end

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
    tick(out, 1)
  end

  # Until somebody ends it.
  defp tick(out, i) do
    StreamHelper.send_result(out, i)
    pause(5)
    tick(out, i + 1)
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
