defmodule Demo.Math do
  # Functions that run on every node of the demo.
  @moduledoc false

  alias Demo.CallRecorder

  def add(a, b, c), do: CallRecorder.seen(a + b + c)

  def slow(text) do
    CallRecorder.seen(text)
    Process.sleep(400)
    text
  end

  @doc "Tells of its node that is not recorded: it may run long after nobody waits for it any more."
  def desk, do: if(node() == Demo.Nodes.service_a(), do: "desk a", else: "desk b")

  @doc "For measuring: nothing but the result."
  def volume(a, b, c), do: a * b * c
end
