defmodule PhoenixGenApi.Diagnostics.Report do
  @moduledoc false
  # The largest processes of the node, and what Rust holds, which the VM does not know of.

  alias PhoenixGenApi.{ConfigDb, NodeSelector, RateLimiter, Relay}
  alias PhoenixGenApi.Diagnostics.{Health, Probe, Tracing}

  @spec build(keyword()) :: map()
  def build(opts) do
    opts = Keyword.validate!(opts, process_limit: 20, include_current_stacktrace: false)

    %{
      node: node(),
      collected_at_ms: System.system_time(:millisecond),
      processes: processes(opts[:process_limit], opts[:include_current_stacktrace]),
      native: native(),
      trace: Tracing.status()
    }
  end

  defp processes(limit, stacktraces?) when is_integer(limit) and limit >= 0 do
    # A process that has ended meanwhile has no memory.
    sized =
      for pid <- Process.list(),
          {:memory, bytes} <- [Process.info(pid, :memory)],
          do: {bytes, pid}

    for {_bytes, pid} <- sized |> Enum.sort(:desc) |> Enum.take(limit),
        entry = entry(pid, stacktraces?),
        do: entry
  end

  @keys [
    :registered_name,
    :memory,
    :message_queue_len,
    :reductions,
    :status,
    :current_function,
    :initial_call,
    # What an OTP process was started as: of the dictionary nothing else is read.
    {:dictionary, :"$initial_call"}
  ]

  defp entry(pid, stacktraces?) do
    keys = if stacktraces?, do: [:current_stacktrace | @keys], else: @keys

    case :erlang.process_info(pid, keys) do
      :undefined ->
        nil

      info ->
        trace = if stacktraces?, do: [current_stacktrace: stacktrace(info)], else: []

        Map.new(
          [
            pid: pid,
            name: name(info[:registered_name]),
            memory_bytes: info[:memory],
            message_queue_len: info[:message_queue_len],
            reductions: info[:reductions],
            status: info[:status],
            current_function: info[:current_function],
            initial_call: started_as(info)
          ] ++ trace
        )
    end
  end

  defp started_as(info) do
    case List.keyfind(info, {:dictionary, :"$initial_call"}, 0) do
      {_key, {_module, _function, _arity} = mfa} -> mfa
      _plain -> info[:initial_call]
    end
  end

  defp name([]), do: nil
  defp name(name), do: name

  defp stacktrace(info), do: Enum.map(info[:current_stacktrace], &entry_point/1)

  # Arguments in a stack entry are data of requests.
  defp entry_point({module, function, arguments, location}) when is_list(arguments),
    do: {module, function, length(arguments), location}

  defp entry_point(entry), do: entry

  # Entries and bytes per store; estimates that leave out the allocator's own overhead.
  defp native do
    case Health.mode() do
      :client ->
        %{}

      :gateway ->
        %{
          config_db: store(&ConfigDb.status/0, :count),
          node_selector: store(&NodeSelector.size/0, :sticky_entries),
          rate_limiter: store(&RateLimiter.status/0, :entries),
          relay: store(&Relay.status/0, :members)
        }
    end
  end

  defp store(read, entries) do
    case Probe.run(read) do
      {:ok, status} -> %{entries: status[entries], memory_bytes: status.memory_bytes}
      {:error, reason} -> %{error: reason}
    end
  end
end
