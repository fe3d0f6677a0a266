defmodule PhoenixGenApi.ServiceSets do
  @moduledoc false
  # The members of each service. A function with `nodes: :service` that was added or pulled chooses among them.
  #
  # Rows: {service, set}. A set stays for as long as the gateway runs, as plans hold it.

  alias PhoenixGenApi.CandidateSet
  alias PhoenixGenApi.OwnedTable

  @table __MODULE__
  @max_services 10_000
  # Of a name that something may be stored under.
  @max_bytes 8_192
  @unversioned "0.0.0"

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, read_concurrency: true])

  @doc """
  The set of a service, which is made if there is none; nil where no gateway runs, and for a new service once there
  are 10,000.
  """
  @spec of_service(String.t()) :: CandidateSet.t() | nil
  def of_service(service) do
    with nil <- find(service), do: create(service)
  end

  @doc """
  The set of a config that somebody holds: that of the function stored under its key, or else of its service.
  """
  @spec of_config(map()) :: CandidateSet.t() | nil
  def of_config(%{service: service, request_type: request_type, version: version}) do
    service = if is_atom(service), do: Atom.to_string(service), else: service
    version = version || @unversioned

    if Enum.all?([service, request_type, version], &name?/1),
      do: CandidateSet.of_function(service, request_type, version) || find(service)
  end

  defp name?(name), do: is_binary(name) and byte_size(name) <= @max_bytes and String.valid?(name)

  @doc "The set of a service, if there is one."
  @spec find(String.t()) :: CandidateSet.t() | nil
  def find(service) do
    if OwnedTable.exists?(@table), do: :ets.lookup_element(@table, service, 2, nil)
  end

  defp create(service) do
    with true <- OwnedTable.exists?(@table) and :ets.info(@table, :size) < @max_services,
         {:ok, set} <- CandidateSet.new() do
      # The name may be a part of a large message.
      :ets.insert_new(@table, {:binary.copy(service), set})
      # Somebody else may have been faster.
      find(service)
    else
      _full_or_not_running -> nil
    end
  end
end
