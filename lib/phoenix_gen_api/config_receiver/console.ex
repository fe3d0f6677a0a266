defmodule PhoenixGenApi.ConfigReceiver.Console do
  @moduledoc false
  # What was pushed, as a person in IEx reads it. Names come from other nodes.

  alias PhoenixGenApi.ConfigReceiver
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.PushConfig

  @spec status() :: :ok
  def status do
    %{count: count, services: services} = ConfigReceiver.status()
    rows = for {service, version} <- Enum.sort(services), do: row(service, version)
    IO.puts(["pushed services: #{count}" | if(rows == [], do: ["\n  none"], else: rows)])
  end

  # A service may be deleted while it is printed.
  defp row(service, version) do
    contents =
      case ConfigReceiver.get_pushed_config(service) do
        %PushConfig{} = push -> [": " | contents(push)]
        nil -> []
      end

    ["\n  ", SafeInspect.printable(service), " ", SafeInspect.printable(version) | contents]
  end

  defp contents(push) do
    nodes = Enum.map_join(push.nodes, ", ", &SafeInspect.printable(to_string(&1)))
    pulled = if PushConfig.to_service_config(push), do: ", also pulled", else: ""
    ["#{length(push.fun_configs)} functions on ", nodes, pulled]
  end
end
