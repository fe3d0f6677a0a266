defmodule Demo.ServiceA do
  # A service that pushes its functions to the gateway.
  @moduledoc false

  alias Demo.{CallRecorder, Nodes}
  alias PhoenixGenApi.ConfigPusher
  alias PhoenixGenApi.Structs.{FunConfig, Request, StreamHelper}

  def find(isbn), do: CallRecorder.seen(%{isbn: isbn, title: "Dune", printed: ~D[1965-08-01]})
  def find_v2(isbn, lang), do: CallRecorder.seen({:ok, %{isbn: isbn, lang: lang}})

  def reserve(isbn, branch, %Request{} = by),
    do: CallRecorder.seen({:ok, [isbn, branch, by.user_id]})

  def visited(isbn), do: CallRecorder.seen({:ok, isbn})
  def order(order), do: CallRecorder.seen(order)
  def remove(isbn), do: CallRecorder.seen(%{removed: isbn})
  def count, do: CallRecorder.seen(3)

  def titles, do: CallRecorder.seen(["Dune", "Emma", "Ulysses"])

  @doc "A feed: whatever is sent to the process that runs this."
  def sales(%StreamHelper{} = feed) do
    Process.register(self(), __MODULE__.Sales)
    CallRecorder.seen(:open)
    next_sale(feed)
  end

  defp next_sale(feed) do
    receive do
      {:sold, title} -> StreamHelper.send_result(feed, title)
    end

    next_sale(feed)
  end

  @doc "Items that are made one after the other, as fast as somebody takes them; and counted."
  def catalogue(items) do
    made = :counters.new(1, [])
    :persistent_term.put({__MODULE__, :made}, made)

    CallRecorder.seen(
      Stream.each(1..items, fn _item ->
        :counters.add(made, 1, 1)
      end)
    )
  end

  @doc "How many of them there are."
  def made do
    made = :persistent_term.get({__MODULE__, :made}, nil)
    if made, do: :counters.get(made, 1), else: 0
  end

  def broken(isbn) do
    CallRecorder.seen(isbn)
    raise "database password is hunter2"
  end

  @doc "Version 1.0 is pushed as soon as the gateway is there."
  def start_link do
    pusher =
      {ConfigPusher,
       gateways: [Nodes.gateway()], push_config: config("1.0", functions()), retry_interval: 100}

    Supervisor.start_link([pusher], strategy: :one_for_one)
  end

  @doc "Pushes version 1.1, which has one function more."
  def publish_count do
    ConfigPusher.push(Nodes.gateway(), config("1.1", [api("count", :count, []) | functions()]))
  end

  defp config(version, functions),
    do: ConfigPusher.from_service_config(:books, [node()], functions, config_version: version)

  defp functions do
    isbn = %{"isbn" => {:string, 13}}
    lang = [type: :enum, values: ["en", "vi"], default_value: "en"]
    line = %{"isbn" => :string, "qty" => [type: :integer, min: 1, max: 9]}

    [
      api("find", :find, version: "1.0.0", arg_types: isbn),
      api("find", :find_v2, version: "2.0.0", arg_types: [{"isbn", :string}, {"lang", lang}]),
      api("reserve", :reserve,
        mfa: {__MODULE__, :reserve, ["main"]},
        arg_types: isbn,
        request_info: true,
        response_type: :async,
        check_permission: :any_authenticated
      ),
      api("visited", :visited, arg_types: isbn, response_type: :none),
      api("order", :order,
        arg_types: %{"order" => {:map, %{"at" => :datetime, "lines" => {:list, {:map, line}}}}}
      ),
      api("remove", :remove, arg_types: isbn, check_permission: {:role, ["admin"]}),
      api("broken", :broken, arg_types: isbn),
      api("titles", :titles, response_type: :stream),
      api("sales", :sales, response_type: :stream, request_info: true, timeout: :infinity),
      api("catalogue", :catalogue, response_type: :stream, arg_types: [{"items", :integer}])
    ]
  end

  defp api(type, function, fields) do
    struct!(
      %FunConfig{
        service: "books",
        request_type: type,
        nodes: [node()],
        mfa: {__MODULE__, function, []},
        timeout: 5_000
      },
      fields
    )
  end
end
