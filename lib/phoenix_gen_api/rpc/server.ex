defmodule PhoenixGenApi.RPC.Server do
  @moduledoc false
  # The functions that run on this node for gateways, each under the key of its call.
  #
  # A gateway may stop waiting before it has heard which process its function is: the node hangs
  # or is busy, or the caller has died. It then revokes the call by its key. If the function runs,
  # it is killed; if it has not come yet, it will not begin. Of that the node remembers 65,536
  # calls for a minute, the last ones; a function that comes after that runs to its own end.
  #
  # All of it is native, and there is no process here that could be missing: who revokes a call
  # spawns one. A function that is killed leaves a row behind, but never more of them stay than
  # functions run, and a thousand.
  #
  # `agree/1` and `execute_call/4` are the same in every version of the library: a gateway of
  # another version finds out with the first how to begin its calls here, and begins them with the
  # second if the two have no protocol in common.

  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.RPC.{Closed, Guard, Local}

  @typedoc "Names a call among those of all nodes: drawn once by its gateway, and a number there."
  @type key :: Native.call_key()

  # What gateways and service nodes say to each other about a call: `run/6`, its key, and
  # `revoke/1`. A version that changes any of it gets the next number, and may know this one, too.
  @protocols [1]

  # Why a call has not begun, or was ended, on a node that stops.
  @stopping :stopping
  @stopped {:phoenix_gen_api, :stopped}

  # What runs in such a process, in its dictionary.
  @call :"$phoenix_gen_api_call"

  @doc "Makes this node ready, when the application starts. What runs stays known if it stops."
  @spec setup() :: :ok
  def setup do
    unless calls(), do: :persistent_term.put(__MODULE__, Native.rpc_server_new())
    :ok
  end

  @doc """
  How gateways that speak these protocols have to begin their calls here. They ask this: `{:ok,
  protocol}`, `{:error, protocols}` without one in common, or `:none` where the library does not run.
  """
  @spec agree([pos_integer()]) :: {:ok, pos_integer()} | {:error, [pos_integer()]} | :none
  def agree(theirs) do
    common = for protocol <- @protocols, protocol in theirs, do: protocol

    cond do
      calls() == nil and not Guard.guarded?() -> :none
      common == [] -> {:error, @protocols}
      true -> {:ok, Enum.max(common)}
    end
  end

  @doc "The protocols of this node."
  @spec protocols() :: [pos_integer()]
  def protocols, do: @protocols

  @doc "Where a gateway's call begins that speaks none of the protocols of this node."
  @spec execute_call(term(), module(), atom(), [term()]) :: no_return()
  def execute_call(mark, module, function, args) do
    cond do
      Closed.closed?(module, function) -> exit({mark, :not_started, @stopping})
      Guard.guarded?() -> Guard.execute_call(mark, module, function, args)
      true -> :erpc.execute_call(mark, module, function, args)
    end
  end

  @doc """
  Where a gateway's call begins, in the process that it has spawned here. It ends as
  `:erpc.execute_call/4` does: with the result as its exit reason, marked by the key. As in
  `RPC.Local` the function knows its `callers`, has the `metadata` of its request for the log and for
  its deadline, and leaves what it has linked itself with alone.
  """
  @spec run(key(), [pid()], map() | nil, module(), atom(), [term()]) :: nil | no_return()
  def run(key, callers, metadata, module, function, args) do
    calls = calls()

    Process.put(@call, {module, function})

    if enter?(calls, key) do
      Process.put(:"$callers", callers)
      args = Deadline.adopt(metadata, args)

      try do
        # Entered by now: what stops the function finds it here, or it is found to be closed.
        execute_call(key, module, function, args)
      catch
        :exit, {^key, :return, _value} = returned ->
          Local.unlink_normally()
          exit(returned)
      after
        leave(calls, key)
      end
    end
  end

  # Where the application does not run, a guard may still be wanted.
  defp enter?(nil, _key), do: true
  defp enter?(calls, key), do: Native.rpc_server_enter(calls, key)

  defp leave(nil, _key), do: :ok
  defp leave(calls, key), do: Native.rpc_server_leave(calls, key)

  @doc "Revokes a call here."
  @spec revoke(key()) :: :ok
  def revoke(key) do
    with calls when calls != nil <- calls(),
         pid when pid != nil <- Native.rpc_server_revoke(calls, key) do
      Process.exit(pid, :kill)
    end

    :ok
  end

  @doc """
  Runs `fun` as one of the calls that a clean stop waits for, or returns `:stopping` where the function
  does not begin any more.
  """
  @spec tracked(module(), atom(), (-> result)) :: result | :stopping when result: term()
  def tracked(module, function, fun) do
    {calls, key} = {calls(), {0, :erlang.unique_integer([:positive])}}
    Process.put(@call, {module, function})
    enter?(calls, key)

    try do
      if Closed.closed?(module, function), do: @stopping, else: fun.()
    after
      leave(calls, key)
    end
  end

  @doc "The processes in which these functions run here for other nodes."
  @spec running([{module(), atom()}]) :: [pid()]
  def running(names) do
    case calls() do
      nil ->
        []

      calls ->
        for pid <- Native.rpc_server_running(calls),
            {{:dictionary, _key}, name} <- [Process.info(pid, {:dictionary, @call})],
            name in names,
            do: pid
    end
  end

  @doc "Ends one of them; for its gateway the node is gone. A watchdog ends its function first."
  @spec stop(pid()) :: :ok
  def stop(pid) do
    case Process.info(pid, :initial_call) do
      {:initial_call, {__MODULE__, :run, 6}} -> Process.exit(pid, @stopped)
      _watchdog -> send(pid, @stopped)
    end

    :ok
  end

  @doc "How many functions run here for others, and how many revoked calls are remembered."
  @spec size() :: {non_neg_integer(), non_neg_integer()}
  def size, do: Native.rpc_server_size(calls())

  defp calls, do: :persistent_term.get(__MODULE__, nil)
end
