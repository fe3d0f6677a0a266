defmodule PhoenixGenApi.ConfigPuller.Pull do
  @moduledoc false
  # One pull of one service, in a process of its own, from the question to the stored answer.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.ConfigPuller.{PullResult, Source, Store}
  alias PhoenixGenApi.ConfigSync.{ServiceLock, TableCheck}
  alias PhoenixGenApi.Offers.Sources
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.UndefinedFunctions
  alias PhoenixGenApi.Log

  require Log

  @max_backoff_ms 300_000
  # Doubling beyond this exceeds the limit for every interval.
  @max_doublings 20
  # What one pull may write to the log.
  @max_notices 20

  @doc "The process's whole life. `entry` is what the store knew when the pull began."
  @spec run(String.t(), Store.ticket(), Store.entry(), boolean()) :: :ok
  def run(service, ticket, entry, force?) do
    started_at = System.monotonic_time()
    start = Telemetry.start_measurements(started_at)
    Telemetry.execute([:phoenix_gen_api, :config, :pull, :start], start, %{service: service})

    service |> attempt(ticket, entry, force?) |> conclude(service, ticket, entry, started_at)
  end

  @doc "What remains to be done when the process of a pull was killed."
  @spec killed(String.t(), Store.ticket(), Store.entry(), integer(), term()) :: :ok
  def killed(service, ticket, entry, started_at, reason) do
    problem = "the pull was ended: " <> SafeInspect.inspect(reason, 100)
    conclude({:error, [problem]}, service, ticket, entry, started_at)
  end

  defp conclude(outcome, service, ticket, known, started_at) do
    {result, count, entry} =
      case outcome do
        {:ok, count, entry} -> {:ok, count, %{entry | failures: 0}}
        :skipped -> {:skipped, 0, %{known | failures: 0}}
        {:error, _problems} -> {:error, 0, %{known | failures: known.failures + 1}}
        :superseded -> {:superseded, 0, known}
      end

    wait = wait(entry)
    due_at = System.monotonic_time(:millisecond) + wait
    committed? = result != :superseded and Store.commit(service, ticket, due_at, entry)

    with {true, {:error, problems}} <- {committed?, outcome} do
      Log.warning(
        "pull of service #{service} failed, next try in #{wait} ms: " <> Enum.join(problems, "; ")
      )
    end

    Telemetry.execute(
      [:phoenix_gen_api, :config, :pull, :stop],
      Map.put(Telemetry.stop_measurements(started_at), :count, count),
      %{
        service: service,
        version: entry.version,
        result: if(committed?, do: result, else: :superseded)
      }
    )
  end

  defp attempt(service, ticket, entry, force?) do
    known = if force? or incomplete?(service, entry), do: nil, else: entry.version

    case Source.ask(entry.config, known, Config.get(:gen_api, :pull_timeout)) do
      {:ok, answer} -> store(service, ticket, entry, answer)
      :unchanged -> :skipped
      {:error, problems} -> {:error, problems}
    end
  catch
    kind, reason -> {:error, [SafeInspect.reason(kind, reason)]}
  end

  # Something may have been deleted since.
  defp incomplete?(_service, %{version: version, keys: keys}) when version == nil or keys == nil,
    do: false

  defp incomplete?(service, %{keys: keys}), do: TableCheck.missing?(service, keys)

  defp store(service, ticket, entry, answer) do
    {functions, unloadable} = Enum.split_with(answer.listing.functions, &loadable?(&1, answer))

    stored =
      ServiceLock.run(service, fn ->
        cond do
          not Store.current?(service, ticket) -> :superseded
          Sources.ignores?(service, :pull) -> :ignored
          true -> replace(service, functions, source(entry, answer), unloadable)
        end
      end)

    case stored do
      {:ok, %{stored: count}, rejected} ->
        rejected = rejected ++ Enum.map(unloadable, &{&1, [cannot_load(&1, answer)]})

        for {config, reasons} <- rejected,
            do: ConfigFailed.record(config, reasons, :pull, answer.node)

        UndefinedFunctions.note(answer.looked_for, answer.undefined)
        for config <- answer.undefined, do: UndefinedFunctions.record(config, :pull, answer.node)

        keys = keys(service, answer.listing.functions, rejected)

        entry = %{
          entry
          | version: answer.version,
            keys: keys,
            request_types: keys |> Enum.map(&elem(&1, 0)) |> Enum.uniq() |> Enum.sort(),
            notices: notify(service, answer, rejected, entry.notices)
        }

        {:ok, count, entry}

      :superseded ->
        :superseded

      :ignored ->
        :skipped

      {:error, :not_running} ->
        {:error, ["the gateway is not running"]}
    end
  end

  defp replace(service, functions, from, unloadable) do
    opts = [from: from, keep: unloadable]

    with {:ok, _counts, _rejected} = stored <-
           ConfigDb.replace_service(service, functions, :pull, opts) do
      Sources.superseded(service)
      stored
    end
  end

  # A push from another node may have a function called here, with arguments that are the list.
  defp source(%{registered_by: by}, %{node: node}) when by != :push and node == node(),
    do: :this_node

  defp source(_entry, _answer), do: :another_node

  defp loadable?(config, %{unloadable: unloadable}),
    do: not is_map_key(unloadable, module(config))

  # A function of the gateway itself needs no module elsewhere.
  defp module(%{nodes: nodes, mfa: {module, _function, _args}}) when nodes != :local, do: module
  defp module(_other), do: nil

  defp cannot_load(config, %{unloadable: unloadable, node: node}) do
    module = module(config)

    "module #{inspect(module)} cannot be loaded on #{node}: #{SafeInspect.inspect(unloadable[module], 100)}"
  end

  # A rejected function counts if an earlier config of it is still there.
  defp keys(service, functions, rejected) do
    gone =
      for {config, _reasons} <- rejected,
          key = PullResult.key(config),
          {type, version} = key,
          ConfigDb.origin(service, type, version) not in [:pull, :push],
          into: MapSet.new(),
          do: key

    for config <- functions, key = PullResult.key(config), key not in gone, do: key
  end

  # A service that is pulled every few seconds says the same thing only once.
  defp notify(service, answer, rejected, noticed) do
    notices =
      answer.listing.notices ++
        Enum.map(rejected, fn {config, reasons} ->
          "#{PullResult.label(config)} is rejected: #{Enum.join(reasons, "; ")}"
        end) ++
        Enum.map(answer.undefined, fn config ->
          "#{PullResult.label(config)}: #{UndefinedFunctions.name(config)} does not exist there"
        end)

    digest = :erlang.phash2(notices)

    if notices != [] and digest != noticed do
      {shown, more} = Enum.split(notices, @max_notices)
      more = if more == [], do: [], else: ["and #{length(more)} more"]

      Log.warning(
        "pull of service #{service} from #{answer.node}: " <> Enum.join(shown ++ more, "\n")
      )
    end

    digest
  end

  defp wait(%{failures: 0}), do: Config.get(:gen_api, :pull_interval)

  defp wait(%{failures: failures}) do
    interval = Config.get(:gen_api, :pull_interval)
    min(interval * Integer.pow(2, min(failures, @max_doublings)), @max_backoff_ms)
  end
end
