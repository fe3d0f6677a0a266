defmodule PhoenixGenApi.ServiceNodes do
  @moduledoc false
  # Which services have a node: says so when one gets its first or loses its last.
  #
  # The nodes of a service are those that its enabled functions list. One that is connected is there. A
  # service whose nodes have never been contacted is taken to have one until nobody can connect them. A
  # service with functions of the gateway itself, or with nodes that a function finds, is not watched. Of a
  # service that its nodes offer, what watches the offers says so, see `offered/3`.
  #
  # Rows: {service, state, nodes}, where the nodes of an offered service are `:offered`. The table belongs to the supervisor: a crash here is no news.
  use GenServer

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigDb.Changes
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.RPC.Connection
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Telemetry

  require Log

  @table __MODULE__
  @tick_ms 1_000
  # Nodes that a line names.
  @named 5

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, read_concurrency: true])

  @doc "The services that have functions but no node."
  @spec without() :: [String.t()]
  def without, do: Enum.sort(:ets.select(@table, [{{:"$1", :down, :_}, [], [:"$1"]}]))

  @doc "The first of these nodes offers the service, or the last one does no longer; `:forgotten` ends that."
  @spec offered(String.t(), :up | :down | :forgotten, [node()]) :: :ok
  def offered(service, :forgotten, _nodes) do
    :ets.delete_object(@table, {service, :down, :offered})
    Changes.mark(service)
  end

  def offered(service, state, nodes) do
    :ets.insert(@table, {service, state, :offered})
    emit(state, service, nodes)

    {shown, more} = Enum.split(nodes, @named)
    names = Enum.join(shown, ", ") <> if(more == [], do: "", else: " and #{length(more)} more")

    case state do
      :up ->
        Log.info("service #{SafeInspect.name(service)} has its first node: #{names}")

      :down ->
        Log.warning("service #{SafeInspect.name(service)} has lost its last node: #{names}")
    end
  end

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  # The state is why nodes were lost.
  @impl true
  def init(_opts) do
    :ok = :net_kernel.monitor_nodes(true, %{node_type: :all, nodedown_reason: true})
    Changes.mark(:all)
    {:ok, %{}, {:continue, :look}}
  end

  @impl true
  def handle_continue(:look, reasons) do
    Process.send_after(self(), :tick, @tick_ms)
    reasons = losses(reasons)
    changed = read_changes()

    # A node that cannot be connected is noticed by who calls it.
    for {service, state, nodes} <- rows(),
        state != :up or service in changed,
        do: judge(service, state, nodes, reasons)

    {:noreply, reasons}
  end

  @impl true
  def handle_info(:tick, reasons), do: {:noreply, reasons, {:continue, :look}}

  def handle_info({:nodeup, node, _info}, reasons) do
    reasons = Map.delete(reasons, node)
    judge_all(node, reasons)
    {:noreply, reasons}
  end

  def handle_info({:nodedown, node, info}, reasons) do
    read_changes()
    listed? = Enum.any?(rows(), fn {_service, _state, nodes} -> node in nodes end)
    reasons = if listed?, do: Map.put(reasons, node, info[:nodedown_reason]), else: reasons
    judge_all(node, reasons)
    {:noreply, reasons}
  end

  def handle_info(_other, reasons), do: {:noreply, reasons}

  # A node is gone before the message that says why has had its turn.
  defp losses(reasons) do
    receive do
      {:nodedown, _node, _info} = loss ->
        {:noreply, reasons} = handle_info(loss, reasons)
        losses(reasons)
    after
      0 -> reasons
    end
  end

  # Those that are looked after here.
  defp rows, do: :ets.select(@table, [{{:_, :_, :"$1"}, [{:"=/=", :"$1", :offered}], [:"$_"]}])
  defp offered?(service), do: :ets.match(@table, {service, :_, :offered}) != []

  defp changed(services) do
    all =
      if :all in services do
        known = for {service, _state, _nodes} <- rows(), do: service
        Enum.uniq(known ++ ConfigDb.get_all_services())
      else
        services
      end

    Enum.reject(all, &offered?/1)
  end

  defp read(service) do
    case nodes(service) do
      nodes when nodes in [[], :unknown] ->
        :ets.delete(@table, service)

      nodes ->
        # Of other nodes than before nothing is known, unless one of them is there.
        case :ets.lookup(@table, service) do
          [{_service, _state, ^nodes}] -> :ok
          [{_service, :up, before}] -> :ets.insert(@table, {service, kept(nodes, before), nodes})
          _down_or_new -> :ets.insert(@table, {service, :unknown, nodes})
        end
    end
  end

  # Those that were there may be lost by now, which is for who judges to say.
  defp kept(nodes, before),
    do: if(Enum.any?(nodes, &(&1 in before or there?(&1))), do: :up, else: :unknown)

  defp nodes(service) do
    lists =
      for {^service, types} <- ConfigDb.get_functions_from_services(service),
          {type, versions} <- types,
          version <- versions,
          {:ok, config} <- [ConfigDb.get(service, type, version)],
          uniq: true,
          do: config.nodes

    if Enum.all?(lists, &is_list/1), do: lists |> Enum.concat() |> Enum.uniq(), else: :unknown
  end

  defp read_changes do
    changed = changed(Changes.take())
    Enum.each(changed, &read/1)
    changed
  end

  defp judge_all(node, reasons) do
    read_changes()

    for {service, state, nodes} <- rows(),
        node in nodes,
        do: judge(service, state, nodes, reasons)
  end

  defp judge(service, before, nodes, reasons) do
    state = state(before, nodes)

    if state != before do
      :ets.update_element(@table, service, {2, state})
      announce(service, before, state, nodes, reasons)
    end
  end

  defp state(before, nodes) do
    cond do
      Enum.any?(nodes, &there?/1) -> :up
      before != :unknown or Enum.all?(nodes, &(NodeSelector.node_status(&1) == :down)) -> :down
      true -> :unknown
    end
  end

  defp announce(service, _before, :up, nodes, _reasons) do
    there = Enum.filter(nodes, &there?/1)
    emit(:up, service, there)
    Log.info("service #{SafeInspect.name(service)} has its first node: #{Enum.join(there, ", ")}")
  end

  defp announce(service, before, :down, nodes, reasons) do
    emit(:down, service, nodes)
    lost? = before == :up

    # Why not is a question to other hosts.
    spawn(fn ->
      said = if lost?, do: "has lost its last node", else: "has no node that can be reached"
      whys = for node <- Enum.take(nodes, @named), do: "#{node} #{why(node, reasons)}"
      more = if length(nodes) > @named, do: ["and #{length(nodes) - @named} more"], else: []

      Log.warning(
        "service #{SafeInspect.name(service)} #{said}: " <> Enum.join(whys ++ more, "; ")
      )
    end)
  end

  defp there?(node), do: node == node() or Connection.connected?(node)

  defp emit(event, service, nodes) do
    metadata = %{service: service, nodes: nodes}
    Telemetry.execute([:phoenix_gen_api, :service, event], %{}, metadata)
  end

  defp why(node, reasons) do
    case reasons do
      %{^node => reason} when is_atom(reason) -> "(#{reason})"
      %{^node => reason} -> "(#{SafeInspect.inspect(reason, 100)})"
      _never_connected -> "(#{Connection.diagnose(node)})"
    end
  end
end
