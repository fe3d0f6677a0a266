defmodule PhoenixGenApi.RPC.Capabilities do
  @moduledoc false
  # Which nodes are to be called by way of `RPC.Server`, as a gateway knows it: asked once per
  # connection, and forgotten when the connection ends. Others are those where the library is not,
  # or does not run.
  #
  # Kept in persistent terms, one for each node, because they are read for every remote call: 30
  # ns, where ETS takes over 100. They are booleans, so replacing and erasing them makes no
  # process be scanned.
  use GenServer

  alias PhoenixGenApi.RPC

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Whether a node has `RPC.Server`, if it has been asked. On the path of every remote call."
  @spec lookup(node()) :: boolean() | :unknown
  def lookup(node), do: :persistent_term.get({__MODULE__, node}, :unknown)

  @doc """
  Asks a node, by `call`, which gets the function to ask with, and remembers what it says.

  A node without the library has no such function. Other outcomes are those of the call that
  was to follow: it was not sent.
  """
  @spec discover(node(), ({module(), atom(), [term()]} -> outcome)) ::
          {:ok, boolean()} | outcome | :not_connected
        when outcome: term()
  def discover(node, call) do
    epoch = epoch()

    case call.({RPC.Server, :ready?, []}) do
      {:return, ready?} when is_boolean(ready?) -> remember(node, ready?, epoch)
      {:raised, :error, :undef, _stack} -> remember(node, false, epoch)
      {:node_down, _reason} -> :not_connected
      outcome -> outcome
    end
  end

  @doc "Tells the gateways that are connected to this node to ask it again."
  @spec announce() :: :ok
  def announce do
    # A connection that is full must not lose it, and must not hold up the start.
    RPC.Connection.nosuspend(fn ->
      for gateway <- Node.list(:connected),
          do: Process.send({__MODULE__, gateway}, {:invalidate, node()}, [:noconnect])
    end)

    :ok
  end

  # Only what somebody will forget is remembered. If that happened to any node while this one was
  # asked, it may have been this one, and the answer is from before.
  defp remember(node, ready?, epoch) do
    if epoch != nil do
      :persistent_term.put({__MODULE__, node}, ready?)
      if epoch() != epoch, do: forget(node)
    end

    {:ok, ready?}
  end

  # Another one each time that something is forgotten, and none without this process.
  defp epoch, do: :persistent_term.get(__MODULE__, nil)
  defp bump_epoch, do: :persistent_term.put(__MODULE__, :erlang.unique_integer())

  @impl true
  def init(_opts) do
    # To forget all of them at the end.
    Process.flag(:trap_exit, true)
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)
    # Events were missed if the process before this one was killed.
    bump_epoch()
    forget_all()
    {:ok, nil}
  end

  @impl true
  def handle_info({:nodedown, node, _info}, state) do
    bump_epoch()
    forget(node)
    {:noreply, state}
  end

  def handle_info({:invalidate, node}, state) do
    bump_epoch()
    forget(node)
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, _state) do
    :persistent_term.erase(__MODULE__)
    forget_all()
  end

  defp forget_all do
    for {{__MODULE__, node}, _ready?} <- :persistent_term.get(), do: forget(node)
  end

  defp forget(node), do: :persistent_term.erase({__MODULE__, node})
end
