defmodule PhoenixGenApi.VectorsTest do
  # The wire vectors of clients/vectors, over a channel and over HTTP. They share their services' names.
  use PhoenixGenApi.ChannelCase, async: false

  alias PhoenixGenApi.Http
  alias PhoenixGenApi.Test.{HttpRequests, Vectors}

  defmodule Api do
    use PhoenixGenApi, event: "api"
  end

  setup do
    ConfigDb.clear()
    on_exit(&ConfigDb.clear/0)
    Vectors.register()
  end

  defp assigns(nil), do: %{}

  defp assigns(identity),
    do: Map.new(identity, fn {name, value} -> {String.to_existing_atom(name), value} end)

  defp wire(response), do: response |> JSON.encode!() |> JSON.decode!()

  for %{"name" => name} = vector <- Vectors.all() do
    @vector vector
    test "over a channel: #{name}" do
      channel = join(Api, assigns(@vector["identity"]))
      ref = push_in(channel, Map.put(@vector["request"], "request_id", "v"))
      assert_receive {:reply, ^ref, status, reply}
      over_channel(@vector, status, wire(reply))
    end

    test "over HTTP: #{name}" do
      %{"request" => sent, "status" => status} = @vector

      headers =
        for {header, field} <- [{"accept-version", "version"}, {"x-deadline-ms", "deadline_ms"}],
            value = sent[field],
            do: {header, to_string(value)}

      request =
        HttpRequests.post(sent["service"], sent["request_type"], sent["args"],
          headers: [{"x-request-id", "v"} | headers],
          assigns: assigns(@vector["identity"])
        )

      assert {^status, _headers, body} = Http.handle(request, public: true)
      over_http(@vector, body)
    end
  end

  defp over_channel(%{"accepted" => true}, :ok, reply),
    do: assert(reply == %{"request_id" => "v"})

  defp over_channel(%{"response" => expected}, status, reply) do
    assert status == if(expected["success"], do: :ok, else: :error)

    # Async ones are acknowledged first.
    response =
      if reply["async"] do
        assert_receive {:push, "api", pushed}
        wire(pushed)
      else
        reply
      end

    assert Vectors.named(response, expected) == expected
    assert response["request_id"] == "v"
  end

  defp over_channel(%{"frames" => expected}, :ok, acknowledgement) do
    assert %{"result" => "init", "has_more" => true} = acknowledgement

    for frame <- expected do
      assert_receive {:push, "api", pushed}
      assert Vectors.named(wire(pushed), frame) == frame
    end
  end

  defp over_http(%{"accepted" => true}, {:full, body}),
    do: assert(decoded(body) == %{"request_id" => "v"})

  defp over_http(%{"response" => expected}, {:full, body}) do
    response = decoded(body)
    assert Vectors.named(response, expected) == expected
    assert response["request_id"] == "v"
  end

  defp over_http(%{"frames" => expected}, {:stream, chunks}) do
    frames = chunks |> Enum.join() |> String.split("\n", trim: true) |> Enum.map(&JSON.decode!/1)
    assert length(frames) == length(expected)

    for {frame, expected} <- Enum.zip(frames, expected) do
      assert Vectors.named(frame, expected) == expected
      assert frame["request_id"] == "v"
    end
  end

  defp decoded(body), do: body |> IO.iodata_to_binary() |> JSON.decode!()
end
