defmodule PhoenixGenApi.ArgumentHandlerTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.ArgumentHandler
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @uuid "123e4567-E89b-12d3-a456-426614174000"

  defp config(arg_types, arg_orders \\ nil) do
    %FunConfig{
      service: "people",
      request_type: "save",
      nodes: :local,
      mfa: {Kernel, :self, []},
      arg_types: arg_types,
      arg_orders: arg_orders
    }
  end

  defp request(args),
    do: %Request{request_id: "1", request_type: "save", service: "people", args: args}

  defp convert(type, value),
    do: ArgumentHandler.convert_args(config(%{"a" => type}), request(%{"a" => value}))

  defp converted(type, value) do
    assert {:ok, [converted]} = convert(type, value)
    converted
  end

  defp message(type, value) do
    assert {:error, %ArgumentError{message: message}} = convert(type, value)
    message
  end

  defp refused(type) do
    assert {:error, [message]} = FunConfig.validate_with_details(config(%{"age" => type}))
    message
  end

  describe "the four functions" do
    test "convert_args answers with a list or an exception, and the bang raises it" do
      config = config(%{"a" => :integer})
      assert ArgumentHandler.convert_args(config, request(%{"a" => 1})) == {:ok, [1]}
      assert ArgumentHandler.convert_args!(config, request(%{"a" => 1})) == [1]

      text = ~s(invalid argument type for "a", expected :integer, got "1")

      assert {:error, %ArgumentError{message: ^text}} =
               ArgumentHandler.convert_args(config, request(%{"a" => "1"}))

      assert_raise ArgumentError, text, fn ->
        ArgumentHandler.convert_args!(config, request(%{"a" => "1"}))
      end
    end

    test "validate_args answers with :ok or an exception, and the bang raises it" do
      config = config(%{"a" => :any})
      assert ArgumentHandler.validate_args(config, request(%{"a" => 1})) == :ok
      assert ArgumentHandler.validate_args!(config, request(%{"a" => 1})) == :ok

      text = "Invalid type for argument '{1}'"

      assert {:error, %PhoenixGenApi.Errors.InvalidType{}} =
               ArgumentHandler.validate_args(config, request(%{"a" => {1}}))

      assert_raise PhoenixGenApi.Errors.InvalidType, text, fn ->
        ArgumentHandler.validate_args!(config, request(%{"a" => {1}}))
      end
    end

    test "the limits in force can be read" do
      assert ArgumentHandler.string_max_length() == 3_000
      assert ArgumentHandler.string_max_bytes() == 12_000
      assert ArgumentHandler.list_max_items() == 1_000
      assert ArgumentHandler.map_max_items() == 1_000
    end
  end

  describe "spellings" do
    test "a limit, options, both, and a keyword list are one type" do
      for type <- [
            {:string, 3},
            {:string, max_length: 3},
            {:string, 3, []},
            [type: :string, max_length: 3]
          ] do
        assert converted(type, "abc") == "abc"
        assert message(type, "abcd") == ~s(invalid argument size for "a", max 3 characters)
      end
    end

    test "an atom, an empty list of options and a keyword list are one type" do
      for type <- [:boolean, {:boolean, []}, [type: :boolean]],
          do: assert(converted(type, true) == true)
    end

    test "main parts of the keyword form are named values, items and fields" do
      assert converted([type: :enum, values: ["x"]], "x") == "x"
      assert converted([type: :list, items: :float], [1]) === [1.0]
      assert converted([type: :map, fields: %{"f" => :float}], %{"f" => 1}) === %{"f" => 1.0}
    end

    test "a keyword list in a list type is an item type when it has :type, else options" do
      assert message({:list, [type: :string, max_length: 1]}, ["xy"]) ==
               ~s(invalid argument size for "a[0]", max 1 characters)

      assert message({:list, [max_items: 1]}, [1, 2]) ==
               ~s(invalid argument size for "a" in "save", max 1 items)
    end

    test "options that are not known are ignored" do
      assert converted({:integer, colour: :red}, 1) == 1
    end
  end

  describe "strings" do
    test "pass unchanged up to 3000 code points, counted as code points" do
      assert converted(:string, "") == ""
      assert converted(:string, String.duplicate("🙂", 3_000)) == String.duplicate("🙂", 3_000)

      assert message(:string, String.duplicate("e\u0301", 1_501)) ==
               ~s(invalid argument size for "a", max 3000 characters)
    end

    test "are limited below and in bytes" do
      assert message({:string, min_length: 3}, "éé") ==
               ~s(invalid argument size for "a", min 3 characters)

      assert converted({:string, max_bytes: 5}, "éé") == "éé"

      assert message({:string, max_bytes: 5}, "ééé") ==
               ~s(invalid argument size for "a", max 5 bytes)
    end

    test "must be UTF-8" do
      for bytes <- [
            <<255>>,
            <<0xC0, 0x80>>,
            <<0xED, 0xA0, 0x80>>,
            <<"a", 0xE2, 0x82>>,
            <<0xF4, 0x90, 0x80, 0x80>>
          ] do
        assert message(:string, bytes) == ~s(invalid argument value for "a", invalid UTF-8)
      end
    end

    test "report bytes before UTF-8, UTF-8 before characters, and characters before the format" do
      assert message({:string, max_bytes: 1}, <<255, 255>>) =~ "max 1 bytes"
      assert message({:string, 1}, <<"abc", 255>>) =~ "invalid UTF-8"
      assert message({:string, 1, format: "^x$"}, "abc") =~ "max 1 characters"
      assert message({:string, 3, min_length: 2, format: "^x$"}, "a") =~ "min 2 characters"
    end

    test "may have to match a format, which anchors only where it says so" do
      no_match = ~s(invalid argument value for "a", does not match the required format)

      for format <- ["\\d{3}", ~r/\d{3}/] do
        assert converted({:string, format: format}, "ab123c") == "ab123c"
        assert message({:string, format: format}, "12") == no_match
      end

      assert message({:string, format: "^\\d{3}$"}, "1234") == no_match
    end

    test "match a format with the flags i, m, s, x and u" do
      assert converted({:string, format: ~r/^abc$/i}, "ABC") == "ABC"
      assert converted({:string, format: ~r/^b$/m}, "a\nb\nc") == "a\nb\nc"
      assert converted({:string, format: ~r/a.b/s}, "a\nb") == "a\nb"
      assert message({:string, format: ~r/a.b/}, "a\nb") =~ "required format"
      assert converted({:string, format: ~r/^a b$ # no blank/x}, "ab") == "ab"
      assert converted({:string, format: ~r/^.$/u}, "é") == "é"
      assert message({:string, format: ~r/^.$/}, "é") =~ "required format"
      assert converted({:string, format: "^.$"}, "é") == "é"
    end
  end

  describe "numbers and booleans" do
    test ":num keeps integers and floats" do
      assert converted(:num, 5) === 5
      assert converted(:num, 5.5) === 5.5
      assert message(:num, "5") == ~s(invalid argument type for "a", expected :num, got "5")
    end

    test ":integer does not take 5.0" do
      assert converted(:integer, -5) === -5

      assert message(:integer, 5.0) ==
               ~s(invalid argument type for "a", expected :integer, got 5.0)
    end

    test ":float makes integers floats" do
      assert converted(:float, 5) === 5.0
      assert converted(:float, 0.1) === 0.1
      assert message(:float, true) == ~s(invalid argument type for "a", expected :float, got true)
    end

    test "limits include their ends" do
      type = [type: :integer, min: 18, max: 99]
      assert converted(type, 18) == 18
      assert converted(type, 99) == 99
      assert message(type, 17) == ~s(invalid argument value for "a", must be at least 18)
      assert message(type, 100) == ~s(invalid argument value for "a", must be at most 99)

      assert message({:num, min: 0.5}, 0) ==
               ~s(invalid argument value for "a", must be at least 0.5)

      assert message({:float, max: 1}, 1.5) ==
               ~s(invalid argument value for "a", must be at most 1)
    end

    test ":boolean takes true and false only" do
      assert converted(:boolean, false) == false
      assert message(:boolean, 1) == ~s(invalid argument type for "a", expected :boolean, got 1)

      assert message(:boolean, "true") ==
               ~s(invalid argument type for "a", expected :boolean, got "true")
    end
  end

  describe "enums, UUIDs and dates" do
    test "an enum gives the listed value, an atom for its name" do
      type = {:enum, ["en", :asc, 1, 2.5, true]}

      assert Enum.map(["en", "asc", 1, 2.5, true], &converted(type, &1)) == [
               "en",
               :asc,
               1,
               2.5,
               true
             ]

      assert converted(type, :asc) == :asc

      assert message({:enum, ["a", "b"]}, "c") ==
               ~s(invalid argument value for "a", must be one of ["a", "b"])

      assert message({:enum, [:a]}, 5) == ~s(invalid argument value for "a", must be one of [:a])

      assert message({:enum, [true]}, "true") ==
               ~s(invalid argument value for "a", must be one of [true])
    end

    test "a UUID has 8-4-4-4-12 hex digits of any case" do
      assert converted(:uuid, @uuid) == @uuid

      for text <- [
            "",
            String.replace(@uuid, "-", ""),
            @uuid <> "0",
            "g" <> String.slice(@uuid, 1..-1//1),
            @uuid <> "\n"
          ] do
        assert message(:uuid, text) ==
                 ~s(invalid argument value for "a", require a UUID format string)
      end

      assert message(:uuid, 5) == ~s(invalid argument type for "a", expected :uuid, got 5)
    end

    test ":datetime gives a DateTime in UTC" do
      assert converted(:datetime, "2026-01-01T00:00:00Z") == ~U[2026-01-01 00:00:00Z]
      assert converted(:datetime, "2026-01-01T01:30:00.25+01:30") == ~U[2026-01-01 00:00:00.25Z]
      assert converted(:datetime, ~U[2026-01-01 00:00:00Z]) == ~U[2026-01-01 00:00:00Z]

      assert message(:datetime, "2026-01-01T00:00:00") ==
               ~s(invalid datetime format for "2026-01-01T00:00:00": missing_offset at "a")

      assert message(:datetime, "soon") ==
               ~s(invalid datetime format for "soon": invalid_format at "a")

      assert message(:datetime, "2026-02-29T00:00:00Z") ==
               ~s(invalid datetime format for "2026-02-29T00:00:00Z": invalid_date at "a")

      assert message(:datetime, "2026-01-01T24:00:00Z") ==
               ~s(invalid datetime format for "2026-01-01T24:00:00Z": invalid_time at "a")

      assert message(:datetime, 5) ==
               ~s|invalid argument type for "a", expected :datetime (ISO 8601 string), got 5|
    end

    test "a DateTime of another zone is moved to UTC" do
      paris = %{
        ~U[2026-03-01 10:00:00Z]
        | time_zone: "Europe/Paris",
          zone_abbr: "CET",
          utc_offset: 3_600
      }

      assert converted(:datetime, paris) == ~U[2026-03-01 09:00:00Z]
    end

    test ":naive_datetime gives a NaiveDateTime" do
      assert converted(:naive_datetime, "2026-01-01T00:00:00") == ~N[2026-01-01 00:00:00]
      assert converted(:naive_datetime, ~N[2026-01-01 00:00:00]) == ~N[2026-01-01 00:00:00]

      assert message(:naive_datetime, "x") ==
               ~s(invalid naive_datetime format for "x": invalid_format at "a")

      assert message(:naive_datetime, true) ==
               ~s|invalid argument type for "a", expected :naive_datetime (ISO 8601 string), got true|
    end

    test ":date gives a Date" do
      for text <- ["2026-02-28", "+2024-02-29", "-0001-12-31"] do
        assert converted(:date, text) == Date.from_iso8601!(text)
      end

      assert converted([type: :date], ~D[2026-01-01]) == ~D[2026-01-01]

      assert message(:date, "2026-02-29") ==
               ~s(invalid date format for "2026-02-29": invalid_date at "a")

      for text <- ["2026-1-01", "2026-01-01T00:00:00Z", "x", ""] do
        assert message(:date, text) ==
                 ~s(invalid date format for "#{text}": invalid_format at "a")
      end

      assert message(:date, 1) ==
               ~s|invalid argument type for "a", expected :date (ISO 8601 string), got 1|

      assert message(:date, ~N[2026-01-01 00:00:00]) =~ "expected :date (ISO 8601 string)"
      assert {:error, %PhoenixGenApi.Errors.InvalidType{}} = convert(:date, ~T[00:00:00])
    end

    test ":time gives a Time, without its offset" do
      for text <- ["23:59:59", "T00:00:00", "12:00:00.5Z", "12:00:00,1234567+02:00"] do
        assert converted(:time, text) == Time.from_iso8601!(text)
      end

      assert converted([type: :time], ~T[12:00:00.00]) == ~T[12:00:00.00]

      assert message(:time, "24:00:00") ==
               ~s(invalid time format for "24:00:00": invalid_time at "a")

      for text <- ["12:00", "12:00:00.", "2026-01-01T00:00:00", "x", ""] do
        assert message(:time, text) ==
                 ~s(invalid time format for "#{text}": invalid_format at "a")
      end

      assert {:error, %PhoenixGenApi.Errors.InvalidType{}} = convert(:time, ~D[2026-01-01])
    end

    test "dates and times are checked wherever a type may stand, and as defaults" do
      type = {:list, {:map, %{"on" => :date, "at" => [type: :time, default_value: "08:00:00"]}}}

      assert converted(type, [%{"on" => "2026-01-01"}]) ==
               [%{"on" => ~D[2026-01-01], "at" => ~T[08:00:00]}]

      assert message(type, [%{"on" => "2026-13-01"}]) =~ ~s(invalid_date at "a[0].on")
      assert refused(type: :date, default_value: "x") =~ "invalid default_value"
    end
  end

  test "bounds of integers are exact, whatever their size" do
    for far <- [2 ** 63, 2 ** 64, 10 ** 30, 10 ** 400, 7 ** 900],
        bound <- [far, -far],
        type <- [:integer, :num] do
      assert converted({type, min: bound}, bound) == bound
      assert converted({type, max: bound}, bound) == bound
      assert converted({type, min: bound - 1, max: bound + 1}, bound) == bound
      assert message({type, min: bound}, bound - 1) =~ "must be at least #{bound}"
      assert message({type, max: bound}, bound + 1) =~ "must be at most #{bound}"

      small = if bound > 0, do: {:min, "least"}, else: {:max, "most"}
      assert message({type, [{elem(small, 0), bound}]}, 0) =~ "must be at #{elem(small, 1)}"
    end

    assert message({:num, max: 2 ** 64}, 2.0 ** 65) =~ "must be at most #{2 ** 64}"
    assert converted({:num, max: 2 ** 64}, 2.0 ** 64) == 2.0 ** 64
    assert message({:num, max: 2.0 ** 64}, 2 ** 64 + 1) =~ "must be at most 1.8446744073709552e19"
    assert converted({:num, min: 2.0 ** 64}, 2 ** 64) == 2 ** 64
  end

  describe "a config that has only what arguments need" do
    test "will do, whatever else is missing or wrong in it" do
      config = %FunConfig{arg_types: [{"a", :integer}, {"b", :string}]}
      request = %Request{args: %{"a" => 1, "b" => "x"}}

      for config <- [config, %{config | timeout: 1, nodes: [], mfa: :none, service: nil}] do
        assert ArgumentHandler.convert_args(config, request) == {:ok, [1, "x"]}
        assert ArgumentHandler.convert_args!(config, request) == [1, "x"]
        assert ArgumentHandler.validate_args(config, request) == :ok
        assert FunConfig.convert_args!(config, request) == [1, "x"]
      end

      assert {:error, %ArgumentError{message: message}} =
               ArgumentHandler.convert_args(%FunConfig{arg_types: %{"a" => :nope}}, request)

      assert message =~ "arg_types has an invalid type"
    end

    test "gives messages the request type, if the request has none" do
      config = %FunConfig{request_type: "save", arg_types: %{"a" => :integer}}

      for {type, shown} <- [{nil, "save"}, {"other", "other"}] do
        assert {:error, %ArgumentError{message: message}} =
                 ArgumentHandler.convert_args(config, %Request{request_type: type})

        assert message == ~s(missing or nil argument "a" in "#{shown}")
      end
    end

    test "needs no order to be validated" do
      config = %FunConfig{arg_types: %{"a" => :integer, "b" => :string}}
      good = %Request{args: %{"a" => 1, "b" => "x"}}
      bad = %Request{args: %{"a" => "1", "b" => 2}}
      assert ArgumentHandler.validate_args(config, good) == :ok
      assert ArgumentHandler.validate_args!(config, good) == :ok
      text = ~s(invalid argument type for "a", expected :integer, got "1")

      assert {:error, %ArgumentError{message: ^text}} =
               ArgumentHandler.validate_args(config, bad)

      assert_raise ArgumentError, text, fn -> ArgumentHandler.validate_args!(config, bad) end
      assert {:error, %{message: message}} = ArgumentHandler.convert_args(config, good)
      assert message =~ "arg_orders is required"
    end
  end

  describe "atoms as names" do
    test "become strings, in types, orders and fields" do
      for {types, orders} <- [
            {[a: :integer, b: {:map, %{c: :date}}], nil},
            {%{a: :integer, b: [type: :map, fields: [c: :date]]}, [:a, :b]},
            {%{:a => :integer, "b" => {:map, %{c: :date}}}, ["a", :b]}
          ] do
        config = config(types, orders)
        request = request(%{"a" => 1, "b" => %{"c" => "2026-01-01"}})

        assert ArgumentHandler.convert_args(config, request) ==
                 {:ok, [1, %{"c" => ~D[2026-01-01]}]}

        assert {:ok, _plan, stored} = PhoenixGenApi.Plan.compile(config)
        assert %FunConfig{arg_orders: ["a", "b"], arg_types: %{"a" => _, "b" => _}} = stored
      end
    end

    test "are one name with their text, and nil and booleans are none" do
      for types <- [[{:a, :any}, {"a", :any}], %{:a => :any, "a" => :any}, %{nil: :any}] do
        assert {:error, [message]} = FunConfig.validate_with_details(config(types, :map))
        assert message == "arg_types names must be unique non-empty strings"
      end

      assert refused({:map, %{true => :any}}) =~ "invalid type for"
    end
  end

  describe "lists" do
    test ":list holds booleans, numbers and strings" do
      assert converted(:list, [true, 1, 1.5, "x"]) == [true, 1, 1.5, "x"]
      assert message(:list, "x") == ~s(invalid argument type for "a", expected :list, got "x")
      assert message(:list, [%{}]) == ~s(nested map is not supported yet at "a[0]")
      assert message(:list, [1, []]) == ~s(nested list is not supported yet at "a[1]")
      assert message(:list, [nil]) == ~s(unsupported type nil at "a[0]")

      assert message(:list, ["x", <<255>>]) ==
               ~s(invalid argument value for "a[1]", invalid UTF-8)

      assert converted(:list, [String.duplicate("é", 3_000)])

      assert message(:list, [String.duplicate("é", 3_001)]) ==
               ~s(string item in list exceeds max byte size at "a[0]")
    end

    test "lists have 0 to 1000 items unless told otherwise" do
      for type <- [:list, :list_num, {:list, :integer}] do
        assert length(converted(type, Enum.to_list(1..1_000))) == 1_000

        assert message(type, Enum.to_list(1..1_001)) ==
                 ~s(invalid argument size for "a" in "save", max 1000 items)
      end

      assert message({:list, :num, min_items: 1}, []) ==
               ~s(invalid argument size for "a" in "save", min 1 items)

      assert message({:list, :num, 1}, [1, 2]) ==
               ~s(invalid argument size for "a" in "save", max 1 items)
    end

    test "a typed list converts its items and names the one that is wrong" do
      assert converted({:list, {:enum, [:a, :b]}}, ["b", "a"]) == [:b, :a]
      assert converted({:list, {:list, :float, 2}}, [[1], []]) === [[1.0], []]

      assert message({:list, :integer}, [1, "x"]) ==
               ~s(invalid argument type for "a[1]", expected :integer, got "x")
    end

    test "an item may be nil only with allow_nil?" do
      assert converted({:list, {:integer, allow_nil?: true}}, [1, nil]) == [1, nil]
      assert message({:list, :integer}, [1, nil]) == ~s(missing or nil argument "a[1]" in "save")

      assert message({:list, {:integer, default_value: 1}}, [nil]) ==
               ~s(missing or nil argument "a[0]" in "save")
    end

    test "the lists of one kind say which item is of another" do
      assert converted(:list_string, ["x"]) == ["x"]
      assert converted(:list_num, [1, 2.5]) == [1, 2.5]
      assert converted(:list_uuid, [@uuid]) == [@uuid]
      assert converted(:list_map, [%{"x" => [nil, %{}]}]) == [%{"x" => [nil, %{}]}]

      for {type, good, bad, shown} <- [
            {:list_string, "x", 1, "1"},
            {:list_num, 1, "x", ~s("x")},
            {:list_uuid, @uuid, nil, "nil"},
            {:list_map, %{}, [], "[]"}
          ] do
        assert message(type, [good, bad]) == ~s(unsupported type of #{shown} in list at "a[1]")

        assert message(type, 5) ==
                 ~s(invalid argument type for "a", expected #{inspect(type)}, got 5)

        assert message({type, 1}, [good, good]) ==
                 ~s(invalid argument size for "a" in "save", max 1 items)
      end
    end

    test "the strings of :list_string are limited" do
      assert converted({:list_string, 2, 2}, ["éé"]) == ["éé"]

      assert message({:list_string, 2, 2}, ["abc"]) ==
               ~s(invalid argument size for "a[0]", max 2 characters)

      assert message({:list_string, max_item_bytes: 3}, ["éé"]) ==
               ~s(invalid argument size for "a[0]", max 3 bytes)
    end
  end

  describe "maps" do
    test ":map and :any take any JSON content" do
      json = %{"x" => [nil, true, 1.5, %{"y" => %{}}], "" => String.duplicate("x", 4_000)}
      assert converted(:map, json) == json
      for value <- [json, [json], "x", 1, false], do: assert(converted(:any, value) == value)
      assert message(:any, nil) == ~s(missing or nil argument "a" in "save")
      assert message(:map, []) == ~s(invalid argument type for "a", expected :map, got [])

      assert message(:map, Map.new(1..1_001, &{"k#{&1}", &1})) ==
               ~s(invalid argument size for "a" in "save", max 1000 items)
    end

    test "a flat map takes booleans, numbers, strings and flat lists" do
      flat = %{"b" => true, "n" => 1.5, "s" => "x", "l" => [1, "x", false]}
      assert converted({:map, 4}, flat) == flat
      assert message({:map, 3}, flat) == ~s(invalid argument size for "a" in "save", max 3 items)
      assert message({:map, 3}, %{"m" => %{}}) == ~s(nested map is not supported yet at "a.m")

      assert message({:map, 3}, %{"z" => nil}) ==
               ~s(unsupported type nil in map for key "z" at "a")

      assert message({:map, 3}, %{"s" => String.duplicate("é", 3_001)}) ==
               ~s(nested map string value exceeds max byte size for key "s" at "a")

      assert message({:map, 3}, %{"l" => List.duplicate(1, 1_001)}) ==
               ~s(nested map list value exceeds max items for key "l" at "a")

      assert message({:map, 3}, %{"l" => [1, [2]]}) ==
               ~s(nested list is not supported yet at "a.l[1]")
    end

    test "a flat map may hold maps with nested: true" do
      assert converted({:map, 3, nested: true}, %{"m" => %{"x" => 1}}) == %{"m" => %{"x" => 1}}
    end

    test "a flat map may require keys and accept only some" do
      type = [type: :map, required: ["b", "a"], accept: ["a", "b", "c"]]
      assert converted(type, %{"a" => 1, "b" => 2}) == %{"a" => 1, "b" => 2}

      assert message(type, %{}) ==
               ~s(map argument "a" missing required keys: ["a", "b"] in "save")

      assert message(type, %{"a" => 1, "b" => 2, "y" => 3, "x" => 4}) ==
               ~s(map argument "a" contains rejected keys: ["x", "y"] in "save")
    end

    test "a map with a schema has exactly the declared fields" do
      line = %{"isbn" => :string, "qty" => [type: :integer, max: 9]}

      type =
        {:map,
         %{
           "at" => :datetime,
           "lines" => {:list, {:map, line}},
           "note" => {:string, allow_nil?: true}
         }}

      order = %{"at" => "2026-01-01T00:00:00Z", "lines" => [%{"isbn" => "1", "qty" => 2}]}

      assert converted(type, order) ==
               %{order | "at" => ~U[2026-01-01 00:00:00Z]} |> Map.put("note", nil)

      assert message(type, put_in(order["lines"], [%{"isbn" => "1", "qty" => 12}])) ==
               ~s(invalid argument value for "a.lines[0].qty", must be at most 9)

      assert message(type, put_in(order["t"], 1)) == ~s(extra fields in "a", extra: ["t"])

      assert message(type, Map.delete(order, "at")) ==
               ~s(missing or nil argument "a.at" in "save")

      assert message(type, 5) == ~s(invalid argument type for "a", expected :map, got 5)
    end

    test "a schema may be a list of pairs, and fields may have defaults" do
      type = {:map, [{"x", {:enum, [:asc], default_value: "asc"}}, {"y", :float}]}
      assert converted(type, %{"y" => 1}) === %{"x" => :asc, "y" => 1.0}
    end
  end

  describe "nil and default" do
    test "a missing or nil argument follows the table" do
      missing = ~s(missing or nil argument "a" in "save")

      for {type, absent, explicit} <- [
            {:integer, missing, missing},
            {{:integer, allow_nil?: true}, [nil], [nil]},
            {{:integer, default_value: 7}, [7], missing},
            {{:integer, allow_nil?: true, default_value: 7}, [7], [nil]},
            {{:integer, default_value: nil}, missing, missing},
            {{:boolean, default_value: false}, [false], missing}
          ],
          {args, expected} <- [{%{}, absent}, {%{"a" => nil}, explicit}] do
        case ArgumentHandler.convert_args(config(%{"a" => type}), request(args)) do
          {:ok, converted} -> assert converted == expected
          {:error, exception} -> assert exception.message == expected
        end
      end
    end

    test "a default is converted like a value" do
      types = [
        {"at", {:datetime, default_value: "2026-01-01T00:00:00Z"}},
        {"dir", {:enum, [:asc], default_value: "asc"}},
        {"rate", {:float, default_value: 1}}
      ]

      assert {:ok, [~U[2026-01-01 00:00:00Z], :asc, rate]} =
               ArgumentHandler.convert_args(config(types), request(%{}))

      assert rate === 1.0
    end
  end

  describe "result shape" do
    test "no arg_types give no arguments" do
      for types <- [nil, %{}, []] do
        assert ArgumentHandler.convert_args(config(types), request(%{})) == {:ok, []}
      end
    end

    test "arguments come in the order of arg_orders, else of the pairs" do
      args = request(%{"a" => 1, "b" => 2})
      pairs = [{"b", :integer}, {"a", :integer}]
      assert ArgumentHandler.convert_args(config(pairs), args) == {:ok, [2, 1]}
      assert ArgumentHandler.convert_args(config(pairs, []), args) == {:ok, [2, 1]}

      assert ArgumentHandler.convert_args(config(Map.new(pairs), ["a", "b"]), args) ==
               {:ok, [1, 2]}
    end

    test ":map gives one map with every declared name" do
      types = %{"a" => :float, "b" => {:string, allow_nil?: true}}

      assert ArgumentHandler.convert_args(config(types, :map), request(%{"a" => 1})) ===
               {:ok, [%{"a" => 1.0, "b" => nil}]}
    end

    test "undeclared arguments are the first error, then the arguments in order" do
      types = [{"z", :integer}, {"b", :integer}]
      wrong = %{"z" => "z", "b" => "b"}

      text = fn types, orders, args ->
        {:error, exception} = ArgumentHandler.convert_args(config(types, orders), request(args))
        exception.message
      end

      assert text.(types, nil, Map.merge(wrong, %{"t" => 1, "s" => 1})) ==
               ~s(extra arguments for "save", extra: ["s", "t"])

      assert text.(nil, nil, %{"t" => 1}) == ~s(extra arguments for "save", extra: ["t"])

      assert text.(types, nil, wrong) ==
               ~s(invalid argument type for "z", expected :integer, got "z")

      assert text.(types, :map, wrong) ==
               ~s(invalid argument type for "b", expected :integer, got "b")
    end
  end

  describe "values in messages" do
    test "are cut at 100 bytes between two characters" do
      assert message(:integer, String.duplicate("é", 500)) ==
               ~s(invalid argument type for "a", expected :integer, got ") <>
                 String.duplicate("é", 49)
    end
  end

  describe "declarations" do
    test "must be nil, a map or a list of pairs with unique names" do
      for {types, expected} <- [
            {5, "arg_types must be nil, a map, or a list of {name, type} pairs"},
            {[:a], "arg_types must be nil, a map, or a list of {name, type} pairs"},
            {%{"" => :num}, "arg_types names must be unique non-empty strings"},
            {%{nil: :num}, "arg_types names must be unique non-empty strings"},
            {[{"a", :num}, {"a", :num}], "arg_types names must be unique non-empty strings"}
          ] do
        assert FunConfig.validate_with_details(config(types)) == {:error, [expected]}
      end
    end

    test "with an unknown or malformed type name its path" do
      assert refused(:int) == ~s(arg_types has an invalid type for "age": :int)

      assert refused({:map, %{"f" => :int}}) ==
               ~s(arg_types has an invalid type for "age.f": :int)

      for type <- [
            :enum,
            {:enum, []},
            {:string, -1},
            {:integer, 5},
            {:string, min_length: "1"},
            %{},
            []
          ] do
        assert refused(type) =~ ~s(arg_types has an invalid type for "age": )
      end
    end

    test "refuse a default that the type rejects" do
      for type <- [
            {:integer, default_value: "1"},
            {:enum, ["a"], default_value: "b"},
            {:list, :num, default_value: [nil]}
          ] do
        assert refused(type) == ~s(arg_types has an invalid default_value for "age")
      end
    end

    test "refuse formats that need backtracking" do
      for format <- ["(?=a)", "(?!a)", "(?<=a)b", ~r/(?<!a)b/, "(a)\\1"] do
        assert refused({:string, format: format}) =~
                 ~s(arg_types has an unsupported format for "age": )
      end
    end

    test "are limited to 32 levels and 10000 types" do
      deep = Enum.reduce(1..40, :num, fn _, type -> {:list, type} end)
      assert refused(deep) == "arg_types nesting exceeds 32 levels"
      wide = {:map, Map.new(1..10_001, &{"f#{&1}", :num})}
      assert refused(wide) == "arg_types exceeds 10000 types"
    end

    test "need an order that names every argument once" do
      two = %{"a" => :num, "b" => :num}

      for orders <- [["a"], ["a", "a"], ["a", "c"], ["a", "b", "c"], :list, ["a" | "b"]] do
        assert FunConfig.validate_with_details(config(two, orders)) ==
                 {:error,
                  [
                    "arg_orders must be nil, :map, or a list with every arg_types name exactly once"
                  ]}
      end

      for orders <- [nil, []] do
        assert FunConfig.validate_with_details(config(two, orders)) ==
                 {:error,
                  [
                    "arg_orders is required: arg_types is a map with 2 or more entries and a map has no order; " <>
                      "list the names in arg_orders, set arg_orders to :map, or write arg_types as a list of {name, type} pairs"
                  ]}
      end
    end
  end
end
