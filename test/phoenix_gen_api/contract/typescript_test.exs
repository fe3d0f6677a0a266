defmodule PhoenixGenApi.Contract.TypeScriptTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Contract.TypeScript
  alias PhoenixGenApi.Structs.FunConfig

  # Which tests of the client compile as well.
  @golden "clients/javascript/test/types/gen_api.ts"

  defp function(service, name, fields) do
    struct!(
      %FunConfig{service: service, request_type: name, nodes: :local, mfa: {List, :first, []}},
      fields
    )
  end

  defp shop do
    quantity = [type: :integer, min: 1, max: 99, default_value: 1]

    [
      function("shop", "price",
        arg_types: [{"item", {:string, 40}}, {"quantity", quantity}],
        result: {:map, [{"item", :string}, {"total", :integer}]},
        doc: "The price of a number of items.",
        idempotent: true
      ),
      function("shop", "price",
        version: "2.0.0",
        arg_types: [{"items", {:list, :string}}],
        result: {:list, :num},
        disabled: false
      ),
      function("shop", "prices",
        arg_types: [{"symbol", :string}],
        result: :num,
        response_type: :stream,
        timeout: :infinity,
        doc: "Prices as they change.\n\nEnds with the trading day."
      ),
      function("shop", "track",
        response_type: :none,
        arg_types: [{"event", :string}, {"data", [type: :map, allow_nil?: true]}]
      ),
      function("shop", "orders",
        arg_types: [
          {"status", [type: {:enum, [:open, :paid, "sent \"now\""]}, default_value: :open]},
          {"sort", {:enum, ["asc", "desc"], allow_nil?: true}},
          {"tags", {:list, {:enum, ["new", "old"]}, allow_nil?: true}}
        ],
        result:
          {:list,
           {:map,
            [
              {"id", :uuid},
              {"ordered_at", :datetime},
              {"lines",
               {:list,
                {:map,
                 [
                   {"item", :string},
                   {"quantity", :integer},
                   {"note", [type: :string, allow_nil?: true]}
                 ]}}},
              {"discount", [type: :num, allow_nil?: true]},
              {"status", {:enum, ["open", "paid"]}}
            ]}},
        deprecated: "use search"
      ),
      function("shop", "cancel order",
        arg_types: [{"order-id", :uuid}, {"reason", :any}],
        deprecated: true,
        response_type: :async,
        timeout: 60_000,
        doc: "Ends with */ and goes on."
      ),
      function("shop", "open", result: :boolean, idempotent: true, timeout: :infinity),
      function("chat-rooms", "send",
        arg_types: [
          {"group_id", :string},
          {"message", :any},
          {"extra", {:map, 5}},
          {"list", :list}
        ]
      ),
      function("chat-rooms", "v", arg_types: nil),
      function("old", "only", version: "1.0.0")
    ]
  end

  test "a file reads as if a person had written it, and is the same for the same functions" do
    text = [functions: shop()] |> Contract.describe() |> TypeScript.file()

    if System.get_env("GUIDES") == "write", do: File.write!(@golden, text)

    assert text == File.read!(@golden),
           "out of date: GUIDES=write bin/mix test #{Path.relative_to_cwd(__ENV__.file)}"

    assert text == [functions: Enum.reverse(shop())] |> Contract.describe() |> TypeScript.file()
  end

  test "what the client has other uses for is left out, and told" do
    description =
      Contract.describe(
        functions: [function("then", "a", []), function("s", "then", [])] ++ shop()
      )

    assert TypeScript.left_out(description) == ["chat-rooms/v", "s/then", "then"]
    refute TypeScript.file(description) =~ ~r/\bthen\b/
  end

  test "a gateway without functions has a type all the same" do
    assert TypeScript.file(Contract.describe(functions: [])) =~ "export interface Api {\n}\n"
  end

  test "nothing of a description gets into the file unquoted" do
    evil = "x\"; import \"evil\" //\n*/ evil()"

    text =
      TypeScript.file(%{
        "services" => [
          %{
            "service" => evil,
            "functions" => [
              %{
                "request_type" => evil,
                "default_version" => nil,
                "versions" => [
                  %{
                    "version" => evil,
                    "args" => %{
                      "type" => "object",
                      "properties" => %{evil => %{"enum" => [evil]}},
                      "required" => [],
                      "x-order" => [evil]
                    },
                    "result" => %{"type" => [evil]},
                    "response_type" => "sync",
                    "deprecated" => evil,
                    "doc" => evil,
                    "idempotent" => false,
                    "timeout_ms" => 5
                  }
                ]
              }
            ]
          }
        ]
      })

    code =
      text
      |> String.replace(~r/"(?:[^"\\\n]|\\.)*"/, "")
      |> String.replace(~r{/\*.*?\*/}s, "")
      |> String.replace(~r{^//.*$}m, "")

    refute code =~ "evil"
  end
end
