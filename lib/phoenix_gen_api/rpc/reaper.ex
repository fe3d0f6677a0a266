defmodule PhoenixGenApi.RPC.Reaper do
  @moduledoc false
  # Kills functions whose caller died while they ran. The native side notices, because the
  # handle of a call lives on the caller's heap, and sends the pid here, or the key of a call
  # whose pid the caller had not heard of yet.
  use GenServer

  alias PhoenixGenApi.RPC

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts) do
    # The pools stop before it does, and leave it their last orders.
    Process.flag(:trap_exit, true)
    # One node that hangs must not keep it from killing on the others.
    :erlang.process_flag(:async_dist, true)
    {:ok, nil}
  end

  @impl true
  def handle_info(message, state) do
    carry_out(message)
    {:noreply, state}
  end

  @impl true
  def terminate(reason, state) do
    receive do
      message ->
        carry_out(message)
        terminate(reason, state)
    after
      0 -> :ok
    end
  end

  defp carry_out({:kill, pid}) when is_pid(pid), do: Process.exit(pid, :kill)
  defp carry_out({:revoke, node, key}), do: RPC.Client.revoke(node, key)
  defp carry_out(_other), do: :ok
end
