defmodule PhoenixGenApi.Offers.View do
  @moduledoc false
  # What the records of a service come to: its functions, each with its definitions and the contents that
  # have them. A pure function of what nodes offer, so that gateways which see the same nodes agree.
  #
  # A function stays while a record names it. Nodes that have left keep theirs until they offer something
  # else or are forgotten; what only they have has no candidates.

  alias PhoenixGenApi.Offers.Store
  alias PhoenixGenApi.Service.Content
  alias PhoenixGenApi.Structs.FunConfig

  @typedoc """
  One function. `definitions` are those of nodes that are up, the most common first; with more than one
  the node is chosen first. Without a node that is up it is the definition offered last by most.
  """
  @type offered :: %{
          config: FunConfig.t(),
          hashes: [Content.hash()],
          definitions: [definition()]
        }
  @type definition :: %{
          id: Content.hash(),
          config: FunConfig.t(),
          hashes: [Content.hash()],
          nodes: [node()]
        }

  @type t :: %{
          up: [node()],
          nodes: %{Content.hash() => [node()]},
          functions: %{Content.key() => offered()},
          ineligible: [Content.key()]
        }

  @spec build(%{node() => Store.record()}, %{Content.hash() => Store.functions()}) :: t()
  def build(records, contents) do
    {up, left} = Enum.split_with(records, fn {_node, record} -> record.left_at == nil end)
    nodes = by_hash(up)
    gone = by_hash(left)

    by_key =
      for {hash, functions} <- contents, {key, {id, config}} <- functions, reduce: %{} do
        keys -> Map.update(keys, key, [{hash, id, config}], &[{hash, id, config} | &1])
      end

    functions = Map.new(by_key, fn {key, offers} -> {key, function(offers, nodes, gone)} end)

    %{
      up: up |> Enum.map(&elem(&1, 0)) |> Enum.sort(),
      nodes: nodes,
      functions: functions,
      ineligible: ineligible(functions, length(up))
    }
  end

  defp by_hash(records) do
    for {node, %{hashes: hashes}} <- records, hash <- hashes, reduce: %{} do
      nodes -> Map.update(nodes, hash, [node], &[node | &1])
    end
  end

  defp function(offers, nodes, gone) do
    {live, left} = Enum.split_with(offers, fn {hash, _, _} -> is_map_key(nodes, hash) end)

    case definitions(live, nodes) do
      [] ->
        [%{config: config, hashes: hashes} | _] = definitions(left, gone)
        %{config: config, hashes: hashes, definitions: []}

      [%{config: config} | _] = definitions ->
        hashes = definitions |> Enum.flat_map(& &1.hashes) |> Enum.sort()
        %{config: config, hashes: hashes, definitions: definitions}
    end
  end

  # The most common first, of those as common the one with the smallest hash of content.
  defp definitions(offers, nodes) do
    offers
    |> Enum.group_by(fn {_hash, id, _config} -> id end)
    |> Enum.map(fn {id, [{_hash, _id, config} | _] = offers} ->
      hashes = offers |> Enum.map(&elem(&1, 0)) |> Enum.sort()
      nodes = hashes |> Enum.flat_map(&Map.get(nodes, &1, [])) |> Enum.uniq() |> Enum.sort()
      %{id: id, config: config, hashes: hashes, nodes: nodes}
    end)
    |> Enum.sort_by(fn %{hashes: [hash | _], nodes: nodes} -> {-length(nodes), hash} end)
  end

  # Fewer than half of the nodes that are up offer them.
  defp ineligible(functions, up) do
    several = functions |> Map.keys() |> Enum.frequencies_by(&elem(&1, 0))

    for {{type, _version} = key, function} <- functions,
        several[type] > 1,
        offering = function.definitions |> Enum.flat_map(& &1.nodes) |> Enum.uniq() |> length(),
        2 * offering < up,
        do: key
  end
end
