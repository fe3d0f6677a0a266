defmodule PhoenixGenApi.NodeSelector.Preview do
  @moduledoc false
  # What node selection would do, without doing it: no round robin turns, nothing is remembered,
  # no code of the user's runs.

  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @typedoc "A node of a config as selection sees it."
  @type listed :: %{
          node: node(),
          status: :up | :down | :draining,
          connected?: boolean(),
          in_flight: non_neg_integer()
        }

  @typedoc """
  `{:order, nodes}` when the request decides the order, `{:usable, nodes}` when chance, load or
  memory does, `{:unknown, mfa}` when a function of the user's does.
  """
  @type preview ::
          {:order | :usable, [node()]} | {:unknown, tuple()} | {:error, NodeSelector.reason()}

  @doc "The nodes that a config lists; none when a function lists them."
  @spec listed(FunConfig.t()) :: [listed()]
  def listed(%FunConfig{nodes: :local}), do: [entry(node(), :up, 0)]

  def listed(%FunConfig{nodes: nodes}) when is_list(nodes) do
    loads =
      for {node, status, in_flight} <- NodeSelector.loads(),
          into: %{},
          do: {node, {status, in_flight}}

    for node <- Enum.uniq(nodes) do
      {status, in_flight} = Map.get(loads, node, {:up, 0})
      entry(node, status, in_flight)
    end
  end

  def listed(_config), do: []

  defp entry(node, status, in_flight) do
    %{node: node, status: status, connected?: connected?(node), in_flight: in_flight}
  end

  @doc "Whether there is a connection to that node now."
  @spec connected?(node()) :: boolean()
  def connected?(node), do: node == node() or node in Node.list(:connected)

  @doc "The candidates of a request."
  @spec candidates(FunConfig.t(), Request.t()) :: preview()
  def candidates(%FunConfig{nodes: :local}, _request), do: {:order, [node()]}
  def candidates(%FunConfig{nodes: {_, _, _} = mfa}, _request), do: {:unknown, mfa}
  def candidates(%FunConfig{choose_node_mode: {_, _, _} = mfa}, _request), do: {:unknown, mfa}

  def candidates(%FunConfig{choose_node_mode: mode} = config, request) do
    # These two are functions of the key and the nodes.
    pure? = mode == :hash or match?({:hash, _key}, mode)

    case NodeSelector.get_nodes(%{config | choose_node_mode: harmless(mode)}, request) do
      {:ok, nodes} when pure? -> {:order, nodes}
      {:ok, nodes} -> usable(mode, in_listed_order(config.nodes, nodes))
      {:error, reason} -> {:error, reason}
    end
  end

  # A mode that meets the same obstacles and changes nothing.
  defp harmless({:sticky, key}), do: {:hash, key}
  defp harmless({:hash, key}), do: {:hash, key}
  defp harmless(:hash), do: :hash
  defp harmless(_mode), do: :random

  defp in_listed_order(listed, nodes), do: Enum.filter(Enum.uniq(listed), &(&1 in nodes))

  defp usable({:weighted, weights}, nodes) do
    case Enum.filter(nodes, &(weight(weights, &1) > 0)) do
      [] -> {:error, :no_nodes_available}
      nodes -> {:usable, nodes}
    end
  end

  defp usable(_mode, nodes), do: {:usable, nodes}

  defp weight(weights, node) do
    name = to_string(node)

    Enum.find_value(weights, 1, fn {listed, weight} ->
      if to_string(listed) == name, do: weight
    end)
  end
end
