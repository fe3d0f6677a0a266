defmodule Demo.Nodes do
  # The names of this run's nodes, as bin/demo gave them to each.
  @moduledoc false

  def gateway, do: name(:gateway)
  def gateway_2, do: name(:gateway_2)
  def service_a, do: name(:service_a)
  def service_b, do: name(:service_b)

  @doc "The node without what makes it unique."
  def short(node), do: node |> to_string() |> String.replace(~r/_[^_]*@.*/, "")

  @doc "Calls a function on each, one that may be out of reach included."
  def call(nodes, module, function, args) do
    for {_kind, result} <- :erpc.multicall(nodes, module, function, args, 5_000), do: result
  end

  @doc "True once all of them are there."
  def await(nodes) do
    :ok = :net_kernel.monitor_nodes(true)
    arrived?(nodes -- Enum.filter(nodes, &Node.connect/1))
  end

  defp arrived?([]), do: true

  defp arrived?(missing) do
    receive do
      {:nodeup, node} -> arrived?(missing -- [node])
    after
      1_000 -> arrived?(missing -- Enum.filter(missing, &Node.connect/1))
    end
  end

  @doc "Whether these nodes offer a service: true once they do."
  def offer?(service, nodes) do
    if Enum.all?(nodes, &is_map_key(PhoenixGenApi.Service.nodes(service), &1)) do
      true
    else
      Process.sleep(50)
      offer?(service, nodes)
    end
  end

  @doc "In the main process of any other node, which does not outlive the gateway."
  def follow_gateway do
    gateway = gateway()
    :ok = :net_kernel.monitor_nodes(true)

    # It may be there before this is asked for.
    if gateway not in Node.list() do
      receive do
        {:nodeup, ^gateway} -> :ok
      after
        30_000 -> System.halt(1)
      end
    end

    receive do
      {:nodedown, ^gateway} -> System.halt(0)
    end
  end

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
