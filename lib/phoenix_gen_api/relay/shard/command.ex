defmodule PhoenixGenApi.Relay.Shard.Command do
  @moduledoc false
  # What the oldest gateway makes of a change: its result, and what the others have to copy.

  alias PhoenixGenApi.Native

  @type op ::
          {:create, String.t(), atom(), String.t(), {integer(), integer()}}
          | {:ensure, String.t(), atom(), [String.t()], {integer(), integer()}}
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

  # No user has that name.
  @nobody ""

  @spec execute(reference(), op()) :: {term(), [effect()]}
  def execute(relay, {:delete, group}) do
    case Native.relay_decide_delete(relay, group) do
      members when is_integer(members) -> {:ok, [{:deleted, group, now()}]}
      reason -> {{:error, reason}, []}
    end
  end

  def execute(relay, {:ensure, group, type, admins, created}) do
    case Native.relay_ensure(relay, group, type, admins, created, true) do
      :ok -> {:ok, for(user <- [@nobody | admins], do: known(relay, group, user))}
      reason -> {{:error, reason}, []}
    end
  end

  def execute(relay, {:depart, group, user}) do
    # Whether another one of their devices came in the meantime or not: the one that left, has.
    {_result, effects} = execute(relay, {:depart, group, user, false})
    {{:ok, effects != []}, effects}
  end

  def execute(relay, op) do
    case Native.relay_decide(relay, op, now()) do
      {status, origin, record} ->
        {result(op, status), [{:put, elem(op, 1), origin, record, evicts?(op)}]}

      reason ->
        {{:error, reason}, []}
    end
  end

  # The record of somebody who is not known brings the group and nothing else.
  defp known(relay, group, user) do
    {_status, origin, record} = Native.relay_record(relay, group, user)
    {:put, group, origin, record, false}
  end

  defp result({:join, _group, _user}, status), do: {:ok, status}
  defp result(_op, _status), do: :ok

  defp evicts?({:leave, _group, _user}), do: true
  defp evicts?({:change, _group, verb, _actor, _target}), do: verb in [:kick, :ban]
  defp evicts?(_op), do: false

  @doc "Whether what a change was to bring about is so, by the error that it is answered with."
  @spec already_done?(reference(), op(), term()) :: boolean()
  def already_done?(_relay, {:leave, _, _}, {:error, reason}), do: reason == :user_not_in_group
  def already_done?(_relay, {:delete, _}, {:error, reason}), do: reason == :not_found

  def already_done?(_relay, {:change, _, verb, _, _}, {:error, reason}),
    do: reason != nil and reason == @already_done[verb]

  # By this very change, and not by somebody else's.
  def already_done?(relay, {:create, group, _type, user, {ms, by}}, {:error, :already_exists}),
    do: match?({_, {_type, ^ms, ^by, _changed}, _}, Native.relay_record(relay, group, user))

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

  defp now, do: System.system_time(:millisecond)
end
