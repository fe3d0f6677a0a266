defmodule PhoenixGenApi.Channel.RelayOrderTest do
  use PhoenixGenApi.ChannelCase, async: true

  alias PhoenixGenApi.Relay

  defmodule Fast do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api", concurrency: 8
    def join(_topic, _params, socket), do: {:ok, socket}
  end

  defmodule Hook do
    # Holds messages up, the more the sooner they have come: they would overtake each other.
    def hold(request, config, test) do
      send(test, {:held, request.args["message"], self()})

      receive do
        :go -> {:ok, request, config}
      end
    end
  end

  defp say(channel, service, id) do
    args = %{"group_id" => service, "message" => id}
    push_in(channel, payload(service, "say", id, %{"args" => args}))
  end

  defp register_say(service, fields) do
    :ok =
      ConfigDb.add(
        struct!(
          %FunConfig{
            service: service,
            request_type: "say",
            nodes: :local,
            mfa: {Relay, :handle_relay, []},
            arg_types: [{"group_id", :string}, {"message", :string}],
            before_execute: {Hook, :hold, [self()]},
            hook_timeout: 300_000
          },
          fields
        )
      )

    :ok = Relay.create_group(service, :public, "ann", self())
  end

  for type <- [:sync, :async] do
    test "#{type} messages to groups run in the order received, whatever the concurrency",
         %{service: service} do
      register_say(service, response_type: unquote(type))
      register(service, "gate")
      channel = join(Fast, %{user_id: "ann"})
      for n <- 1..4, do: say(channel, service, "m#{n}")
      push_in(channel, payload(service, "gate", "other"))

      # What is not for the relay runs beside them.
      assert_receive {:running, nil, gate}

      for n <- 1..4 do
        message = "m#{n}"
        assert_receive {:held, ^message, hook}
        in_channel(channel)
        refute_received {:held, _next, _hook}
        send(hook, :go)
        assert_receive {:relay_message, %Response{result: %{"message" => ^message}}}
      end

      send(gate, {:return, 1})
      assert_receive {:reply, _ref, :ok, %Response{request_id: "other"}}
    end
  end

  test "one that is refused or raises in a hook holds up nothing", %{service: service} do
    register_say(service, before_execute: nil, check_permission: :any_authenticated)
    channel = join(Fast, %{})
    for id <- ["a", "b"], do: say(channel, service, id)

    for id <- ["a", "b"],
        do:
          assert_receive({:reply, _, :error, %Response{request_id: ^id, code: "unauthenticated"}})
  end
end
