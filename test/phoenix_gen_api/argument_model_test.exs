defmodule PhoenixGenApi.ArgumentModelTest do
  # Pins the oracle itself to results worked out by hand from the contract.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.ArgumentModel
  alias PhoenixGenApi.Errors.InvalidType

  defp one(type, value), do: ArgumentModel.convert(%{"a" => type}, nil, "t", %{"a" => value})

  defp says(type, value) do
    {:error, ArgumentError, message} = one(type, value)
    message
  end

  defp declaration_error(types, orders \\ nil) do
    {:error, message} = ArgumentModel.validate_types(types, orders)
    message
  end

  test "the three spellings are one type" do
    for spellings <- [
          [
            :string,
            {:string, 3_000},
            {:string, []},
            [type: :string],
            [max_length: 3_000, type: :string]
          ],
          [{:string, 5, min_length: 1}, {:string, min_length: 1, max_length: 5}],
          [{:integer, min: 1}, [type: :integer, min: 1, max: nil]],
          [{:enum, ["x"]}, {:enum, ["x"], []}, [type: :enum, values: ["x"]]],
          [
            {:list, 5},
            {:list, max_items: 5},
            {:list, 5, min_items: 0},
            [type: :list, max_items: 5]
          ],
          [
            {:list, :num},
            {:list, [type: :num]},
            {:list, :num, 1_000},
            [type: :list, items: {:num, []}]
          ],
          [{:list, {:list, 3}}, {:list, [type: :list, max_items: 3], max_items: 1_000}],
          [{:list_string, 2, 4}, {:list_string, 2, max_item_length: 4}],
          [{:map, 7}, {:map, max_items: 7}, [type: :map, max_items: 7, nested: false]],
          [
            {:map, %{"x" => :num}},
            {:map, [{"x", :num}]},
            {:map, [{"x", [type: :num]}], []},
            [type: :map, fields: %{"x" => :num}]
          ]
        ] do
      canonical = Enum.map(spellings, &ArgumentModel.validate_types(%{"a" => &1}, nil))
      assert [{:ok, %{order: ["a"]}}] = Enum.uniq(canonical)
    end
  end

  test "a malformed declaration has its own sentence" do
    assert declaration_error(5) == "arg_types must be nil, a map, or a list of {name, type} pairs"
    assert declaration_error([:a]) == declaration_error(5)
    assert declaration_error([{"a", :num} | :b]) == declaration_error(5)
    assert declaration_error(~D[2026-01-01]) == declaration_error(5)

    names = "arg_types names must be unique non-empty strings"
    assert declaration_error(%{"" => :num}) == names
    assert declaration_error([{nil, :num}]) == names
    assert declaration_error([{:a, :num}, {"a", :num}]) == names
    assert declaration_error([{"a", :num}, {"a", :string}]) == names

    assert declaration_error(%{"age" => :int}) ==
             ~s(arg_types has an invalid type for "age": :int)

    assert declaration_error(%{"age" => {:string, -1}}) =~ ~s(for "age": {:string, -1})
    assert declaration_error(%{"age" => {:integer, 5}}) =~ ~s(for "age": {:integer, 5})
    assert declaration_error(%{"age" => :enum}) =~ ~s(for "age": :enum)
    assert declaration_error(%{"age" => {:enum, [nil]}}) =~ ~s(for "age": {:enum, [nil]})
    assert declaration_error(%{"age" => {:string, min_length: "1"}}) =~ ~s(invalid type for "age")
    assert declaration_error(%{"age" => {:map, %{nil: :num}}}) =~ ~s(invalid type for "age")
    assert declaration_error(%{"o" => {:map, %{"l" => :foo}}}) =~ ~s(invalid type for "o.l": :foo)

    assert declaration_error(%{"n" => {:integer, default_value: "1"}}) ==
             ~s(arg_types has an invalid default_value for "n")

    for pattern <- ["(?=a)", "(?<!a)b", "(a)\\1", "a++", "(?>a)", ~r/(?!x)/, "(", ~r/a/U] do
      assert declaration_error(%{"code" => {:string, format: pattern}}) =~
               ~s(arg_types has an unsupported format for "code": )
    end
  end

  test "declarations are limited in depth and size" do
    nested = fn levels -> Enum.reduce(2..levels, :num, fn _, type -> {:list, type} end) end
    assert {:ok, _} = ArgumentModel.validate_types(%{"a" => nested.(32)}, nil)
    assert declaration_error(%{"a" => nested.(33)}) == "arg_types nesting exceeds 32 levels"

    wide = fn count -> %{"a" => {:map, Map.new(1..count, &{"f#{&1}", :num})}} end
    assert {:ok, _} = ArgumentModel.validate_types(wide.(9_999), nil)
    assert declaration_error(wide.(10_000)) == "arg_types exceeds 10000 types"
  end

  test "the order comes from arg_orders, else from the pairs" do
    order = fn types, orders ->
      {:ok, canonical} = ArgumentModel.validate_types(types, orders)
      canonical.order
    end

    two = %{"a" => :num, "b" => :num}
    pairs = [{"b", :num}, {"a", :num}]
    assert order.(nil, nil) == []
    assert order.(%{"a" => :num}, []) == ["a"]
    assert order.(pairs, nil) == ["b", "a"]
    assert order.(pairs, ["a", "b"]) == ["a", "b"]
    assert order.(two, :map) == :map
    assert declaration_error(two, []) =~ ~r/^arg_orders is required: arg_types is a map with 2 /

    for orders <- [["a"], ["a", "a"], ["a", "b", "c"], ["a" | "b"], :list, %{}] do
      assert declaration_error(two, orders) ==
               "arg_orders must be nil, :map, or a list with every arg_types name exactly once"
    end
  end

  test "nil and default follow the table" do
    plain = %{"a" => :num}
    default = %{"a" => {:num, default_value: 7}}
    nilable = %{"a" => {:num, allow_nil?: true}}
    both = %{"a" => {:num, allow_nil?: true, default_value: 7}}
    missing = {:error, ArgumentError, ~s(missing or nil argument "a" in "t")}

    for {types, absent, given_nil} <- [
          {plain, missing, missing},
          {nilable, {:ok, [nil]}, {:ok, [nil]}},
          {default, {:ok, [7]}, missing},
          {both, {:ok, [7]}, {:ok, [nil]}}
        ] do
      assert ArgumentModel.convert(types, nil, "t", %{}) == absent
      assert ArgumentModel.convert(types, nil, "t", %{"a" => nil}) == given_nil
    end
  end

  test "the result has the shape that the order asks for" do
    types = [{"b", :num}, {"a", {:num, allow_nil?: true}}]
    assert ArgumentModel.convert(types, nil, "t", %{"b" => 1}) == {:ok, [1, nil]}

    assert ArgumentModel.convert(types, :map, "t", %{"b" => 1}) ==
             {:ok, [%{"a" => nil, "b" => 1}]}

    assert ArgumentModel.convert(nil, nil, "t", %{}) == {:ok, []}
    assert ArgumentModel.convert(nil, :map, "t", %{}) == {:ok, []}
  end

  test "undeclared arguments come before the arguments, and trees before both" do
    assert {:error, ArgumentError, ~s(extra arguments for "t", extra: ["y", "z"])} =
             ArgumentModel.convert(%{"a" => :num}, nil, "t", %{"z" => 1, "y" => 2, "a" => "x"})

    deep = Enum.reduce(1..33, 1, fn _, inner -> [inner] end)

    assert {:error, ArgumentError, ~s(arguments of "t" exceed max depth 32)} =
             ArgumentModel.convert(nil, nil, "t", %{"z" => deep})

    assert {:ok, _} = ArgumentModel.convert(%{"a" => :any}, nil, "t", %{"a" => hd(deep)})
    wide = %{"a" => List.duplicate(1, 99)}
    assert {:ok, _} = ArgumentModel.convert(%{"a" => :list}, nil, "t", wide, max_nodes: 100)

    assert {:error, ArgumentError, ~s(arguments of "t" exceed max nodes 99)} =
             ArgumentModel.convert(%{"a" => :list}, nil, "t", wide, max_nodes: 99)
  end

  test "strings are limited in bytes, then characters, then by the format" do
    assert one({:string, 2}, "é🙂") == {:ok, ["é🙂"]}
    assert says({:string, 2}, "abc") == ~s(invalid argument size for "a", max 2 characters)

    assert says({:string, min_length: 3}, "ab") ==
             ~s(invalid argument size for "a", min 3 characters)

    assert says({:string, max_bytes: 5}, "ééé") == ~s(invalid argument size for "a", max 5 bytes)
    assert says({:string, max_bytes: 1}, <<255, 255>>) =~ "max 1 bytes"
    assert says(:string, <<255>>) == ~s(invalid argument value for "a", invalid UTF-8)
    assert says(:string, 5) == ~s(invalid argument type for "a", expected :string, got 5)

    assert says({:string, format: "^[a-z]+$"}, "A") ==
             ~s(invalid argument value for "a", does not match the required format)

    assert one({:string, format: ~r/b/i}, "aBc") == {:ok, ["aBc"]}
    assert one({:string, format: "^.$"}, "é") == {:ok, ["é"]}
    assert says({:string, format: ~r/^.$/}, "é") =~ "required format"
  end

  test "numbers keep their type, except for a float" do
    assert one(:num, 5) == {:ok, [5]}
    assert says(:integer, 5.0) == ~s(invalid argument type for "a", expected :integer, got 5.0)
    assert one(:float, 5) === {:ok, [5.0]}
    assert says(:float, Integer.pow(10, 400)) =~ ~r/expected :float, got #Integer<171 bytes>$/
    assert says({:num, min: 18}, 17.5) == ~s(invalid argument value for "a", must be at least 18)

    assert says({:integer, max: 1.5}, 2) ==
             ~s(invalid argument value for "a", must be at most 1.5)

    assert says(:boolean, "true") ==
             ~s(invalid argument type for "a", expected :boolean, got "true")
  end

  test "an enum gives the listed value" do
    assert one({:enum, [:asc, "x", 1, false]}, "asc") == {:ok, [:asc]}
    assert one({:enum, [:asc]}, :asc) == {:ok, [:asc]}
    assert one({:enum, [1, false]}, false) == {:ok, [false]}

    assert says({:enum, ["a", "b"]}, "c") ==
             ~s(invalid argument value for "a", must be one of ["a", "b"])

    assert says({:enum, [true]}, "true") =~ "must be one of [true]"
    assert says({:enum, ["a"]}, %{}) =~ "must be one of"
    assert {:error, InvalidType, "Invalid type for argument ':b'"} = one({:enum, [:a]}, :b)

    assert ArgumentModel.convert(%{"a" => {:enum, [:x], default_value: "x"}}, nil, "t", %{}) ==
             {:ok, [:x]}
  end

  test "uuids and dates are checked by their text" do
    uuid = "123e4567-E89b-12d3-a456-426614174000"
    assert one(:uuid, uuid) == {:ok, [uuid]}

    assert says(:uuid, uuid <> "\n") ==
             ~s(invalid argument value for "a", require a UUID format string)

    assert one(:datetime, "2026-01-01T01:00:00+01:00") == {:ok, [~U[2026-01-01 00:00:00Z]]}
    assert one(:datetime, ~U[2026-01-01 00:00:00Z]) == {:ok, [~U[2026-01-01 00:00:00Z]]}
    assert one(:naive_datetime, "2026-01-01 00:00:00") == {:ok, [~N[2026-01-01 00:00:00]]}

    assert says(:datetime, "2026-01-01T00:00:00") ==
             ~s(invalid datetime format for "2026-01-01T00:00:00": missing_offset at "a")

    assert says(:naive_datetime, "x") ==
             ~s(invalid naive_datetime format for "x": invalid_format at "a")

    assert says(:datetime, 1) ==
             ~s(invalid argument type for "a", expected :datetime (ISO 8601 string\), got 1)

    assert {:error, InvalidType, _} = one(:datetime, %{~U[2026-01-01 00:00:00Z] | hour: "x"})
    assert {:error, InvalidType, _} = one(:string, ~U[2026-01-01 00:00:00Z])
  end

  test "lists are limited and look at every item" do
    assert says({:list, 2}, [1, 2, 3]) == ~s(invalid argument size for "a" in "t", max 2 items)

    assert says({:list, :num, min_items: 1}, []) ==
             ~s(invalid argument size for "a" in "t", min 1 items)

    assert says(:list, [1 | 2]) == ~s(invalid argument type for "a", expected :list, got [1 | 2])
    assert says(:list_num, "x") == ~s(invalid argument type for "a", expected :list_num, got "x")
    assert says(:list, [1, %{}]) == ~s(nested map is not supported yet at "a[1]")
    assert says(:list, [[]]) == ~s(nested list is not supported yet at "a[0]")
    assert says(:list, [nil]) == ~s(unsupported type nil at "a[0]")

    assert says(:list, [String.duplicate("é", 3_001)]) ==
             ~s(string item in list exceeds max byte size at "a[0]")

    assert says(:list_string, ["x", 1]) == ~s(unsupported type of 1 in list at "a[1]")

    assert says({:list_string, 2, 1}, ["xy"]) ==
             ~s(invalid argument size for "a[0]", max 1 characters)

    assert says({:list, :integer}, [1, "2"]) ==
             ~s(invalid argument type for "a[1]", expected :integer, got "2")

    assert says({:list, :integer}, [nil]) == ~s(missing or nil argument "a[0]" in "t")
    assert one({:list, {:float, allow_nil?: true}}, [1, nil]) === {:ok, [[1.0, nil]]}
    assert one(:list_map, [%{"x" => [nil]}]) == {:ok, [[%{"x" => [nil]}]]}
  end

  test "a declared map has exactly the declared fields" do
    type =
      {:map,
       %{"l" => {:list, {:map, [{"q", {:integer, max: 9}}]}}, "o" => {:num, allow_nil?: true}}}

    assert one(type, %{"l" => [%{"q" => 1}]}) == {:ok, [%{"l" => [%{"q" => 1}], "o" => nil}]}

    assert says(type, %{"l" => [%{"q" => 12}]}) ==
             ~s(invalid argument value for "a.l[0].q", must be at most 9)

    assert says(type, %{:l => 1, "t" => 2}) == ~s(extra fields in "a", extra: [:l, "t"])
    assert says(type, %{"l" => [%{}]}) == ~s(missing or nil argument "a.l[0].q" in "t")
    assert says(type, []) == ~s(invalid argument type for "a", expected :map, got [])
  end

  test "a flat map has neither nil nor maps inside" do
    assert one({:map, 2}, %{"x" => [1, "y"], "z" => true}) ==
             {:ok, [%{"x" => [1, "y"], "z" => true}]}

    assert says({:map, 1}, %{"x" => 1, "y" => 1}) ==
             ~s(invalid argument size for "a" in "t", max 1 items)

    assert says({:map, 1}, %{"x" => %{}}) == ~s(nested map is not supported yet at "a.x")
    assert says({:map, 1}, %{"x" => nil}) == ~s(unsupported type nil in map for key "x" at "a")

    assert says({:map, 1}, %{"x" => String.duplicate("y", 3_001)}) ==
             ~s(nested map string value exceeds max byte size for key "x" at "a")

    assert says({:map, 1}, %{"x" => List.duplicate(1, 1_001)}) ==
             ~s(nested map list value exceeds max items for key "x" at "a")

    assert says({:map, required: ["x", "w"]}, %{}) ==
             ~s(map argument "a" missing required keys: ["w", "x"] in "t")

    assert says({:map, accept: ["x"]}, %{"y" => 1}) ==
             ~s(map argument "a" contains rejected keys: ["y"] in "t")

    assert one({:map, nested: true}, %{"x" => %{"y" => 1}}) == {:ok, [%{"x" => %{"y" => 1}}]}
  end

  test "a plain map and any take every JSON value and nothing else" do
    json = %{"x" => [nil, %{"y" => [1.5, true, "é"]}]}
    assert one(:map, json) == {:ok, [json]}
    assert one(:any, json) == {:ok, [json]}
    assert says(:map, Map.new(1..1_001, &{"#{&1}", 1})) =~ "max 1000 items"

    assert says(:any, %{"x" => [<<255>>]}) ==
             ~s(invalid argument value for "a.x[0]", invalid UTF-8)

    for {value, shown} <- [
          {%{x: 1}, ":x"},
          {[{1, 2}], "{1, 2}"},
          {%{"x" => [1 | 2]}, "[1 | 2]"},
          {:other, ":other"},
          {<<1::3>>, "<<1::size(3)>>"},
          {~D[2026-01-01], "~D[2026-01-01]"}
        ] do
      message = "Invalid type for argument '#{shown}'"
      assert {:error, InvalidType, ^message} = one(:any, value)
    end
  end

  test "values and paths are cut" do
    assert says(:num, String.duplicate("é", 200)) ==
             ~s(invalid argument type for "a", expected :num, got "#{String.duplicate("é", 49)})

    extra = String.duplicate("x", 600)

    assert {:error, ArgumentError, ~s(extra arguments for "t", extra: ) <> list} =
             ArgumentModel.convert(nil, nil, "t", %{extra => 1})

    assert list == ~s(["#{String.duplicate("x", 498)})
  end
end
