defmodule PhoenixGenApi.Errors.InvalidTypeTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Errors.InvalidType

  doctest InvalidType

  test "names the value, in its message and as a string" do
    error = InvalidType.exception({1, "two"})
    assert Exception.message(error) == ~s(Invalid type for argument '{1, "two"}')
    assert to_string(error) == Exception.message(error)
  end

  test "cuts a large value at 500 bytes" do
    message = InvalidType.exception({String.duplicate("é", 10_000)}).message
    assert "Invalid type for argument '" <> rest = message
    assert byte_size(rest) <= 501
    assert String.valid?(message)
  end

  test "keeps nothing but the message" do
    assert Map.keys(InvalidType.exception("secret")) -- [:__exception__, :__struct__] == [
             :message
           ]
  end
end
