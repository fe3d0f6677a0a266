defmodule PhoenixGenApi.ServiceGuard.Nodes do
  @moduledoc false
  # Which nodes are guarded, as a gateway knows it: asked once per connection, kept in a table
  # of the supervisor, and forgotten when the connection ends.
  use GenServer

  alias PhoenixGenApi.ServiceGuard

  @table __MODULE__

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new do
    if :ets.whereis(@table) == :undefined,
      do: :ets.new(@table, [:named_table, :set, :public, read_concurrency: true])

    :ok
  end

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Whether a node is guarded, if it has been asked. On the path of every remote call."
  @spec known(node()) :: boolean() | :unknown
  def known(node) do
    :ets.lookup_element(@table, node, 2, :unknown)
  rescue
    # No gateway runs here, and nothing is remembered.
    ArgumentError -> :unknown
  end

  @doc """
  What the answer of a node to `question/0` says, which is remembered.

  A node without the library has no such function. Other outcomes are those of the call that
  was to follow: it was not sent.
  """
  @spec learn(node(), outcome) :: {:ok, boolean()} | outcome | :not_connected when outcome: term()
  def learn(node, {:return, guarded?}) when is_boolean(guarded?), do: remember(node, guarded?)
  def learn(node, {:raised, :error, :undef, _stack}), do: remember(node, false)
  def learn(_node, {:node_down, _reason}), do: :not_connected
  def learn(_node, outcome), do: outcome

  @doc "The function that a node is asked with."
  @spec question() :: {module(), atom(), [term()]}
  def question, do: {ServiceGuard, :guarded?, []}

  @doc "Tells the gateways that are connected to this node to ask it again."
  @spec announce() :: :ok
  def announce do
    for gateway <- Node.list(:connected),
        do: Process.send({__MODULE__, gateway}, {:ask_again, node()}, [:noconnect, :nosuspend])

    :ok
  end

  defp remember(node, guarded?) do
    :ets.insert(@table, {node, guarded?})
    # The connection that gave the answer may be gone, and with it the event that forgets it.
    unless node in Node.list(:connected), do: :ets.delete(@table, node)
    {:ok, guarded?}
  rescue
    ArgumentError -> {:ok, guarded?}
  end

  @impl true
  def init(_opts) do
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)
    # Events were missed while this process was being restarted.
    :ets.delete_all_objects(@table)
    {:ok, nil}
  end

  @impl true
  def handle_info({change, node, _info}, state) when change in [:nodeup, :nodedown],
    do: forget(node, state)

  def handle_info({:ask_again, node}, state), do: forget(node, state)
  def handle_info(_other, state), do: {:noreply, state}

  defp forget(node, state) do
    :ets.delete(@table, node)
    {:noreply, state}
  end
end
