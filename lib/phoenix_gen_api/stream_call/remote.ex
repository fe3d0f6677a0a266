defmodule PhoenixGenApi.StreamCall.Remote do
  @moduledoc false
  # A stream's function, here or on another node: starts it, says what becomes of it, ends it,
  # and tells the node's circuit. Called by the stream's process, which passes on the messages it
  # gets meanwhile. `RPC.Client` has the protocol, `RPC.Producer` the other end.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.Executor.{Attempt, Context}
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.RPC.{Capabilities, Client, Connection, Producer, ReturnValue}
  alias PhoenixGenApi.Structs.StreamHelper

  @enforce_keys [:producer, :client, :handle, :target]
  defstruct @enforce_keys ++ [:function_pid, success_reported?: false, circuit_result: :none]

  @type t :: %__MODULE__{
          producer: Producer.t(),
          # the call of the watchdog, or where there is no library of the function itself
          client: Client.t(),
          # counts the stream as load of its node
          handle: reference(),
          # the node that was chosen, and what to count it on; the work may end up here
          target: {node(), Circuits.counter()},
          # the process that the watchdog is for
          function_pid: pid() | nil,
          # whether the node's circuit has been told already that the function began there
          success_reported?: boolean(),
          # what it is told at the end
          circuit_result: Circuits.result()
        }

  @type event ::
          {:outcome, Producer.outcome()}
          # nothing was sent: another node may be tried
          | :not_connected
          # nor was anything begun: the service stops there
          | :stopping
          | {:node_down, term()}
          | {:not_started, term()}
          # it will not be started again
          | :begun
          # it has returned this, where nobody could enumerate it
          | {:returned, term()}
          | :none

  @doc "The other end of a stream, which the calling process is, under the mark of its messages."
  @spec producer(Context.t(), term(), reference(), [pid()]) :: Producer.t()
  def producer(%{plan: plan, request: request} = context, id, ref, callers) do
    plan(module: module, function: function) = plan

    helper = %StreamHelper{
      stream_pid: self(),
      request_id: id,
      user_id: request.user_id,
      device_id: request.device_id,
      request: request
    }

    %Producer{
      stream: self(),
      ref: ref,
      callers: [self() | callers],
      max_unacked: Config.get(:stream, :max_unacked),
      helper?: has(plan, :request_info),
      metadata: request |> Log.metadata(id) |> Deadline.mark(request),
      mfa: {module, function, Attempt.arguments(context, helper)}
    }
  end

  @doc "Starts it. `counter` is what `NodeSelector.pick/2` gave to count it on."
  @spec start(Producer.t(), node(), Circuits.counter()) :: t() | :circuit_open
  def start(producer, node, counter) do
    with handle when handle != :circuit_open <- Circuits.begin_call(counter) do
      %__MODULE__{
        producer: producer,
        client: watchdog(node, producer),
        handle: handle,
        target: {node, counter}
      }
    end
  end

  defp watchdog(node, producer),
    do: Client.start_watchdog(node, Producer.entry(producer), producer.ref)

  @doc "What a message of this function means, and the function afterwards."
  @spec event(t(), term()) :: {event(), t()}
  def event(%{producer: %{ref: ref}, client: client} = remote, message) do
    {event, remote} =
      case message do
        {^ref, :begun} ->
          begun(remote)

        {^ref, {:begun, function_pid}} ->
          begun(%{remote | function_pid: function_pid})

        {^ref, outcome} ->
          {{:outcome, outcome}, remote}

        {:nodedown, node} ->
          {lost(client, node), remote}

        of_client ->
          {event, client} = Client.handle(client, of_client)
          client_event(%{remote | client: client}, event)
      end

    {event, update_circuit_result(remote, event)}
  end

  # That there is a watchdog is told by itself.
  defp client_event(remote, :started), do: {:none, remote}
  defp client_event(remote, :not_connected), do: {:not_connected, remote}
  defp client_event(remote, :stopping), do: {:stopping, remote}

  defp client_event(%{client: %{route: :watchdog}} = remote, {:return, :stopping}),
    do: {:stopping, remote}

  defp client_event(remote, {:node_down, reason}), do: {{:node_down, reason}, remote}

  defp client_event(remote, {:not_started, :noconnection}),
    do: {{:node_down, :noconnection}, remote}

  defp client_event(remote, {:not_started, reason}), do: {{:not_started, reason}, remote}

  # A node without the library. The proxy can wait for it longer than the stream, whose worker
  # others need.
  defp client_event(
         %{client: %{route: :watchdog}} = remote,
         {:raised, :error, :undef, [{Producer, :watchdog, _arguments, _location} | _]}
       ),
       do: {:none, by_proxy(remote, remote.producer.mfa)}

  # One with a version of it that speaks another protocol.
  defp client_event(
         %{client: %{route: :watchdog}} = remote,
         {:return, {:error, {:protocol, _theirs}}}
       ) do
    Capabilities.other_protocol(remote.client.node)
    {:none, by_proxy(remote, Producer.plain_entry(remote.producer))}
  end

  # Only the death of a stream ends a watchdog, or somebody else's hand. Nobody is left to end the
  # function.
  defp client_event(%{client: %{route: :watchdog}} = remote, outcome) do
    if pid = remote.function_pid, do: Connection.nosuspend(fn -> Process.exit(pid, :kill) end)
    outcome = with {:return, _value} <- outcome, do: {:died, :normal}
    {{:outcome, outcome}, remote}
  end

  defp client_event(%{client: %{route: :proxy}} = remote, outcome) do
    event =
      case outcome do
        {:return, value} -> classify(value, remote.producer.helper?)
        raised -> {:outcome, raised}
      end

    # Other processes of that node may still be sending.
    unless match?({:returned, _value}, event), do: Node.monitor(remote.client.node, true)
    {event, remote}
  end

  defp classify(value, helper?) do
    case ReturnValue.classify(value, helper?) do
      {:enumerate, enumerable} -> {:returned, enumerable}
      {kind, nil} -> {:outcome, kind}
    end
  end

  defp by_proxy(%{client: %{node: node}, producer: %{ref: ref}} = remote, call),
    do: %{remote | client: Client.start_proxy(node, call, ref, {ref, :begun}, :erpc)}

  # With the library this is told by the watchdog's monitor.
  defp lost(%{route: :proxy, node: node}, node), do: {:node_down, :noconnection}
  defp lost(_client, _node), do: :none

  # A function that began speaks for its node, unless it raises and that is to be counted. That
  # its life was over says nothing against a node on which it had begun.
  defp update_circuit_result(remote, event) do
    case event do
      {lost, reason} when lost in [:node_down, :not_started] ->
        %{remote | circuit_result: Circuits.classify({:node_down, reason})}

      {:outcome, crash} when elem(crash, 0) in [:raised, :died] ->
        %{remote | circuit_result: Circuits.classify(crash)}

      nothing when nothing in [:none, :not_connected, :stopping] ->
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
  defp report_success(%{target: {node, counter}, success_reported?: false} = remote),
    do: %{
      remote
      | success_reported?: Circuits.report_success(remote.handle, node, counter) == :ok
    }

  defp report_success(remote), do: remote

  @doc "Starts a process here that enumerates what the function has returned elsewhere."
  @spec continue_here(t(), [term()] | struct()) :: t()
  def continue_here(%{producer: producer} = remote, enumerable) do
    producer = %{producer | mfa: {Function, :identity, [enumerable]}}
    %{remote | producer: producer, client: watchdog(node(), producer)}
  end

  @doc "Ends the function and whatever is left of it."
  @spec stop(t()) :: :ok
  def stop(%{client: client} = remote) do
    Client.cancel(client)
    if client.route == :proxy, do: Node.monitor(client.node, false)
    close(remote)
  end

  # A new call that has failed by now: of the first one the circuit has heard already.
  defp close(%{success_reported?: true, circuit_result: result} = remote)
       when result in [:failure, :lost] do
    end_call(remote, :none)
    {node, counter} = remote.target
    Circuits.count_failure(node, counter, result)
  end

  defp close(%{success_reported?: true} = remote), do: end_call(remote, :none)
  defp close(remote), do: end_call(remote, remote.circuit_result)

  defp end_call(%{handle: handle, target: {node, counter}}, result),
    do: Circuits.end_call(handle, node, counter, result)
end
