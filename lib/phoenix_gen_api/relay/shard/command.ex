defmodule PhoenixGenApi.Relay.Shard.Command do
  @moduledoc false
  # What the oldest gateway makes of a change: its result, and what the others have to copy.

  alias PhoenixGenApi.Native

  @type op ::
          {:create, String.t(), atom(), String.t(), {integer(), integer()}}
          | {:delete, String.t()}
          | {:join | :leave | :depart, String.t(), String.t()}
          | {:depart, String.t(), String.t(), boolean()}
          | {:change, String.t(), atom(), String.t(), String.t()}
  @type effect ::
          {:put, String.t(), Native.relay_origin(), Native.relay_record(), boolean()}
          | {:deleted, String.t(), integer()}

  @already_done %{
    accept: :user_not_pending,
    unmute: :not_muted,
    kick: :user_not_in_group,
    ban: :already_banned,
    unban: :not_banned,
    promote: :already_admin
  }

  @spec execute(reference(), op()) :: {term(), [effect()]}
  def execute(relay, {:create, group, type, user, created}),
    do: put(group, Native.relay_order_create(relay, group, type, user, created), false)

  def execute(relay, {:delete, group}) do
    case Native.relay_order_delete(relay, group) do
      members when is_integer(members) -> {:ok, [{:deleted, group, now()}]}
      reason -> {{:error, reason}, []}
    end
  end

  def execute(relay, {:join, group, user}) do
    case Native.relay_order_join(relay, group, user, now()) do
      {status, origin, record} -> {{:ok, status}, [{:put, group, origin, record, false}]}
      reason -> {{:error, reason}, []}
    end
  end

  def execute(relay, {:leave, group, user}),
    do: put(group, Native.relay_order_leave(relay, group, user, now()), true)

  def execute(relay, {:change, group, verb, actor, target}) do
    outcome = Native.relay_order_change(relay, group, verb, actor, target, now())
    put(group, outcome, verb in [:kick, :ban])
  end

  def execute(relay, {:depart, group, user}) do
    # Whether somebody else of his devices came in the meantime or not: the one that left, has.
    {_result, effects} = execute(relay, {:depart, group, user, false})
    {{:ok, effects != []}, effects}
  end

  def execute(relay, {:depart, group, user, died?}),
    do: put(group, Native.relay_order_depart(relay, group, user, died?, now()), false)

  @doc "Whether what a change was to bring about is so, by the error that it is answered with."
  @spec already_done?(reference(), op(), term()) :: boolean()
  def already_done?(_relay, {:leave, _, _}, {:error, reason}), do: reason == :user_not_in_group
  def already_done?(_relay, {:delete, _}, {:error, reason}), do: reason == :not_found

  def already_done?(_relay, {:change, _, verb, _, _}, {:error, reason}),
    do: reason != nil and reason == @already_done[verb]

  # By this very change, and not by somebody else's.
  def already_done?(relay, {:create, group, _type, user, {ms, by}}, {:error, :already_exists}),
    do: match?({{_type, ^ms, ^by, _changed}, _}, Native.relay_record(relay, group, user))

  def already_done?(_relay, _op, _result), do: false

  @doc "Group and user of whom devices come or go with it."
  @spec member(op()) :: {String.t(), String.t()} | nil
  def member({:create, group, _type, user, _created}), do: {group, user}
  def member({:join, group, user}), do: {group, user}
  def member({:leave, group, user}), do: {group, user}

  def member({:change, group, verb, _actor, target}) when verb in [:kick, :ban],
    do: {group, target}

  def member(_op), do: nil

  @doc "Whether a device follows."
  @spec attaches_device?(op(), term()) :: boolean()
  def attaches_device?({:create, _, _, _, _}, :ok), do: true
  def attaches_device?({:join, _, _}, {:ok, _status}), do: true
  def attaches_device?(_op, _result), do: false

  defp put(group, {origin, record}, evict?), do: {:ok, [{:put, group, origin, record, evict?}]}
  defp put(_group, reason, _evict?), do: {{:error, reason}, []}

  defp now, do: System.system_time(:millisecond)
end
