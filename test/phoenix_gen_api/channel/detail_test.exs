defmodule PhoenixGenApi.Channel.DetailTest do
  # Changes the configuration of the whole application.
  use PhoenixGenApi.ChannelCase, async: false

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.Test.Options

  defmodule Api do
    use PhoenixGenApi, event: "api"
  end

  setup do
    Options.set(:gen_api, detail_error: true)
  end

  test "with detail_error an error of encoding names the value's path", %{service: service} do
    register(service, "unencodable")
    channel = join(Api)
    push_in(channel, payload(service, "unencodable", "r1"))
    assert_receive {:reply, _, :error, response}
    assert response == error("Internal Server Error: result.owner")

    send(channel, {:push, Response.sync_response("r2", [1, {}])})
    assert_receive {:push, "api", response}
    assert response == error("Internal Server Error: result[1]", false, id: "r2")
  end
end
