defmodule PhoenixGenApi.ConfigSync.Installer do
  @moduledoc false
  # Puts a push into the table of configs, or refuses all of it with every reason. The same for
  # one that a service has sent and one that another gateway has accepted: each gateway goes
  # by its own rules. The caller holds the service's lock.

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.ConfigPuller.{PullResult, Store}
  alias PhoenixGenApi.ConfigSync.{Content, JoinedNodes, PushStore, VersionVector}
  alias PhoenixGenApi.Offers.Sources
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Security
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, ServiceConfig}
  alias PhoenixGenApi.Log

  require Log

  # What one push may write to the log.
  @max_logged 5
  # Every gateway keeps it: a hundred thousand functions take less.
  @max_push_bytes 268_435_456

  @type refusal :: {:error, {:validation_failed, [String.t(), ...]} | :not_running}

  @doc """
  Has the calling process log on this node, whose operators have to know what was pushed: by
  itself one that another node has spawned logs there.
  """
  @spec log_on_this_node() :: :ok
  def log_on_this_node do
    if node(Process.group_leader()) != node(),
      do: Logger.metadata(gl: Process.whereis(:init)),
      else: :ok
  end

  @doc """
  Where a push comes from that the calling process has been given; `node` is the one that the
  pusher names. A pusher may name none: a process of `:erpc` was spawned by the node that calls.
  """
  @spec source(node() | nil) :: :this_node | :another_node
  def source(node) when node == nil or node == node() do
    case Process.info(self(), :parent) do
      {:parent, parent} when is_pid(parent) and node(parent) != node() -> :another_node
      _spawned_here -> :this_node
    end
  end

  def source(_another), do: :another_node

  @doc "The push in the form it is stored in: no token, and the structs of this version."
  @spec normalise(PushConfig.t()) :: PushConfig.t()
  def normalise(push) do
    %{
      push
      | push_token: nil,
        service: name(push.service),
        fun_configs: complete(push.fun_configs)
    }
  end

  @doc """
  Stores a normalised push, for the nodes that have joined it too; returns how many functions there are.
  The version vector has to follow.

  `node` is where it came from, for `PhoenixGenApi.ConfigFailed`. `from` says who answers for it:
  code on this node, another node, or that this gateway has accepted it before. In the last case a
  function that was added since stays as it was added. `fingerprint` is that of its content, if it is known.
  """
  @spec store(
          PushConfig.t(),
          node() | nil,
          :this_node | :another_node | :accepted_before,
          Content.fingerprint() | nil
        ) :: {:ok, non_neg_integer()} | refusal()
  def store(push, node, from \\ :this_node, fingerprint \\ nil) do
    before? = from == :accepted_before
    opts = [from: if(before?, do: :this_node, else: from), strict?: not before?]

    with :ok <- check(push, node, opts[:from]) do
      PushStore.mark_dirty(push.service)
      push = with_joined(push, fingerprint)

      # Another gateway may not have known of the offer.
      if Sources.ignores?(push.service, :push),
        do: {:ok, 0},
        else: replace(push, node, from, opts)
    end
  end

  defp replace(push, node, from, opts) do
    case ConfigDb.replace_service(push.service, push.fun_configs, :push, opts) do
      {:ok, %{stored: count}, _added_since} ->
        Sources.superseded(push.service)
        take_over(push, registered_by(from))
        {:ok, count}

      {:error, rejected} when is_list(rejected) ->
        PushStore.clear_dirty(push.service)
        refuse(push, [], rejected, node)

      {:error, :not_running} = error ->
        error
    end
  end

  # What a pull has asked for before is older than this.
  defp take_over(%{service: service, config_version: version} = push, registered_by) do
    case pulled_from(push) do
      {_problems, nil} ->
        unregister_source(service)

        if Store.shadow(service) do
          Log.notice(
            "service #{service} is not pulled any more: its functions are those of push #{version}"
          )
        end

      {_problems, source} ->
        Store.forget_version(service)
        Store.register_and_pull(source, registered_by)
    end
  end

  @doc """
  Puts the nodes that have joined a stored push, or have left it, into its functions. Those that are
  no longer in the table do not come back, and what is pulled by order of an operator stays.
  """
  @spec update_nodes(String.t(), VersionVector.push()) :: :ok
  def update_nodes(service, %{digest: digest}) do
    with {:ok, content} <- PushStore.content(service, digest) do
      push = content |> PushStore.unpack() |> normalise() |> with_joined()
      PushStore.mark_dirty(service)
      unless Sources.offered?(service), do: update(push, Store.fetch(service))
      PushStore.clear_dirty(service)
    end

    :ok
  end

  defp update(push, {:ok, %{registered_by: by}}) when by in [:push, :own_push] do
    # What has been pulled already follows with the next pull.
    if stored(push) == push.fun_configs,
      do: ConfigDb.replace_service(push.service, push.fun_configs, :push)

    with {[], %ServiceConfig{} = source} <- pulled_from(push),
         do: Store.register_and_pull(source, by)
  end

  defp update(_push, {:ok, %{shadowed: false}}), do: :ok

  defp update(push, _not_pulled) do
    with [_ | _] = stored <- stored(push),
         do: ConfigDb.replace_service(push.service, stored, :push)
  end

  defp stored(%{service: service, fun_configs: functions}) do
    Enum.filter(functions, fn config ->
      {type, version} = PullResult.key(config)
      ConfigDb.origin(service, type, version) == :push
    end)
  end

  @doc "The push with the nodes that have joined it."
  @spec with_joined(PushConfig.t(), Content.fingerprint() | nil) :: PushConfig.t()
  def with_joined(%{service: service} = push, fingerprint \\ nil) do
    if JoinedNodes.any?(service) do
      fingerprint = fingerprint || Content.fingerprint(push)
      Content.add_nodes(push, JoinedNodes.of(service, fingerprint))
    else
      push
    end
  end

  @doc """
  Removes a service's functions that were pushed or pulled, and what a push has set up. The
  version vector has to follow.
  """
  @spec remove(String.t()) :: :ok
  def remove(service) do
    PushStore.mark_dirty(service)
    unregister_source(service)
    ConfigDb.remove_service(service)
    repull(service)
  end

  @doc "Pulls a service whose functions are not those pulled last, whatever its version."
  @spec repull(String.t()) :: :ok
  def repull(service) do
    Store.start_over(service)
    Store.request_pull([service], :pull)
  end

  defp name(service) when is_atom(service) and service != nil, do: Atom.to_string(service)
  defp name(service), do: service

  defp complete(configs) when length(configs) >= 0,
    do: Enum.map(configs, &FunConfig.complete/1)

  defp complete(other), do: other

  # What concerns the push as a whole. Only if that is in order are the functions compiled, which
  # is what tells whether they can be stored; otherwise they are checked for the report alone.
  defp check(push, node, from) do
    {pull_problems, _pulled_from} = pulled_from(push)
    problems = Enum.uniq(push_problems(push) ++ pull_problems)
    repeated = repeated(push.fun_configs)

    if problems == [] and repeated == [] do
      :ok
    else
      rejected = repeated ++ ConfigDb.rejected(functions(push), from)
      refuse(push, problems, rejected, node)
    end
  end

  defp push_problems(push) do
    case PushConfig.validate_with_details(push) do
      {:ok, _push} -> push |> :erlang.external_size() |> size_problems()
      {:error, sentences} -> sentences
    end
  end

  defp size_problems(bytes) when bytes > @max_push_bytes,
    do: ["the push takes #{bytes} bytes, and #{@max_push_bytes} are allowed"]

  defp size_problems(_bytes), do: []

  # Pulling means calling, on this node too if the push lists it.
  defp pulled_from(push) do
    with %ServiceConfig{} = source <- PushConfig.to_service_config(push),
         {:ok, source} <- ServiceConfig.resolve(source) do
      pairs = [{source.module, source.function}, {source.version_module, source.version_function}]

      denied =
        for {module, function} = pair <- pairs,
            module != nil and function != nil,
            Security.validate_mfa(pair) != :ok,
            do: "mfa not allowed: #{inspect({module, function})}"

      {denied, source}
    else
      nil -> {[], nil}
      {:error, sentences} -> {sentences, nil}
    end
  end

  defp repeated(configs) when length(configs) >= 0,
    do: for(config <- PullResult.repeated(configs), do: {config, ["is listed more than once"]})

  defp repeated(_no_list), do: []

  defp functions(%{fun_configs: configs}) when length(configs) >= 0,
    do: Enum.filter(configs, &is_struct(&1, FunConfig))

  defp functions(_no_list), do: []

  defp refuse(push, problems, rejected, node) do
    if problems != [],
      do: ConfigFailed.record(%{push | fun_configs: nil}, problems, :push, node)

    for {config, sentences} <- rejected, do: ConfigFailed.record(config, sentences, :push, node)

    sentences =
      problems ++
        for {config, sentences} <- rejected,
            sentence <- sentences,
            do: "#{PullResult.label(config)}: #{sentence}"

    Log.error(
      "push of service #{SafeInspect.inspect(push.service)} rejected: " <>
        SafeInspect.list(sentences, @max_logged)
    )

    {:error, {:validation_failed, sentences}}
  end

  # Nobody knows any more who had it pulled that was accepted before.
  defp registered_by(:this_node), do: :own_push
  defp registered_by(_from), do: :push

  defp unregister_source(service) do
    with {:ok, %{registered_by: by}} when by in [:push, :own_push] <- Store.fetch(service),
         do: Store.unregister(service)

    :ok
  end
end
