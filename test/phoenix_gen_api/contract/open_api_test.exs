defmodule PhoenixGenApi.Contract.OpenApiTest do
  # What the document says. Whether it is one is for a validator to say, see judges_test.exs.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Structs.FunConfig

  defp config(fields) do
    struct!(
      %FunConfig{
        service: "shop",
        request_type: "price",
        version: "1.0.0",
        nodes: :local,
        mfa: {String, :length, []},
        arg_types: [{"item", {:string, 40}}],
        result: :integer
      },
      fields
    )
  end

  defp document(configs, opts \\ []),
    do: Contract.openapi([functions: Enum.map(configs, &config/1)] ++ opts)

  defp operation(configs, opts \\ []) do
    [{_path, %{"post" => operation}}] = Enum.to_list(document(configs, opts)["paths"])
    operation
  end

  defp header(operation, name), do: Enum.find(operation["parameters"], &(&1["name"] == name))

  test "a function is an operation with its arguments, its result and its text" do
    operation = operation([[doc: "A price.", tags: ["catalogue"], timeout: 1_000]])

    assert %{
             "operationId" => "shop.price",
             "description" => "A price.",
             "tags" => ["shop", "catalogue"],
             "deprecated" => false,
             "requestBody" => %{
               "required" => true,
               "content" => %{
                 "application/json" => %{
                   "schema" => %{"properties" => %{"item" => %{"maxLength" => 40}}}
                 }
               }
             },
             "x-timeout-ms" => 1_000
           } = operation

    assert %{
             "properties" => %{
               "result" => %{"type" => "integer"},
               "success" => %{"const" => true}
             }
           } =
             operation["responses"]["200"]["content"]["application/json"]["schema"]
  end

  test "names that a path cannot have are escaped" do
    assert Map.keys(document([[service: "a b", request_type: "x/{y}"]])["paths"]) == [
             "/a%20b/x%2F%7By%7D"
           ]
  end

  test "every failure has its status and codes" do
    document = document([[]], statuses: %{"sold_out" => 409, "too_many" => 429, "gone" => 409})
    %{"responses" => responses} = operation([[]], statuses: %{"sold_out" => 409})

    assert Enum.sort(Map.keys(responses)) ==
             ~w(200 400 401 403 404 409 413 415 422 429 500 503 504)

    texts =
      for {name, response} <- document["components"]["responses"],
          into: %{},
          do: {name, response["description"]}

    assert texts["Status409"] =~ "`gone`, `sold_out`"
    assert texts["Status429"] =~ "`rate_limited`, `too_many`"
    assert texts["Status422"] =~ "`invalid_arguments`"
  end

  test "other versions are asked for with a header" do
    versions = [[version: "1.0.0", deprecated: "Use 2.0.0."], [version: "2.0.0", arg_types: nil]]
    operation = operation(versions)

    assert %{
             "required" => false,
             "schema" => %{"enum" => ["1.0.0", "2.0.0"], "default" => "2.0.0"}
           } = header(operation, "accept-version")

    assert operation["deprecated"] == false
    assert operation["requestBody"]["required"] == false

    assert [%{"title" => "version 1.0.0"}, %{"title" => "version 2.0.0"}] =
             operation["requestBody"]["content"]["application/json"]["schema"]["anyOf"]

    assert %{"description" => "Use 2.0.0.", "deprecated" => true} = operation([hd(versions)])
  end

  test "a stream comes as events or lines, and a function without an answer is accepted" do
    assert %{"200" => %{"content" => content}} =
             operation([[response_type: :stream]])["responses"]

    assert Map.keys(content) == ["application/x-ndjson", "text/event-stream"]
    responses = operation([[response_type: :none]])["responses"]
    assert %{"202" => _accepted} = responses
    refute is_map_key(responses, "200")
  end

  test "callers are known, unless the functions are public in a public interface" do
    assert operation([[]])["security"] == [%{"identity" => []}]
    assert operation([[]], public: true)["security"] == [%{}, %{"identity" => []}]

    assert operation([[check_permission: :any_authenticated]], public: true)["security"] == [
             %{"identity" => []}
           ]
  end

  test "the API has a title, a version and servers" do
    assert %{"openapi" => "3.1.0", "info" => %{"title" => "API", "version" => "1.0.0"}} =
             plain = document([])

    refute is_map_key(plain, "servers")

    assert %{"info" => %{"title" => "Shop"}, "servers" => [%{"url" => "/gen_api"}]} =
             document([], title: "Shop", servers: ["/gen_api"])
  end

  test "a description can be given, and an option that it does not know not" do
    configs = [config([])]

    assert Contract.openapi(description: Contract.describe(functions: configs)) ==
             Contract.openapi(functions: configs)

    assert_raise ArgumentError, fn -> Contract.openapi(name: "x") end
    assert_raise ArgumentError, ~r/no description/, fn -> Contract.openapi(description: %{}) end
  end
end
