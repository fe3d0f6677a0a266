defmodule PhoenixGenApi.Contract.JsonSchemaTest do
  # What each type becomes. Whether it means the same is judged by others, see judges_test.exs.
  use ExUnit.Case, async: true

  import PhoenixGenApi.Contract, only: [json_schema: 1]

  alias PhoenixGenApi.Contract.Pattern

  test "a type becomes a schema, with the defaults of its limits" do
    for {type, schema} <- [
          {:string, %{"type" => "string", "maxLength" => 3_000}},
          {{:string, 5, min_length: 1, max_bytes: 9},
           %{"type" => "string", "maxLength" => 5, "minLength" => 1, "x-max-bytes" => 9}},
          {{:string, format: "^[a-z]+$"},
           %{"type" => "string", "maxLength" => 3_000, "pattern" => "^[a-z]+$"}},
          {{:string, format: ~r/^a/i},
           %{"type" => "string", "maxLength" => 3_000, "x-pattern" => "^a", "x-flags" => "i"}},
          {:num, %{"type" => "number"}},
          {{:float, min: 0.5}, %{"type" => "number", "minimum" => 0.5}},
          {{:integer, max: 2 ** 70}, %{"type" => "integer", "maximum" => 2 ** 70}},
          {:boolean, %{"type" => "boolean"}},
          {{:enum, [:asc, "asc", 1, true]}, %{"enum" => ["asc", 1, true]}},
          {{:enum, ["a"], allow_nil?: true}, %{"enum" => ["a", nil]}},
          {{:list, 3},
           %{
             "type" => "array",
             "maxItems" => 3,
             "items" => %{"type" => ["boolean", "number", "string"], "maxLength" => 3_000}
           }},
          {{:list, :boolean, min_items: 1},
           %{
             "type" => "array",
             "maxItems" => 1_000,
             "minItems" => 1,
             "items" => %{"type" => "boolean"}
           }},
          {{:list_string, 2, 3},
           %{
             "type" => "array",
             "maxItems" => 2,
             "items" => %{"type" => "string", "maxLength" => 3}
           }},
          {:list_num,
           %{"type" => "array", "maxItems" => 1_000, "items" => %{"type" => "number"}}},
          {:list_map,
           %{"type" => "array", "maxItems" => 1_000, "items" => %{"type" => "object"}}},
          {:map, %{"type" => "object", "maxProperties" => 1_000}},
          {:any, %{"type" => ["array", "boolean", "number", "object", "string"]}},
          {[type: :any, allow_nil?: true],
           %{"type" => ["array", "boolean", "number", "object", "string", "null"]}},
          {[type: :integer, default_value: 3, allow_nil?: true],
           %{"type" => ["integer", "null"], "default" => 3}},
          {[type: :enum, values: [:asc], default_value: :asc],
           %{"enum" => ["asc"], "default" => "asc"}},
          {{:map, [{"b", :boolean}, {"a", {:enum, [1], default_value: 1}}]},
           %{
             "type" => "object",
             "properties" => %{
               "a" => %{"enum" => [1], "default" => 1},
               "b" => %{"type" => "boolean"}
             },
             "required" => ["b"],
             "additionalProperties" => false,
             "x-order" => ["b", "a"]
           }}
        ] do
      assert json_schema(type) == schema, inspect(type)
    end
  end

  test "a flat map says what its values are, which keys it needs and which it takes" do
    assert %{
             "type" => "object",
             "maxProperties" => 1_000,
             "required" => ["a"],
             "propertyNames" => %{"enum" => ["a", "b"]},
             "additionalProperties" => %{"anyOf" => [_scalar, %{"type" => "array"}]}
           } = json_schema({:map, required: ["a"], accept: ["a", "b"]})

    assert %{"additionalProperties" => %{"anyOf" => [_, _, %{"type" => "object"}]}} =
             json_schema({:map, nested: true})
  end

  test "what is no type raises with the sentence of a config" do
    assert_raise ArgumentError, ~s(no schema: invalid type for "type": :int), fn ->
      json_schema(:int)
    end

    assert_raise ArgumentError, ~r/"type\[\]"/, fn -> json_schema({:list, {:string, -1}}) end
  end

  describe "a format" do
    test "is a pattern where both dialects agree" do
      for {source, flags, pattern} <- [
            {"^[a-z]+$", "", "^[a-z]+$"},
            {"\\d{2,4}", "u", "[\\p{Nd}]{2,4}"},
            {"\\d", "", "[0-9]"},
            {"^.{3}$", "u", "^[^\\n]{3}$"},
            {"\\p{Lu}", "u", "\\p{Lu}"},
            {"^(?:red|green)$", "u", "^(?:red|green)$"},
            {"^\\w+@\\w+\\.(com|org)$", "", "^[0-9A-Za-z_]+@[0-9A-Za-z_]+\\.(com|org)$"},
            {"[\\w\\-.]+?", "", "[0-9A-Za-z_\\-.]+?"},
            {"a\\@\\-b", "", "a@-b"},
            {"é+", "u", "é+"},
            {"[^@]+", "u", "[^@]+"},
            {"\\bab\\b", "", "\\bab\\b"},
            {"a/b", "", "a/b"}
          ] do
        assert Pattern.ecma(source, flags) == {:ok, pattern}, source
      end
    end

    test "is none where they do not, or may not" do
      for {source, flags} <- [
            {"a", "i"},
            {"^a$", "m"},
            {"a b # c", "x"},
            {"^.$", ""},
            {"[^@]+", ""},
            {"é?", ""},
            {"(?i)a", "u"},
            {"(?P<n>a)", "u"},
            {"\\Aa\\z", "u"},
            {"[[:alpha:]]", "u"},
            {"[a&&b]", "u"},
            {"[]a]", "u"},
            {"\\bé", "u"},
            {"\\p{Greek}", "u"},
            {"\\pL", "u"},
            {"\\x{41}", "u"},
            {"a**", "u"},
            {"]", "u"},
            {"\\D", ""}
          ] do
        assert Pattern.ecma(source, flags) == :error, source
      end
    end
  end
end
