defmodule PhoenixGenApi.NodeSelector.Preview do
  @moduledoc false
  # What node selection would do, without doing it: no round robin turns, nothing is remembered,
  # no code of the user's runs.

  alias PhoenixGenApi.{Explanation, Format, NodeSelector, SafeInspect}
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @doc "Adds the `nodes` that the config lists, and the `candidates` of a request."
  @spec explain(FunConfig.t(), Request.t() | nil) :: Explanation.t()
  def explain(config, request) do
    members = members(config)
    nodes = listed(members)
    config |> describe(nodes) |> decide(members, request) |> Map.put(:nodes, nodes)
  end

  # With the nodes of the moment in the place of `:service`.
  defp members(%{nodes: :service} = config) do
    case NodeSelector.resolve_nodes_list(config) do
      {:ok, nodes} -> %{config | nodes: nodes}
      {:error, :no_nodes_available} -> %{config | nodes: []}
    end
  end

  defp members(config), do: config

  defp decide(desc, _config, nil), do: Explanation.none(desc)

  defp decide(desc, config, request) do
    case candidates(config, request) do
      {:order, nodes} -> chosen(desc, nodes, "", ", then ")
      {:usable, [node]} -> chosen(desc, [node], "", "")
      {:usable, nodes} -> chosen(desc, nodes, "one of ", ", ")
      {:unknown, mfa} -> Explanation.unknown(desc, mfa)
      {:error, reason} -> Explanation.refuses(desc, {:no_node, reason}, obstacles(reason))
    end
  end

  defp chosen(desc, nodes, which, between) do
    names = nodes |> Enum.map(&to_string/1) |> Format.names(between)
    desc |> Explanation.passes(which <> names) |> Map.put(:candidates, nodes)
  end

  defp obstacles({:all_nodes_unavailable, nodes}), do: Format.obstacles(nodes)

  defp obstacles(reason), do: SafeInspect.inspect(reason, 200)

  defp describe(%{nodes: :local}, _nodes), do: "the gateway"

  defp describe(%{nodes: :service} = config, []),
    do: "no node offers the service; #{mode(config.choose_node_mode)}"

  defp describe(%{nodes: {_, _, _} = mfa} = config, _nodes),
    do: "#{Format.function(mfa)} lists them; #{mode(config.choose_node_mode)}"

  defp describe(config, nodes) do
    up = Enum.count(nodes, &(&1.status == :up))
    of = Format.count(length(nodes), "node")
    offer = if config.nodes == :service, do: " that offer the service", else: ""
    "#{up} of #{of}#{offer} usable; #{mode(config.choose_node_mode)}"
  end

  defp mode({_, _, _} = mfa), do: "#{Format.function(mfa)} chooses"
  # Their weights may be many.
  defp mode({:weighted, _weights}), do: ":weighted"
  defp mode(mode), do: SafeInspect.inspect(mode, 100)

  # None when a function lists them.
  defp listed(%FunConfig{nodes: nodes} = config) when nodes == :local or is_list(nodes) do
    nodes = if nodes == :local, do: [node()], else: Enum.uniq(nodes)
    loads = Map.new(NodeSelector.loads(), fn {node, status, load} -> {node, {status, load}} end)
    usable = usable(config)

    for node <- nodes do
      {status, in_flight} = Map.get(loads, node, {:up, 0})
      # What is up and passed over all the same has its circuit open.
      open? = status == :up and node not in usable
      entry(node, if(open?, do: :circuit_open, else: status), in_flight)
    end
  end

  defp listed(_config), do: []

  defp usable(config) do
    case NodeSelector.get_nodes(%{config | choose_node_mode: :random}, %Request{}) do
      {:ok, nodes} -> nodes
      {:error, _none} -> []
    end
  end

  defp entry(node, status, in_flight) do
    %{node: node, status: status, connected?: connected?(node), in_flight: in_flight}
  end

  @doc "Whether there is a connection to that node now."
  @spec connected?(node()) :: boolean()
  def connected?(node), do: node == node() or node in Node.list(:connected)

  # `{:order, nodes}` when the request decides the order, `{:usable, nodes}` when chance, load or
  # memory does, `{:unknown, mfa}` when user code does.
  defp candidates(%FunConfig{nodes: :local} = config, request) do
    with {:ok, nodes} <- NodeSelector.get_nodes(config, request), do: {:order, nodes}
  end

  defp candidates(%FunConfig{nodes: {_, _, _} = mfa}, _request), do: {:unknown, mfa}
  defp candidates(%FunConfig{choose_node_mode: {_, _, _} = mfa}, _request), do: {:unknown, mfa}

  defp candidates(%FunConfig{choose_node_mode: mode} = config, request) do
    # These two are functions of the key and the nodes.
    pure? = mode == :hash or match?({:hash, _key}, mode)

    case NodeSelector.get_nodes(%{config | choose_node_mode: side_effect_free(mode)}, request) do
      {:ok, nodes} when pure? -> {:order, nodes}
      {:ok, nodes} -> drop_weightless(mode, in_listed_order(config.nodes, nodes))
      {:error, reason} -> {:error, reason}
    end
  end

  # A mode that meets the same obstacles and changes nothing.
  defp side_effect_free({:sticky, key}), do: {:hash, key}
  defp side_effect_free({:hash, key}), do: {:hash, key}
  defp side_effect_free(:hash), do: :hash
  defp side_effect_free(_mode), do: :random

  defp in_listed_order(listed, nodes), do: Enum.filter(Enum.uniq(listed), &(&1 in nodes))

  defp drop_weightless({:weighted, weights}, nodes) do
    case Enum.filter(nodes, &(weight(weights, &1) > 0)) do
      [] -> {:error, :no_nodes_available}
      nodes -> {:usable, nodes}
    end
  end

  defp drop_weightless(_mode, nodes), do: {:usable, nodes}

  defp weight(weights, node) do
    name = to_string(node)

    Enum.find_value(weights, 1, fn {listed, weight} ->
      if to_string(listed) == name, do: weight
    end)
  end
end
