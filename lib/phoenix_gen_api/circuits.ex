defmodule PhoenixGenApi.Circuits do
  @moduledoc false
  # The circuit breakers between functions and nodes: their settings, what counts as a failure,
  # and what telemetry is told. The native side checks them when it chooses a node and when a
  # call begins, and changes them when one ends.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Structs.{Request, Response}
  alias PhoenixGenApi.Telemetry

  # The share of failures where none is configured.
  @failure_rate 0.5

  @typedoc """
  Whose call it is: a user, or an anonymous client by its address. Addresses that the rate
  limiter counts together are one client here, too.
  """
  @type caller :: String.t() | {:address, String.t()} | nil

  @typedoc """
  What `NodeSelector.pick/2` gave to count a call on: a plan or a route, the place of the node among its
  candidates, and the caller. Without it no circuit is asked or told.
  """
  @type counter :: {reference(), Native.place(), caller()} | nil

  @type result :: :success | :error | :failure | :lost | :none

  @typedoc "What `Native.executor_settle/3` says that the end of a call has done."
  @type change :: {:opened | :closed, non_neg_integer(), String.t(), String.t(), String.t()}

  @doc "Takes the settings from the config as it is now. Changed settings start every circuit anew."
  @spec reload() :: :ok
  def reload do
    with {:ok, selector} <- Gateway.handle(:node_selector) do
      prefix = Config.get(:rate_limiter, :ipv6_prefix)
      selector |> Native.circuits_configure(policy(), prefix) |> emit_closed()
    end

    :ok
  end

  defp policy do
    if get(:enabled),
      do: {get(:threshold), get(:cooldown_ms), (get(:failure_rate) || @failure_rate) / 1}
  end

  @doc "Whose call a request is. No cap applies to calls of nobody, such as those of server code."
  @spec caller(Request.t()) :: caller()
  def caller(%{user_id: user}) when is_binary(user), do: user

  def caller(%{user_id: nil, ip_address: address}) when is_binary(address),
    do: {:address, address}

  def caller(_nobody), do: nil

  @doc "Forgets circuits that see no calls any more."
  @spec sweep() :: :ok
  def sweep do
    :node_selector |> Gateway.handle!() |> Native.circuits_sweep() |> emit_closed()
  end

  @doc """
  The node was reached again: where its circuit is open, the next call is let through as a probe.

  Calls that were lost with the node may have opened any number of them. Without this a restarted
  node would be left alone for a whole cool-down.
  """
  @spec probe_now(node()) :: :ok
  def probe_now(node) do
    :node_selector |> Gateway.handle!() |> Native.circuits_end_cooldown(Atom.to_string(node))
  end

  # A circuit that is forgotten lets calls through, as a closed one does.
  defp emit_closed(circuits) do
    for {service, request_type, version, node} <- circuits do
      names = metadata(service, request_type, version, existing(node))
      emit(:close, Map.put(names, :reason, :forgotten))
    end

    :ok
  end

  # A list made by hand may have named a node by a string that is no atom.
  defp existing(node) do
    String.to_existing_atom(node)
  rescue
    ArgumentError -> node
  end

  @doc """
  What the end of a call says of its node: that it is well, that it answered with an error, that
  it failed, that the connection was lost, or nothing.

  A node that answers is well, be it with an error, unless exceptions are to be counted.
  `:least_busy` does not take a node for idle that answers with errors at once.
  """
  @spec classify(RPC.outcome() | {:died, term()}) :: result()
  # As the response will say.
  def classify({:return, {:ok, %Response{success: false}}}), do: :error
  def classify({:return, {:ok, _value}}), do: :success
  def classify({:return, %Response{success: false}}), do: :error
  def classify({:return, value}) when is_tuple(value) or value == :error, do: :error
  def classify({:return, _value}), do: :success
  def classify({:raised, _, _, _}), do: if(counts?(:exception), do: :failure, else: :error)
  def classify(:timeout), do: if(counts?(:timeout), do: :failure, else: :none)
  def classify({:node_down, _reason}), do: if(counts?(:node_down), do: :lost, else: :none)
  # Its process was killed.
  def classify({:died, reason}), do: classify({:raised, :exit, reason, []})
  # Nothing was sent; node selection looks after nodes that cannot be connected.
  def classify(_not_called), do: :none

  defp counts?(kind), do: kind in get(:count)

  @doc "A call begins, and is load of its node until it ends or its handle is garbage."
  @spec begin_call(counter()) :: handle :: reference() | :circuit_open
  def begin_call(nil), do: Native.executor_begin(nil, 0, nil)
  def begin_call({routed, place, caller}), do: Native.executor_begin(routed, place, caller)

  @doc """
  The same for a call in the process that makes it, which no other has to end: `:free` if nothing has to
  be kept for it.
  """
  @spec begin_own_call(counter()) :: handle :: reference() | :free | :circuit_open
  def begin_own_call(nil), do: :free

  def begin_own_call({routed, place, _caller} = counter) do
    with :call <- Native.executor_enter(routed, place), do: begin_call(counter)
  end

  @doc """
  A call goes on, and its function began: that is a success, unless it may still raise and that
  counts. `:later` if only the end can tell.
  """
  @spec report_success(reference(), node(), counter()) :: :ok | :later
  def report_success(handle, node, {routed, _place, _caller}) do
    with change when change != :later <-
           Native.executor_report_success(handle, routed, counts?(:exception)),
         do: emit_change(change, node)
  end

  @doc "A call ends, and what that says of its node."
  @spec end_call(reference() | :free, node(), counter(), result()) :: :ok
  # There is no circuit that a success could count in.
  def end_call(:free, node, counter, result), do: count_failure(node, counter, result)

  def end_call(handle, _node, counter, result) when counter == nil or result == :none,
    do: Native.executor_end(handle)

  def end_call(handle, node, {routed, _place, _caller}, result),
    do: handle |> Native.executor_settle(routed, result) |> emit_change(node)

  @doc """
  Counts a failure of something that is no call of its own: `result` as `classify/1` gives it.
  """
  @spec count_failure(node(), counter(), result()) :: :ok
  def count_failure(node, counter, result)
      when result in [:failure, :lost] and counter != nil do
    with handle when handle != :circuit_open <- begin_call(counter),
         do: end_call(handle, node, counter, result)

    :ok
  end

  def count_failure(_node, _counter, _no_failure), do: :ok

  # Telemetry hears of a circuit that has opened or closed.
  defp emit_change(:ok, _node), do: :ok

  defp emit_change({:opened, failures, service, request_type, version}, node) do
    names = metadata(service, request_type, version, node)
    emit(:open, Map.put(names, :consecutive_failures, failures))
  end

  defp emit_change({:closed, _failures, service, request_type, version}, node),
    do: emit(:close, metadata(service, request_type, version, node))

  defp metadata(service, request_type, version, node) do
    %{
      pool_name: nil,
      node: node,
      service: service,
      request_type: request_type,
      version: version
    }
  end

  defp emit(change, metadata) do
    Telemetry.execute([:phoenix_gen_api, :worker_pool, :circuit_breaker, change], %{}, metadata)
  end

  defp get(key), do: Config.get(:circuit_breaker, key)
end
