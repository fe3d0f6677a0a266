defmodule PhoenixGenApi.ConfigPusher.Link do
  @moduledoc false
  # Keeps one gateway supplied with one push config. It has no other work, so it may block
  # while it pushes; gateways do not wait for each other.
  use GenServer

  alias PhoenixGenApi.ConfigPusher

  @max_wait_ms 30_000

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts), do: GenServer.start_link(__MODULE__, opts)

  @impl true
  def init(opts) do
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)

    state = %{
      gateway: opts[:gateway],
      push_config: opts[:push_config],
      opts: Keyword.take(opts, [:force, :timeout]),
      interval: opts[:retry_interval],
      wait: opts[:retry_interval],
      retry: nil
    }

    {:ok, state, {:continue, :push}}
  end

  @impl true
  def handle_continue(:push, state), do: {:noreply, push(state)}

  @impl true
  def handle_info({:nodeup, gateway, _info}, %{gateway: gateway} = state),
    do: {:noreply, push(%{state | wait: state.interval})}

  def handle_info({:retry, retry}, %{retry: retry} = state), do: {:noreply, push(state)}
  def handle_info(_other, state), do: {:noreply, state}

  defp push(state) do
    result = ConfigPusher.push(state.gateway, state.push_config, state.opts)
    ConfigPusher.log(result, state.gateway, state.push_config)
    after_push(result, state)
  end

  # A node is up before its application is.
  defp after_push({:error, reason}, state)
       when reason == :not_running or elem(reason, 0) == :badrpc do
    retry = make_ref()
    Process.send_after(self(), {:retry, retry}, state.wait)
    %{state | retry: retry, wait: min(state.wait * 2, @max_wait_ms)}
  end

  defp after_push(_answer, state), do: %{state | retry: nil, wait: state.interval}
end
