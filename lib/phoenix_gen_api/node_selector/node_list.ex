defmodule PhoenixGenApi.NodeSelector.NodeList do
  @moduledoc false
  # Which nodes a config names: those that it lists, that its function lists now, or that offer its service.

  alias PhoenixGenApi.CandidateSet
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.ServiceSets
  alias PhoenixGenApi.Structs.{FieldMap, FunConfig}

  @type problem ::
          :no_nodes_available
          | {:dynamic_node_resolution_failed, term()}
          | {:invalid_nodes_configuration, term()}

  @doc "As `PhoenixGenApi.NodeSelector.resolve_nodes_list/1`."
  @spec resolve(FunConfig.t()) :: {:ok, [node() | String.t()]} | {:error, problem()}
  def resolve(config)
      when is_struct(config) and
             (not is_map_key(config, :nodes) or not is_map_key(config, :hook_timeout)),
      do: config |> FieldMap.complete() |> resolve()

  def resolve(%{nodes: :local}), do: {:ok, [node()]}
  def resolve(%{nodes: :service} = config), do: config |> ServiceSets.of_config() |> members()
  def resolve(%{nodes: []}), do: {:error, :no_nodes_available}

  def resolve(%{nodes: nodes}) when is_list(nodes) do
    if names?(nodes), do: {:ok, nodes}, else: {:error, {:invalid_nodes_configuration, nodes}}
  end

  def resolve(%{nodes: {m, f, a}} = config)
      when is_atom(m) and is_atom(f) and is_list(a) do
    case RPC.Local.apply(m, f, a, config.hook_timeout) do
      {:ok, nodes} when is_list(nodes) -> dynamic(nodes)
      {:ok, other} -> {:error, {:dynamic_node_resolution_failed, {:not_a_list, other}}}
      {:error, reason} -> {:error, {:dynamic_node_resolution_failed, reason}}
    end
  end

  def resolve(%{nodes: nodes}),
    do: {:error, {:invalid_nodes_configuration, nodes}}

  @doc "The members of a set, if there is one."
  @spec members(CandidateSet.t() | nil) :: {:ok, [node(), ...]} | {:error, :no_nodes_available}
  def members(set) do
    case if(set, do: CandidateSet.nodes(set), else: []) do
      [] -> {:error, :no_nodes_available}
      nodes -> {:ok, nodes}
    end
  end

  defp dynamic([]), do: {:error, :no_nodes_available}

  defp dynamic(nodes) do
    if names?(nodes) do
      case Enum.flat_map(nodes, &existing/1) do
        [] -> {:error, :no_nodes_available}
        nodes -> {:ok, nodes}
      end
    else
      {:error, {:dynamic_node_resolution_failed, {:not_a_list_of_nodes, nodes}}}
    end
  end

  @doc "The node of that name, in a list, if anybody has ever named it."
  @spec existing(node() | String.t()) :: [node()]
  def existing(node) when is_atom(node), do: [node]

  def existing(node) do
    [String.to_existing_atom(node)]
  rescue
    ArgumentError -> []
  end

  @doc "Whether that is a list of names of nodes."
  @spec names?(maybe_improper_list()) :: boolean()
  def names?(nodes) do
    not List.improper?(nodes) and
      Enum.all?(nodes, &((is_atom(&1) and &1 != nil) or (is_binary(&1) and String.valid?(&1))))
  end
end
