defmodule Demo.Nodes do
  # The names of this run's nodes, as bin/demo gave them to each.
  @moduledoc false

  def gateway, do: name(:gateway)
  def service_a, do: name(:service_a)
  def service_b, do: name(:service_b)

  @doc "The node without what makes it unique."
  def short(node), do: node |> Atom.to_string() |> String.replace(~r/_[^_]*@.*/, "")

  # Read for every request that is witnessed, and so kept as an atom.
  defp name(role) do
    case :persistent_term.get({__MODULE__, role}, nil) do
      nil -> remember(role, String.to_atom("#{role}_#{System.fetch_env!("DEMO_RUN")}@127.0.0.1"))
      name -> name
    end
  end

  defp remember(role, name) do
    :persistent_term.put({__MODULE__, role}, name)
    name
  end
end
