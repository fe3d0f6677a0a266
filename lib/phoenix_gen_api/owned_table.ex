defmodule PhoenixGenApi.OwnedTable do
  @moduledoc false
  # The named tables that outlive the processes which use them: the supervisor of the application
  # creates each one before its children start, and owns it.

  @doc """
  Creates a public, named table, owned by the calling process, unless it is there.

  `rows` gives the rows that a new table begins with.
  """
  @spec new(atom(), [term()], (-> [tuple()])) :: :ok
  def new(name, options, rows \\ fn -> [] end) do
    unless exists?(name) do
      :ets.new(name, [:named_table, :public | options])
      :ets.insert(name, rows.())
    end

    :ok
  end

  @doc "Whether the table is there, that is, the application runs."
  @spec exists?(atom()) :: boolean()
  def exists?(name), do: :ets.whereis(name) != :undefined
end
