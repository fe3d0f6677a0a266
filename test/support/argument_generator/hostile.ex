defmodule PhoenixGenApi.ArgumentGenerator.Hostile do
  @moduledoc false
  # Terms that no client sends, or that lie on an edge. Each container has one
  # problem at most.

  import PhoenixGenApi.ArgumentGenerator.Chance

  @doc "A value of any kind; now and then a large one."
  def value, do: if(chance(60), do: large(), else: pick(small()))

  @doc "What a string or list inside another value may be too long for."
  def long,
    do:
      pick([String.duplicate("é", 3_000), String.duplicate("é", 3_001), List.duplicate(1, 1_001)])

  # Made once: pids and references must stay the same within one comparison.
  defp small do
    numbers() ++ texts() ++ terms() ++ containers()
  end

  defp numbers do
    [0, -1, 1.0, -0.0, 2.5, 5.0e-324, -5.0e-324, 1.7976931348623157e308, 9_007_199_254_740_993] ++
      [9_223_372_036_854_775_807, 9_223_372_036_854_775_808, -9_223_372_036_854_775_809] ++
      [
        18_446_744_073_709_551_615,
        18_446_744_073_709_551_616,
        Integer.pow(10, 308),
        Integer.pow(10, 400)
      ]
  end

  defp texts do
    [
      "",
      "\0",
      "a\0b",
      "true",
      "null",
      "1",
      "desc",
      "DESC",
      "é",
      "e\u0301",
      "👨‍👩‍👧",
      "\uFEFFx",
      "\uFFFF"
    ] ++
      [<<255>>, <<"abc", 0xC3>>, <<0xED, 0xA0, 0x80>>, <<0xF4, 0x90, 0x80, 0x80>>, <<0xC0, 0xAF>>] ++
      ["123e4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000"] ++
      ["{123e4567-e89b-12d3-a456-426614174000}", "2026-01-01T00:00:00Z", "2026-01-01"]
  end

  defp terms do
    [nil, true, false, :desc, :up, :asc, :undefined, :"Elixir.Nope", {}, {:ok, 1}, {1, 2, 3}] ++
      [self(), make_ref(), &String.valid?/1, <<1::1>>, <<"a", 1::3>>, ~D[2026-01-01], 1..2] ++
      [~U[2026-01-01 00:00:00Z], ~N[2026-01-01 00:00:00], ~T[10:00:00], MapSet.new([1])]
  end

  defp containers do
    [[], %{}, [nil], [[]], [%{}], [1 | 2], [[1 | 2]], [{1}], ["a", <<255>>], ~c"charlist"] ++
      [%{a: 1}, %{1 => 1}, %{nil => 1}, %{"a" => self()}, %{"a" => %{b: 1}}, %{<<255>> => 1}] ++
      [%{"" => 1}, %{"a" => nil}, %{"a" => [1 | 2]}, %{"a" => [[nil]]}, %{"\0" => 1}, %{{1} => 1}]
  end

  defp large do
    case int(1, 9) do
      9 -> List.duplicate(0, if(chance(20), do: pick([99_998, 99_999, 100_000]), else: 1_001))
      1 -> nested(pick([31, 32, 33, 40]), &[&1])
      2 -> nested(pick([31, 32, 33, 40]), &%{"k" => &1})
      3 -> Map.new(1..pick([33, 999, 1_000, 1_001]), &{"k#{&1}", &1})
      4 -> 1..40 |> Map.new(&{"k#{&1}", &1}) |> Map.put(:atom, 1)
      5 -> Enum.to_list(1..pick([999, 1_000, 1_001]))
      6 -> String.duplicate(pick(["a", "é", "🙂"]), pick([2_999, 3_000, 3_001, 12_001]))
      7 -> [String.duplicate("é", pick([3_000, 3_001]))]
      8 -> %{"k0" => pick([String.duplicate("é", 3_001), List.duplicate(1, 1_001)])}
    end
  end

  defp nested(levels, wrap), do: Enum.reduce(1..levels, 1, fn _, inner -> wrap.(inner) end)

  @doc "Names that nothing declares."
  def keys, do: ["t", "Age", "age ", "", :age, :name, 5, 1.5, nil, {1}, <<255>>, "é", "\0", "k9"]

  @doc "What `:datetime` accepts."
  def datetimes do
    (["2026-01-01T00:00:00Z", "2026-12-31 23:59:59.999999+14:00", "2024-02-29T12:00:00,5-00:30"] ++
       [
         "0000-01-01T00:00:00Z",
         "9999-12-31T23:59:59Z",
         "-0001-01-01T00:00:00Z",
         "2026-01-01t00:00:00Z"
       ] ++
       ["2026-01-01T00:00:00.1234567890Z", "2026-06-30T23:59:59+0530", "2026-01-01T00:00:00-08"] ++
       [
         "+2026-01-01T00:00:00Z",
         "2026-01-01T00:00:00.000Z",
         ~U[2026-01-01 00:00:00.12Z],
         other_zone()
       ])
    |> Enum.filter(&accepted?/1)
  end

  @doc "What `:naive_datetime` accepts."
  def naive_datetimes do
    [
      "2026-01-01T00:00:00",
      "2026-12-31 23:59:59.5",
      "2026-01-01T00:00:00Z",
      "2026-01-01T00:00:00+02:00"
    ] ++
      ["-0001-01-01T00:00:00", "2024-02-29T00:00:00,123", ~N[2026-01-01 00:00:00.000001]]
  end

  @doc "What `:date` accepts."
  def dates, do: ["2026-01-01", "2024-02-29", "+9999-12-31", "-0001-01-01", ~D[2026-01-31]]

  @doc "What `:time` accepts."
  def times,
    do: ["00:00:00", "T23:59:59", "12:00:00.1234567Z", "12:00:00,5+02:00", ~T[12:00:00.000001]]

  @doc "Texts near a date: wrong in a number, an offset or the form."
  def near_dates do
    for date <- [
          "2026-01-31",
          "2026-02-29",
          "2024-02-30",
          "2026-13-01",
          "2026-00-10",
          "02026-01-01",
          "2026-1-01"
        ],
        time <- [
          "00:00:00",
          "23:59:60",
          "24:00:00",
          "12:60:00",
          "12:00",
          "12:00:00.",
          "12:00:00.1234567",
          "1:00:00"
        ],
        offset <- [
          "",
          "Z",
          "z",
          "+00:00",
          "-00:00",
          "+24:00",
          "+23:59",
          "+14:60",
          "+1:00",
          "+0100",
          "+01",
          "ZZ",
          " Z"
        ] do
      date <> "T" <> time <> offset
    end
  end

  defp other_zone do
    %{~U[2026-03-01 10:00:00Z] | time_zone: "Europe/Paris", zone_abbr: "CET", utc_offset: 3_600}
  end

  # The edges of ISO 8601 on which the standard library decides.
  defp accepted?(%DateTime{}), do: true
  defp accepted?(text), do: match?({:ok, _, _}, DateTime.from_iso8601(text))

  @doc "Terms that are no type."
  def types do
    [
      :int,
      :String,
      nil,
      5,
      "string",
      {},
      {:string},
      {:string, -1},
      {:string, "5"},
      {:string, 1.5}
    ] ++
      [
        {:string, nil},
        {:string, 1, 2},
        {:string, 5, :x},
        {:string, min_length: -1},
        {:integer, 5}
      ] ++
      [{:integer, min: "1"}, {:boolean, 1}, :enum, {:enum, []}, {:enum, "a"}, {:enum, [nil]}] ++
      [{:enum, [%{}]}, [type: :enum], [type: :nope], [max_length: 5], [], [:string], %{}] ++
      [{:list, :nope}, {:list, :string, -1}, {:list, nil}, {:list, -1}, {:list, [type: :nope]}] ++
      [
        {:map, %{"f" => :nope}},
        {:map, "x"},
        {:map, %{a: :string}},
        {:map, [{"a", :num}, {"a", :num}]}
      ] ++
      [{:map, required: "k"}, {:map, required: [1]}, {:map, nested: 1}, {:string, allow_nil?: 1}] ++
      [{:list_string, 1, -1}, {:list_num, -1}, {:list, [type: :integer], :x}, {:uuid, 5}] ++
      [
        {:integer, default_value: "1"},
        {:enum, ["a"], default_value: "b"},
        {:datetime, default_value: "x"}
      ] ++
      [{:string, format: "(?=a)"}, {:string, format: "(a)\\1"}, {:string, format: ~r/(?<!a)b/}] ++
      [{:string, format: 5}, nested_type(34), nested_type(60)]
  end

  defp nested_type(levels), do: Enum.reduce(1..levels, :num, fn _, type -> {:list, type} end)
end
