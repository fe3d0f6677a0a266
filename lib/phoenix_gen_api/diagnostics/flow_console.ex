defmodule PhoenixGenApi.Diagnostics.FlowConsole do
  @moduledoc false
  # Functions, requests and the cluster as a person in IEx reads them.

  alias PhoenixGenApi.Diagnostics
  alias PhoenixGenApi.Diagnostics.{Format, Table}
  alias PhoenixGenApi.SafeInspect

  @spec call_flow(term(), term(), term()) :: :ok
  def call_flow(service, type, version) do
    flow = Diagnostics.call_flow(service, type, version)

    print(
      title(flow),
      Table.lines(["stage", "what happens"], Enum.map(flow.steps, &[phase(&1), &1.desc]))
    )

    nodes(flow)
  end

  @spec inspect_request(term()) :: :ok
  def inspect_request(request) do
    flow = Diagnostics.inspect_request(request)

    rows =
      for step <- flow.steps do
        [phase(step), decision(step.decision), because(step)]
      end

    print(title(flow), Table.lines(["stage", "", "why"], rows))
    nodes(flow)
    print_section(verdict(flow), [])
  end

  # What there is to say of this request, else what the config says.
  defp because(%{because: nil, desc: desc}), do: desc
  defp because(%{because: because}), do: because

  defp decision(:passes), do: "ok"
  defp decision(:refuses), do: "REFUSED"
  defp decision(:unknown), do: "?"
  defp decision(:none), do: "-"

  defp verdict(%{verdict: :runs}), do: "The function would be called."

  defp verdict(%{verdict: :unknown, unknown: phases}),
    do: "It depends on code of yours: #{Enum.map_join(phases, ", ", &words/1)}."

  defp verdict(%{verdict: :refused} = flow),
    do: "Refused at #{words(flow.refused_by)}. The client gets: #{plain(flow.client_gets)}"

  defp plain(text), do: if(Format.plain?(text), do: text, else: inspect(text))

  @spec flows(keyword()) :: :ok
  def flows(opts) do
    rows =
      for flow <- Diagnostics.list_call_flows(opts) do
        [flow.service, flow.request_type, flow.version | columns(flow)]
      end

    header = ["service", "request type", "version", "response", "nodes", "permission", "calls"]

    print(
      Format.count(length(rows), "function"),
      if(rows == [], do: [], else: Table.lines(header, rows))
    )
  end

  defp columns(%{config: nil, error: error}), do: [nil, nil, nil, error]

  defp columns(flow) do
    [
      flow.response_type,
      where(flow),
      flow.permission.strategy,
      Format.function(flow.mfa)
    ]
  end

  defp where(%{local?: true}), do: "gateway"
  defp where(%{nodes: {_, _, _} = mfa}), do: Format.function(mfa)

  defp where(flow) do
    up = Enum.count(flow.node_statuses, &(&1.status == :up))
    "#{up} of #{length(flow.nodes)}, #{SafeInspect.inspect(flow.choose_node_mode, 30)}"
  end

  @spec cluster() :: :ok
  def cluster do
    view = Diagnostics.cluster_view()

    nodes =
      for node <- view.nodes do
        [
          node.node,
          node.status,
          yes(node.connected?),
          node.in_flight,
          Enum.map_join(node.services, ", ", &Format.name/1)
        ]
      end

    services =
      for {service, figures} <- Enum.sort(view.services) do
        nodes = Enum.map_join(figures.nodes, ", ", &to_string/1)
        nodes = if figures.dynamic?, do: Enum.join([nodes, "and dynamic ones"], " "), else: nodes
        [service, figures.functions, figures.versions, figures.disabled, String.trim(nodes)]
      end

    distributed = if view.distributed?, do: "", else: ", not distributed"
    print("cluster seen by #{view.node} (#{view.mode}#{distributed})", [])

    print(
      "nodes",
      Table.lines(["node", "selection", "connected", "in flight", "services"], nodes)
    )

    print_section(
      "services",
      if(services == [],
        do: "  none\n",
        else: Table.lines(["service", "functions", "versions", "disabled", "nodes"], services)
      )
    )
  end

  defp title(%{config: nil, service: nil}), do: "not a request"

  defp title(flow) do
    version = if flow.version, do: " " <> Format.name(flow.version), else: ""

    SafeInspect.truncate(
      "#{Format.name(flow.service)} #{Format.name(flow.request_type)}#{version}",
      120
    )
  end

  # That the gateway itself is there goes without saying.
  defp nodes(%{local?: true, node_statuses: [%{status: :up}]}), do: :ok

  defp nodes(%{node_statuses: [_ | _] = nodes}) do
    rows = for node <- nodes, do: [node.node, node.status, yes(node.connected?), node.in_flight]
    print_section("nodes", Table.lines(["node", "selection", "connected", "in flight"], rows))
  end

  defp nodes(_flow), do: :ok

  defp phase(%{phase: phase}), do: words(phase)
  defp words(phase), do: phase |> to_string() |> String.replace("_", " ")

  defp yes(true), do: "yes"
  defp yes(false), do: "no"

  defp print(title, lines), do: IO.write([title, ?\n, lines])
  defp print_section(title, lines), do: print([?\n, title], lines)
end
