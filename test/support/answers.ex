defmodule PhoenixGenApi.Test.Answers do
  # What a request of the tests, "r1", is answered with.

  alias PhoenixGenApi.Structs.Response

  def ok(value), do: Response.sync_response("r1", value)
  def error(text, retry? \\ false), do: Response.error_response("r1", text, retry?)
end
