defmodule PhoenixGenApi.Decisions.Store do
  @moduledoc false
  # The decisions that are known. The table belongs to the supervisor: a crash loses none.
  #
  # Rows: {key, decision}              what holds on all gateways
  #       {{:here, key}, decision}     what holds on this one instead
  #       {{:ended, key}, stamp}       a drain whose node has gone down: it is not told any more
  #       {:clock, number}             of the latest stamp

  alias PhoenixGenApi.OwnedTable

  @table __MODULE__

  # Decisions that say "as usual" are remembered, so that no gateway brings back what they ended.
  @max_decisions 10_000

  @type key ::
          {:function, service :: String.t(), request_type :: String.t(), version :: String.t()}
          | {:node, node()}
          | :limits
  @type value :: term()
  @type stamp :: {pos_integer(), node()}
  @type decision :: %{value: value(), stamp: stamp(), at: milliseconds :: integer()}
  @type row :: {key(), decision()}

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, read_concurrency: true], fn -> [{:clock, 0}] end)

  @doc "Whether that is a decision."
  @spec row?(term()) :: boolean()
  def row?({key, %{value: value, stamp: {number, gateway}, at: at}})
      when is_integer(number) and number > 0 and is_atom(gateway) and is_integer(at),
      do: known?(key, value)

  def row?(_other), do: false

  defp known?({:function, service, type, version}, value)
       when is_binary(service) and is_binary(type) and is_binary(version),
       do: value in [:disable, :enable]

  defp known?({:node, node}, value) when is_atom(node), do: value in [:drain, :undrain]
  defp known?(:limits, :configured), do: true
  defp known?(:limits, {:limits, %{enabled: _, global: _, api: _}, %{}}), do: true
  defp known?(_key, _value), do: false

  @doc "What holds on this gateway, and for whom it was decided."
  @spec all() :: [{:all | :here, row()}]
  def all do
    here = for [key, decision] <- :ets.match(@table, {{:here, :"$1"}, :"$2"}), do: {key, decision}
    instead = Map.new(here)

    Enum.map(here, &{:here, &1}) ++
      for({key, _} = row <- told(), not is_map_key(instead, key), do: {:all, row})
  end

  @doc "What other gateways are told."
  @spec told() :: [row()]
  def told do
    ended = Map.new(:ets.match(@table, {{:ended, :"$1"}, :"$2"}), &List.to_tuple/1)
    for {key, %{stamp: stamp}} = row <- shared(), ended[key] != stamp, do: row
  end

  @doc "A short name for it: gateways that have the same know the same."
  @spec summary() :: binary()
  def summary, do: :erlang.md5(:erlang.term_to_binary(Enum.sort(told())))

  @doc "What holds on all gateways."
  @spec shared(key()) :: decision() | nil
  def shared(key) do
    case :ets.lookup(@table, key) do
      [{_key, decision}] -> decision
      [] -> nil
    end
  end

  @doc "Notes what this gateway has decided. From the server."
  @spec note(key(), value(), boolean()) :: row()
  def note(key, value, local?) do
    number = if local?, do: 0, else: :ets.update_counter(@table, :clock, 1)
    decision = %{value: value, stamp: {number, node()}, at: System.system_time(:millisecond)}
    if local?, do: :ets.insert(@table, {{:here, key}, decision}), else: share(key, decision)
    {key, decision}
  end

  @doc "Notes what another gateway has decided, if that is the last word. From the server."
  @spec take(row()) :: boolean()
  def take({key, %{stamp: {number, _node} = stamp} = decision}) do
    known = shared(key)
    last? = known == nil or known.stamp < stamp

    if last? do
      :ets.insert(@table, {:clock, max(number, :ets.lookup_element(@table, :clock, 2))})
      share(key, decision)
    end

    last?
  end

  @doc "Notes that a node has gone down, which ends its drain. From the server."
  @spec down(node()) :: true
  def down(node) do
    key = {:node, node}
    :ets.delete(@table, {:here, key})
    with %{stamp: stamp} <- shared(key), do: :ets.insert(@table, {{:ended, key}, stamp})
    true
  end

  defp share(key, decision) do
    :ets.insert(@table, {key, decision})
    :ets.delete(@table, {:here, key})
    :ets.delete(@table, {:ended, key})
    if :ets.info(@table, :size) > @max_decisions, do: forget_oldest()
  end

  defp shared,
    do: :ets.select(@table, [{{:"$1", %{value: :_}}, [], [:"$_"]}]) |> Enum.reject(&here?/1)

  defp here?({{:here, _key}, _decision}), do: true
  defp here?(_row), do: false

  defp forget_oldest do
    usual =
      for {key, %{value: value} = d} <- shared(), value in [:enable, :undrain], do: {d.stamp, key}

    for {_stamp, key} <- usual |> Enum.sort() |> Enum.take(div(@max_decisions, 10)) do
      :ets.delete(@table, key)
      :ets.delete(@table, {:ended, key})
    end
  end
end
