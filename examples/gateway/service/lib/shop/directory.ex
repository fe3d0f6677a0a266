defmodule Shop.Directory do
  @moduledoc """
  What the service offers to the clients of a gateway, and on which terms.
  """

  alias PhoenixGenApi.ConfigPusher
  alias PhoenixGenApi.Structs.FunConfig

  def gateways, do: Application.fetch_env!(:shop, :gateways)

  @doc "Pushes a release to the gateways while they run."
  def publish(release) do
    push_config = release(release)
    {:ok, Map.new(gateways(), &{&1, outcome(ConfigPusher.push(&1, push_config))})}
  end

  defp outcome({:ok, :accepted}), do: "accepted"
  defp outcome({:ok, :skipped, _reason}), do: "has it already"
  defp outcome({:error, reason}), do: inspect(reason)

  @doc "All functions of a release. Every node of a service pushes the same, naming all nodes."
  def release(release) do
    nodes = Application.fetch_env!(:shop, :nodes)
    functions = Enum.map(functions(release), &%{&1 | nodes: nodes})
    ConfigPusher.from_service_config("shop", nodes, functions, config_version: release)
  end

  defp functions("2"), do: [quote_function("2.0.0", :quote_v2) | functions("1")]

  defp functions("1") do
    [
      quote_function("1.0.0", :quote),
      # The same item is always asked of the same node, while that one is up.
      function("stock", :stock,
        arg_types: [{"item", item()}],
        choose_node_mode: {:hash, "item"},
        retry: 1
      ),
      function("buy", :buy, arg_types: [{"item", item()}], check_permission: :any_authenticated),
      function("report", :report,
        arg_types: [{"year", [type: :integer, min: 2000, max: 2100, default_value: 2026]}],
        response_type: :async
      ),
      function("prices", :prices,
        arg_types: [{"item", item()}],
        response_type: :stream,
        timeout: :infinity
      ),
      # Open to everybody for the sake of the page; elsewhere: check_permission: {:role, ["admin"]}.
      function("publish", :publish,
        mfa: {__MODULE__, :publish, []},
        arg_types: [{"release", {:enum, ["1", "2"]}}]
      )
    ]
  end

  defp function(type, name, fields) do
    struct!(%FunConfig{service: "shop", request_type: type, mfa: {Shop, name, []}}, fields)
  end

  # Both nodes in turn. What only reads may be tried again: on the other one.
  defp quote_function(version, name) do
    quantity = [type: :integer, min: 1, max: 99, default_value: 1]

    function("quote", name,
      version: version,
      arg_types: [{"item", item()}, {"quantity", quantity}],
      choose_node_mode: :round_robin,
      retry: 1
    )
  end

  defp item, do: {:enum, Shop.items()}
end
