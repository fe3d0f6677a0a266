defmodule Demo.ServiceA do
  # A service that offers its functions to the gateways.
  @moduledoc false
  use PhoenixGenApi.Service, service: "books"

  alias Demo.{CallRecorder, Nodes}
  alias PhoenixGenApi.Service
  alias PhoenixGenApi.Structs.{Request, StreamHelper}

  defmodule Count do
    # Added to the service by its next release.
    @moduledoc false
    use PhoenixGenApi.Service, service: "books"

    @api true
    @spec count() :: integer()
    def count, do: CallRecorder.seen(3)
  end

  @isbn [isbn: {:string, 13}]
  @line %{"isbn" => :string, "qty" => [type: :integer, min: 1, max: 9]}

  @api version: "1.0.0", arg_types: @isbn
  def find(isbn), do: CallRecorder.seen(%{isbn: isbn, title: "Dune", printed: ~D[1965-08-01]})

  @api request_type: "find",
       version: "2.0.0",
       arg_types: [isbn: :string, lang: [type: :enum, values: ["en", "vi"], default_value: "en"]]
  def find_v2(isbn, lang), do: CallRecorder.seen({:ok, %{isbn: isbn, lang: lang}})

  @api arg_types: @isbn,
       request_info: true,
       response_type: :async,
       check_permission: :any_authenticated
  def reserve(isbn, %Request{} = by), do: CallRecorder.seen({:ok, [isbn, "main", by.user_id]})

  @api arg_types: @isbn, response_type: :none
  def visited(isbn), do: CallRecorder.seen({:ok, isbn})

  @api arg_types: [order: {:map, %{"at" => :datetime, "lines" => {:list, {:map, @line}}}}]
  def order(order), do: CallRecorder.seen(order)

  @api arg_types: @isbn, check_permission: {:role, ["admin"]}
  def remove(isbn), do: CallRecorder.seen(%{removed: isbn})

  @api response_type: :stream
  @spec titles() :: [String.t()]
  def titles, do: CallRecorder.seen(["Dune", "Emma", "Ulysses"])

  @doc "A feed: whatever is sent to the process that runs this."
  @api response_type: :stream, timeout: :infinity
  @spec sales(StreamHelper.t()) :: no_return()
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
  @api response_type: :stream
  @spec catalogue(items :: integer()) :: Enumerable.t()
  def catalogue(items) do
    made = :counters.new(1, [])
    :persistent_term.put({__MODULE__, :made}, made)

    CallRecorder.seen(
      Stream.each(1..items, fn _item ->
        :counters.add(made, 1, 1)
      end)
    )
  end

  @api arg_types: @isbn
  def broken(isbn) do
    CallRecorder.seen(isbn)
    raise "database password is hunter2"
  end

  @doc "How many items of the catalogue there are."
  def made do
    made = :persistent_term.get({__MODULE__, :made}, nil)
    if made, do: :counters.get(made, 1), else: 0
  end

  @doc "Offers the functions of the first release."
  def start_link,
    do: Supervisor.start_link([offer([__MODULE__])], strategy: :one_for_one, name: __MODULE__)

  @doc "A new release, with one function more: what offers the old ones stops first."
  def upgrade do
    [{id, _pid, _type, _modules}] = Supervisor.which_children(__MODULE__)
    :ok = Supervisor.terminate_child(__MODULE__, id)
    :ok = Supervisor.delete_child(__MODULE__, id)
    {:ok, _pid} = Supervisor.start_child(__MODULE__, offer([__MODULE__, Count]))
    Service.await("books")
  end

  # An application would let libcluster or DNSCluster connect its nodes, and name no gateways.
  defp offer(apis), do: {Service, apis: apis, gateways: [Nodes.gateway(), Nodes.gateway_2()]}
end
