defmodule PhoenixGenApi.ConfigSync.Content do
  @moduledoc false
  # What a push says apart from where its functions run. Nodes of a service that run the same code push
  # the same content, each perhaps with its own name in `nodes`.

  alias PhoenixGenApi.ConfigPuller.PullResult
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig}

  # A push is about one service, whatever its functions call it.
  @not_content [:service, :nodes, :version]
  @source [:module, :function, :args, :version_module, :version_function, :version_args]
  @max_node_bytes 255

  @typedoc "Equal for equal content under the same version."
  @type fingerprint :: binary()

  @typedoc """
  What has to be known of a stored push without unpacking it: `nodes` are the names that every function
  lists.
  """
  @type outline :: %{
          fingerprint: fingerprint() | nil,
          keys: [{request_type :: String.t(), version :: String.t()}],
          nodes: [String.t()]
        }

  @doc "The outline of a normalised push, whose fingerprint may be known."
  @spec outline(PushConfig.t(), fingerprint() | nil) :: outline()
  def outline(push, fingerprint \\ nil) do
    %{
      fingerprint: fingerprint || fingerprint(push),
      keys: Enum.map(push.fun_configs, &PullResult.key/1),
      nodes: common_nodes(push.fun_configs)
    }
  end

  defp common_nodes(functions) do
    lists = for %{nodes: nodes} <- functions, do: if(is_list(nodes), do: names(nodes), else: [])
    [first | rest] = Enum.uniq(lists)
    Enum.reduce(rest, first, fn nodes, common -> Enum.filter(common, &(&1 in nodes)) end)
  end

  defp names(nodes), do: Enum.map(nodes, &to_string/1)

  @doc """
  The fingerprint of a push as anybody has made it; `nil` if its functions are none.

  What has its default is left out, so that versions of the library with other fields agree. Those that
  do not agree all the same compare the pushes themselves, see `PhoenixGenApi.ConfigReceiver`.
  """
  @spec fingerprint(PushConfig.t()) :: fingerprint() | nil
  def fingerprint(%{fun_configs: functions} = push) do
    if functions?(functions) do
      source = push |> Map.take(@source) |> differing(%PushConfig{})

      term =
        {Map.get(push, :config_version), source,
         functions |> Enum.map(&function/1) |> Enum.sort()}

      :crypto.hash(:sha256, :erlang.term_to_binary(term, [:deterministic, minor_version: 2]))
    end
  end

  @doc "The content of one function, to be compared."
  @spec function(FunConfig.t()) :: tuple()
  def function(config) do
    config = FunConfig.complete(config)
    # Whether it runs on nodes of a list is content, on which of them is not.
    where = if is_list(config.nodes), do: :listed, else: config.nodes
    fields = config |> Map.from_struct() |> Map.drop(@not_content) |> differing(%FunConfig{})
    {config.request_type, FunConfig.version(config), where, fields}
  end

  defp functions?(functions) when length(functions) >= 0,
    do: Enum.all?(functions, &is_struct(&1, FunConfig))

  defp functions?(_no_list), do: false

  defp differing(fields, defaults),
    do: Map.reject(fields, fn {key, value} -> Map.get(defaults, key) === value end)

  @doc "The one node that the push and each of its functions name, if it is one."
  @spec single_node(PushConfig.t()) :: node() | nil
  def single_node(%{nodes: [node], fun_configs: functions}) do
    if functions?(functions) and name?(node) and
         Enum.all?(functions, &only?(&1, to_string(node))),
       do: to_node(node)
  end

  def single_node(_push), do: nil

  defp only?(%{nodes: [node]}, name), do: name?(node) and to_string(node) == name
  defp only?(_config, _name), do: false

  defp name?(node) when is_atom(node), do: node not in [nil, true, false]

  defp name?(node),
    do: is_binary(node) and byte_size(node) in 1..@max_node_bytes and String.valid?(node)

  # As the names in the configs of a service become atoms when they are loaded.
  defp to_node(node) when is_binary(node), do: String.to_atom(node)
  defp to_node(node), do: node

  @doc "The push with more nodes for everything that runs on nodes of a list."
  @spec add_nodes(PushConfig.t(), [node()]) :: PushConfig.t()
  def add_nodes(push, []), do: push

  def add_nodes(push, nodes) do
    functions =
      for config <- push.fun_configs, do: %{config | nodes: with_nodes(config.nodes, nodes)}

    %{push | nodes: with_nodes(push.nodes, nodes), fun_configs: functions}
  end

  # What is not valid is for the table to refuse.
  defp with_nodes(listed, nodes) when length(listed) >= 0 do
    if Enum.all?(listed, &name?/1),
      do: Enum.uniq_by(listed ++ nodes, &to_string/1),
      else: listed
  end

  defp with_nodes(other, _nodes), do: other
end
