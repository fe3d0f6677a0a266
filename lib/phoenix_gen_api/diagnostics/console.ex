defmodule PhoenixGenApi.Diagnostics.Console do
  @moduledoc false
  # The state of the gateway as a person in IEx reads it.

  alias PhoenixGenApi.{ConfigDb, Diagnostics}
  alias PhoenixGenApi.Diagnostics.{Components, Format, Probe, Table}
  alias PhoenixGenApi.WorkerPool

  @spec cache_status() :: :ok
  def cache_status do
    case Probe.run(fn -> {ConfigDb.status(), ConfigDb.get_all_functions()} end) do
      {:ok, {status, functions}} ->
        rows =
          for {service, types} <- Enum.sort(functions) do
            [service, map_size(types), types |> Map.values() |> Enum.sum_by(&length/1)]
          end

        print(
          "config table: #{Format.count(status.count, "config")}, #{Format.bytes(status.memory_bytes)}",
          table(["service", "functions", "versions"], rows)
        )

      {:error, reason} ->
        print("config table: #{reason}", [])
    end
  end

  @spec pool_status() :: :ok
  def pool_status do
    rows =
      for pool <- Components.pools() do
        case Probe.run(fn -> WorkerPool.status(pool) end) do
          {:ok, status} ->
            [
              pool,
              status.busy_workers,
              status.idle_workers,
              status.queued_tasks,
              if(status.circuit_open, do: "open", else: "closed"),
              status.total_tasks_executed,
              status.total_tasks_failed
            ]

          {:error, reason} ->
            [pool, nil, nil, nil, reason, nil, nil]
        end
      end

    print(
      "worker pools",
      table(["pool", "busy", "idle", "queued", "circuit", "executed", "failed"], rows)
    )
  end

  @spec health(keyword()) :: :ok
  def health(opts) do
    health = Diagnostics.health_check(opts)
    %{vm: vm, node: node, phoenix_gen_api: gateway} = health.checks
    parts = for {name, %{status: _} = check} <- Enum.sort(gateway), do: {name, check}

    rows =
      for {name, check} <- [{:vm, vm}, {:node, node} | parts] do
        [name, check.status, details(check)]
      end

    rows =
      if gateway[:mode] == :client,
        do: rows ++ [["phoenix_gen_api", :ok, "client mode"]],
        else: rows

    print(
      "health of #{health.node}: #{health.status}",
      table(["check", "status", "details"], rows)
    )
  end

  # Why it is worrying, then the figures.
  defp details(check) do
    figures =
      check
      |> Map.drop([:status, :reason])
      |> Enum.reject(fn {_key, value} -> value == nil end)
      |> Enum.sort()
      |> Enum.map(&figure/1)

    [check[:reason] | figures] |> Enum.reject(&is_nil/1) |> Enum.join(", ")
  end

  defp figure({key, bytes}) when key in [:memory_bytes, :max_memory_bytes],
    do: "#{label(key)} #{Format.bytes(bytes)}"

  defp figure({key, %{count: count, limit: limit}}), do: "#{label(key)} #{count} of #{limit}"
  defp figure({key, value}), do: "#{label(key)} #{value}"

  defp label(key),
    do: key |> to_string() |> String.replace_suffix("_bytes", "") |> String.replace("_", " ")

  @spec statistics() :: :ok
  def statistics do
    %{vm: vm, phoenix_gen_api: gateway} = statistics = Diagnostics.statistics()

    print(
      "statistics of #{statistics.node}",
      Table.pairs(
        uptime: Format.duration(vm.uptime_ms),
        memory:
          Enum.map_join([:total, :processes, :binary, :ets, :code, :atom], ", ", fn kind ->
            "#{kind} #{Format.bytes(vm.memory[kind])}"
          end),
        processes: vm.processes,
        "run queue": "#{vm.run_queue}, #{Format.count(vm.schedulers_online, "scheduler")}",
        "input, output":
          "#{Format.bytes(vm.io_bytes.input)}, #{Format.bytes(vm.io_bytes.output)}",
        versions: "OTP #{vm.otp_release}, Elixir #{vm.elixir_version}"
      )
    )

    for {name, status} <- Enum.sort(gateway), is_map(status) do
      print_section(label(name), Table.pairs(figures(name, status)))
    end

    if gateway.client_mode, do: print_section("client mode", [])
    :ok
  end

  # A pool is a line, everything else a line per figure.
  defp figures(:worker_pool, pools) do
    for {pool, status} <- Enum.sort(pools),
        do: {pool, status |> Enum.sort() |> Enum.map_join(", ", &figure/1)}
  end

  defp figures(_name, status) do
    for {key, value} <- Enum.sort(status), key != :status, do: {label(key), shown(key, value)}
  end

  defp shown(:memory_bytes, bytes), do: Format.bytes(bytes)
  defp shown(_key, names) when is_list(names), do: names |> Enum.map_join(", ", &Format.name/1)
  defp shown(_key, %{} = map), do: map |> Enum.sort() |> Enum.map_join(", ", &entry/1)
  defp shown(_key, value), do: value

  defp entry({key, value}) when is_list(value), do: "#{Format.name(key)}: #{length(value)}"
  defp entry({key, value}), do: "#{Format.name(key)}: #{Format.name(value)}"

  @spec debug(keyword()) :: :ok
  def debug(opts) do
    report = Diagnostics.debug_report(opts)

    rows =
      for process <- report.processes do
        [
          inspect(process.pid),
          process.name || mfa(process.initial_call),
          Format.bytes(process.memory_bytes),
          process.message_queue_len,
          mfa(process.current_function)
        ]
      end

    print(
      "largest processes of #{report.node}",
      table(["pid", "name or start", "memory", "waiting", "in"], rows)
    )

    for %{current_stacktrace: trace, pid: pid} <- report.processes do
      print_section(
        inspect(pid),
        Enum.map(trace, &["  ", Exception.format_stacktrace_entry(&1), ?\n])
      )
    end

    stores =
      for {store, figures} <- Enum.sort(report.native) do
        case figures do
          %{error: reason} -> [store, nil, reason]
          %{entries: entries, memory_bytes: bytes} -> [store, entries, Format.bytes(bytes)]
        end
      end

    print_section("native stores", table(["store", "entries", "memory"], stores))
    print_section("tracing", Table.pairs(Enum.sort(Map.delete(report.trace, :node))))
  end

  defp mfa({module, function, arity}), do: "#{Format.function({module, function})}/#{arity}"
  defp mfa(other), do: inspect(other)

  defp table(_header, []), do: "  none\n"
  defp table(header, rows), do: Table.lines(header, rows)

  defp print(title, lines), do: IO.write([title, ?\n, lines])
  defp print_section(title, lines), do: print([?\n, title], lines)
end
