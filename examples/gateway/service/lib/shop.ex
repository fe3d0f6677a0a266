defmodule Shop do
  @moduledoc """
  The functions of the service: ordinary Elixir, which knows nothing of sockets.
  """

  alias PhoenixGenApi.Structs.Response

  @prices %{"tea" => 5, "coffee" => 4, "cocoa" => 6}

  def items, do: Map.keys(@prices)

  def quote(item, quantity) do
    {:ok, %{item: item, quantity: quantity, total: @prices[item] * quantity, node: node()}}
  end

  @doc "Version 2: from ten pieces on a tenth less."
  def quote_v2(item, quantity) do
    total = @prices[item] * quantity
    discount = if quantity >= 10, do: div(total, 10), else: 0

    {:ok,
     %{item: item, quantity: quantity, discount: discount, total: total - discount, node: node()}}
  end

  def stock(item), do: %{item: item, pieces: :erlang.phash2(item, 90) + 10, node: node()}

  # A function's own error text. `{:error, reason}` would be an internal error, and not told.
  def buy("cocoa"), do: Response.error_response(nil, "Out of stock")
  def buy(item), do: %{bought: item, node: node()}

  def report(year) do
    Process.sleep(1_500)
    {:ok, %{year: year, turnover: 1_234_567, node: node()}}
  end

  @doc "A stream is any enumerable. This one never ends; whoever started it ends it."
  def prices(item) do
    200
    |> Stream.interval()
    |> Stream.scan(100, fn _tick, price -> max(50, price + Enum.random(-6..6)) end)
    |> Stream.map(&%{item: item, cents: &1, node: node()})
  end
end
