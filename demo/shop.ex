defmodule Demo.Shop do
  # The service of `bin/demo --serve`: something of everything that a function can be.
  @moduledoc false

  alias PhoenixGenApi.Structs.{FunConfig, Request, Response, StreamHelper}

  @prices %{"tea" => 3, "coffee" => 4, "cake" => 6}
  @items Map.keys(@prices)

  def price(item, quantity),
    do: %{item: item, quantity: quantity, total: @prices[item] * quantity}

  def order(order, %Request{} = by) do
    total =
      for %{"item" => item, "quantity" => n} <- order["lines"],
          reduce: 0,
          do: (sum -> sum + @prices[item] * n)

    %{
      id: Integer.to_string(System.unique_integer([:positive])),
      by: by.user_id,
      at: order["at"],
      total: total
    }
  end

  def sold_out(item),
    do: Response.error_response(nil, "#{item} is sold out", false, code: "sold_out")

  def restock(item, %Request{} = by), do: %{item: item, by: by.user_id}
  def note(_text), do: :ok

  @doc "A price every 300 ms, for as long as somebody reads."
  def prices(item) do
    Stream.repeatedly(fn ->
      receive do
      after
        300 ->
          %{
            item: item,
            price: @prices[item] + :rand.uniform(100) / 100,
            node: Demo.Nodes.short(node())
          }
      end
    end)
  end

  def countdown(from, %StreamHelper{} = out) do
    for n <- from..1//-1, do: StreamHelper.send_result(out, n)
    StreamHelper.send_last_result(out, 0)
  end

  def report(lines),
    do:
      for(
        n <- 1..lines//1,
        do: %{line: n, item: Enum.at(@items, rem(n, 3)), sold: rem(n * 37, 100)}
      )

  def slow(seconds) do
    receive do
    after
      seconds * 1_000 -> "done after #{seconds} s"
    end
  end

  def broken, do: raise("the database password is hunter2")
  def echo(text), do: text
  def shout(text), do: String.upcase(text)
  def where, do: %{node: Demo.Nodes.short(node()), process: System.pid()}

  def whoami(%Request{} = request),
    do: Map.take(request, [:user_id, :user_roles, :ip_address, :request_id])

  @doc "Its functions, on these nodes."
  def functions(nodes) do
    item = {:enum, @items}
    line = {:map, %{"item" => item, "quantity" => [type: :integer, min: 1, max: 9]}}

    for {service, type, function, fields} <- [
          {"shop", "price", :price,
           arg_types: [
             {"item", item},
             {"quantity", [type: :integer, min: 1, max: 99, default_value: 1]}
           ],
           result: {:map, %{"item" => :string, "quantity" => :integer, "total" => :integer}},
           doc: "The price of a number of items.",
           idempotent: true,
           tags: ["catalogue"]},
          {"shop", "order", :order,
           arg_types: [
             {"order",
              {:map,
               %{
                 "at" => :datetime,
                 "gift" => [type: :boolean, default_value: false],
                 "note" => [type: :string, max_length: 200, allow_nil?: true],
                 "lines" => {:list, line, min_items: 1, max_items: 5}
               }}}
           ],
           response_type: :async,
           request_info: true,
           check_permission: :any_authenticated,
           doc:
             "Orders up to five lines. It runs in the background; over HTTP its result is the answer."},
          {"shop", "buy", :sold_out,
           arg_types: [{"item", item}],
           doc: "Always sold out: an error of the function's own, with a code."},
          {"shop", "restock", :restock,
           arg_types: [{"item", item}],
           request_info: true,
           check_permission: {:role, ["admin"]},
           doc: "For admins. Become one with the button at the top right."},
          {"shop", "note", :note,
           arg_types: [{"text", {:string, 500}}],
           response_type: :none,
           doc: "Takes a note, and answers nothing."},
          {"shop", "prices", :prices,
           arg_types: [{"item", item}],
           response_type: :stream,
           timeout: :infinity,
           doc: "A price every 300 ms until you cancel. Cancelling ends the function on its node."},
          {"shop", "countdown", :countdown,
           arg_types: [{"from", [type: :integer, min: 1, max: 100_000]}],
           response_type: :stream,
           request_info: true,
           doc: "Counts down as fast as you read."},
          {"shop", "report", :report,
           arg_types: [{"lines", [type: :integer, min: 1, max: 50_000]}],
           doc: "As many lines as you like: a long result."},
          {"shop", "slow", :slow,
           arg_types: [{"seconds", [type: :integer, min: 1, max: 60]}],
           timeout: 5_000,
           doc: "Takes its time. Over 5 seconds it is ended, with status 504."},
          {"shop", "broken", :broken,
           doc: "Raises. Clients are told nothing about why; the log of the gateway is."},
          {"shop", "cost", :price,
           arg_types: [{"item", item}, {"quantity", :integer}],
           deprecated: "Use price instead.",
           doc: "The former name of price."},
          {"text", "echo", :echo,
           arg_types: [{"text", :any}],
           doc: "Returns what it gets, <b>markup</b> and <script>alert(1)</script> included."},
          {"text", "shout", :shout,
           arg_types: [{"text", {:string, 20}}], version: "1.0.0", doc: "In capitals."},
          {"text", "shout", :shout,
           arg_types: [{"text", {:string, 200}}],
           version: "2.0.0",
           doc: "In capitals, for longer texts."},
          {"cluster", "where", :where,
           doc: "The node that has answered. Call it several times: two share the work."},
          {"cluster", "whoami", :whoami,
           request_info: true, doc: "What a function knows of who calls it."}
        ] do
      config = %FunConfig{
        service: service,
        request_type: type,
        nodes: nodes,
        choose_node_mode: :round_robin,
        mfa: {__MODULE__, function, []}
      }

      struct!(config, fields)
    end
  end
end
