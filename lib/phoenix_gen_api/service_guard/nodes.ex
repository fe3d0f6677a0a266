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
  Asks a node, by `call`, which gets the function to ask with, and remembers what it says.

  A node without the library has no such function. Other outcomes are those of the call that
  was to follow: it was not sent.
  """
  @spec ask(node(), ({module(), atom(), [term()]} -> outcome)) ::
          {:ok, boolean()} | outcome | :not_connected
        when outcome: term()
  def ask(node, call) do
    before = connection(node)

    case call.({ServiceGuard, :guarded?, []}) do
      {:return, guarded?} when is_boolean(guarded?) -> remember(node, guarded?, before)
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

  defp remember(node, guarded?, before) do
    :ets.insert(@table, {node, guarded?})
    # The connection that gave the answer may have ended, and with it the event that forgets it.
    now = connection(node)
    if now == nil or now != (before || now), do: :ets.delete(@table, node)
    {:ok, guarded?}
  rescue
    ArgumentError -> {:ok, guarded?}
  end

  defp connection(node) do
    Enum.find_value(:erlang.nodes(:connected, %{connection_id: true}), fn
      {^node, %{connection_id: id}} -> id
      _other -> nil
    end)
  end

  @impl true
  def init(_opts) do
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)
    # Events were missed while this process was being restarted.
    :ets.delete_all_objects(@table)
    {:ok, nil}
  end

  @impl true
  def handle_info({:nodedown, node, _info}, state), do: forget(node, state)

  def handle_info({:ask_again, node}, state), do: forget(node, state)
  def handle_info(_other, state), do: {:noreply, state}

  defp forget(node, state) do
    :ets.delete(@table, node)
    {:noreply, state}
  end
end
