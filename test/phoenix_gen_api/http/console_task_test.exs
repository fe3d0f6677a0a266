defmodule PhoenixGenApi.Http.ConsoleTaskTest do
  use ExUnit.Case, async: true

  alias Mix.Tasks.PhoenixGenApi.Console
  alias PhoenixGenApi.Test.RawHttp

  test "serves the console, on a port of this machine, as a user" do
    {server, address} =
      Console.start(["--port", "0", "--user", "zoe", "--role", "a", "--role", "b"])

    on_exit(fn -> Process.exit(server, :shutdown) end)
    port = URI.parse(address).port

    assert {200, %{"content-type" => "text/html" <> _}, _} =
             RawHttp.request(port, "GET", "/", [], "")

    assert {200, _, body} = RawHttp.request(port, "GET", "/console.json", [], "")
    assert body["identity"] == %{"user_id" => "zoe", "user_roles" => ["a", "b"]}

    assert_raise Mix.Error, ~r/port #{port} is in use/, fn ->
      Process.flag(:trap_exit, true)
      Console.start(["--port", "#{port}"])
    end
  end

  test "says what is wrong with its arguments" do
    assert_raise Mix.Error, ~r/unexpected --prot/, fn -> Console.start(["--prot", "1"]) end
    assert_raise Mix.Error, ~r/--port must be/, fn -> Console.start(["--port", "70000"]) end
  end
end
