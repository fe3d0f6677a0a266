defmodule Demo.CallRecorder do
  # Tells the gateway on which node a function ran, aside from the answer: clients are not
  # to learn of nodes, readers of the transcript are.
  @moduledoc false

  @doc "Makes the calling process the one that is told."
  def start, do: Process.register(self(), __MODULE__)

  @doc "What a function of the demo returns, seen on this node."
  def seen(value) do
    send({__MODULE__, Demo.Nodes.gateway()}, {:ran, node()})
    value
  end

  @doc "The nodes that ran a function, at least as many as expected unless they take too long."
  def ran(expected), do: collect(expected, []) |> Enum.sort()

  defp collect(expected, nodes) do
    receive do
      {:ran, node} -> collect(expected - 1, [node | nodes])
    after
      if(expected > 0, do: 2_000, else: 0) -> nodes
    end
  end
end
