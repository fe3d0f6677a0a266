defmodule PhoenixGenApi.Diagnostics.Health do
  @moduledoc false

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Diagnostics.Components

  # Beyond this share of a limit of the VM there is little time left to act.
  @nearly 0.9

  @spec check(keyword()) :: map()
  def check(opts) do
    opts = Keyword.validate!(opts, max_memory_bytes: nil)
    checks = %{vm: vm(opts[:max_memory_bytes]), node: node_check(), phoenix_gen_api: gateway()}

    %{
      status: Components.worst(Enum.map(Map.values(checks), & &1.status)),
      mode: mode(),
      node: node(),
      checked_at_ms: System.system_time(:millisecond),
      checks: checks
    }
  end

  @spec mode() :: :client | :gateway
  def mode, do: if(Config.get(:client_mode), do: :client, else: :gateway)

  defp gateway do
    case mode() do
      :client ->
        %{status: :ok, mode: :client}

      :gateway ->
        checks = Components.checks()
        worst = Components.worst(Enum.map(Map.values(checks), & &1.status))
        Map.merge(%{status: worst, mode: :gateway}, checks)
    end
  end

  defp vm(max_memory) do
    figures = %{
      memory_bytes: :erlang.memory(:total),
      max_memory_bytes: max_memory,
      processes: share(:process_count, :process_limit),
      ports: share(:port_count, :port_limit),
      atoms: share(:atom_count, :atom_limit),
      run_queue: :erlang.statistics(:total_run_queue_lengths)
    }

    full =
      for key <- [:processes, :ports, :atoms],
          %{count: count, limit: limit} = figures[key],
          count >= @nearly * limit,
          do: key

    over? = max_memory != nil and figures.memory_bytes > max_memory

    reasons =
      if(over?, do: ["memory is over max_memory_bytes"], else: []) ++
        Enum.map(full, &"nearly as many #{&1} as the VM allows")

    case reasons do
      [] -> Map.put(figures, :status, :ok)
      reasons -> Map.merge(figures, %{status: :warning, reason: Enum.join(reasons, "; ")})
    end
  end

  defp share(count, limit),
    do: %{count: :erlang.system_info(count), limit: :erlang.system_info(limit)}

  defp node_check do
    figures = %{name: node(), connected: length(Node.list(:connected))}

    if Node.alive?(),
      do: Map.put(figures, :status, :ok),
      else: Map.merge(figures, %{status: :warning, reason: "the node is not distributed"})
  end
end
