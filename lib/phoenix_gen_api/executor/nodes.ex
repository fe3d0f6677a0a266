defmodule PhoenixGenApi.Executor.Nodes do
  @moduledoc false
  # Which nodes are to be called by way of `Callees`, as a gateway knows it: asked once per
  # connection, and forgotten when the connection ends. Others are those where the library is not,
  # or does not run.
  #
  # Kept in persistent terms, one for each node, because they are read for every remote call: 30
  # ns, where ETS takes over 100. They are booleans, so replacing and erasing them makes no
  # process be scanned.
  use GenServer

  alias PhoenixGenApi.Executor.Callees

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Whether a node has `Callees`, if it has been asked. On the path of every remote call."
  @spec known(node()) :: boolean() | :unknown
  def known(node), do: :persistent_term.get({__MODULE__, node}, :unknown)

  @doc """
  Asks a node, by `call`, which gets the function to ask with, and remembers what it says.

  A node without the library has no such function. Other outcomes are those of the call that
  was to follow: it was not sent.
  """
  @spec ask(node(), ({module(), atom(), [term()]} -> outcome)) ::
          {:ok, boolean()} | outcome | :not_connected
        when outcome: term()
  def ask(node, call) do
    before = connection(node)

    case call.({Callees, :ready?, []}) do
      {:return, ready?} when is_boolean(ready?) -> remember(node, ready?, before)
      {:raised, :error, :undef, _stack} -> remember(node, false, before)
      {:node_down, _reason} -> :not_connected
      outcome -> outcome
    end
  end

  @doc "Tells the gateways that are connected to this node to ask it again."
  @spec announce() :: :ok
  def announce do
    for gateway <- Node.list(:connected),
        do: Process.send({__MODULE__, gateway}, {:ask_again, node()}, [:noconnect, :nosuspend])

    :ok
  end

  # Only what somebody will forget is remembered. The connection that gave the answer may have
  # ended meanwhile, and with it the event on which that happens.
  defp remember(node, ready?, before) do
    if Process.whereis(__MODULE__) do
      :persistent_term.put({__MODULE__, node}, ready?)
      now = connection(node)
      if now == nil or now != (before || now), do: forget(node)
    end

    {:ok, ready?}
  end

  defp connection(node) do
    Enum.find_value(:erlang.nodes(:connected, %{connection_id: true}), fn
      {^node, %{connection_id: id}} -> id
      _other -> nil
    end)
  end

  @impl true
  def init(_opts) do
    # To forget all of them at the end.
    Process.flag(:trap_exit, true)
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)
    # Events were missed if the process before this one was killed.
    forget_all()
    {:ok, nil}
  end

  @impl true
  def handle_info({:nodedown, node, _info}, state) do
    forget(node)
    {:noreply, state}
  end

  def handle_info({:ask_again, node}, state) do
    forget(node)
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, _state), do: forget_all()

  defp forget_all do
    for {{__MODULE__, node}, _ready?} <- :persistent_term.get(), do: forget(node)
  end

  defp forget(node), do: :persistent_term.erase({__MODULE__, node})
end
