defmodule PhoenixGenApi.ImplHelperTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Test.{Book, Derived, Loop, Opaque, Order}

  # The encoders under test are in test/support: a protocol must not be extended after consolidation.

  test "use implements the protocol through encode!/1, with whatever a result may hold" do
    book = %Book{isbn: "1", tags: MapSet.new(["a"]), cost: 7}
    assert JSON.decode!(JSON.encode!(book)) == %{"isbn" => "1", "tags" => ["a"]}
    assert IO.iodata_to_binary(JSON.encode_to_iodata!([book])) =~ ~s("isbn":"1")
  end

  test "gen_impl implements the protocol, also through encode!/2" do
    assert JSON.encode!([%Order{id: 5}]) == ~s([{"id":5}])
  end

  test "encoded structs can be results" do
    response = Response.sync_response("r", [%Book{isbn: "1", tags: []}])
    assert JSON.decode!(JSON.encode!(response))["result"] == [%{"isbn" => "1", "tags" => []}]
  end

  test "a struct that already has an implementation keeps it" do
    assert JSON.encode!(%Derived{shown: 1, secret: 2}) == ~s({"shown":1})
    assert JSON.decode!(JSON.encode!(Response.async_response("r")))["request_id"] == "r"
    assert PhoenixGenApi.ImplHelper.missing(JSON.Encoder, [Response, Derived, Book]) == []
  end

  test "an encode! that returns no plain map raises instead of looping" do
    assert_raise FunctionClauseError, fn -> JSON.encode!(%Loop{}) end
  end

  test "use without :encoder is a compile error" do
    for options <- ["", ", impl: [Book]", ", []"] do
      assert_raise RuntimeError, "missing encoder option", fn ->
        Code.compile_string("defmodule #{unique()} do use PhoenixGenApi.ImplHelper#{options} end")
      end
    end
  end

  test "other protocols are refused" do
    message = "encoder must be JSON.Encoder or Jason.Encoder, got: String.Chars"

    assert_raise ArgumentError, message, fn ->
      Code.compile_string(
        "defmodule #{unique()} do use PhoenixGenApi.ImplHelper, encoder: String.Chars end"
      )
    end
  end

  test "a module without encode! is refused" do
    assert_raise ArgumentError, "#{inspect(Opaque)} must define encode!/1 or encode!/2", fn ->
      PhoenixGenApi.ImplHelper.missing(JSON.Encoder, Opaque)
    end
  end

  defp unique, do: "Unique#{System.unique_integer([:positive])}"
end
