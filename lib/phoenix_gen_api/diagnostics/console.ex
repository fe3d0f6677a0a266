defmodule PhoenixGenApi.Diagnostics.Console do
  @moduledoc false
  # The titles and rows that the IEx helpers of `PhoenixGenApi` print.

  alias PhoenixGenApi.{ConfigDb, ConfigFailed, ConfigReceiver, Decisions, Diagnostics, Format}
  alias PhoenixGenApi.{RateLimiter, Relay, SafeInspect, TablePrinter}
  alias PhoenixGenApi.Diagnostics.{Components, Probe}
  alias PhoenixGenApi.Structs.PushConfig

  ## The gateway

  @spec cache_status() :: :ok
  def cache_status do
    case Probe.run(fn -> {ConfigDb.status(), ConfigDb.get_all_functions()} end) do
      {:ok, {status, functions}} ->
        rows =
          for {service, types} <- Enum.sort(functions),
              do: [service, map_size(types), types |> Map.values() |> Enum.sum_by(&length/1)]

        held = "#{Format.count(status.count, "config")}, #{Format.bytes(status.memory_bytes)}"
        print("config table: #{held}", {["service", "functions", "versions"], rows})

      {:error, reason} ->
        print("config table: #{reason}", nil)
    end
  end

  @spec pool_status() :: :ok
  def pool_status do
    rows =
      for {pool, status} <- Components.pools() do
        case status do
          %{error: reason} ->
            [pool, nil, nil, nil, reason, nil, nil]

          %{busy_workers: busy, idle_workers: idle, queued_tasks: queued} ->
            circuit = if status.circuit_open, do: "open", else: "closed"
            totals = [status.total_tasks_executed, status.total_tasks_failed]
            [pool, busy, idle, queued, circuit | totals]
        end
      end

    header = ["pool", "busy", "idle", "queued", "circuit", "executed", "failed"]
    print("worker pools", {header, rows})
  end

  @spec health(keyword()) :: :ok
  def health(opts) do
    %{checks: %{vm: vm, node: node, phoenix_gen_api: gateway}} =
      health = Diagnostics.health_check(opts)

    parts =
      if gateway.mode == :client,
        do: [phoenix_gen_api: %{status: :ok, reason: "client mode"}],
        else: for({name, %{status: _} = check} <- Enum.sort(gateway), do: {name, check})

    rows =
      for {name, check} <- [vm: vm, node: node] ++ parts, do: [name, check.status, details(check)]

    print("health of #{health.node}: #{health.status}", {["check", "status", "details"], rows})
  end

  # The reason first, then the figures.
  defp details(check) do
    figures = for {_, value} = figure <- figures(check), value != nil, do: figure
    Enum.join(List.wrap(check[:reason]) ++ texts(figures), ", ")
  end

  @spec statistics() :: :ok
  def statistics do
    %{vm: vm, phoenix_gen_api: gateway} = statistics = Diagnostics.statistics()
    kinds = [:total, :processes, :binary, :ets, :code, :atom]
    %{input: input, output: output} = vm.io_bytes

    of_vm = [
      uptime: Format.duration(vm.uptime_ms),
      memory: Enum.map_join(kinds, ", ", &"#{&1} #{Format.bytes(vm.memory[&1])}"),
      processes: vm.processes,
      "run queue": "#{vm.run_queue}, #{Format.count(vm.schedulers_online, "scheduler")}",
      "input, output": "#{Format.bytes(input)}, #{Format.bytes(output)}",
      versions: "OTP #{vm.otp_release}, Elixir #{vm.elixir_version}"
    ]

    parts =
      for {name, %{} = status} <- Enum.sort(gateway) do
        # A pool is a line, everything else a line per figure.
        if name == :worker_pool,
          do: {label(name), for({pool, status} <- status, do: {pool, one_line(status)})},
          else: {label(name), figures(status)}
      end

    client = if gateway.client_mode, do: [{"client mode", nil}], else: []
    TablePrinter.print([{"statistics of #{statistics.node}", of_vm}] ++ parts ++ client)
  end

  defp figures(status) do
    for {key, value} <- Enum.sort(status),
        key not in [:status, :reason],
        do: {label(key), figure(key, value)}
  end

  defp one_line(status), do: status |> figures() |> texts() |> Enum.join(", ")
  defp texts(figures), do: for({label, value} <- figures, do: "#{label} #{value}")

  defp label(key),
    do: key |> to_string() |> String.replace_suffix("_bytes", "") |> String.replace("_", " ")

  defp figure(key, bytes) when key in [:memory_bytes, :max_memory_bytes] and is_integer(bytes),
    do: Format.bytes(bytes)

  defp figure(_key, %{count: count, limit: limit}), do: "#{count} of #{limit}"

  defp figure(_key, names) when is_list(names),
    do: Enum.map_join(names, ", ", &SafeInspect.name/1)

  defp figure(_key, %{} = map), do: map |> Enum.sort() |> Enum.map_join(", ", &entry/1)
  defp figure(_key, value), do: value

  defp entry({key, value}) when is_list(value), do: "#{SafeInspect.name(key)}: #{length(value)}"
  defp entry({key, value}), do: "#{SafeInspect.name(key)}: #{SafeInspect.name(value)}"

  @spec debug(keyword()) :: :ok
  def debug(opts) do
    report = Diagnostics.debug_report(opts)

    processes =
      for process <- report.processes do
        memory = Format.bytes(process.memory_bytes)
        name = process.name || function(process.initial_call)
        waiting = process.message_queue_len
        [inspect(process.pid), name, memory, waiting, function(process.current_function)]
      end

    traces =
      for %{current_stacktrace: trace, pid: pid} <- report.processes,
          do: {inspect(pid), Enum.map(trace, &Exception.format_stacktrace_entry/1)}

    stores =
      for {store, figures} <- Enum.sort(report.native) do
        case figures do
          %{error: reason} -> [store, nil, reason]
          %{entries: entries, memory_bytes: bytes} -> [store, entries, Format.bytes(bytes)]
        end
      end

    largest = {["pid", "name or start", "memory", "waiting", "in"], processes}
    native = {["store", "entries", "memory"], stores}
    tracing = Enum.sort(Map.delete(report.trace, :node))

    TablePrinter.print(
      [{"largest processes of #{report.node}", largest} | traces] ++
        [{"native stores", native}, {"tracing", tracing}]
    )
  end

  defp function({module, function, arity}), do: Format.function({module, function}, arity)
  defp function(other), do: inspect(other)

  @spec relay_status() :: :ok
  def relay_status do
    held = [:gateways, :groups, :members, :users, :local_pids, :memory_bytes]
    print("relay", lines(Relay.status(), held))
  end

  ## Functions, requests and the cluster

  @spec call_flow(term(), term(), term()) :: :ok
  def call_flow(service, type, version) do
    flow = Diagnostics.call_flow(service, type, version)
    rows = for %{phase: phase, desc: desc} <- flow.steps, do: [label(phase), desc]
    TablePrinter.print([{title(flow), {["stage", "what happens"], rows}} | nodes(flow)])
  end

  @spec inspect_request(term()) :: :ok
  def inspect_request(request) do
    flow = Diagnostics.inspect_request(request)

    rows =
      for step <- flow.steps,
          do: [label(step.phase), decision(step.decision), step.because || step.desc]

    stages = {title(flow), {["stage", "", "why"], rows}}
    TablePrinter.print([stages | nodes(flow)] ++ [{verdict(flow), logged(flow)}])
  end

  defp decision(:passes), do: "ok"
  defp decision(:refuses), do: "REFUSED"
  defp decision(:unknown), do: "?"
  defp decision(:none), do: nil

  defp verdict(%{verdict: :runs}), do: "The function would be called."

  defp verdict(%{verdict: :unknown, unknown: phases}),
    do: "It depends on code of yours: #{Enum.map_join(phases, ", ", &label/1)}."

  defp verdict(%{refused_by: phase, client_gets: text}),
    do: "Refused at #{label(phase)}. The client gets: #{SafeInspect.printable(text)}"

  defp logged(%{log_says: words}) when is_binary(words),
    do: [{"the log says", SafeInspect.one_line(words)}]

  defp logged(_flow), do: nil

  defp title(%{config: nil, service: nil}), do: "not a request"

  defp title(flow) do
    [flow.service, flow.request_type, flow.version]
    |> Enum.reject(&is_nil/1)
    |> Format.names(" ")
    |> SafeInspect.truncate(120)
  end

  # That the gateway itself is there goes without saying.
  defp nodes(%{local?: true, node_statuses: [%{status: :up}]}), do: []

  defp nodes(%{node_statuses: [_ | _] = nodes}) do
    rows = for node <- nodes, do: [node.node, node.status, yes(node.connected?), node.in_flight]
    [{"nodes", {["node", "selection", "connected", "in flight"], rows}}]
  end

  defp nodes(_flow), do: []

  @spec flows(keyword()) :: :ok
  def flows(opts) do
    rows =
      for flow <- Diagnostics.list_call_flows(opts),
          do: [flow.service, flow.request_type, flow.version | columns(flow)]

    header = ["service", "request type", "version", "response", "nodes", "permission", "calls"]
    print(Format.count(length(rows), "function"), {header, rows})
  end

  defp columns(%{config: nil, error: error}), do: [nil, nil, nil, error]

  defp columns(flow),
    do: [flow.response_type, where(flow), flow.permission.strategy, Format.function(flow.mfa)]

  defp where(%{local?: true}), do: "gateway"
  defp where(%{nodes: {_, _, _} = mfa}), do: Format.function(mfa)

  defp where(flow) do
    up = Enum.count(flow.node_statuses, &(&1.status == :up))
    "#{up} of #{length(flow.nodes)}, #{SafeInspect.inspect(flow.choose_node_mode, 30)}"
  end

  @spec cluster() :: :ok
  def cluster do
    view = Diagnostics.cluster_view()
    distributed = if view.distributed?, do: "", else: ", not distributed"

    nodes =
      for node <- view.nodes do
        services = Enum.map_join(node.services, ", ", &SafeInspect.name/1)
        [node.node, node.status, yes(node.connected?), node.in_flight, services]
      end

    services =
      for {service, figures} <- Enum.sort(view.services) do
        nodes = Enum.map_join(figures.nodes, ", ", &to_string/1)
        nodes = if figures.dynamic?, do: String.trim("#{nodes} and dynamic ones"), else: nodes
        [service, figures.functions, figures.versions, figures.disabled, nodes]
      end

    TablePrinter.print([
      {"cluster seen by #{view.node} (#{view.mode}#{distributed})", nil},
      {"nodes", {["node", "selection", "connected", "in flight", "services"], nodes}},
      {"services", {["service", "functions", "versions", "disabled", "nodes"], services}}
    ])
  end

  defp yes(true), do: "yes"
  defp yes(false), do: "no"

  ## Limits

  @spec limits_of(term()) :: :ok
  def limits_of(user_id) do
    %{api: api} = RateLimiter.get_configured_limits()
    functions = for %{key: :user_id, service: s, request_type: t} <- api, uniq: true, do: {s, t}

    lines =
      for scope <- [:global | functions],
          row <- RateLimiter.get_rate_limit_status(user_id, scope, :user_id) do
        "#{scope(scope)}: #{row.current_requests} of #{row.max_requests} in " <>
          "#{window(row.window_ms)}, #{row.remaining} left"
      end

    print("limits by user_id for #{SafeInspect.inspect(user_id)}", lines)
  end

  defp scope(:global), do: "global"
  defp scope({service, type}), do: Format.names([service, type], " ")

  @spec global_limits() :: :ok
  def global_limits, do: TablePrinter.print([global_section()])

  @doc "Prints the result of a change to the global limits."
  @spec changed(:ok | RateLimiter.refusal()) :: :ok
  def changed(:ok), do: global_limits()
  def changed({:error, reason}), do: print("nothing changed", [SafeInspect.inspect(reason)])

  @spec limiter() :: :ok
  def limiter do
    held = [:enabled, :fail_open, :keys, :entries, :overflowed, :memory_bytes]

    TablePrinter.print([
      global_section(),
      {"API limits", Enum.map(RateLimiter.get_configured_limits().api, &limit/1)},
      {"limiter", lines(RateLimiter.status(), held)}
    ])
  end

  defp global_section, do: {"global limits", Enum.map(RateLimiter.get_global_limits(), &limit/1)}

  defp limit(%{key: key} = limit) do
    function =
      if limit[:service], do: scope({limit.service, limit.request_type}) <> ", ", else: ""

    by = if is_atom(key), do: Atom.to_string(key), else: "argument #{SafeInspect.inspect(key)}"
    missing = Map.get(limit, :on_missing, :skip)
    without = if missing == :skip, do: "", else: ", without one: #{missing}"
    "#{function}by #{by}: #{limit.max_requests} in #{window(limit.window_ms)}#{without}"
  end

  # Not rounded, so that two limits can be compared.
  defp window(ms) when rem(ms, 1_000) == 0, do: "#{div(ms, 1_000)} s"
  defp window(ms), do: "#{ms} ms"

  ## Configs from elsewhere

  @spec failed_configs(keyword()) :: :ok
  def failed_configs(options) do
    entries = ConfigFailed.list(options)

    lines =
      for entry <- entries do
        names = for name <- [entry.service, entry.request_type, entry.version], name, do: name
        from = if entry.node, do: " from #{entry.node}", else: ""
        times = if entry.times > 1, do: ", #{entry.times} times", else: ""
        what = "#{Format.names(names, " ")} (#{entry.source}#{from}#{times})"
        ["#{time(entry.inserted_at_ms)} #{what}" | entry.reason]
      end

    print("failed configs (#{length(entries)} of #{ConfigFailed.count()})", lines)
  end

  @spec failed_configs_summary() :: :ok
  def failed_configs_summary do
    %{total: total, by_service: services} = summary = ConfigFailed.summary()

    sources =
      "pull: #{summary.pull}, push: #{summary.push}, offer: #{summary.offer}, direct: #{summary.direct}"

    services =
      for {service, count} <- Enum.sort(services),
          do: "#{if service, do: SafeInspect.name(service), else: "(no service)"}: #{count}"

    times =
      for key <- [:oldest, :newest], time = summary[key], do: "#{key}: #{time(time)}"

    print("failed configs: #{total}", if(total > 0, do: [sources | services ++ times], else: []))
  end

  defp time(ms), do: ms |> DateTime.from_unix!(:millisecond) |> DateTime.to_iso8601()

  @spec pushed_services() :: :ok
  def pushed_services do
    %{count: count, services: services} = ConfigReceiver.status()
    lines = for {service, _version} = name <- Enum.sort(services), do: pushed(name, service)
    print("pushed services: #{count}", lines)
  end

  # A service may be deleted while it is printed.
  defp pushed({service, version}, service) do
    name = Format.names([service, version], " ")

    case ConfigReceiver.get_pushed_config(service) do
      %PushConfig{} = push ->
        pulled = if PushConfig.to_service_config(push), do: ", also pulled", else: ""
        nodes = Enum.map_join(push.nodes, ", ", &SafeInspect.name(to_string(&1)))
        "#{name}: #{length(push.fun_configs)} functions on #{nodes}#{pulled}"

      nil ->
        name
    end
  end

  @spec decisions() :: :ok
  def decisions do
    rows =
      for {where, at, gateway, what} <- Enum.sort_by(Decisions.all(), &elem(&1, 1)),
          do: [time(at), "#{gateway}", where, what]

    print("decisions of operators", {["at", "by", "on", "what"], rows})
  end

  defp lines(status, keys), do: for(key <- keys, do: "#{key}: #{status[key]}")
  defp print(title, content), do: TablePrinter.print([{title, content}])
end
