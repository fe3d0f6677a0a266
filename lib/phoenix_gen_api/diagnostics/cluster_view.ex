defmodule PhoenixGenApi.Diagnostics.ClusterView do
  @moduledoc false
  # The cluster as this node sees it: who is connected, and which nodes serve what.

  alias PhoenixGenApi.Diagnostics.{CallFlow, Health, Probe}
  alias PhoenixGenApi.NodeSelector

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
        {:ok, loads} ->
          Map.new(loads, fn {node, status, in_flight} -> {node, {status, in_flight}} end)

        {:error, _not_running} ->
          %{}
      end

    serving =
      for %{nodes: nodes} = flow <- flows, is_list(nodes), node <- nodes, reduce: %{} do
        serving ->
          Map.update(serving, node, MapSet.new([flow.service]), &MapSet.put(&1, flow.service))
      end

    known = [node() | Node.list()] ++ Map.keys(loads) ++ Map.keys(serving)

    for node <- known |> Enum.uniq() |> Enum.sort() do
      {status, in_flight} = Map.get(loads, node, {:up, 0})

      %{
        node: node,
        status: status,
        connected?: node == node() or node in Node.list(:connected),
        in_flight: in_flight,
        services: serving |> Map.get(node, MapSet.new()) |> Enum.sort()
      }
    end
  end

  defp services(flows) do
    flows
    |> Enum.group_by(& &1.service)
    |> Map.new(fn {service, flows} ->
      enabled = Enum.filter(flows, & &1.config)

      {service,
       %{
         functions: flows |> Enum.uniq_by(& &1.request_type) |> length(),
         versions: length(flows),
         disabled: length(flows) - length(enabled),
         nodes:
           enabled |> Enum.flat_map(&List.wrap(fixed(&1.nodes))) |> Enum.uniq() |> Enum.sort(),
         dynamic?: Enum.any?(enabled, &is_tuple(&1.nodes))
       }}
    end)
  end

  defp fixed(nodes) when is_list(nodes), do: nodes
  defp fixed(_dynamic), do: []
end
