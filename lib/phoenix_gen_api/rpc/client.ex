defmodule PhoenixGenApi.RPC.Client do
  @moduledoc false
  # The caller's end of a call to another node: starts it, reads the messages it sends, cancels it.
  #
  # `call/4` waits for the outcome; the executor uses it. A stream starts its function with
  # `start_watchdog/3` or `start_proxy/4`, passes on the messages marked by the call's `monitor`
  # to `handle/2`, and ends with `cancel/1`.
  #
  # ## Three routes
  #
  #     :server    the caller ──spawn_request──► RPC.Server.run
  #     :watchdog  the stream ──spawn_request──► RPC.Producer.watchdog ──► the function
  #     :proxy     the caller ──► RPC.Proxy here ──spawn_request──► :erpc.execute_call
  #
  # `:server` is for one result from a node that runs the library or a guard
  # (`RPC.Capabilities` knows), `:watchdog` for the function of a stream, `:proxy` for nodes
  # without the library, which have nothing but OTP. A watchdog enters through
  # `:erpc.execute_call`, so that a node without the library answers `undef` and logs nothing; the
  # stream then takes the proxy. So does what is for a version of the library with another
  # protocol: it enters by `RPC.Server.execute_call` or `RPC.Producer.plain`, which know of the guard.
  #
  # ## One request, one answer
  #
  # `:erlang.spawn_request/5` with `:monitor` spawns and monitors in one signal. It is answered
  # by `{:spawn_reply, monitor, :ok, pid}` or `{:spawn_reply, monitor, :error, reason}`. The
  # result is the exit reason of the process there, marked so that no other exit can be taken for
  # it, and arrives as the monitor's `:DOWN`. So a call costs one message each way, and
  # nothing can arrive once the monitor is gone.
  #
  # ## Who monitors whom
  #
  #   * The caller monitors the process there, or its proxy here. Whatever ends that process, a
  #     crash, a kill or a lost connection, is an outcome.
  #   * Nothing there monitors a function on the route `:server`. If the caller dies, the call's
  #     native handle on its heap goes too, and has `RPC.Reaper` kill the function or revoke
  #     the call.
  #   * A watchdog monitors its stream, a proxy its caller. They end the function themselves.
  #
  # ## What happens when
  #
  #   * **The call times out or is cancelled.** If the process there is known, it is killed; a
  #     watchdog is told to stop, because an enumerable may need to clean up.
  #   * **The node hangs or is busy**, so that nobody knows the process yet. The request is
  #     abandoned: the answer will not be delivered. On the route `:server` the call is also
  #     revoked by its key: `RPC.Server` kills the function, or does not start it. A
  #     watchdog that starts later finds the stream gone. A proxy outlives its caller until the
  #     answer has come, and then kills the function.
  #   * **The connection is full.** Signals are sent with `async_dist`, so the caller is never
  #     suspended and its timeout runs.
  #   * **There is no connection.** Without one when the call started, `:noconnection` means
  #     that nothing was sent (`:not_connected`): another node may be tried. With one, the
  #     function may have been called: `{:node_down, :noconnection}`. The VM does not tell these
  #     two apart.
  #   * **The host swallows every packet.** Connecting fails only after seven seconds. A call that
  #     has timed out by then is `:unreachable`, so that its node is not chosen again.
  #   * **The connection is lost during the call.** `{:node_down, :noconnection}`. The function
  #     goes on if its node lives: on the route `:server` to its own end, under a watchdog until
  #     the watchdog notices.

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.RPC.{Capabilities, Connection, Proxy, Server}

  @enforce_keys [:route, :node, :mark, :monitor]
  defstruct [:route, :node, :mark, :monitor, :pid, :handle, connected?: true]

  @type t :: %__MODULE__{
          route: :server | :watchdog | :proxy,
          node: node(),
          # in the exit reason that carries the result; on the route :server the call's key
          mark: reference() | Server.key(),
          # of the process there or of the proxy, and the id of the request for the former
          monitor: reference(),
          # the process that is monitored, once it is known
          pid: pid() | nil,
          # on the route :server: kills the function if the caller dies
          handle: reference() | nil,
          # whether there was a connection when the call started
          connected?: boolean()
        }

  @type mfargs :: {module(), atom(), [term()]}

  @typedoc "What a message says of the call. All but `:started` are the last one."
  @type event ::
          :started
          | {:return, term()}
          | {:raised, :error | :exit | :throw, term(), Exception.stacktrace()}
          # nothing was sent: another node may be tried
          | :not_connected
          # nothing was begun: the service stops there, and another node may be tried
          | :stopping
          # no process was started: the connection was lost or the node refused
          | {:not_started, term()}
          # the connection was lost after the start
          | {:node_down, :noconnection}

  # The largest integer that is no big one on any heap.
  @max_small_integer 0x7FF_FFFF_FFFF_FFFF

  @doc "Calls a function on another node and waits for the outcome. `handle` is that of the call."
  @spec call(reference(), node(), mfargs(), timeout(), map() | nil) :: RPC.outcome()
  def call(handle, node, call, timeout, metadata) do
    case Capabilities.lookup(node) do
      true -> handle |> start_function(node, call, metadata) |> await(timeout)
      :unknown -> discover_first(handle, node, call, timeout, metadata)
      other -> call_by_proxy(node, call, timeout, entry(other))
    end
  end

  # Once per connection.
  defp discover_first(handle, node, call, timeout, metadata) do
    since = now()

    case Capabilities.discover(node, &call_by_proxy(node, &1, timeout, :erpc)) do
      {:ok, true} ->
        handle |> start_function(node, call, metadata) |> await(remaining(timeout, since))

      {:ok, other} ->
        call_by_proxy(node, call, remaining(timeout, since), entry(other))

      not_sent ->
        not_sent
    end
  end

  defp call_by_proxy(node, call, timeout, entry),
    do: node |> start_proxy(call, make_ref(), nil, entry) |> await(timeout)

  defp entry(false), do: :erpc
  defp entry(:other), do: Server

  # Unlike `:erpc.call` this learns the pid, and has a key until then, so that it can end a
  # function that nobody waits for any more.
  defp start_function(handle, node, {module, function, args}, metadata) do
    key = key()
    callers = [self() | Process.get(:"$callers", [])]
    Native.executor_set_node(handle, node, key)
    entry = {Server, :run, [key, callers, metadata, module, function, args]}
    request(:server, node, key, entry, handle)
  end

  @doc "Starts the watchdog of a stream's function, also on this node."
  @spec start_watchdog(node(), mfargs(), reference()) :: t()
  def start_watchdog(node, {module, function, args}, mark) when node == node() do
    {pid, monitor} = spawn_monitor(module, function, args)
    %__MODULE__{route: :watchdog, node: node, mark: mark, monitor: monitor, pid: pid}
  end

  def start_watchdog(node, {module, function, args}, mark),
    do: request(:watchdog, node, mark, {:erpc, :execute_call, [mark, module, function, args]})

  defp request(route, node, mark, {module, function, args}, handle \\ nil) do
    connected? = Connection.connected?(node)

    request =
      Connection.nosuspend(fn ->
        :erlang.spawn_request(node, module, function, args, [:monitor])
      end)

    %__MODULE__{
      route: route,
      node: node,
      mark: mark,
      monitor: request,
      handle: handle,
      connected?: connected?
    }
  end

  @doc """
  Starts a function on a node without the library, or of another protocol; the caller gets
  `started_message` unless it is nil. `entry` has the `execute_call/4` that it enters by.
  """
  @spec start_proxy(node(), mfargs(), reference(), term(), module()) :: t()
  def start_proxy(node, call, mark, started_message, entry) do
    connected? = Connection.connected?(node)
    {pid, monitor} = Proxy.start(node, mark, call, started_message, entry)

    %__MODULE__{
      route: :proxy,
      node: node,
      mark: mark,
      monitor: monitor,
      pid: pid,
      connected?: connected?
    }
  end

  defp await(client, timeout), do: await(client, client.monitor, timeout, now())

  defp await(client, monitor, timeout, since) do
    receive do
      {:spawn_reply, ^monitor, _result, _pid_or_reason} = reply ->
        go_on(handle(client, reply), timeout, since)

      {:DOWN, ^monitor, :process, _pid, _reason} = down ->
        go_on(handle(client, down), timeout, since)
    after
      timeout ->
        cancel(client)
        if unreachable?(client), do: :unreachable, else: :timeout
    end
  end

  # Only once, so nothing asks for the time after that.
  defp go_on({:started, client}, timeout, since),
    do: await(client, client.monitor, remaining(timeout, since), since)

  defp go_on({{:not_started, reason}, _client}, _timeout, _since), do: {:node_down, reason}
  defp go_on({outcome, _client}, _timeout, _since), do: outcome

  @doc "What a `:spawn_reply` or `:DOWN` of the call's monitor says, and the call afterwards."
  @spec handle(t(), tuple()) :: {event(), t()}
  def handle(%__MODULE__{monitor: monitor} = client, message) do
    case message do
      {:spawn_reply, ^monitor, :ok, pid} -> {:started, started(client, pid)}
      {:spawn_reply, ^monitor, :error, reason} -> {refused(client, reason), client}
      {:DOWN, ^monitor, :process, _pid, reason} -> {ended(client, client.mark, reason), client}
    end
  end

  defp started(%{handle: nil} = client, pid), do: %{client | pid: pid}

  defp started(client, pid) do
    Native.executor_set_process(client.handle, pid)
    %{client | pid: pid}
  end

  # The VM says the same of a connection that could not be made and of one that was lost before
  # the other node answered. In the latter case the function may have been called.
  defp refused(%{connected?: false}, :noconnection), do: :not_connected
  defp refused(_client, reason), do: {:not_started, reason}

  defp ended(%{route: :proxy} = client, mark, {mark, :not_started, reason})
       when reason != :stopping,
       do: refused(client, reason)

  defp ended(_client, mark, {mark, :not_started, :stopping}), do: :stopping
  defp ended(_client, _mark, {:phoenix_gen_api, :stopped}), do: {:node_down, :stopped}
  # A watchdog.
  defp ended(_client, mark, {mark, :exit, {:phoenix_gen_api, :stopped}}),
    do: {:node_down, :stopped}

  defp ended(_client, mark, {mark, :return, value}), do: {:return, value}
  defp ended(_client, mark, {mark, :throw, value}), do: {:raised, :throw, value, []}
  defp ended(_client, mark, {mark, :exit, reason}), do: {:raised, :exit, reason, []}
  defp ended(_client, mark, {mark, :error, reason, stack}), do: {:raised, :error, reason, stack}
  defp ended(_client, _mark, :noconnection), do: {:node_down, :noconnection}
  defp ended(_client, _mark, reason), do: {:raised, :exit, reason, []}

  @doc "Whether nothing was heard of the call, and its node is not connected."
  @spec unreachable?(t()) :: boolean()
  def unreachable?(%{route: route, pid: pid, node: node}),
    do: (pid == nil or route == :proxy) and not Connection.connected?(node)

  @doc "Ends the function, or prevents its start. Waits for nothing; no message of the call follows."
  @spec cancel(t()) :: :ok
  def cancel(%__MODULE__{route: :proxy} = client) do
    Process.demonitor(client.monitor, [:flush])
    Proxy.cancel(client.pid, client.mark)
  end

  def cancel(%__MODULE__{} = client) do
    Connection.nosuspend(fn ->
      process = client.pid || abandon(client.monitor)
      Process.demonitor(client.monitor, [:flush])
      cancel(client, process)
    end)

    :ok
  end

  # The process that runs, if its answer has come meanwhile.
  defp abandon(request) do
    if :erlang.spawn_request_abandon(request) do
      :abandoned
    else
      receive do
        {:spawn_reply, ^request, :ok, pid} -> pid
        {:spawn_reply, ^request, :error, _reason} -> :refused
      after
        0 -> :refused
      end
    end
  end

  defp cancel(%{route: :server} = client, :abandoned), do: revoke(client.node, client.mark)
  defp cancel(%{route: :server}, pid) when is_pid(pid), do: Process.exit(pid, :kill)

  # Not by way of a new connection: there the watchdog has noticed the loss of the old one.
  defp cancel(%{route: :watchdog} = client, pid) when is_pid(pid),
    do: Process.send(pid, {client.mark, :stop}, [:noconnect])

  defp cancel(_client, _abandoned_or_refused), do: :ok

  @doc "Revokes a call by its key, also over a connection that is still being made. Waits for nothing."
  # By a process spawned there: no process that has to be running already can be missing.
  @spec revoke(node(), Server.key()) :: :ok
  def revoke(node, key) do
    :erlang.spawn_request(node, Server, :revoke, [key], reply: :no)
    :ok
  end

  @doc "A key for a call of this node."
  @spec key() :: Server.key()
  def key, do: {node_id(), :erlang.unique_integer([:positive])}

  defp node_id, do: :persistent_term.get({__MODULE__, :node_id}, nil) || generate_node_id()

  # Those that do this at once draw different ones, each as good.
  defp generate_node_id do
    {node_id, _state} = :rand.uniform_s(@max_small_integer, :rand.seed_s(:exsss))
    :persistent_term.put({__MODULE__, :node_id}, node_id)
    node_id
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp remaining(:infinity, _since), do: :infinity
  defp remaining(timeout, since), do: max(timeout - (now() - since), 0)
end
