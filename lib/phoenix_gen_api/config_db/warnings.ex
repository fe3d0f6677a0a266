defmodule PhoenixGenApi.ConfigDb.Warnings do
  @moduledoc false
  # What is valid in configs and probably not meant. Said when a config is new or has changed, so that
  # a service that is pulled every half a minute is not warned of as often.

  alias PhoenixGenApi.Format
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.FunConfig

  @unversioned "0.0.0"

  @doc "A sentence for each doubt about normalised configs that are about to be stored."
  @spec about(reference(), [FunConfig.t()]) :: [String.t()]
  def about(table, configs) do
    for(
      config <- configs,
      sentences = sentences(config),
      sentences != [] and stored(table, config) != config,
      sentence <- sentences,
      do: "#{name(config)}: #{sentence}"
    ) ++ mixed_versions(table, configs)
  end

  defp sentences(%{nodes: nodes} = config) when is_list(nodes) do
    without_host = Enum.reject(nodes, &(&1 |> to_string() |> String.contains?("@")))

    weights(config.choose_node_mode, nodes) ++
      for {list, says} <- [
            {Enum.uniq(nodes -- Enum.uniq(nodes)), "nodes are listed more than once"},
            {without_host, "nodes without a host, which no node has as its name"}
          ],
          list != [],
          do: "#{says}: #{shown(list)}"
  end

  defp sentences(_local_or_dynamic), do: []

  defp weights({:weighted, weights}, nodes) do
    case Map.keys(weights) -- nodes do
      [] -> []
      unlisted -> ["weights of nodes that are not listed: #{shown(unlisted)}"]
    end
  end

  defp weights(_mode, _nodes), do: []

  # They are ordered, but not as whoever named them expects. A new one is the occasion.
  defp mixed_versions(table, configs) do
    for {_function, configs} <- Enum.group_by(configs, &{&1.service, &1.request_type}),
        versions = versions(table, configs),
        {[_ | _] = semantic, [other | _]} <- [Enum.split_with(versions, &semantic?/1)],
        Enum.any?(configs, &(stored(table, &1) == nil)) do
      "#{name(hd(configs))}: version #{SafeInspect.name(other)} is not a semantic version, so it sorts " <>
        "below #{SafeInspect.name(hd(semantic))}"
    end
  end

  # With the highest one that is there: the others have been compared with it when they came.
  defp versions(table, [%{service: service, request_type: type} | _] = configs) do
    latest =
      case Native.config_db_latest(table, service, type) do
        plan when is_reference(plan) -> [Plan.config_of(plan).version]
        _none -> []
      end

    for version <- latest ++ Enum.map(configs, & &1.version),
        version != @unversioned,
        uniq: true,
        do: version
  end

  defp semantic?(version), do: match?({:ok, _version}, Version.parse(version))

  defp stored(table, %{service: service, request_type: type, version: version}) do
    case Native.config_db_get(table, service, type, version) do
      plan when is_reference(plan) -> Plan.config_of(plan)
      :disabled -> :disabled
      :not_found -> nil
    end
  end

  defp name(config), do: Format.names([config.service, config.request_type, config.version], " ")

  defp shown(nodes), do: nodes |> Enum.map(&to_string/1) |> SafeInspect.list(5)
end
