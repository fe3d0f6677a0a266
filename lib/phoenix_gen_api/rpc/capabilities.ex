defmodule PhoenixGenApi.RPC.Capabilities do
  @moduledoc false
  # Which nodes are to be called by way of `RPC.Server`, as a gateway knows it: asked once per
  # connection, and forgotten when the connection ends. Others are those where the library is not,
  # or does not run, and those with a version of it that speaks another protocol.
  #
  # Kept in persistent terms, one for each node, because they are read for every remote call: 30
  # ns, where ETS takes over 100. They are atoms, so replacing and erasing them makes no
  # process be scanned.
  use GenServer

  alias PhoenixGenApi.Log
  alias PhoenixGenApi.RPC

  require Log

  @typedoc "Whether a node has `RPC.Server`; `:other` is one of another protocol."
  @type answer :: boolean() | :other

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "What a node has said, if it has been asked. On the path of every remote call."
  @spec lookup(node()) :: answer() | :unknown
  def lookup(node), do: :persistent_term.get({__MODULE__, node}, :unknown)

  @doc """
  Asks a node, by `call`, which gets the function to ask with, and remembers what it says.

  A node without the library has no such function, and whatever a version of it may say that this
  one does not know, it is one of another protocol. Other outcomes are those of the call that was
  to follow: it was not sent.
  """
  @spec discover(node(), ({module(), atom(), [term()]} -> outcome)) ::
          {:ok, answer()} | outcome | :not_connected
        when outcome: term()
  def discover(node, call) do
    epoch = epoch()

    protocols = RPC.Server.protocols()

    case call.({RPC.Server, :agree, [protocols]}) do
      {:return, answer} -> remember(node, answer(answer, protocols), epoch)
      {:raised, :error, :undef, _stack} -> remember(node, false, epoch)
      {:node_down, _reason} -> :not_connected
      outcome -> outcome
    end
  end

  defp answer({:ok, protocol}, protocols), do: if(protocol in protocols, do: true, else: :other)
  defp answer(:none, _protocols), do: false
  defp answer(_another_version, _protocols), do: :other

  @doc "Says in the log that a node speaks another protocol, once for each connection."
  @spec other_protocol(node()) :: :ok
  def other_protocol(node), do: GenServer.cast(__MODULE__, {:other, node})

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
  defp remember(node, answer, epoch) do
    if epoch != nil do
      :persistent_term.put({__MODULE__, node}, answer)
      if epoch() != epoch, do: forget(node)
    end

    if answer == :other, do: other_protocol(node)
    {:ok, answer}
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
    {:ok, MapSet.new()}
  end

  # Several calls may have asked a node at once.
  @impl true
  def handle_cast({:other, node}, logged) do
    unless node in logged do
      Log.warning(
        "node #{node} runs another version of the library, which begins calls otherwise: " <>
          "its functions are called as those of a node without the library"
      )
    end

    {:noreply, MapSet.put(logged, node)}
  end

  @impl true
  def handle_info({:nodedown, node, _info}, logged), do: {:noreply, asked_again(node, logged)}
  def handle_info({:invalidate, node}, logged), do: {:noreply, asked_again(node, logged)}
  def handle_info(_other, logged), do: {:noreply, logged}

  defp asked_again(node, logged) do
    bump_epoch()
    forget(node)
    MapSet.delete(logged, node)
  end

  @impl true
  def terminate(_reason, _state) do
    :persistent_term.erase(__MODULE__)
    forget_all()
  end

  defp forget_all do
    for {{__MODULE__, node}, _answer} <- :persistent_term.get(), do: forget(node)
  end

  defp forget(node), do: :persistent_term.erase({__MODULE__, node})
end
