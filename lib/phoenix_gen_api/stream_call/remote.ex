defmodule PhoenixGenApi.StreamCall.Remote do
  @moduledoc false
  # Starts and ends a stream's function, here or on another node, and words what becomes of it.
  # Called by the stream's process, which passes on the messages it gets meanwhile.

  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.StreamCall.ReturnValue

  @enforce_keys [:work, :node, :monitor, :handle, :target]
  defstruct [
    :work,
    :node,
    :monitor,
    :handle,
    :target,
    :pid,
    :callee,
    :result,
    connected?: true,
    library?: true,
    vouched?: false,
    verdict: :none
  ]

  @type t :: %__MODULE__{
          work: RPC.Producer.t(),
          node: node(),
          # of the guard there, or where there is no library of the envoy
          monitor: reference(),
          # counts the stream as load of its node
          handle: reference(),
          # the node that was chosen, and what to count it on; the work may end up here
          target: {node(), {reference(), non_neg_integer()} | nil},
          # of the same
          pid: pid() | nil,
          # the process that the guard is for
          callee: pid() | nil,
          # marks what `:erpc` says of a process that it runs
          result: reference() | nil,
          # whether there was a connection when it was started
          connected?: boolean(),
          library?: boolean(),
          # whether the node's circuit has been told already that the function began there
          vouched?: boolean(),
          # what it is told at the end
          verdict: :none | :success | :failure
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
  @spec start(RPC.Producer.t(), node(), {reference(), non_neg_integer()} | nil) :: t() | :circuit_open
  def start(work, node, counter) do
    {routed, index} = counter || {nil, 0}

    with handle when handle != :circuit_open <- Native.executor_begin(routed, index) do
      fields = [
        work: work,
        node: node,
        monitor: work.ref,
        handle: handle,
        target: {node, counter}
      ]

      launch(struct!(__MODULE__, fields))
    end
  end

  defp launch(%{node: node, work: work} = function) when node == node() do
    {pid, monitor} = spawn_monitor(RPC.Producer, :guard, [work])
    %{function | pid: pid, monitor: monitor}
  end

  # By the entry point of `:erpc`: an exit of that does not alarm a node that does not know our
  # library.
  defp launch(%{node: node, work: work, library?: true} = function) do
    result = make_ref()
    connected? = RPC.Remote.connected?(node)

    request =
      RPC.Remote.nosuspend(fn ->
        arguments = [result, RPC.Producer, :guard, [work]]
        :erlang.spawn_request(node, :erpc, :execute_call, arguments, [:monitor])
      end)

    %{function | monitor: request, result: result, pid: nil, connected?: connected?}
  end

  # By somebody who can wait for it longer than the stream, whose worker others need.
  defp launch(%{node: node, work: work} = function) do
    result = make_ref()
    connected? = RPC.Remote.connected?(node)
    {proxy, monitor} = RPC.Proxy.start(node, result, work.mfa, {work.ref, :begun})
    %{function | monitor: monitor, result: result, pid: proxy, connected?: connected?}
  end

  @doc "What a message of this function means, and the function afterwards."
  @spec event(t(), term()) :: {event(), t()}
  def event(%{monitor: monitor, work: %{ref: ref}} = function, message) do
    {event, function} =
      case message do
        # That there is a guard is told by itself.
        {:spawn_reply, ^monitor, :ok, pid} -> {:none, %{function | pid: pid}}
        {:spawn_reply, ^monitor, :error, reason} -> {refused(function, reason), function}
        {:DOWN, ^monitor, :process, _pid, reason} -> ended(function, reason)
        {^ref, :begun} -> begun(function)
        {^ref, {:begun, callee}} -> begun(%{function | callee: callee})
        {^ref, outcome} -> {{:outcome, outcome}, function}
        {:nodedown, node} -> {lost(function, node), function}
      end

    {event, judged(function, event)}
  end

  # A function that began speaks for its node, unless it raises and that is to be counter. That
  # its life was over says nothing against a node on which it had begun.
  defp judged(function, event) do
    case event do
      {lost, reason} when lost in [:node_down, :not_started] ->
        %{function | verdict: Circuits.verdict({:node_down, reason})}

      {:outcome, crash} when elem(crash, 0) in [:raised, :died] ->
        %{function | verdict: Circuits.verdict(crash)}

      nothing when nothing in [:none, :not_connected] ->
        function

      _begun_or_ended ->
        %{function | verdict: :success}
    end
  end

  @doc "Its time is over. Without a sign of life that counts as a timeout."
  @spec timed_out(t()) :: t()
  def timed_out(%{verdict: :none} = function),
    do: %{function | verdict: Circuits.verdict(:timeout)}

  def timed_out(function), do: function

  defp begun(%{work: work} = function),
    do: {:begun, vouched(%{function | work: %{work | mfa: nil}})}

  # The circuit does not wait for the end of a stream: that may be hours away, and a circuit that
  # is half open lets nobody else through meanwhile. Once is enough for an enumerable that goes
  # on here.
  defp vouched(%{target: {node, {routed, index}}, vouched?: false} = function) do
    probe_only? = Circuits.ends_matter?()

    case Native.executor_vouch(function.handle, routed, index, probe_only?) do
      :later ->
        function

      change ->
        announce(change, node)
        %{function | vouched?: true}
    end
  end

  defp vouched(function), do: function

  # The VM says the same of a connection that could not be made and of one that was lost before
  # the other node answered.
  defp refused(%{connected?: false}, :noconnection), do: :not_connected
  defp refused(_function, :noconnection), do: {:node_down, :noconnection}
  defp refused(_function, reason), do: {:not_started, reason}

  defp ended(function, :noconnection), do: {{:node_down, :noconnection}, function}

  defp ended(%{library?: true, result: result} = function, reason) do
    case reason do
      {^result, :error, :undef, [{RPC.Producer, :guard, _arguments, _location} | _]} ->
        {:none, launch(%{function | library?: false})}

      # Only the death of a stream ends a guard, or somebody else's hand. Nobody is left to end the
      # function.
      reason ->
        RPC.Remote.nosuspend(fn -> function.callee && Process.exit(function.callee, :kill) end)
        {{:outcome, {:died, reason}}, function}
    end
  end

  defp ended(%{result: result} = function, {result, :not_started, reason}),
    do: {refused(function, reason), function}

  defp ended(%{result: result, work: work} = function, reason) do
    event =
      case reason do
        {^result, :return, value} -> verdict(value, work.helper?)
        {^result, :throw, value} -> {:outcome, {:raised, :throw, value, []}}
        {^result, :exit, reason} -> {:outcome, {:raised, :exit, reason, []}}
        {^result, :error, reason, stack} -> {:outcome, {:raised, :error, reason, stack}}
        reason -> {:outcome, {:died, reason}}
      end

    # Other processes of that node may still be sending.
    unless match?({:returned, _value}, event), do: Node.monitor(function.node, true)
    {event, function}
  end

  # With the library this is told by the guard's monitor.
  defp lost(%{library?: false, node: node}, node), do: {:node_down, :noconnection}
  defp lost(_function, _node), do: :none

  defp verdict(value, helper?) do
    case ReturnValue.of(value, helper?) do
      {:enumerate, enumerable} -> {:returned, enumerable}
      {verdict, nil} -> {:outcome, verdict}
    end
  end

  @doc "Starts a process here that enumerates what the function has returned elsewhere."
  @spec continue_here(t(), [term()] | struct()) :: t()
  def continue_here(%{work: work} = function, enumerable) do
    mfa = {Elixir.Function, :identity, [enumerable]}
    launch(%{function | work: %{work | mfa: mfa}, node: node(), library?: true, result: nil})
  end

  @doc "Ends the function and whatever is left of it."
  @spec stop(t()) :: :ok
  def stop(%{library?: true} = function) do
    RPC.Remote.nosuspend(fn ->
      # A guard that begins only now finds the stream gone.
      pid = function.pid || abandoned(function.monitor)
      Process.demonitor(function.monitor, [:flush])
      # Not by way of a new connection, which would be one too late.
      if pid, do: Process.send(pid, {function.work.ref, :stop}, [:noconnect])
    end)

    close(function)
  end

  def stop(function) do
    Process.demonitor(function.monitor, [:flush])
    RPC.Proxy.cancel(function.pid, function.result)
    Node.monitor(function.node, false)
    close(function)
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

  defp close(%{vouched?: true, verdict: :failure} = function) do
    %{handle: handle, target: {_node, {routed, index}}} = function
    Native.executor_end(handle)

    # As another call that has failed by now.
    with handle when handle != :circuit_open <- Native.executor_begin(routed, index),
         do: close(%{function | handle: handle, vouched?: false})

    :ok
  end

  defp close(%{vouched?: false, verdict: verdict, target: {node, {routed, index}}} = function)
       when verdict != :none do
    function.handle |> Native.executor_settle(routed, index, verdict) |> announce(node)
  end

  defp close(function) do
    Native.executor_end(function.handle)
    :ok
  end

  defp announce(:ok, _node), do: :ok
  defp announce(change, node), do: Circuits.announce(change, node)
end
