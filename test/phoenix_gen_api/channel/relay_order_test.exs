defmodule PhoenixGenApi.Channel.RelayOrderTest do
  use PhoenixGenApi.ChannelCase, async: true

  alias PhoenixGenApi.Channel.RequestProcess
  alias PhoenixGenApi.Relay

  @follows {RequestProcess, :wait_for, 1}

  defmodule Fast do
    use Phoenix.Channel
    use PhoenixGenApi, event: "api", concurrency: 8
    def join(_topic, _params, socket), do: {:ok, socket}

    def handle_in("chat", payload, socket),
      do: PhoenixGenApi.Channel.handle_in(payload, socket, event: "chat", concurrency: 8)
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

  defp say(channel, service, id, event \\ "api") do
    args = %{"group_id" => service, "message" => id}
    push_in(channel, payload(service, "say", id, %{"args" => args}), event)
  end

  # Until all but one wait for another.
  defp await_followers(channel, count) do
    follower? = &(Process.info(&1, :current_function) == {:current_function, @follows})
    until(fn -> Enum.count(request_processes(channel), follower?) == count end)
    refute_received {:held, _overtaking, _hook}
  end

  defp assert_said(message, hook) do
    send(hook, :go)
    assert_receive {:relay_message, %Response{result: %{"message" => ^message}}}
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

  test "messages to groups run in the order received over all events of a channel",
       %{service: service} do
    register_say(service, [])
    channel = join(Fast, %{user_id: "ann"})

    for {event, n} <- Enum.with_index(~w(api chat api chat), 1),
        do: say(channel, service, "m#{n}", event)

    for n <- 1..4 do
      message = "m#{n}"
      assert_receive {:held, ^message, hook}
      await_followers(channel, 4 - n)
      assert_said(message, hook)
    end
  end

  test "a message that is cancelled while it waits lets no other overtake those before it",
       %{service: service} do
    register_say(service, [])
    channel = join(Fast, %{user_id: "ann"})
    for n <- 1..3, do: say(channel, service, "m#{n}")
    assert_receive {:held, "m1", hook}
    await_followers(channel, 2)
    push_in(channel, %{"request_id" => "m2", "cancel" => true})
    assert_receive {:reply, _, :ok, %{request_id: "m2", cancelled: true}}
    say(channel, service, "m4")
    await_followers(channel, 2)
    assert_said("m1", hook)

    for message <- ~w(m3 m4) do
      assert_receive {:held, ^message, hook}
      assert_said(message, hook)
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
