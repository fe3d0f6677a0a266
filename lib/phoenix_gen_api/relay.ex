defmodule PhoenixGenApi.Relay do
  @moduledoc """
  Groups of users whose channels get each other's messages: chat rooms, presence, live feeds.

      :ok = Relay.create_group("lobby", :public, "root", self())

      def join("chat:" <> room, _params, socket) do
        case PhoenixGenApi.Relay.join_group(room, socket.assigns.user_id, self()) do
          {:ok, status} -> {:ok, %{status: status}, socket}
          {:error, reason} -> {:error, %{reason: to_string(reason)}}
        end
      end

  A message goes to every device (process) of every active or muted member, on all connected
  gateways, as `{:relay_message, response}`. The clauses of `use PhoenixGenApi` push it to the
  client. Unless the channel has a clause of its own for it, it goes past the channel, straight to the
  client's transport, written as JSON once for all members. See the [guide](relay.md).

  ## Types of groups

  | Action | `:public` | `:private` | `:strict_private` |
  |---|---|---|---|
  | Join | active | pending | pending |
  | Accept | nobody is pending | any active member | active admin |
  | Send | active | active | active |
  | Receive | active | active | active, muted |
  | Mute, unmute | – | – | active admin |
  | Kick, ban, unban, promote, demote | active admin | active admin | active admin |

  ## Functions and errors

  Ids of groups and users are non-empty strings of at most 1,024 bytes. Anything else gives
  `{:error, :invalid_argument}`, where no gateway runs `{:error, :not_running}`. Other errors
  are tested in the order listed.

  | Function | Success | Errors |
  |---|---|---|
  | `create_group/4` | `:ok` | `:invalid_group_type`, `:already_exists`, `:too_many_groups` |
  | `delete_group/1` | `:ok` | `:not_found` |
  | `get_group_info/1` | `{:ok, info}` | `:not_found` |
  | `ensure_group/3` | `:ok` | `:invalid_group_type`, `:already_exists` (with another type), `:too_many_groups` |
  | `join_group/4` | `{:ok, :active \\| :pending \\| :muted}` | `:not_found`, `:already_member`, `:too_many_devices`, `:banned`, `:group_full`, `:too_many_groups` |
  | `leave_group/2`, `leave_group/3` | `:ok` | `:not_found`, `:user_not_in_group` |
  | `accept_member/3` | `:ok` | `:not_found`, `:user_not_in_group`, `:not_admin`, `:user_not_pending` |
  | `mute_member/3` | `:ok` | `:not_found`, `:not_strict_private`, `:not_admin`, `:user_not_in_group`, `:cannot_mute` |
  | `unmute_member/3` | `:ok` | the same, with `:not_muted` for the last |
  | `kick_member/3` | `:ok` | `:not_found`, `:not_admin`, `:user_not_in_group`, `:cannot_kick` |
  | `ban_member/3` | `:ok` | `:not_found`, `:not_admin`, `:cannot_ban`, `:already_banned`, `:group_full`, `:too_many_groups` |
  | `unban_member/3` | `:ok` | `:not_found`, `:not_admin`, `:not_banned` |
  | `promote_member/3` | `:ok` | `:not_found`, `:not_admin`, `:user_not_in_group`, `:cannot_promote`, `:already_admin` |
  | `demote_member/3` | `:ok` | `:not_found`, `:not_admin`, `:user_not_in_group`, `:cannot_demote`, `:last_admin` |
  | `send_to_group/3` | `{:ok, recipients_count}` | `:not_found`, `:message_too_large`, `:invalid_message` (it cannot be written as JSON, or has an integer of more than `max_digits` digits) |

  ## Members and devices

  A user may join a group with several processes, up to 1,000 on each gateway. When a process
  ends its device is gone; with the last one the user leaves. `:muted`, a ban and the admin role
  are remembered until the group is deleted; an accepted ordinary member of a private group starts
  over as pending, except within `rejoin_grace_ms` after the end of their last process. Groups stay
  when they are empty.

  A process that joins a group as two users gets its messages twice.
  """

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.{Events, Fastlane, Members, Peers, Publish, Shard, Tombstones}
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}

  @type group_id :: String.t()
  @type user_id :: String.t()
  @type group_type :: :public | :private | :strict_private
  @type status :: :active | :pending | :muted
  @type member :: %{roles: MapSet.t(:admin | :member), status: status(), joined_at: DateTime.t()}
  @type info :: %{
          group_id: group_id(),
          group_type: group_type(),
          members: %{user_id() => member()}
        }
  @type refused :: {:error, atom()}

  @max_id_bytes 1_024
  # Entered on a normal scheduler.
  @max_admins 100

  defguardp is_id(id) when is_binary(id) and id != "" and byte_size(id) <= @max_id_bytes

  defguardp is_elsewhere(pid) when is_pid(pid) and node(pid) != node()

  @doc "Creates a group. Its creator is active and an admin, with `pid` as their device."
  @spec create_group(group_id(), group_type(), user_id(), pid()) :: :ok | refused()
  def create_group(id, type, user, pid) when is_elsewhere(pid),
    do: call_owner_node(pid, :create_group, [id, type, user, pid])

  def create_group(id, type, user, pid) do
    with :ok <- valid([id, user], pid),
         :ok <- group_type(type),
         {:ok, relay} <- handle() do
      joining = Fastlane.joining(pid)
      created = created()
      change = {:create, id, type, user, created}

      with :ok <-
             guard_stale_pid(pid, fn ->
               Native.relay_create(relay, id, type, user, joining, created)
             end)
             |> finish_or_coordinate(fn -> Shard.change(change, joining) end) do
        Tombstones.delete(id)
        Events.joined(id, user, :active)
      end
    end
  end

  @doc """
  Creates a group without members, unless there is one: `:ok` if it is of that type then, whoever
  created it.

      :ok = Relay.ensure_group("lobby", :public)
      :ok = Relay.ensure_group("board", :private, admins: ["root"])

  For the start of an application. `admins:` are users who are admins as soon as they join, 100 at most;
  a group that is not public needs at least one, and one that is there already stays as it is. Without
  any the answer is `{:error, :invalid_argument}`. For each admin the group counts against
  `max_groups_per_user`.
  """
  @spec ensure_group(group_id(), group_type(), admins: [user_id()]) :: :ok | refused()
  def ensure_group(id, type, opts \\ []) do
    admins = Keyword.validate!(opts, admins: [])[:admins]

    with :ok <- group_type(type),
         :ok <- valid_admins(type, admins),
         :ok <- valid([id | admins]),
         {:ok, relay} <- handle() do
      created = created()

      with :ok <-
             Native.relay_ensure(relay, id, type, admins, created, false)
             |> finish_or_coordinate(fn -> Shard.change({:ensure, id, type, admins, created}) end),
           do: Tombstones.delete(id)
    end
  end

  defp valid_admins(type, admins) do
    if is_list(admins) and not List.improper?(admins) and length(admins) <= @max_admins and
         (type == :public or admins != []),
       do: :ok,
       else: {:error, :invalid_argument}
  end

  @doc "Deletes a group, with everything that it remembers."
  @spec delete_group(group_id()) :: :ok | refused()
  def delete_group(id) do
    with :ok <- valid([id]), {:ok, relay} <- handle() do
      # Before whatever somebody creates in its place.
      at = now() - 1

      case Native.relay_delete(relay, id) do
        # For a gateway that is out of reach and has it still.
        members when is_integer(members) -> Tombstones.put(id, at)
        reason -> finish_or_coordinate(reason, fn -> Shard.change({:delete, id}) end)
      end
    end
  end

  @doc """
  The type of a group and who is in it. A large group is read a thousand members at a time, so
  a member who joins or leaves meanwhile may be listed or not.
  """
  @spec get_group_info(group_id()) :: {:ok, info()} | refused()
  def get_group_info(id) do
    with :ok <- valid([id]),
         {:ok, relay} <- handle(),
         {:ok, type, rows} <- Members.all(relay, id) do
      members = Map.new(rows, fn {user, member} -> {user, Map.delete(member, :devices)} end)
      {:ok, %{group_id: id, group_type: type, members: members}}
    end
  end

  @doc """
  Who is there: the members of a group as `t:member/0`, each with `devices`, the number of their
  processes on this gateway. Errors: `:not_found`.
  """
  @spec list_members(group_id()) :: {:ok, %{user_id() => map()}} | refused()
  def list_members(id) do
    with :ok <- valid([id]),
         {:ok, relay} <- handle(),
         {:ok, _type, rows} <- Members.all(relay, id) do
      {:ok, Map.new(rows)}
    end
  end

  @doc "The groups that a user is in, with their status in each; in no particular order."
  @spec list_groups_for_user(user_id()) :: {:ok, [{group_id(), status()}]} | refused()
  def list_groups_for_user(user) do
    with :ok <- valid([user]), {:ok, relay} <- handle() do
      {:ok, Native.relay_groups_of(relay, user)}
    end
  end

  @doc """
  Joins with one more device.

  A user who is in the group keeps status, role and `joined_at`. `:already_member` is for a
  process with which this user has joined already, `:too_many_devices` for one more than 1,000 of
  theirs on one gateway. Called in `join/3` of a channel with the fastlane, for its own process, messages
  will go past the channel.

  With `create: :public`, or another type, a group that is missing is created, as by
  `create_group/4`: whoever comes first is its admin. So the group counts against `max_groups_per_user`
  of theirs for as long as it exists, which bounds what clients can create.
  """
  @spec join_group(group_id(), user_id(), pid(), create: group_type()) ::
          {:ok, status()} | refused()
  def join_group(id, user, pid, opts \\ []) do
    case Keyword.validate!(opts, [:create])[:create] do
      nil -> join(id, user, pid)
      type -> with :ok <- group_type(type), do: join_or_create(id, type, user, pid)
    end
  end

  defp join_or_create(id, type, user, pid) do
    with {:error, :not_found} <- join(id, user, pid) do
      case create_group(id, type, user, pid) do
        :ok -> {:ok, :active}
        # Somebody else was first.
        {:error, :already_exists} -> join_or_create(id, type, user, pid)
        refused -> refused
      end
    end
  end

  defp join(id, user, pid) when is_elsewhere(pid),
    do: call_owner_node(pid, :join_group, [id, user, pid])

  defp join(id, user, pid) do
    with :ok <- valid([id, user], pid),
         {:ok, relay} <- handle(),
         joining = Fastlane.joining(pid),
         {:ok, status} <-
           guard_stale_pid(pid, fn -> Native.relay_join(relay, id, user, joining, now()) end)
           |> finish_or_coordinate(fn -> Shard.change({:join, id, user}, joining) end) do
      Events.joined(id, user, status)
      {:ok, status}
    end
  end

  @doc "Leaves with all devices."
  @spec leave_group(group_id(), user_id()) :: :ok | refused()
  def leave_group(id, user) do
    with :ok <- valid([id, user]),
         {:ok, relay} <- handle(),
         :ok <-
           Native.relay_leave(relay, id, user, now())
           |> finish_or_coordinate(fn -> Shard.change({:leave, id, user}) end) do
      Events.left(id, user, :left)
    end
  end

  @doc "Leaves with one device; with the last one the user is gone."
  @spec leave_group(group_id(), user_id(), pid()) :: :ok | refused()
  def leave_group(id, user, pid) when is_elsewhere(pid),
    do: call_owner_node(pid, :leave_group, [id, user, pid])

  def leave_group(id, user, pid) do
    with :ok <- valid([id, user], pid),
         {:ok, relay} <- handle(),
         {:ok, last?} <-
           guard_stale_pid(pid, fn -> Native.relay_leave_device(relay, id, user, pid, now()) end)
           |> finish_or_coordinate(fn -> Shard.change({:leave_device, id, user, pid}) end) do
      if last?, do: Events.left(id, user, :left), else: :ok
    end
  end

  @doc "Makes a pending member active."
  @spec accept_member(group_id(), user_id(), user_id()) :: :ok | refused()
  def accept_member(id, actor, target), do: change(id, :accept, actor, target)

  @doc "Takes the right to send from an active member of a strict private group."
  @spec mute_member(group_id(), user_id(), user_id()) :: :ok | refused()
  def mute_member(id, actor, target), do: change(id, :mute, actor, target)

  @doc "Gives the right to send back."
  @spec unmute_member(group_id(), user_id(), user_id()) :: :ok | refused()
  def unmute_member(id, actor, target), do: change(id, :unmute, actor, target)

  @doc """
  Takes a member out with all devices; they lose the admin role and may join again.
  `:cannot_kick` is for actors who name themselves: they can leave.
  """
  @spec kick_member(group_id(), user_id(), user_id()) :: :ok | refused()
  def kick_member(id, actor, target), do: change(id, :kick, actor, target)

  @doc """
  Takes a user out and keeps them out, also one who was never in. They lose the admin role.
  `:cannot_ban` is for actors who name themselves.
  """
  @spec ban_member(group_id(), user_id(), user_id()) :: :ok | refused()
  def ban_member(id, actor, target), do: change(id, :ban, actor, target)

  @doc "Lets a banned user join again. That they were muted is remembered."
  @spec unban_member(group_id(), user_id(), user_id()) :: :ok | refused()
  def unban_member(id, actor, target), do: change(id, :unban, actor, target)

  @doc "Gives the admin role to an active member; `:cannot_promote` is for pending and muted ones."
  @spec promote_member(group_id(), user_id(), user_id()) :: :ok | refused()
  def promote_member(id, actor, target), do: change(id, :promote, actor, target)

  @doc """
  Takes the admin role, also the actor's own. `:cannot_demote` is for those who have none, and
  the last admin, remembered ones included, keeps it: `:last_admin`.
  """
  @spec demote_member(group_id(), user_id(), user_id()) :: :ok | refused()
  def demote_member(id, actor, target), do: change(id, :demote, actor, target)

  @doc """
  Sends the message of a request to its group, and answers the request.

  For a function config with `nodes: :local, mfa: {PhoenixGenApi.Relay, :handle_relay, []}` and
  the arguments `"group_id"` (`:string`) and `"message"` (any type). The sender is
  `request.user_id`. The result is `%{"status" => "relayed", "recipients_count" => n}`, with n
  the active and muted members, sender included. The error texts, none of which can be retried
  except the last:

  `Group not found`, `Not a member of this group`, `Pending membership: wait for acceptance`,
  `You are muted and cannot send messages`, `argument validation failed` (no such arguments),
  `Message too large`, `Rate limit exceeded. Please retry after N seconds.`
  """
  @spec handle_relay(Request.t(), FunConfig.t() | nil) :: Response.t()
  def handle_relay(%Request{} = request, _config),
    do: request |> Request.complete() |> Publish.request()

  @doc """
  Sends a message in the name of `from`, who need not be a member: for trusted server code.
  Returns the number of active and muted members. Counts against no limit per second.
  """
  @spec send_to_group(group_id(), user_id(), term()) ::
          {:ok, non_neg_integer()} | refused()
  def send_to_group(id, from, message) do
    with :ok <- valid([id, from]), {:ok, relay} <- handle() do
      Publish.from_server(relay, id, from, message)
    end
  end

  @doc """
  What the relay holds on this gateway: `groups`, `members` (a user in two groups counts
  twice), `local_pids`, `gateways` (how many form the relay, this one included), and `users`
  and `memory_bytes` of the index.
  """
  @spec status() :: %{atom() => non_neg_integer()}
  def status do
    {groups, members, users, devices, bytes} = Native.relay_size(Gateway.handle!(:relay))

    %{
      groups: groups,
      members: members,
      local_pids: devices,
      gateways: 1 + length(Peers.current()),
      users: users,
      memory_bytes: bytes
    }
  end

  @doc false
  @spec new() :: reference()
  def new, do: Native.relay_new(bounds())

  @doc false
  @spec reload() :: :ok
  def reload do
    with {:ok, relay} <- handle() do
      by_group = Config.get(:relay, :group_messages_per_second)
      by_member = Config.get(:relay, :member_messages_per_second)
      Native.relay_configure(relay, bounds(), by_group, by_member)
    end

    :ok
  end

  defp bounds do
    {Config.get(:relay, :max_groups), Config.get(:relay, :max_members),
     Config.get(:relay, :max_pending), Config.get(:relay, :max_groups_per_user),
     Config.get(:relay, :rejoin_grace_ms)}
  end

  defp change(id, verb, actor, target) do
    with :ok <- valid([id, actor, target]),
         {:ok, relay} <- handle(),
         :ok <-
           Native.relay_moderate(relay, id, verb, actor, target, now())
           |> finish_or_coordinate(fn -> Shard.change({:change, id, verb, actor, target}) end) do
      Events.changed(id, verb, target)
    end
  end

  defp handle, do: Gateway.handle(:relay)

  # A process of an earlier node of this name is none of this one, which looking at it does not tell.
  defp guard_stale_pid(pid, native) do
    native.()
  rescue
    error in ArgumentError ->
      if :erlang.list_to_pid(:erlang.pid_to_list(pid)) == pid,
        do: reraise(error, __STACKTRACE__),
        else: :invalid_argument
  end

  # What the index says, unless other gateways have to agree.
  defp finish_or_coordinate(:ok, _coordinate), do: :ok
  defp finish_or_coordinate({:ok, _result} = done, _coordinate), do: done
  defp finish_or_coordinate(last?, _coordinate) when is_boolean(last?), do: {:ok, last?}
  defp finish_or_coordinate(:shared, coordinate), do: coordinate.()
  defp finish_or_coordinate(reason, _coordinate), do: {:error, reason}

  # A process is a device of the gateway that it runs on.
  defp call_owner_node(pid, function, args) do
    # It waits itself, and for others.
    timeout = 2 * Config.get(:relay, :sync_timeout)

    if node(pid) in Peers.current(),
      do: ask(node(pid), function, args, timeout),
      else: {:error, :invalid_argument}
  end

  # In a process of its own: while the connection is full, whoever asks is suspended.
  defp ask(node, function, args, timeout) do
    {pid, monitor} = spawn_monitor(fn -> exit({:told, call(node, function, args, timeout)}) end)

    receive do
      {:DOWN, ^monitor, :process, _pid, {:told, result}} -> result
    after
      timeout ->
        Process.demonitor(monitor, [:flush])
        Process.exit(pid, :kill)
        {:error, :timeout}
    end
  end

  defp call(node, function, args, timeout) do
    :erpc.call(node, __MODULE__, function, args, timeout)
  catch
    :error, {:erpc, :timeout} -> {:error, :timeout}
    _kind, _reason -> {:error, :not_running}
  end

  defp valid(ids, pid) when is_pid(pid), do: valid(ids)
  defp valid(_ids, _pid), do: {:error, :invalid_argument}

  defp valid([id | rest]) when is_id(id) do
    if String.valid?(id, :fast_ascii), do: valid(rest), else: {:error, :invalid_argument}
  end

  defp valid([]), do: :ok
  defp valid(_ids), do: {:error, :invalid_argument}

  defp group_type(type) when type in [:public, :private, :strict_private], do: :ok
  defp group_type(_type), do: {:error, :invalid_group_type}

  # The second number tells apart what was created in one millisecond.
  defp created, do: {now(), :erlang.phash2({node(), System.unique_integer()})}

  defp now, do: System.system_time(:millisecond)
end
