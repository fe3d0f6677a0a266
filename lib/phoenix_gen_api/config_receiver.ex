defmodule PhoenixGenApi.ConfigReceiver do
  @moduledoc """
  Takes in the function configs that service nodes push.

  `PhoenixGenApi.ConfigPusher` on the service node calls `push/2` here. A push goes through, in
  this order:

    1. the admin gate: `{:error, :admin_action_denied}` when `:admin_actions` is set without
       `:push_config`
    2. the token: `{:error, :invalid_push_token}` when the gateway has one and the push has another
    3. the shape: `{:error, :invalid_push_config_data}` for anything but a
       `PhoenixGenApi.Structs.PushConfig` or a map to make one of
    4. the version: `{:ok, :skipped, :version_matches}` when the last accepted push of the service
       had the same `config_version`, unless `force: true`
    5. everything in it: `{:error, {:validation_failed, sentences}}` if anything is invalid, not
       allowed or listed twice. All reasons are returned, and recorded in
       `PhoenixGenApi.ConfigFailed`
    6. it is stored: `{:ok, :accepted}`. In one visible step the functions replace all those of the
       service that were pushed or pulled before

  With `module` and `function` set the service is also registered with
  `PhoenixGenApi.ConfigPuller`, until a push without them.

  What is turned away by the first three is recorded there with its name, too.

  Only `config_version` decides about skipping: several nodes of a service have to push the same
  config, which lists all of them or finds them with `nodes: {module, function, args}`.

  Pushes of one service follow each other, those of different services run side by side, each in
  the process that calls. What was pushed belongs to the supervisor and survives every crash below
  it. Tokens are compared and dropped.
  """

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.ConfigPuller
  alias PhoenixGenApi.ConfigPuller.{Listing, Store}
  alias PhoenixGenApi.ConfigReceiver.TurnedAway
  alias PhoenixGenApi.Excerpt
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Security
  alias PhoenixGenApi.ServiceTurn
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, ServiceConfig}
  alias PhoenixGenApi.Telemetry

  require Logger

  @table __MODULE__

  @type service :: String.t() | atom()

  @type reason ::
          :admin_action_denied
          | :invalid_push_token
          | :invalid_push_config_data
          | {:validation_failed, [String.t(), ...]}
          | :not_running

  @type result :: {:ok, :accepted} | {:ok, :skipped, :version_matches} | {:error, reason()}

  @doc """
  Stores a push.

  Options: `:force` (`false`) stores it also when the version is the same; `:node` is the node
  that it came from, for `PhoenixGenApi.ConfigFailed`. Other options are ignored, so that pushers
  may be newer than the gateway.
  """
  @spec push(PushConfig.t() | map(), keyword()) :: result()
  def push(push_config, opts \\ []) do
    log_here()

    with {:ok, push} <- admit(push_config, opts[:node]) do
      ServiceTurn.run(push.service, fn -> take(push, opts) end)
    end
  end

  @doc """
  Whether the last accepted push of a service had this version.

  `{:ok, :matched}`, `{:ok, :mismatch, stored_version}` or `{:error, :not_found}`.
  """
  @spec verify(service(), String.t()) ::
          {:ok, :matched} | {:ok, :mismatch, String.t()} | {:error, :not_found | :not_running}
  def verify(service, version) do
    with {:ok, _table} <- Gateway.handle(:config_db) do
      case fetch(to_string(service)) do
        nil -> {:error, :not_found}
        %{config_version: ^version} -> {:ok, :matched}
        %{config_version: stored} -> {:ok, :mismatch, stored}
      end
    end
  end

  @doc "The last accepted push of a service, without its token, or `nil`."
  @spec get_pushed_config(service()) :: PushConfig.t() | nil
  def get_pushed_config(service) do
    running!()
    fetch(to_string(service))
  end

  @doc "The versions of all pushed services."
  @spec get_all_pushed_services() :: %{String.t() => String.t()}
  def get_all_pushed_services do
    running!()
    Map.new(:ets.select(@table, [{{:"$1", :"$2", :_}, [], [{{:"$1", :"$2"}}]}]))
  end

  @doc "The pushed services with their versions, and how many they are."
  @spec status() :: %{
          status: :ok,
          count: non_neg_integer(),
          services: %{String.t() => String.t()}
        }
  def status do
    services = get_all_pushed_services()
    %{status: :ok, count: map_size(services), services: services}
  end

  @doc """
  Forgets a pushed service: its version, its pulling if a push had asked for that, and all its
  functions that were pushed or pulled.

  A service that the gateway itself pulls stays registered, and is pulled again at once.
  """
  @spec delete_pushed_service(service()) :: :ok
  def delete_pushed_service(service) do
    running!()
    service = to_string(service)

    ServiceTurn.run!(service, fn ->
      unfollow(service)
      forget(service)
      ConfigDb.remove_service(service)
      pull_anew(service)
    end)
  end

  @doc false
  @spec child_spec(term()) :: Supervisor.child_spec()
  def child_spec(opts), do: Supervisor.child_spec({ServiceTurn, opts}, id: __MODULE__)

  @doc false
  # Called by the supervisor of the application, which thereby owns the tables.
  @spec new() :: :ok
  def new do
    ServiceTurn.new()

    if :ets.whereis(@table) == :undefined,
      do: :ets.new(@table, [:named_table, :set, :public, read_concurrency: true])

    :ok
  end

  @doc false
  # For who has the service's turn.
  @spec forget(String.t()) :: :ok
  def forget(service) do
    :ets.delete(@table, service)
    :ok
  end

  # What a process logs that another node has spawned goes to that node. It is this one whose
  # operators have to know what was pushed.
  defp log_here do
    if node(Process.group_leader()) != node(),
      do: Logger.metadata(gl: Process.whereis(:init))
  end

  defp admit(push_config, node) do
    with {:ok, _table} <- Gateway.handle(:config_db) do
      case check_in(push_config) do
        {:ok, push} ->
          {:ok, push}

        {:error, reason} ->
          TurnedAway.record(push_config, reason, node)
          {:error, reason}
      end
    end
  end

  defp check_in(push_config) do
    with :ok <- Security.gate(:push_config),
         :ok <- check_token(push_config),
         do: read(push_config)
  end

  defp check_token(push_config) do
    if Security.valid_push_token?(token(push_config)),
      do: :ok,
      else: {:error, :invalid_push_token}
  end

  defp token(%{push_token: token}) when token != nil, do: token
  defp token(%{"push_token" => token}), do: token
  defp token(_other), do: nil

  defp read(%PushConfig{} = push), do: push |> Map.from_struct() |> read()

  defp read(map) when is_map(map) and not is_struct(map),
    do: {:ok, map |> PushConfig.from_map() |> normalise()}

  defp read(_other), do: {:error, :invalid_push_config_data}

  # From here on there is no token, and the structs are those of this version of the library.
  defp normalise(push) do
    %{
      push
      | push_token: nil,
        service: name(push.service),
        fun_configs: complete(push.fun_configs)
    }
  end

  defp name(service) when is_atom(service) and service != nil, do: Atom.to_string(service)
  defp name(service), do: service

  defp complete(configs) when length(configs) >= 0, do: Enum.map(configs, &Listing.complete/1)
  defp complete(other), do: other

  defp take(push, opts) do
    stored = fetch(push.service)

    if stored != nil and stored.config_version == push.config_version and opts[:force] != true do
      {:ok, :skipped, :version_matches}
    else
      with {:ok, push, source} <- check(push, opts[:node]), do: store(push, source, opts[:node])
    end
  end

  # What concerns the push as a whole. Only if that is in order are the functions compiled, which
  # is what tells whether they can be stored; otherwise they are checked for the report alone.
  defp check(push, node) do
    {pull_problems, source} = source(push)
    problems = Enum.uniq(push_problems(push) ++ pull_problems)
    repeated = repeated(push.fun_configs)

    if problems == [] and repeated == [] do
      {:ok, push, source}
    else
      rejected =
        repeated ++
          for(config <- functions(push), sentences = invalid(config), do: {config, sentences})

      refuse(push, problems, rejected, node)
    end
  end

  defp push_problems(push) do
    case PushConfig.validate_with_details(push) do
      {:ok, _push} -> []
      {:error, sentences} -> sentences
    end
  end

  # Pulling means calling, on this node too if the push lists it.
  defp source(push) do
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
    do: for(config <- Listing.repeated(configs), do: {config, ["is listed more than once"]})

  defp repeated(_no_list), do: []

  defp functions(%{fun_configs: configs}) when length(configs) >= 0,
    do: Enum.filter(configs, &is_struct(&1, FunConfig))

  defp functions(_no_list), do: []

  defp invalid(config) do
    with {:ok, config} <- FunConfig.validate_with_details(config),
         :ok <- Security.validate_config(config) do
      nil
    else
      {:error, {:mfa_not_allowed, mfa}} -> ["mfa not allowed: #{Excerpt.inspect(mfa)}"]
      {:error, sentences} -> sentences
    end
  end

  defp store(push, source, node) do
    case ConfigDb.replace_service(push.service, push.fun_configs, :push, strict?: true) do
      {:ok, %{stored: count}, []} ->
        :ets.insert(@table, {push.service, push.config_version, push})
        # What a pull has asked for before is older than this.
        Store.supersede(push.service)
        if source, do: follow(source), else: unfollow(push.service)
        accepted(push, count)

      {:error, rejected} when is_list(rejected) ->
        refuse(push, [], rejected, node)

      {:error, :not_running} = error ->
        error
    end
  end

  defp accepted(%{service: service, config_version: version}, count) do
    Telemetry.execute([:phoenix_gen_api, :config, :push], %{count: count}, %{
      service: service,
      version: version
    })

    Logger.info("push of service #{service} #{version} accepted, #{count} functions")
    {:ok, :accepted}
  end

  defp refuse(push, problems, rejected, node) do
    if problems != [],
      do: ConfigFailed.record(%{push | fun_configs: nil}, problems, :push, node)

    for {config, sentences} <- rejected, do: ConfigFailed.record(config, sentences, :push, node)

    sentences =
      problems ++
        for {config, sentences} <- rejected,
            sentence <- sentences,
            do: "#{Listing.label(config)}: #{sentence}"

    Logger.error(
      "push of service #{Excerpt.inspect(push.service)} rejected: " <> Enum.join(sentences, "; ")
    )

    {:error, {:validation_failed, sentences}}
  end

  defp follow(source),
    do: ConfigPuller.register(source, :push, System.monotonic_time(:millisecond))

  defp unfollow(service) do
    with {:ok, %{registered_by: :push}} <- Store.fetch(service), do: Store.unregister(service)
    :ok
  end

  # Its functions are gone: the version known would only say that nothing has changed.
  defp pull_anew(service) do
    case Store.fetch(service) do
      {:ok, %{config: config, registered_by: by}} ->
        Store.unregister(service)
        ConfigPuller.register(config, by, System.monotonic_time(:millisecond))

      :error ->
        :ok
    end
  end

  defp fetch(service) do
    case :ets.lookup(@table, service) do
      [{_service, _version, push}] -> push
      [] -> nil
    end
  end

  defp running!, do: Gateway.handle!(:config_db)
end
