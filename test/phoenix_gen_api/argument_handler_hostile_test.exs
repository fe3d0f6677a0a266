defmodule PhoenixGenApi.ArgumentHandlerHostileTest do
  # What no honest client sends: every answer is still a value or an exception
  # struct with a short text.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.ArgumentHandler
  alias PhoenixGenApi.Errors.InvalidType
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @types %{
    "string" => :string,
    "format" => {:string, format: "^(a+)+$"},
    "num" => :num,
    "integer" => {:integer, min: 0, max: 10},
    "float" => :float,
    "boolean" => :boolean,
    "enum" => {:enum, ["a", :b, 1, true]},
    "uuid" => :uuid,
    "datetime" => :datetime,
    "naive_datetime" => :naive_datetime,
    "list" => :list,
    "typed_list" => {:list, {:list, :integer}},
    "list_string" => :list_string,
    "list_num" => :list_num,
    "list_uuid" => :list_uuid,
    "list_map" => :list_map,
    "map" => :map,
    "flat_map" => {:map, 5, required: ["k"], accept: ["k"]},
    "nested_map" => {:map, nested: true},
    "schema" => {:map, %{"k" => :any}},
    "any" => :any
  }

  defp convert(type, value), do: convert_args(%{"a" => type}, %{"a" => value})

  defp convert_args(types, args) do
    config = %FunConfig{
      service: "people",
      request_type: "save",
      nodes: :local,
      mfa: {Kernel, :self, []},
      arg_types: types
    }

    request = %Request{request_id: "1", request_type: "save", service: "people", args: args}
    ArgumentHandler.convert_args(config, request)
  end

  defp text(type, value) do
    assert {:error, %ArgumentError{message: message}} = convert(type, value)
    message
  end

  defp terms do
    [nil, true, :other, 0, -1, Integer.pow(10, 400), 0.0, -0.0, 1.7976931348623157e308, 5.0e-324] ++
      ["", "a", "\0", <<255>>, <<1::3>>, {}, {1, {2}}, self(), make_ref(), hd(Port.list())] ++
      [
        fn -> :ok end,
        &String.valid?/1,
        ~D[2026-01-01],
        ~U[2026-01-01 00:00:00Z],
        MapSet.new([1]),
        1..3
      ] ++
      [
        %{__struct__: Nowhere},
        %{~U[2026-01-01 00:00:00Z] | hour: "x"},
        [],
        [1 | 2],
        [[[]]],
        ~c"abc"
      ] ++
      [%{}, %{a: 1}, %{1 => 1}, %{nil => nil}, %{"k" => {}}, %{<<255>> => 1}, %{"k" => [1 | 2]}]
  end

  test "a term of any kind in any position gets a value or an exception struct" do
    for {_name, type} <- @types,
        term <- terms(),
        value <- [term, [term], %{"k" => term}, [%{"k" => [term]}]] do
      case convert(type, value) do
        {:ok, [_converted]} ->
          :ok

        {:error, %module{} = exception} ->
          assert module in [ArgumentError, InvalidType]
          assert byte_size(Exception.message(exception)) < 1_200
      end
    end
  end

  test "a term that no JSON type covers is named as such, whatever was expected" do
    for type <- Map.values(@types),
        term <- [{1}, self(), make_ref(), &String.valid?/1, <<1::3>>, :other, ~D[2026-01-01]] do
      message = "Invalid type for argument '#{inspect(term)}'"
      assert {:error, %InvalidType{} = exception} = convert(type, term)
      assert Exception.message(exception) == message
      assert to_string(exception) == message
    end
  end

  test "a term that no JSON type covers is shown with 500 bytes at most" do
    assert {:error, %InvalidType{} = exception} = convert(:any, {String.duplicate("x", 2000)})

    assert Exception.message(exception) ==
             ~s(Invalid type for argument '{") <> String.duplicate("x", 498) <> "'"
  end

  test "an improper list is never taken for a list" do
    for type <- [:list, {:list, :integer}] do
      assert text(type, [1 | 2]) == ~s(invalid argument type for "a", expected :list, got [1 | 2])
    end

    for type <- [:list_string, :list_num, :list_uuid, :list_map] do
      assert text(type, [1 | 2]) ==
               ~s(invalid argument type for "a", expected #{inspect(type)}, got [1 | 2])
    end

    assert {:error, %InvalidType{} = exception} = convert(:any, %{"k" => [1 | 2]})
    assert Exception.message(exception) == "Invalid type for argument '[1 | 2]'"
  end

  test "a map with 100,000 keys is refused by the tree limit, with fewer by its own" do
    entries = fn count -> Map.new(1..count, &{"key#{&1}", &1}) end
    large = entries.(100_000)

    for type <- [:map, :any, {:map, 5}, {:map, %{}}, :string] do
      assert text(type, large) == ~s(arguments of "save" exceed max nodes 100000)
    end

    assert text(:map, entries.(99_000)) ==
             ~s(invalid argument size for "a" in "save", max 1000 items)

    assert {:error, %ArgumentError{message: message}} =
             convert_args(%{"a" => :any}, entries.(50_000))

    assert String.starts_with?(message, ~s(extra arguments for "save", extra: ["key1", "key10", ))
    assert byte_size(message) < 600
  end

  test "values are counted over all arguments and all levels" do
    half = List.duplicate([0], 30_000)
    types = [{"a", :any}, {"b", :any}]
    assert {:ok, [^half, [0]]} = convert_args(types, %{"a" => half, "b" => [0]})

    assert {:error, %ArgumentError{message: ~s(arguments of "save" exceed max nodes 100000)}} =
             convert_args(types, %{"a" => half, "b" => half})
  end

  test "a string of 1 MB is refused by its length, or passes where there is none" do
    large = String.duplicate("x", 1_000_000)
    assert text(:string, large) == ~s(invalid argument size for "a", max 3000 characters)
    assert text(:uuid, large) == ~s(invalid argument value for "a", require a UUID format string)
    assert text(:list, [large]) == ~s(string item in list exceeds max byte size at "a[0]")
    assert convert(:any, large) == {:ok, [large]}
    assert byte_size(text(:integer, large)) < 200
  end

  test "a format that makes backtracking engines explode answers at once" do
    almost = String.duplicate("a", 2_999) <> "!"

    assert text({:string, format: "^(a+)+$"}, almost) ==
             ~s(invalid argument value for "a", does not match the required format)
  end

  test "text that is not UTF-8 is refused at any depth" do
    assert text(:any, %{"k" => ["x", <<0xC3>>]}) ==
             ~s(invalid argument value for "a.k[1]", invalid UTF-8)

    assert text(:list_map, [%{"k" => <<255>>}]) ==
             ~s(invalid argument value for "a[0].k", invalid UTF-8)

    assert text({:map, 1}, %{"k" => <<255>>}) ==
             ~s(invalid argument value for "a.k", invalid UTF-8)
  end

  test "32 levels pass, 33 and 10,000 are refused before anything else is looked at" do
    lists = fn levels -> Enum.reduce(1..levels, 1, fn _, inner -> [inner] end) end
    maps = fn levels -> Enum.reduce(1..levels, 1, fn _, inner -> %{"k" => inner} end) end

    for nested <- [lists, maps] do
      assert {:ok, [_value]} = convert(:any, nested.(32))

      for levels <- [33, 10_000], type <- [:any, :string, :list, :map] do
        assert text(type, nested.(levels)) == ~s(arguments of "save" exceed max depth 32)
      end
    end

    assert {:error, %ArgumentError{message: ~s(arguments of "save" exceed max depth 32)}} =
             convert_args(nil, %{"undeclared" => lists.(10_000)})
  end

  test "an integer of 10,000 digits stays an integer and is no float" do
    huge = Integer.pow(10, 9_999)
    for type <- [:num, :integer, :any], do: assert(convert(type, huge) == {:ok, [huge]})

    assert text(:float, huge) ==
             ~s(invalid argument type for "a", expected :float, got #Integer<4159 bytes>)

    assert text({:integer, max: 5}, huge) == ~s(invalid argument value for "a", must be at most 5)
    assert text({:num, max: 5.5}, huge) == ~s(invalid argument value for "a", must be at most 5.5)

    assert text({:num, min: 0.5}, -huge) ==
             ~s(invalid argument value for "a", must be at least 0.5)

    assert text({:enum, [1]}, huge) == ~s(invalid argument value for "a", must be one of [1])
  end

  test "integers and floats are compared exactly beyond 2^53" do
    assert text({:integer, max: 9_007_199_254_740_992.0}, 9_007_199_254_740_993) =~
             "must be at most 9.007199254740992e15"

    assert convert({:integer, max: 18_446_744_073_709_551_616}, 18_446_744_073_709_551_616) ==
             {:ok, [18_446_744_073_709_551_616]}

    assert text({:integer, max: 18_446_744_073_709_551_616}, 18_446_744_073_709_551_617) =~
             "must be at most"
  end

  test "floats at the edges pass unchanged" do
    for float <- [
          1.7976931348623157e308,
          -1.7976931348623157e308,
          5.0e-324,
          2.2250738585072014e-308,
          0.0,
          -0.0
        ] do
      assert {:ok, [converted]} = convert(:float, float)
      assert converted === float
    end
  end

  test "keys that are no strings are undeclared, or no JSON" do
    assert {:error, %ArgumentError{message: ~s(extra arguments for "save", extra: [1, :a])}} =
             convert_args(%{"a" => {:any, allow_nil?: true}}, %{:a => 1, 1 => 1})

    assert text({:map, %{"k" => :any}}, %{:k => 1, "k" => 1}) ==
             ~s(extra fields in "a", extra: [:k])

    for type <- [:any, :map, {:map, 5}],
        {key, shown} <- [{:k, ":k"}, {1, "1"}, {nil, "nil"}, {{}, "{}"}] do
      assert {:error, %InvalidType{} = exception} = convert(type, %{key => 1})
      assert Exception.message(exception) == "Invalid type for argument '#{shown}'"
    end
  end

  test "NUL bytes are ordinary characters" do
    assert convert({:string, 3}, "a\0b") == {:ok, ["a\0b"]}
    assert convert(:any, %{"\0" => "\0"}) == {:ok, [%{"\0" => "\0"}]}
    assert text({:enum, ["a"]}, "a\0") == ~s(invalid argument value for "a", must be one of ["a"])
    assert text(:uuid, "123e4567-e89b-12d3-a456-42661417400\0") =~ "require a UUID format string"
  end

  test "no text of a request becomes an atom" do
    for {type, build} <- [
          {:string, & &1},
          {:any, &%{&1 => [&1]}},
          {{:map, 5}, &%{&1 => &1}},
          {{:map, %{}}, &%{&1 => 1}},
          {{:enum, [:asc]}, & &1},
          {:datetime, & &1},
          {:integer, & &1}
        ] do
      name = "never_an_atom_#{System.unique_integer([:positive])}_#{:rand.uniform(1_000_000_000)}"
      convert(type, build.(name))
      convert_args(%{"a" => type}, %{name => 1})
      assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    end
  end
end
