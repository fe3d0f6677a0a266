defmodule PhoenixGenApi.Offers.Installer do
  @moduledoc false
  # Has the table of configs and the candidates follow what the nodes of a service offer.
  #
  # Where only nodes have come or gone, sets of candidates change, and no plan is compiled. Plans are where a
  # function, its definitions or the contents that have it change.

  alias PhoenixGenApi.CandidateSet
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.ConfigSync.ServiceLock
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.Offers.{Rolling, Store, View}
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Service.Content
  alias PhoenixGenApi.ServiceNodes
  alias PhoenixGenApi.ServiceSets

  require Log

  # Functions that a line names.
  @named 5
  @nothing %{plans: nil, ineligible: [], up: []}

  @doc "Called by the one process that writes the records, after each change."
  @spec update(String.t()) :: :ok
  def update(service) do
    drop_contents(service)
    view = View.build(Store.records(service), Store.contents(service))
    announce(service, Store.installed(service), view)

    if view.functions == %{},
      do: remove(service),
      else: install(service, view, Store.installed(service) || @nothing)

    :ok
  end

  # Those that no record names.
  defp drop_contents(service) do
    named =
      for {_node, record} <- Store.records(service), hash <- record.hashes, uniq: true, do: hash

    for {hash, _functions} <- Store.contents(service),
        hash not in named,
        do: Store.delete({:content, service, hash})
  end

  defp remove(service) do
    ConfigDb.remove_service(service)
    Rolling.put(service, %{})
    CandidateSet.put(ServiceSets.of_service(service), [])
    ServiceNodes.offered(service, :forgotten, [])
    Store.forget(service)
  end

  defp install(service, view, before) do
    sets = sets(service, view)
    CandidateSet.put(ServiceSets.of_service(service), view.up)
    plans = Map.new(view.functions, fn {key, function} -> {key, signature(function)} end)

    if plans != before.plans do
      log_differences(service, view, before.plans || %{})
      rolling = rolling(view, sets)
      # A request that finds a function with several definitions finds these.
      Rolling.add(service, rolling)
      replace(service, view, sets)
      Rolling.put(service, rolling)
    else
      if view.ineligible != before.ineligible,
        do: ConfigDb.set_ineligible(service, view.ineligible)
    end

    drop_sets(service, sets)
    Store.put_installed(service, %{plans: plans, ineligible: view.ineligible, up: view.up})
    :ok
  end

  # What a plan is made of.
  defp signature(%{config: config, hashes: hashes, definitions: definitions}) do
    {Content.definition(config), hashes, Enum.map(definitions, &{&1.id, &1.hashes})}
  end

  # One set for all functions with the same contents.
  defp sets(service, view) do
    known = Store.sets(service)

    wanted =
      for {_key, function} <- view.functions,
          hashes <- [function.hashes | Enum.map(function.definitions, & &1.hashes)],
          uniq: true,
          do: hashes

    Map.new(wanted, fn hashes ->
      nodes =
        hashes |> Enum.flat_map(&Map.get(view.nodes, &1, [])) |> Enum.uniq() |> Enum.sort()

      {hashes, set(service, hashes, nodes, known[hashes])}
    end)
  end

  defp set(_service, _hashes, nodes, {handle, nodes}), do: handle

  defp set(service, hashes, nodes, known) do
    {:ok, handle} = if known, do: {:ok, elem(known, 0)}, else: CandidateSet.new()
    CandidateSet.put(handle, nodes)
    Store.put_set(service, hashes, handle, nodes)
    handle
  end

  # Who still holds a plan with one of them has to look again.
  defp drop_sets(service, sets) do
    for {hashes, {handle, _nodes}} <- Store.sets(service), not is_map_key(sets, hashes) do
      CandidateSet.put(handle, [])
      Store.delete({:set, service, hashes})
    end
  end

  defp rolling(view, sets) do
    for {key, function} <- view.functions, rolling?(function), into: %{} do
      {key, for(definition <- function.definitions, do: {definition, sets[definition.hashes]})}
    end
  end

  defp replace(service, view, sets) do
    configs = for {_key, function} <- view.functions, do: function.config

    set_of = fn config ->
      function = view.functions[Content.key(config)]
      {sets[function.hashes], if(rolling?(function), do: [:offered, :rolling], else: [:offered])}
    end

    opts = [ineligible: view.ineligible, set_of: set_of]

    replaced =
      ServiceLock.run(service, fn ->
        ConfigDb.replace_service(service, configs, :offer, opts)
      end)

    with {:ok, _counts, [_ | _] = rejected} <- replaced do
      for {config, sentences} <- rejected, do: ConfigFailed.record(config, sentences, :push)

      sentences =
        for {config, sentences} <- rejected,
            sentence <- sentences,
            do: SafeInspect.text("#{config.request_type} #{config.version}: #{sentence}")

      Log.warning(
        "service #{SafeInspect.name(service)} is offered with functions that are left out: " <>
          SafeInspect.list(sentences, @named)
      )
    end
  end

  # Where nodes are listed, there is nothing to choose among.
  defp rolling?(%{definitions: [_, _ | _] = definitions}),
    do: Enum.all?(definitions, &(&1.config.nodes == :service))

  defp rolling?(_one_or_none), do: false

  defp log_differences(service, view, before) do
    names =
      for {{type, version} = key, %{definitions: [_, _ | _] = definitions}} <- view.functions,
          not (several?(before[key]) and
                 elem(before[key], 2) == Enum.map(definitions, &{&1.id, &1.hashes})),
          do: SafeInspect.text("#{type} #{version}")

    if names != [] do
      Log.warning(
        "the nodes of service #{SafeInspect.name(service)} offer different definitions of " <>
          SafeInspect.list(Enum.sort(names), @named)
      )
    end
  end

  defp several?({_id, _hashes, [_, _ | _]}), do: true
  defp several?(_one_or_none), do: false

  defp announce(service, before, view) do
    was = if before, do: before.up, else: []

    cond do
      was == [] and view.up != [] -> ServiceNodes.offered(service, :up, view.up)
      was != [] and view.up == [] -> ServiceNodes.offered(service, :down, was)
      true -> :ok
    end
  end
end
