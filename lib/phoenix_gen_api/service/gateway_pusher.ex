defmodule PhoenixGenApi.Service.GatewayPusher do
  @moduledoc false
  # Keeps one gateway supplied with one push config. It has no other work, so it may block
  # while it pushes; gateways do not wait for each other.
  #
  # It monitors the gateway's application: that ends with the node, with the connection, and
  # when it is restarted alone. While the monitor stands there is nothing to do.
  #
  # A node without a name reaches no other one: it pushes to its own gateway, and to others once it
  # has a name. Its own gateway then has to know it by that name.
  use GenServer

  alias PhoenixGenApi.Service.Push

  @max_backoff_ms 30_000
  # What every node without a name is called, by itself only.
  @unnamed :nonode@nohost

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts), do: GenServer.start_link(__MODULE__, opts)

  # `pushed_at` is nil before the first answer, `monitor` while the gateway is to be pushed to; `name` is
  # that of this node when it has pushed last, nil if it has not.

  @impl true
  def init(opts) do
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)

    state = %{
      gateway: opts[:gateway],
      push_config: opts[:push_config],
      opts: Keyword.take(opts, [:force, :strict, :timeout]),
      interval: opts[:retry_interval],
      backoff: opts[:retry_interval],
      pushed_at: nil,
      name: nil,
      monitor: nil,
      retry: nil
    }

    {:ok, state, {:continue, :push}}
  end

  @impl true
  def handle_continue(:push, state), do: {:noreply, push(state)}

  @impl true
  def handle_info({:nodeup, _node, _info}, %{name: name} = state)
      when name in [nil, @unnamed] and node() != @unnamed,
      do: {:noreply, push(%{state | backoff: state.interval})}

  def handle_info({:nodeup, gateway, _info}, %{gateway: gateway, monitor: nil} = state),
    do: {:noreply, push(%{state | backoff: state.interval})}

  # A lost connection comes back with :nodeup, or by trying; an application that was stopped
  # may be up again already.
  def handle_info({:DOWN, monitor, :process, _name, reason}, %{monitor: monitor} = state) do
    state = %{state | monitor: nil, backoff: state.interval}
    {:noreply, if(reason == :noconnection, do: schedule_retry(state), else: push(state))}
  end

  def handle_info({:retry, retry}, %{retry: retry} = state), do: {:noreply, push(state)}
  def handle_info(_other, state), do: {:noreply, state}

  defp push(state) do
    gateway = if state.gateway == @unnamed, do: node(), else: state.gateway

    cond do
      not Node.alive?() and gateway != node() -> schedule_retry(state)
      state.name in [nil, node()] -> push(gateway, [], %{state | name: node()})
      # Under the new name, in place of what it has pushed under the other one.
      true -> push(gateway, [force: true], renamed(state))
    end
  end

  defp renamed(state) do
    if state.monitor, do: Process.demonitor(state.monitor, [:flush])
    %{state | name: node(), monitor: nil}
  end

  # The monitor comes first: an application that is restarted right after the push is noticed.
  defp push(gateway, opts, state) do
    monitor = Process.monitor({PhoenixGenApi.Supervisor, gateway})
    result = Push.run(gateway, state.push_config, opts ++ again(state) ++ state.opts)
    Push.log(result, gateway, state.push_config)

    if retryable?(result) do
      Process.demonitor(monitor, [:flush])
      schedule_retry(state)
    else
      pushed_at = state.pushed_at || System.system_time(:microsecond)
      %{state | monitor: monitor, retry: nil, backoff: state.interval, pushed_at: pushed_at}
    end
  end

  defp again(%{pushed_at: nil}), do: []
  defp again(%{pushed_at: pushed_at}), do: [pushed_at: pushed_at]

  # A node is up before its application is.
  defp retryable?({:error, {:badrpc, _reason}}), do: true
  defp retryable?({:error, :not_running}), do: true
  defp retryable?(_answer), do: false

  defp schedule_retry(state) do
    retry = make_ref()
    Process.send_after(self(), {:retry, retry}, state.backoff)
    %{state | retry: retry, backoff: min(state.backoff * 2, @max_backoff_ms)}
  end
end
