defmodule PhoenixGenApi.StreamCall.Remote do
  @moduledoc false
  # Starts and ends a stream's function, here or on another node, and words what becomes of it.
  # Called by the stream's process, which passes on the messages it gets meanwhile.

  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.StreamCall.ReturnValue

  @enforce_keys [:producer, :node, :monitor, :handle, :target]
  defstruct [
    :producer,
    :node,
    :monitor,
    :handle,
    :target,
    :pid,
    :function_pid,
    :erpc_tag,
    connected?: true,
    library?: true,
    success_reported?: false,
    circuit_result: :none
  ]

  @type t :: %__MODULE__{
          producer: RPC.Producer.t(),
          node: node(),
          # of the watchdog there, or where there is no library of the proxy
          monitor: reference(),
          # counts the stream as load of its node
          handle: reference(),
          # the node that was chosen, and what to count it on; the work may end up here
          target: {node(), {reference(), non_neg_integer()} | nil},
          # of the same
          pid: pid() | nil,
          # the process that the watchdog is for
          function_pid: pid() | nil,
          # marks what `:erpc` says of a process that it runs
          erpc_tag: reference() | nil,
          # whether there was a connection when it was started
          connected?: boolean(),
          library?: boolean(),
          # whether the node's circuit has been told already that the function began there
          success_reported?: boolean(),
          # what it is told at the end
          circuit_result: :none | :success | :failure
        }

  @type event ::
          {:outcome, RPC.Producer.outcome()}
          # nothing was sent: another node may be tried
          | :not_connected
          | {:node_down, term()}
          | {:not_started, term()}
          # it will not be started again
          | :begun
          # it has returned this, where nobody could enumerate it
          | {:returned, term()}
          | :none

  @doc "Starts it. `counter` is what `NodeSelector.pick/2` gave to count it on."
  @spec start(RPC.Producer.t(), node(), {reference(), non_neg_integer()} | nil) ::
          t() | :circuit_open
  def start(producer, node, counter) do
    {routed, index} = counter || {nil, 0}

    with handle when handle != :circuit_open <- Native.executor_begin(routed, index) do
      fields = [
        producer: producer,
        node: node,
        monitor: producer.ref,
        handle: handle,
        target: {node, counter}
      ]

      launch(struct!(__MODULE__, fields))
    end
  end

  defp launch(%{node: node, producer: producer} = remote) when node == node() do
    {pid, monitor} = spawn_monitor(RPC.Producer, :watchdog, [producer])
    %{remote | pid: pid, monitor: monitor}
  end

  # By the entry point of `:erpc`: an exit of that does not alarm a node that does not know our
  # library.
  defp launch(%{node: node, producer: producer, library?: true} = remote) do
    erpc_tag = make_ref()
    connected? = RPC.Remote.connected?(node)

    request =
      RPC.Remote.nosuspend(fn ->
        arguments = [erpc_tag, RPC.Producer, :watchdog, [producer]]
        :erlang.spawn_request(node, :erpc, :execute_call, arguments, [:monitor])
      end)

    %{remote | monitor: request, erpc_tag: erpc_tag, pid: nil, connected?: connected?}
  end

  # By somebody who can wait for it longer than the stream, whose worker others need.
  defp launch(%{node: node, producer: producer} = remote) do
    erpc_tag = make_ref()
    connected? = RPC.Remote.connected?(node)
    {proxy, monitor} = RPC.Proxy.start(node, erpc_tag, producer.mfa, {producer.ref, :begun})
    %{remote | monitor: monitor, erpc_tag: erpc_tag, pid: proxy, connected?: connected?}
  end

  @doc "What a message of this function means, and the function afterwards."
  @spec event(t(), term()) :: {event(), t()}
  def event(%{monitor: monitor, producer: %{ref: ref}} = remote, message) do
    {event, remote} =
      case message do
        # That there is a watchdog is told by itself.
        {:spawn_reply, ^monitor, :ok, pid} -> {:none, %{remote | pid: pid}}
        {:spawn_reply, ^monitor, :error, reason} -> {refused(remote, reason), remote}
        {:DOWN, ^monitor, :process, _pid, reason} -> ended(remote, reason)
        {^ref, :begun} -> begun(remote)
        {^ref, {:begun, function_pid}} -> begun(%{remote | function_pid: function_pid})
        {^ref, outcome} -> {{:outcome, outcome}, remote}
        {:nodedown, node} -> {lost(remote, node), remote}
      end

    {event, update_circuit_result(remote, event)}
  end

  # A function that began speaks for its node, unless it raises and that is to be counter. That
  # its life was over says nothing against a node on which it had begun.
  defp update_circuit_result(remote, event) do
    case event do
      {lost, reason} when lost in [:node_down, :not_started] ->
        %{remote | circuit_result: Circuits.classify({:node_down, reason})}

      {:outcome, crash} when elem(crash, 0) in [:raised, :died] ->
        %{remote | circuit_result: Circuits.classify(crash)}

      nothing when nothing in [:none, :not_connected] ->
        remote

      _begun_or_ended ->
        %{remote | circuit_result: :success}
    end
  end

  @doc "Its time is over. Without a sign of life that counts as a timeout."
  @spec timed_out(t()) :: t()
  def timed_out(%{circuit_result: :none} = remote),
    do: %{remote | circuit_result: Circuits.classify(:timeout)}

  def timed_out(remote), do: remote

  defp begun(%{producer: producer} = remote),
    do: {:begun, report_success(%{remote | producer: %{producer | mfa: nil}})}

  # The circuit does not wait for the end of a stream: that may be hours away, and a circuit that
  # is half open lets nobody else through meanwhile. Once is enough for an enumerable that goes
  # on here.
  defp report_success(%{target: {node, {routed, index}}, success_reported?: false} = remote) do
    probe_only? = Circuits.counts_exceptions?()

    case Native.executor_vouch(remote.handle, routed, index, probe_only?) do
      :later ->
        remote

      change ->
        emit_change(change, node)
        %{remote | success_reported?: true}
    end
  end

  defp report_success(remote), do: remote

  # The VM says the same of a connection that could not be made and of one that was lost before
  # the other node answered.
  defp refused(%{connected?: false}, :noconnection), do: :not_connected
  defp refused(_function, :noconnection), do: {:node_down, :noconnection}
  defp refused(_function, reason), do: {:not_started, reason}

  defp ended(remote, :noconnection), do: {{:node_down, :noconnection}, remote}

  defp ended(%{library?: true, erpc_tag: erpc_tag} = remote, reason) do
    case reason do
      {^erpc_tag, :error, :undef, [{RPC.Producer, :watchdog, _arguments, _location} | _]} ->
        {:none, launch(%{remote | library?: false})}

      # Only the death of a stream ends a watchdog, or somebody else's hand. Nobody is left to end the
      # function.
      reason ->
        RPC.Remote.nosuspend(fn ->
          remote.function_pid && Process.exit(remote.function_pid, :kill)
        end)

        {{:outcome, {:died, reason}}, remote}
    end
  end

  defp ended(%{erpc_tag: erpc_tag} = remote, {erpc_tag, :not_started, reason}),
    do: {refused(remote, reason), remote}

  defp ended(%{erpc_tag: erpc_tag, producer: producer} = remote, reason) do
    event =
      case reason do
        {^erpc_tag, :return, value} -> classify(value, producer.helper?)
        {^erpc_tag, :throw, value} -> {:outcome, {:raised, :throw, value, []}}
        {^erpc_tag, :exit, reason} -> {:outcome, {:raised, :exit, reason, []}}
        {^erpc_tag, :error, reason, stack} -> {:outcome, {:raised, :error, reason, stack}}
        reason -> {:outcome, {:died, reason}}
      end

    # Other processes of that node may still be sending.
    unless match?({:returned, _value}, event), do: Node.monitor(remote.node, true)
    {event, remote}
  end

  # With the library this is told by the watchdog's monitor.
  defp lost(%{library?: false, node: node}, node), do: {:node_down, :noconnection}
  defp lost(_function, _node), do: :none

  defp classify(value, helper?) do
    case ReturnValue.classify(value, helper?) do
      {:enumerate, enumerable} -> {:returned, enumerable}
      {kind, nil} -> {:outcome, kind}
    end
  end

  @doc "Starts a process here that enumerates what the function has returned elsewhere."
  @spec continue_here(t(), [term()] | struct()) :: t()
  def continue_here(%{producer: producer} = remote, enumerable) do
    mfa = {Function, :identity, [enumerable]}

    launch(%{
      remote
      | producer: %{producer | mfa: mfa},
        node: node(),
        library?: true,
        erpc_tag: nil
    })
  end

  @doc "Ends the function and whatever is left of it."
  @spec stop(t()) :: :ok
  def stop(%{library?: true} = remote) do
    RPC.Remote.nosuspend(fn ->
      # A watchdog that begins only now finds the stream gone.
      pid = remote.pid || abandoned(remote.monitor)
      Process.demonitor(remote.monitor, [:flush])
      # Not by way of a new connection, which would be one too late.
      if pid, do: Process.send(pid, {remote.producer.ref, :stop}, [:noconnect])
    end)

    close(remote)
  end

  def stop(remote) do
    Process.demonitor(remote.monitor, [:flush])
    RPC.Proxy.cancel(remote.pid, remote.erpc_tag)
    Node.monitor(remote.node, false)
    close(remote)
  end

  defp abandoned(request) do
    unless :erlang.spawn_request_abandon(request) do
      receive do
        {:spawn_reply, ^request, :ok, pid} -> pid
      after
        0 -> nil
      end
    end
  end

  defp close(%{success_reported?: true, circuit_result: :failure} = remote) do
    %{handle: handle, target: {_node, {routed, index}}} = remote
    Native.executor_end(handle)

    # As another call that has failed by now.
    with handle when handle != :circuit_open <- Native.executor_begin(routed, index),
         do: close(%{remote | handle: handle, success_reported?: false})

    :ok
  end

  defp close(
         %{
           success_reported?: false,
           circuit_result: circuit_result,
           target: {node, {routed, index}}
         } = remote
       )
       when circuit_result != :none do
    remote.handle |> Native.executor_settle(routed, index, circuit_result) |> emit_change(node)
  end

  defp close(remote) do
    Native.executor_end(remote.handle)
    :ok
  end

  defp emit_change(:ok, _node), do: :ok
  defp emit_change(change, node), do: Circuits.emit_change(change, node)
end
