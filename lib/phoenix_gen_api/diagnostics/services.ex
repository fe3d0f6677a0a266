defmodule PhoenixGenApi.Diagnostics.Services do
  @moduledoc false
  # What `PhoenixGenApi.service_print/0` prints.

  alias PhoenixGenApi.Diagnostics.Probe
  alias PhoenixGenApi.Offers
  alias PhoenixGenApi.TablePrinter

  @spec print() :: :ok
  def print do
    case Probe.run(fn ->
           for service <- Offers.services(), do: {service, Offers.nodes(service)}
         end) do
      {:ok, services} ->
        rows =
          for {service, nodes} <- services, {node, about} <- Enum.sort(nodes) do
            [service, node, about.state, about.functions, about.version, about.since]
          end

        header = ["service", "node", "state", "functions", "content", "since"]
        print("services that are offered", {header, rows})
        differences = for {service, _nodes} <- services, row <- differences(service), do: row

        if differences != [] do
          header = ["service", "function", "nodes of each definition"]
          print("different definitions, the most common one first", {header, differences})
        end

        :ok

      {:error, reason} ->
        print("services: #{reason}", nil)
    end
  end

  defp differences(service) do
    for {{type, version}, definitions} <- Offers.differences(service),
        do: [
          service,
          "#{type} #{version}",
          Enum.map_join(definitions, " | ", &Enum.join(&1, ", "))
        ]
  end

  defp print(title, content), do: TablePrinter.print([{title, content}])
end
