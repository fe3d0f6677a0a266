defmodule PhoenixGenApi.ConfigSync.ServiceLock do
  @moduledoc false
  # One writer of a service's functions at a time: pulls, pushes and deletions of the same
  # service follow each other, those of different services know nothing of each other.
  #
  # The work is done by the process that has the turn; only the turns themselves pass through
  # this one, which is registered as `PhoenixGenApi.ConfigReceiver`. Who has a turn is also in
  # a table of the supervisor, so that a crash here gives no turn away twice.
  use GenServer

  alias PhoenixGenApi.ConfigSync.ServiceLock.Recovery

  @table __MODULE__
  @server PhoenixGenApi.ConfigReceiver

  # How long to wait for a new server process, in steps: a restart takes far less.
  @restart_step_ms 10
  @restart_steps 100

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new do
    if :ets.whereis(@table) == :undefined, do: :ets.new(@table, [:named_table, :set, :public])
    :ok
  end

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: @server)

  @doc """
  Runs `fun` in the calling process when it is the service's turn, and returns what it returns.

  Turns are given in the order they were asked for. A process that has a service's turn must
  not ask for it again.
  """
  @spec run(String.t(), (-> result)) :: result | {:error, :not_running} when result: term()
  def run(service, fun) do
    with :ok <- take(service, @restart_steps) do
      try do
        fun.()
      after
        # The row goes first: a server that starts in between must not wait for this process.
        :ets.delete_object(@table, {service, self()})
        GenServer.cast(@server, {:release, service, self()})
      end
    end
  end

  defp take(service, steps) do
    GenServer.call(@server, {:take, service}, :infinity)
  catch
    :exit, _reason ->
      if steps > 0 and :ets.whereis(@table) != :undefined do
        receive do
        after
          @restart_step_ms -> take(service, steps - 1)
        end
      else
        {:error, :not_running}
      end
  end

  @impl true
  def init(_opts) do
    {:ok, for({service, pid} <- :ets.tab2list(@table), into: %{}, do: hold(service, pid, []))}
  end

  @impl true
  def handle_call({:take, service}, {caller, _tag} = from, turns) do
    case turns do
      # It was given by a server that was killed before it could say so.
      %{^service => {^caller, _monitor, _waiting}} ->
        {:reply, :ok, turns}

      %{^service => {pid, monitor, waiting}} ->
        {:noreply, %{turns | service => {pid, monitor, waiting ++ [from]}}}

      _free ->
        {:noreply, give(turns, service, [from])}
    end
  end

  @impl true
  def handle_cast({:release, service, pid}, turns) do
    case turns do
      %{^service => {^pid, monitor, waiting}} ->
        Process.demonitor(monitor, [:flush])
        {:noreply, give(turns, service, waiting)}

      _other ->
        {:noreply, turns}
    end
  end

  @impl true
  def handle_info({{:turn, service}, monitor, :process, _pid, _reason}, turns) do
    case turns do
      %{^service => {_gone, ^monitor, waiting}} ->
        Recovery.mend_later(service)
        {:noreply, give(turns, service, waiting)}

      _other ->
        {:noreply, turns}
    end
  end

  def handle_info(_other, turns), do: {:noreply, turns}

  defp give(turns, service, []) do
    :ets.delete(@table, service)
    Map.delete(turns, service)
  end

  # One that has died while it waited gives its turn back at once: its monitor fires.
  defp give(turns, service, [{pid, _tag} = next | waiting]) do
    :ets.insert(@table, {service, pid})
    {service, turn} = hold(service, pid, waiting)
    GenServer.reply(next, :ok)
    Map.put(turns, service, turn)
  end

  defp hold(service, pid, waiting),
    do: {service, {pid, Process.monitor(pid, tag: {:turn, service}), waiting}}
end
