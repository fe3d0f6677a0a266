defmodule PhoenixGenApi.Offers.View do
  @moduledoc false
  # What the records of a service come to: its functions, each with its definitions and their nodes. A pure
  # function of what nodes offer, so that gateways which see the same nodes agree.
  #
  # A function stays while a record names it. Nodes that have left keep theirs until they offer something
  # else or are forgotten; what only they have has no candidates.
  #
  # Contents that have a function in one definition are a class: [hash]. Most functions of a service have the
  # same classes, so nodes that come and go are looked at once for all of these, however many they are:
  # `structure/1` is made when a content is new or gone, `pattern/3` whenever a node is.

  alias PhoenixGenApi.Offers.Store
  alias PhoenixGenApi.Service.Content
  alias PhoenixGenApi.Structs.FunConfig

  @type class :: [Content.hash()]

  @typedoc "The functions by their classes, and those of which there are several versions."
  @type structure :: %{
          patterns: %{[class()] => [Content.key()]},
          versioned: %{[class()] => [Content.key()]}
        }

  @typedoc """
  Functions with the same classes. `definitions` are the classes of nodes that are up, the most common first;
  with more than one the node is chosen first. Without a node that is up `main` is what most had that have left.
  """
  @type pattern :: %{main: class(), definitions: [{class(), [node()]}], nodes: [node()]}

  @typedoc "The nodes that offer a content."
  @type by_hash :: %{Content.hash() => [node()]}

  @doc "The nodes that are up and those that have left, by what they offer."
  @spec by_hash(%{node() => Store.record()}) :: {up :: by_hash(), left :: by_hash()}
  def by_hash(records) do
    {up, left} = Enum.split_with(records, fn {_node, record} -> record.left_at == nil end)
    {nodes(up), nodes(left)}
  end

  defp nodes(records) do
    for {node, %{hashes: hashes}} <- records, hash <- hashes, reduce: %{} do
      nodes -> Map.update(nodes, hash, [node], &[node | &1])
    end
  end

  @spec structure(%{Content.hash() => Store.functions()}) :: structure()
  def structure(contents) do
    by_key =
      for {hash, functions} <- contents, {key, {id, _config}} <- functions, reduce: %{} do
        keys -> Map.update(keys, key, [{id, hash}], &[{id, hash} | &1])
      end

    by_pattern = Enum.group_by(by_key, fn {_key, of} -> classes(of) end, &elem(&1, 0))
    versions = by_key |> Map.keys() |> Enum.frequencies_by(&elem(&1, 0))

    versioned =
      for {classes, keys} <- by_pattern,
          several = Enum.filter(keys, fn {type, _version} -> versions[type] > 1 end),
          several != [],
          into: %{},
          do: {classes, several}

    %{patterns: by_pattern, versioned: versioned}
  end

  defp classes([{_id, hash}]), do: [[hash]]

  defp classes(of) do
    of
    |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))
    |> Enum.map(fn {_id, hashes} -> Enum.sort(hashes) end)
    |> Enum.sort()
  end

  @spec pattern([class()], by_hash(), by_hash()) :: pattern()
  def pattern(classes, up, left) do
    case ranked(classes, up) do
      [] ->
        [{main, _nodes} | _] = ranked(classes, left)
        %{main: main, definitions: [], nodes: []}

      [{main, _nodes} | _] = definitions ->
        nodes = definitions |> Enum.flat_map(&elem(&1, 1)) |> Enum.uniq() |> Enum.sort()
        %{main: main, definitions: definitions, nodes: nodes}
    end
  end

  # Of those as common, the one with the smallest hash that a node offers.
  defp ranked(classes, by_hash) do
    ranked =
      for class <- classes,
          [hash | _] = known <- [Enum.filter(class, &is_map_key(by_hash, &1))] do
        nodes = known |> Enum.flat_map(&by_hash[&1]) |> Enum.uniq() |> Enum.sort()
        {{-length(nodes), hash}, {class, nodes}}
      end

    ranked |> Enum.sort() |> Enum.map(&elem(&1, 1))
  end

  @doc "Whether fewer than half of the nodes that are up offer functions of this pattern."
  @spec rare?(pattern(), non_neg_integer()) :: boolean()
  def rare?(%{nodes: nodes}, up), do: 2 * length(nodes) < up

  @doc "The function of a key in a class, and the name of its definition."
  @spec function(class(), Content.key(), %{Content.hash() => Store.functions()}) ::
          {Content.hash(), FunConfig.t()}
  def function([hash | _], key, contents), do: contents[hash][key]

  @doc "The functions of which nodes that are up offer several definitions, with the nodes of each."
  @spec differences(%{node() => Store.record()}, structure()) :: [{Content.key(), [[node()]]}]
  def differences(records, structure) do
    {up, left} = by_hash(records)

    for {classes, keys} <- structure.patterns,
        %{definitions: [_, _ | _] = definitions} <- [pattern(classes, up, left)],
        key <- keys,
        do: {key, Enum.map(definitions, &elem(&1, 1))}
  end
end
