# A gateway over HTTP for gateway.test.mjs. It says its port, and ends with its standard input.
#
#     mix run clients/javascript/test/support/gateway.exs
alias PhoenixGenApi.ConfigDb
alias PhoenixGenApi.Structs.{FunConfig, Request, Response}

defmodule Shop do
  def counters, do: :persistent_term.get(__MODULE__)
  def start, do: :persistent_term.put(__MODULE__, :atomics.new(2, []))

  def echo(args), do: args
  def whoami(%Request{} = request), do: %{user_id: request.user_id, id: request.request_id}
  def version_2(_args), do: "2.0.0"
  def later(text), do: String.upcase(text)
  def boom, do: raise("on purpose")
  def sold_out, do: Response.error_response(nil, "Sold out", false, code: "sold_out", details: [%{"left" => 0}])

  def left(%Request{} = request), do: Request.remaining_ms(request)

  def forget, do: :atomics.add(counters(), 1, 1)
  def forgotten, do: :atomics.get(counters(), 1)

  def numbers(n), do: 1..n//1
  def failing, do: Stream.map(1..3, &if(&1 == 3, do: raise("on purpose"), else: &1))

  # How many of these are open.
  def endless do
    Stream.resource(
      fn -> :atomics.add(counters(), 2, 1) end,
      fn state -> {[String.duplicate("x", 1_000)], state} end,
      fn _state -> :atomics.sub(counters(), 2, 1) end
    )
  end

  def open, do: :atomics.get(counters(), 2)
end

Shop.start()

function = fn name, fields ->
  {function, fields} = Keyword.pop(fields, :function, String.to_atom(name))

  :ok =
    ConfigDb.add(
      struct!(
        %FunConfig{service: "shop", request_type: name, nodes: :local, mfa: {Shop, function, []}},
        fields
      )
    )
end

function.("echo",
  arg_types: %{"item" => {:string, 40}, "quantity" => [type: :integer, max: 9, default_value: 1]},
  arg_orders: :map
)

function.("echo", version: "2.0.0", function: :version_2, arg_types: %{"a" => :any}, arg_orders: :map)
function.("whoami", request_info: true)
function.("later", arg_types: %{"text" => :string}, response_type: :async)
function.("boom", [])
function.("sold_out", [])
function.("left", request_info: true)
function.("forget", response_type: :none)
function.("forgotten", [])
function.("numbers", arg_types: %{"n" => :integer}, response_type: :stream)
function.("failing", response_type: :stream)
function.("endless", response_type: :stream, timeout: :infinity)
function.("open", [])
function.("admin", check_permission: {:role, ["admin"]}, function: :open)
function.("away", nodes: [:"nobody@127.0.0.1"], function: :open)

{:ok, server} = PhoenixGenApi.Http.Inets.start_link(port: 0, identity: %{user_id: "ann", user_roles: ["user"]})
IO.puts("port #{PhoenixGenApi.Http.Inets.port(server)}")
IO.read(:stdio, :eof)
