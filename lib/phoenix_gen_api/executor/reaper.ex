defmodule PhoenixGenApi.Executor.Reaper do
  @moduledoc false
  # Kills functions whose caller died while they ran. The native side notices, because the
  # handle of a call lives on the caller's heap, and sends the pid here, or the key of a call
  # whose pid the caller had not heard of yet.
  use GenServer

  alias PhoenixGenApi.Executor.Callees

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    # One node that hangs must not keep it from killing on the others.
    :erlang.process_flag(:async_dist, true)
    {:ok, nil}
  end

  @impl true
  def handle_info({:kill, pid}, state) when is_pid(pid) do
    Process.exit(pid, :kill)
    {:noreply, state}
  end

  def handle_info({:revoke, node, key}, state) do
    Callees.revoke_at(node, key)
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}
end
