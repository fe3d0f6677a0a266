defmodule PhoenixGenApi.JasonImplHelperTest do
  use ExUnit.Case, async: true

  if Code.ensure_loaded?(Jason.Encoder) do
    alias PhoenixGenApi.Structs.Response
    alias PhoenixGenApi.Test.{Book, Loop, Order}

    test "use and gen_impl implement Jason.Encoder" do
      assert Jason.decode!(Jason.encode!(%Book{isbn: "1", tags: MapSet.new(["a"]), cost: 7})) ==
               %{"isbn" => "1", "tags" => ["a"]}

      assert Jason.encode!([%Order{id: 5}]) == ~s([{"id":5}])
    end

    test "encoded structs can be results" do
      response = Response.sync_response("r", [%Order{id: 5}])
      assert Jason.decode!(Jason.encode!(response))["result"] == [%{"id" => 5}]
    end

    test "an encode! that returns no plain map raises instead of looping" do
      assert_raise FunctionClauseError, fn -> Jason.encode!(%Loop{}) end
    end
  else
    test "use says so when Jason is not there" do
      message = "Jason.Encoder is not available: add :jason to the dependencies"

      for body <- [
            "use PhoenixGenApi.JasonImplHelper",
            "use PhoenixGenApi.JasonImplHelper, impl: [Book]"
          ] do
        assert_raise ArgumentError, message, fn ->
          Code.compile_string(
            "defmodule UniqueJason#{System.unique_integer([:positive])} do #{body} end"
          )
        end
      end
    end
  end
end
