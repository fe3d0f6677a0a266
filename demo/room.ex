defmodule Demo.Room do
  # Members of one room on two gateways.
  @moduledoc false

  import Demo.Run

  alias Demo.{ChatChannel, Client, Member, Nodes}
  alias PhoenixGenApi.Relay

  @room "lobby"
  @messages 100

  def play(run) do
    run
    |> heading(
      "A room with members on two gateways",
      "root and ann are connected to the gateway, cyd and dan to gateway_2, another process of this machine."
    )
    |> await("both gateways form one relay", [2, 2], fn ->
      for %{gateways: gateways} <- on_both(Relay, :status, []), do: gateways
    end)
    |> event(~s(code on both adds "chat", by which members send), [:ok, :ok], fn ->
      on_both(ChatChannel, :add_function, [])
    end)
    |> event("root opens the room on the gateway", %{"root" => "active"}, fn ->
      enter(["root"], %{"open" => true})
    end)
    |> event(
      "the others come, and have to wait",
      %{"ann" => "pending", "cyd" => "pending", "dan" => "pending"},
      fn -> enter(["ann", "cyd", "dan"], %{}) end
    )
    |> event("root lets them in, and both gateways have the same list", all(:active), fn ->
      for user <- ["ann", "cyd", "dan"], do: :ok = Relay.accept_member(@room, "root", user)
      lists()
    end)
    |> say("cyd", "hello", relayed(4), ["root", "ann", "cyd", "dan"])
    |> many()
    |> event("root mutes dan; both gateways know", all(:muted), fn ->
      :ok = Relay.mute_member(@room, "root", "dan")
      lists()
    end)
    |> say("dan", "me too", failure("You are muted and cannot send messages", "muted"), [])
    |> say("ann", "dan?", relayed(4), ["root", "ann", "cyd", "dan"])
    |> kill()
    |> say("ann", "still here?", relayed(2), ["root", "ann"])
  end

  @doc "Who is in the room, as the gateway knows that this runs on."
  def members do
    {:ok, %{members: members}} = Relay.get_group_info(@room)
    Map.new(members, fn {user, %{status: status}} -> {user, status} end)
  end

  # The lists of both gateways, which are the same.
  defp lists, do: __MODULE__ |> on_both(:members, []) |> Enum.uniq()

  defp all(dan), do: [Map.merge(here(), %{"cyd" => :active, "dan" => dan})]
  defp here, do: %{"root" => :active, "ann" => :active}

  defp enter(users, params) do
    for user <- users, into: %{} do
      {:ok, json} = Member.enter(member(user), user, "chat:" <> @room, params)
      {user, JSON.decode!(json)["status"]}
    end
  end

  # What a member says, the answer that he gets, and who is pushed the message, and nothing else.
  defp say(run, user, text, {kind, fields}, listeners) do
    id = next_id(run)
    json = message(id, text)
    began = now()
    [{answer, reply}] = Member.send_all(member(user), [{id, json}])
    frames = for listener <- listeners, push <- pushed(listener, 1), do: {listener, push}
    took = now() - began

    check(
      run,
      title(user, text, listeners),
      [sent(json), received({took, answer, reply})] ++
        for({listener, push} <- frames, do: got(listener, push)),
      compare({kind, Map.put(fields, "request_id", id)}, {answer, JSON.decode!(reply)}) ++
        compare(
          for(listener <- listeners, do: {listener, user, text}),
          for(
            {listener, push} <- frames,
            {from, message} = content(push),
            do: {listener, from, message}
          )
        ) ++
        leaks(run, [{took, answer, reply} | for({_, push} <- frames, do: {took, :push, push})])
    )
  end

  defp title(user, text, []), do: ~s(#{user} says "#{text}")
  defp title(user, text, all), do: ~s(#{user} says "#{text}" to #{Enum.join(all, ", ")})

  # A message tells which user it is from: each member has to get those of each sender once, and
  # in order.
  defp many(run) do
    id = next_id(run)
    began = now()

    replies =
      for user <- ["ann", "cyd"] do
        requests =
          for n <- 1..@messages, do: {"#{id}#{user}#{n}", message("#{id}#{user}#{n}", "#{n}")}

        Task.async(fn -> Member.send_all(member(user), requests) end)
      end
      |> Enum.flat_map(&Task.await(&1, :infinity))

    lists =
      for user <- ["root", "ann", "cyd", "dan"] do
        pushes = pushed(user, 2 * @messages)
        {user, pushes |> Enum.map(&content/1) |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))}
      end

    took = now() - began
    sent = Enum.map(1..@messages, &Integer.to_string/1)
    refused = for {kind, json} <- replies, kind != :ok, do: json

    check(
      run,
      "#{@messages} messages of ann and #{@messages} of cyd at once: each member gets each once, in the order sent",
      [happened(took, "#{length(replies)} messages") | Enum.map(lists, &counted/1)],
      compare([], refused) ++
        Enum.flat_map(lists, fn {user, by_sender} ->
          compare({user, %{"ann" => sent, "cyd" => sent}}, {user, by_sender})
        end)
    )
  end

  defp counted({user, by_sender}) do
    counts = for {from, texts} <- Enum.sort(by_sender), do: "#{length(texts)} from #{from}"
    "  #{user} got #{Enum.join(counts, " and ")}"
  end

  defp kill(run) do
    process = :erpc.call(Nodes.gateway_2(), System, :pid, [], 5_000)
    {_output, 0} = System.cmd("kill", ["-9", process])

    await(
      run,
      "kill -9 #{process} (gateway_2): its members are gone, the room and the others stay",
      here(),
      &members/0
    )
  end

  defp message(id, text) do
    args = %{"group_id" => @room, "message" => text}
    Client.object([{:request_id, id} | request("chat", "say", args)])
  end

  defp relayed(count), do: result(%{"status" => "relayed", "recipients_count" => count})

  defp pushed(user, count), do: user |> member() |> Member.pushed(count)

  defp content(json) do
    %{"result" => %{"from_user_id" => from, "message" => message}} = JSON.decode!(json)
    {from, message}
  end

  defp got(user, json), do: "<             #{String.pad_leading(user, 5)}  push   #{json}"

  defp member(user) when user in ["root", "ann"], do: {:"member_#{user}", node()}
  defp member(user), do: {:"member_#{user}", Nodes.gateway_2()}

  defp on_both(module, function, args),
    do: Nodes.call([node(), Nodes.gateway_2()], module, function, args)
end
