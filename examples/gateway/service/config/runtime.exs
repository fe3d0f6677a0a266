import Config

# Node names become atoms here, at boot, from what the operator has set.
nodes = fn name, default ->
  name |> System.get_env(default) |> String.split(" ") |> Enum.map(&String.to_atom/1)
end

config :shop,
  gateways: nodes.("GATEWAY_NODES", "gateway@127.0.0.1"),
  nodes: nodes.("SHOP_NODES", "shop_a@127.0.0.1 shop_b@127.0.0.1")
