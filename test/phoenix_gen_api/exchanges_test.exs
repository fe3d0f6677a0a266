defmodule PhoenixGenApi.ExchangesTest do
  # The exchanges of clients/vectors/exchanges.json, and the guide that shows them. They share their services' names.
  use PhoenixGenApi.ChannelCase, async: false

  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Test.Vectors

  @path "clients/vectors/exchanges.json"
  @guide "guides/clients.md"

  # Both are Phoenix's own.
  @of_phoenix ["join", "heartbeat"]

  defmodule Api do
    use PhoenixGenApi, event: "api", concurrency: 4
  end

  exchanges = @path |> File.read!() |> JSON.decode!() |> Map.fetch!("exchanges")

  setup do
    ConfigDb.clear()
    on_exit(&ConfigDb.clear/0)
    Vectors.register()

    :ok =
      ConfigDb.add(%FunConfig{
        service: "chat",
        request_type: "say",
        nodes: :local,
        mfa: {Relay, :handle_relay, []},
        arg_types: %{"group_id" => :string, "message" => :any},
        arg_orders: ["group_id", "message"]
      })

    channel = join(Api, %{user_id: "ann"})
    :ok = Relay.create_group("lobby", :public, "ann", channel)
    on_exit(fn -> Relay.delete_group("lobby") end)
    %{channel: channel}
  end

  for %{"name" => name, "steps" => steps} <- exchanges, name not in @of_phoenix do
    @steps steps
    test "the exchange #{name}", %{channel: channel} do
      for step <- @steps, do: step(step, channel)
      in_channel(channel)
      refute_received {:reply, _ref, _status, _payload}
      refute_received {:push, _event, _payload}
    end
  end

  defp step(%{"client" => [_join_ref, ref, _topic, event, payload]}, channel),
    do: send(channel, {:client, event, payload, ref})

  defp step(%{"gateway" => [_join_ref, ref, _topic, "phx_reply", expected]}, _channel) do
    assert_receive {:reply, ^ref, status, reply}
    assert %{"status" => to_string(status), "response" => wire(reply)} == expected
  end

  defp step(%{"gateway" => [_join_ref, nil, _topic, event, expected]}, _channel) do
    assert_receive {:push, ^event, pushed}
    assert now(wire(pushed)) == now(expected)
  end

  defp wire(response), do: response |> JSON.encode!() |> JSON.decode!()

  defp now(%{"result" => %{"timestamp" => timestamp}} = response) do
    assert {:ok, _moment, 0} = DateTime.from_iso8601(timestamp)
    put_in(response, ["result", "timestamp"], "now")
  end

  defp now(response), do: response

  test "the guide shows each exchange as it is there" do
    guide = File.read!(@guide)

    shown =
      Enum.reduce(blocks(), guide, fn {name, block}, guide ->
        mark = "<!-- exchange: #{name} -->\n\n"
        assert guide =~ mark, "#{@guide} does not show the exchange #{name}"
        [before, rest] = String.split(guide, mark, parts: 2)
        [_old, rest] = String.split(rest, "\n```\n", parts: 2)
        before <> mark <> "```text\n" <> block <> "\n```\n" <> rest
      end)

    if System.get_env("GUIDES") == "write", do: File.write!(@guide, shown)

    assert shown == guide or System.get_env("GUIDES") == "write",
           "out of date: GUIDES=write bin/mix test #{Path.relative_to_cwd(__ENV__.file)}"
  end

  # As they are written there: one step a line, in the order of their keys.
  defp blocks do
    [_about | exchanges] = @path |> File.read!() |> String.split(~r/^ {4}\{"name": /m)

    for text <- exchanges do
      [name, _rest] = String.split(text, ",\n", parts: 2)

      lines =
        for [_line, who, frame] <- Regex.scan(~r/^ {7}\{"(client|gateway)": (.*)\},?$/m, text),
            do: arrow(who) <> " " <> frame

      {JSON.decode!(name), Enum.join(lines, "\n")}
    end
  end

  defp arrow("client"), do: "→"
  defp arrow("gateway"), do: "←"
end
