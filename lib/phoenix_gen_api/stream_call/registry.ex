defmodule PhoenixGenApi.StreamCall.Registry do
  @moduledoc false
  # Which streams there are, by receiver and request id, so that one can be stopped by its id.
  #
  # A stream stands in the table from its acknowledgement to just before its final frame. It
  # writes the table itself; this process only clears away what a killed one has left there. The
  # table belongs to the supervisor and survives it.
  use GenServer

  alias PhoenixGenApi.Executor.Failure

  @table __MODULE__
  @sweep_ms 60_000

  @typedoc "A stream: its receiver, its request id and what makes it unique."
  @type key :: {pid(), term(), reference()}

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new do
    if :ets.whereis(@table) == :undefined do
      :ets.new(@table, [:ordered_set, :public, :named_table, write_concurrency: :auto])
    end

    :ok
  end

  @doc "Enters a stream that has no process yet, or says that no gateway runs here."
  @spec enter(key()) :: :ok | {:error, :not_running}
  def enter(key) do
    :ets.insert(@table, {key, nil, false})
    :ok
  rescue
    ArgumentError -> {:error, :not_running}
  end

  @doc """
  The stream begins, in the calling process; false if it has been stopped before.

  With `alone?` nobody else tells the receiver if the process dies.
  """
  @spec begin(key(), boolean()) :: boolean()
  def begin(key, alone?) do
    if :ets.update_element(@table, key, [{2, self()}, {3, alone?}]) do
      GenServer.cast(__MODULE__, {:watch, self(), key})
      true
    else
      false
    end
  rescue
    # The gateway is going down.
    ArgumentError -> false
  end

  @doc "The stream is over, or was never begun."
  @spec leave(key()) :: :ok
  def leave(key) do
    :ets.delete(@table, key)
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "The streams of a receiver with that id: their keys and processes, if they have begun."
  @spec find(pid(), term()) :: {:ok, [{key(), pid() | nil}]} | {:error, :not_running}
  def find(receiver, id) do
    # An id may be any term, one that means something in a pattern too.
    spec = [{{{receiver, :"$1", :"$2"}, :"$3", :_}, [{:"=:=", :"$1", {:const, id}}], [:"$$"]}]
    {:ok, for([id, ref, pid] <- :ets.select(@table, spec), do: {{receiver, id, ref}, pid})}
  rescue
    ArgumentError -> {:error, :not_running}
  end

  @doc "Takes out a stream that has not begun; false if it has meanwhile."
  @spec withdraw(key()) :: boolean()
  def withdraw({receiver, id, ref}) do
    spec = [
      {{{receiver, :"$1", ref}, nil, :_}, [{:"=:=", :"$1", {:const, id}}], [true]}
    ]

    :ets.select_delete(@table, spec) == 1
  end

  @doc "How many there are."
  @spec count() :: non_neg_integer()
  def count, do: :ets.info(@table, :size)

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    Process.send_after(self(), :sweep, @sweep_ms)
    begun = [{{:"$1", :"$2", :_}, [{:is_pid, :"$2"}], [{{:"$2", :"$1"}}]}]
    {:ok, for({pid, key} <- :ets.select(@table, begun), into: %{}, do: watch(pid, key))}
  end

  @impl true
  def handle_cast({:watch, pid, key}, watched) do
    {monitor, key} = watch(pid, key)
    {:noreply, Map.put(watched, monitor, key)}
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, _reason}, watched) do
    {key, watched} = Map.pop(watched, monitor)
    if key, do: clear(key)
    {:noreply, watched}
  end

  # What a pool has lost together with its queue never begins.
  def handle_info(:sweep, watched) do
    Process.send_after(self(), :sweep, @sweep_ms)
    waiting = [{{:"$1", nil, :_}, [], [:"$1"]}]
    for {receiver, _, _} = key <- :ets.select(@table, waiting), gone?(receiver), do: leave(key)
    {:noreply, watched}
  end

  def handle_info(_other, watched), do: {:noreply, watched}

  defp watch(pid, key), do: {Process.monitor(pid), key}

  # Whoever takes a stream out of the table sends its final frame.
  defp clear({receiver, id, _ref} = key) do
    with [{_key, _pid, true}] <- :ets.take(@table, key),
         do: send(receiver, {:stream_response, Failure.response(id, :stream_failed)})
  end

  defp gone?(pid) when node(pid) == node(), do: not Process.alive?(pid)
  defp gone?(pid), do: node(pid) not in Node.list(:connected)
end
