defmodule PhoenixGenApi.ServiceTest do
  # Functions that describe themselves, from the module to the answer.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{ConfigDb, ConfigPusher, ConfigReceiver, Executor}
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}

  @moduletag :capture_log

  # As the contract and the documentation show it.
  defmodule Shop.Prices do
    use PhoenixGenApi.Service, service: "shop", check_permission: :any_authenticated

    @doc "The price of a number of items."
    @api version: "1.0.0",
         arg_types: [
           item: {:string, 40},
           quantity: [type: :integer, min: 1, max: 99, default_value: 1]
         ],
         result: {:map, %{"item" => :string, "total" => :integer}}
    def price(item, quantity), do: {:ok, %{item: item, total: quantity * 5}}

    @api true
    @spec find(isbn :: String.t(), lang :: :en | :vi) :: {:ok, map()} | {:error, term()}
    def find(isbn, lang), do: {:ok, %{isbn: isbn, lang: lang}}
  end

  defmodule Everything do
    alias PhoenixGenApi.Structs
    alias PhoenixGenApi.Structs.{Request, Response, StreamHelper}

    @on_gateway [nodes: :local, timeout: 2_000]
    use PhoenixGenApi.Service, [service: :service_test] ++ @on_gateway

    @typedoc "Not a built-in type."
    @type lang :: :en | :vi
    @typep page :: %{number: pos_integer(), lang: lang | nil}

    @doc """
    Says hello,
    on two lines.

    More that no client reads.
    """
    @doc since: "1.0.0"
    @api version: "1.0.0"
    @api version: "2.0.0", timeout: 500, tags: ["new"]
    @api request_type: "hi", doc: nil, idempotent: true, deprecated: "Use hello."
    @spec hello(String.t()) :: String.t() | {:error, term()}
    def hello("you" = _name), do: "It is you"
    def hello(name), do: "Hello #{name}"

    @doc false
    @api true
    @spec mine(Structs.Request.t()) :: {:ok, [String.t()]}
    def mine(%Request{} = request), do: {:ok, [request.user_id]}

    @api true
    @spec open(page :: page(), lang, Request.t()) :: {:ok, page()} | :error
    def open(%{"number" => number}, lang \\ :en, %Request{user_id: user}),
      do: {:ok, %{number: number, lang: lang, user: user}}

    @api response_type: :stream
    @spec count(to :: 1..10, StreamHelper.t()) :: :ok
    def count(to, stream) do
      for n <- 1..to//1, do: StreamHelper.send_result(stream, n)
      StreamHelper.send_complete(stream)
    end

    # Without the types of a spec.
    @api arg_types: [a: :integer, b: :integer], arg_orders: :map
    @spec sum(%{String.t() => integer()}) :: integer()
    def sum(%{"a" => a, "b" => b}), do: a + b

    @api request_info: true
    def who(request), do: request.user_id

    @api response_type: :async
    def later, do: Response.sync_response(nil, :done)

    # Not declared.
    def hidden(a), do: a
  end

  defmodule Nothing do
    use PhoenixGenApi.Service, service: "shop"
    def price, do: 5
  end

  defp config(module, type, version \\ "0.0.0") do
    [config] =
      for %{request_type: ^type, version: ^version} = config <- module.__gen_api__(), do: config

    config
  end

  describe "a module" do
    test "lists its function configs in order" do
      assert Shop.Prices.__gen_api__() == [
               %FunConfig{
                 service: "shop",
                 request_type: "price",
                 version: "1.0.0",
                 nodes: :service,
                 mfa: {Shop.Prices, :price, []},
                 arg_types: [
                   item: {:string, 40},
                   quantity: [type: :integer, min: 1, max: 99, default_value: 1]
                 ],
                 check_permission: :any_authenticated,
                 doc: "The price of a number of items.",
                 result: {:map, %{"item" => :string, "total" => :integer}}
               },
               %FunConfig{
                 service: "shop",
                 request_type: "find",
                 nodes: :service,
                 mfa: {Shop.Prices, :find, []},
                 arg_types: [{"isbn", :string}, {"lang", {:enum, [:en, :vi]}}],
                 check_permission: :any_authenticated,
                 result: :map
               }
             ]
    end

    test "without functions lists none" do
      assert Nothing.__gen_api__() == []
    end

    test "declares several versions and names of a function" do
      assert for(
               %{mfa: {_, :hello, []}} = c <- Everything.__gen_api__(),
               do: {c.request_type, c.version}
             ) ==
               [{"hello", "1.0.0"}, {"hello", "2.0.0"}, {"hi", "0.0.0"}]

      assert %{timeout: 2_000, tags: []} = config(Everything, "hello", "1.0.0")
      assert %{timeout: 500, tags: ["new"]} = config(Everything, "hello", "2.0.0")
      assert %{idempotent: true, deprecated: "Use hello.", doc: nil} = config(Everything, "hi")
    end

    test "describes a function with the first paragraph of its documentation, in one line" do
      assert config(Everything, "hello", "1.0.0").doc == "Says hello, on two lines."
      assert config(Everything, "mine").doc == nil
      assert config(Everything, "later").doc == nil
    end

    test "has functions with all of their arguments, and the request or stream after them" do
      for {type, arg_types, request_info} <- [
            {"mine", [], true},
            {"open",
             [
               {"page",
                {:map,
                 %{
                   "number" => [type: :integer, min: 1],
                   "lang" => [type: {:enum, [:en, :vi]}, allow_nil?: true]
                 }}},
               {"lang", {:enum, [:en, :vi]}}
             ], true},
            {"count", [{"to", [type: :integer, min: 1, max: 10]}], true},
            {"sum", [a: :integer, b: :integer], false},
            {"who", [], true},
            {"later", [], false}
          ] do
        assert %{arg_types: ^arg_types, request_info: ^request_info} = config(Everything, type)
      end
    end

    test "takes results from specs, apart from errors, of functions that answer once" do
      assert config(Everything, "hello", "1.0.0").result == :string
      assert config(Everything, "mine").result == {:list, :string}
      assert config(Everything, "sum").result == :integer
      for type <- ["count", "who", "later"], do: assert(config(Everything, type).result == nil)
    end
  end

  # What {{argument :: type, result}} a spec gives.
  defp types(spec) do
    name = "PhoenixGenApi.ServiceTest.Types#{System.unique_integer([:positive])}"

    code = """
    defmodule #{name} do
      use PhoenixGenApi.Service, service: "types"
      alias DateTime, as: Moment
      @type lang :: :en | :vi
      @typep size :: 1..9 | nil
      @opaque box :: %{required(:lang) => lang(), size: size}
      @api true
      @spec #{spec}
      def f(a), do: a
      @doc false
      @spec unused(size, box) :: :ok
      def unused(_, _), do: :ok
    end
    """

    {[{module, _}], _warnings} = Code.with_diagnostics(fn -> Code.compile_string(code) end)
    [%{arg_types: [{"a", type}], result: result}] = module.__gen_api__()
    :code.purge(module)
    :code.delete(module)
    {type, result}
  end

  describe "a spec" do
    test "gives these types to arguments and results" do
      nil? = [allow_nil?: true]

      for {spec, type} <- [
            {"String.t()", :string},
            {"String.t", :string},
            {"binary()", :string},
            {"integer()", :integer},
            {"integer", :integer},
            {"pos_integer()", [type: :integer, min: 1]},
            {"non_neg_integer()", [type: :integer, min: 0]},
            {"1..9", [type: :integer, min: 1, max: 9]},
            {"-9..-1", [type: :integer, min: -9, max: -1]},
            {"float()", :float},
            {"number()", :num},
            {"boolean()", :boolean},
            {":en | :vi | :fr", {:enum, [:en, :vi, :fr]}},
            {":en", {:enum, [:en]}},
            {"true | false", {:enum, [true, false]}},
            {"[integer()]", {:list, :integer}},
            {"list(pos_integer())", {:list, [type: :integer, min: 1]}},
            {"[[String.t()]]", {:list, {:list, :string}}},
            {"map()", :map},
            {"%{qty: 1..9, lines: [%{sku: String.t()}]}",
             {:map,
              %{
                "qty" => [type: :integer, min: 1, max: 9],
                "lines" => {:list, {:map, %{"sku" => :string}}}
              }}},
            {"%{required(:a) => integer()}", {:map, %{"a" => :integer}}},
            {"Date.t()", :date},
            {"Time.t()", :time},
            {"DateTime.t()", :datetime},
            {"Moment.t()", :datetime},
            {"NaiveDateTime.t()", :naive_datetime},
            {"String.t() | nil", [type: :string] ++ nil?},
            {"nil | pos_integer()", [type: :integer, min: 1] ++ nil?},
            {":en | nil", [type: {:enum, [:en]}] ++ nil?},
            {"[integer() | nil] | nil", [type: {:list, [type: :integer] ++ nil?}] ++ nil?},
            {"map() | nil", [type: :map] ++ nil?},
            {"lang()", {:enum, [:en, :vi]}},
            {"lang | :fr | nil", [type: {:enum, [:en, :vi, :fr]}] ++ nil?},
            {"size()", [type: :integer, min: 1, max: 9] ++ nil?},
            {"[box()]",
             {:list,
              {:map,
               %{
                 "lang" => {:enum, [:en, :vi]},
                 "size" => [type: :integer, min: 1, max: 9] ++ nil?
               }}}}
          ] do
        assert types("f(#{spec}) :: {:ok, #{spec}} | {:error, term()}") == {type, type}, spec
        assert types("f(a :: #{spec}) :: #{spec} | {:error, :gone}") == {type, type}, spec
      end
    end

    test "gives no result where it does not tell one" do
      for return <- [
            "term()",
            "no_return()",
            "nil",
            "{:error, term()}",
            "{:ok, term()}",
            "{:ok, map()} | nil",
            "{:ok, map()} | {:ok, String.t()}",
            "{:ok, map()} | PhoenixGenApi.Structs.Response.t()",
            "{:ok, map(), term()}",
            "map() | String.t()"
          ] do
        assert types("f(String.t()) :: #{return}") == {:string, nil}, return
      end
    end
  end

  defp ask(service, type, args, fields \\ []) do
    Executor.execute!(
      struct!(
        %Request{
          request_id: "r",
          service: service,
          request_type: type,
          args: args,
          user_id: "ann"
        },
        fields
      )
    )
  end

  describe "on a gateway" do
    setup do
      service = "service_test_#{System.unique_integer([:positive])}"
      on_exit(fn -> ConfigReceiver.delete_pushed_service(service) end)
      configs = for config <- Everything.__gen_api__(), do: %{config | service: service}
      %{service: service, configs: configs}
    end

    test "the functions are added and called", %{service: service, configs: configs} do
      assert ConfigDb.batch_add(configs) == {:ok, length(configs)}
      on_exit(fn -> for c <- configs, do: ConfigDb.delete(service, c.request_type, c.version) end)
      assert_answers(service)
    end

    test "the functions are pushed and called", %{service: service, configs: configs} do
      push = ConfigPusher.from_service_config(service, [node()], configs, config_version: "1")
      assert ConfigPusher.push(node(), push) == {:ok, :accepted}
      assert ConfigPusher.push(node(), push) == {:ok, :skipped, :version_matches}
      assert_answers(service)

      # Stored as the gateway writes them, with all that describes them.
      assert {:ok,
              %{idempotent: true, deprecated: "Use hello.", result: :string, service: ^service}} =
               ConfigDb.get(service, "hi")

      # What describes a function is content, too.
      other = for config <- configs, do: %{config | doc: "Another text."}
      push = %{push | fun_configs: other}
      assert ConfigPusher.push(node(), push, strict: true) == {:error, {:version_conflict, "1"}}
    end

    defp assert_answers(service) do
      assert %Response{result: "Hello Bo"} =
               ask(service, "hello", %{"name" => "Bo"}, version: "1.0.0")

      assert %Response{result: "It is you"} = ask(service, "hi", %{"name" => "you"})
      assert %Response{result: ["ann"]} = ask(service, "mine", %{})
      assert %Response{result: 5} = ask(service, "sum", %{"a" => 2, "b" => 3})
      assert %Response{result: "ann"} = ask(service, "who", %{})

      assert %Response{result: %{number: 3, lang: :vi, user: "ann"}} =
               ask(service, "open", %{"page" => %{"number" => 3, "lang" => nil}, "lang" => "vi"})

      assert %Response{code: "invalid_arguments", details: [%{"path" => "to", "limit" => 10}]} =
               ask(service, "count", %{"to" => 11})

      assert %Response{async: true} = ask(service, "count", %{"to" => 2})
      for n <- 1..2, do: assert_receive({:stream_response, %Response{result: ^n, has_more: true}})
      assert_receive {:stream_response, %Response{success: true, has_more: false}}

      assert %Response{async: true} = ask(service, "later", %{})
      assert_receive {:async_call, %Response{result: :done}}

      assert %Response{code: "unknown_function"} = ask(service, "hidden", %{"a" => 1})
    end

    test "functions of the service have no node yet", %{service: service} do
      [_price, find] = Shop.Prices.__gen_api__()
      :ok = ConfigDb.add(%{find | service: service})
      on_exit(fn -> ConfigDb.delete(service, "find") end)

      assert %Response{error: "No service node available", code: "unavailable"} =
               ask(service, "find", %{"isbn" => "1", "lang" => "en"})

      assert %Response{error: "Permission denied"} =
               ask(service, "find", %{"isbn" => "1", "lang" => "en"}, user_id: nil)
    end
  end

  test "the module in the documentation compiles" do
    {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(PhoenixGenApi.Service)
    [_first, code, _rest] = String.split(text, ~r/^(?=    defmodule)|(?=^Without it)/m)
    code = String.replace(code, "Shop.Prices", "PhoenixGenApi.ServiceTest.Documented")
    assert [{module, _}] = Code.compile_string(code)

    assert [
             %{
               arg_types: [{"item", :string}, {"quantity", [type: :integer, min: 1, max: 99]}],
               result: {:map, %{"item" => :string, "total" => :integer}}
             }
           ] = module.__gen_api__()

    assert module.price("tea", 2) == {:ok, %{item: "tea", total: 10}}
  end

  test "the formatter leaves @api without parentheses" do
    code = """
    @api version: "1.0.0", tags: ["a"]
    @api true
    def price, do: 5
    """

    assert IO.iodata_to_binary([Code.format_string!(code), "\n"]) == code
  end
end
