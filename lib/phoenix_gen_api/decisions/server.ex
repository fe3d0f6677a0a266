defmodule PhoenixGenApi.Decisions.Server do
  @moduledoc false
  # Makes decisions, one at a time, tells the other gateways, and does what those have decided.
  #
  # Gateways are sent messages, and nobody waits for any of them. What one has missed, because its
  # connection was full or it had not heard of this one yet, it gets when it joins or with the next
  # round.
  use GenServer

  alias PhoenixGenApi.Cluster
  alias PhoenixGenApi.Decisions.Store
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.SafeInspect

  require Log

  # What gateways send each other. Another one is not understood, and that is logged once for each
  # time that the gateway joins.
  @protocol 1
  @round_ms 30_000

  @doc "`effects` are the modules that do what was decided, by the kind of its key."
  @spec start_link(%{atom() => module()}) :: GenServer.on_start()
  def start_link(effects), do: GenServer.start_link(__MODULE__, effects, name: __MODULE__)

  @impl true
  def init(effects) do
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)
    for gateway <- Cluster.watch(), do: tell(gateway, {:all, Store.told()})
    schedule()
    {:ok, %{effects: effects, strangers: MapSet.new()}}
  end

  @impl true
  def handle_call({:decide, key, change, local?}, _from, state) do
    case effect(state.effects, key).decided(key, change, :here) do
      {:ok, value} ->
        row = Store.note(key, value, local?)
        if not local?, do: for(gateway <- Cluster.gateways(), do: tell(gateway, {:some, [row]}))
        {:reply, :ok, state}

      {:error, _reason} = error ->
        {:reply, error, state}
    end
  end

  @impl true
  def handle_info({__MODULE__, @protocol, from, message}, state) do
    if from in Cluster.gateways(), do: told(message, from, state.effects)
    {:noreply, state}
  end

  def handle_info({__MODULE__, _another_protocol, from, _message}, state),
    do: {:noreply, not_understood(from, state)}

  def handle_info({Cluster, :joined, gateway}, state) do
    tell(gateway, {:all, Store.told()})
    {:noreply, state}
  end

  def handle_info({Cluster, :left, gateway}, state),
    do: {:noreply, %{state | strangers: MapSet.delete(state.strangers, gateway)}}

  def handle_info({:nodedown, node, _info}, state) do
    Store.down(node)
    {:noreply, state}
  end

  def handle_info(:round, state) do
    schedule()

    with [_ | _] = gateways <- Cluster.gateways(),
         do: gateways |> Enum.random() |> tell({:summary, Store.summary()})

    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp not_understood(gateway, %{strangers: strangers} = state) do
    if gateway in strangers or gateway not in Cluster.gateways() do
      state
    else
      Log.warning(
        "gateway #{gateway} runs another version of the library, which exchanges decisions " <>
          "otherwise: what operators decide on one of the two has to be decided on the other as well"
      )

      %{state | strangers: MapSet.put(strangers, gateway)}
    end
  end

  defp told({:summary, summary}, from, _effects) do
    if summary != Store.summary(), do: tell(from, {:all, Store.told()})
  end

  defp told({:all, rows}, from, effects) when is_list(rows) do
    told({:some, rows}, from, effects)
    theirs = for {key, %{stamp: stamp}} <- rows, into: %{}, do: {key, stamp}

    case for({key, ours} = row <- Store.told(), newer?(ours, theirs[key]), do: row) do
      [] -> :ok
      rows -> tell(from, {:some, rows})
    end
  end

  # Of another version of the library may come what this one does not know.
  defp told({:some, rows}, _from, effects) when is_list(rows) do
    for row <- rows, Store.row?(row), Store.take(row), do: apply_decision(row, effects)
  end

  defp told(_other, _from, _effects), do: :ok

  defp newer?(_ours, nil), do: true
  defp newer?(ours, theirs), do: ours.stamp > theirs

  defp apply_decision({key, %{value: value, stamp: {_number, gateway}}} = row, effects) do
    case effect(effects, key).decided(key, value, gateway) do
      {:ok, _value} ->
        Log.info("decided on #{gateway}: #{sentence(row)}")

      {:kept, why} ->
        Log.warning("decided on #{gateway}, but not here: #{sentence(row)}: #{why}")

      {:error, reason} ->
        Log.warning("decided on #{gateway}: #{sentence(row)}: " <> inspected(reason))
    end
  end

  @doc "What was decided, in words."
  @spec sentence(Store.row()) :: String.t()
  def sentence({{:function, service, type, version}, %{value: value}}),
    do: "#{value} #{Enum.map_join([service, type, version], " ", &SafeInspect.name/1)}"

  def sentence({{:node, node}, %{value: value}}), do: "#{value} #{SafeInspect.name("#{node}")}"
  def sentence({:limits, %{value: :configured}}), do: "the configured limits"

  def sentence({:limits, %{value: {:limits, settings, _replaced}}}),
    do: "#{length(settings.global)} global limits and #{length(settings.api)} limits of functions"

  defp inspected(reason), do: SafeInspect.inspect(reason, 200)

  defp effect(effects, key), do: Map.fetch!(effects, kind(key))

  defp kind(key) when is_tuple(key), do: elem(key, 0)
  defp kind(key), do: key

  # A full connection makes nobody wait: there will be another round.
  defp tell(gateway, message) do
    message = {__MODULE__, @protocol, node(), message}
    :erlang.send({__MODULE__, gateway}, message, [:noconnect, :nosuspend])
  end

  defp schedule, do: Process.send_after(self(), :round, @round_ms)
end
