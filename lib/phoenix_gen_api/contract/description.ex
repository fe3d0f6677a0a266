defmodule PhoenixGenApi.Contract.Description do
  @moduledoc false
  # Function configs as data for clients. What only concerns the gateway, such as nodes and the function that
  # is called, is not in it.

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Contract.JsonSchema
  alias PhoenixGenApi.Format
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.Permission
  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.Structs.FunConfig.Validation

  @table __MODULE__
  @unversioned "0.0.0"

  @type service :: %{String.t() => term()}

  @doc "Creates the table of what the last description was made of, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, read_concurrency: true])

  @doc """
  The services of the gateway: those of the last time, unless its functions have changed since.

  A description of 1,000 functions takes 3 MB, and to copy that out of a table some 2 ms. So it is a persistent
  term, which nobody copies. To replace one costs 0.2 s of a processor for every 100,000 processes, which is why
  it is replaced only by one that differs: services that are pulled again and have not changed cost nothing.
  """
  @spec services() :: [service()]
  def services do
    # Taken ahead of looking: what changes meanwhile belongs to another state.
    state = {Gateway.handle!(:config_db), ConfigDb.state()}

    with [{_key, ^state, made}] <- :ets.lookup(@table, :last),
         {^made, services} <- :persistent_term.get(@table, nil) do
      services
    else
      _older -> keep(state, services(stored(), &default/3))
    end
  end

  @doc "Gives the memory back."
  @spec forget() :: :ok
  def forget do
    :persistent_term.erase(@table)
    :ok
  end

  @doc "The services of these configs, as a gateway that has no others would describe them."
  @spec services([FunConfig.t()]) :: [service()]
  def services(configs) do
    configs
    |> Enum.map(&normalise/1)
    |> Enum.reject(& &1.disabled)
    |> services(fn _service, _type, versions -> highest(versions) end)
  end

  defp keep(state, services) do
    {made, kept} =
      case :persistent_term.get(@table, nil) do
        {_made, ^services} = unchanged ->
          unchanged

        _other ->
          made = make_ref()
          :persistent_term.put(@table, {made, services})
          {made, services}
      end

    :ets.insert(@table, {:last, state, made})
    kept
  end

  defp stored do
    for {service, types} <- ConfigDb.get_all_functions(),
        {type, versions} <- types,
        version <- versions,
        {:ok, config} <- [ConfigDb.get(service, type, version)],
        do: config
  end

  # What a request without a version gets. Nothing if it has been disabled since.
  defp default(_service, _type, [only]), do: only

  defp default(service, type, _versions) do
    case ConfigDb.get_fast(service, type) do
      {:ok, config} -> config.version
      {:error, _reason} -> nil
    end
  end

  defp highest([_ | _] = versions),
    do: if(@unversioned in versions, do: @unversioned, else: List.last(versions))

  defp normalise(config) do
    case Validation.run(config) do
      {:ok, config, _schema} ->
        config

      {:error, sentences} ->
        name = Format.names([config.service, config.request_type], " ")
        raise ArgumentError, "#{name} is no function config: #{Enum.join(sentences, "; ")}"
    end
  end

  defp services(configs, default) do
    configs
    |> Enum.group_by(& &1.service)
    |> Enum.sort()
    |> Enum.map(fn {service, configs} ->
      functions =
        configs
        |> Enum.group_by(& &1.request_type)
        |> Enum.sort()
        |> Enum.map(&function(&1, default))

      %{"service" => service, "functions" => functions}
    end)
  end

  defp function({type, [%{service: service} | _] = configs}, default) do
    configs = Enum.sort(configs, &(ConfigDb.compare_versions(&1.version, &2.version) != :gt))

    %{
      "request_type" => type,
      "default_version" => default.(service, type, Enum.map(configs, & &1.version)),
      "versions" => Enum.map(configs, &version/1)
    }
  end

  defp version(config) do
    {:ok, args} = JsonSchema.of_arguments(config.arg_types, config.arg_orders)

    %{
      "version" => config.version,
      "args" => args,
      "result" => result(config.result),
      "response_type" => Atom.to_string(config.response_type),
      "permission" => permission(config),
      "deprecated" => config.deprecated,
      "doc" => config.doc,
      "tags" => config.tags,
      "idempotent" => config.idempotent,
      "timeout_ms" => if(config.timeout != :infinity, do: config.timeout)
    }
  end

  defp result(nil), do: nil

  defp result(type) do
    {:ok, schema} = JsonSchema.of_type(type)
    schema
  end

  defp permission(%{permission_callback: callback}) when callback != nil,
    do: %{"kind" => "custom"}

  defp permission(%{check_permission: false}), do: %{"kind" => "public"}
  defp permission(%{check_permission: :any_authenticated}), do: %{"kind" => "authenticated"}

  defp permission(%{check_permission: {:role, roles}}),
    do: %{"kind" => "roles", "roles" => roles}

  defp permission(%{check_permission: {:arg, name}}), do: %{"kind" => "owner", "arg" => name}

  @doc """
  Only what the request may call, whoever it is from. Functions with a callback, which is not run, only if
  `visible?`.
  """
  @spec permitted([service()], Request.t(), boolean()) :: [service()]
  def permitted(services, request, visible?) do
    some(services, "functions", fn service ->
      some(service["functions"], "versions", fn function ->
        Enum.filter(function["versions"], &permitted?(&1["permission"], request, visible?))
      end)
    end)
    |> Enum.map(&known_defaults/1)
  end

  defp some(parents, key, children) do
    for parent <- parents, left = children.(parent), left != [], do: %{parent | key => left}
  end

  defp known_defaults(%{"functions" => functions} = service),
    do: %{service | "functions" => Enum.map(functions, &known_default/1)}

  defp known_default(%{"default_version" => default, "versions" => versions} = function) do
    if Enum.any?(versions, &(&1["version"] == default)),
      do: function,
      else: %{function | "default_version" => nil}
  end

  defp permitted?(%{"kind" => "custom"}, _request, visible?), do: visible?
  defp permitted?(%{"kind" => "public"}, request, _), do: Permission.may?(request, false)

  # With their own id in the argument.
  defp permitted?(%{"kind" => kind}, request, _) when kind in ["authenticated", "owner"],
    do: Permission.may?(request, :any_authenticated)

  defp permitted?(%{"kind" => "roles", "roles" => roles}, request, _),
    do: Permission.may?(request, {:role, roles})
end
