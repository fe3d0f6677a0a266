defmodule PhoenixGenApi.Service.CompileErrorTest do
  # Each mistake in a module that declares functions, with the whole message.
  use ExUnit.Case, async: true

  defp message(body, use \\ "service: \"shop\"") do
    name = "PhoenixGenApi.Service.Broken#{System.unique_integer([:positive])}"
    code = "defmodule #{name} do\n  use PhoenixGenApi.Service, #{use}\n#{body}\nend"

    {error, _warnings} =
      Code.with_diagnostics(fn ->
        assert_raise(CompileError, fn -> Code.compile_string(code, "lib/shop.ex") end)
      end)

    error |> Exception.message() |> String.replace(name, "Shop")
  end

  @options ~w(after_execute arg_orders arg_types before_execute check_permission choose_node_mode deadline
              deprecated disabled doc hook_timeout idempotent log max_result_bytes nodes permission_callback
              request_info request_type response_type result retry retry_on service tags timeout version)a
  defp options, do: Enum.map_join(@options, ", ", &inspect/1)

  defp find(spec, head \\ "find(isbn, lang)", api \\ "true"),
    do: message("  @api #{api}\n  #{spec}\n  def #{head}, do: :ok")

  describe "options" do
    test "of use that are none" do
      assert message("", ":shop") ==
               "lib/shop.ex:2: use PhoenixGenApi.Service: expected a keyword list, got :shop"
    end

    test "of use that do not exist" do
      assert message("", "servce: \"shop\"") ==
               "lib/shop.ex:2: use PhoenixGenApi.Service: unknown option :servce, expected one of #{options()}"
    end

    test "of use twice in a module" do
      assert message("  use PhoenixGenApi.Service, service: \"other\"") ==
               "lib/shop.ex:3: use PhoenixGenApi.Service: only once in a module"
    end

    test "of @api that are none" do
      assert message("  @api :price\n  def price, do: 5") ==
               "lib/shop.ex:4: price/0: @api: expected true or a keyword list, got :price"
    end

    test "of @api that do not exist" do
      for unknown <- [:vrsion, :mfa] do
        assert message("  @api #{unknown}: 1\n  def price, do: 5") ==
                 "lib/shop.ex:4: price/0: @api: unknown option #{inspect(unknown)}, expected one of #{options()}"
      end
    end

    test "that are given twice" do
      assert message("  @api version: \"1.0.0\", version: \"2.0.0\"\n  def price, do: 5") ==
               "lib/shop.ex:4: price/0: @api: option :version is given twice"
    end

    test "that a function config refuses, with all of its sentences" do
      assert message("  @api timeout: 1, tags: :a, result: :strin\n  def price, do: 5") ==
               "lib/shop.ex:4: price/0: timeout must be a positive integer between 100 and 300000, or :infinity; " <>
                 "result has an invalid type for \"result\": :strin; tags must be a list of non-empty strings"
    end

    test "without a service" do
      assert message("  @api true\n  def price, do: 5", "timeout: 1_000") ==
               "lib/shop.ex:4: price/0: service must not be nil"
    end

    test "of a type that do not exist" do
      assert message("  @api arg_types: [a: {:integer, maximum: 1}]\n  def price(a), do: a") ==
               "lib/shop.ex:4: price/1: arg_types ignores unknown options [:maximum] of \"a\""

      assert message("  @api result: {:integer, maximum: 1}\n  def price, do: 5") ==
               "lib/shop.ex:4: price/0: result ignores unknown options [:maximum] of \"result\""
    end
  end

  describe "a function" do
    test "that is missing after the last @api" do
      assert message("  def price, do: 5\n  @api true") ==
               "lib/shop.ex:1: @api: no function follows the last one of Shop"
    end

    test "that nobody can call" do
      for kind <- ["defp", "defmacro", "defmacrop"] do
        assert message("  @api true\n  #{kind} price(item), do: item") ==
                 "lib/shop.ex:4: price/1: @api needs a public function, this is a #{kind}"
      end
    end

    test "under a key that another one has" do
      body = """
        @api version: "1.0.0", request_type: "price"
        def old_price, do: 5
        @api version: "1.0.0"
        def price, do: 6
      """

      assert message(body) ==
               "lib/shop.ex:6: price/0: shop price 1.0.0 is declared before old_price/0 too; " <>
                 "give one of them another version or request_type"

      assert message("  @api service: :shop\n  @api version: \"0.0.0\"\n  def price, do: 5") ==
               "lib/shop.ex:5: price/0: shop price 0.0.0 is declared before price/0 too; " <>
                 "give one of them another version or request_type"
    end

    test "with another number of arguments" do
      api = "arg_types: [isbn: {:string, 13}]"

      assert find("", "find(isbn, lang)", api) ==
               "lib/shop.ex:5: find/2: takes 2 arguments, and would be called with 1; " <>
                 "write arg_types: [isbn: {:string, 13}, lang: :any], with a type for each :any"

      assert find(
               "@spec find(String.t(), lang :: :en) :: map()",
               "find(isbn, lang \\\\ :en)",
               api
             ) ==
               "lib/shop.ex:5: find/2: takes 2 arguments, and would be called with 1; " <>
                 "write arg_types: [isbn: {:string, 13}, lang: {:enum, [:en]}]"

      assert find("", "find()", api) ==
               "lib/shop.ex:5: find/0: takes 0 arguments, and would be called with 1; write arg_types: []"

      assert find("", "find(isbn)", api <> ", request_info: true") ==
               "lib/shop.ex:5: find/1: takes 1 argument, and would be called with 2; " <>
                 "write arg_types: [], request_info: true"

      assert find(
               "@spec find(String.t(), PhoenixGenApi.Structs.Request.t()) :: map()",
               "find(isbn, request)",
               api
             ) ==
               "lib/shop.ex:5: find/2: takes 2 arguments, and would be called with 1; " <>
                 "write arg_types: [isbn: {:string, 13}], request_info: true"
    end

    test "that takes arguments one by one, with arg_orders: :map" do
      assert find(
               "",
               "find(isbn, lang)",
               "arg_types: [isbn: :string, lang: :string], arg_orders: :map"
             ) ==
               "lib/shop.ex:5: find/2: takes 2 arguments, and would be called with 1: arg_orders: :map makes " <>
                 "one map of all arguments; write the function for that, or leave arg_orders out"
    end

    test "that gets the other one of request and stream" do
      assert find("@spec find(PhoenixGenApi.Structs.StreamHelper.t()) :: term()", "find(out)") ==
               "lib/shop.ex:5: find/1: takes a StreamHelper; write response_type: :stream"

      assert find(
               "@spec find(String.t(), PhoenixGenApi.Structs.StreamHelper.t()) :: term()",
               "find(isbn, out)",
               "arg_types: [isbn: :string], request_info: true, response_type: :async"
             ) == "lib/shop.ex:5: find/2: takes a StreamHelper; write response_type: :stream"

      assert find(
               "@spec find(PhoenixGenApi.Structs.Request.t()) :: term()",
               "find(request)",
               "response_type: :stream"
             ) ==
               "lib/shop.ex:5: find/1: a function with response_type: :stream gets a StreamHelper; " <>
                 "write StreamHelper.t() for Request.t()"
    end
  end

  describe "types" do
    test "without a spec" do
      assert find("") ==
               "lib/shop.ex:5: find/2: it has no @spec; write arg_types: [isbn: :any, lang: :any], " <>
                 "with a type for each :any"

      assert find("@spec find(isbn :: String.t()) :: map()") ==
               "lib/shop.ex:5: find/2: it has no @spec; write arg_types: [isbn: :any, lang: :any], " <>
                 "with a type for each :any"
    end

    test "without a spec, beside a request" do
      assert find("", "find(\"x\" <> _, _lang, request)", "request_info: true") ==
               "lib/shop.ex:5: find/3: it has no @spec; write arg_types: [argument_1: :any, lang: :any], " <>
                 "request_info: true, with a type for each :any"
    end

    test "with several specs" do
      assert find("@spec find(String.t(), :en) :: map()\n  @spec find(String.t(), :vi) :: map()") ==
               "lib/shop.ex:6: find/2: it has several @specs; write arg_types: [isbn: :any, lang: :any], " <>
                 "with a type for each :any"
    end

    test "with a when" do
      assert find("@spec find(String.t(), a) :: a when a: atom()") ==
               "lib/shop.ex:5: find/2: its @spec has a `when`; write arg_types: [isbn: :any, lang: :any], " <>
                 "with a type for each :any"
    end

    test "without a name" do
      assert find("@spec find(String.t(), :en | :vi) :: map()", "find(\"x\" <> _ = isbn, _)") ==
               "lib/shop.ex:5: find/2: argument 2 has no name in the @spec and none in the function head; " <>
                 "write arg_types: [isbn: :string, argument_2: {:enum, [:en, :vi]}]"
    end

    test "with two of a name" do
      assert find("@spec find(isbn :: String.t(), isbn :: integer()) :: map()") ==
               "lib/shop.ex:5: find/2: arg_types names must be unique non-empty strings"
    end

    test "that a spec cannot give" do
      types = [
        "Enumerable.t()",
        "Shop.Lang.name()",
        "term()",
        "any()",
        "atom()",
        "pid()",
        "nil",
        "{String.t(), integer()}",
        "1",
        "1 | 2",
        "String.t() | integer()",
        ":en | String.t()",
        "[String.t(), ...]",
        "list()",
        "keyword()",
        "%{}",
        "%{optional(:a) => integer()}",
        "%{String.t() => integer()}",
        "%{a: term()}",
        "[atom()]",
        "(-> term())",
        "recursive()",
        "box(integer())"
      ]

      for type <- types do
        spec = """
        @type recursive :: [recursive()] | nil
          @type box(content) :: [content]
          @spec find(isbn :: String.t(), lang :: #{type}) :: map()
        """

        shown = type |> Code.string_to_quoted!() |> Macro.to_string()

        assert find(String.trim_trailing(spec)) ==
                 "lib/shop.ex:7: find/2: cannot take the type of lang from #{shown}; " <>
                   "write arg_types: [isbn: :string, lang: :any], with a type for each :any"
      end
    end

    test "that a request appended is not told from, where request_info is false" do
      assert find(
               "@spec find(String.t(), PhoenixGenApi.Structs.Request.t()) :: map()",
               "find(isbn, request)",
               "request_info: false"
             ) ==
               "lib/shop.ex:5: find/2: cannot take the type of request from PhoenixGenApi.Structs.Request.t(); " <>
                 "write arg_types: [isbn: :string, request: :any], with a type for each :any"
    end
  end
end
