defmodule PhoenixGenApi.ConfigSync.ServiceLock do
  @moduledoc false
  # One writer of a service's functions at a time: pulls, pushes and deletions of the same
  # service follow each other, those of different services know nothing of each other.
  #
  # The work is done by the process that holds the lock; only the locks themselves pass through
  # this one. The holders are also in a table of the supervisor, so that a crash here grants no lock
  # twice.
  use GenServer

  alias PhoenixGenApi.OwnedTable

  @table __MODULE__
  # The row that says how the process is called, and what follows the death of a holder. No service
  # has such a key.
  @server :server

  # How long to wait for a new server process, in steps: a restart takes far less.
  @restart_step_ms 10
  @restart_steps 100

  @doc """
  Creates the table, owned by the calling process, unless it is there.

  `server` is the name that the process is registered under, `holder_killed` a function that it
  calls with the service whose lock a process held when it was killed.
  """
  @spec new(atom(), (String.t() -> term())) :: :ok
  def new(server, holder_killed) do
    OwnedTable.new(@table, [:set], fn -> [{@server, server, holder_killed}] end)
  end

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: server())

  @doc """
  Runs `fun` in the calling process while it holds the service's lock, and returns what it returns.

  Locks are granted in the order they were asked for. A process that holds a service's lock must
  not ask for it again.
  """
  @spec run(String.t(), (-> result)) :: result | {:error, :not_running} when result: term()
  def run(service, fun) do
    with :ok <- acquire(service, @restart_steps) do
      try do
        fun.()
      after
        release(service)
      end
    end
  end

  defp acquire(service, steps) do
    GenServer.call(server(), {:acquire, service}, :infinity)
  rescue
    ArgumentError -> {:error, :not_running}
  catch
    :exit, _reason ->
      if steps > 0 and OwnedTable.exists?(@table) do
        receive do
        after
          @restart_step_ms -> acquire(service, steps - 1)
        end
      else
        {:error, :not_running}
      end
  end

  defp release(service) do
    # The row goes first: a server that starts in between must not wait for this process.
    :ets.delete_object(@table, {service, self()})
    GenServer.cast(server(), {:release, service, self()})
  end

  defp server, do: :ets.lookup_element(@table, @server, 2)
  defp holder_killed, do: :ets.lookup_element(@table, @server, 3)

  @impl true
  def init(_opts) do
    {:ok,
     for({service, pid} <- :ets.tab2list(@table), into: %{}, do: monitor_holder(service, pid, []))}
  end

  @impl true
  def handle_call({:acquire, service}, {caller, _tag} = from, locks) do
    case locks do
      # It was granted by a server that was killed before it could say so.
      %{^service => {^caller, _monitor, _waiting}} ->
        {:reply, :ok, locks}

      %{^service => {pid, monitor, waiting}} ->
        {:noreply, %{locks | service => {pid, monitor, waiting ++ [from]}}}

      _free ->
        {:noreply, grant(locks, service, [from])}
    end
  end

  @impl true
  def handle_cast({:release, service, pid}, locks) do
    case locks do
      %{^service => {^pid, monitor, waiting}} ->
        Process.demonitor(monitor, [:flush])
        {:noreply, grant(locks, service, waiting)}

      _other ->
        {:noreply, locks}
    end
  end

  @impl true
  def handle_info({{:lock, service}, monitor, :process, _pid, _reason}, locks) do
    case locks do
      %{^service => {_gone, ^monitor, waiting}} ->
        holder_killed().(service)
        {:noreply, grant(locks, service, waiting)}

      _other ->
        {:noreply, locks}
    end
  end

  def handle_info(_other, locks), do: {:noreply, locks}

  defp grant(locks, service, []) do
    :ets.delete(@table, service)
    Map.delete(locks, service)
  end

  # One that has died while it waited releases its lock at once: its monitor fires.
  defp grant(locks, service, [{pid, _tag} = next | waiting]) do
    :ets.insert(@table, {service, pid})
    {service, lock} = monitor_holder(service, pid, waiting)
    GenServer.reply(next, :ok)
    Map.put(locks, service, lock)
  end

  defp monitor_holder(service, pid, waiting),
    do: {service, {pid, Process.monitor(pid, tag: {:lock, service}), waiting}}
end
