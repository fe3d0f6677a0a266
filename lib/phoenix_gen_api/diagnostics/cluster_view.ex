defmodule PhoenixGenApi.Diagnostics.ClusterView do
  @moduledoc false
  # The cluster as this node sees it: who is connected, and which nodes serve what.

  alias PhoenixGenApi.Diagnostics.{CallFlow, Health, Probe}
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.NodeSelector.Preview

  @spec build() :: map()
  def build do
    flows = CallFlow.list(true)

    %{
      node: node(),
      distributed?: Node.alive?(),
      mode: Health.mode(),
      collected_at_ms: System.system_time(:millisecond),
      connected_nodes: Node.list(),
      hidden_nodes: Node.list(:hidden),
      nodes: nodes(flows),
      services: services(flows)
    }
  end

  # Every node that a function names, that has been heard of, or that is connected.
  defp nodes(flows) do
    loads =
      case Probe.run(&NodeSelector.loads/0) do
        {:ok, loads} -> loads
        {:error, _not_running} -> []
      end

    serving =
      for %{nodes: [_ | _] = nodes} = flow <- flows, node <- nodes, do: {node, flow.service}

    services = Enum.group_by(Enum.uniq(serving), &elem(&1, 0), &elem(&1, 1))
    known = [node() | Node.list()] ++ Enum.map(loads, &elem(&1, 0)) ++ Map.keys(services)

    for node <- known |> Enum.uniq() |> Enum.sort() do
      {_node, status, in_flight} = List.keyfind(loads, node, 0, {node, :up, 0})

      %{
        node: node,
        status: status,
        connected?: Preview.connected?(node),
        in_flight: in_flight,
        services: services |> Map.get(node, []) |> Enum.sort()
      }
    end
  end

  defp services(flows) do
    flows
    |> Enum.group_by(& &1.service)
    |> Map.new(fn {service, flows} ->
      enabled = Enum.filter(flows, & &1.config)
      nodes = for %{nodes: [_ | _] = nodes} <- enabled, node <- nodes, uniq: true, do: node

      {service,
       %{
         functions: flows |> Enum.uniq_by(& &1.request_type) |> length(),
         versions: length(flows),
         disabled: length(flows) - length(enabled),
         nodes: Enum.sort(nodes),
         dynamic?: Enum.any?(enabled, &is_tuple(&1.nodes))
       }}
    end)
  end
end
