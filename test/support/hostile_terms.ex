defmodule PhoenixGenApi.Test.HostileTerms do
  @moduledoc false
  # Terms that no field of a config is meant for, or that look like one that is.

  @doc "All of them, each with a name."
  @spec all() :: [{String.t(), term()}]
  def all, do: structs() ++ numbers() ++ lists() ++ tuples() ++ others()

  @doc "The same in the places that the spelling of an argument type has."
  @spec arg_types() :: [{String.t(), term()}]
  def arg_types do
    for {name, term} <- all(), {place, types} <- places(term), do: {"#{name} as #{place}", types}
  end

  defp places(term) do
    [
      type: %{"a" => term},
      type_in_pairs: [{"a", term}],
      name: [{term, :string}],
      key: %{term => :string},
      format: %{"a" => {:string, format: term}},
      max_length: %{"a" => {:string, term}},
      max_bytes: %{"a" => [type: :string, max_bytes: term]},
      min: %{"a" => {:integer, min: term}},
      max: %{"a" => {:num, max: term}},
      values: %{"a" => {:enum, term}},
      value: %{"a" => {:enum, [term]}},
      item: %{"a" => {:list, term}},
      list_size: %{"a" => {:list, :string, term}},
      list_options: %{"a" => {:list, :string, [max_items: term]}},
      fields: %{"a" => {:map, term}},
      field: %{"a" => {:map, %{"b" => term}}},
      required: %{"a" => {:map, required: term}},
      accept: %{"a" => {:map, accept: [term]}},
      nested: %{"a" => {:map, nested: term}},
      default_of_string: %{"a" => [type: :string, default_value: term]},
      default_of_any: %{"a" => [type: :any, default_value: term]},
      default_of_list: %{"a" => [type: :list, default_value: [term]]},
      default_of_map: %{"a" => [type: :map, default_value: %{"b" => term}]},
      allow_nil: %{"a" => [type: :string, allow_nil?: term]},
      named_type: %{"a" => [type: term]},
      unknown_option: %{"a" => [type: :string, unknown: term]}
    ]
  end

  defp structs do
    regex = ~r/a/

    [
      {"a regex without fields", %{__struct__: Regex}},
      {"a regex with options as text", %{regex | opts: "u"}},
      {"a regex with options nil", %{regex | opts: nil}},
      {"a regex with improper options", %{regex | opts: [:caseless | :unicode]}},
      {"a regex with a huge option", %{regex | opts: [List.duplicate(:x, 10_000)]}},
      {"a regex with a number as source", %{regex | source: 1}},
      {"a regex with a source that is no text", %{regex | source: <<255>>}},
      {"a regex with a bitstring as source", %{regex | source: <<1::3>>}},
      {"a regex without a source", Map.delete(regex, :source)},
      {"a set without fields", %{__struct__: MapSet}},
      {"a range without fields", %{__struct__: Range}},
      {"a date with text in it", %{__struct__: Date, year: "x", month: nil, day: %{}}},
      {"a decimal", %{__struct__: Decimal, coef: 1, exp: 1_000_000, sign: 1}},
      {"a struct of no module", %{__struct__: NoSuchModule}},
      {"a struct of text", %{__struct__: "Regex"}},
      {"a function config without fields", %{__struct__: PhoenixGenApi.Structs.FunConfig}}
    ]
  end

  defp numbers do
    [
      {"a huge float", 1.0e300},
      {"a huge negative float", -1.0e300},
      {"a huge integer", Integer.pow(10, 400)},
      {"a huge negative integer", -Integer.pow(10, 400)},
      {"2^64", Integer.pow(2, 64)},
      {"minus zero", -0.0},
      {"a negative number", -1}
    ]
  end

  defp lists do
    [
      {"an improper list", [1 | 2]},
      {"an improper list of atoms", [:a@h | :b@h]},
      {"an improper keyword list", [{:type, :string} | :b]},
      {"an improper list of pairs", [{"a", :string} | :b]},
      {"a list of nil", [nil]},
      {"a list of lists", [[[]]]},
      {"a deep list", Enum.reduce(1..5_000, [], fn _, list -> [list] end)},
      {"a charlist", ~c"text"},
      {"a keyword list with a repeated key", [type: :string, type: :integer]}
    ]
  end

  defp tuples do
    regex = %{__struct__: Regex}

    [
      {"an empty tuple", {}},
      {"a function with improper arguments", {String, :upcase, [1 | 2]}},
      {"a function with text for a module", {"String", :upcase, []}},
      {"a function of nil", {nil, nil, nil}},
      {"a hook of numbers", {1, 2}},
      {"a hash of a struct", {:hash, regex}},
      {"a sticky improper list", {:sticky, [1 | 2]}},
      {"weights that are a struct", {:weighted, %{__struct__: MapSet}}},
      {"improper weights", {:weighted, [{:a@h, 1} | :b]}},
      {"huge weights", {:weighted, [{:a@h, 1.0e300}, {"b", Integer.pow(10, 400)}]}},
      {"improper roles", {:role, ["a" | "b"]}},
      {"roles that are a struct", {:role, regex}},
      {"an argument that is a struct", {:arg, regex}},
      {"a huge number of retries", {:all_nodes, 1.0e300}},
      {"a string type with a struct", {:string, regex}},
      {"a deep tuple", Enum.reduce(1..5_000, {}, fn _, tuple -> {tuple} end)},
      {"a pair with a struct", {regex, regex}}
    ]
  end

  defp others do
    [
      {"bytes that are no text", <<255, 0, 254>>},
      {"a bitstring", <<1::3>>},
      {"text with a line break", "a\n12:00:00 [error] forged\e[31m"},
      {"a long text", String.duplicate("a", 100_000)},
      {"an empty text", ""},
      {"an empty atom", :""},
      {"a pid", self()},
      {"a reference", make_ref()},
      {"a port", Port.list() |> hd()},
      {"a function", &String.upcase/1},
      {"an empty map", %{}},
      {"a map with mixed keys", %{1 => 2, nil => %{}, "a" => [1 | 2], {} => self()}},
      {"nil", nil},
      {"true", true}
    ]
  end
end
