defmodule PhoenixGenApi.ConfigFailed.Console do
  @moduledoc false
  # What was rejected, as a person in IEx reads it. Names and reasons come from other nodes.

  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.SafeInspect

  @spec list(keyword()) :: :ok
  def list(options \\ []) do
    entries = ConfigFailed.list(options)

    print(
      "failed configs (#{length(entries)} of #{ConfigFailed.count()})",
      Enum.map(entries, &entry/1)
    )
  end

  @spec summary() :: :ok
  def summary do
    summary = ConfigFailed.summary()

    rows =
      ["pull: #{summary.pull}, push: #{summary.push}, direct: #{summary.direct}"] ++
        for({service, count} <- Enum.sort(summary.by_service), do: "#{name(service)}: #{count}") ++
        for {label, time} <- [oldest: summary.oldest, newest: summary.newest], time != nil do
          "#{label}: #{time(time)}"
        end

    print("failed configs: #{summary.total}", if(summary.total == 0, do: [], else: rows))
  end

  defp entry(entry) do
    what =
      [entry.service, entry.request_type, entry.version]
      |> Enum.filter(& &1)
      |> Enum.map_join(" ", &name/1)

    from = if entry.node, do: " from #{entry.node}", else: ""
    times = if entry.times > 1, do: ", #{entry.times} times", else: ""
    reasons = for reason <- entry.reason, do: ["\n    ", SafeInspect.printable(reason)]
    ["#{time(entry.inserted_at_ms)} #{what} (#{entry.source}#{from}#{times})" | reasons]
  end

  defp name(nil), do: "(no service)"
  defp name(name), do: SafeInspect.printable(name)

  defp time(ms), do: ms |> DateTime.from_unix!(:millisecond) |> DateTime.to_iso8601()

  defp print(title, []), do: print(title, ["none"])
  defp print(title, rows), do: IO.puts([title, Enum.map(rows, &["\n  ", &1])])
end
