defmodule PhoenixGenApi.RelayModelTest do
  # Random operations, the same for the same seed, against a model that follows the documentation
  # sentence by sentence, in Elixir and without an index.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Structs.Request

  @users ~w(root ann bob carl dora)
  @verbs [:accept, :mute, :unmute, :kick, :ban, :unban, :promote, :demote]

  for seed <- 1..20 do
    test "600 random operations do what the documentation says (seed #{seed})" do
      :rand.seed(:exsss, {unquote(seed), 7, 42})
      type = Enum.at([:public, :private, :strict_private], rem(unquote(seed), 3))
      id = "relay-model-#{System.unique_integer([:positive])}"
      pids = for _ <- 1..6, do: spawn_link(fn -> keep([]) end)
      [first | _] = pids
      :ok = Relay.create_group(id, type, "root", first)
      root = %{pids: [first], pending?: false, muted?: false, admin?: true, banned?: false}

      Enum.reduce(1..600, %{type: type, people: %{"root" => root}}, fn n, model ->
        op = random_op(pids)
        {expected, model} = expect(model, op)
        assert {n, op, real(id, op)} == {n, op, expected}
        assert {n, op, members(id)} == {n, op, in_group(model)}
        if expected == :ok and elem(op, 0) == :say, do: assert_delivered(model, pids, n)
        model
      end)

      :ok = Relay.delete_group(id)
    end
  end

  defp keep(got) do
    receive do
      {:relay_message, _response} -> keep([:message | got])
      {:take, from} -> send(from, {self(), length(got)}) && keep([])
    end
  end

  defp random_op(pids) do
    {user, other} = {Enum.random(@users), Enum.random(@users)}

    case :rand.uniform(10) do
      n when n <= 3 -> {:join, user, Enum.random(pids)}
      4 -> {:leave, user}
      5 -> {:leave, user, Enum.random(pids)}
      n when n <= 8 -> {:change, Enum.random(@verbs), Enum.random(["root", user]), other}
      _ -> {:say, user}
    end
  end

  defp real(id, {:join, user, pid}), do: Relay.join_group(id, user, pid)
  defp real(id, {:leave, user}), do: Relay.leave_group(id, user)
  defp real(id, {:leave, user, pid}), do: Relay.leave_group(id, user, pid)

  defp real(id, {:change, verb, actor, target}),
    do: apply(Relay, :"#{verb}_member", [id, actor, target])

  defp real(id, {:say, user}) do
    args = %{"group_id" => id, "message" => "hi"}
    response = Relay.handle_relay(%Request{request_id: "r", user_id: user, args: args}, nil)
    if response.success, do: :ok, else: response.error
  end

  defp members(id) do
    {:ok, %{members: members}} = Relay.get_group_info(id)
    Map.new(members, fn {user, member} -> {user, {member.status, Enum.to_list(member.roles)}} end)
  end

  defp in_group(model) do
    for {user, person} <- model.people, status = status(person), into: %{} do
      {user, {status, if(person.admin?, do: [:admin], else: [:member])}}
    end
  end

  defp assert_delivered(model, pids, n) do
    for pid <- pids do
      expected =
        for {_user, person} <- model.people,
            status(person) in [:active, :muted],
            pid in person.pids,
            do: pid

      send(pid, {:take, self()})
      assert_receive {^pid, got}
      assert {n, got} == {n, length(expected)}
    end
  end

  defp status(nil), do: nil
  defp status(%{pids: []}), do: nil
  defp status(%{pending?: true}), do: :pending
  defp status(%{muted?: true}), do: :muted
  defp status(_person), do: :active

  defp person(model, user) do
    new = %{pids: [], pending?: false, muted?: false, admin?: false, banned?: false}
    Map.get(model.people, user, new)
  end

  defp put(model, user, person), do: put_in(model, [:people, user], person)

  defp expect(model, {:join, user, pid}) do
    person = person(model, user)

    cond do
      pid in person.pids ->
        {{:error, :already_member}, model}

      person.banned? ->
        {{:error, :banned}, model}

      true ->
        known? = person.pids != [] or person.muted? or person.admin?
        pending? = person.pending? or (not known? and model.type != :public)
        person = %{person | pids: [pid | person.pids], pending?: pending?}
        {{:ok, status(person)}, put(model, user, person)}
    end
  end

  defp expect(model, {:leave, user}) do
    if status(person(model, user)),
      do: {:ok, gone(model, user)},
      else: {{:error, :user_not_in_group}, model}
  end

  defp expect(model, {:leave, user, pid}) do
    person = person(model, user)

    cond do
      pid not in person.pids -> {{:error, :user_not_in_group}, model}
      person.pids == [pid] -> {:ok, gone(model, user)}
      true -> {:ok, put(model, user, %{person | pids: person.pids -- [pid]})}
    end
  end

  defp expect(model, {:say, user}) do
    case status(person(model, user)) do
      nil -> {"Not a member of this group", model}
      :pending -> {"Pending membership: wait for acceptance", model}
      :muted -> {"You are muted and cannot send messages", model}
      :active -> {:ok, model}
    end
  end

  defp expect(model, {:change, verb, actor, target}) do
    by = person(model, actor)
    whom = person(model, target)

    case refusal(verb, model, %{
           by: status(by),
           admin?: status(by) == :active and by.admin?,
           same?: actor == target,
           whom: whom,
           status: status(whom)
         }) do
      nil -> {:ok, change(verb, model, target, whom)}
      reason -> {{:error, reason}, model}
    end
  end

  defp refusal(:accept, model, %{by: by, admin?: admin?, status: status}) do
    cond do
      by == nil or status == nil -> :user_not_in_group
      by != :active or (model.type == :strict_private and not admin?) -> :not_admin
      status != :pending -> :user_not_pending
      true -> nil
    end
  end

  defp refusal(verb, %{type: type}, _parties)
       when verb in [:mute, :unmute] and type != :strict_private,
       do: :not_strict_private

  defp refusal(_verb, _model, %{admin?: false}), do: :not_admin
  defp refusal(:ban, _model, %{same?: true}), do: :cannot_ban
  defp refusal(:ban, _model, %{whom: whom}), do: if(whom.banned?, do: :already_banned)
  defp refusal(:unban, _model, %{whom: whom}), do: unless(whom.banned?, do: :not_banned)
  defp refusal(_verb, _model, %{status: nil}), do: :user_not_in_group
  defp refusal(:kick, _model, %{same?: true}), do: :cannot_kick
  defp refusal(:kick, _model, _parties), do: nil

  defp refusal(:mute, _model, %{same?: same?, status: status}),
    do: if(same? or status != :active, do: :cannot_mute)

  defp refusal(:unmute, _model, %{status: status}), do: if(status != :muted, do: :not_muted)

  defp refusal(:promote, _model, %{status: status, whom: whom}) do
    cond do
      status != :active -> :cannot_promote
      whom.admin? -> :already_admin
      true -> nil
    end
  end

  defp refusal(:demote, model, %{whom: whom}) do
    cond do
      not whom.admin? -> :cannot_demote
      Enum.count(model.people, fn {_user, person} -> person.admin? end) == 1 -> :last_admin
      true -> nil
    end
  end

  defp change(:accept, model, user, person), do: put(model, user, %{person | pending?: false})
  defp change(:mute, model, user, person), do: put(model, user, %{person | muted?: true})
  defp change(:unmute, model, user, person), do: put(model, user, %{person | muted?: false})
  defp change(:promote, model, user, person), do: put(model, user, %{person | admin?: true})
  defp change(:demote, model, user, person), do: put(model, user, %{person | admin?: false})
  defp change(:unban, model, user, person), do: put(model, user, %{person | banned?: false})

  defp change(:kick, model, user, person),
    do: model |> put(user, %{person | admin?: false}) |> gone(user)

  defp change(:ban, model, user, person),
    do: model |> put(user, %{person | admin?: false, banned?: true}) |> gone(user)

  defp gone(model, user), do: put(model, user, %{person(model, user) | pids: [], pending?: false})
end
