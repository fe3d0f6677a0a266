defmodule Gateway.Catalog do
  @moduledoc """
  What the console shows: the functions that clients can call at this moment.
  """

  alias PhoenixGenApi.{ConfigDb, Service, Telemetry}

  @topic "api:console"

  def functions do
    for {service, types} <- Enum.sort(ConfigDb.get_all_functions()),
        {type, versions} <- Enum.sort(types),
        version <- versions,
        {:ok, config} <- [ConfigDb.get(service, type, version)] do
      %{
        service: service,
        request_type: type,
        version: version,
        response_type: config.response_type,
        nodes: nodes(config),
        arguments:
          Enum.map(arguments(config), fn {name, type} -> "#{name}: #{inspect(type)}" end),
        sample: Map.new(arguments(config), fn {name, type} -> {name, sample(type)} end)
      }
    end
  end

  @doc "Tells every console when a function was added, replaced or removed."
  def announce_changes do
    Telemetry.attach_config("gateway-catalog", &__MODULE__.handle_event/4)
  end

  def handle_event([:phoenix_gen_api, :config, :pull | _], _measurements, _metadata, _config),
    do: :ok

  def handle_event(_event, _measurements, _metadata, _config) do
    GatewayWeb.Endpoint.broadcast(@topic, "functions_changed", %{})
  end

  defp nodes(%{nodes: :local}), do: ["this gateway"]
  defp nodes(%{nodes: :service, service: service}), do: service |> Service.nodes() |> Map.keys()
  defp nodes(%{nodes: nodes}) when is_list(nodes), do: nodes

  defp arguments(%{arg_types: nil}), do: []

  defp arguments(%{arg_types: types, arg_orders: names}) when is_list(names),
    do: Enum.map(names, &{&1, types[&1]})

  defp arguments(%{arg_types: types}), do: Enum.sort(types)

  # Something to begin with in the editor. Types have several spellings, these are the ones
  # that the example's services use.
  defp sample({:enum, [first | _]}), do: first
  defp sample(:integer), do: 1
  defp sample([type: :integer] ++ opts), do: opts[:default_value] || opts[:min] || 1
  defp sample(_type), do: ""
end
