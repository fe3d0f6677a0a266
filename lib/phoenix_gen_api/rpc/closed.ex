defmodule PhoenixGenApi.RPC.Closed do
  @moduledoc false
  # The functions that this node does not begin any more, because the service that offers them stops.
  # What begins all the same is told so, and its gateway takes another node.
  #
  # Rows: {{module, function}, owner, open?}. A function may be offered by several processes: it is closed when
  # it is for all that are there. Calls look here only once something has been closed in this VM.

  alias PhoenixGenApi.OwnedTable

  @table __MODULE__

  @type name :: {module(), atom()}

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:bag, read_concurrency: true])

  @doc "The calling process has these functions run, and no others."
  @spec open([name()]) :: :ok
  def open(names) do
    forget(self())
    for name <- Enum.uniq(names), do: :ets.insert(@table, {name, self(), true})

    for {name, owner, _open?} <- :ets.tab2list(@table),
        name in names,
        gone?(owner),
        do: forget(owner)

    :ok
  end

  defp gone?(owner), do: not Process.alive?(owner)

  defp forget(owner), do: :ets.match_delete(@table, {:_, owner, :_})

  @doc "It has them run no longer; those that no other process has run are closed."
  @spec close([name()]) :: :ok
  def close(names) do
    for name <- Enum.uniq(names) do
      :ets.insert(@table, {name, self(), false})
      :ets.delete_object(@table, {name, self(), true})
    end

    # An atom in place of another one: no process is scanned.
    :persistent_term.put(@table, true)
  end

  @doc "Whether a call of it is not to begin. On the path of every call for another node."
  @spec closed?(module(), atom()) :: boolean()
  def closed?(module, function),
    do: :persistent_term.get(@table, false) and listed?({module, function})

  defp listed?(name) do
    case :ets.lookup(@table, name) do
      [] -> false
      rows -> not Enum.any?(rows, fn {_name, _owner, open?} -> open? end)
    end
  rescue
    # The application stops.
    ArgumentError -> false
  end
end
