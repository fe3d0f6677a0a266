defmodule Demo.Shop do
  @moduledoc "A service of `bin/demo --serve`: something of everything that a function can be."
  use PhoenixGenApi.Service, service: "shop", choose_node_mode: :round_robin

  alias PhoenixGenApi.Structs.{Request, Response, StreamHelper}

  @prices %{"tea" => 3, "coffee" => 4, "cake" => 6}
  @items Map.keys(@prices)
  @item [{"item", {:enum, @items}}]

  @doc "The price of a number of items."
  @api arg_types: @item ++ [{"quantity", [type: :integer, min: 1, max: 99, default_value: 1]}],
       idempotent: true,
       tags: ["catalogue"]
  @api request_type: "cost",
       arg_types: @item ++ [{"quantity", :integer}],
       deprecated: "Use price instead.",
       doc: "The former name of the price."
  @spec price(String.t(), integer()) :: %{item: String.t(), quantity: integer(), total: integer()}
  def price(item, quantity),
    do: %{item: item, quantity: quantity, total: @prices[item] * quantity}

  @doc "Orders up to five lines. It runs in the background; over HTTP its result is the answer."
  @api arg_types: [
         {"order",
          {:map,
           %{
             "at" => :datetime,
             "gift" => [type: :boolean, default_value: false],
             "note" => [type: :string, max_length: 200, allow_nil?: true],
             "lines" =>
               {:list,
                {:map,
                 %{
                   "item" => {:enum, @items},
                   "quantity" => [type: :integer, min: 1, max: 9]
                 }}, min_items: 1, max_items: 5}
           }}}
       ],
       response_type: :async,
       request_info: true,
       check_permission: :any_authenticated
  def order(order, %Request{} = by) do
    total =
      for %{"item" => item, "quantity" => quantity} <- order["lines"], reduce: 0 do
        sum -> sum + @prices[item] * quantity
      end

    id = Integer.to_string(System.unique_integer([:positive]))
    %{id: id, by: by.user_id, at: order["at"], total: total}
  end

  @doc "Always sold out: an error of the function's own, with a code."
  @api arg_types: @item
  def buy(item),
    do: Response.error_response(nil, "#{item} is sold out", false, code: "sold_out")

  @doc "For admins. Become one with the button at the top right."
  @api arg_types: @item, request_info: true, check_permission: {:role, ["admin"]}
  def restock(item, %Request{} = by), do: %{item: item, by: by.user_id}

  @doc "Takes a note, and answers nothing."
  @api arg_types: [{"text", {:string, 500}}], response_type: :none
  def note(_text), do: :ok

  @doc "A price every 300 ms until you cancel. Cancelling ends the function on its node."
  @api arg_types: @item, response_type: :stream, timeout: :infinity
  def prices(item) do
    Stream.repeatedly(fn ->
      receive do
      after
        300 ->
          price = @prices[item] + :rand.uniform(100) / 100
          %{item: item, price: price, node: Demo.Nodes.short(node())}
      end
    end)
  end

  @doc "Counts down as fast as you read."
  @api arg_types: [{"from", [type: :integer, min: 1, max: 100_000]}],
       response_type: :stream,
       request_info: true
  def countdown(from, %StreamHelper{} = out) do
    for n <- from..1//-1, do: StreamHelper.send_result(out, n)
    StreamHelper.send_last_result(out, 0)
  end

  @doc "As many lines as you like: a long result."
  @api arg_types: [{"lines", [type: :integer, min: 1, max: 50_000]}]
  def report(lines) do
    for n <- 1..lines//1,
        do: %{line: n, item: Enum.at(@items, rem(n, 3)), sold: rem(n * 37, 100)}
  end

  @doc "Takes its time. Over 5 seconds it is ended, with status 504."
  @api arg_types: [{"seconds", [type: :integer, min: 1, max: 60]}], timeout: 5_000
  def slow(seconds) do
    receive do
    after
      seconds * 1_000 -> "done after #{seconds} s"
    end
  end

  @doc "Raises. Clients are told nothing about why; the log of the gateway is."
  @api true
  def broken, do: raise("the database password is hunter2")
end

defmodule Demo.Text do
  @moduledoc "Another service, with versions."
  use PhoenixGenApi.Service, service: "text", choose_node_mode: :round_robin

  @doc "Returns what it gets, <b>markup</b> and <script>alert(1)</script> included."
  @api arg_types: [{"text", :any}]
  def echo(text), do: text

  @doc "In capitals."
  @api version: "1.0.0", arg_types: [{"text", {:string, 20}}]
  @api version: "2.0.0",
       arg_types: [{"text", {:string, 200}}],
       doc: "In capitals, for longer texts."
  def shout(text), do: String.upcase(text)
end

defmodule Demo.Whereabouts do
  @moduledoc "Tells of the cluster."
  use PhoenixGenApi.Service, service: "cluster", choose_node_mode: :round_robin

  alias PhoenixGenApi.Structs.Request

  @doc "The node that has answered. Call it several times: two share the work."
  @api true
  def where, do: %{node: Demo.Nodes.short(node()), process: System.pid()}

  @doc "What a function knows of who calls it."
  @api request_info: true, arg_types: nil
  def whoami(%Request{} = request),
    do: Map.take(request, [:user_id, :user_roles, :ip_address, :request_id])
end
