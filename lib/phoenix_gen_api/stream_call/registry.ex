defmodule PhoenixGenApi.StreamCall.Registry do
  @moduledoc false
  # Which streams there are, by receiver and request id, so that one can be stopped by its id.
  #
  # A stream stands in the table from its acknowledgement to just before its final frame, also
  # while it waits for a worker. It writes the table itself; this process only clears away what a
  # killed one has left there. The table belongs to the supervisor and survives it.
  #
  # A row: {key, pid | nil, unpooled?}. There is no pid between the entry and the start of the
  # process; who is killed in that moment leaves a row for the sweep.
  use GenServer

  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.Structs.Request

  @table __MODULE__
  @sweep_ms 60_000

  @typedoc "A stream: its receiver, its request id and what makes it unique."
  @type key :: {pid(), term(), reference()}

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:ordered_set, write_concurrency: :auto])

  @doc """
  Enters a stream that has no process yet, or says that no gateway runs here.

  With `unpooled?` nobody else tells the receiver if the process dies.
  """
  @spec enter(key(), boolean()) :: :ok | {:error, :not_running}
  def enter(key, unpooled?) do
    :ets.insert(@table, {key, nil, unpooled?})
    :ok
  rescue
    ArgumentError -> {:error, :not_running}
  end

  @doc """
  The process of an entered stream, which may have begun or ended since. When it dies, whatever
  it leaves in the table is taken out.
  """
  @spec watch(key(), pid()) :: :ok
  def watch(key, pid) do
    if :ets.update_element(@table, key, {2, pid}),
      do: GenServer.cast(__MODULE__, {:watch, pid, key})

    :ok
  rescue
    # The gateway is going down.
    ArgumentError -> :ok
  end

  @doc "The stream begins, in the calling process. Whoever has started that may not come to `watch/2`."
  @spec begin(key()) :: :ok
  def begin(key) do
    if :ets.lookup_element(@table, key, 2, nil) == self(), do: :ok, else: watch(key, self())
  rescue
    ArgumentError -> :ok
  end

  @doc "The stream is over, or was never begun."
  @spec leave(key()) :: :ok
  def leave(key) do
    :ets.delete(@table, key)
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "The processes of the living streams of a receiver with that id, of those that wait too."
  @spec find(pid(), term()) :: {:ok, [pid()]} | {:error, :not_running}
  def find(receiver, id) do
    # An id may be any term, one that means something in a pattern too.
    row = {{receiver, :"$1", :_}, :"$2", :_}
    spec = [{row, [{:"=:=", :"$1", {:const, id}}], [:"$2"]}]
    # Without a process it is not acknowledged yet.
    {:ok, for(pid <- :ets.select(@table, spec), pid != nil and not dead?(pid), do: pid)}
  rescue
    ArgumentError -> {:error, :not_running}
  end

  @doc "How many there are."
  @spec count() :: non_neg_integer()
  def count, do: :ets.info(@table, :size)

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    # One receiver on a node that hangs must not keep it from the others.
    :erlang.process_flag(:async_dist, true)
    sweep_later()
    {:ok, for({key, pid, _alone?} <- rows(), pid, into: %{}, do: monitor(pid, key))}
  end

  @impl true
  def handle_cast({:watch, pid, key}, watched) do
    {monitor, key} = monitor(pid, key)
    {:noreply, Map.put(watched, monitor, key)}
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, _reason}, watched) do
    {key, watched} = Map.pop(watched, monitor)
    if key, do: clear(key)
    {:noreply, watched}
  end

  def handle_info(:sweep, watched) do
    for {key, pid, _alone?} <- rows(), lost?(key, pid), do: clear(key)
    {:noreply, watched}
  end

  def handle_info(:sweep_and_go_on, watched) do
    sweep_later()
    handle_info(:sweep, watched)
  end

  def handle_info(_other, watched), do: {:noreply, watched}

  defp sweep_later, do: Process.send_after(self(), :sweep_and_go_on, @sweep_ms)
  defp rows, do: :ets.tab2list(@table)
  defp monitor(pid, key), do: {Process.monitor(pid), key}

  # Whoever takes a stream out of the table sends its final frame.
  defp clear({receiver, id, _ref} = key) do
    with [{_key, _pid, unpooled?}] <- :ets.take(@table, key) do
      FailureLog.log(:stream_failed, FailureLog.about(%Request{request_id: id}))

      if unpooled?,
        do: send(receiver, {:stream_response, ErrorResponse.build(id, :stream_failed)})
    end
  end

  defp lost?({receiver, _id, _ref}, nil), do: gone?(receiver)
  defp lost?(_key, pid), do: dead?(pid)
  # It is about to be taken out of the table.
  defp dead?(pid), do: not Process.alive?(pid)

  defp gone?(pid) when node(pid) == node(), do: not Process.alive?(pid)
  defp gone?(pid), do: node(pid) not in Node.list(:connected)
end
