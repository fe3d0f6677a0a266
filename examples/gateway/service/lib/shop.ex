defmodule Shop do
  @moduledoc """
  The functions of the service: ordinary Elixir, which knows nothing of sockets. `@api` says which of them
  clients may call, and how.
  """
  use PhoenixGenApi.Service, service: "shop"

  alias PhoenixGenApi.Structs.Response

  @prices %{"tea" => 5, "coffee" => 4, "cocoa" => 6}
  @items Map.keys(@prices)
  @item {:enum, @items}

  def items, do: @items

  @doc "The price of one item."
  def price(item), do: @prices[item]

  # Both nodes in turn. What only reads may be tried again: on the other one.
  @doc "What a number of items costs."
  @api version: "1.0.0",
       arg_types: [item: @item, quantity: [type: :integer, min: 1, max: 99, default_value: 1]],
       choose_node_mode: :round_robin,
       retry: 1
  def quote(item, quantity) do
    {:ok, %{item: item, quantity: quantity, total: price(item) * quantity, node: node()}}
  end

  # The same item is always asked of the same node, while that one is up.
  @doc "How many pieces are in stock."
  @api arg_types: [item: @item], choose_node_mode: {:hash, "item"}, retry: 1
  def stock(item), do: %{item: item, pieces: :erlang.phash2(item, 90) + 10, node: node()}

  # A function's own error text. `{:error, reason}` would be an internal error, and not told.
  @doc "Buys an item. Cocoa is always out of stock."
  @api arg_types: [item: @item], check_permission: :any_authenticated
  def buy("cocoa"), do: Response.error_response(nil, "Out of stock")
  def buy(item), do: %{bought: item, node: node()}

  @doc "The turnover of a year; takes a moment."
  @api arg_types: [year: [type: :integer, min: 2000, max: 2100, default_value: 2026]],
       response_type: :async
  def report(year) do
    Process.sleep(1_500)
    {:ok, %{year: year, turnover: 1_234_567, node: node()}}
  end

  @doc "A stream is any enumerable. This one never ends; whoever started it ends it."
  @api arg_types: [item: @item], response_type: :stream, timeout: :infinity
  def prices(item) do
    200
    |> Stream.interval()
    |> Stream.scan(100, fn _tick, price -> max(50, price + Enum.random(-6..6)) end)
    |> Stream.map(&%{item: item, cents: &1, node: node()})
  end
end
