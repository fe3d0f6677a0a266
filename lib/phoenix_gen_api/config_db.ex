defmodule PhoenixGenApi.ConfigDb do
  @moduledoc """
  The table of function configs.

  A config is normalised, validated, checked against the MFA gate and compiled when it is
  stored; requests only read. The table is a native structure: a lookup takes a fraction of a
  microsecond whatever the number of configs, readers see a batch whole or not at all, and no
  reader ever waits for a writer. It belongs to no process, so no crash loses it.

      iex> alias PhoenixGenApi.ConfigDb
      iex> alias PhoenixGenApi.Structs.FunConfig
      iex> ConfigDb.add(%FunConfig{
      ...>   service: :doc_util, request_type: "up", nodes: :local,
      ...>   mfa: {String, :upcase, []}, arg_types: %{"text" => :string}
      ...> })
      :ok
      iex> {:ok, config} = ConfigDb.get("doc_util", "up")
      iex> {config.version, config.arg_orders}
      {"0.0.0", ["text"]}
      iex> ConfigDb.delete("doc_util", "up")
      :ok

  ## Versions

  A request without a version gets the unversioned config (`"0.0.0"`) if there is one and it is
  enabled, otherwise the highest enabled version. An explicit `"0.0.0"` means the unversioned
  config if it is registered, otherwise the same. Semantic versions are ordered by
  `Version.compare/2`; what is not a semantic version sorts below, by natural order.

  ## Disabling

  `disable/4` marks a key on all gateways. The mark is kept apart from the config: it survives
  `add/1`, pulls and pushes of that version, and ends with `enable/4`, and on one gateway with
  `delete/3` or `clear/0`, which act on the table of that gateway. A config that
  itself says `disabled: true` can be enabled until it is stored again.

  Where no gateway runs, functions that return errors give `{:error, :not_running}` and the
  others raise `RuntimeError`.
  """

  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.ConfigDb.{Changes, Compilation, Warnings}
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.Decisions
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.Structs.FunConfig.Validation
  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.UndefinedFunctions
  alias PhoenixGenApi.Log

  require Log

  @type service :: String.t() | atom()
  @type origin :: :direct | :pull | :push | :offer
  @typep source :: :this_node | :another_node
  @type rejection :: :invalid_config | {:mfa_not_allowed, term()} | :not_running

  @unversioned "0.0.0"
  @max_name_bytes 8_192

  # The service of the gateway's own functions. They are in a table of their own, which no call of
  # this module changes; a config of that name is invalid.
  @built_in Validation.reserved_service()

  @doc """
  Stores a config, replacing one with the same service, request type and version.

  `{:error, :invalid_config}` and `{:error, {:mfa_not_allowed, mfa}}` are logged with every
  reason and kept in `PhoenixGenApi.ConfigFailed`.
  """
  @spec add(FunConfig.t()) :: :ok | {:error, rejection()}
  def add(config) do
    with {:error, reason, _sentences} <- store(config), do: {:error, reason}
  end

  @doc """
  As `add/1`, but raises `ArgumentError` with all reasons if the config is rejected.

      iex> PhoenixGenApi.ConfigDb.add!(%PhoenixGenApi.Structs.FunConfig{
      ...>   service: "doc_util", request_type: "up", nodes: :local, mfa: {String, :upcase, []}, timeout: 1
      ...> })
      ** (ArgumentError) doc_util up is rejected: timeout must be a positive integer between 100 and 300000, or :infinity
  """
  @spec add!(FunConfig.t()) :: :ok
  def add!(config) do
    with {:error, _reason, sentences} <- store(config) do
      raise ArgumentError, "#{named(config)} is rejected: #{Enum.join(sentences, "; ")}"
    end
  end

  @doc "Same as `add/1`."
  @spec update(FunConfig.t()) :: :ok | {:error, rejection()}
  def update(config), do: add(config)

  @doc """
  Stores the valid ones of several configs in one visible step and records the others.

  Returns how many were stored, or `{:error, :all_invalid}` when there was none to store.
  """
  @spec batch_add([FunConfig.t()]) :: {:ok, pos_integer()} | {:error, :all_invalid | :not_running}
  def batch_add(configs) when is_list(configs) do
    configs = Enum.map(configs, &FunConfig.complete/1)

    with {:ok, table} <- Gateway.handle(:config_db) do
      {valid, rejected} = Compilation.all(configs)
      Enum.each(rejected, fn {config, sentences} -> reject(config, sentences, :direct) end)
      store_batch(table, valid)
    end
  end

  @doc """
  Removes a config and its disabled mark; `:ok` also when there is none.
  """
  @spec delete(service(), String.t(), String.t() | nil) :: :ok
  def delete(service, request_type, version \\ nil) do
    {service, version} = {name(service), text(version || @unversioned)}
    request_type = text(request_type)

    if Native.config_db_delete(table!(), service, request_type, version) do
      Changes.mark(service)

      Telemetry.execute(
        [:phoenix_gen_api, :config, :delete],
        %{},
        key(service, request_type, version)
      )
    end

    :ok
  end

  @doc """
  Refuses requests for a config until `enable/4`, or until `delete/3` on a gateway.

  That holds on every connected gateway, and on those that join later. With the option
  `local: true` it holds on this gateway alone.
  """
  @spec disable(service(), String.t(), String.t() | nil, keyword()) ::
          :ok | {:error, :not_found | :not_running}
  def disable(service, request_type, version \\ nil, opts \\ []),
    do: decide(service, request_type, version, :disable, opts)

  @doc "Lets requests through again. The option is that of `disable/4`."
  @spec enable(service(), String.t(), String.t() | nil, keyword()) ::
          :ok | {:error, :not_found | :not_running}
  def enable(service, request_type, version \\ nil, opts \\ []),
    do: decide(service, request_type, version, :enable, opts)

  defp decide(service, request_type, opts, change, []) when is_list(opts),
    do: decide(service, request_type, nil, change, opts)

  defp decide(service, request_type, version, change, opts) do
    key = {:function, name(service), text(request_type), text(version || @unversioned)}
    Decisions.decide(key, change, opts)
  end

  @doc "The config stored under exactly this key."
  @spec get(service(), String.t(), String.t() | nil) ::
          {:ok, FunConfig.t()} | {:error, :not_found | :disabled | :not_running}
  def get(service, request_type, version \\ nil) do
    with {:ok, table} <- Gateway.handle(:config_db),
         version = text(version || @unversioned),
         found = Native.config_db_get(table, name(service), text(request_type), version),
         {:ok, plan} <- found(found),
         do: {:ok, Plan.config_of(plan)}
  end

  @doc "The config of the highest enabled version, the unversioned one counting as 0.0.0."
  @spec get_latest(service(), String.t()) ::
          {:ok, FunConfig.t()} | {:error, :not_found | :not_running}
  def get_latest(service, request_type) do
    with {:ok, table} <- Gateway.handle(:config_db),
         {:ok, plan} <- found(Native.config_db_latest(table, name(service), text(request_type))),
         do: {:ok, Plan.config_of(plan)}
  end

  @doc "The config that a request without a version gets."
  @spec get_fast(service(), String.t()) ::
          {:ok, FunConfig.t()} | {:error, :not_found | :disabled | :not_running}
  def get_fast(service, request_type), do: resolve(service, request_type, nil)

  @doc "The config that a request with this version, or with `nil`, gets."
  @spec resolve(service(), String.t(), String.t() | nil) ::
          {:ok, FunConfig.t()} | {:error, :not_found | :disabled | :not_running}
  def resolve(service, request_type, version) do
    with {:ok, plan} <- fetch(service, request_type, version), do: {:ok, Plan.config(plan)}
  end

  @doc "Every version of every function, disabled ones included: `%{service => %{type => [version]}}`."
  @spec get_all_functions() :: %{String.t() => %{String.t() => [String.t()]}}
  def get_all_functions, do: nest(list())

  @doc "The same for one service or several."
  @spec get_functions_from_services(service() | [service()]) ::
          %{String.t() => %{String.t() => [String.t()]}}
  def get_functions_from_services(services) do
    wanted = services |> List.wrap() |> MapSet.new(&to_string/1)
    list() |> Enum.filter(fn {service, _, _} -> service in wanted end) |> nest()
  end

  @doc "The names of all services, ascending."
  @spec get_all_services() :: [String.t()]
  def get_all_services, do: list() |> Enum.map(&elem(&1, 0)) |> Enum.uniq() |> Enum.sort()

  @doc "The number of configs, each version counted."
  @spec count() :: non_neg_integer()
  def count, do: Native.config_db_count(table!())

  @doc "Removes every config and every disabled mark."
  @spec clear() :: :ok
  def clear do
    if Native.config_db_clear(table!()) > 0 do
      Changes.mark(:all)
      Telemetry.execute([:phoenix_gen_api, :config, :clear], %{}, key(:all, :all, :all))
    end

    :ok
  end

  @doc "What the table holds; `memory_bytes` is an estimate."
  @spec status() :: %{
          status: :ok,
          count: non_neg_integer(),
          services: [String.t()],
          memory_bytes: non_neg_integer()
        }
  def status do
    %{
      status: :ok,
      count: count(),
      services: get_all_services(),
      memory_bytes: Native.config_db_bytes(table!())
    }
  end

  @doc false
  # The request path: the plan instead of the config.
  @spec fetch(service(), String.t(), String.t() | nil) ::
          {:ok, Plan.t()} | {:error, :not_found | :disabled | :not_running}
  def fetch(service, request_type, version)
      when is_binary(service) and is_binary(request_type) and
             (is_binary(version) or version == nil) do
    with {:ok, table} <- Gateway.handle(:config_db) do
      case Native.config_db_fetch(table, service, request_type, version) do
        :out_of_budget ->
          found(Native.config_db_fetch_dirty(table, service, request_type, version))

        :not_found when service == @built_in ->
          built_in = Gateway.handle!(:built_in)
          found(Native.config_db_fetch(built_in, service, request_type, version))

        fetched ->
          found(fetched)
      end
    end
  end

  def fetch(service, request_type, version) when is_atom(service) and service != nil,
    do: fetch(Atom.to_string(service), request_type, version)

  # A hand-made request may hold anything; nothing is registered under that.
  def fetch(_service, _request_type, _version), do: {:error, :not_found}

  @doc false
  # What a pull, a push or an offer does in one visible step: stores these configs and removes every
  # other one of the service that was pulled, pushed or offered.
  # Nothing is stored when `strict?` and one is rejected. `keep` are configs that the caller
  # has rejected: they are listed, so an earlier entry of theirs stays. `from` says where they come from,
  # `set_of` where those with `nodes: :service` run, and `ineligible` is that of `set_ineligible/2`.
  @spec replace_service(String.t(), [FunConfig.t()], :pull | :push | :offer,
          from: source(),
          strict?: boolean(),
          keep: [FunConfig.t()],
          set_of: Plan.set_of(),
          ineligible: [Native.config_key()]
        ) ::
          {:ok, %{stored: non_neg_integer(), removed: non_neg_integer()},
           [{FunConfig.t(), [String.t()]}]}
          | {:error, [{FunConfig.t(), [String.t()]}]}
          | {:error, :not_running}
  def replace_service(service, configs, origin, opts \\ []) do
    with {:ok, table} <- Gateway.handle(:config_db) do
      strict? = Keyword.get(opts, :strict?, false)

      case Compilation.foreign(
             table,
             configs,
             Keyword.get(opts, :from, :this_node),
             opts[:set_of]
           ) do
        {_valid, [_ | _] = rejected} when strict? ->
          {:error, rejected}

        {valid, rejected} ->
          # A listed but invalid function keeps its previous entry.
          invalid = Enum.map(rejected, &elem(&1, 0)) ++ Keyword.get(opts, :keep, [])
          keep = Enum.flat_map(invalid, &loose_key/1)
          plans = Enum.map(valid, fn {plan, _config} -> handle(plan) end)
          warn(table, valid)
          ineligible = Keyword.get(opts, :ineligible, [])

          replaced =
            Native.config_db_replace(table, service, plans, origin, keep, strict?, ineligible)

          Changes.mark(service)
          result = replaced(replaced, valid, rejected, strict?)
          if match?({:ok, _, _}, result), do: check_functions(valid, origin)
          result
      end
    end
  end

  # Code on the gateway may have added a function since it was looked for: the table has the last word.
  defp replaced({removed, taken}, valid, rejected, strict?) do
    taken = MapSet.new(taken)

    {added, stored} =
      Enum.split_with(valid, fn {_plan, %{request_type: type, version: version}} ->
        MapSet.member?(taken, {type, version})
      end)

    rejected = rejected ++ for {_plan, config} <- added, do: {config, [Compilation.added_here()]}

    if strict? and added != [],
      do: {:error, rejected},
      else: {:ok, %{stored: length(stored), removed: removed}, rejected}
  end

  @doc false
  # Those that `replace_service/4` would reject, with the reasons.
  @spec rejected([FunConfig.t()], source()) :: [{FunConfig.t(), [String.t()]}]
  def rejected(configs, from) do
    case Gateway.handle(:config_db) do
      {:ok, table} -> table |> Compilation.foreign(configs, from) |> elem(1)
      {:error, :not_running} -> []
    end
  end

  @doc false
  @spec remove_service(service()) :: non_neg_integer()
  def remove_service(service) do
    {removed, _taken} =
      Native.config_db_replace(table!(), name(service), [], :pull, [], false, [])

    Changes.mark(name(service))
    removed
  end

  @doc false
  # Requests that name no version get these versions of the service's functions only where no other is
  # enabled, and all others as ever, in one visible step; whether that changes anything.
  @spec set_ineligible(service(), [Native.config_key()]) :: boolean()
  def set_ineligible(service, keys) do
    service = name(service)
    changed? = Native.config_db_set_ineligible(table!(), service, keys)
    if changed?, do: Changes.mark(service)
    changed?
  end

  @doc false
  # A number that every change of the table makes another one.
  @spec state() :: non_neg_integer()
  def state, do: Native.config_db_state(table!())

  @doc false
  # Whether there is a function of that name, which may be disabled.
  @spec registered?(term(), term()) :: boolean()
  def registered?(service, request_type),
    do: fetch(service, request_type, nil) not in [{:error, :not_found}, {:error, :not_running}]

  @doc false
  @spec origin(service(), String.t(), String.t()) :: origin() | nil
  def origin(service, request_type, version),
    do: Native.config_db_origin(table!(), name(service), text(request_type), text(version))

  @doc false
  # The order of versions that resolution goes by. Equal are only equal texts.
  @spec compare_versions(String.t(), String.t()) :: :lt | :eq | :gt
  def compare_versions(a, b), do: Native.config_db_compare(a, b)

  defp loose_key(%FunConfig{request_type: type, version: version}) when is_binary(type) do
    case version || @unversioned do
      version when is_binary(version) -> Enum.filter([{type, version}], &valid?/1)
      _ -> []
    end
  end

  defp loose_key(_config), do: []

  defp valid?({type, version}), do: String.valid?(type) and String.valid?(version)

  defp store(config) do
    config = FunConfig.complete(config)

    case Gateway.handle(:config_db) do
      {:ok, table} -> store(table, config)
      {:error, :not_running} -> {:error, :not_running, ["no gateway runs on this node"]}
    end
  end

  defp store(table, config) do
    case Compilation.one(config) do
      {:ok, plan, config} ->
        warn(table, [{plan, config}])
        Native.config_db_store(table, [handle(plan)], :direct)
        Changes.mark(config.service)
        check_functions([{plan, config}], :direct)
        Telemetry.execute([:phoenix_gen_api, :config, :add], %{}, key(config))
        :ok

      {:error, _reason, sentences} = error ->
        reject(config, sentences, :direct)
        error
    end
  end

  defp store_batch(_table, []), do: {:error, :all_invalid}

  defp store_batch(table, [{_plan, first} | _] = valid) do
    handles = Enum.map(valid, fn {plan, _config} -> handle(plan) end)
    warn(table, valid)
    Native.config_db_store(table, handles, :direct)
    for {_plan, config} <- valid, do: Changes.mark(config.service)
    check_functions(valid, :direct)
    count = length(valid)

    Telemetry.execute([:phoenix_gen_api, :config, :batch_add], %{count: count}, %{
      service: first.service
    })

    {:ok, count}
  end

  defp warn(table, valid) do
    configs = for {_plan, config} <- valid, do: config
    for sentence <- Warnings.about(table, configs), do: Log.warning(sentence)
  end

  defp check_functions(valid, origin) do
    configs = for {_plan, config} <- valid, do: config
    UndefinedFunctions.check_local(configs, origin)
  end

  defp reject(config, sentences, origin) do
    ConfigFailed.record(config, sentences, origin)

    Log.error("function config rejected: #{named(config)}: #{Enum.join(sentences, "; ")}")
  end

  defp named(%FunConfig{} = config) do
    %{service: service, request_type: type} = FunConfig.complete(config)
    "#{SafeInspect.name(service)} #{SafeInspect.name(type)}"
  end

  defp named(other), do: SafeInspect.inspect(other, 100)

  # What no config can be stored under is not found, and nothing is stored under "".
  defp name(service) when is_atom(service) and service != nil, do: Atom.to_string(service)
  defp name(service), do: text(service)

  defp text(text) when is_binary(text) and byte_size(text) <= @max_name_bytes,
    do: if(String.valid?(text), do: text, else: "")

  defp text(_other), do: ""

  defp found(reason) when reason in [:not_found, :disabled], do: {:error, reason}
  defp found(found), do: {:ok, found}

  defp handle(plan(handle: handle)), do: handle

  defp list, do: Native.config_db_list(table!())

  defp nest(functions) do
    Enum.reduce(functions, %{}, fn {service, type, versions}, acc ->
      versions = Enum.map(versions, &elem(&1, 0))
      Map.update(acc, service, %{type => versions}, &Map.put(&1, type, versions))
    end)
  end

  defp key(config), do: key(config.service, config.request_type, config.version)

  defp key(service, request_type, version),
    do: %{service: service, request_type: request_type, version: version}

  defp table!, do: Gateway.handle!(:config_db)
end
