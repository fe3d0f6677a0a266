defmodule PhoenixGenApi.WorkerPool.Registry do
  @moduledoc false
  # Where a pool is found by its name, with its options, beside the process that keeps it: it
  # outlives a crash of that process.
  #
  # The application's own pools are persistent terms: 20 ns to read, where the table takes 130 and
  # more when all schedulers read at once. But to erase one makes the VM scan every process (10 ms
  # of all schedulers at 50,000 processes), so the pools of others, which may come and go, are in
  # the table.

  alias PhoenixGenApi.OwnedTable

  @table __MODULE__
  @application_pools [:async_pool, :stream_pool]

  @type pool :: {reference(), map()}

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, read_concurrency: true])

  @doc "The names of the pools that the application starts."
  @spec application_pools() :: [atom()]
  def application_pools, do: @application_pools

  @spec running?() :: boolean()
  def running?, do: OwnedTable.exists?(@table)

  @spec find(GenServer.name()) :: pool() | nil
  def find(name) do
    with nil <- :persistent_term.get({__MODULE__, name}, nil) do
      :ets.lookup_element(@table, name, 2, nil)
    end
  rescue
    # The application is not running.
    ArgumentError -> nil
  end

  @spec put(GenServer.name(), pool()) :: :ok
  def put(name, pool) do
    if name in @application_pools do
      :persistent_term.put({__MODULE__, name}, pool)
    else
      :ets.insert(@table, {name, pool})
      :ok
    end
  end

  @spec delete(GenServer.name()) :: :ok
  def delete(name) do
    if name in @application_pools,
      do: :persistent_term.erase({__MODULE__, name}),
      else: running?() and :ets.delete(@table, name)

    :ok
  end
end
