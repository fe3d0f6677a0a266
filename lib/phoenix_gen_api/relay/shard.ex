defmodule PhoenixGenApi.Relay.Shard do
  @moduledoc false
  # The shards of the groups, as the rest of the relay speaks to them: which of them a group belongs
  # to, under what names they run on every gateway, and what they are asked and told. What they do
  # is in `PhoenixGenApi.Relay.Shard.Server`.
  use PhoenixGenApi.Relay.Partitions, count: 8

  @timeout_ms 1_000

  @doc "Has a change made on all gateways. `joining` is the device that comes with it."
  @spec change(tuple(), tuple() | nil) :: term()
  def change(op, joining \\ nil) do
    GenServer.call(name(number(elem(op, 1))), {:change, op, joining}, :infinity)
  catch
    :exit, {_reason, {GenServer, :call, _}} -> {:error, :not_running}
  end

  @doc "The last device of a user here has ended; `:down_here` if other gateways have some."
  @spec last_device_gone(String.t(), String.t(), :down | :down_here) :: :ok
  def last_device_gone(group, user, why),
    do: GenServer.cast(name(number(group)), {:last_device_gone, group, user, why})

  @doc "Whether all other gateways have told all shards of this one what they have."
  @spec caught_up?() :: boolean()
  def caught_up? do
    Enum.all?(names(), &GenServer.call(&1, :caught_up?, @timeout_ms))
  catch
    :exit, _busy_or_dead -> false
  end

  @doc "Tells all shards of this gateway."
  @spec tell_all(term()) :: :ok
  def tell_all(event), do: Enum.each(names(), &GenServer.cast(&1, event))

  @doc "Whether that group is of that shard."
  @spec owns?(String.t(), non_neg_integer()) :: boolean()
  def owns?(group, number), do: number(group) == number
end
