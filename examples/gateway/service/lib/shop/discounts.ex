defmodule Shop.Discounts do
  @moduledoc "What release 2 has besides the functions of `Shop`: another version of one of them."
  use PhoenixGenApi.Service, service: "shop"

  @doc "What a number of items costs; from ten pieces on a tenth less."
  @api version: "2.0.0",
       arg_types: [
         item: {:enum, Shop.items()},
         quantity: [type: :integer, min: 1, max: 99, default_value: 1]
       ],
       choose_node_mode: :round_robin,
       retry: 1
  def quote(item, quantity) do
    total = Shop.price(item) * quantity
    discount = if quantity >= 10, do: div(total, 10), else: 0

    {:ok,
     %{item: item, quantity: quantity, discount: discount, total: total - discount, node: node()}}
  end
end
