defmodule PhoenixGenApi.JsonEncodingTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.JsonEncoding
  alias PhoenixGenApi.JsonEncoding.Reply
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Test.{Derived, Faulty, Opaque}

  @libraries if Code.ensure_loaded?(Jason.Encoder), do: [JSON, Jason], else: [JSON]

  defmodule Delegating do
    # A `:json_library` of the application's own.
    def encode_to_iodata!(term), do: JSON.encode_to_iodata!(term)
  end

  defp check(result) do
    [answer] =
      Enum.uniq(
        for library <- @libraries ++ [Delegating],
            do: JsonEncoding.check(Response.sync_response("r1", result), library)
      )

    answer
  end

  test "everything that a response may hold passes" do
    for result <- [
          nil,
          :atom,
          1,
          1.5,
          "é",
          [],
          %{},
          [%{"a" => [1, %{3 => 4.5, b: 2}]}],
          ~U[2026-01-01 00:00:00.123Z],
          ~N[2026-01-01 00:00:00],
          ~D[2026-01-01],
          ~D[-0001-01-01],
          ~T[00:00:00],
          Duration.new!(day: 1),
          URI.parse("a:b"),
          Version.parse!("1.0.0"),
          %Decimal{coef: 1},
          MapSet.new(["a", MapSet.new()]),
          %Derived{shown: [1]},
          Response.async_response("x"),
          %{__struct__: 5}
        ] do
      assert check(result) == :ok
      assert check([%{"x" => result}]) == :ok
    end
  end

  test "a map with two keys of one text does not" do
    for twice <- [
          %{"a" => 1, a: 2},
          %{:"1" => 1, 1 => 2},
          %{"1.5" => 1, 1.5 => 2},
          %{nil => 1, "nil" => 2, "" => 3} |> Map.put("a", 1) |> Map.put(:a, 2),
          Map.new(1..40, &{"k#{&1}", &1}) |> Map.put(:k7, 1)
        ] do
      assert check(twice) == {:error, "result"}
      assert check([%{"x" => twice}]) == {:error, "result[0].x"}

      assert_raise Protocol.UndefinedError, fn ->
        JSON.encode!(Response.sync_response("r1", %{"x" => twice}))
      end

      if Jason in @libraries do
        assert_raise Protocol.UndefinedError, fn ->
          apply(Jason, :encode!, [Response.sync_response("r1", %{"x" => twice})])
        end
      end
    end

    many = Map.new(1..40, &{"k#{&1}", &1}) |> Map.merge(Map.new(1..40, &{:"l#{&1}", &1}))

    for once <- [%{"a" => 1, b: 2, c: 3}, %{1 => 1, "2" => 2, three: 3}, many],
        do: assert(check(once) == :ok)
  end

  describe "measure" do
    test "gives the bytes that JSON writes" do
      for result <- values(), result = Response.sync_response("r1", result) do
        written = JSON.encode!(result, JsonEncoding.encoder())
        assert JsonEncoding.measure(result, JSON, :infinity) == {:ok, byte_size(written)}
      end
    end

    test "is off by less than a quarter for numbers of any length" do
      for number <- [2 ** 60, -(2 ** 64), 10 ** 40, 10 ** 1_000 + 7] do
        {:ok, bytes} = JsonEncoding.measure([number], JSON, :infinity)
        assert_in_delta bytes, byte_size(JSON.encode!([number])), 0.25 * bytes
      end
    end

    test "stops where the term is too large" do
      endless = List.duplicate(String.duplicate("x", 1_000), 1_000)
      assert JsonEncoding.measure(endless, JSON, 10_000) == {:error, :too_large}
      assert JsonEncoding.measure(%{a: endless}, JSON, 10_000) == {:error, :too_large}
      assert JsonEncoding.measure(String.duplicate("x", 101), JSON, 102) == {:error, :too_large}
      assert JsonEncoding.measure(String.duplicate("x", 100), JSON, 102) == {:ok, 102}
    end

    test "puts an error in the place of a result that is too large" do
      response = Response.sync_response("r1", String.duplicate("x", 1_000))
      assert {^response, _bytes, nil} = Reply.measured(response, JSON, 2_000)
      assert {refused, bytes, failure} = Reply.measured(response, JSON, 500)
      assert failure == {:not_encodable, "result too large", nil}
      assert %Response{request_id: "r1", success: false, result: nil} = refused
      assert refused.error == "Internal Server Error"
      assert bytes < 500
    end

    defp values do
      texts = [
        "",
        "plain",
        ~s("quoted" \\ \n\t),
        <<0, 1, 31, 127>>,
        "日本語 é",
        String.duplicate("é", 100)
      ]

      large = [String.duplicate("x", 300_000), String.duplicate("\"", 300_000)]
      integers = for e <- 0..17, n <- [10 ** e - 1, 10 ** e, -(10 ** e)], do: n
      floats = [0.0, -1.5, 1.0e300, 1.0e-300, 3.141592653589793]

      dates = [
        ~D[2026-01-01],
        ~D[-0001-01-01],
        ~N[2026-01-01 10:00:00],
        ~N[2026-01-01 10:00:00.123],
        ~U[2026-01-01 00:00:00.123456Z],
        ~T[10:00:00]
      ]

      plain = texts ++ large ++ integers ++ floats ++ dates ++ [nil, true, false, :atom, [], %{}]

      plain ++
        [
          plain,
          [[plain]],
          Map.new(Enum.with_index(texts)),
          %{1 => 1, 2.5 => [], a: %{b: %{}}, nil: nil},
          MapSet.new([1, 2]),
          %Derived{shown: [1, "x"]},
          URI.parse("http://a/b"),
          Version.parse!("1.2.3")
        ]
    end
  end

  test "the path of the first offending value is named" do
    assert check(%{items: [1, 2, 3, %{owner: self()}]}) == {:error, "result.items[3].owner"}
    assert check({:a}) == {:error, "result"}
    assert check([[], [1, fn -> 1 end]]) == {:error, "result[1][1]"}
    assert check(%{"a b" => %{1 => make_ref()}}) == {:error, ~s(result["a b"][1])}
    assert check(%{"a" => MapSet.new([{1}])}) == {:error, "result.a[0]"}
    assert check([Response.sync_response("x", %{"y" => {1}})]) == {:error, "result[0].result.y"}
  end

  test "structs without an encoder, or whose encoder fails, are offending" do
    for struct <- [%Opaque{}, %Faulty{}, %Derived{shown: self()}, 1..3] do
      assert check(%{"x" => [struct]}) == {:error, "result.x[0]"}
    end
  end

  test "binaries that are not UTF-8, bitstrings and improper lists are offending" do
    assert check(["ok", <<255>>]) == {:error, "result[1]"}
    assert check(["ok", <<1::3>>]) == {:error, "result[1]"}
    assert check(%{a: [1 | 2]}) == {:error, "result.a"}
  end

  test "keys that no object can have are offending as the map that holds them" do
    for key <- [{1}, [1], self(), ~D[2026-01-01]] do
      assert check(%{a: %{key => 1}}) == {:error, "result.a"}
    end

    assert check(%{a: %{<<255>> => 1}}) == {:error, "result.a[<<255>>]"}
  end

  test "structs with fields that were tampered with are offending" do
    for struct <- [
          %{~D[2026-01-01] | month: "x"},
          %{~D[2026-01-01] | year: nil},
          %{~N[2026-01-01 00:00:00] | microsecond: nil},
          %{~U[2026-01-01 00:00:00Z] | utc_offset: nil},
          %{~T[00:00:00] | hour: :a},
          %{URI.parse("a:b") | path: %{}},
          %{Version.parse!("1.0.0") | pre: 5},
          %{MapSet.new() | map: 5},
          %{__struct__: NoSuchModule}
        ] do
      assert check([struct]) == {:error, "result[0]"}
    end
  end

  test "error and request id are checked like the result" do
    assert JsonEncoding.check(Response.error_response("r", {:a}), JSON) == {:error, "error"}

    assert JsonEncoding.check(Response.error_response(<<255>>, "x"), JSON) ==
             {:error, "request_id"}
  end

  test "any other term is called value" do
    assert JsonEncoding.check(%{a: [self()]}, JSON) == {:error, "value.a[0]"}
    assert JsonEncoding.check(self(), JSON) == {:error, "value"}
    assert JsonEncoding.check(%{request_id: "r"}, JSON) == :ok
  end

  test "an unknown library has the last word" do
    defmodule Refusing do
      def encode_to_iodata!(_term), do: raise("no")
    end

    assert JsonEncoding.check(Response.async_response("r"), Refusing) ==
             {:error, "response"}

    assert JsonEncoding.check(%{}, Refusing) == {:error, "value"}
  end

  test "paths are short and valid text whatever the keys and the depth" do
    deep = Enum.reduce(1..10_000, self(), fn _, inner -> %{"key" => [inner]} end)
    wide = %{String.duplicate("日", 1_000) => self(), Integer.pow(10, 100_000) => 1}

    for result <- [deep, wide] do
      assert {:error, "result" <> _ = path} = check(result)
      assert byte_size(path) <= 500
      assert String.valid?(path)
    end
  end

  test "what passes can be encoded and what does not pass cannot" do
    pool = [1, "a", <<255>>, :b, {1}, self(), ~D[2026-01-01], %Opaque{}, MapSet.new([1])]

    for a <- pool, b <- pool, library <- @libraries do
      response = Response.sync_response("r", %{"a" => [a], "b" => %{b: b}})
      encoded? = try(do: is_binary(library.encode!(response)), rescue: (_exception -> false))
      assert JsonEncoding.check(response, library) == :ok == encoded?
    end
  end
end
