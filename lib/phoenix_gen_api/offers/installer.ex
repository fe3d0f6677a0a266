defmodule PhoenixGenApi.Offers.Installer do
  @moduledoc false
  # Has the table of configs and the candidates follow what the nodes of a service offer.
  #
  # Where only nodes have come or gone, sets of candidates change, and no plan is compiled. Plans are where a
  # content is new or gone, or another definition is the most common one.

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
  alias PhoenixGenApi.Telemetry

  require Log

  # Functions and nodes that a line names.
  @named 5

  # What was installed: the contents, per pattern its plans, the patterns that are rare, and the nodes.
  @nothing %{hashes: [], plans: %{}, rare: [], up: [], differing: []}

  @doc "Called by the one process that writes the records, after each change."
  @spec update(String.t()) :: :ok
  def update(service) do
    records = Store.records(service)
    hashes = for({_, record} <- records, hash <- record.hashes, uniq: true, do: hash)

    for hash <- Store.content_hashes(service) -- hashes,
        do: Store.delete({:content, service, hash})

    before = Store.installed(service) || @nothing
    up = for({node, %{left_at: nil}} <- records, do: node) |> Enum.sort()
    announce(service, before.up, up)

    if records == %{},
      do: remove(service),
      else: install(service, View.by_hash(records), Enum.sort(hashes), up, before)

    :ok
  end

  defp remove(service) do
    ConfigDb.remove_service(service)
    Rolling.keep(service, [])
    CandidateSet.put(ServiceSets.of_service(service), [])
    ServiceNodes.offered(service, :forgotten, [])
    Process.delete({__MODULE__, service})
    Store.forget(service)
  end

  defp install(service, {by_hash, left}, hashes, up, before) do
    structure = structure(service, hashes)

    views =
      Map.new(structure.patterns, fn {classes, _keys} ->
        {classes, View.pattern(classes, by_hash, left)}
      end)

    sets = sets(service, views, by_hash)
    CandidateSet.put(ServiceSets.of_service(service), up)
    plans = Map.new(views, fn {classes, view} -> {classes, {view.main, live(view)}} end)
    rare = for {classes, view} <- views, View.rare?(view, length(up)), do: classes
    ineligible = fn -> Enum.flat_map(rare, &Map.get(structure.versioned, &1, [])) end

    differing =
      if {hashes, plans} == {before.hashes, before.plans} do
        if rare != before.rare, do: ConfigDb.set_ineligible(service, ineligible.())
        before.differing
      else
        replace(service, structure, views, sets, ineligible.(), before.differing)
      end

    drop_sets(service, sets)
    now = %{hashes: hashes, plans: plans, rare: rare, up: up, differing: differing}
    Store.put_installed(service, now)
  end

  defp live(%{definitions: definitions}), do: Enum.map(definitions, &elem(&1, 0))

  # Kept by the process for as long as the contents are these: it is read whenever a node comes or goes.
  defp structure(service, hashes) do
    case Process.get({__MODULE__, service}) do
      {^hashes, structure} ->
        structure

      _other ->
        structure = service |> Store.contents() |> View.structure()
        Process.put({__MODULE__, service}, {hashes, structure})
        structure
    end
  end

  # One set for all functions that have their nodes from the same contents.
  defp sets(service, views, by_hash) do
    known = Store.sets(service)
    wanted = for {_classes, view} <- views, of <- [all(view) | live(view)], uniq: true, do: of

    Map.new(wanted, fn of ->
      nodes = of |> Enum.flat_map(&Map.get(by_hash, &1, [])) |> Enum.uniq() |> Enum.sort()
      {of, set(service, of, nodes, known[of])}
    end)
  end

  defp all(%{definitions: [_, _ | _]} = view), do: view |> live() |> Enum.concat() |> Enum.sort()
  defp all(%{main: main}), do: main

  defp set(_service, _of, nodes, {handle, nodes}), do: handle

  defp set(service, of, nodes, known) do
    {:ok, handle} = if known, do: {:ok, elem(known, 0)}, else: CandidateSet.new()
    CandidateSet.put(handle, nodes)
    Store.put_set(service, of, handle, nodes)
    handle
  end

  # A request that still holds a plan with one of them has to look again.
  defp drop_sets(service, sets) do
    for {of, {handle, _nodes}} <- Store.sets(service), not is_map_key(sets, of) do
      CandidateSet.put(handle, [])
      Store.delete({:set, service, of})
    end
  end

  # Returns the functions that have several definitions.
  defp replace(service, structure, views, sets, ineligible, differing_before) do
    contents = Store.contents(service)

    functions =
      for {classes, keys} <- structure.patterns, key <- keys, into: %{} do
        view = views[classes]
        {_id, config} = View.function(view.main, key, contents)

        {key,
         %{config: config, set: sets[all(view)], definitions: definitions(view, key, contents)}}
      end

    differing = for {key, %{definitions: [_, _ | _]}} <- functions, do: key
    log_differences(service, differing -- differing_before)

    rolling =
      for {key, %{definitions: [_, _ | _] = definitions}} <- functions,
          Enum.all?(definitions, fn {_class, config} -> config.nodes == :service end),
          into: %{},
          do: {key, for({class, config} <- definitions, do: {class, config, sets[class]})}

    # A request that finds a function with several definitions finds these.
    Rolling.add(service, rolling)
    store(service, functions, rolling, ineligible)
    Rolling.keep(service, Map.keys(rolling))
    differing
  end

  defp definitions(%{definitions: [_, _ | _]} = view, key, contents) do
    for class <- live(view), do: {class, elem(View.function(class, key, contents), 1)}
  end

  defp definitions(_one_or_none, _key, _contents), do: []

  defp store(service, functions, rolling, ineligible) do
    configs = for {_key, function} <- functions, do: function.config

    set_of = fn config ->
      key = Content.key(config)

      {functions[key].set,
       if(is_map_key(rolling, key), do: [:offered, :rolling], else: [:offered])}
    end

    stored =
      ServiceLock.run(service, fn ->
        ConfigDb.replace_service(service, configs, :offer, ineligible: ineligible, set_of: set_of)
      end)

    with {:ok, %{stored: count}, rejected} <- stored do
      Telemetry.execute([:phoenix_gen_api, :config, :batch_add], %{count: count}, %{
        service: service
      })

      log_rejected(service, rejected)
    end
  end

  defp log_rejected(_service, []), do: :ok

  defp log_rejected(service, rejected) do
    for {config, sentences} <- rejected, do: ConfigFailed.record(config, sentences, :offer)

    sentences =
      for {config, sentences} <- rejected,
          sentence <- sentences,
          do: SafeInspect.text("#{config.request_type} #{config.version}: #{sentence}")

    Log.warning(
      "service #{SafeInspect.name(service)} is offered with functions that are left out: " <>
        SafeInspect.list(sentences, @named)
    )
  end

  defp log_differences(_service, []), do: :ok

  defp log_differences(service, keys) do
    names = for {type, version} <- Enum.sort(keys), do: SafeInspect.text("#{type} #{version}")

    Log.warning(
      "the nodes of service #{SafeInspect.name(service)} offer different definitions of " <>
        SafeInspect.list(names, @named)
    )
  end

  defp announce(service, [], [_ | _] = up), do: ServiceNodes.offered(service, :up, up)
  defp announce(service, [_ | _] = before, []), do: ServiceNodes.offered(service, :down, before)
  defp announce(_service, _before, _up), do: :ok
end
