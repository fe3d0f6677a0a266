defmodule PhoenixGenApi.Test.Directory do
  @moduledoc false
  # What a service node may answer when it is pulled from.

  @doc "Whatever the agent holds under the key, as a function, says at the time."
  def answer(agent, key), do: Agent.get(agent, &Map.fetch!(&1, key)).()

  @doc "Tells a process that it was called, and does not return."
  def hang(pid) do
    send(pid, {:hanging, self()})

    receive do
      :never -> :ok
    end
  end

  def with_node(:gw, pid, node) do
    send(pid, {:asked_by, node})
    {:ok, []}
  end

  def without_arguments do
    send(:persistent_term.get(__MODULE__), :asked_without_arguments)
    {:ok, []}
  end

  def calls_nothing(:gw), do: apply(Nowhere, :to_be_found, [])
  def calls_nothing, do: {:ok, []}
end
