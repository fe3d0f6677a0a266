defmodule PhoenixGenApi.Errors.DecodeErrorTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Errors.DecodeError

  doctest DecodeError

  test "is built from a message, a code or fields" do
    assert DecodeError.exception("nope") ==
             %DecodeError{code: :invalid_payload, message: "nope", details: nil}

    assert DecodeError.exception(:missing_field).code == :missing_field
    assert DecodeError.exception(:missing_field).message == "Malformed request payload"

    assert DecodeError.exception(code: :missing_field, message: "m", details: 1) ==
             %DecodeError{code: :missing_field, message: "m", details: 1}
  end

  test "is built from code and message, with and without details" do
    assert DecodeError.exception(:invalid_payload, "m") ==
             %DecodeError{code: :invalid_payload, message: "m", details: nil}

    cause = %RuntimeError{message: "cause"}
    assert DecodeError.exception(:invalid_payload, "m", cause).details == cause
  end

  test "can be raised, and reads as its message" do
    error = assert_raise DecodeError, "gone", fn -> raise DecodeError, "gone" end
    assert to_string(error) == "gone"
    assert Exception.message(error) == "gone"
  end
end
