defmodule Books.Api do
  @moduledoc false
  # The service of the acceptance script.
  alias PhoenixGenApi.Structs.{Request, Response, StreamHelper}

  def find(isbn), do: %{isbn: isbn, title: "Dune", printed: ~D[1965-08-01]}
  def find_v2(isbn, lang), do: {:ok, %{isbn: isbn, lang: lang}}
  def mine(user_id), do: {:ok, [user_id]}
  def reserve(isbn, branch, %Request{} = req), do: {:ok, [isbn, branch, req.user_id]}
  def buy(_isbn), do: Response.error_response(nil, "Out of stock")
  def order(order), do: order
  def broken(_isbn), do: raise("database password is hunter2")
  def pages(from, to), do: Stream.map(from..to, &%{page: &1})

  def countdown(n, %StreamHelper{} = out) do
    for i <- n..1//-1, do: StreamHelper.send_result(out, i)
    StreamHelper.send_last_result(out, 0)
  end

  def ticks(%StreamHelper{} = out) do
    StreamHelper.send_result(out, "tick")

    receive do
    after
      50 -> ticks(out)
    end
  end
end

defmodule Books.Directory do
  @moduledoc false
  alias PhoenixGenApi.Structs.FunConfig

  def version, do: "7"
  def functions(_caller), do: {:ok, list()}

  defp api(type, fun, fields) do
    struct!(
      %FunConfig{
        service: "books",
        nodes: [node()],
        timeout: 2_000,
        request_type: type,
        mfa: {Books.Api, fun, []}
      },
      fields
    )
  end

  def list do
    line = %{"isbn" => :string, "qty" => [type: :integer, min: 1, max: 9]}
    lang = [type: :enum, values: ["en", "vi"], default_value: "en"]
    isbn = %{"isbn" => {:string, 13}}
    order = {:map, %{"at" => :datetime, "lines" => {:list, {:map, line}}}}

    [
      api("find", :find, version: "1.0.0", arg_types: isbn),
      api("find", :find_v2, version: "2.0.0", arg_types: [{"isbn", :string}, {"lang", lang}]),
      api("mine", :mine, arg_types: %{"user_id" => :string}, check_permission: {:arg, "user_id"}),
      api("reserve", :reserve,
        mfa: {Books.Api, :reserve, ["main"]},
        arg_types: isbn,
        request_info: true,
        response_type: :async,
        check_permission: :any_authenticated
      ),
      api("order", :order, arg_types: %{"order" => order}),
      api("buy", :buy, arg_types: isbn),
      api("broken", :broken, arg_types: isbn),
      api("pages", :pages,
        response_type: :stream,
        arg_types: [{"from", :integer}, {"to", :integer}]
      ),
      api("countdown", :countdown,
        response_type: :stream,
        request_info: true,
        arg_types: %{"n" => :integer}
      ),
      api("ticks", :ticks, response_type: :stream, request_info: true, timeout: :infinity),
      api("wipe", :find, mfa: {Books.Api, :find, ["x"]}, check_permission: {:role, ["admin"]})
    ]
  end
end
