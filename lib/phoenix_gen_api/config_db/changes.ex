defmodule PhoenixGenApi.ConfigDb.Changes do
  @moduledoc false
  # Services whose functions have changed since somebody has looked at them. A row for each.

  alias PhoenixGenApi.OwnedTable

  @table __MODULE__

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, write_concurrency: true])

  @doc "The functions of a service have changed, or those of all."
  @spec mark(String.t() | :all) :: :ok
  def mark(service) do
    :ets.insert(@table, {service})
    :ok
  rescue
    # The gateway is going down.
    ArgumentError -> :ok
  end

  @doc "The services marked since the last time."
  @spec take() :: [String.t() | :all]
  def take do
    # Taken ahead of looking: what changes meanwhile is marked again.
    for {service} <- :ets.tab2list(@table) do
      :ets.delete(@table, service)
      service
    end
  end
end
