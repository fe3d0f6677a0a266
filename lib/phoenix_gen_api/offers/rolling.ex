defmodule PhoenixGenApi.Offers.Rolling do
  @moduledoc false
  # Functions of which the nodes offer different definitions, as during a rolling deployment. The table of
  # configs has the most common one, for all of these nodes; here is what the node that was chosen says.
  #
  # Rows: {{service, request_type, version}, [{hashes, plan}]}. The table belongs to the supervisor.

  alias PhoenixGenApi.CandidateSet
  alias PhoenixGenApi.Offers.{Store, View}
  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.Service.Content
  alias PhoenixGenApi.Structs.FunConfig

  @table __MODULE__

  @type definitions :: %{Content.key() => [{View.class(), FunConfig.t(), CandidateSet.t()}]}

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, read_concurrency: true])

  @doc "The plan by which a node is to be called."
  @spec plan({String.t(), String.t(), String.t()}, node()) :: {:ok, Plan.t()} | :error
  def plan({service, _type, _version} = key, node) do
    hashes = Store.hashes(service, node)

    with [{_key, definitions}] <- :ets.lookup(@table, key),
         {_hashes, plan} <-
           Enum.find(definitions, fn {of, _} -> Enum.any?(of, &(&1 in hashes)) end) do
      {:ok, plan}
    else
      _changed_meanwhile -> :error
    end
  end

  @doc "Adds functions of a service, or replaces them."
  @spec add(String.t(), definitions()) :: :ok
  def add(service, rolling) do
    for {{type, version}, definitions} <- rolling do
      rows = for {class, config, set} <- definitions, do: {class, compile(config, set)}
      :ets.insert(@table, {{service, type, version}, rows})
    end

    :ok
  end

  # It was compiled when it was let in.
  defp compile(config, set) do
    [{:ok, plan, _config}] = Plan.compile_all([config], fn _config -> {set, [:offered]} end)
    plan
  end

  @doc "Drops all other functions of the service."
  @spec keep(String.t(), [Content.key()]) :: :ok
  def keep(service, keys) do
    for {type, version} <- functions(service) -- keys,
        do: :ets.delete(@table, {service, type, version})

    :ok
  end

  @doc "The functions of a service with several definitions."
  @spec functions(String.t()) :: [Content.key()]
  def functions(service) do
    for [type, version] <- :ets.match(@table, {{service, :"$1", :"$2"}, :_}), do: {type, version}
  end
end
