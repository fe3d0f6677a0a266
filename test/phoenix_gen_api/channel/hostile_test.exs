defmodule PhoenixGenApi.Channel.HostileTest do
  use PhoenixGenApi.ChannelCase, async: true

  defmodule Api do
    use PhoenixGenApi, event: "api", concurrency: 2, max_pending: 1_000
  end

  defmodule Client do
    use PhoenixGenApi,
      event: "api",
      override_user_id: false,
      trust_client_roles: true,
      deliver: :both
  end

  defmodule Pushing do
    use PhoenixGenApi, event: "api", deliver: :push
  end

  defp deep(0), do: 1
  defp deep(n), do: [deep(n - 1)]

  defp deep_map(n), do: Enum.reduce(1..n, 1, fn _, inner -> %{"a" => inner} end)

  defp payloads do
    request = %{"service" => "s", "request_type" => "t", "request_id" => "r"}

    [
      nil,
      true,
      1,
      1.5,
      :atom,
      "",
      "text",
      <<255, 254>>,
      <<1::size(3)>>,
      {:binary, <<0, 1, 2>>},
      {},
      [],
      [1, 2],
      [1 | 2],
      self(),
      make_ref(),
      fn -> 1 end,
      %{},
      %{1 => 2},
      %{nil => nil},
      ~D[2026-01-01],
      %MapSet{},
      %{"cancel" => true},
      %{"cancel" => true, "request_id" => nil},
      %{"cancel" => true, "request_id" => []},
      %{"cancel" => true, "request_id" => <<255>>},
      %{"cancel" => %{}, "request_id" => "r"},
      %{"request_id" => <<255>>},
      %{"request_id" => deep(1_000)},
      %{"args" => 5},
      %{"args" => deep(100_000)},
      deep(100_000),
      deep_map(100_000),
      Map.put(request, "args", deep(100_000)),
      Map.put(request, "args", deep_map(10_000)),
      Map.put(request, "args", [1 | 2]),
      Map.put(request, "user_id", %{}),
      Map.put(request, "user_roles", ["a" | "b"]),
      Map.put(request, "user_roles", %{"a" => deep(100)}),
      Map.put(request, "device_id", <<0, 255>>),
      Map.put(request, "version", deep(10)),
      Map.put(request, "service", String.duplicate("s", 100_000)),
      Map.put(request, "request_id", String.duplicate("r", 100_000)),
      Map.put(request, "request_type", "\u0000"),
      Map.new(1..20_000, &{Integer.to_string(&1), &1}),
      String.duplicate("x", 2_000_000),
      Map.put(request, "args", %{"x" => String.duplicate("x", 2_000_000)})
    ]
  end

  for {module, name} <- [{Api, ":reply"}, {Client, ":both"}, {Pushing, ":push"}] do
    test "no payload crashes a channel or leaks an exception, with deliver: #{name}",
         %{service: service} do
      register(service, "now")
      channel = join(unquote(module), %{user_id: "ann"})
      monitor = Process.monitor(channel)

      for payload <- payloads() do
        ref = push_in(channel, payload)
        assert_receive {:reply, ^ref, _status, reply}

        response =
          if unquote(module) == Pushing do
            assert_receive {:push, "api", response}
            assert reply.request_id == response.request_id
            response
          else
            reply
          end

        assert %Response{success: false, request_id: id} = response
        assert id == sent_id(payload)
        assert response.error =~ ~r/\A(Invalid request: |unsupported function: )/
        refute response.error =~ ~r/Error|clause|:erlang|Elixir\./
      end

      push_in(channel, payload(service, "now", "last"))

      if unquote(module) == Pushing,
        do: assert_receive({:push, "api", %Response{result: "done"}}),
        else: assert_receive({:reply, _, :ok, %Response{result: "done"}})

      refute_received {:DOWN, ^monitor, _, _, _}
    end
  end

  defp sent_id(%{"request_id" => id}) when is_binary(id), do: if(String.valid?(id), do: id)
  defp sent_id(_payload), do: nil

  test "assigns of any kind crash nothing", %{service: service} do
    register(service, "whoami", request_info: true)
    values = [nil, 1, "", <<255>>, :a, {}, {1, 2}, [1 | 2], %{}, self(), ~D[2026-01-01]]
    keys = [:user_id, :user_roles, :device_id, :ip_address, :peer_data, :connect_info]

    ExUnit.CaptureLog.capture_log(fn ->
      for key <- keys, value <- values do
        ref = Api |> join(%{key => value}) |> push_in(payload(service, "whoami", "r"))
        assert_receive {:reply, ^ref, :ok, %Response{}}
      end
    end)
  end

  test "a payload too large is refused with both sizes" do
    ref = join(Api) |> push_in(%{"args" => String.duplicate("x", 2_000_000)})
    assert_receive {:reply, ^ref, :error, %Response{error: error}}

    assert error =~
             ~r/\AInvalid request: Request payload exceeds maximum size of 1000000 bytes \(got \d+ bytes\)\z/
  end
end
