defmodule PhoenixGenApi.Structs.ResponseTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Test.{Derived, Opaque}

  doctest Response

  @libraries if Code.ensure_loaded?(Jason.Encoder), do: [JSON, Jason], else: [JSON]

  defp row(response) do
    {response.success, response.result, response.error, response.async, response.has_more,
     response.can_retry}
  end

  # What a client reads after the result went through each JSON library.
  defp read(result) do
    response = Response.sync_response("r1", result)

    [read] =
      for library <- @libraries do
        json = library.encode!(response)
        assert IO.iodata_to_binary(library.encode_to_iodata!(response)) == json
        JSON.decode!(json)["result"]
      end
      |> Enum.uniq()

    read
  end

  test "the fields have the defaults of a failure" do
    assert Map.from_struct(%Response{}) == %{
             request_id: nil,
             result: nil,
             success: false,
             error: nil,
             async: false,
             has_more: false,
             can_retry: false,
             code: nil,
             details: nil
           }
  end

  test "each constructor sets its row of fields" do
    assert row(Response.sync_response("r", 1)) == {true, 1, nil, false, false, false}
    assert row(Response.async_response("r")) == {true, nil, nil, true, false, false}
    assert row(Response.stream_response("r", 1)) == {true, 1, nil, true, true, false}
    assert row(Response.stream_response("r", 1, false)) == {true, 1, nil, true, false, false}
    assert row(Response.stream_end_response("r")) == {true, nil, nil, true, false, false}
    assert row(Response.error_response("r", "no")) == {false, nil, "no", false, false, false}
    assert row(Response.error_response("r", "no", true)) == {false, nil, "no", false, false, true}
    assert Response.stream_response("r", 1).request_id == "r"
  end

  test "error? and is_error? tell failures" do
    for {response, error?} <- [
          {Response.error_response("r", "no"), true},
          {%Response{}, true},
          {Response.sync_response("r", nil), false},
          {Response.stream_end_response("r"), false}
        ] do
      assert Response.error?(response) == error?
      assert Response.is_error?(response) == error?
    end
  end

  test "encode! gives the seven atom keys with untouched values" do
    response = Response.sync_response("r1", {:not, self()})
    expected = response |> Map.from_struct() |> Map.drop([:code, :details])
    assert Response.encode!(response) == expected
    assert Response.encode!(response, any: :option) == expected
    assert Response.encode(response, []) == expected
    assert map_size(expected) == 7
  end

  test "encode reports what is not a response" do
    assert Response.encode(%{}, []) == {:error, :invalid_response}
    assert Response.encode(nil, []) == {:error, :invalid_response}
  end

  @seven ~w(request_id success result error async has_more can_retry)

  test "a successful response has exactly seven keys in JSON, whatever its other fields hold" do
    successes = [
      Response.async_response(nil),
      Response.sync_response("r1", 5),
      Response.stream_end_response("r1"),
      %{Response.sync_response("r1", 5) | code: "odd", details: [self()]}
    ]

    for response <- successes, library <- @libraries do
      assert_same_keys(response, library, @seven)
    end
  end

  test "an error has its code in JSON, and details where it has any" do
    coded = Response.error_response("r1", "Sold out", false, code: "sold_out")
    detailed = Response.error_response("r1", "Slow", true, code: "slow", details: [%{"ms" => 5}])

    for library <- @libraries do
      assert_same_keys(Response.error_response("r1", "Sold out"), library, @seven ++ ["code"])
      assert_same_keys(coded, library, @seven ++ ["code"])
      assert_same_keys(detailed, library, @seven ++ ["code", "details"])
    end

    assert %{code: "sold_out"} = Response.encode!(coded)
    assert %{code: "slow", details: [%{"ms" => 5}], can_retry: true} = Response.encode!(detailed)
  end

  # Both forms of a response hold the same.
  defp assert_same_keys(response, library, keys) do
    object = JSON.decode!(library.encode!(response))
    assert Enum.sort(Map.keys(object)) == Enum.sort(keys)
    assert object == Map.new(Response.encode!(response), fn {k, v} -> {Atom.to_string(k), v} end)
  end

  test "plain JSON content arrives unchanged" do
    content = %{
      "null" => nil,
      "yes" => true,
      "no" => false,
      "integer" => 12_345_678_901_234_567_890,
      "float" => 1.5,
      "text" => "a\"\\\n\0é日",
      "empty" => [%{}, [], ""],
      "nested" => %{"list" => [1, [2, [3]]]}
    }

    assert read(content) == content
    for value <- [nil, true, 1, 1.5, "x", [], %{}], do: assert(read(value) == value)
  end

  test "atoms become strings, as values and as keys" do
    assert read(%{a: :b, nil: :c, true: 1}) == %{"a" => "b", "nil" => "c", "true" => 1}
  end

  test "numbers may be keys" do
    assert read(%{1 => "a", 1.5 => "b"}) == %{"1" => "a", "1.5" => "b"}
  end

  test "dates and durations become ISO 8601 strings" do
    assert read([
             ~U[2026-01-01 00:00:00Z],
             ~N[2026-01-01 00:00:00.5],
             ~D[2026-01-01],
             ~T[12:00:00],
             Duration.new!(hour: 36)
           ]) ==
             ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5", "2026-01-01", "12:00:00", "PT36H"]
  end

  test "URIs, versions and decimals become strings, sets become lists" do
    assert read(URI.parse("https://a.b/c?d=e")) == "https://a.b/c?d=e"
    assert read(Version.parse!("1.2.3-rc.1+b")) == "1.2.3-rc.1+b"
    assert read(%Decimal{coef: 1250, exp: -2}) == "12.50"
    assert read(MapSet.new([:a])) == ["a"]
    assert read(MapSet.new([])) == []
  end

  test "a decimal with a huge exponent stays short" do
    assert byte_size(read(%Decimal{coef: 1, exp: 1_000_000_000})) < 20
  end

  test "all of them are encoded at any depth" do
    inner = %{
      at: ~D[2026-01-01],
      set: MapSet.new([URI.parse("a:b")]),
      v: [Version.parse!("1.0.0")]
    }

    assert read([%{1 => [inner]}]) ==
             [%{"1" => [%{"at" => "2026-01-01", "set" => ["a:b"], "v" => ["1.0.0"]}]}]

    deep = Enum.reduce(1..1_000, MapSet.new([1]), fn _, inner -> [%{"a" => inner}] end)
    assert JSON.encode!(Response.sync_response("r", deep)) =~ ~s("a":[1]})
  end

  test "structs with an encoder are encoded by it" do
    assert read([%Derived{shown: 1, secret: 2}]) == [%{"shown" => 1}]
    assert read([Response.async_response("x")]) |> hd() |> Map.get("request_id") == "x"
  end

  test "a struct's own encoder may hold the special forms under JSON" do
    response = Response.sync_response("r", %Derived{shown: MapSet.new([1])})
    assert JSON.decode!(JSON.encode!(response))["result"] == %{"shown" => [1]}
  end

  test "the encoder given to JSON.encode! is honoured for what has no form here" do
    encoder = fn
      {a, b}, self -> self.([a, b], self)
      other, self -> JSON.protocol_encode(other, self)
    end

    response = Response.sync_response("r", %{pair: {1, MapSet.new([2])}})
    assert JSON.decode!(JSON.encode!(response, encoder))["result"] == %{"pair" => [1, [2]]}
  end

  test "what cannot be encoded raises, as result and as error" do
    bad = [
      {:a, 1},
      self(),
      make_ref(),
      fn -> 1 end,
      <<255>>,
      <<1::3>>,
      %Opaque{},
      [1 | 2],
      %{{1} => 2},
      %{[1] => 2},
      %{~D[2026-01-01] => 2},
      %{<<255>> => 1}
    ]

    for value <- bad, library <- @libraries do
      for nested <- [value, [value], %{"a" => value}, MapSet.new([value])] do
        assert raises?(fn -> library.encode!(Response.sync_response("r", nested)) end)
      end

      assert raises?(fn -> library.encode!(Response.error_response("r", value)) end)
    end
  end

  if Jason in @libraries do
    test "Jason.encode returns an error for what cannot be encoded" do
      for value <- [{:a}, <<255>>, %Opaque{}, [1 | 2], %{{1} => 2}] do
        assert {:error, _} = Jason.encode(Response.sync_response("r", value))
      end
    end

    test "Jason's escape option applies to the whole response" do
      json =
        Jason.encode!(Response.sync_response("r", %{"<" => ["</script>"]}), escape: :html_safe)

      refute json =~ "<"
    end
  end

  defp raises?(fun) do
    fun.()
    false
  rescue
    _exception -> true
  end
end
